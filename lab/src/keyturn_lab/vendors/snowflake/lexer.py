"""Cuts one SQL statement into tokens and walks over them. Knows the grammar's letters, no statement.

Source: docs.snowflake.com sql-reference/identifiers-syntax and sql-reference/data-types-text (escape sequences).
The driver's own binding sends both `''` and backslash escapes, so both must read back.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from .wire import SqlRefusal

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}
_BLANK = re.compile(r"\s+|--[^\n]*|//[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_PUNCTUATION = re.compile(r"=>|>=|<=|<>|!=|[-=(),.;*?<>:]")


class Kind(Enum):
    WORD = auto()  # text is folded to upper case
    QUOTED = auto()  # a "quoted" identifier, taken as it is
    STRING = auto()
    NUMBER = auto()
    MARK = auto()
    END = auto()


@dataclass(frozen=True)
class Token:
    kind: Kind
    text: str
    at: int

    @property
    def is_name(self) -> bool:
        return self.kind in (Kind.WORD, Kind.QUOTED)


def syntax_error(token: Token) -> SqlRefusal:
    """The refusal of a statement, worded as the compiler does. A string's text may be a secret, so it is not echoed."""
    shown = {Kind.STRING: "'...'", Kind.END: "<EOF>"}.get(token.kind, token.text)
    return SqlRefusal(
        "001003",
        "42000",
        f"SQL compilation error:\nsyntax error line 1 at position {token.at} unexpected '{shown}'.",
    )


def tokens_of(text: str) -> list[Token]:
    """The tokens of one statement, ending with END; comments and a trailing semicolon are gone."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif text[at] in "'\"":
            value, end = _quoted(text, at)
            found.append(Token(Kind.STRING if text[at] == "'" else Kind.QUOTED, value, at))
            at = end
        elif text.startswith("$$", at):
            end = text.find("$$", at + 2)
            if end < 0:
                raise syntax_error(Token(Kind.MARK, "$$", at))
            found.append(Token(Kind.STRING, text[at + 2 : end], at))
            at = end + 2
        elif word := _WORD.match(text, at):
            found.append(Token(Kind.WORD, word[0].upper(), at))
            at = word.end()
        elif number := _NUMBER.match(text, at):
            found.append(Token(Kind.NUMBER, number[0], at))
            at = number.end()
        elif mark := _PUNCTUATION.match(text, at):
            found.append(Token(Kind.MARK, mark[0], at))
            at = mark.end()
        else:
            raise syntax_error(Token(Kind.MARK, text[at], at))
    while found and found[-1].text == ";" and found[-1].kind is Kind.MARK:
        found.pop()
    return [*found, Token(Kind.END, "", len(text))]


def _quoted(text: str, start: int) -> tuple[str, int]:
    """The value between quotes. A doubled quote is one quote; a backslash escapes in strings, not in names."""
    quote, at, value = text[start], start + 1, ""
    while at < len(text):
        char = text[at]
        if char == quote and text.startswith(quote, at + 1):
            value, at = value + quote, at + 2
        elif char == quote:
            return value, at + 1
        elif char == "\\" and quote == "'" and at + 1 < len(text):
            value, at = value + _ESCAPES.get(text[at + 1], text[at + 1]), at + 2
        else:
            value, at = value + char, at + 1
    raise syntax_error(Token(Kind.END, "", len(text)))


class Cursor:
    """Reads tokens left to right; `accept` asks, `expect` insists."""

    def __init__(self, text: str, bindings: Mapping[str, str | None] | None = None) -> None:
        self._tokens = [_bind(token, number) for token, number in _numbered(tokens_of(text), bindings or {})]
        self._at = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def next(self) -> Token:
        token = self.token
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def accept(self, *texts: str) -> bool:
        """Consumes exactly these words or marks, or nothing."""
        ahead = self._tokens[self._at : self._at + len(texts)]
        if [t.text for t in ahead if t.kind in (Kind.WORD, Kind.MARK)] != list(texts):
            return False
        self._at += len(texts)
        return True

    def expect(self, *texts: str) -> None:
        for text in texts:
            if not self.accept(text):
                raise syntax_error(self.token)

    def word(self) -> str:
        if self.token.kind is not Kind.WORD:
            raise syntax_error(self.token)
        return self.next().text

    def name(self) -> str:
        """One identifier, folded unless quoted; `IDENTIFIER('...')` is not offered."""
        if not self.token.is_name:
            raise syntax_error(self.token)
        return self.next().text

    def string(self) -> str:
        if self.token.kind is not Kind.STRING:
            raise syntax_error(self.token)
        return self.next().text

    def value(self) -> str:
        """The right side of `property = value`: a string, number, word or name, as text."""
        if self.token.kind in (Kind.MARK, Kind.END):
            raise syntax_error(self.token)
        return self.next().text

    def boolean(self) -> bool:
        token = self.token
        text = self.value().upper()
        if text not in ("TRUE", "FALSE"):
            raise syntax_error(token)
        return text == "TRUE"

    def strings_in_parentheses(self) -> list[str]:
        """`('a', 'b')`, or the empty list."""
        self.expect("(")
        found: list[str] = []
        while not self.accept(")"):
            found.append(self.string())
            self.accept(",")
        return found

    def end(self) -> None:
        if self.token.kind is not Kind.END:
            raise syntax_error(self.token)


def _numbered(tokens: list[Token], bindings: Mapping[str, str | None]) -> list[tuple[Token, str | None]]:
    """Pairs each `?` with its bound value, counted from 1 as on the wire."""
    paired, count = [], 0
    for token in tokens:
        value = None
        if token.kind is Kind.MARK and token.text == "?":
            count += 1
            value = bindings.get(str(count))
        paired.append((token, value))
    return paired


def _bind(token: Token, value: str | None) -> Token:
    return token if value is None else Token(Kind.STRING, value, token.at)
