"""A place in a document while it is read: typed access, where every mistake becomes a finding and reading goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from keyturn.definitions.document import Item
from keyturn.definitions.expressions import ExpressionRefused, Template, compile_template
from keyturn.definitions.findings import Log, did_you_mean

E = TypeVar("E", bound=StrEnum)
EMPTY = compile_template("")


@dataclass(frozen=True)
class Cursor:
    """An item, the dotted path to it and the log that hears of its mistakes."""

    item: Item
    path: str
    log: Log

    @property
    def line(self) -> int:
        """The line the item starts on."""
        return self.item.line

    @property
    def value(self) -> Any:
        """The raw value."""
        return self.item.value

    def refuse(self, message: str, fix: str = "") -> None:
        """Notes a mistake at this place."""
        self.log.refuse(self.line, self.path, message, fix)

    def is_mapping(self) -> bool:
        """Whether this is a mapping."""
        return isinstance(self.value, dict)

    def keys(self, *known: str, required: Iterable[str] = ()) -> Cursor:
        """Refuses what is not a mapping, unknown keys and missing required ones; returns itself."""
        if not self.is_mapping():
            self.refuse("must be a mapping", f"Write it as key: value lines with {', '.join(known[:6])}.")
            return Cursor(Item({}, self.line), self.path, self.log)
        for key, item in self.value.items():
            if key not in known:
                self.log.refuse(item.line, self._at(key), "is not a known key", did_you_mean(key, known))
        for key in required:
            if self.get(key) is None:
                self.log.refuse(self.line, self._at(key), "is missing", f"Add a line `{key}: ...`.")
        return self

    def get(self, key: str) -> Cursor | None:
        """The value under `key`; None when absent or null."""
        if not self.is_mapping():
            return None
        item = self.value.get(key)
        return None if item is None or item.value is None else Cursor(item, self._at(key), self.log)

    def entries(self, key: str) -> list[tuple[str, Cursor]]:
        """The entries of the mapping under `key`; none when absent."""
        inner = self.get(key)
        return inner.pairs() if inner is not None else []

    def pairs(self) -> list[tuple[str, Cursor]]:
        """The entries of this mapping."""
        if not self.is_mapping():
            self.refuse("must be a mapping", "Write it as key: value lines.")
            return []
        return [(k, Cursor(v, self._at(k), self.log)) for k, v in self.value.items()]

    def items(self, key: str) -> list[Cursor]:
        """The items of the list under `key`; none when absent."""
        inner = self.get(key)
        if inner is None:
            return []
        if not isinstance(inner.value, list):
            inner.refuse("must be a list", "Write it as lines starting with '- ' or as [a, b].")
            return []
        return [Cursor(v, f"{inner.path}[{i}]", self.log) for i, v in enumerate(inner.value)]

    def text(self, key: str, default: str = "") -> str:
        """The text under `key`. Numbers are taken as written; true and false are refused."""
        inner = self.get(key)
        return default if inner is None else inner.as_text()

    def as_text(self) -> str:
        """The value as text."""
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return str(self.value)
        self.refuse("must be text", "Put it into quotes.")
        return ""

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts under `key`."""
        return tuple(c.as_text() for c in self.items(key))

    def flag(self, key: str, default: bool = False) -> bool:
        """The true or false under `key`."""
        inner = self.get(key)
        if inner is None:
            return default
        if not isinstance(inner.value, bool):
            inner.refuse("must be true or false", "Write true or false without quotes.")
            return default
        return inner.value

    def number(self, key: str, default: float = 0.0, least: float = 0.0) -> float:
        """The number under `key`, at least `least`."""
        inner = self.get(key)
        if inner is None:
            return default
        if isinstance(inner.value, bool) or not isinstance(inner.value, int | float) or inner.value < least:
            inner.refuse(f"must be a number, at least {least:g}", "Write plain digits without a unit.")
            return default
        return float(inner.value)

    def integer(self, key: str, default: int = 0, least: int = 0) -> int:
        """The whole number under `key`, at least `least`."""
        inner = self.get(key)
        if inner is None:
            return default
        if isinstance(inner.value, bool) or not isinstance(inner.value, int) or inner.value < least:
            inner.refuse(f"must be a whole number, at least {least}", "Write plain digits without a unit.")
            return default
        return inner.value

    def integers(self, key: str) -> tuple[int, ...]:
        """The list of whole numbers under `key`."""
        found = []
        for c in self.items(key):
            if isinstance(c.value, int) and not isinstance(c.value, bool):
                found.append(c.value)
            else:
                c.refuse("must be a whole number", "Write plain digits.")
        return tuple(found)

    def choice(self, key: str, options: Iterable[str], default: str = "") -> str:
        """One of `options`."""
        inner = self.get(key)
        if inner is None:
            return default
        text = inner.as_text()
        known = tuple(options)
        if text and text not in known:
            inner.refuse(f"{text!r} is not one of the choices", did_you_mean(text, known))
            return default
        return text

    def member(self, key: str, kind: type[E], default: E) -> E:
        """A member of an enumeration."""
        return kind(self.choice(key, [m.value for m in kind], default.value))

    def template(self, key: str) -> Template | None:
        """The compiled expression text under `key`; None when absent."""
        inner = self.get(key)
        return None if inner is None else inner.as_template()

    def as_template(self) -> Template:
        """The value as a compiled expression text."""
        if isinstance(self.value, bool):
            return compile_template("true" if self.value else "false")
        text = self.as_text()
        try:
            return compile_template(text)
        except ExpressionRefused as error:
            self.refuse(error.message, error.fix)
            return EMPTY

    def templates(self, key: str) -> tuple[tuple[str, Template], ...]:
        """The mapping of names to expression texts under `key`."""
        return tuple((name, c.as_template()) for name, c in self.entries(key))

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key
