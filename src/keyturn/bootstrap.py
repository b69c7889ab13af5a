"""Wires settings, store, vault, catalogue, executor and engine. No logic."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from keyturn.catalog import Catalog
from keyturn.engine.embedded import Embedded, Engine
from keyturn.engine.sweep import Sweep, worker_name
from keyturn.errors import Conflict, VaultSealed
from keyturn.executor.executor import Executor
from keyturn.executor.hub import Hub
from keyturn.issued.book import IssuedBook
from keyturn.issued.capabilities import capabilities as issued_by
from keyturn.model.run import Debt
from keyturn.settings import Settings
from keyturn.storage.database import Store, open_store
from keyturn.vault import sources, spool
from keyturn.vault.envelope import Kek
from keyturn.vault.keyring import Keyring
from keyturn.vault.roots import ROOTS_IDENTITY, Roots, new_roots
from keyturn.vault.secrets import Secrets


@dataclass(frozen=True)
class Keyturn:
    """A wired hub: what every operation takes."""

    settings: Settings
    store: Store
    secrets: Secrets
    roots: Roots
    catalog: Catalog
    hub: Hub
    engine: Engine

    def close(self) -> None:
        """Ends threads and connections."""
        self.engine.stop()
        self.store.close()


def kek_source(settings: Settings) -> sources.KekSource:
    """Where master keys come from."""
    folder = str(settings.home)
    database = (
        settings.database.removeprefix("sqlite:///") if settings.database.startswith("sqlite:///") else None
    )
    return sources.parse(settings.kek, environ=settings.environment, config_dir=folder, database=database)


def open_hub(
    settings: Settings,
    *,
    create: bool = False,
    catalog: Catalog | None = None,
    try_debt: Callable[[Keyturn, Debt], object] | None = None,
    start_due: Callable[[Keyturn], object] | None = None,
    run_job: Callable[[Keyturn], bool] | None = None,
) -> Keyturn:
    """Opens the hub. `create` makes a master key and the root secret where there are none; `try_debt` is the use case
    that the sweep gives due debts to; `start_due` the one it calls for what the clock asks for; `run_job` runs one job
    that is due.

    Raises: VaultSealed when the master key is missing or wrong, StoreUnavailable when the database is.
    """
    source = kek_source(settings)
    Path(settings.home).mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # the spool lives there, whatever the store
    keyring = Keyring(_keys(source, create=create))
    store = open_store(settings.database)
    secrets = Secrets(store, keyring, reload=lambda: Keyring(source.load()))
    try:
        roots = _roots(secrets, create=create)
    except BaseException:
        store.close()
        raise
    if catalog is None:
        catalog = Catalog(lambda wanted: _definition(store, wanted))
    book = IssuedBook(store, roots)
    catalog.serve_inbound(lambda connection: issued_by(book, secrets, connection))

    def wake(run_id: str, at: float) -> None:
        engine.wake(run_id, at)

    def import_spool() -> None:
        sweep.import_spool()

    def attempt(debt: Debt) -> None:
        if try_debt is not None:
            try_debt(whole, debt)

    spool_path = str(settings.home / "spool")
    hub = Hub(
        store=store,
        secrets=secrets,
        rows=catalog,
        fingerprint=roots.fingerprint,
        clock=time.time,
        worker=worker_name(),
        network=settings.network,
        redirect_uri=f"{settings.public_url}/oauth/callback",
        patience=settings.patience,
        spool=spool_path,
        spool_name=spool.identify(spool_path) if store.dialect == "postgresql" else "",
        spool_key=roots.spool_public,
        import_spool=import_spool,
        wake=wake,
    )
    sweep = Sweep(
        store,
        secrets,
        time.time,
        hub.worker,
        wake=wake,
        spool=hub.spool,
        spool_name=hub.spool_name,
        spool_private=roots.spool_private,
        try_debt=attempt if try_debt is not None else None,
        start_due=(lambda: start_due(whole)) if start_due is not None else None,
        run_job=(lambda: run_job(whole)) if run_job is not None else None,
    )
    engine = _engine(settings, Executor(hub), store, sweep)
    whole = Keyturn(settings, store, secrets, roots, catalog, hub, engine)
    return whole


def _engine(settings: Settings, executor: Executor, store: Store, sweep: Sweep) -> Engine:
    """The queue where several workers share a PostgreSQL store and it is installed; else a loop over our own table."""
    if store.dialect == "postgresql" and find_spec("procrastinate") is not None:
        from keyturn.engine.queue import Queue

        return Queue(executor, store, time.time, settings.database, settings.workers, sweep=sweep)
    return Embedded(executor, store, time.time, settings.workers, sweep=sweep)


def _keys(source: sources.KekSource, *, create: bool) -> tuple[Kek, ...]:
    if create:
        with suppress(Conflict):  # there is a key already: a second `init` changes nothing
            source.create()
    return source.load()


def _roots(secrets: Secrets, *, create: bool) -> Roots:
    found = secrets.find(ROOTS_IDENTITY)
    if found is None:
        if not create:
            raise VaultSealed("this hub is not initialised", hint="Run `keyturn init`.")
        found = new_roots()
        secrets.store.write(secrets.sealing(ROOTS_IDENTITY, found, time.time()))
        found = secrets.get(ROOTS_IDENTITY)
    return Roots(found)


def _definition(store: Store, wanted: str) -> str | None:
    row = store.read(lambda tx: tx.one("SELECT text FROM definition WHERE hash = ?", wanted))
    return str(row[0]) if row else None
