"""Rows of `spool_empty`: when each host last found its own spool empty, for the hosts that cannot look there."""

from __future__ import annotations

from keyturn.model.run import RunState
from keyturn.storage.database import Tx


def empty_at(tx: Tx, spool: str) -> float:
    """When that spool was last seen empty; 0 when it never was."""
    row = tx.one("SELECT at FROM spool_empty WHERE spool = ?", spool)
    return float(row[0]) if row else 0.0


def note_empty(tx: Tx, spool: str, at: float) -> None:
    """Says that it is empty."""
    tx.run(
        "INSERT INTO spool_empty (spool, at) VALUES (?,?) ON CONFLICT (spool) DO UPDATE SET at = excluded.at",
        spool,
        at,
    )


def is_asked(tx: Tx) -> bool:
    """Whether some run finds out what became of a call, and may want to know."""
    return tx.one("SELECT 1 FROM run WHERE state = ?", RunState.RESOLVING.value) is not None
