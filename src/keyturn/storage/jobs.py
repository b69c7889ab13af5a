"""Rows of `job` and `job_result`: what is read when, by whom just now, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyturn.model.credential import ConnectionState
from keyturn.model.ids import ConnectionId, JobId
from keyturn.model.job import Cause, Job, JobResult, JobState, Reading, next_due
from keyturn.storage.database import Row, Tx

KEPT = 100  # results of a job; those that are evidence of a rotation stay besides
_COLUMNS = (
    "id, connection_id, name, what, most, schedule, after_rotation, due_at, claimed_by, claimed_until, paused_at,"
    " paused_by, held_at, state, created_at, created_by"
)
_FULL = ", ".join(f"j.{name}" for name in _COLUMNS.split(", "))
_RESULT = (
    "id, job_id, connection_id, version_id, run_id, cause, state, items, seconds, code, detail, began_at"
)


def _read(row: Row) -> Job:
    return Job(
        id=JobId(row[0]),
        connection_id=ConnectionId(row[1]),
        name=row[2],
        what=row[3],
        most=row[4],
        schedule=row[5],
        after_rotation=bool(row[6]),
        due_at=row[7],
        claimed_by=row[8],
        claimed_until=row[9],
        paused_at=row[10],
        paused_by=row[11],
        held_at=row[12],
        state=JobState(row[13]),
        created_at=row[14],
        created_by=row[15],
    )


def _read_result(row: Row) -> JobResult:
    reading = Reading(JobState(row[6]), row[7], row[8], row[9], row[10])
    return JobResult(
        row[0], JobId(row[1]), ConnectionId(row[2]), row[3], row[4], Cause(row[5]), reading, row[11]
    )


def add(tx: Tx, job: Job) -> bool:
    """Inserts a job. False when the name is taken."""
    return 1 == tx.run(
        f"INSERT INTO job ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (name) DO NOTHING",
        job.id,
        job.connection_id,
        job.name,
        job.what,
        job.most,
        job.schedule,
        int(job.after_rotation),
        job.due_at,
        job.claimed_by,
        job.claimed_until,
        job.paused_at,
        job.paused_by,
        job.held_at,
        job.state.value,
        job.created_at,
        job.created_by,
    )


def by_name(tx: Tx, name: str) -> Job | None:
    """The job of this name or id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM job WHERE name = ? OR id = ?", name, name)
    return _read(row) if row else None


def by_id(tx: Tx, job_id: JobId) -> Job | None:
    """The job of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM job WHERE id = ?", job_id)
    return _read(row) if row else None


def every(tx: Tx) -> list[Job]:
    """All jobs by name."""
    return [_read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM job ORDER BY name")]


def of_connection(tx: Tx, connection_id: ConnectionId) -> list[Job]:
    """The jobs of a connection by name."""
    sql = f"SELECT {_COLUMNS} FROM job WHERE connection_id = ? ORDER BY name"
    return [_read(row) for row in tx.all(sql, connection_id)]


def due(tx: Tx, now: float, limit: int) -> list[Job]:
    """Jobs whose time has come, that nobody runs, on connections that serve; longest due first."""
    rows = tx.all(
        f"SELECT {_FULL} FROM job j JOIN connection c ON c.id = j.connection_id WHERE j.due_at IS NOT NULL"
        " AND j.due_at <= ? AND j.claimed_until < ? AND j.paused_at IS NULL AND c.state = ?"
        " ORDER BY j.due_at, j.id LIMIT ?",
        now,
        now,
        ConnectionState.ACTIVE.value,
        limit,
    )
    return [_read(row) for row in rows]


def unheld(tx: Tx, now: float) -> list[JobId]:
    """Jobs that are due while their connection does not serve, and are not marked so yet."""
    rows = tx.all(
        "SELECT j.id FROM job j JOIN connection c ON c.id = j.connection_id WHERE j.due_at IS NOT NULL"
        " AND j.due_at <= ? AND j.held_at IS NULL AND j.paused_at IS NULL AND c.state <> ?",
        now,
        ConnectionState.ACTIVE.value,
    )
    return [JobId(row[0]) for row in rows]


def claim(tx: Tx, job_id: JobId, by: str, now: float, until: float, due_by: float | None = None) -> bool:
    """Takes a job for one run of it. False while somebody else has it; a claim of the dead runs out by itself.

    With `due_by` only while it is still due then: whoever saw it due may come when somebody else has just run it.
    """
    still = "" if due_by is None else " AND due_at IS NOT NULL AND due_at <= ? AND paused_at IS NULL"
    return 1 == tx.run(
        f"UPDATE job SET claimed_by = ?, claimed_until = ? WHERE id = ? AND claimed_until < ?{still}",
        by,
        until,
        job_id,
        now,
        *(() if due_by is None else (due_by,)),
    )


def release(tx: Tx, job_id: JobId, by: str, **columns: Any) -> bool:
    """Gives a claim back and sets columns. False when the claim ran out and somebody else has it: nothing is changed."""
    names = "".join(f", {name} = ?" for name in columns)
    return 1 == tx.run(
        f"UPDATE job SET claimed_by = '', claimed_until = 0{names} WHERE id = ? AND claimed_by = ?",
        *columns.values(),
        job_id,
        by,
    )


def change(tx: Tx, job_id: JobId, **columns: Any) -> None:
    """Sets columns."""
    names = ", ".join(f"{name} = ?" for name in columns)
    tx.run(f"UPDATE job SET {names} WHERE id = ?", *columns.values(), job_id)


def remove(tx: Tx, job_id: JobId) -> None:
    """Deletes a job with its results."""
    tx.run("DELETE FROM job_result WHERE job_id = ?", job_id)
    tx.run("DELETE FROM job WHERE id = ?", job_id)


# -- results -------------------------------------------------------------------------------------------------------------


def add_result(tx: Tx, result: JobResult) -> None:
    """Inserts a result, and deletes those that are older than the last `KEPT` and no evidence of a rotation."""
    reading = result.reading
    tx.run(
        f"INSERT INTO job_result ({_RESULT}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        result.id,
        result.job_id,
        result.connection_id,
        result.version_id,
        result.run_id,
        result.cause.value,
        reading.state.value,
        reading.count,
        reading.seconds,
        reading.code,
        reading.detail,
        result.began_at,
    )
    tx.run(
        "DELETE FROM job_result WHERE job_id = ? AND run_id = '' AND began_at <"
        " (SELECT MIN(began_at) FROM (SELECT began_at FROM job_result WHERE job_id = ?"
        " ORDER BY began_at DESC LIMIT ?) kept)",
        result.job_id,
        result.job_id,
        KEPT,
    )


def note(tx: Tx, result: JobResult, now: float) -> None:
    """Files what a rotation saw of a job, if the job is still there. One that was due meanwhile has thereby run."""
    job = by_id(tx, result.job_id)
    if job is None:
        return
    add_result(tx, result)
    columns: dict[str, Any] = {"state": result.reading.state.value}
    if result.reading.state is JobState.OK:
        columns["held_at"] = None
        if job.due_at is not None and job.due_at <= now:
            columns["due_at"] = next_due(job.schedule, job.due_at, now)
    change(tx, job.id, **columns)


def results(tx: Tx, job_id: JobId, limit: int = 20) -> list[JobResult]:
    """A job's results, newest first."""
    sql = f"SELECT {_RESULT} FROM job_result WHERE job_id = ? ORDER BY began_at DESC, id DESC LIMIT ?"
    return [_read_result(row) for row in tx.all(sql, job_id, limit)]


def of_version(tx: Tx, version_id: str) -> list[JobResult]:
    """What was read with a version, newest first."""
    sql = f"SELECT {_RESULT} FROM job_result WHERE version_id = ? ORDER BY began_at DESC, id DESC LIMIT 200"
    return [_read_result(row) for row in tx.all(sql, version_id)]


def that_read(tx: Tx, version_ids: Sequence[str]) -> list[str]:
    """Those of some versions with which something was read."""
    marks = ",".join("?" * len(version_ids)) or "NULL"
    rows = tx.all(f"SELECT DISTINCT version_id FROM job_result WHERE version_id IN ({marks})", *version_ids)
    return [str(row[0]) for row in rows]
