"""Jobs: what they store, who runs them, and what a rotation makes of them."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keyturn import boundary
from keyturn.bootstrap import open_hub
from keyturn.catalog import Catalog
from keyturn.contract.values import Sample
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    VendorUnavailable,
)
from keyturn.executor.executor import Executor
from keyturn.model.credential import ConnectionState, State
from keyturn.model.job import Cause, JobState, Level
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import RunState
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, jobs, runs
from keyturn.storage import connections as connection_rows
from keyturn.storage import jobs as rows
from keyturn.storage import journal, versions
from tests.faults import shapes_connector as shapes
from tests.faults import world

NUMBERS = itertools.count(1)
STRANGERS = {}


class Reads:
    """A reader of the shapes vendor: the credential must be accepted there, then the test says what is found."""

    def __init__(self):
        self.calls, self.items, self.refusal, self.during = [], 7, {}, lambda: None

    def read_sample(self, access, material, what, limit):
        value = material["secret"]
        self.calls.append((value, what, limit))
        self.during()
        if shapes.Login().verify(access, material).verdict is not Verdict.ACCEPTED:
            raise CredentialRejected("the vendor refused the credential", code="401")
        refusal = self.refusal.get(value) or self.refusal.get("")
        if refusal is not None:
            raise refusal
        return Sample(self.items, what)


@pytest.fixture
def reads():
    return Reads()


@pytest.fixture
def hub(tmp_path, reads):
    found = world.external()

    def capabilities(method, settings):
        return replace(found.capabilities(method, settings), reader=reads)

    catalog = Catalog(extra={"shapes": SimpleNamespace(system=found.system, capabilities=capabilities)})
    opened = open_hub(world.settings(tmp_path), create=True, catalog=catalog)
    yield opened
    opened.close()


@pytest.fixture
def connect(hub, client):
    def made(method="many_ids"):
        name = f"jobs{next(NUMBERS)}"
        STRANGERS[name] = world.connect(hub, client, method, name).said.get("strangers", ())
        return name

    return made


def due_now(hub, job):
    hub.store.write(lambda tx: rows.change(tx, job.id, due_at=time.time() - 1))


def put(hub, name, state):
    connection = connections.find(hub, name)
    hub.store.write(lambda tx: connection_rows.change(tx, connection.id, state=state.value))


def lines(hub, name, what):
    connection = connections.find(hub, name)
    found = hub.store.read(lambda tx: journal.of_connection(tx, connection.id))
    return [line.facts for line in found if what in {line.facts.get("what"), line.facts.get("decision")}]


def alive(client, name):
    """How many are alive at the vendor, without strangers."""
    found = client.call("alive", principal=name)
    return sum(each["id"] not in STRANGERS[name] for each in found)


# -- adding --------------------------------------------------------------------------------------------------------------


def test_a_job_is_read_once_before_it_is_saved(hub, connect, reads):
    name = connect()
    job, first = jobs.add(hub, name, "orders", what="sales.orders", schedule="every 1h", most=5)
    assert [(what, limit) for _, what, limit in reads.calls] == [("sales.orders", 5)]
    assert (first.reading.state, first.reading.count, first.cause) == (JobState.OK, 5, Cause.ADDED)
    assert job.schedule == "every 1h"
    assert 3590 < job.due_at - time.time() <= 3600
    assert jobs.results(hub, job) == [first]
    assert lines(hub, name, "job_added")[0]["by"] == "matrix"


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        (PermissionMissing("no SELECT on sales.orders", right="SELECT"), InvalidInput),
        (NotFound("there is no such table"), InvalidInput),
        (CredentialRejected("refused"), CredentialRejected),
        (VendorUnavailable("no answer"), VendorUnavailable),
        (UnexpectedAnswer("no list"), VendorUnavailable),
        (RuntimeError("ktlab-secret in a bug's text"), VendorUnavailable),
    ],
)
def test_a_read_that_does_not_work_saves_nothing(hub, connect, reads, refusal, raised):
    name = connect()
    reads.refusal[""] = refusal
    with pytest.raises(raised) as said:
        jobs.add(hub, name, "orders", what="sales.orders")
    assert "ktlab-secret" not in str(said.value.message)
    assert jobs.every(hub) == []
    assert lines(hub, name, "job_added") == []
    job, first = jobs.add(hub, name, "orders", untested=True)
    assert (job.state, first) == (JobState.NEVER, None)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "two words"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"what": "x" * 301}, "what"),
        ({"what": "a\x1b[31m"}, "what"),
        ({"most": 0}, "most"),
        ({"most": 1001}, "most"),
        ({"schedule": "often"}, "schedule"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_by_field(hub, connect, reads, wrong, field):
    name = connect()
    with pytest.raises(InvalidInput) as refused:
        jobs.add(hub, name, **{"name": "orders", **wrong})
    assert refused.value.facts["field"] == field
    assert reads.calls == []


def test_a_row_that_cannot_read_has_no_jobs(tmp_path, client):
    hub = world.open_world(tmp_path)
    try:
        world.connect(hub, client, "many_ids", f"jobs{next(NUMBERS)}")
        name = connections.every(hub)[0].name
        with pytest.raises(InvalidInput, match="cannot have jobs"):
            jobs.add(hub, name, "orders")
        assert all(step.kind is not Kind.JOBS for step in runs.plan(hub, name, Goal.ROTATE).steps)
    finally:
        hub.close()


def test_a_name_is_used_once(hub, connect):
    name = connect()
    jobs.add(hub, name, "orders")
    with pytest.raises(Conflict):
        jobs.add(hub, name, "orders")


# -- running -------------------------------------------------------------------------------------------------------------


def test_a_result_is_a_count_of_at_most_what_was_asked_for(hub, connect, reads):
    """A connector that claims more, or less than nothing, is not believed."""
    jobs.add(hub, connect(), "orders", most=3)
    for claimed, kept in ((99, 3), (-5, 0), (2, 2)):
        reads.items = claimed
        assert jobs.run(hub, "orders").reading.count == kept


def test_a_job_holds_a_lease_while_it_reads(hub, connect, reads, client):
    """A rotation that wants to end what the job reads with waits for it, and says for whom."""
    name = connect()
    jobs.add(hub, name, "orders", after_rotation=False)
    run = runs.start(hub, name, Goal.ROTATE)
    seen = []

    def during():
        reads.during = lambda: None
        until = time.monotonic() + 10
        while time.monotonic() < until and not (seen and "leased by job orders" in seen[-1]):
            Executor(hub.hub).advance(run.id)
            seen.append(runs.get(hub, run.id).waiting_for)
            time.sleep(0.02)

    reads.during = during
    jobs.run(hub, "orders")
    assert "leased by job orders" in seen[-1]
    assert alive(client, name) == 2
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.COMPLETE


def test_a_due_job_is_run_once_by_many_workers(hub, connect, reads):
    job, _ = jobs.add(hub, connect(), "orders", schedule="every 1h")
    due_now(hub, job)
    reads.calls.clear()
    begin = threading.Barrier(6, timeout=60)
    did = []

    def work():
        begin.wait()
        did.append(jobs.run_due(hub))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads.calls) == 1
    assert did.count(True) == 1
    assert jobs.get(hub, "orders").due_at > time.time()
    assert [r.cause for r in jobs.results(hub, job)] == [Cause.SCHEDULE, Cause.ADDED]
    assert not jobs.run_due(hub)


def test_who_saw_it_due_and_comes_late_does_not_run_it_again(hub, connect, reads):
    """Another worker has run it between the look and the claim."""
    job, _ = jobs.add(hub, connect(), "orders", schedule="every 1h")
    due_now(hub, job)
    assert jobs.run_due(hub)
    reads.calls.clear()
    with pytest.raises(Conflict):
        jobs.run(hub, "orders", cause=Cause.SCHEDULE)
    assert reads.calls == []


def test_paused_jobs_do_not_stand_in_the_way(hub, connect, reads):
    """However many of them are longest due."""
    name = connect()
    for number in range(9):
        job, _ = jobs.add(hub, name, f"paused-{number}", schedule="every 1h")
        jobs.pause(hub, job.name)
        hub.store.write(lambda tx, each=job.id: rows.change(tx, each, due_at=1.0))
    job, _ = jobs.add(hub, name, "orders", schedule="every 1h")
    due_now(hub, job)
    assert jobs.run_due(hub)
    assert jobs.results(hub, job, 1)[0].cause is Cause.SCHEDULE


def test_whose_worker_died_is_due_again_when_the_claim_has_run_out(hub, connect, reads):
    job, _ = jobs.add(hub, connect(), "orders", schedule="every 1h")
    due_now(hub, job)
    now = time.time()
    assert hub.store.write(lambda tx: rows.claim(tx, job.id, "dead", now, now + 60))
    assert not jobs.run_due(hub)
    with pytest.raises(Conflict, match="being run"):
        jobs.run(hub, "orders")
    hub.store.write(lambda tx: rows.change(tx, job.id, claimed_until=now - 1))
    assert jobs.run_due(hub)
    assert not hub.store.write(lambda tx: rows.release(tx, job.id, "dead", state="failed"))
    assert jobs.get(hub, "orders").state is JobState.OK


def test_a_worker_that_slept_too_long_files_nothing(hub, connect, reads):
    """Somebody else has run the job meanwhile: two results of one time would be one too many."""
    job, _ = jobs.add(hub, connect(), "orders", schedule="every 1h")
    due_now(hub, job)

    def during():
        reads.during = lambda: None
        hub.store.write(lambda tx: rows.change(tx, job.id, claimed_until=0.0))
        assert jobs.run_due(hub)

    reads.during = during
    jobs.run(hub, "orders", cause=Cause.SCHEDULE)
    assert [r.cause for r in jobs.results(hub, job)] == [Cause.SCHEDULE, Cause.ADDED]


def test_a_job_waits_across_a_gap_and_runs_after_it(hub, connect, reads):
    name = connect()
    job, _ = jobs.add(hub, name, "orders", schedule="every 1h")
    due_now(hub, job)
    reads.calls.clear()
    put(hub, name, ConnectionState.PAUSED)
    assert not jobs.run_due(hub)
    held = jobs.page(hub, jobs.get(hub, "orders"))
    assert (held["state"], held["held"]) == ("held", f"{name} is paused")
    with pytest.raises(Conflict, match="is paused"):
        jobs.run(hub, "orders")
    assert reads.calls == []
    assert jobs.get(hub, "orders").claimed_until == 0
    put(hub, name, ConnectionState.ACTIVE)
    assert jobs.run_due(hub)
    after = jobs.get(hub, "orders")
    assert (after.held_at, jobs.results(hub, job, 1)[0].cause) == (None, Cause.AFTER_PAUSE)
    assert after.due_at > time.time()


def test_a_read_that_is_overtaken_by_a_switch_is_interrupted_and_runs_again(hub, connect, reads):
    name = connect()
    jobs.add(hub, name, "orders", schedule="every 1h")

    def during():
        reads.during = lambda: None
        put(hub, name, ConnectionState.PAUSED)

    reads.during, reads.refusal[""] = during, CredentialRejected("refused")
    assert jobs.run(hub, "orders").reading.state is JobState.INTERRUPTED
    put(hub, name, ConnectionState.ACTIVE)
    reads.refusal.clear()
    assert jobs.run_due(hub)
    assert jobs.get(hub, "orders").state is JobState.OK


def test_paused_by_a_person_it_is_not_started(hub, connect, reads):
    job, _ = jobs.add(hub, connect(), "orders", schedule="every 1h")
    due_now(hub, job)
    reads.calls.clear()
    assert jobs.pause(hub, "orders").paused_by == "matrix"
    jobs.pause(hub, "orders")
    assert not jobs.run_due(hub)
    assert reads.calls == []
    assert jobs.resume(hub, "orders").due_at > time.time() + 3500
    jobs.run(hub, "orders")
    assert len(reads.calls) == 1


def test_the_journal_says_when_a_job_begins_to_fail_and_works_again(hub, connect, reads):
    name = connect()
    job, _ = jobs.add(hub, name, "orders", schedule="every 1h")
    for refusal in (None, PermissionMissing("no"), PermissionMissing("no"), None, None):
        reads.refusal[""] = refusal
        due_now(hub, job)
        assert jobs.run_due(hub)
    assert [said["state"] for said in lines(hub, name, "job")] == ["failed", "ok"]


def test_an_unclear_answer_is_tried_again_later_and_not_at_once(hub, connect, reads):
    job, _ = jobs.add(hub, connect(), "orders", schedule="every 1h")
    due_now(hub, job)
    reads.refusal[""] = VendorUnavailable("told us to wait", wait_s=7200.0)
    assert jobs.run_due(hub)
    assert jobs.get(hub, "orders").due_at > time.time() + 7100
    assert jobs.get(hub, "orders").state is JobState.UNKNOWN


def test_old_results_go_and_evidence_stays(hub, connect, reads, monkeypatch, client):
    monkeypatch.setattr(rows, "KEPT", 3)
    name = connect()
    job, _ = jobs.add(hub, name, "orders")
    assert world.rotate(hub, client, name).state is RunState.COMPLETE
    for _ in range(6):
        jobs.run(hub, "orders")
    causes = [r.cause for r in jobs.results(hub, job)]
    assert causes == [Cause.DEMAND] * 3 + [Cause.ROTATION]
    jobs.remove(hub, "orders")
    assert jobs.every(hub) == []
    assert hub.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM job_result"))[0] == 0


# -- beside a rotation ---------------------------------------------------------------------------------------------------


def rotate(hub, client, name, goal=Goal.ROTATE):
    run = runs.start(hub, name, goal)
    return world.drive(hub, run.id, world.person(client, hub, name))


def values(hub, name):
    """The stored values by state."""
    connection = connections.find(hub, name)
    return hub.store.read(lambda tx: versions.of_connection(tx, connection.id))


@pytest.mark.parametrize("method", ["two_slots", "many_ids", "named_slots", "supplied"])
def test_after_the_switch_each_job_runs_once_with_the_new_one(hub, connect, reads, client, method):
    """Its result is the evidence: version, count and duration, in the journal and with the job."""
    name = connect(method)
    jobs.add(hub, name, "orders", what="orders")
    jobs.add(hub, name, "left-out", after_rotation=False)
    reads.calls.clear()
    run = rotate(hub, client, name)
    assert run.state is RunState.COMPLETE
    assert [(what, limit) for _, what, limit in reads.calls] == [("orders", 1), ("orders", 10)]
    (evidence,) = lines(hub, name, "job")
    assert (evidence["state"], evidence["count"], evidence["version"]) == ("ok", 7, run.new_version_id)
    last = jobs.results(hub, jobs.get(hub, "orders"), 1)[0]
    assert (last.run_id, last.version_id, last.cause) == (run.id, run.new_version_id, Cause.ROTATION)
    tried = jobs.validations(hub, connections.find(hub, name), run.new_version_id)
    assert [(v.level, v.passed) for v in tried] == [(level, True) for level in Level]


def test_without_jobs_a_rotation_has_no_such_step(hub, connect, reads, client):
    name = connect()
    run = rotate(hub, client, name)
    assert run.state is RunState.COMPLETE
    assert all(step.kind is not Kind.JOBS for step in run.plan.steps)
    tried = jobs.validations(hub, connections.find(hub, name), run.new_version_id)
    assert [(v.level, v.passed) for v in tried] == [(Level.FORMAT, True), (Level.AUTH, True)]
    assert reads.calls == []


def test_a_job_that_cannot_read_keeps_the_old_one(hub, connect, reads, client):
    """The run is blocked and says which job and why; nothing was ended. With the cause removed it goes on."""
    name = connect()
    jobs.add(hub, name, "orders")
    reads.refusal[""] = PermissionMissing("no SELECT on sales.orders", right="SELECT")
    run = rotate(hub, client, name)
    assert run.state is RunState.BLOCKED
    assert "job orders cannot read with the new credential (no SELECT on sales.orders)" in run.waiting_for
    assert "keyturn job pause orders" in run.waiting_for
    assert alive(client, name) == 2
    assert {v.state for v in values(hub, name)} == {State.CURRENT, State.DRAINING}
    reads.refusal.clear()
    runs.retry(hub, run.id)
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert (done.state, alive(client, name)) == (RunState.COMPLETE, 1)


def test_a_person_may_go_on_without_the_job(hub, connect, reads, client):
    name = connect()
    jobs.add(hub, name, "orders")
    reads.refusal[""] = NotFound("there is no such table")
    run = rotate(hub, client, name)
    assert run.state is RunState.BLOCKED
    jobs.pause(hub, "orders")
    runs.retry(hub, run.id)
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.COMPLETE
    assert lines(hub, name, "job_paused")[0]["by"] == "matrix"


def test_a_blocked_one_can_be_rolled_back(hub, connect, reads, client):
    name = connect()
    jobs.add(hub, name, "orders")
    before = connections.find(hub, name).current_version_id
    reads.refusal[""] = NotFound("there is no such table")
    run = rotate(hub, client, name)
    runs.rollback(hub, run.id)
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.ABORTED_CLEAN
    assert connections.find(hub, name).current_version_id == before
    assert alive(client, name) == 1


def test_what_the_old_one_reads_and_the_new_one_does_not_is_never_switched_to(hub, connect, reads, client):
    """One item is read with both before the switch: the new one goes again, consumers notice nothing."""
    name = connect()
    jobs.add(hub, name, "orders")
    old = reads.calls[-1][0]

    class OnlyOld(dict):
        def get(self, key, default=None):
            return None if key in {"", old} else PermissionMissing("no SELECT for the new role")

    reads.refusal = OnlyOld()
    run = rotate(hub, client, name)
    assert run.state is RunState.ABORTED_CLEAN
    assert "reads with the old credential and not with the new one" in run.outcome
    assert connections.find(hub, name).generation == 0
    assert lines(hub, name, "cutover") == []
    assert alive(client, name) == 1


def test_an_unclear_answer_keeps_the_old_one_and_is_asked_again(hub, connect, reads, client):
    name = connect()
    jobs.add(hub, name, "orders")
    tries = []

    class Recovers(dict):
        def get(self, key, default=None):
            if key == "":
                return None
            tries.append(key)
            return VendorUnavailable("no answer") if len(tries) < 4 else None

    reads.refusal = Recovers()
    run = rotate(hub, client, name)
    assert run.state is RunState.COMPLETE
    assert [said["state"] for said in lines(hub, name, "job")] == ["unknown", "unknown", "ok"]


@pytest.mark.parametrize("method", ["one_slot", "regenerate"])
def test_where_there_is_no_old_one_to_keep_it_is_owed(hub, connect, reads, client, method):
    name = connect(method)
    jobs.add(hub, name, "orders")
    reads.refusal[""] = PermissionMissing("no")
    run = rotate(hub, client, name)
    assert run.state is RunState.COMPLETE_WITH_DEBT
    _, owed = runs.left_behind(hub, run.id)
    assert [(d.kind, d.facts["job"]) for d in owed] == [("job_failed", "orders")]


def test_an_emergency_waits_for_no_job(hub, connect, reads, client):
    """The leaked one is ended first; what the jobs see afterwards is owed."""
    name = connect()
    jobs.add(hub, name, "orders")
    reads.refusal[""] = PermissionMissing("no")
    run = rotate(hub, client, name, Goal.CONTAIN)
    assert run.state is RunState.COMPLETE_WITH_DEBT
    assert alive(client, name) == 1
    assert run.plan.steps[-1].kind is Kind.JOBS


def test_contain_during_a_blocked_run_goes_on_without_the_job(hub, connect, reads, client):
    name = connect()
    jobs.add(hub, name, "orders")
    reads.refusal[""] = PermissionMissing("no")
    run = rotate(hub, client, name)
    assert run.state is RunState.BLOCKED
    assert runs.start(hub, name, Goal.CONTAIN).id == run.id
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.COMPLETE
    assert alive(client, name) == 1


def test_a_job_that_read_is_not_run_again_after_a_crash(hub, connect, reads, client, monkeypatch):
    """Two jobs, the worker dies after the first: only the second is left to do."""
    name = connect()
    jobs.add(hub, name, "a-first", what="first")
    jobs.add(hub, name, "b-second", what="second")
    reads.calls.clear()

    def during():
        if reads.calls[-1][1:] == ("second", 10):
            reads.during = lambda: None
            raise KeyboardInterrupt

    reads.during = during
    run = runs.start(hub, name, Goal.ROTATE)
    with pytest.raises(KeyboardInterrupt):
        world.drive(hub, run.id, world.person(client, hub, name))
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.COMPLETE
    assert [call[1:] for call in reads.calls if call[2] == 10] == [
        ("first", 10),
        ("second", 10),
        ("second", 10),
    ]


def test_a_held_job_that_the_rotation_ran_is_not_run_twice(hub, connect, reads, client):
    name = connect("regenerate")
    job, _ = jobs.add(hub, name, "orders", schedule="every 1h")
    due_now(hub, job)
    put(hub, name, ConnectionState.PAUSED)
    assert not jobs.run_due(hub)
    put(hub, name, ConnectionState.ACTIVE)
    assert rotate(hub, client, name).state is RunState.COMPLETE
    assert jobs.get(hub, "orders").held_at is None
    assert not jobs.run_due(hub)


def test_the_engine_starts_due_jobs(tmp_path, client, reads):
    """In a process of its own threads, without anybody asking."""
    found = world.external()

    def capabilities(method, settings):
        return replace(found.capabilities(method, settings), reader=reads)

    catalog = Catalog(extra={"shapes": SimpleNamespace(system=found.system, capabilities=capabilities)})
    hub = open_hub(world.settings(tmp_path), create=True, catalog=catalog, run_job=jobs.run_due)
    try:
        name = f"jobs{next(NUMBERS)}"
        world.connect(hub, client, "many_ids", name)
        job, _ = jobs.add(hub, name, "orders", schedule="every 1h")
        due_now(hub, job)
        hub.engine.start()
        until = time.monotonic() + 20
        while time.monotonic() < until and len(jobs.results(hub, job)) < 2:
            time.sleep(0.1)
        assert [r.cause for r in jobs.results(hub, job)] == [Cause.SCHEDULE, Cause.ADDED]
    finally:
        hub.close()


# -- killed anywhere -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The worker is gone, wherever it was."""


def drive_until_killed(hub, client, name, run, at):
    """Advances a run and dies at the place of number `at`; how many places were reached."""
    reached = []

    def listener(place):
        reached.append(place)
        if len(reached) - 1 == at:
            boundary.listen(None)
            raise Killed

    boundary.listen(listener)
    try:
        world.drive(hub, run.id, world.person(client, hub, name))
    except Killed:
        pass
    finally:
        boundary.listen(None)
    return reached


@pytest.mark.parametrize("method", ["many_ids", "regenerate"])
def test_a_kill_anywhere_loses_no_evidence_and_ends_nothing_unread(hub, connect, reads, client, method):
    """Two jobs, one kill at every place from the first read to the end: the run completes, each job has its one result
    that counts, and the old one was alive until both had read."""
    dry = connect(method)
    jobs.add(hub, dry, f"{dry}-a", what="a")
    jobs.add(hub, dry, f"{dry}-b", what="b")
    places = drive_until_killed(hub, client, dry, runs.start(hub, dry, Goal.ROTATE), None)
    first = next(n for n, place in enumerate(places) if place.startswith("line:OBSERVED:prove"))
    assert len(places) - first > 20
    assert any(place.startswith("line:OBSERVED:jobs") for place in places[first:])
    for at in range(first, len(places)):
        name = connect(method)
        jobs.add(hub, name, f"{name}-a", what="a")
        jobs.add(hub, name, f"{name}-b", what="b")
        run = runs.start(hub, name, Goal.ROTATE)
        seen = []
        reads.during = lambda each=name, seen=seen: seen.append(alive(client, each))
        drive_until_killed(hub, client, name, run, at)
        done = world.drive(hub, run.id, world.person(client, hub, name))
        reads.during = lambda: None
        assert done.state is RunState.COMPLETE, (places[at], done.waiting_for, done.outcome)
        assert alive(client, name) == 1, places[at]
        if method == "many_ids":
            assert set(seen) == {2}, (places[at], seen)
        for letter in "ab":
            job = jobs.get(hub, f"{name}-{letter}")
            found = [r for r in jobs.results(hub, job) if r.cause is Cause.ROTATION]
            assert found, places[at]
            assert {(r.run_id, r.version_id, r.reading.state) for r in found} == {
                (run.id, done.new_version_id, JobState.OK)
            }, places[at]
            # a result that was filed is never made twice: line and result are one commit
            assert len(found) == 1, (places[at], found)
