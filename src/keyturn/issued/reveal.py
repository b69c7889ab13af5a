"""A fresh value, kept sealed for ten minutes so that whoever asked for it may look again. Then only its digest is left."""

from __future__ import annotations

from keyturn.storage import sealed
from keyturn.storage.database import Tx
from keyturn.vault.secrets import Secrets

REVEAL_S = 600.0


def reveal_row(digest: str) -> str:
    """Where a fresh value is, apart from its version's row: that one never holds the value at all."""
    return f"reveal:{digest}"


def keep(secrets: Secrets, digest: str, value: str, now: float) -> None:
    """Seals the value and plans its destruction in the same commit."""
    row = reveal_row(digest)
    put = secrets.sealing(row, value.encode(), now)

    def work(tx: Tx) -> None:
        put(tx)
        sealed.destroy_later(tx, row, now + REVEAL_S)

    secrets.store.write(work)


def prolong(tx: Tx, digest: str, now: float) -> bool:
    """Starts the ten minutes anew; False when the value is gone."""
    row = reveal_row(digest)
    if sealed.get(tx, row) is None:
        return False
    sealed.destroy_later(tx, row, now + REVEAL_S)
    return True


def find(secrets: Secrets, digest: str, now: float) -> str | None:
    """The value while its ten minutes last, also when no sweep has come by since."""
    row = reveal_row(digest)
    due = secrets.store.read(lambda tx: tx.one("SELECT destroy_at FROM sealed WHERE id = ?", row))
    if due is None or due[0] is None or due[0] <= now:
        return None
    found = secrets.find(row)
    return None if found is None else found.decode()


def destroy(tx: Tx, digest: str) -> None:
    """Ends the ten minutes now."""
    sealed.destroy(tx, reveal_row(digest))
