"""The store a test's hub lives on: SQLite in the hub's folder, or with TEST_STORE=postgresql a database of its own."""

from __future__ import annotations

import atexit
import hashlib
import os
from functools import cache
from pathlib import Path

from keyturn_lab.parts.postgres import PostgresCluster

ON_POSTGRESQL = os.environ.get("TEST_STORE", "sqlite") == "postgresql"


def url(home: Path) -> str:
    """The address for the hub in `home`; the same folder gives the same database."""
    if ON_POSTGRESQL:
        return _database("hub_" + hashlib.sha256(str(home).encode()).hexdigest()[:16])
    return f"sqlite:///{home / 'keyturn.db'}"


@cache
def _cluster() -> PostgresCluster:
    made = PostgresCluster(options={"log_statement": "none"}, max_connections=200).start()
    atexit.register(made.stop)
    return made


@cache
def _database(name: str) -> str:
    return _cluster().create_database(name)
