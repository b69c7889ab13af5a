"""Rows of `version`: the only place that says which credential is current."""

from __future__ import annotations

from collections.abc import Collection
from typing import overload

from keyturn.model.credential import CANDIDATE, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = "id, connection_id, principal_id, number, state, ref, fingerprint, provenance, born_at, expires_at, changed_at, method, refresh_at"
_FULL = ", ".join(f"v.{name}" for name in _COLUMNS.split(", "))


def _read(row: Row) -> Version:
    return Version(
        id=VersionId(row[0]),
        connection_id=ConnectionId(row[1]),
        principal_id=PrincipalId(row[2]),
        number=row[3],
        state=State(row[4]),
        ref=Ref.from_json(load(row[5])),
        fingerprint=row[6],
        provenance=Provenance(row[7]),
        born_at=row[8],
        expires_at=row[9],
        changed_at=row[10],
        method=row[11],
        refresh_at=row[12],
    )


def add(tx: Tx, version: Version) -> None:
    """Inserts a version."""
    tx.run(
        f"INSERT INTO version ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        version.id,
        version.connection_id,
        version.principal_id,
        version.number,
        version.state.value,
        dump(version.ref.as_json()),
        version.fingerprint,
        version.provenance.value,
        version.born_at,
        version.expires_at,
        version.changed_at,
        version.method,
        version.refresh_at,
    )


def to_refresh(tx: Tx, now: float, limit: int) -> list[Version]:
    """Versions that serve, whose token should be replaced by now, of connections without a run; most urgent first."""
    rows = tx.all(
        f"SELECT {_FULL} FROM version v CROSS JOIN connection c"  # those few versions first, on SQLite too
        " WHERE v.refresh_at <= ? AND v.refresh_at IS NOT NULL AND c.id = v.connection_id"
        " AND c.current_version_id = v.id AND NOT EXISTS"
        " (SELECT 1 FROM run r WHERE r.connection_id = c.id AND r.ended_at IS NULL AND r.state <> 'waiting_approval')"
        " ORDER BY v.refresh_at LIMIT ?",
        now,
        limit,
    )
    return [_read(row) for row in rows]


def mark_method(tx: Tx, connection_id: ConnectionId, method: str) -> None:
    """Before a connection gets values of another method: which one those it has are of."""
    tx.run("UPDATE version SET method = ? WHERE connection_id = ? AND method = ''", method, connection_id)


def by_id(tx: Tx, version_id: VersionId) -> Version | None:
    """The version of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM version WHERE id = ?", version_id)
    return _read(row) if row else None


def by_ids(tx: Tx, ids: Collection[VersionId]) -> list[Version]:
    """Some versions."""
    marks = ",".join("?" * len(ids))
    rows = tx.all(f"SELECT {_COLUMNS} FROM version WHERE id IN ({marks})", *ids) if ids else []
    return [_read(row) for row in rows]


def of_connection(tx: Tx, connection_id: ConnectionId) -> list[Version]:
    """All versions, newest first."""
    sql = f"SELECT {_COLUMNS} FROM version WHERE connection_id = ? ORDER BY number DESC"
    return [_read(row) for row in tx.all(sql, connection_id)]


_NOT_DEAD = tuple(state.value for state in State if state is not State.DEAD)


def in_play(
    tx: Tx, connection_id: ConnectionId, named: Collection[str | None] = (), *, latest: int = 1
) -> list[Version]:
    """What a run goes by, however many values the connection has had: the versions that are not dead, the `latest` of all,
    and those named; newest first."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM version WHERE"
        f" (connection_id = ? AND state IN ({','.join('?' * len(_NOT_DEAD))}))"
        " OR (connection_id = ? AND number > (SELECT MAX(number) FROM version WHERE connection_id = ?) - ?)"
        f" OR id IN ({','.join('?' * len(named)) or 'NULL'}) ORDER BY number DESC",
        connection_id,
        *_NOT_DEAD,
        connection_id,
        connection_id,
        latest,
        *named,
    )
    return [_read(row) for row in rows]


def unspent_of(tx: Tx, ids: Collection[str]) -> dict[str, list[Version]]:
    """The versions of some connections that are neither dead nor refused, newest first: the few that matter now."""
    some, unspent = sorted(set(ids)), [s.value for s in State if s not in {State.DEAD, State.REFUSED}]
    found: dict[str, list[Version]] = {each: [] for each in some}
    if some:
        rows = tx.all(
            f"SELECT {_COLUMNS} FROM version WHERE connection_id IN ({','.join('?' * len(some))})"
            f" AND state IN ({','.join('?' * len(unspent))}) ORDER BY number DESC",
            *some,
            *unspent,
        )
        for row in rows:
            found[row[1]].append(_read(row))
    return found


def candidates(tx: Tx, connection_id: ConnectionId) -> list[Version]:
    """Versions of our own making that may become current, newest first."""
    marks = ",".join("?" for _ in CANDIDATE)
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM version WHERE connection_id = ? AND state IN ({marks}) AND provenance = ?"
        " ORDER BY number DESC",
        connection_id,
        *(state.value for state in CANDIDATE),
        Provenance.OURS.value,
    )
    return [_read(row) for row in rows]


def on_principal(tx: Tx, principal_id: PrincipalId) -> list[Version]:
    """All versions of every connection that shares the remote identity: the ledger of P4."""
    return [_read(r) for r in tx.all(f"SELECT {_COLUMNS} FROM version WHERE principal_id = ?", principal_id)]


def by_fingerprint(tx: Tx, fingerprint: str) -> list[Version]:
    """Versions whose value has this keyed fingerprint: reuse, and leaked values recognised."""
    return [
        _read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM version WHERE fingerprint = ?", fingerprint)
    ]


@overload
def move(tx: Tx, version_id: VersionId, state: State, at: float) -> None: ...
@overload
def move(tx: Tx, version_id: VersionId, state: State, at: float, only_from: Collection[State]) -> bool: ...
def move(
    tx: Tx, version_id: VersionId, state: State, at: float, only_from: Collection[State] = ()
) -> bool | None:
    """Changes a version's state, the one thing about it that may change. False when it is in none of `only_from`, where
    that is given."""
    only = f" AND state IN ({','.join('?' for _ in only_from)})" if only_from else ""
    return 1 == tx.run(
        f"UPDATE version SET state = ?, changed_at = ? WHERE id = ?{only}",
        state.value,
        at,
        version_id,
        *(each.value for each in only_from),
    )
