"""The store a test's hub lives on: SQLite in the hub's folder, or with TEST_STORE=postgresql a database of its own.

Either is the copy of one that was migrated once in this process; the migrations have tests of their own. A database whose
test is over is emptied for another one: to make one takes ten times as long.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

import psycopg

from keyturn.storage.database import SqliteStore, open_store
from keyturn_lab.parts.postgres import PostgresCluster

TEMPLATE = "an_empty_store"
ON_POSTGRESQL = os.environ.get("TEST_STORE", "sqlite") == "postgresql"
_NUMBERS = count()
_TAKEN: dict[Path, str] = {}  # the database of each home
_FREE: list[str] = []


def url(home: Path) -> str:
    """The address for the hub in `home`; the same folder gives the same database."""
    if ON_POSTGRESQL:
        if home not in _TAKEN:
            _TAKEN[home] = _emptied() or _copied()
        return _cluster().dsn(_TAKEN[home])
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


def give_back(folder: Path) -> None:
    """The homes in this folder are gone."""
    gone = [home for home in _TAKEN if home.is_relative_to(folder)]
    _FREE.extend(_TAKEN.pop(home) for home in gone)


def _copied() -> str:
    name = f"hub_{next(_NUMBERS)}"
    _cluster().create_database(name, TEMPLATE)
    return name


def _emptied() -> str:
    """A database given back, like the template again; none, if there is none, or somebody is still in it."""
    while _FREE:
        name = _FREE.pop()
        with _cluster().connect(name) as there:
            others = there.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            if others == (0,):
                there.execute(_emptying())
                return name
    return ""


@cache
def _emptying() -> str:
    """The statements that leave in each table what the template has there. No trigger has a say."""
    said = ["SET session_replication_role = replica"]
    with _cluster().connect(TEMPLATE) as there:
        tables = there.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (table,) in tables:
            said.append(f"DELETE FROM {table}")
            (rows,) = there.execute(f"SELECT json_agg(t)::text FROM {table} t").fetchone() or (None,)
            if rows:
                text = psycopg.sql.quote(rows)
                said.append(
                    f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, {text})"
                )
        for (sequence,) in there.execute(
            "SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences"
        ):
            said.append(f"SELECT setval('{sequence}', 1, false)")
    return ";".join(said)
