"""The hub itself: making it, finding its database, and working until told to stop."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keyturn.bootstrap import Keyturn, kek_source, open_hub
from keyturn.catalog import Catalog
from keyturn.engine import worker
from keyturn.errors import NotFound, StoreUnavailable, VaultSealed
from keyturn.operations.notices import Herald
from keyturn.settings import Settings
from keyturn.storage import copies, sealed
from keyturn.storage.database import open_store
from keyturn.vault.roots import ROOTS_IDENTITY


@dataclass(frozen=True)
class Initialised:
    """Where everything is. `made_key` and `made_hub` are False when it was there before."""

    home: Path
    database: str
    key_source: str
    key_id: str
    made_key: bool
    made_hub: bool


def init(settings: Settings, catalog: Catalog | None = None) -> Initialised:
    """Makes home, master key and database where they are missing. Called twice, it changes nothing.

    Raises: VaultSealed when a database is there and its master key is not: a new key would open nothing.
    """
    source = kek_source(settings)
    had_key = bool(source.shelf.read())
    held = _held(settings)
    if held and not had_key:
        raise VaultSealed(
            f"{shown(settings.database)} holds a hub that is sealed under {', '.join(held)}, and there is no key at {source.name}",
            hint="Restore that key from its backup; a new one opens nothing. Nothing was changed.",
            source=source.name,
        )
    hub = open_hub(settings, create=True, catalog=catalog)
    try:
        return Initialised(
            settings.home,
            shown(settings.database),
            source.name,
            hub.secrets.keyring.newest.id,
            made_key=not had_key,
            made_hub=not held,
        )
    finally:
        hub.close()


def _held(settings: Settings) -> list[str]:
    """The ids of the keys that a hub in this database is sealed under; empty when there is no hub in it yet."""
    path = sqlite_path(settings)
    if path is not None:
        return list(copies.key_ids(path)) if is_hub(path) else []
    store = open_store(settings.database)
    try:
        return sorted(store.read(sealed.counts))
    finally:
        store.close()


def is_hub(path: Path) -> bool:
    """Whether the file is a database with our root secret in it. Creates nothing."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with suppress(StoreUnavailable):
        return copies.sealed_body(path, ROOTS_IDENTITY) is not None
    return False


def require_initialised(settings: Settings) -> None:
    """Raises: NotFound before `keyturn init`, so that no other command makes an empty database by accident."""
    path = sqlite_path(settings)
    if path is not None and not path.exists():
        raise NotFound(
            f"there is no hub at {path}",
            hint="Run `keyturn init`, or set KEYTURN_HOME or KEYTURN_DATABASE to where it is.",
            field="KEYTURN_DATABASE",
        )


def shown(url: str) -> str:
    """A database URL without its password."""
    head, at, tail = url.rpartition("@")
    if not at or "://" not in head:
        return url.partition("?")[0]
    scheme, _, login = head.partition("://")
    return f"{scheme}://{login.partition(':')[0]}@{tail.partition('?')[0]}"


def sqlite_path(settings: Settings) -> Path | None:
    """The database file; None on PostgreSQL."""
    prefix = "sqlite:///"
    return Path(settings.database.removeprefix(prefix)) if settings.database.startswith(prefix) else None


def work(hub: Keyturn) -> bool:
    """Advances runs, and tells whoever wants to be told, until SIGTERM or SIGINT; then lets the runs in flight come to rest.
    False when they did not in time."""
    herald = Herald(hub)
    herald.start()
    try:
        return worker.run(hub)
    finally:
        herald.stop()
