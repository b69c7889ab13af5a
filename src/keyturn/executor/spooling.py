"""The last resort for an answer that cannot be asked for again: a sealed spool file beside the database."""

from __future__ import annotations

from keyturn import boundary
from keyturn.executor.hub import Hub
from keyturn.vault import spool


def spool_receipt(hub: Hub, row_id: str, raw: bytes) -> None:
    """Appends the answer, sealed to the hub's public key, and syncs it. No unlock and no database needed."""
    if hub.spool:
        boundary.reach("spool:before")
        spool.append(hub.spool, hub.spool_key, row_id, raw)
        boundary.reach("spool:after")
