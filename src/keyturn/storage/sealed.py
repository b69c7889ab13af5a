"""Rows of `sealed`: ciphertext only, one row each, destroyable without touching the journal."""

from __future__ import annotations

from keyturn.storage.database import Tx


def put(tx: Tx, row_id: str, kek_id: str, body: bytes, at: float) -> None:
    """Stores ciphertext under an id; the same id again replaces it."""
    tx.run(
        "INSERT INTO sealed (id, kek_id, body, created_at) VALUES (?,?,?,?)"
        " ON CONFLICT (id) DO UPDATE SET kek_id = excluded.kek_id, body = excluded.body, created_at = excluded.created_at",
        row_id,
        kek_id,
        body,
        at,
    )


def get(tx: Tx, row_id: str) -> bytes | None:
    """The ciphertext of an id."""
    row = tx.one("SELECT body FROM sealed WHERE id = ?", row_id)
    return bytes(row[0]) if row else None


def some(tx: Tx, *row_ids: str) -> dict[str, bytes]:
    """The ciphertexts of some ids; those that there are."""
    marks = ",".join("?" * len(row_ids))
    rows = tx.all(f"SELECT id, body FROM sealed WHERE id IN ({marks})", *row_ids)
    return {row[0]: bytes(row[1]) for row in rows}


def destroy(tx: Tx, row_id: str) -> None:
    """Removes ciphertext and its wrapped data key together: nothing can open it again."""
    tx.run("DELETE FROM sealed WHERE id = ?", row_id)


def destroy_all(tx: Tx, prefix: str) -> None:
    """Removes every row whose id begins with `prefix` (plain letters, digits, `_` and `:`)."""
    tx.run("DELETE FROM sealed WHERE id >= ? AND id < ?", prefix, prefix + "~")


def destroy_later(tx: Tx, row_id: str, at: float) -> None:
    """Plans the destruction."""
    tx.run("UPDATE sealed SET destroy_at = ? WHERE id = ?", at, row_id)


def destroy_due(tx: Tx, now: float) -> int:
    """Carries out planned destructions."""
    return tx.run("DELETE FROM sealed WHERE destroy_at IS NOT NULL AND destroy_at <= ?", now)


def wrapped_with_other(tx: Tx, kek_id: str, after: str, limit: int) -> list[tuple[str, bytes]]:
    """Rows not sealed under this KEK, in order of id, for rewrapping in batches."""
    rows = tx.all(
        "SELECT id, body FROM sealed WHERE kek_id <> ? AND id > ? ORDER BY id LIMIT ?", kek_id, after, limit
    )
    return [(row[0], bytes(row[1])) for row in rows]


def rewrap(tx: Tx, row_id: str, old: bytes, kek_id: str, body: bytes) -> bool:
    """Replaces a row's wrapping if it is still what was read."""
    return 1 == tx.run(
        "UPDATE sealed SET kek_id = ?, body = ? WHERE id = ? AND body = ?", kek_id, body, row_id, old
    )


def counts(tx: Tx) -> dict[str, int]:
    """How many rows each KEK wraps."""
    return {row[0]: row[1] for row in tx.all("SELECT kek_id, COUNT(*) FROM sealed GROUP BY kek_id")}
