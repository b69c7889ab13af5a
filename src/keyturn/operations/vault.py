"""The master key: which ones are loaded, and rewrapping everything under a newer one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keyturn.bootstrap import Keyturn, kek_source
from keyturn.operations import events
from keyturn.storage import sealed
from keyturn.storage.database import Tx
from keyturn.vault.keyring import Keyring

_BATCH = 500


@dataclass(frozen=True)
class Status:
    """Keys, newest first, with how many rows each wraps; `lost` are rows whose key is not loaded."""

    source: str
    keys: tuple[tuple[str, int], ...]
    lost: Mapping[str, int]


def status(hub: Keyturn) -> Status:
    """Which master keys are loaded and what they wrap."""
    counts = hub.store.read(sealed.counts)
    ids = hub.secrets.keyring.ids
    return Status(
        kek_source(hub.settings).name,
        tuple((key, counts.get(key, 0)) for key in ids),
        {key: n for key, n in counts.items() if key not in ids},
    )


def rotate_kek(
    hub: Keyturn,
    *,
    new_key: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    address: str = "",
) -> tuple[str, int]:
    """A newer master key, then every row rewrapped under it in batches: values are not touched, nothing stops.

    Called again after a crash it goes on where it was: with `new_key` False no further key is made. Returns the
    newest key's id and how many rows were rewrapped, which goes on record. Other processes find the new key at its source
    when they first need it.
    """
    source = kek_source(hub.settings)
    if new_key:
        source.add()
    ring = Keyring(source.load())
    hub.secrets.keyring = ring
    newest = ring.newest.id
    counts = hub.store.read(sealed.counts)
    total = sum(n for key, n in counts.items() if key != newest)
    done, after = 0, ""
    while True:
        batch = hub.store.read(lambda tx: sealed.wrapped_with_other(tx, newest, after, _BATCH))  # noqa: B023
        if not batch:
            said = "master_key_made" if new_key else "master_key_rewrapped"
            events.note(hub, said, by=hub.settings.actor, address=address, key=newest, rows=done)
            return newest, done
        after = batch[-1][0]
        fresh = [(row_id, old, ring.rewrap(old, row_id)) for row_id, old in batch]

        def work(tx: Tx, fresh: list[tuple[str, bytes, bytes]] = fresh) -> int:
            return sum(sealed.rewrap(tx, row_id, old, newest, body) for row_id, old, body in fresh)

        done += hub.store.write(work)
        progress(done, total)
