"""A connector that does nothing at no cost, so that what is measured is the hub itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Field, Method, System
from keyturn.contract.values import Access, Candidate
from keyturn.model.card import Card, GapClass, Hands, Proof, Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected
from keyturn.operations import connections

_CARD = Card(
    Strategy.SET_ONE,
    Hands.AUTOMATIC,
    GapClass.Z1,
    Proof.D2,
    set_is_absolute=True,
    new_kills_old=True,
)
_FIELDS = (Field("principal", "Principal"), Field("secret", "Secret", kind="text", secret=True))


class Vendor:
    """What every principal's password is, and every value it ever had, in order."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self._numbers = itertools.count()

    def verify(self, access: Access, material: Material) -> Probe:
        name = str(access.settings["principal"])
        known = self.values.setdefault(name, [f"first-{name}"])
        return accepted(name) if material["secret"] == known[-1] else rejected("wrong")

    def bogus(self, material: Material) -> Material:
        return Material({**material, "secret": "bogus"}, material.public)

    def make(self, access: Access, slot: Ref) -> Candidate:
        return Candidate(Ref(slot="one"), Material({"secret": f"value-{next(self._numbers)}"}, frozenset()))

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        known = self.values[str(access.settings["principal"])]
        if known[-1] != material["secret"]:
            known.append(material["secret"])


def external(vendor: Vendor) -> SimpleNamespace:
    """The connector as an entry point would give it."""

    def system() -> System:
        method = Method("none", "Nothing", "outbound", "Does nothing", _FIELDS, _CARD, ("principal",))
        return System("noop", "Nothing", "Does nothing", (), (method,))

    def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
        return Capabilities(vendor, maker=vendor, setter=vendor)

    return SimpleNamespace(system=system, capabilities=capabilities)


def connect(hub: Keyturn, count: int) -> list[str]:
    """Connections `n0`, `n1`, ... to principals of their own."""
    for n in range(count):
        values = {"principal": f"p{n}", "secret": f"first-p{n}"}
        connections.connect(hub, "noop", "none", f"n{n}", values, policy={"retention_s": 0.0})
    return [f"n{n}" for n in range(count)]
