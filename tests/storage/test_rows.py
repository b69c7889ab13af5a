"""Rows that two may make or change at once, on both stores."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from keyturn.errors import Conflict
from keyturn.model.credential import Connection, ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, DebtId, PrincipalId, RunId, VersionId
from keyturn.model.run import Debt
from keyturn.storage import connections, debts, principals, versions


def connection(name, principal_id="", id_=""):
    return Connection(
        ConnectionId(id_ or f"con_{name}"),
        name,
        "s",
        "m",
        {},
        PrincipalId(principal_id),
        "ana",
        {},
        {},
        ConnectionState.ACTIVE,
        1,
        None,
        "",
        0.0,
    )


def connected(store, *names):
    """Connections of one principal; its id."""

    def work(tx):
        principal_id = principals.ensure(tx, "one")
        for name in names:
            connections.add(tx, connection(name, principal_id))
        return principal_id

    return store.write(work)


def test_a_principal_is_made_once(store):
    """However many ask for it at the same moment."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.write(lambda tx: principals.ensure(tx, "same")), range(8)))
    assert len(set(found)) == 1


def test_a_name_is_taken_once(store):
    """The second is told, and nothing else of its transaction is lost."""
    principal_id = connected(store, "orders")
    assert not store.write(lambda tx: connections.add(tx, connection("orders", principal_id, "con_2")))
    assert [c.id for c in store.read(connections.every)] == ["con_orders"]


def test_a_broken_rule_is_a_conflict(store):
    """No library's own error leaves the store."""
    insert = "INSERT INTO hub (name, value) VALUES ('one', 'x')"
    store.write(lambda tx: tx.run(insert))
    with pytest.raises(Conflict) as refused:
        store.write(lambda tx: tx.run(insert))
    assert refused.value.hint


def test_a_version_moves_only_from_where_it_is_expected(store):
    """What became current meanwhile is not marked dead."""
    principal_id = connected(store, "a")
    version = Version(
        VersionId("v"),
        ConnectionId("con_a"),
        principal_id,
        1,
        State.CURRENT,
        Ref(),
        "",
        Provenance.OURS,
        None,
        None,
        0.0,
    )
    store.write(lambda tx: versions.add(tx, version))
    assert not store.write(lambda tx: versions.move(tx, version.id, State.DEAD, 1.0, {State.REVOKED}))
    assert store.read(lambda tx: versions.by_id(tx, version.id)) == version
    assert store.write(lambda tx: versions.move(tx, version.id, State.DRAINING, 1.0, {State.CURRENT}))


def test_a_borrowed_principal_has_no_run(store):
    """A chore waits for runs and workers; they wait for it until its lease is over."""
    principal_id = connected(store, "a")
    run = RunId("run_1")
    epoch = store.write(lambda tx: principals.borrow(tx, principal_id, "h/1/1/debt", 10.0, 20.0))
    assert epoch == 1
    assert store.write(lambda tx: principals.take(tx, principal_id, "h/1/1", run, 15.0, 30.0)) is None
    assert store.write(lambda tx: principals.take(tx, principal_id, "h/1/1", run, 21.0, 30.0)) == 2
    store.write(lambda tx: principals.let_go(tx, principal_id, 2, ended=False))
    assert store.write(lambda tx: principals.borrow(tx, principal_id, "h/1/1/debt", 40.0, 50.0)) is None


def test_due_and_open_debts_are_chosen_by_the_database(store):
    """By connection, by time, and only where the principal is free."""
    principal_id = connected(store, "a", "b")
    for name, at in (("a", 5.0), ("b", 50.0)):
        rest = ("alive", "why", {}, "ana", 0, at, at, None, "", "")
        debt = Debt(DebtId(f"dbt_{name}"), ConnectionId(f"con_{name}"), None, RunId("r"), *rest)
        store.write(lambda tx, debt=debt: debts.add(tx, debt))
    only = store.read(lambda tx: debts.open_debts(tx, ConnectionId("con_b")))
    assert [d.id for d in only] == ["dbt_b"]
    assert [d.id for d in store.read(debts.open_debts)] == ["dbt_a", "dbt_b"]
    assert [d.id for d in store.read(lambda tx: debts.due(tx, 10.0, 9))] == ["dbt_a"]
    store.write(lambda tx: principals.borrow(tx, principal_id, "x", 9.0, 20.0))
    assert store.read(lambda tx: debts.due(tx, 10.0, 9)) == []


def test_connections_come_in_pages(store):
    """In the database's own order."""
    connected(store, "a", "b", "c")
    first = store.read(lambda tx: connections.page(tx, "", 2))
    rest = store.read(lambda tx: connections.page(tx, first[-1].name, 2))
    assert [c.name for c in (*first, *rest)] == ["a", "b", "c"]
