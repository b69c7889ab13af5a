"""Rows of `task`."""

from __future__ import annotations

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


def waiting(tx: Tx) -> list[Task]:
    """Tasks somebody should do, most urgent first."""
    marks = ",".join("?" for _ in OPEN_STATES)
    sql = f"SELECT {_COLUMNS} FROM task WHERE state IN ({marks}) ORDER BY due_at, id"
    return [_read(row) for row in tx.all(sql, *(s.value for s in OPEN_STATES))]


def change(tx: Tx, task_id: TaskId, **columns: Any) -> None:
    """Sets columns of a task."""
    names = ", ".join(f"{name} = ?" for name in columns)
    tx.run(f"UPDATE task SET {names} WHERE id = ?", *columns.values(), task_id)
