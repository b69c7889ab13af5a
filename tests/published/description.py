"""A vendor's published description of its HTTP API, and the one judge over what went over the wire."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.published.tap import Exchange

DOCUMENTS = Path(__file__).parent / "documents"


class NotPublished(AssertionError):
    """A request or an answer that the vendor's description does not know. Its text holds no value that was sent."""


@dataclass(frozen=True)
class Call:
    """One call as described: `where` is a pattern for each part of the path, `needs` what must be given.

    `query`, `form` and the schemas give each field its type: a word of `_PLAIN`, `any`, or an object with one of the
    keys `ref`, `list`, `map`, `enum`.
    """

    method: str
    path: str
    host: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    request: str = ""
    form: Mapping[str, Any] | None = None
    answer: str = ""
    may_be_empty: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The path as a pattern."""
        pieces = re.split(r"\{([^}]+)\}", self.path)
        return re.compile(
            "".join(
                f"(?:{self.where.get(piece, '[^/]+')})" if number % 2 else re.escape(piece)
                for number, piece in enumerate(pieces)
            )
        )


@dataclass(frozen=True)
class Description:
    """What one vendor publishes. `annotations` are patterns of names that may stand in any object; `nulls` whether null
    may stand for a field without value."""

    calls: Mapping[str, Call]
    schemas: Mapping[str, Mapping[str, Any]]
    annotations: str = r"(?!)"
    nulls: bool = False

    @classmethod
    def read(cls, name: str, **more: Any) -> Description:
        """One of the documents that tools/published.py wrote."""
        found = json.loads((DOCUMENTS / f"{name}.json").read_text())
        calls = {
            each: Call(**{**call, "needs": tuple(call["needs"])}) for each, call in found["calls"].items()
        }
        return cls(calls, found["schemas"], **more)

    def __or__(self, other: Description) -> Description:
        """Both together, with the rules of this one."""
        return replace(self, calls={**self.calls, **other.calls}, schemas={**self.schemas, **other.schemas})

    def name(self, exchange: Exchange) -> str:
        """Which call this is. Raises: NotPublished for none, or several."""
        found = [
            name
            for name, call in self.calls.items()
            if call.method == exchange.method and call.pattern.fullmatch(exchange.path)
        ]
        fewest = min((self.calls[name].path.count("{") for name in found), default=0)
        found = [
            name for name in found if self.calls[name].path.count("{") == fewest
        ]  # a literal path is meant first
        if len(found) > 1 and all(
            self.calls[name].form for name in found
        ):  # a token endpoint takes several grants
            grant = exchange.form().get("grant_type", "")
            found = [name for name in found if grant in (self.calls[name].form or {})["grant_type"]["enum"]]
        if len(found) != 1:
            raise NotPublished(f"{exchange.method} {exchange.path} is described {len(found)} times: {found}")
        return found[0]

    def judge(self, exchange: Exchange) -> str:
        """The name of the call, once request and answer are as described. Raises: NotPublished."""
        name = self.name(exchange)
        call = self.calls[name]
        self._query(name, call, exchange)
        if call.form is not None:
            self._form(name, call, exchange)
        else:
            self._body(name, call, exchange)
        if 200 <= exchange.status < 300:
            self._answer(name, call, exchange)
        return name

    def _query(self, name: str, call: Call, exchange: Exchange) -> None:
        for key, value in exchange.query:
            if key not in call.query:
                raise NotPublished(f"{name} knows no parameter {key}")
            self._text(value, call.query[key], f"{name}?{key}")
        given = dict(exchange.query) if call.form is None else exchange.form()
        if missing := set(call.needs) - set(given):
            raise NotPublished(f"{name} needs {sorted(missing)}")

    def _form(self, name: str, call: Call, exchange: Exchange) -> None:
        if not exchange.kind.startswith("application/x-www-form-urlencoded"):
            raise NotPublished(f"{name} takes a form, not {exchange.kind!r}")
        for key, value in exchange.form().items():
            if key not in (call.form or {}):
                raise NotPublished(f"{name} knows no field {key}")
            self._text(value, (call.form or {})[key], f"{name}: {key}")

    def _body(self, name: str, call: Call, exchange: Exchange) -> None:
        if not call.request:
            if exchange.body:
                raise NotPublished(f"{name} takes no body")
            return
        if not exchange.kind.startswith("application/json"):
            raise NotPublished(f"{name} takes JSON, not {exchange.kind!r}")
        self.check(exchange.json(), {"ref": call.request}, f"{name} request")

    def _answer(self, name: str, call: Call, exchange: Exchange) -> None:
        if not call.answer or (call.may_be_empty and not exchange.answer):
            if exchange.answer.strip() not in {b"", b"{}"}:
                raise NotPublished(f"{name} is answered with nothing")
            return
        if "json" not in exchange.answered_kind:
            raise NotPublished(f"{name} is answered with JSON, not {exchange.answered_kind!r}")
        self.check(json.loads(exchange.answer), {"ref": call.answer}, f"{name} answer")

    def check(self, value: Any, kind: Any, where: str) -> None:
        """Whether a JSON value is of a described type, all the way down. Raises: NotPublished naming the place."""
        if kind == "any" or (value is None and self.nulls):
            return
        if isinstance(kind, str):
            if not _PLAIN[kind](value):
                raise NotPublished(f"{where} is {type(value).__name__}, not {kind}")
            return
        ((form, inner),) = kind.items()
        if form == "enum":
            if value not in inner:
                raise NotPublished(f"{where} is none of {inner}")
            return
        holder = list if form == "list" else dict
        if not isinstance(value, holder):
            raise NotPublished(f"{where} is {type(value).__name__}, not {form}")
        if form == "list":
            for each in value:
                self.check(each, inner, f"{where}[]")
            return
        for key, each in value.items():
            if form == "ref" and re.fullmatch(self.annotations, key):
                continue
            if form == "ref" and key not in self.schemas[inner]:
                raise NotPublished(f"{where}: {inner} has no field {key}")
            self.check(each, self.schemas[inner][key] if form == "ref" else inner, f"{where}.{key}")

    def _text(self, value: str, kind: Any, where: str) -> None:
        """A value in a query or form, where everything is text."""
        if isinstance(kind, dict) and "list" in kind:
            kind = kind["list"]
        if isinstance(kind, dict):
            if "enum" in kind and value not in kind["enum"]:
                raise NotPublished(f"{where} is none of {kind['enum']}")
        elif kind in {"integer", "int64"} and not re.fullmatch(r"-?\d+", value):
            raise NotPublished(f"{where} is no number")
        elif kind == "boolean" and value.lower() not in {"true", "false"}:  # Google's own client writes True
            raise NotPublished(f"{where} is neither true nor false")


def _instant(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _base64(value: Any) -> bool:
    try:
        return (
            isinstance(value, str)
            and base64.b64decode(value + "==", b"-_" if "-" in value else None) is not None
        )
    except binascii.Error:
        return False


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_PLAIN = {
    "string": lambda value: isinstance(value, str),
    "integer": _integer,
    # Google writes 64 bits as text and reads both: https://developers.google.com/discovery/v1/type-format.
    "int64": lambda value: _integer(value) or (isinstance(value, str) and value.lstrip("-").isdigit()),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "instant": _instant,
    "uuid": _uuid,
    "base64": _base64,
}
