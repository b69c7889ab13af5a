"""Secret values that cannot be shown by accident, and the material a credential is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar, final, overload

T = TypeVar("T")

MASK = "••••"


@final
class Secret:
    """A secret text. Prints masked, refuses pickling and formatting; `.reveal()` is the one way out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The value itself, for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: store it through the vault")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Material(Mapping[str, str]):
    """The parts one credential consists of, e.g. `{"key_id": ..., "api_key": ...}`.

    Parts listed in `public` (a key id, a user name) may be shown; all others print masked.
    Reading a part with `[]` reveals it; `repr` never does.
    """

    __slots__ = ("_parts", "public")

    def __init__(self, parts: Mapping[str, str], public: frozenset[str] = frozenset()) -> None:
        self._parts = dict(parts)
        self.public = public

    def __getitem__(self, name: str) -> str:
        return self._parts[name]

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | T) -> str | T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """A part, or `default` where there is none."""
        return self._parts.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        shown = {k: (v if k in self.public else MASK) for k, v in self._parts.items()}
        return f"Material({shown})"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("Material is not pickled: store it through the vault")

    def secrets(self) -> tuple[str, ...]:
        """The values that must never be seen, longest first, for redaction."""
        return tuple(
            sorted((v for k, v in self._parts.items() if k not in self.public and v), key=len, reverse=True)
        )

    def replacing(self, **parts: str) -> Material:
        """A copy with some parts changed or added."""
        return Material({**self._parts, **parts}, self.public)

    def to_bytes(self) -> bytes:
        """Canonical bytes for the vault. Never for anything else."""
        return json.dumps({"parts": self._parts, "public": sorted(self.public)}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Material:
        """The inverse of `to_bytes`: every kind of credential reads back whole (I11)."""
        loaded: dict[str, Any] = json.loads(data)
        return cls(loaded["parts"], frozenset(loaded["public"]))
