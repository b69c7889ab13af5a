"""Rows of `task_link`: a task handed to somebody outside. What opens one is kept as a digest only."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.model.ids import ConnectionId, TaskId
from keyturn.storage.database import Tx


@dataclass(frozen=True)
class Link:
    """A link to one task. `ticket` is the digest of what the browser that opened it holds; `ended_at`: handed in, or
    replaced by another link."""

    digest: str
    task_id: TaskId
    connection_id: ConnectionId
    made_for: str
    made_by: str
    created_at: float
    ends_at: float
    ticket: str
    opened_at: float | None
    ended_at: float | None


_COLUMNS = (
    "digest, task_id, connection_id, made_for, made_by, created_at, ends_at, ticket, opened_at, ended_at"
)


def add(tx: Tx, link: Link) -> None:
    """Inserts a link; those to the same task from before end."""
    tx.run(
        "UPDATE task_link SET ended_at = ? WHERE task_id = ? AND ended_at IS NULL",
        link.created_at,
        link.task_id,
    )
    tx.run(f"INSERT INTO task_link ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", *vars(link).values())


def by_digest(tx: Tx, digest: str) -> Link | None:
    """The link of this digest, whatever became of it."""
    row = tx.one(f"SELECT {_COLUMNS} FROM task_link WHERE digest = ?", digest)
    return Link(*row) if row else None


def by_ticket(tx: Tx, ticket: str) -> Link | None:
    """The link that a browser opened, whatever became of it."""
    row = tx.one(f"SELECT {_COLUMNS} FROM task_link WHERE ticket = ? AND ticket <> ''", ticket)
    return Link(*row) if row else None


def open_(tx: Tx, digest: str, ticket: str, now: float) -> bool:
    """Binds a link to the browser that opens it first. False when it was opened, has ended or is too late."""
    return 1 == tx.run(
        "UPDATE task_link SET ticket = ?, opened_at = ?"
        " WHERE digest = ? AND opened_at IS NULL AND ended_at IS NULL AND ends_at > ?",
        ticket,
        now,
        digest,
        now,
    )


def use(tx: Tx, digest: str, now: float) -> bool:
    """Ends a link for good. False when it has ended or is too late."""
    return 1 == tx.run(
        "UPDATE task_link SET ended_at = ? WHERE digest = ? AND ended_at IS NULL AND ends_at > ?",
        now,
        digest,
        now,
    )


def prune(tx: Tx, before: float) -> int:
    """Deletes links that ended by time long ago; the journal keeps who had them."""
    return tx.run("DELETE FROM task_link WHERE ends_at < ?", before)
