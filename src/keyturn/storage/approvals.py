"""Rows of `approval`: what a second person was asked about a run, and what they said."""

from __future__ import annotations

from keyturn.model.approval import Approval, ApprovalState
from keyturn.model.ids import ConnectionId, RunId
from keyturn.model.plan import Goal
from keyturn.storage.database import Row, Tx

_COLUMNS = (
    "run_id, connection_id, goal, state, why, asked_by, asked_from, asked_why, asked_at, generation, seen, ends_at,"
    " decided_by, decided_from, decided_why, decided_at"
)


def _read(row: Row) -> Approval:
    return Approval(RunId(row[0]), ConnectionId(row[1]), Goal(row[2]), ApprovalState(row[3]), *row[4:])


def add(tx: Tx, approval: Approval) -> None:
    """Inserts a question."""
    values = [
        each.value if isinstance(each, Goal | ApprovalState) else each for each in vars(approval).values()
    ]
    tx.run(f"INSERT INTO approval ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", *values)


def of_run(tx: Tx, run_id: RunId) -> Approval | None:
    """The latest question about a run: one that was approved may be turned into an emergency afterwards."""
    sql = f"SELECT {_COLUMNS} FROM approval WHERE run_id = ? ORDER BY asked_at DESC LIMIT 1"
    row = tx.one(sql, run_id)
    return _read(row) if row else None


def unanswered(tx: Tx) -> list[Approval]:
    """Every question that nobody answered, oldest first."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM approval WHERE decided_at IS NULL ORDER BY asked_at, run_id")
    return [_read(row) for row in rows]


def waiting_for(tx: Tx, connection_id: ConnectionId, goal: Goal) -> Approval | None:
    """The run of a connection with this goal that waits to be approved."""
    row = tx.one(
        f"SELECT {_COLUMNS} FROM approval WHERE connection_id = ? AND goal = ? AND state = ? AND decided_at IS NULL",
        connection_id,
        goal.value,
        ApprovalState.WAITING.value,
    )
    return _read(row) if row else None


def overdue(tx: Tx, now: float) -> list[RunId]:
    """The runs that nobody approved in time."""
    rows = tx.all(
        "SELECT run_id FROM approval WHERE decided_at IS NULL AND state = ? AND ends_at <= ? ORDER BY ends_at",
        ApprovalState.WAITING.value,
        now,
    )
    return [RunId(row[0]) for row in rows]


def decide(
    tx: Tx, run_id: RunId, state: ApprovalState, *, by: str, address: str, why: str, at: float
) -> bool:
    """Answers a question for good. False when somebody was faster."""
    return 1 == tx.run(
        "UPDATE approval SET state = ?, decided_by = ?, decided_from = ?, decided_why = ?, decided_at = ?"
        " WHERE run_id = ? AND decided_at IS NULL",
        state.value,
        by,
        address,
        why,
        at,
        run_id,
    )
