"""Rows of `bulk_load`: who loads what, how far it has come, and which secret it may go on with until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from keyturn.model.ids import ConnectionId, VersionId
from keyturn.storage.database import Row, Tx


class LoadState(StrEnum):
    """A load's life."""

    RECEIVING = "receiving"  # bytes are still to come
    LOADING = "loading"  # all bytes are here; records go into the dataset
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (LoadState.RECEIVING, LoadState.LOADING)


@dataclass(frozen=True)
class Load:
    """One bulk load. `version_id` is the secret it was begun with; while `pinned`, that secret may finish it although
    it was retired meanwhile. `received` and `loaded` are bytes, `accepted` and `rejected` records."""

    id: str
    dataset: str
    connection_id: ConnectionId
    version_id: VersionId
    pinned: bool
    trigger: str
    format: str
    mode: str
    delimiter: str
    state: LoadState
    received: int
    loaded: int
    accepted: int
    rejected: int
    why: str
    created_at: float
    changed_at: float
    until_at: float
    ended_at: float | None


_COLUMNS = (
    "id, dataset, connection_id, version_id, pinned, trigger_key, format, mode, delimiter, state, received, loaded,"
    " accepted, rejected, why, created_at, changed_at, until_at, ended_at"
)


def _read(row: Row) -> Load:
    return Load(
        row[0],
        row[1],
        ConnectionId(row[2]),
        VersionId(row[3]),
        bool(row[4]),
        row[5],
        row[6],
        row[7],
        row[8],
        LoadState(row[9]),
        *row[10:],
    )


def add(tx: Tx, load: Load) -> None:
    """Inserts a load."""
    tx.run(
        f"INSERT INTO bulk_load ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        load.id,
        load.dataset,
        load.connection_id,
        load.version_id,
        int(load.pinned),
        load.trigger,
        load.format,
        load.mode,
        load.delimiter,
        load.state.value,
        load.received,
        load.loaded,
        load.accepted,
        load.rejected,
        load.why,
        load.created_at,
        load.changed_at,
        load.until_at,
        load.ended_at,
    )


def by_id(tx: Tx, load_id: str) -> Load | None:
    """The load of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM bulk_load WHERE id = ?", load_id)
    return _read(row) if row else None


def by_trigger(tx: Tx, connection_id: str, trigger: str) -> Load | None:
    """The load that a caller began with this idempotency key."""
    sql = f"SELECT {_COLUMNS} FROM bulk_load WHERE connection_id = ? AND trigger_key = ?"
    row = tx.one(sql, connection_id, trigger)
    return _read(row) if row else None


def begun(tx: Tx, connection_id: str, since: float) -> int:
    """How many loads a credential began since then."""
    row = tx.one(
        "SELECT COUNT(*) FROM bulk_load WHERE connection_id = ? AND created_at > ?", connection_id, since
    )
    return int(row[0]) if row else 0


def running(tx: Tx, connection_id: str, since: float) -> int:
    """How many of a credential's loads are open and not forgotten: they were worked on since then."""
    row = tx.one(
        "SELECT COUNT(*) FROM bulk_load WHERE connection_id = ? AND ended_at IS NULL AND changed_at > ?",
        connection_id,
        since,
    )
    return int(row[0]) if row else 0


def open_loads(tx: Tx, state: LoadState | None = None) -> list[Load]:
    """Loads that have not ended, oldest first."""
    sql = f"SELECT {_COLUMNS} FROM bulk_load WHERE ended_at IS NULL"
    rows = tx.all(f"{sql} ORDER BY created_at, id")
    return [load for load in map(_read, rows) if state is None or load.state is state]


def of_versions(tx: Tx, version_ids: Sequence[str]) -> list[Load]:
    """The open loads that were begun with one of these secrets."""
    marks = ",".join("?" * len(version_ids))
    if not version_ids:
        return []
    sql = f"SELECT {_COLUMNS} FROM bulk_load WHERE ended_at IS NULL AND version_id IN ({marks}) ORDER BY id"
    return [_read(row) for row in tx.all(sql, *version_ids)]


def latest(tx: Tx, connection_id: str | None, limit: int) -> list[Load]:
    """The latest loads, of one credential or of all."""
    where, params = ("WHERE connection_id = ?", [connection_id]) if connection_id is not None else ("", [])
    sql = f"SELECT {_COLUMNS} FROM bulk_load {where} ORDER BY created_at DESC, id DESC LIMIT ?"
    return [_read(row) for row in tx.all(sql, *params, limit)]


def receive(tx: Tx, load_id: str, received: int, at: float, *, complete: bool) -> bool:
    """Notes bytes that are safely on disk; False when the load has ended or has all its bytes."""
    state = LoadState.LOADING if complete else LoadState.RECEIVING
    return 1 == tx.run(
        "UPDATE bulk_load SET received = ?, changed_at = ?, state = ?"
        " WHERE id = ? AND state = 'receiving' AND ended_at IS NULL",
        received,
        at,
        state.value,
        load_id,
    )


def progress(tx: Tx, load_id: str, loaded: int, accepted: int, rejected: int, at: float) -> LoadState | None:
    """Notes how far the records have come; the load's state, so that a cancelled one is seen."""
    tx.run(
        "UPDATE bulk_load SET loaded = ?, accepted = ?, rejected = ?, changed_at = ?"
        " WHERE id = ? AND ended_at IS NULL",
        loaded,
        accepted,
        rejected,
        at,
        load_id,
    )
    row = tx.one("SELECT state FROM bulk_load WHERE id = ?", load_id)
    return LoadState(row[0]) if row else None


def end(tx: Tx, load_id: str, state: LoadState, at: float, why: str = "") -> bool:
    """Ends a load and its hold on the secret; False when it had ended."""
    return 1 == tx.run(
        "UPDATE bulk_load SET state = ?, why = ?, ended_at = ?, changed_at = ?, pinned = 0"
        " WHERE id = ? AND ended_at IS NULL",
        state.value,
        why,
        at,
        at,
        load_id,
    )


def explain(tx: Tx, load_id: str, why: str, at: float) -> None:
    """Says why a load waits."""
    tx.run("UPDATE bulk_load SET why = ?, changed_at = ? WHERE id = ? AND ended_at IS NULL", why, at, load_id)


def unpin(tx: Tx, version_id: str) -> int:
    """A secret was ended on purpose (a leak, a revocation): its running loads may not go on with it."""
    sql = "UPDATE bulk_load SET pinned = 0 WHERE version_id = ? AND ended_at IS NULL AND pinned = 1"
    return tx.run(sql, version_id)


def is_pinned(tx: Tx, load_id: str, version_id: str, now: float) -> bool:
    """Whether this secret may still finish this load."""
    row = tx.one(
        "SELECT 1 FROM bulk_load WHERE id = ? AND version_id = ? AND pinned = 1 AND ended_at IS NULL AND until_at > ?",
        load_id,
        version_id,
        now,
    )
    return row is not None


def prune(tx: Tx, before: float) -> int:
    """Deletes loads that ended before then."""
    return tx.run("DELETE FROM bulk_load WHERE ended_at IS NOT NULL AND ended_at < ?", before)
