"""Jobs against real parts and stand-ins: a database, a bucket, declared REST rows; and a grant that is missing."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import pytest

from keyturn.bootstrap import open_hub
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
)
from keyturn.model.card import GapClass
from keyturn.model.credential import ConnectionState
from keyturn.model.job import Cause, JobState, Level
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, jobs, projects, runs, tasks
from keyturn.settings import Settings
from keyturn.storage import jobs as rows
from keyturn_lab.parts.aws import Key
from tests import stores
from tests.compliance.case import NETWORK, under_test
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows import ROWS
from tests.faults import world

TWO, ONE = "postgresql/password two roles", "postgresql/password by itself"


def row_of(name):
    return or_skip(lambda: under_test(name, ROWS[name](the_lab())))


def sql(statement):
    with the_lab().postgres.connect() as session:
        session.execute(statement)


@pytest.fixture
def orders():
    """A table with three rows in a schema of its own, that nobody else may read."""
    name = f"shop{the_lab().number()}"
    or_skip(lambda: sql(f"CREATE SCHEMA {name}"))
    sql(f"CREATE TABLE {name}.\"Orders\" AS SELECT n, 'ktlab-private' AS note FROM generate_series(1, 3) n")
    yield f"{name}.Orders"
    sql(f"DROP SCHEMA {name} CASCADE")


def open_to(table, role):
    schema, name = table.split(".")
    sql(f'GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}."{name}" TO {role}')


def shut_to(table, role):
    schema, name = table.split(".")
    sql(f'REVOKE SELECT ON {schema}."{name}" FROM {role}')


# -- readers -------------------------------------------------------------------------------------------------------------


def test_postgresql_counts_rows_of_a_table(orders):
    """The name is spelled exactly; the server counts, at most as many as were asked for."""
    row = row_of(ONE)
    open_to(orders, row.good["user"])
    read = row.can.reader.read_sample
    assert read(row.access, row.good, orders, 10).count == 3
    assert read(row.access, row.good, orders, 2).count == 2
    assert "ktlab-private" not in repr(read(row.access, row.good, orders, 10))


def test_postgresql_counts_its_own_query(orders):
    row = row_of(ONE)
    open_to(orders, row.good["user"])
    schema, name = orders.split(".")
    for query in (f'SELECT * FROM {schema}."{name}" WHERE n > 1;', f'SELECT n FROM {schema}."{name}" -- all'):
        access = replace(row.access, settings={**row.access.settings, "sample_query": query})
        assert row.can.reader.read_sample(access, row.good, "", 10).count in {2, 3}


@pytest.mark.parametrize(
    ("what", "raised"),
    [
        ("", InvalidInput),
        ("a.b.c", InvalidInput),
        (".x", InvalidInput),
        ("nowhere.orders", NotFound),
        ('x" ; DROP TABLE y; --', NotFound),
    ],
)
def test_postgresql_refuses_what_it_cannot_read(what, raised):
    row = row_of(ONE)
    with pytest.raises(raised):
        row.can.reader.read_sample(row.access, row.good, what, 10)


def test_postgresql_says_which_right_is_missing(orders):
    row = row_of(ONE)
    with pytest.raises(PermissionMissing):
        row.can.reader.read_sample(row.access, row.good, orders, 10)


def test_postgresql_can_only_read(orders):
    """The operator's own query runs where nothing can be changed."""
    row = row_of(ONE)
    open_to(orders, row.good["user"])
    schema, name = orders.split(".")
    sql(f'GRANT DELETE ON {schema}."{name}" TO {row.good["user"]}')
    query = f'WITH gone AS (DELETE FROM {schema}."{name}" RETURNING 1) SELECT * FROM gone'
    access = replace(row.access, settings={**row.access.settings, "sample_query": query})
    with pytest.raises(KeyturnError):
        row.can.reader.read_sample(access, row.good, "", 10)
    assert row.can.reader.read_sample(row.access, row.good, orders, 10).count == 3


def test_a_missing_right_is_told_from_a_dead_key():
    """Aha! lets the key in and refuses the list: the key is not to blame."""
    row = row_of("aha/api_key")
    there = the_lab().vendor("aha")
    there.post("settings", {"products_forbidden": True})
    try:
        with pytest.raises(PermissionMissing):
            row.can.reader.read_sample(row.access, row.good, "products", 10)
    finally:
        there.post("settings", {"products_forbidden": False})


def test_s3_counts_objects_below_a_prefix():
    row = row_of("s3-customer/access_key")
    aws = the_lab().aws
    bucket = row.access.settings["bucket"]
    read = row.can.reader.read_sample
    before = read(row.access, row.good, "jobs/", 10).count
    key = Key(aws.account.app.user, row.good["access_key_id"], row.good["secret_access_key"])
    with closing(aws.client("s3", key)) as s3:
        for number in range(3):
            s3.put_object(Bucket=bucket, Key=f"jobs/{number}", Body=b"ktlab-private")
    assert before == 0
    assert read(row.access, row.good, "jobs/", 10).count == 3
    assert read(row.access, row.good, "jobs/", 2).count == 2
    assert read(row.access, row.good, "jobs/1", 10).count == 1
    with pytest.raises(CredentialRejected):
        read(row.access, row.wrong[0], "jobs/", 10)
    nowhere = replace(row.access, settings={**row.access.settings, "bucket": "nobody-has-this-bucket"})
    with pytest.raises(
        PermissionMissing
    ):  # whose policy names one bucket is not told whether there is another
        read(nowhere, row.good, "", 10)


SNOWFLAKE = [name for name in ROWS if name.startswith("snowflake/")]


@pytest.mark.parametrize("name", SNOWFLAKE)
def test_snowflake_counts_rows_by_every_method(name):
    """The official driver against the stand-in; a table that is hidden or forbidden is told from a dead credential."""
    row = row_of(name)
    read = row.can.reader.read_sample
    assert read(row.access, row.good, "SALES.PUBLIC.ORDERS", 10).count == 3
    assert read(row.access, row.good, "ORDERS", 2).count == 2
    assert read(row.access, row.good, "PUBLIC.EMPTY", 10).count == 0
    with pytest.raises(NotFound):
        read(row.access, row.good, "SALES.PUBLIC.NOWHERE", 10)
    with pytest.raises(NotFound):
        read(row.access, row.good, 'ORDERS" LIMIT 1); DROP TABLE "ORDERS', 10)
    with pytest.raises(PermissionMissing):
        read(row.access, row.good, "SALARIES", 10)
    for wrong in ("", "a..b", "a.b.c.d"):
        with pytest.raises(InvalidInput):
            read(row.access, row.good, wrong, 10)
    with pytest.raises(CredentialRejected):
        read(row.access, row.wrong[0], "ORDERS", 10)


# -- a whole rotation ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path):
    opened = open_hub(
        Settings(
            home=tmp_path / "home",
            database=stores.url(tmp_path / "home"),
            kek=f"file:{tmp_path / 'key' / 'kek'}",
            network=NETWORK,
            patience=0.02,
            actor="tester",
        ),
        create=True,
    )
    yield opened
    opened.close()


def nobody(task):
    raise AssertionError(task.title)


def test_a_role_that_lost_its_grant_keeps_the_old_password_alive(hub, orders):
    """Two roles on a real server: while the job cannot read, the old role stays open; granted again, it is closed."""
    case = or_skip(lambda: ROWS[TWO](the_lab()))
    group = case.values["group_role"]
    open_to(orders, group)
    connections.connect(
        hub, case.system, case.method, "orders-db", case.values, policy={**case.policy, "drain_min_s": 0.02}
    )
    job, first = jobs.add(hub, "orders-db", "orders", what=orders)
    assert first.reading.count == 3
    shut_to(orders, group)
    run = runs.start(hub, "orders-db", Goal.ROTATE)
    run = world.drive(hub, run.id, nobody, stop=lambda r: r.state is RunState.BLOCKED)
    assert "job orders cannot read" in run.waiting_for
    assert len(case.alive()) == 2
    assert jobs.get(hub, "orders").state is JobState.FAILED
    open_to(orders, group)
    runs.retry(hub, run.id)
    done = world.drive(hub, run.id, nobody)
    assert (done.state, len(case.alive())) == (RunState.COMPLETE, 1)
    last = jobs.results(hub, job, 1)[0]
    assert (last.reading.count, last.version_id, last.run_id) == (3, done.new_version_id, run.id)


# -- an unavoidable gap --------------------------------------------------------------------------------------------------

GAPS = ["freshdesk/api_key", "ecosystem/access_key", "sap-datasphere/password by a person"]


@pytest.mark.parametrize("name", GAPS)
def test_jobs_wait_across_a_gap_and_run_after_it(hub, name):
    """A person resets the one key there is. Meanwhile no job reads, by its time or on demand; afterwards the one that is
    evidence has run with the new key, and the one that was due runs once more by itself."""
    case = or_skip(lambda: ROWS[name](the_lab()))
    connections.connect(hub, case.system, case.method, "gap", case.values, policy=case.policy)
    jobs.add(hub, "gap", "evidence", what=case.reads.what)
    jobs.add(hub, "gap", "hourly", what=case.reads.what, schedule="every 1h", after_rotation=False)
    plan = runs.plan(hub, "gap", Goal.ROTATE)
    assert plan.gap_class is GapClass.Z2
    seen = []

    def person(task):
        if task.kind == "supply":
            hub.store.write(lambda tx: rows.change(tx, jobs.get(hub, "hourly").id, due_at=time.time() - 1))
            assert connections.find(hub, "gap").state is ConnectionState.PAUSED
            assert not jobs.run_due(hub)
            held = jobs.page(hub, jobs.get(hub, "hourly"))
            assert (held["state"], held["held"]) == ("held", "gap is paused")
            for each in ("hourly", "evidence"):
                with pytest.raises(Conflict, match="gap is paused"):
                    jobs.run(hub, each)
            seen.append(len(jobs.results(hub, jobs.get(hub, "hourly"))))
        tasks.submit(hub, task.id, case.person(task))

    done = world.drive(hub, runs.start(hub, "gap", Goal.ROTATE).id, person)
    assert (done.state, seen) == (RunState.COMPLETE, [1])
    evidence = jobs.results(hub, jobs.get(hub, "evidence"), 1)[0]
    assert (evidence.cause, evidence.run_id, evidence.reading.state) == (Cause.ROTATION, done.id, JobState.OK)
    assert jobs.run_due(hub)
    again = jobs.results(hub, jobs.get(hub, "hourly"), 1)[0]
    assert (again.cause, again.reading.count) == (Cause.AFTER_PAUSE, case.reads.there)
    assert {again.version_id, evidence.version_id} == {done.new_version_id}
    assert jobs.page(hub, jobs.get(hub, "hourly"))["state"] == "active"
    assert not jobs.run_due(hub)
    tried = jobs.validations(hub, connections.find(hub, "gap"), done.new_version_id)
    assert [(each.level, each.passed) for each in tried] == [(level, True) for level in Level]


def test_one_credential_of_many_sources_is_named_and_rotated_once(hub):
    """Two projects read through one bucket key: the plan names every source, one run replaces the key for all."""
    case = or_skip(lambda: ROWS["s3-customer/access_key"](the_lab()))
    connections.connect(hub, case.system, case.method, "lake", case.values, policy=case.policy)
    labels = ["adoption/usage/daily", "adoption/usage/weekly", "finance/revenue/daily"]
    for label in labels:
        projects.add_source(hub, label, "lake", reads="contract/", with_place=True)
    plan = runs.plan(hub, "lake", Goal.ROTATE)
    assert list(plan.used_by) == labels
    run = world.drive(hub, runs.start(hub, "lake", Goal.ROTATE).id, nobody)
    assert (run.state, run.plan.used_by) == (RunState.COMPLETE, plan.used_by)
    assert len(case.alive()) == 1
    projects.edit_source(hub, labels[0], reads="contract/1")
    projects.remove_source(hub, labels[2])
    assert list(runs.plan(hub, "lake", Goal.ROTATE).used_by) == labels[:2]
    assert [s.what for s in projects.sources(hub, "lake")] == ["contract/1", "contract/"]
