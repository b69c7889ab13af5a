"""The subset of RFC 9535 JSONPath that definitions use: child, index, wildcard and one equality filter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

MAX_FOUND = 5_000

_TOKEN = re.compile(
    r"""\.(?P<child>[A-Za-z_][A-Za-z0-9_-]*)
      | \.(?P<any>\*)
      | \[(?P<index>-?[0-9]{1,6})\]
      | \[(?P<star>\*)\]
      | \[(?P<quoted>'[^']*'|"[^"]*")\]
      | \[\?\s*\(?\s*@(?P<key>(?:\.[A-Za-z_][A-Za-z0-9_-]*)+)\s*==\s*
          (?P<equals>'[^']*'|"[^"]*"|-?[0-9]{1,18}|true|false|null)\s*\)?\s*\]""",
    re.VERBOSE,
)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class PathRefused(ValueError):
    """The path is outside the subset."""


@dataclass(frozen=True)
class Child:
    """A member by name."""

    name: str


@dataclass(frozen=True)
class Index:
    """An element by position."""

    at: int


@dataclass(frozen=True)
class Every:
    """All members or elements."""


@dataclass(frozen=True)
class Only:
    """The elements whose member `keys` equals `equals`."""

    keys: tuple[str, ...]
    equals: Any


@dataclass(frozen=True)
class JsonPath:
    """A compiled path."""

    text: str
    steps: tuple[Child | Index | Every | Only, ...]

    @property
    def many(self) -> bool:
        """Whether it may lead to several values."""
        return any(isinstance(step, Every | Only) for step in self.steps)

    def container(self, value: Any) -> list[Any]:
        """What the first step that may lead to many is taken from: tells an empty list from none."""
        single = takewhile(lambda step: not isinstance(step, Every | Only), self.steps)
        return JsonPath(self.text, tuple(single)).select(value)

    def select(self, value: Any) -> list[Any]:
        """Every value the path leads to, in document order, null included; at most MAX_FOUND."""
        found = [value]
        for step in self.steps:
            found = [inner for outer in found for inner in _walk(step, outer)][:MAX_FOUND]
        return found


def compile_path(text: str) -> JsonPath:
    """Compiles `text`. Raises: PathRefused."""
    if not text.startswith("$") or len(text) > 500:
        raise PathRefused("a JSON path starts with $")
    steps: list[Child | Index | Every | Only] = []
    at = 1
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise PathRefused(f"the JSON path is not understood from {text[at : at + 20]!r} on")
        steps.append(_step(token))
        at = token.end()
    if sum(isinstance(s, Only) for s in steps) > 1:
        raise PathRefused("a JSON path may hold one filter")
    return JsonPath(text, tuple(steps))


def _step(token: re.Match[str]) -> Child | Index | Every | Only:
    if token["child"] is not None:
        return Child(token["child"])
    if token["quoted"] is not None:
        return Child(token["quoted"][1:-1])
    if token["index"] is not None:
        return Index(int(token["index"]))
    if token["key"] is not None:
        text = token["equals"]
        equals = text[1:-1] if text[0] in "'\"" else _WORDS[text] if text in _WORDS else int(text)
        return Only(tuple(token["key"][1:].split(".")), equals)
    return Every()


def _walk(step: Child | Index | Every | Only, value: Any) -> list[Any]:
    if isinstance(step, Child):
        return [value[step.name]] if isinstance(value, dict) and step.name in value else []
    if isinstance(step, Index):
        inside = isinstance(value, list) and -len(value) <= step.at < len(value)
        return [value[step.at]] if inside else []
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(step, Every):
        return inner
    return [v for v in inner if _deep(v, step.keys) == (True, step.equals)]


def _deep(value: Any, keys: tuple[str, ...]) -> tuple[bool, Any]:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return (False, None)
        value = value[key]
    return (True, value)
