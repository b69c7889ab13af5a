"""Rows of `task`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyturn.model.ids import ConnectionId, RunId, TaskId
from keyturn.model.run import Task, TaskState
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = (
    "id, run_id, connection_id, step, kind, state, title, instructions, fields, claimed_by, claimed_until, why,"
    " created_at, due_at, lookup"
)
OPEN_STATES = (TaskState.OPEN, TaskState.CLAIMED, TaskState.RETURNED)


def _read(row: Row) -> Task:
    return Task(
        id=TaskId(row[0]),
        run_id=RunId(row[1]),
        connection_id=ConnectionId(row[2]),
        step=row[3],
        kind=row[4],
        state=TaskState(row[5]),
        title=row[6],
        instructions=tuple(load(row[7])),
        fields=tuple(load(row[8])),
        claimed_by=row[9],
        claimed_until=row[10],
        why=row[11],
        created_at=row[12],
        due_at=row[13],
        lookup=row[14],
    )


def add(tx: Tx, task: Task) -> None:
    """Inserts a task."""
    tx.run(
        f"INSERT INTO task ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        task.id,
        task.run_id,
        task.connection_id,
        task.step,
        task.kind,
        task.state.value,
        task.title,
        dump([dict(i) for i in task.instructions]),
        dump([dict(f) for f in task.fields]),
        task.claimed_by,
        task.claimed_until,
        task.why,
        task.created_at,
        task.due_at,
        task.lookup,
    )


def by_id(tx: Tx, task_id: TaskId) -> Task | None:
    """The task of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM task WHERE id = ?", task_id)
    return _read(row) if row else None


def waiting_by_lookup(tx: Tx, lookup: str) -> Task | None:
    """The task with this lookup that somebody should do."""
    marks = ",".join("?" for _ in OPEN_STATES)
    sql = f"SELECT {_COLUMNS} FROM task WHERE lookup = ? AND lookup <> '' AND state IN ({marks})"
    row = tx.one(sql, lookup, *(s.value for s in OPEN_STATES))
    return _read(row) if row else None


def of_run(tx: Tx, run_id: RunId, step: str | None = None) -> list[Task]:
    """A run's tasks, oldest first; of one step when named."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM task WHERE run_id = ? ORDER BY created_at, id", run_id)
    return [task for task in map(_read, rows) if step is None or task.step == step]


def is_answered(tx: Tx, run_id: RunId, step: str) -> bool:
    """Whether a person's answer to this step lies there and nobody has taken it up."""
    sql = "SELECT 1 FROM task WHERE run_id = ? AND step = ? AND state = ?"
    return tx.one(sql, run_id, step, TaskState.SUBMITTED.value) is not None


def of_runs(tx: Tx, run_ids: Sequence[str]) -> dict[str, list[Task]]:
    """The tasks of some runs, by run, oldest first."""
    marks = ",".join("?" * len(run_ids)) or "NULL"
    found: dict[str, list[Task]] = {}
    for row in tx.all(
        f"SELECT {_COLUMNS} FROM task WHERE run_id IN ({marks}) ORDER BY created_at, id", *run_ids
    ):
        found.setdefault(row[1], []).append(_read(row))
    return found


def waiting(tx: Tx) -> list[Task]:
    """Tasks somebody should do, most urgent first."""
    marks = ",".join("?" for _ in OPEN_STATES)
    sql = f"SELECT {_COLUMNS} FROM task WHERE state IN ({marks}) ORDER BY due_at, id"
    return [_read(row) for row in tx.all(sql, *(s.value for s in OPEN_STATES))]


def page(
    tx: Tx,
    *,
    connection_id: str = "",
    projects: frozenset[str] | None = None,
    mine: tuple[str, float, frozenset[str] | None] | None = None,
    after: Sequence[Any] | None = None,
    limit: int = 50,
) -> tuple[int, list[Task]]:
    """How many there are to do, and those behind `after`, a task's (due_at, id), most urgent first. `mine`: only those
    that this person answers for or works on at this instant, or that are in these projects."""
    where = ["t.state IN ('open', 'claimed', 'returned')"]  # as the index says it
    values: list[Any] = []
    if connection_id:
        where.append("t.connection_id = ?")
        values.append(connection_id)
    if projects is not None:
        where.append(f"c.project IN ({','.join('?' * len(projects)) or 'NULL'})")
        values += sorted(projects)
    if mine is not None:
        who, now, team = mine
        own = "fold(c.owner) = fold(?) OR (fold(t.claimed_by) = fold(?) AND t.claimed_until > ?)"
        marks = f" OR c.project IN ({','.join('?' * len(team))})" if team else ""
        where.append(f"({own}{marks})")
        values += [who, who, now, *sorted(team or ())]
    source = f"FROM task t JOIN connection c ON c.id = t.connection_id WHERE {' AND '.join(where)}"
    row = tx.one(f"SELECT COUNT(*) {source}", *values)
    if after is not None:
        source += " AND (t.due_at, t.id) > (?, ?)"
        values += list(after)
    columns = ", ".join(f"t.{name}" for name in _COLUMNS.split(", "))
    rows = tx.all(f"SELECT {columns} {source} ORDER BY t.due_at, t.id LIMIT ?", *values, limit)
    return int(row[0]) if row else 0, [_read(each) for each in rows]


def waiting_of(tx: Tx, connection_id: str) -> list[Task]:
    """Tasks of one connection that somebody should do, most urgent first."""
    _, found = page(tx, connection_id=connection_id, limit=1000)
    return found


def change(tx: Tx, task_id: TaskId, **columns: Any) -> None:
    """Sets columns of a task."""
    names = ", ".join(f"{name} = ?" for name in columns)
    tx.run(f"UPDATE task SET {names} WHERE id = ?", *columns.values(), task_id)
