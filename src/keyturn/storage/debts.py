"""Rows of `debt`: one row per thing left alive or unproven, with all that is needed to finish it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keyturn.model.ids import ConnectionId, DebtId, RunId, VersionId
from keyturn.model.run import Debt
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = (
    "id, connection_id, version_id, run_id, kind, why, facts, owner, tries, next_try_at, created_at, closed_at,"
    " closed_by, closed_why"
)
_FULL = ", ".join(f"d.{name}" for name in _COLUMNS.split(", "))


def _read(row: Row) -> Debt:
    return Debt(
        id=DebtId(row[0]),
        connection_id=ConnectionId(row[1]),
        version_id=VersionId(row[2]) if row[2] else None,
        run_id=RunId(row[3]),
        kind=row[4],
        why=row[5],
        facts=load(row[6]),
        owner=row[7],
        tries=row[8],
        next_try_at=row[9],
        created_at=row[10],
        closed_at=row[11],
        closed_by=row[12],
        closed_why=row[13],
    )


def add(tx: Tx, debt: Debt) -> None:
    """Inserts a debt."""
    tx.run(
        f"INSERT INTO debt ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        debt.id,
        debt.connection_id,
        debt.version_id,
        debt.run_id,
        debt.kind,
        debt.why,
        dump(dict(debt.facts)),
        debt.owner,
        debt.tries,
        debt.next_try_at,
        debt.created_at,
        debt.closed_at,
        debt.closed_by,
        debt.closed_why,
    )


def by_id(tx: Tx, debt_id: DebtId) -> Debt | None:
    """The debt of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM debt WHERE id = ?", debt_id)
    return _read(row) if row else None


def open_debts(tx: Tx, connection_id: ConnectionId | None = None) -> list[Debt]:
    """Debts not closed, oldest first; of one connection when named."""
    sql = f"SELECT {_COLUMNS} FROM debt WHERE closed_at IS NULL"
    if connection_id is None:
        rows = tx.all(f"{sql} ORDER BY created_at, id")
    else:
        rows = tx.all(f"{sql} AND connection_id = ? ORDER BY created_at, id", connection_id)
    return [_read(row) for row in rows]


def page(
    tx: Tx,
    *,
    connection_id: str = "",
    projects: frozenset[str] | None = None,
    after: Sequence[Any] | None = None,
    limit: int = 50,
) -> tuple[int, list[Debt]]:
    """How many are open, and those behind `after`, a debt's (created_at, id), oldest first."""
    where: list[str] = ["d.closed_at IS NULL"]
    values: list[Any] = []
    if connection_id:
        where.append("d.connection_id = ?")
        values.append(connection_id)
    if projects is not None:
        marks = ",".join("?" * len(projects)) or "NULL"
        where.append(f"d.connection_id IN (SELECT id FROM connection WHERE project IN ({marks}))")
        values += sorted(projects)
    source = f"FROM debt d WHERE {' AND '.join(where)}"
    row = tx.one(f"SELECT COUNT(*) {source}", *values)
    if after is not None:
        source += " AND (d.created_at, d.id) > (?, ?)"
        values += list(after)
    rows = tx.all(f"SELECT {_FULL} {source} ORDER BY d.created_at, d.id LIMIT ?", *values, limit)
    return int(row[0]) if row else 0, [_read(each) for each in rows]


def due(tx: Tx, now: float, limit: int) -> list[Debt]:
    """Open debts whose time has come and whose principal no run and no worker has, longest due first."""
    rows = tx.all(
        f"SELECT {_FULL} FROM debt d JOIN connection c ON c.id = d.connection_id"
        " JOIN principal p ON p.id = c.principal_id WHERE d.closed_at IS NULL AND d.next_try_at <= ?"
        " AND p.active_run_id IS NULL AND p.lease_until < ? ORDER BY d.next_try_at LIMIT ?",
        now,
        now,
        limit,
    )
    return [_read(row) for row in rows]


def of_run(tx: Tx, run_id: RunId) -> list[Debt]:
    """What a run left, closed or not."""
    return [_read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM debt WHERE run_id = ? ORDER BY id", run_id)]


def is_owed(tx: Tx, version_id: VersionId) -> bool:
    """Whether an open debt needs this version's value: to end it, or to prove it dead."""
    return tx.one("SELECT 1 FROM debt WHERE version_id = ? AND closed_at IS NULL", version_id) is not None


def of_runs(tx: Tx, run_ids: Sequence[str]) -> dict[str, list[Debt]]:
    """What some runs left, by run, closed or not."""
    marks = ",".join("?" * len(run_ids)) or "NULL"
    found: dict[str, list[Debt]] = {}
    for row in tx.all(f"SELECT {_COLUMNS} FROM debt WHERE run_id IN ({marks}) ORDER BY id", *run_ids):
        found.setdefault(row[3], []).append(_read(row))
    return found


def close(tx: Tx, debt_id: DebtId, at: float, by: str, why: str) -> None:
    """Closes a debt, with who and why."""
    tx.run(
        "UPDATE debt SET closed_at = ?, closed_by = ?, closed_why = ? WHERE id = ? AND closed_at IS NULL",
        at,
        by,
        why,
        debt_id,
    )


def claim(tx: Tx, debt_id: DebtId, until: float) -> None:
    """Keeps a debt from being due while it is tried: a crash meanwhile only delays it."""
    tx.run("UPDATE debt SET next_try_at = ? WHERE id = ?", until, debt_id)


def postpone(tx: Tx, debt_id: DebtId, next_try_at: float, facts: Mapping[str, Any]) -> None:
    """Counts a try, keeps what it saw and sets the next: the slow ladder never ends."""
    tx.run(
        "UPDATE debt SET tries = tries + 1, next_try_at = ?, facts = ? WHERE id = ?",
        next_try_at,
        dump(dict(facts)),
        debt_id,
    )
