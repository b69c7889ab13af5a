"""Rows of `holder`, `issued_seen`, `pickup` and `leak`: who has an issued credential, who uses it, how it was handed
over, and where it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.model.ids import ConnectionId, VersionId
from keyturn.storage.database import Row, Tx
from keyturn.storage.issued import Use

MOST_SEEN = 200  # callers told apart of one secret; later ones count under no address


@dataclass(frozen=True)
class Holder:
    """Somebody who was given an issued credential. `state` (told, opened, confirmed) holds for `version_id` alone."""

    id: str
    connection_id: ConnectionId
    name: str
    contact: str
    place: str
    state: str
    version_id: str
    changed_at: float
    changed_by: str


@dataclass(frozen=True)
class Seen:
    """A caller with one secret: from where, as what, and when."""

    version_id: VersionId
    address: str
    agent: str
    first_at: float
    last_at: float
    uses: int


@dataclass(frozen=True)
class Pickup:
    """A one-time link to a value. The code is nowhere; `digest` is keyed."""

    digest: str
    version_id: VersionId
    connection_id: ConnectionId
    holder: str
    made_by: str
    created_at: float
    until_at: float
    opened_at: float | None
    opened_from: str


@dataclass(frozen=True)
class Leak:
    """A report that a secret was seen where it does not belong."""

    id: str
    connection_id: ConnectionId
    version_id: str
    source: str
    url: str
    reported_by: str
    run_id: str
    was_live: bool
    reported_at: float


_HOLDER = "id, connection_id, name, contact, place, state, version_id, changed_at, changed_by"
_SEEN = "version_id, address, agent, first_at, last_at, uses"
_PICKUP = "digest, version_id, connection_id, holder, made_by, created_at, until_at, opened_at, opened_from"
_LEAK = "id, connection_id, version_id, source, url, reported_by, run_id, was_live, reported_at"


def _holder(row: Row) -> Holder:
    return Holder(row[0], ConnectionId(row[1]), *row[2:])


def put_holder(tx: Tx, holder: Holder) -> None:
    """Adds a holder, or changes what is known of one: its name stays."""
    tx.run(
        f"INSERT INTO holder ({_HOLDER}) VALUES (?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT (connection_id, name) DO UPDATE SET contact = excluded.contact, place = excluded.place,"
        " changed_at = excluded.changed_at, changed_by = excluded.changed_by",
        holder.id,
        holder.connection_id,
        holder.name,
        holder.contact,
        holder.place,
        holder.state,
        holder.version_id,
        holder.changed_at,
        holder.changed_by,
    )


def holders(tx: Tx, connection_id: ConnectionId) -> list[Holder]:
    """Who holds a credential, by name."""
    sql = f"SELECT {_HOLDER} FROM holder WHERE connection_id = ? ORDER BY name"
    return [_holder(row) for row in tx.all(sql, connection_id)]


def move_holder(
    tx: Tx, connection_id: ConnectionId, name: str, state: str, version_id: str, at: float, by: str
) -> bool:
    """Notes how far the hand-over of a version to a holder is; False when there is no such holder."""
    sql = (
        "UPDATE holder SET state = ?, version_id = ?, changed_at = ?, changed_by = ?"
        " WHERE connection_id = ? AND name = ?"
    )
    return 1 == tx.run(sql, state, version_id, at, by, connection_id, name)


def drop_holder(tx: Tx, connection_id: ConnectionId, name: str) -> bool:
    """Takes a holder off the register."""
    return 1 == tx.run("DELETE FROM holder WHERE connection_id = ? AND name = ?", connection_id, name)


def seen(tx: Tx, use: Use) -> None:
    """Adds batched uses of one caller."""
    update = "UPDATE issued_seen SET uses = uses + ?, last_at = CASE WHEN last_at < ? THEN ? ELSE last_at END WHERE"
    where = "version_id = ? AND address = ? AND agent = ?"
    key = (use.version_id, use.address, use.agent)
    if tx.run(f"{update} {where}", use.count, use.at, use.at, *key):
        return
    row = tx.one("SELECT COUNT(*) FROM issued_seen WHERE version_id = ?", use.version_id)
    if row and row[0] >= MOST_SEEN:
        key = (use.version_id, "", "(others)")
    tx.run(
        f"INSERT INTO issued_seen ({_SEEN}) VALUES (?,?,?,?,?,?) ON CONFLICT (version_id, address, agent)"
        " DO UPDATE SET uses = issued_seen.uses + excluded.uses, last_at = excluded.last_at",
        *key,
        use.at,
        use.at,
        use.count,
    )


def callers(tx: Tx, version_ids: Sequence[str], since: float) -> list[Seen]:
    """Who called with these secrets since then, the latest first."""
    if not version_ids:
        return []
    marks = ",".join("?" * len(version_ids))
    sql = (
        f"SELECT {_SEEN} FROM issued_seen WHERE version_id IN ({marks}) AND last_at > ? ORDER BY last_at DESC"
    )
    return [Seen(VersionId(row[0]), *row[1:]) for row in tx.all(sql, *version_ids, since)]


def _pickup(row: Row) -> Pickup:
    return Pickup(row[0], VersionId(row[1]), ConnectionId(row[2]), *row[3:])


def add_pickup(tx: Tx, pickup: Pickup) -> None:
    """Inserts a link."""
    tx.run(
        f"INSERT INTO pickup ({_PICKUP}) VALUES (?,?,?,?,?,?,?,?,?)",
        pickup.digest,
        pickup.version_id,
        pickup.connection_id,
        pickup.holder,
        pickup.made_by,
        pickup.created_at,
        pickup.until_at,
        pickup.opened_at,
        pickup.opened_from,
    )


def pickup(tx: Tx, digest: str) -> Pickup | None:
    """The link of this digest."""
    row = tx.one(f"SELECT {_PICKUP} FROM pickup WHERE digest = ?", digest)
    return _pickup(row) if row else None


def pickups(tx: Tx, version_id: VersionId) -> list[Pickup]:
    """The links to a version's value, newest first."""
    sql = f"SELECT {_PICKUP} FROM pickup WHERE version_id = ? ORDER BY created_at DESC"
    return [_pickup(row) for row in tx.all(sql, version_id)]


def open_pickup(tx: Tx, digest: str, at: float, address: str) -> bool:
    """Opens a link; True for the one caller who is first and in time."""
    return 1 == tx.run(
        "UPDATE pickup SET opened_at = ?, opened_from = ? WHERE digest = ? AND opened_at IS NULL AND until_at > ?",
        at,
        address,
        digest,
        at,
    )


def void_pickup(tx: Tx, digest: str, at: float) -> None:
    """Ends a link that nobody opened."""
    tx.run("UPDATE pickup SET until_at = ? WHERE digest = ? AND opened_at IS NULL", at, digest)


def add_leak(tx: Tx, leak: Leak) -> bool:
    """Inserts a report; False when the same secret was reported from the same place before."""
    done = tx.run(
        f"INSERT INTO leak ({_LEAK}) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (version_id, source, url) DO NOTHING",
        leak.id,
        leak.connection_id,
        leak.version_id,
        leak.source,
        leak.url,
        leak.reported_by,
        leak.run_id,
        int(leak.was_live),
        leak.reported_at,
    )
    return done == 1


def leaks(tx: Tx, limit: int) -> list[Leak]:
    """The latest reports, newest first."""
    rows = tx.all(f"SELECT {_LEAK} FROM leak ORDER BY reported_at DESC, id DESC LIMIT ?", limit)
    return [
        Leak(row[0], ConnectionId(row[1]), row[2], row[3], row[4], row[5], row[6], bool(row[7]), row[8])
        for row in rows
    ]
