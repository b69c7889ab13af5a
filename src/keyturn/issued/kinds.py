"""The kinds of credential the hub issues, as data: another kind of opaque key is one more line here and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.errors import NotFound


@dataclass(frozen=True)
class Kind:
    """`letter` is the token's kind character (keymaking.passwords.KINDS); `name` is what people type."""

    name: str
    system: str
    method: str
    letter: str


KINDS = (Kind("api-key", "hub-api", "access_key", "k"),)

_BY_ROW: Mapping[tuple[str, str], Kind] = {(kind.system, kind.method): kind for kind in KINDS}


def named(text: str) -> Kind:
    """A kind by its name or its row, `api-key` or `hub-api/access_key`. Raises: NotFound with the kinds there are."""
    for kind in KINDS:
        if text in {kind.name, f"{kind.system}/{kind.method}"}:
            return kind
    raise NotFound(
        f"this hub issues no {text}", hint=f"It issues: {', '.join(k.name for k in KINDS)}.", field="kind"
    )


def of_row(system: str, method: str) -> Kind:
    """The kind of a row. Raises: NotFound."""
    found = _BY_ROW.get((system, method))
    if found is None:
        raise NotFound(f"this hub does not issue {system}/{method}", field="kind")
    return found
