"""Jobs against real parts and stand-ins: a database, a bucket, declared REST rows; and a grant that is missing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from keyturn.bootstrap import open_hub
from keyturn.errors import CredentialRejected, InvalidInput, KeyturnError, NotFound, PermissionMissing
from keyturn.model.job import JobState
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, jobs, runs
from keyturn.settings import Settings
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


DECLARED = [
    ("aha/api_key", "products", 2),
    ("freshdesk/api_key", "tickets", 3),
    ("jira/oauth", "projects", 1),
]


@pytest.mark.parametrize(("name", "what", "there"), DECLARED, ids=[each[0] for each in DECLARED])
def test_a_declared_sample_is_counted(name, what, there):
    """By name or, as there is one, without; never more than asked for; with the credential and nothing else."""
    row = row_of(name)
    read = row.can.reader.read_sample
    assert read(row.access, row.good, what, 10).count == there
    assert read(row.access, row.good, "", 1).count == 1
    with pytest.raises(InvalidInput) as refused:
        read(row.access, row.good, "everything", 10)
    assert what in refused.value.hint
    with pytest.raises(CredentialRejected):
        read(row.access, row.wrong[0], what, 10)


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
