"""The closed expression set `${scope.path|filter}`: compiled when read, filled when used, never evaluated again.

No loops, arithmetic, calls or nesting, so a definition can move a value and do nothing else with it. What an answer or
an input says is data: a `${` inside a value stays text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

SCOPES = ("input", "secret", "current", "pending", "retiring", "admin", "step", "oauth", "job", "sample")
MAX_LENGTH = 8_192

Scopes = Mapping[str, Mapping[str, Any]]

_PATH = re.compile(r"^[a-z]+(?:\.[A-Za-z0-9_-]{1,64}){1,3}$")
_DEFAULT = re.compile(r"^default\('([^'$]{0,200})'\)$")
_FILTERS: dict[str, Callable[[str], str]] = {
    "urlencode": lambda t: quote(t, safe=""),
    "base64": lambda t: base64.b64encode(t.encode()).decode(),
    "base64url": lambda t: base64.urlsafe_b64encode(t.encode()).decode().rstrip("="),
    "lower": str.lower,
    "upper": str.upper,
    "json": lambda t: json.dumps(t, ensure_ascii=False),
    "hex": lambda t: t.encode().hex(),
    "sha256hex": lambda t: hashlib.sha256(t.encode()).hexdigest(),
}
FILTERS = (*_FILTERS, "default('...')")


class ExpressionRefused(ValueError):
    """The text is outside the closed set; `fix` says what to write instead."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class ValueMissing(LookupError):
    """An expression names a value that this scope does not hold."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Reference:
    """One `${...}`: `path` is what follows the scope; `default` is None when there is none."""

    scope: str
    path: str
    filters: tuple[str, ...] = ()
    default: str | None = None

    @property
    def name(self) -> str:
        """Scope and path, as written."""
        return f"{self.scope}.{self.path}"

    def encodes(self) -> bool:
        """Whether the filters leave only characters that are safe anywhere in a URL."""
        return any(f in {"urlencode", "base64url", "hex", "sha256hex"} for f in self.filters)

    def raw(self, scopes: Scopes) -> Any:
        """The value itself. Raises: ValueMissing."""
        found = scopes.get(self.scope, {}).get(self.path)
        if found is None or found == "":
            if self.default is not None:
                return self.default
            if found is None:
                raise ValueMissing(self.name)
        return found

    def render(self, scopes: Scopes) -> str:
        """The value as text, through its filters. Raises: ValueMissing."""
        text = as_text(self.raw(scopes))
        for name in self.filters:
            text = _FILTERS[name](text)
        return text


@dataclass(frozen=True)
class Template:
    """A compiled text: literal pieces and references in order."""

    pieces: tuple[str | Reference, ...]

    def references(self) -> Iterator[Reference]:
        """The references, in order."""
        return (p for p in self.pieces if isinstance(p, Reference))

    def render(self, scopes: Scopes, each: Callable[[Reference, str], str] | None = None) -> str:
        """The filled text; `each` may escape a reference's text. Raises: ValueMissing."""
        out = []
        for piece in self.pieces:
            if isinstance(piece, str):
                out.append(piece)
            else:
                text = piece.render(scopes)
                out.append(each(piece, text) if each is not None else text)
        return "".join(out)

    def literal(self) -> str:
        """The text when it holds no reference, else what stands before the first."""
        first = self.pieces[0] if self.pieces else ""
        return first if isinstance(first, str) else ""

    def is_literal(self) -> bool:
        """Whether nothing is filled in."""
        return all(isinstance(p, str) for p in self.pieces)

    def only(self) -> Reference | None:
        """The reference when the text is nothing else."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], Reference):
            return self.pieces[0]
        return None


def compile_template(text: str) -> Template:
    """Compiles one text. Raises: ExpressionRefused."""
    if len(text) > MAX_LENGTH:
        raise ExpressionRefused(f"the text is longer than {MAX_LENGTH} characters", "Shorten it.")
    pieces: list[str | Reference] = []
    rest = text
    while rest:
        before, found, after = rest.partition("${")
        if before:
            pieces.append(before)
        if not found:
            break
        inside, rest = _inside(after)
        pieces.append(_reference(inside))
    return Template(tuple(pieces))


def fill(text: str, scopes: Scopes, missing: str | None = "…") -> str:
    """Fills a guide text or a lease variable; `missing` stands in for absent values, None lets ValueMissing out.

    The caller decides what the scopes hold: for anything shown to a person, pass `shown(material)`, not the material.
    """
    template = compile_template(text)
    if missing is None:
        return template.render(scopes)
    out = []
    for piece in template.pieces:
        if isinstance(piece, str):
            out.append(piece)
            continue
        try:
            out.append(piece.render(scopes))
        except ValueMissing:
            out.append(missing)
    return "".join(out)


def as_text(value: Any) -> str:
    """A scalar as it is written in a URL or header."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _inside(after: str) -> tuple[str, str]:
    """What stands between the braces, and the rest behind them; quotes may hold a brace."""
    quoted = False
    for i, c in enumerate(after):
        if c == "'":
            quoted = not quoted
        elif after.startswith("${", i):
            raise ExpressionRefused("expressions cannot be nested", "Use two expressions side by side.")
        elif c == "}" and not quoted:
            return after[:i], after[i + 1 :]
    raise ExpressionRefused("an expression '${' is not closed", "End it with '}'.")


def _reference(inside: str) -> Reference:
    path, *filters = _split(inside)
    if not _PATH.match(path):
        raise ExpressionRefused(
            f"{path[:60]!r} is not of the form scope.name",
            f"Scopes are {', '.join(SCOPES)}; nothing is computed.",
        )
    scope, _, name = path.partition(".")
    if scope not in SCOPES:
        raise ExpressionRefused(f"the scope {scope!r} does not exist", f"Scopes are {', '.join(SCOPES)}.")
    default = None
    known = []
    for text in filters:
        given = _DEFAULT.match(text)
        if given:
            default = given[1]
        elif text in _FILTERS:
            known.append(text)
        else:
            raise ExpressionRefused(
                f"the filter {text[:40]!r} does not exist", f"Filters are {', '.join(FILTERS)}."
            )
    return Reference(scope, name, tuple(known), default)


def _split(inside: str) -> list[str]:
    parts, quoted = [""], False
    for c in inside:
        if c == "'":
            quoted = not quoted
        if c == "|" and not quoted:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts]


def shown(parts: Any) -> dict[str, str]:
    """The public parts of a `Material`, the only ones a text for people may hold."""
    return {k: parts[k] for k in parts if k in parts.public} if parts is not None else {}
