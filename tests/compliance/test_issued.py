"""What the contract can say of credentials that the hub itself issues: each kind as a row whose vendor is this hub's book."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from keyturn.bootstrap import Keyturn, open_hub
from keyturn.contract.capabilities import Setter
from keyturn.contract.values import Access
from keyturn.issued.kinds import Kind
from keyturn.keymaking import passwords
from keyturn.model.credential import Connection, Provenance, Ref, State, Version
from keyturn.model.ids import VersionId, new_id
from keyturn.model.secret import Material
from keyturn.operations import issued
from keyturn.settings import Settings
from keyturn.storage import versions
from keyturn.testing import FACTS, Fact, RowUnderTest
from keyturn.vault.secrets import version_row
from tests import stores
from tests.compliance.case import NETWORK
from tests.compliance.kinds import OURS, needed
from tests.skips import NotOffered

NOT_HERE = (  # there is no network between the hub and its own book; what can go wrong is a commit: tests/faults/issuing.py
    "lie: ",
    "login: down",
    "login: throttled",
    "down: ",
    "set: lost answer",
    "revoke: lost answer",
    "set: makes without network",  # its value is sealed for ten minutes before anybody sees it: a commit of its own
)
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyturn]:
    """One for all: each row is a credential of its own."""
    folder: Path = tmp_path_factory.mktemp("issued")
    settings = Settings(
        home=folder / "home",
        database=stores.url(folder / "home"),
        kek=f"file:{folder / 'kek'}",
        network=NETWORK,
        actor="ada",
    )
    opened = open_hub(settings, create=True)
    yield opened
    opened.close()


class Sealed:
    """Sets a value as the executor does: it is in the ledger before the door is opened for it."""

    def __init__(self, hub: Keyturn, connection: Connection, setter: Setter) -> None:
        self._hub, self._connection, self._setter = hub, connection, setter

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        known = self._hub.store.read(lambda tx: versions.of_connection(tx, self._connection.id))
        if not any(version.ref.same_place(ref) for version in known):
            self._seal(ref, material, number=len(known) + 1)
        self._setter.set(access, ref, material)

    def _seal(self, ref: Ref, material: Material, number: int) -> None:
        now = time.time()
        version = Version(
            id=VersionId(new_id("ver")),
            connection_id=self._connection.id,
            principal_id=self._connection.principal_id,
            number=number,
            state=State.REQUESTED,
            ref=ref,
            fingerprint=self._hub.roots.fingerprint(material["digest"]),
            provenance=Provenance.OURS,
            born_at=now,
            expires_at=None,
            changed_at=now,
        )
        seal = self._hub.secrets.sealing(version_row(version.id), material.to_bytes(), now)

        def work(tx: object) -> None:
            seal(tx)  # type: ignore[arg-type]
            versions.add(tx, version)  # type: ignore[arg-type]

        self._hub.store.write(work)


def row_of(hub: Keyturn, kind: Kind) -> RowUnderTest:
    """A fresh credential of a kind; it sits in slot A, so the next goes to B."""
    handed, other = _issue(hub, kind), _issue(hub, kind)
    row = hub.catalog.row_of(handed.connection)
    assert row.can.setter is not None
    good, stranger = _material(hub, handed), _material(hub, other)
    access = Access(handed.connection.settings, good, None, 10.0, NETWORK)
    wrong = good.replacing(digest=hub.roots.token_digest(passwords.token("k")))
    return RowUnderTest(
        name=kind.name,
        method=row.method,
        card=row.card,
        can=replace(row.can, setter=Sealed(hub, handed.connection, row.can.setter)),
        access=access,
        good=good,
        identity=handed.connection.identity,
        wrong=[wrong],
        codes=frozenset({"refused"}),
        aimed=lambda _aim: access,
        throttled=nullcontext,
        elsewhere=lambda: nullcontext((access, stranger)),
        slot=Ref(id="B", slot="B"),
    )


def _issue(hub: Keyturn, kind: Kind) -> issued.Handed:
    return issued.issue(hub, kind.name, f"{kind.name} {next(_NUMBERS)}", needed(hub, kind))


def _material(hub: Keyturn, handed: issued.Handed) -> Material:
    return hub.secrets.material(version_row(handed.version_id))


@pytest.fixture(scope="module")
def shared(hub: Keyturn) -> Callable[[Kind], RowUnderTest]:
    """One row of a kind for all facts that change nothing."""
    kept: dict[str, RowUnderTest] = {}

    def one(kind: Kind) -> RowUnderTest:
        if kind.name not in kept:
            kept[kind.name] = row_of(hub, kind)
        return kept[kind.name]

    return one


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "fact", [f for f in FACTS if not any(each in f.name for each in NOT_HERE)], ids=lambda fact: fact.name
)
def test_kind(fact: Fact, kind: Kind, hub: Keyturn, shared: Callable[[Kind], RowUnderTest]) -> None:
    """Left out is what an issued credential has no call for."""
    row = shared(kind)
    why_not = fact.why_not(row)
    if why_not:
        raise NotOffered(why_not)
    fact.check(row_of(hub, kind) if fact.changes else row)


def test_a_key_of_another_kind_is_nobodys(hub: Keyturn) -> None:
    """Acceptance 4: whatever its letter, a value proves the credential it was issued for and no other."""
    rows = [row_of(hub, kind) for kind in OURS]
    for row in rows:
        for other in rows:
            accepted = row.verify(other.good).verdict.value == "accepted"
            assert accepted == (row is other), f"{other.name} for {row.name}"
