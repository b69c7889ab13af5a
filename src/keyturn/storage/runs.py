"""Rows of `run`: the frozen plan and how far it got."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from keyturn.model.ids import ConnectionId, PrincipalId, RunId, VersionId
from keyturn.model.plan import Goal, Plan
from keyturn.model.run import TERMINAL, Run, RunState, Track
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = (
    "id, connection_id, principal_id, goal, trigger_key, reason, plan, state, track, cursor, due_at, waiting_for,"
    " old_version_id, new_version_id, attempts, proof, created_at, started_at, ended_at, outcome"
)


@lru_cache(maxsize=256)
def _plan(text: str) -> Plan:
    """A frozen plan. Runs of one connector mostly share its text; `functools` keeps what was read last."""
    return Plan.from_json(load(text))


def _read(row: Row) -> Run:
    return Run(
        id=RunId(row[0]),
        connection_id=ConnectionId(row[1]),
        principal_id=PrincipalId(row[2]),
        goal=Goal(row[3]),
        trigger=row[4],
        reason=row[5],
        plan=_plan(row[6]),
        state=RunState(row[7]),
        track=Track(row[8]),
        cursor=row[9],
        due_at=row[10] or 0.0,
        waiting_for=row[11],
        old_version_id=VersionId(row[12]) if row[12] else None,
        new_version_id=VersionId(row[13]) if row[13] else None,
        attempts=row[14],
        proof=row[15],
        created_at=row[16],
        started_at=row[17],
        ended_at=row[18],
        outcome=row[19],
    )


def add(tx: Tx, run: Run) -> None:
    """Inserts a queued run."""
    tx.run(
        f"INSERT INTO run ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        run.id,
        run.connection_id,
        run.principal_id,
        run.goal.value,
        run.trigger,
        run.reason,
        dump(run.plan.as_json()),
        run.state.value,
        run.track.value,
        run.cursor,
        run.due_at or None,  # a run that waits for approval is never due
        run.waiting_for,
        run.old_version_id,
        run.new_version_id,
        run.attempts,
        run.proof,
        run.created_at,
        run.started_at,
        run.ended_at,
        run.outcome,
    )


def by_id(tx: Tx, run_id: RunId) -> Run | None:
    """The run of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM run WHERE id = ?", run_id)
    return _read(row) if row else None


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Run]:
    """Some runs by id."""
    marks = ",".join("?" * len(ids))
    rows = tx.all(f"SELECT {_COLUMNS} FROM run WHERE id IN ({marks})", *ids) if ids else []
    return {str(row[0]): _read(row) for row in rows}


def by_trigger(tx: Tx, connection_id: ConnectionId, trigger: str) -> Run | None:
    """The run a trigger already made: a double click returns the same run."""
    sql = f"SELECT {_COLUMNS} FROM run WHERE connection_id = ? AND trigger_key = ?"
    row = tx.one(sql, connection_id, trigger)
    return _read(row) if row else None


def latest_with(tx: Tx, connection_ids: Sequence[str], version_ids: Sequence[str]) -> dict[str, str]:
    """By version, the latest run of its connection that was to bring it."""
    rows = tx.all(
        f"SELECT new_version_id, id FROM run WHERE connection_id IN ({','.join('?' * len(connection_ids))})"
        f" AND new_version_id IN ({','.join('?' * len(version_ids))}) ORDER BY created_at",
        *connection_ids,
        *version_ids,
    )
    return {str(row[0]): str(row[1]) for row in rows}


def recent(tx: Tx, connection_id: ConnectionId | None = None, limit: int = 100) -> list[Run]:
    """Runs, newest first."""
    if connection_id is None:
        rows = tx.all(f"SELECT {_COLUMNS} FROM run ORDER BY created_at DESC, id DESC LIMIT ?", limit)
    else:
        sql = f"SELECT {_COLUMNS} FROM run WHERE connection_id = ? ORDER BY created_at DESC, id DESC LIMIT ?"
        rows = tx.all(sql, connection_id, limit)
    return [_read(row) for row in rows]


def page(
    tx: Tx,
    *,
    connection_id: str = "",
    states: Sequence[str] = (),
    goal: str = "",
    projects: frozenset[str] | None = None,
    before: tuple[float, str] | None = None,
    limit: int = 50,
) -> list[Run]:
    """The runs that fit, newest first; those older than `before`, a run's (created_at, id)."""
    wanted: list[str] = []
    values: list[Any] = []
    if connection_id:
        wanted.append("connection_id = ?")
        values.append(connection_id)
    if goal:  # most are rotations, and the index is of the others
        wanted.append("goal = ?" if goal == Goal.ROTATE.value else "goal <> 'rotate' AND goal = ?")
        values.append(goal)
    if states:
        sql, some = _in_states(states)
        wanted.append(sql)
        values += some
    if projects is not None:
        marks = ",".join("?" * len(projects)) or "NULL"
        wanted.append(f"connection_id IN (SELECT id FROM connection WHERE project IN ({marks}))")
        values += sorted(projects)
    if before is not None:
        wanted.append("(created_at, id) < (?, ?)")
        values += before
    where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
    sql = f"SELECT {_COLUMNS} FROM run{where} ORDER BY created_at DESC, id DESC LIMIT ?"
    return [_read(row) for row in tx.all(sql, *values, limit)]


def _in_states(states: Sequence[str]) -> tuple[str, list[str]]:
    """The condition for states, said so that each kind is found by its index: those under way, those that wait for
    approval, and those that ended. Nearly all are complete: they are found by going through the list as it is."""
    marks = ",".join("?" * len(states))
    if RunState.COMPLETE.value in states:
        return f"state || '' IN ({marks})", list(states)  # an index would give nearly everything
    ended = [each for each in states if each in TERMINAL]
    waits = [each for each in states if each == RunState.WAITING_APPROVAL.value]
    going = [each for each in states if each not in ended and each not in waits]
    asked = "SELECT id FROM run WHERE id IN (SELECT run_id FROM approval WHERE decided_at IS NULL)"
    found = [
        f"{sql} AND state IN ({','.join('?' * len(some))})"
        for sql, some in (
            ("SELECT id FROM run WHERE ended_at IS NOT NULL", ended),
            ("SELECT id FROM run WHERE due_at IS NOT NULL", going),
            (asked, waits),
        )
        if some
    ]
    return f"id IN ({' UNION ALL '.join(found)})", [*ended, *going, *waits]


def since(tx: Tx, connection_id: ConnectionId, at: float) -> list[Run]:
    """A connection's runs that were begun since then, oldest first."""
    sql = f"SELECT {_COLUMNS} FROM run WHERE connection_id = ? AND created_at >= ? ORDER BY created_at, id"
    return [_read(row) for row in tx.all(sql, connection_id, at)]


def open_of(tx: Tx, connection_id: ConnectionId) -> list[Run]:
    """The runs of a connection that have not ended, newest first: one at most that does not wait for approval."""
    # in order here: to have the order from an index, SQLite would go through all that have ended
    rows = tx.all(f"SELECT {_COLUMNS} FROM run WHERE connection_id = ? AND ended_at IS NULL", connection_id)
    return sorted(map(_read, rows), key=lambda run: run.created_at, reverse=True)


def unfinished_of(tx: Tx, connection_id: ConnectionId) -> Run | None:
    """The one run of a connection that has begun, or is about to, and has not ended."""
    return under_way(open_of(tx, connection_id))


def under_way(found: Sequence[Run]) -> Run | None:
    """The first of some open runs that does not wait for approval."""
    return next((each for each in found if each.state is not RunState.WAITING_APPROVAL), None)


def due(tx: Tx, now: float, limit: int) -> list[tuple[RunId, float]]:
    """Ids of runs that may go on now, longest due first, without those whose principal another run or worker has."""
    rows = tx.all(
        "SELECT r.id, r.due_at FROM run r JOIN principal p ON p.id = r.principal_id"
        " WHERE r.due_at IS NOT NULL AND r.due_at <= ? AND p.lease_until < ?"
        " AND (p.active_run_id IS NULL OR p.active_run_id = r.id) ORDER BY r.due_at LIMIT ?",
        now,
        now,
        limit,
    )
    return [(RunId(row[0]), row[1]) for row in rows]


def next_due(tx: Tx) -> float | None:
    """When the earliest unfinished run wants to go on."""
    row = tx.one("SELECT MIN(due_at) FROM run WHERE due_at IS NOT NULL")
    return row[0] if row else None


def unfinished(tx: Tx) -> int:
    """How many runs have not ended."""
    row = tx.one("SELECT COUNT(*) FROM run WHERE due_at IS NOT NULL")
    return int(row[0]) if row else 0


def change(tx: Tx, run_id: RunId, columns: dict[str, Any]) -> None:
    """Sets columns of a run."""
    tx.run(_setting(tuple(columns)), *columns.values(), run_id)


@cache
def _setting(names: tuple[str, ...]) -> str:
    return f"UPDATE run SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"


def wake(tx: Tx, run_id: RunId, at: float) -> None:
    """Makes an unfinished run due, at the latest at `at`; a run that ended is left alone.

    Its row is written in any case: of this and a run that lies down at the same moment, PostgreSQL lets one begin anew,
    so that neither misses the other.
    """
    sooner = "UPDATE run SET due_at = CASE WHEN due_at > ? THEN ? ELSE due_at END"
    tx.run(f"{sooner} WHERE id = ? AND due_at IS NOT NULL", at, at, run_id)


def hasten(tx: Tx, run_id: RunId, at: float) -> None:
    """Makes an unfinished run due and starts its retry ladder anew; a run that ended is left alone."""
    tx.run("UPDATE run SET due_at = ?, attempts = 0 WHERE id = ? AND due_at IS NOT NULL", at, run_id)
