"""Rows of `event` and `refused_event`: what others sent, and what of it was not taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keyturn.model.ids import ConnectionId
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load


@dataclass(frozen=True)
class Event:
    """One event. `key` sorts by arrival; `id` is the sender's; `body` is JSON text as it came."""

    key: str
    connection_id: ConnectionId
    version_id: str
    id: str
    type: str
    digest: str
    body: str
    received_at: float


@dataclass(frozen=True)
class Refused:
    """An event that was not taken. `body` None: too much, a secret in it, or nobody knows who sent it."""

    id: str
    connection_id: str
    version_id: str
    code: str
    event_id: str
    headers: Mapping[str, Any]
    body: str | None
    size: int
    address: str
    agent: str
    refused_at: float
    replayed_at: float | None


_EVENT = "key, connection_id, version_id, id, type, digest, body, received_at"
_REFUSED = "id, connection_id, version_id, code, event_id, headers, body, size, address, agent, refused_at, replayed_at"


def _event(row: Row) -> Event:
    return Event(row[0], ConnectionId(row[1]), *row[2:])


def _refused(row: Row) -> Refused:
    return Refused(row[0], row[1], row[2], row[3], row[4], load(row[5]), *row[6:])


def add(tx: Tx, event: Event) -> str | None:
    """Inserts an event; None when it is new, else the digest of the one its sender gave this id before."""
    done = tx.run(
        f"INSERT INTO event ({_EVENT}) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (connection_id, id) DO NOTHING",
        event.key,
        event.connection_id,
        event.version_id,
        event.id,
        event.type,
        event.digest,
        event.body,
        event.received_at,
    )
    if done == 1:
        return None
    row = tx.one("SELECT digest FROM event WHERE connection_id = ? AND id = ?", event.connection_id, event.id)
    return str(row[0]) if row else ""


def page(tx: Tx, after: str, limit: int) -> list[Event]:
    """Events behind a key, in order of arrival."""
    rows = tx.all(f"SELECT {_EVENT} FROM event WHERE key > ? ORDER BY key LIMIT ?", after, limit)
    return [_event(row) for row in rows]


def latest(tx: Tx, limit: int) -> list[Event]:
    """The latest events, newest first."""
    return [_event(row) for row in tx.all(f"SELECT {_EVENT} FROM event ORDER BY key DESC LIMIT ?", limit)]


def refuse(tx: Tx, refused: Refused) -> None:
    """Inserts a refusal."""
    tx.run(
        f"INSERT INTO refused_event ({_REFUSED}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        refused.id,
        refused.connection_id,
        refused.version_id,
        refused.code,
        refused.event_id,
        dump(dict(refused.headers)),
        refused.body,
        refused.size,
        refused.address,
        refused.agent,
        refused.refused_at,
        refused.replayed_at,
    )


def refused_since(tx: Tx, connection_id: str, since: float) -> tuple[int, int]:
    """How many refusals of one sender are kept since then, and the bytes of their bodies."""
    row = tx.one(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN body IS NULL THEN 0 ELSE size END), 0) FROM refused_event"
        " WHERE connection_id = ? AND refused_at > ?",
        connection_id,
        since,
    )
    return (int(row[0]), int(row[1])) if row else (0, 0)


def refusals(tx: Tx, connection_id: str | None, limit: int, *, open_only: bool = False) -> list[Refused]:
    """The latest refusals, newest first; of one sender, or of all."""
    where, params = ["1 = 1"], []
    if connection_id is not None:
        where.append("connection_id = ?")
        params.append(connection_id)
    if open_only:
        where.append("replayed_at IS NULL")
    sql = f"SELECT {_REFUSED} FROM refused_event WHERE {' AND '.join(where)} ORDER BY refused_at DESC, id DESC LIMIT ?"
    return [_refused(row) for row in tx.all(sql, *params, limit)]


def refusal(tx: Tx, refused_id: str) -> Refused | None:
    """The refusal of this id."""
    row = tx.one(f"SELECT {_REFUSED} FROM refused_event WHERE id = ?", refused_id)
    return _refused(row) if row else None


def replayed(tx: Tx, refused_id: str, at: float) -> bool:
    """Notes that a refusal was taken after all; False when somebody did that before."""
    sql = "UPDATE refused_event SET replayed_at = ?, body = NULL WHERE id = ? AND replayed_at IS NULL"
    return 1 == tx.run(sql, at, refused_id)


def prune(tx: Tx, events_before: float, refusals_before: float) -> int:
    """Deletes what is older."""
    return tx.run("DELETE FROM event WHERE received_at < ?", events_before) + tx.run(
        "DELETE FROM refused_event WHERE refused_at < ?", refusals_before
    )
