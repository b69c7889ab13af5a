"""The store a test's hub lives on: SQLite in the hub's folder, or with TEST_STORE=postgresql a database of its own.

Either is the copy of one that was migrated once in this process; the migrations have tests of their own.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from keyturn.storage.database import SqliteStore, open_store
from keyturn_lab.parts.postgres import PostgresCluster

TEMPLATE = "an_empty_store"
ON_POSTGRESQL = os.environ.get("TEST_STORE", "sqlite") == "postgresql"


def url(home: Path) -> str:
    """The address for the hub in `home`; the same folder gives the same database."""
    if ON_POSTGRESQL:
        return _database("hub_" + hashlib.sha256(str(home).encode()).hexdigest()[:16])
    path = home / "keyturn.db"
    if not path.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(_migrated())
    return f"sqlite:///{path}"


@cache
def _migrated() -> bytes:
    """An empty store's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keyturn.db"
        SqliteStore(path).close()
        return path.read_bytes()


@cache
def _cluster() -> PostgresCluster:
    made = PostgresCluster(options={"log_statement": "none"}, max_connections=200).start()
    atexit.register(made.stop)
    make_template(made)
    return made


def make_template(cluster: PostgresCluster) -> None:
    """An empty store's database, with the queue's tables."""
    import procrastinate

    from keyturn.engine import queue

    address = cluster.create_database(TEMPLATE)
    open_store(address).close()
    connector = procrastinate.SyncPsycopgConnector(
        conninfo=address, kwargs={"options": f"-c search_path={queue.schema_name()}"}
    )
    with procrastinate.App(connector=connector).open():
        queue.apply_schema(connector)


@cache
def _database(name: str) -> str:
    return _cluster().create_database(name, TEMPLATE)
