"""A connection that has lived for years costs a run no more than a young one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from keyturn.model.credential import Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.storage import runs, versions
from keyturn.storage.database import Store, Tx
from tests.storage.test_rows import connected

CONNECTION = ConnectionId("con_old")
_DEAD = 3000  # a grant that renews itself hourly has as many after four months


@pytest.fixture
def aged(store: Store) -> Store:
    """A connection with many dead versions; two that matter and one refused, the newest is dead as well."""

    principal = connected(store, "old", "other")

    def fill(tx: Tx) -> None:
        for number in range(1, _DEAD + 1):
            versions.add(tx, _version(principal, number, State.DEAD))
        versions.add(tx, _version(principal, _DEAD + 1, State.REFUSED))
        versions.add(tx, _version(principal, _DEAD + 2, State.CURRENT))
        versions.add(tx, _version(principal, _DEAD + 3, State.DEAD))
        versions.add(
            tx, replace(_version(principal, 9000, State.CURRENT), connection_id=ConnectionId("con_other"))
        )

    store.write(fill)
    return store


def _version(principal: PrincipalId, number: int, state: State) -> Version:
    return Version(
        VersionId(f"ver_{number}"),
        CONNECTION,
        principal,
        number,
        state,
        Ref(),
        "",
        Provenance.OURS,
        None,
        None,
        0.0,
    )


def test_a_run_reads_what_is_in_play(aged: Store) -> None:
    """What is not dead, the newest (its number counts) and what the run names, newest first; nothing of others."""
    found = aged.read(lambda tx: versions.in_play(tx, CONNECTION, ("ver_7", None)))
    assert [each.number for each in found] == [_DEAD + 3, _DEAD + 2, _DEAD + 1, 7]
    assert aged.read(lambda tx: versions.in_play(tx, CONNECTION)) == found[:-1]
    latest = aged.read(lambda tx: versions.in_play(tx, CONNECTION, latest=30))
    assert [each.number for each in latest] == [*range(_DEAD + 3, _DEAD - 27, -1)]


def test_what_is_in_play_is_found_by_index(aged: Store) -> None:
    """Not one of the dead is looked at."""
    plans = _plans(aged, lambda tx: versions.in_play(tx, CONNECTION, ("ver_7",), latest=30))
    plans += _plans(aged, lambda tx: runs.open_of(tx, CONNECTION))
    assert not re.search(r"SCAN (version|run)\b|Seq Scan", plans), plans
    if aged.dialect == "sqlite":
        assert "version_state (connection_id=? AND state=?)" in plans, plans
        assert "run_open (connection_id=?)" in plans, plans


def _plans(store: Store, look) -> str:  # type: ignore[no-untyped-def]
    """How the database goes about the statements of a read."""
    said: list[str] = []

    class Listening:
        def __init__(self, tx: Tx) -> None:
            self._tx = tx

        def all(self, sql: str, *params: object) -> list[object]:
            explain = "EXPLAIN QUERY PLAN" if store.dialect == "sqlite" else "EXPLAIN"
            said.extend(str(row[-1]) for row in self._tx.all(f"{explain} {sql}", *params))
            return []

    def work(tx: Tx) -> None:
        if store.dialect == "postgresql":
            tx.all("SELECT set_config('enable_seqscan', 'off', true)")  # here everything is small
        look(Listening(tx))

    store.read(work)
    return "\n".join(said)
