"""Rows of `version`: the only place that says which credential is current."""

from __future__ import annotations

from keyturn.model.credential import Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_COLUMNS = "id, connection_id, principal_id, number, state, ref, fingerprint, provenance, born_at, expires_at, changed_at"


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
    )


def add(tx: Tx, version: Version) -> None:
    """Inserts a version."""
    tx.run(
        f"INSERT INTO version ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
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
    )


def next_number(tx: Tx, connection_id: ConnectionId) -> int:
    """One more than the highest number of the connection."""
    row = tx.one("SELECT MAX(number) FROM version WHERE connection_id = ?", connection_id)
    return 1 + ((row[0] or 0) if row else 0)


def by_id(tx: Tx, version_id: VersionId) -> Version | None:
    """The version of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM version WHERE id = ?", version_id)
    return _read(row) if row else None


def of_connection(tx: Tx, connection_id: ConnectionId) -> list[Version]:
    """All versions, newest first."""
    sql = f"SELECT {_COLUMNS} FROM version WHERE connection_id = ? ORDER BY number DESC"
    return [_read(row) for row in tx.all(sql, connection_id)]


def on_principal(tx: Tx, principal_id: PrincipalId) -> list[Version]:
    """All versions of every connection that shares the remote identity: the ledger of P4."""
    return [_read(r) for r in tx.all(f"SELECT {_COLUMNS} FROM version WHERE principal_id = ?", principal_id)]


def by_fingerprint(tx: Tx, fingerprint: str) -> list[Version]:
    """Versions whose value has this keyed fingerprint: reuse, and leaked values recognised."""
    return [
        _read(row) for row in tx.all(f"SELECT {_COLUMNS} FROM version WHERE fingerprint = ?", fingerprint)
    ]


def move(tx: Tx, version_id: VersionId, state: State, at: float) -> None:
    """Changes a version's state, the one thing about it that may change."""
    tx.run("UPDATE version SET state = ?, changed_at = ? WHERE id = ?", state.value, at, version_id)
