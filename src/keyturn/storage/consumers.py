"""Rows of `consumer` and `lease`: who uses a connection, and who holds which version now."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.model.credential import State
from keyturn.model.ids import ConnectionId, LeaseId, VersionId
from keyturn.storage.database import Row, Tx


@dataclass(frozen=True)
class Consumer:
    """A declared user of a connection. `kind`: live, cached, deploy-time, pushed or outside."""

    id: str
    connection_id: ConnectionId
    name: str
    kind: str
    ttl_s: float
    required: bool
    seen_generation: int
    seen_at: float | None


@dataclass(frozen=True)
class Lease:
    """A consumer's hold on one version until a time."""

    id: LeaseId
    connection_id: ConnectionId
    version_id: VersionId
    consumer: str
    taken_at: float
    until_at: float
    ended_at: float | None


_CONSUMER = "id, connection_id, name, kind, ttl_s, required, seen_generation, seen_at"
_LEASE = "id, connection_id, version_id, consumer, taken_at, until_at, ended_at"


def _consumer(row: Row) -> Consumer:
    return Consumer(row[0], ConnectionId(row[1]), row[2], row[3], row[4], bool(row[5]), row[6], row[7])


def _lease(row: Row) -> Lease:
    return Lease(LeaseId(row[0]), ConnectionId(row[1]), VersionId(row[2]), row[3], row[4], row[5], row[6])


def declare(tx: Tx, consumer: Consumer) -> None:
    """Adds or changes a declared consumer; what was seen of it stays."""
    tx.run(
        f"INSERT INTO consumer ({_CONSUMER}) VALUES (?,?,?,?,?,?,?,?)"
        " ON CONFLICT (connection_id, name) DO UPDATE SET kind = excluded.kind, ttl_s = excluded.ttl_s,"
        " required = excluded.required",
        consumer.id,
        consumer.connection_id,
        consumer.name,
        consumer.kind,
        consumer.ttl_s,
        int(consumer.required),
        consumer.seen_generation,
        consumer.seen_at,
    )


def declared(tx: Tx, connection_id: ConnectionId) -> list[Consumer]:
    """The declared consumers of a connection."""
    sql = f"SELECT {_CONSUMER} FROM consumer WHERE connection_id = ? ORDER BY name"
    return [_consumer(row) for row in tx.all(sql, connection_id)]


def seen(tx: Tx, connection_id: ConnectionId, name: str, generation: int, at: float) -> None:
    """Notes that a declared consumer has resolved this generation."""
    tx.run(
        "UPDATE consumer SET seen_generation = ?, seen_at = ? WHERE connection_id = ? AND name = ?",
        generation,
        at,
        connection_id,
        name,
    )


def add_lease(tx: Tx, lease: Lease) -> None:
    """Inserts a lease."""
    tx.run(
        f"INSERT INTO lease ({_LEASE}) VALUES (?,?,?,?,?,?,?)",
        lease.id,
        lease.connection_id,
        lease.version_id,
        lease.consumer,
        lease.taken_at,
        lease.until_at,
        lease.ended_at,
    )


def lease(tx: Tx, lease_id: LeaseId) -> Lease | None:
    """The lease of this id."""
    row = tx.one(f"SELECT {_LEASE} FROM lease WHERE id = ?", lease_id)
    return _lease(row) if row else None


def extend_lease(tx: Tx, lease_id: LeaseId, now: float, until: float) -> bool:
    """Prolongs a lease that has neither ended nor run out, on a version that serves or drains."""
    return 1 == tx.run(
        "UPDATE lease SET until_at = ? WHERE id = ? AND ended_at IS NULL AND until_at > ?"
        " AND version_id IN (SELECT id FROM version WHERE state IN (?,?))",
        until,
        lease_id,
        now,
        State.CURRENT.value,
        State.DRAINING.value,
    )


def end_lease(tx: Tx, lease_id: LeaseId, at: float) -> None:
    """Ends a lease; ending twice is fine."""
    tx.run("UPDATE lease SET ended_at = ?, until_at = ? WHERE id = ? AND ended_at IS NULL", at, at, lease_id)


def past_leases(tx: Tx, before: float) -> int:
    """How many leases were over by then."""
    row = tx.one("SELECT COUNT(*) FROM lease WHERE until_at < ?", before)
    return int(row[0]) if row else 0


def prune_leases(tx: Tx, before: float) -> int:
    """Deletes the leases that were over by then; how many."""
    return tx.run("DELETE FROM lease WHERE until_at < ?", before)


def holders(tx: Tx, version_id: VersionId, now: float) -> list[Lease]:
    """Who holds this version now, longest first."""
    sql = f"SELECT {_LEASE} FROM lease WHERE version_id = ? AND ended_at IS NULL AND until_at > ? ORDER BY until_at DESC"
    return [_lease(row) for row in tx.all(sql, version_id, now)]


def held(tx: Tx, connection_id: ConnectionId, now: float) -> list[tuple[int, Lease]]:
    """Who holds which version of a connection now, with its number: newest version first, then longest first."""
    columns = ", ".join(f"l.{name}" for name in _LEASE.split(", "))
    rows = tx.all(
        f"SELECT {columns}, v.number FROM version v JOIN lease l ON l.version_id = v.id"
        " WHERE v.connection_id = ? AND l.ended_at IS NULL AND l.until_at > ?"
        " ORDER BY v.number DESC, l.until_at DESC",
        connection_id,
        now,
    )
    return [(int(row[-1]), _lease(row[:-1])) for row in rows]
