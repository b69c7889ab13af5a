"""The queue carries hints: nothing secret, nothing that matters when it is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate import SyncPsycopgConnector

from keyturn.bootstrap import Keyturn
from keyturn.engine import queue
from keyturn.engine.embedded import no_seat
from keyturn.model.plan import Goal
from keyturn.operations import runs
from keyturn.storage import runs as rows
from tests.engine import noop
from tests.engine.conftest import open_noop

pytestmark = pytest.mark.postgres
SCHEMA = queue.schema_name()


@pytest.fixture
def kind() -> str:
    return "queue"


def jobs(hub: Keyturn, columns: str = "queueing_lock") -> list[Any]:
    sql = f"SELECT {columns} FROM {SCHEMA}.procrastinate_jobs ORDER BY id"
    return [row[0] if len(row) == 1 else tuple(row) for row in hub.store.read(lambda tx: tx.all(sql))]


def change(hub: Keyturn, sql: str) -> None:
    """As an operator would; the queue's triggers want its search path."""
    hub.store.write(lambda tx: (tx.run(f"SET LOCAL search_path TO {SCHEMA}"), tx.run(sql)))


def test_a_row_holds_the_id_and_nothing_else(hub: Keyturn) -> None:
    """No secret, no plan, no name in the queue."""
    (name,) = noop.connect(hub, 1)
    run = runs.start(hub, name, Goal.ROTATE)
    assert jobs(hub, "task_name, args") == [("keyturn.advance", {"run_id": run.id})]


def test_the_same_hint_twice_is_one_row(hub: Keyturn) -> None:
    """A far wait does not keep an immediate wake out, and neither is doubled."""
    later = time.time() + 3600
    for at in (later, 0.0, later, 0.0):
        hub.engine.wake("run_one", at)
    assert jobs(hub) == [f"run_one@{later:.0f}", "run_one"]
    assert [each is None for each in jobs(hub, "scheduled_at")] == [False, True]


def test_losing_every_row_loses_nothing(hub: Keyturn) -> None:
    """Runs whose rows are gone are found due in our own table and done, while hints go on working."""
    names = noop.connect(hub, 10)
    for name in names:
        runs.start(hub, name, Goal.ROTATE)
    change(hub, "DELETE FROM procrastinate_jobs")
    hub.engine.start()
    assert hub.engine.run_until(lambda: hub.store.read(rows.unfinished) == 0, 20)


def test_losing_the_whole_queue_loses_nothing(hub: Keyturn, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its schema dropped under a running worker, runs are still done."""
    names = noop.connect(hub, 4)
    monkeypatch.setattr(hub.engine._pool, "seat", no_seat)
    runs.start(hub, names[0], Goal.ROTATE)
    hub.engine.start()
    assert hub.engine.run_until(lambda: hub.store.read(rows.unfinished) == 0, 20)
    hub.store.write(lambda tx: tx.run(f"DROP SCHEMA {SCHEMA} CASCADE"))
    for name in names[1:]:
        runs.start(hub, name, Goal.ROTATE)
    assert hub.engine.run_until(lambda: hub.store.read(rows.unfinished) == 0, 20)


def test_done_rows_leave_the_queue(hub: Keyturn) -> None:
    """Finished jobs are deleted, stale ones too: the queue does not grow."""
    (name,) = noop.connect(hub, 1)
    runs.start(hub, name, Goal.ROTATE)
    hub.engine.wake("run_gone", 0.0)
    hub.engine.start()
    assert hub.engine.run_until(lambda: jobs(hub) == [], 20)


def test_jobs_of_dead_workers_are_dropped(hub: Keyturn) -> None:
    """A job in the hands of a worker without a heartbeat is deleted; the run's own row is the truth."""
    hub.engine.wake("run_gone", 0.0)
    change(hub, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL")
    hub.engine.start()
    assert hub.engine.run_until(lambda: jobs(hub) == [], 20)


def test_two_processes_make_the_schema_once(database: str) -> None:
    """First starts at the same moment: one makes the tables, the other finds them."""
    failed: list[BaseException] = []
    together = threading.Barrier(4, timeout=60)

    def start() -> None:
        arguments: dict[str, Any] = {"conninfo": database, "kwargs": {"options": f"-c search_path={SCHEMA}"}}
        connector = SyncPsycopgConnector(**arguments, min_size=1, max_size=1)
        connector.open()
        try:
            together.wait(10)
            queue.apply_schema(connector)
        except BaseException as error:
            failed.append(error)
        finally:
            connector.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failed
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT COUNT(*) FROM pg_namespace WHERE nspname LIKE 'keyturn_queue%'")
        assert found.fetchone() == (1,)


def test_a_role_that_may_make_no_schema_still_works(tmp_path: Path, cluster: Any) -> None:
    """Without the right to create a schema there are no hints, and runs are done all the same."""
    database = cluster.create_database("of_a_plain_role")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain-password'")
        connection.execute("GRANT CREATE, USAGE ON SCHEMA public TO plain")
    url = database.replace(database.split("//")[1].split("@", 1)[0], "plain:plain-password")
    hub = open_noop(tmp_path, url, noop.Vendor())
    try:
        (name,) = noop.connect(hub, 1)
        runs.start(hub, name, Goal.ROTATE)
        hub.engine.start()
        assert hub.engine.run_until(lambda: hub.store.read(rows.unfinished) == 0, 20)
    finally:
        hub.close()
