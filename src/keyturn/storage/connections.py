"""Rows of `connection`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from keyturn.model.credential import Connection, ConnectionState
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = (
    "id, name, system, method, settings, principal_id, owner, policy, identity, state, generation,"
    " current_version_id, definition_hash, created_at"
)

_ALL = 1 << 40  # a limit that is none


def _read(row: Row) -> Connection:
    return Connection(
        id=ConnectionId(row[0]),
        name=row[1],
        system=row[2],
        method=row[3],
        settings=load(row[4]),
        principal_id=PrincipalId(row[5]),
        owner=row[6],
        policy=load(row[7]),
        identity=load(row[8]),
        state=ConnectionState(row[9]),
        generation=row[10],
        current_version_id=VersionId(row[11]) if row[11] else None,
        definition_hash=row[12],
        created_at=row[13],
    )


def add(tx: Tx, connection: Connection) -> bool:
    """Inserts a connection with an empty journal. False when the name is taken."""
    return 1 == tx.run(
        f"INSERT INTO connection ({_COLUMNS}, journal_count, journal_hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,'')"
        " ON CONFLICT (name) DO NOTHING",
        connection.id,
        connection.name,
        connection.system,
        connection.method,
        dump(dict(connection.settings)),
        connection.principal_id,
        connection.owner,
        dump(dict(connection.policy)),
        dump(dict(connection.identity)),
        connection.state.value,
        connection.generation,
        connection.current_version_id,
        connection.definition_hash,
        connection.created_at,
    )


def by_id(tx: Tx, connection_id: ConnectionId) -> Connection | None:
    """The connection of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM connection WHERE id = ?", connection_id)
    return _read(row) if row else None


def locked(tx: Tx, name: str) -> Connection | None:
    """The connection of this name or id, which nobody else changes until the commit, and neither its principal.

    Principals are locked before connections, everywhere.
    """
    whose = "SELECT principal_id FROM connection WHERE name = ? OR id = ?"
    tx.hold(f"SELECT epoch FROM principal WHERE id IN ({whose})", name, name)
    sql = f"SELECT {_COLUMNS} FROM connection WHERE "
    row = tx.lock(sql + "name = ?", name) or tx.lock(sql + "id = ?", name)
    return _read(row) if row else None


def by_name_or_id(tx: Tx, name: str) -> Connection | None:
    """The connection of this name, else of this id."""
    return by_name(tx, name) or by_id(tx, ConnectionId(name))


def by_ids(tx: Tx, ids: Collection[str]) -> dict[str, Connection]:
    """Some connections by id."""
    some = sorted(set(ids))
    marks = ",".join("?" * len(some))
    rows = tx.all(f"SELECT {_COLUMNS} FROM connection WHERE id IN ({marks})", *some) if some else []
    return {str(row[0]): _read(row) for row in rows}


def by_name(tx: Tx, name: str) -> Connection | None:
    """The connection of this name."""
    row = tx.one(f"SELECT {_COLUMNS} FROM connection WHERE name = ?", name)
    return _read(row) if row else None


def of_system(tx: Tx, system: str) -> list[Connection]:
    """All connections to one system, by name."""
    return [
        _read(row)
        for row in tx.all(f"SELECT {_COLUMNS} FROM connection WHERE system = ? ORDER BY name", system)
    ]


def every(tx: Tx) -> list[Connection]:
    """All connections by name."""
    return [_read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM connection ORDER BY name")]


def of_own_definitions(tx: Tx) -> list[tuple[str, str]]:
    """(hash of the definition, name) of those that are described by a definition of one's own, by name."""
    rows = tx.all("SELECT definition_hash, name FROM connection WHERE definition_hash <> '' ORDER BY name")
    return [(str(row[0]), str(row[1])) for row in rows]


def of_rows(
    tx: Tx,
    rows: Collection[tuple[str, str]],
    *,
    projects: frozenset[str] | None = None,
    after: str = "",
    limit: int | None = None,
) -> list[Connection]:
    """The connections of some (system, method), by name behind `after`; only those of some projects when given."""
    where = " OR ".join(["(system = ? AND method = ?)"] * len(rows)) or "1 = 0"
    values: list[Any] = [value for row in sorted(rows) for value in row]
    if projects is not None:
        where = f"({where}) AND project IN ({','.join('?' * len(projects)) or 'NULL'})"
        values += sorted(projects)
    sql = f"SELECT {_COLUMNS} FROM connection WHERE ({where}) AND name > ? ORDER BY name LIMIT ?"
    return [_read(row) for row in tx.all(sql, *values, after, _ALL if limit is None else limit)]


def page(tx: Tx, after: str, limit: int) -> list[Connection]:
    """The connections whose names follow `after`, by name."""
    sql = f"SELECT {_COLUMNS} FROM connection WHERE name > ? ORDER BY name LIMIT ?"
    return [_read(row) for row in tx.all(sql, after, limit)]


def to_rotate(tx: Tx, now: float, begun: tuple[str, str], limit: int) -> list[Connection]:
    """Active connections that the clock should rotate by now, most urgent first: with no run, no rotation that waits, and
    none whose trigger is `begun` around the id of the version that serves: that was begun, and ended badly. `rotate_at` is
    kept by triggers (migration 0021)."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM connection c WHERE c.rotate_at IS NOT NULL AND c.rotate_at <= ? AND c.state = ?"
        " AND NOT EXISTS (SELECT 1 FROM run r WHERE r.connection_id = c.id AND r.ended_at IS NULL"
        " AND (r.state <> 'waiting_approval' OR r.goal = 'rotate'))"
        " AND NOT EXISTS (SELECT 1 FROM run r WHERE r.connection_id = c.id"
        " AND r.trigger_key = CAST(? AS TEXT) || c.current_version_id || CAST(? AS TEXT))"
        " ORDER BY c.rotate_at LIMIT ?",
        now,
        ConnectionState.ACTIVE.value,
        *begun,
        limit,
    )
    return [_read(row) for row in rows]


class Around(NamedTuple):
    """What there is besides a connection: an administrator's credential, others of its account, jobs, sources."""

    admin: bool
    siblings: bool
    jobs: bool
    sources: bool


def around(tx: Tx, connection: Connection, admin_row: str) -> Around:
    """Asked in one trip, so that only what is there is read: most connections have little of it. `admin_row` is where an
    administrator's credential would be sealed."""
    row = tx.one(
        "SELECT EXISTS (SELECT 1 FROM sealed WHERE id = ?),"
        " EXISTS (SELECT 1 FROM connection WHERE principal_id = ? AND id <> ?),"
        " EXISTS (SELECT 1 FROM job WHERE connection_id = ?),"
        " EXISTS (SELECT 1 FROM source WHERE connection_id = ?)",
        admin_row,
        connection.principal_id,
        connection.id,
        connection.id,
        connection.id,
    )
    return Around(*map(bool, row or ()))


def siblings(tx: Tx, connection: Connection) -> list[Connection]:
    """The other connections that share its remote identity."""
    sql = f"SELECT {_COLUMNS} FROM connection WHERE principal_id = ? AND id <> ? ORDER BY name"
    return [_read(row) for row in tx.all(sql, connection.principal_id, connection.id)]


def identities(tx: Tx, start: str) -> list[tuple[str, str]]:
    """Name and remote identity of every connection that has one which begins with `start`, and holds a credential."""
    sql = (
        "SELECT c.name, p.identity FROM connection c JOIN principal p ON p.id = c.principal_id"
        " WHERE substr(p.identity, 1, ?) = ? AND c.state NOT IN (?, ?) ORDER BY c.name"
    )
    gone = (ConnectionState.DISCONNECTED.value, ConnectionState.REVOKED.value)
    return [(row[0], row[1]) for row in tx.all(sql, len(start), start, *gone)]


def flip(tx: Tx, connection: Connection, to: VersionId) -> tuple[ConnectionState, str] | None:
    """Points the connection at another version: compare-and-swap on the generation. Its state and method; None: somebody
    was faster."""
    row = tx.one(
        "UPDATE connection SET current_version_id = ?, generation = generation + 1"
        " WHERE id = ? AND generation = ? RETURNING state, method",
        to,
        connection.id,
        connection.generation,
    )
    return (ConnectionState(row[0]), str(row[1])) if row else None


def change(tx: Tx, connection_id: ConnectionId, **columns: Any) -> None:
    """Sets columns; mappings are stored as JSON."""
    names = ", ".join(f"{name} = ?" for name in columns)
    values = [dump(value) if isinstance(value, dict) else value for value in columns.values()]
    tx.run(f"UPDATE connection SET {names} WHERE id = ?", *values, connection_id)
