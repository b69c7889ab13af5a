"""Rows of `connection`."""

from __future__ import annotations

from typing import Any

from keyturn.model.credential import Connection, ConnectionState
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = (
    "id, name, system, method, settings, principal_id, owner, policy, identity, state, generation,"
    " current_version_id, definition_hash, created_at"
)


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


def by_name(tx: Tx, name: str) -> Connection | None:
    """The connection of this name."""
    row = tx.one(f"SELECT {_COLUMNS} FROM connection WHERE name = ?", name)
    return _read(row) if row else None


def every(tx: Tx) -> list[Connection]:
    """All connections by name."""
    return [_read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM connection ORDER BY name")]


def page(tx: Tx, after: str, limit: int) -> list[Connection]:
    """The connections whose names follow `after`, by name."""
    sql = f"SELECT {_COLUMNS} FROM connection WHERE name > ? ORDER BY name LIMIT ?"
    return [_read(row) for row in tx.all(sql, after, limit)]


def automatic(tx: Tx) -> list[Connection]:
    """Active connections whose policy lets the clock rotate them, and that have no run and no rotation that waits."""
    sql = (
        f"SELECT {_COLUMNS} FROM connection c WHERE state = ? AND policy LIKE ? AND NOT EXISTS"
        " (SELECT 1 FROM run r WHERE r.connection_id = c.id AND r.ended_at IS NULL"
        " AND (r.state <> 'waiting_approval' OR r.goal = 'rotate'))"
    )
    return [_read(row) for row in tx.all(sql, ConnectionState.ACTIVE.value, '%"automatic":true%')]


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


def flip(tx: Tx, connection: Connection, to: VersionId) -> bool:
    """Points the connection at another version: compare-and-swap on the generation. False: somebody was faster."""
    return 1 == tx.run(
        "UPDATE connection SET current_version_id = ?, generation = generation + 1 WHERE id = ? AND generation = ?",
        to,
        connection.id,
        connection.generation,
    )


def change(tx: Tx, connection_id: ConnectionId, **columns: Any) -> None:
    """Sets columns; mappings are stored as JSON."""
    names = ", ".join(f"{name} = ?" for name in columns)
    values = [dump(value) if isinstance(value, dict) else value for value in columns.values()]
    tx.run(f"UPDATE connection SET {names} WHERE id = ?", *values, connection_id)
