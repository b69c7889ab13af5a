"""Rows of `issued_secret`: the credentials this hub gives to others. Digests only, never a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from keyturn.model.ids import ConnectionId, VersionId
from keyturn.storage.database import Row, Tx


class SecretState(StrEnum):
    """A secret's life. `EXPIRED` and `REVOKED` are final, whatever the clock says later."""

    PENDING = "pending"  # made, and let in from `starts_at` on; becomes live with its first use at the latest
    LIVE = "live"
    RETIRING = "retiring"  # still accepted; its successor has been used
    EXPIRED = "expired"
    REVOKED = "revoked"


ACCEPTED = frozenset({SecretState.LIVE, SecretState.RETIRING})
ALIVE = ACCEPTED | {SecretState.PENDING}  # what can still be ended


@dataclass(frozen=True)
class IssuedSecret:
    """One secret of an issued credential. `hint` is its last four characters; `ends_at` its own expiry, and
    `starts_at` when a pending one is let in."""

    version_id: VersionId
    connection_id: ConnectionId
    slot: str
    hash: str
    hint: str
    state: SecretState
    created_at: float
    ends_at: float | None
    first_used_at: float | None
    last_used_at: float | None
    last_used_from: str
    last_used_agent: str
    uses: int
    client_id: str = ""  # of an OAuth client; a client made anew gets another one
    starts_at: float | None = None


class Held(NamedTuple):
    """What the door asks about a secret at every call: a part of `IssuedSecret`, and a tuple, since every column and every
    field has its price."""

    version_id: VersionId
    connection_id: ConnectionId
    slot: str
    state: SecretState
    ends_at: float | None
    first_used_at: float | None


@dataclass(frozen=True)
class Use:
    """Uses of one secret since the last write."""

    version_id: VersionId
    count: int
    at: float
    address: str
    agent: str


_COLUMNS = (
    "version_id, connection_id, slot, hash, hint, state, created_at, ends_at, first_used_at, last_used_at,"
    " last_used_from, last_used_agent, uses, client_id, starts_at"
)
FULL = ", ".join(f"s.{name}" for name in _COLUMNS.split(", "))
WIDTH = len(_COLUMNS.split(", "))
HELD = ", ".join(f"s.{name}" for name in Held._fields)
HELD_WIDTH = len(Held._fields)
_STATES = {state.value: state for state in SecretState}
_PRESENTED = (
    f"SELECT {HELD}, c.name, c.settings FROM issued_secret s JOIN connection c ON c.id = s.connection_id"
    " WHERE s.hash = ?"
)


def read(row: Row) -> IssuedSecret:
    """A row that begins with `FULL`."""
    return IssuedSecret(
        version_id=VersionId(row[0]),
        connection_id=ConnectionId(row[1]),
        slot=row[2],
        hash=row[3],
        hint=row[4],
        state=SecretState(row[5]),
        created_at=row[6],
        ends_at=row[7],
        first_used_at=row[8],
        last_used_at=row[9],
        last_used_from=row[10],
        last_used_agent=row[11],
        uses=row[12],
        client_id=row[13],
        starts_at=row[14],
    )


def held(row: Row) -> Held:
    """A row that begins with `HELD`."""
    version_id, connection_id, slot, state, ends_at, first_used_at = row[:HELD_WIDTH]
    return Held(version_id, connection_id, slot, _STATES[state], ends_at, first_used_at)


def add(tx: Tx, secret: IssuedSecret) -> None:
    """Inserts a secret; the same secret again changes nothing."""
    tx.run(
        f"INSERT INTO issued_secret ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        secret.version_id,
        secret.connection_id,
        secret.slot,
        secret.hash,
        secret.hint,
        secret.state.value,
        secret.created_at,
        secret.ends_at,
        secret.first_used_at,
        secret.last_used_at,
        secret.last_used_from,
        secret.last_used_agent,
        secret.uses,
        secret.client_id,
        secret.starts_at,
    )


def presented(tx: Tx, digest: str) -> tuple[Held, str, str] | None:
    """The secret with this digest, with its credential's name and settings (JSON): the hot path, one statement."""
    row = tx.one(_PRESENTED, digest)
    return (held(row), row[-2], row[-1]) if row else None


def by_version(tx: Tx, version_id: VersionId) -> IssuedSecret | None:
    """The secret of a version."""
    row = tx.one(f"SELECT {_COLUMNS} FROM issued_secret WHERE version_id = ?", version_id)
    return read(row) if row else None


def of_connection(tx: Tx, connection_id: ConnectionId) -> list[IssuedSecret]:
    """All secrets of a credential, newest first; the ended ones stay, so that a late caller can be told why."""
    sql = f"SELECT {_COLUMNS} FROM issued_secret WHERE connection_id = ? ORDER BY created_at DESC, version_id DESC"
    return [read(row) for row in tx.all(sql, connection_id)]


def of_connections(tx: Tx, ids: Sequence[str]) -> dict[str, list[IssuedSecret]]:
    """The same of several credentials, by connection."""
    marks = ",".join("?" * len(ids)) or "NULL"
    sql = f"SELECT {_COLUMNS} FROM issued_secret WHERE connection_id IN ({marks}) ORDER BY created_at DESC, version_id DESC"
    found: dict[str, list[IssuedSecret]] = {}
    for row in tx.all(sql, *ids):
        found.setdefault(row[1], []).append(read(row))
    return found


def retiring(tx: Tx) -> list[IssuedSecret]:
    """All secrets that are on their way out."""
    return [read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM issued_secret WHERE state = 'retiring'")]


def idle(tx: Tx, before: float) -> list[tuple[ConnectionId, float]]:
    """Credentials of which nothing that is alive was used, made or let in since then, and when that was last."""
    last = "MAX(COALESCE(last_used_at, starts_at, created_at))"
    sql = (
        f"SELECT connection_id, {last} FROM issued_secret WHERE state IN ('pending', 'live', 'retiring')"
        f" GROUP BY connection_id HAVING {last} <= ? ORDER BY connection_id"
    )
    return [(ConnectionId(row[0]), float(row[1])) for row in tx.all(sql, before)]


def move(tx: Tx, version_id: VersionId, state: SecretState) -> bool:
    """Changes a secret's state; False when it had ended: expired and revoked are final."""
    return 1 == tx.run(
        "UPDATE issued_secret SET state = ? WHERE version_id = ? AND state IN ('pending', 'live', 'retiring')",
        state.value,
        version_id,
    )


def confirm(tx: Tx, version_id: VersionId, at: float) -> bool:
    """Notes the first use, with which a pending one is live; True for the one caller who is first."""
    sql = (
        "UPDATE issued_secret SET first_used_at = ?, last_used_at = ?,"
        " state = CASE WHEN state = 'pending' THEN 'live' ELSE state END"
        " WHERE version_id = ? AND first_used_at IS NULL"
    )
    return 1 == tx.run(sql, at, at, version_id)


_BEGUN = "state = 'pending' AND starts_at <= ?"
_OVER = "state IN ('pending', 'live', 'retiring') AND ends_at <= ?"


def has_due(tx: Tx, now: float) -> bool:
    """Whether `keep_time` has something to do."""
    found = (tx.one(f"SELECT 1 FROM issued_secret WHERE {each} LIMIT 1", now) for each in (_BEGUN, _OVER))
    return any(row is not None for row in found)


def keep_time(tx: Tx, now: float) -> int:
    """Pending secrets whose hour has come are live; whatever has reached its end is expired, for good."""
    begun = tx.run(f"UPDATE issued_secret SET state = 'live' WHERE {_BEGUN}", now)
    return begun + tx.run(f"UPDATE issued_secret SET state = 'expired' WHERE {_OVER}", now)


def retire_elder(tx: Tx, secret: Held | IssuedSecret) -> int:
    """Marks the live secrets that are older than this one as retiring."""
    return tx.run(
        "UPDATE issued_secret SET state = 'retiring' WHERE connection_id = ? AND state = 'live'"
        " AND version_id <> ? AND created_at <= (SELECT created_at FROM issued_secret WHERE version_id = ?)",
        secret.connection_id,
        secret.version_id,
        secret.version_id,
    )


def revive(tx: Tx, connection_id: ConnectionId) -> int:
    """A rotation was taken back: what was retiring stays."""
    sql = "UPDATE issued_secret SET state = 'live' WHERE connection_id = ? AND state = 'retiring'"
    return tx.run(sql, connection_id)


def used(tx: Tx, use: Use) -> None:
    """Adds batched uses; an older batch that arrives late moves nothing back."""
    tx.run(
        "UPDATE issued_secret SET uses = uses + ?,"
        " last_used_from = CASE WHEN last_used_at IS NULL OR last_used_at <= ? THEN ? ELSE last_used_from END,"
        " last_used_agent = CASE WHEN last_used_at IS NULL OR last_used_at <= ? THEN ? ELSE last_used_agent END,"
        " last_used_at = CASE WHEN last_used_at IS NULL OR last_used_at <= ? THEN ? ELSE last_used_at END"
        " WHERE version_id = ?",
        use.count,
        use.at,
        use.address,
        use.at,
        use.agent,
        use.at,
        use.at,
        use.version_id,
    )
