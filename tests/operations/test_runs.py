"""Starting, stopping and hurrying runs: what is frozen when, who gives way to whom, and who shares an account."""

import itertools
import time

import pytest

from keyturn import boundary
from keyturn.errors import Conflict
from keyturn.executor.executor import Executor
from keyturn.model.credential import ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import VersionId
from keyturn.model.plan import Goal
from keyturn.model.run import LineKind, RunState, TaskState, Track
from keyturn.operations import connections, leases, runs, tasks
from keyturn.storage import connections as rows
from keyturn.storage import journal, principals, versions
from keyturn.storage import runs as run_rows
from keyturn.storage import tasks as task_rows
from tests.faults import shapes_connector as shapes
from tests.faults import world

NUMBERS = itertools.count(1)


@pytest.fixture
def name():
    return f"run{next(NUMBERS)}"


def until(hub, client, run, name, stop):
    return world.drive(hub, run.id, world.person(client, hub, name), stop=stop)


def asked(hub, run):
    """Goes on until a person is waited for."""
    return world.drive(hub, run.id, lambda _: None, stop=lambda r: r.state is RunState.WAITING_HUMAN)


def draining(hub, client, run, name):
    return until(hub, client, run, name, lambda r: "slow" in r.waiting_for)


# -- what is frozen ------------------------------------------------------------------------------------------------


def test_the_plan_is_made_from_what_is_locked(hub, client, name, monkeypatch):
    """A switch that lands while a run is being started is in its plan: the free slot, the old version."""
    world.connect(hub, client, "two_slots", name)
    connection, real = connections.find(hub, name), hub.engine.seat

    def switched_meanwhile():
        if connections.find(hub, name).generation == connection.generation:
            version = Version(
                VersionId("ver_2"),
                connection.id,
                connection.principal_id,
                2,
                State.CURRENT,
                Ref(slot="b", fingerprint="x"),
                "",
                Provenance.OURS,
                None,
                None,
                0.0,
            )
            hub.store.write(lambda tx: versions.add(tx, version))
            hub.store.write(lambda tx: rows.flip(tx, connection, version.id))
        return real()

    monkeypatch.setattr(hub.engine, "seat", switched_meanwhile)
    run = runs.start(hub, name, Goal.ROTATE)
    assert run.old_version_id == "ver_2"
    assert run.plan.target_slot == "a"


def test_the_same_trigger_is_the_same_run(hub, client, name):
    """Also when the goal makes no sense any more: a double click is no error."""
    world.connect(hub, client, "one_slot", name)
    run = runs.start(hub, name, Goal.DISCONNECT, trigger="t")
    assert until(hub, client, run, name, None).state is RunState.COMPLETE
    assert runs.start(hub, name, Goal.DISCONNECT, trigger="t").id == run.id
    with pytest.raises(Conflict, match="is disconnected"):
        runs.start(hub, name, Goal.DISCONNECT)


def test_to_drop_is_asked_for_one_run(hub, client, name):
    """The plan deletes the remote identity; the connection's policy stays as it was."""
    world.connect(hub, client, "one_slot", name)
    before = connections.find(hub, name).policy
    keys = [step.key for step in runs.plan(hub, name, Goal.DISCONNECT, drop=True).steps]
    assert "drop" in keys
    assert [s.key for s in runs.start(hub, name, Goal.DISCONNECT, drop=True).plan.steps] == keys
    assert connections.find(hub, name).policy == before


# -- an emergency beside a routine run -----------------------------------------------------------------------------


def test_an_emergency_hurries_a_run_that_goes_on_by_itself(hub, client, name):
    """Before the switch and after it: the same run, which then waits for no consumer."""
    world.connect(hub, client, "many_ids", name)
    leases.declare(hub, name, "slow", "live")
    run = runs.start(hub, name, Goal.ROTATE)
    assert runs.start(hub, name, Goal.CONTAIN).id == run.id
    assert until(hub, client, run, name, None).state is RunState.COMPLETE
    second = runs.start(hub, name, Goal.ROTATE)
    draining(hub, client, second, name)
    assert runs.start(hub, name, Goal.CONTAIN).id == second.id
    assert until(hub, client, second, name, None).state is RunState.COMPLETE


def test_an_emergency_does_not_hurry_what_is_being_undone(hub, client, name):
    """It would bring the leaked one back: the emergency is told what to wait for."""
    world.connect(hub, client, "many_ids", name)
    leases.declare(hub, name, "slow", "live")
    run = runs.start(hub, name, Goal.ROTATE)
    draining(hub, client, run, name)
    assert runs.rollback(hub, run.id).track is Track.ROLLBACK
    with pytest.raises(Conflict, match=run.id) as refused:
        runs.start(hub, name, Goal.CONTAIN)
    assert f"keyturn run {run.id} --follow" in refused.value.hint
    Executor(hub.hub).advance(run.id)  # it is switched back, and the consumer sees that
    leases.give_back(hub, leases.take(hub, name, "slow").lease_id)
    assert until(hub, client, run, name, None).state is RunState.ABORTED_CLEAN
    assert runs.start(hub, name, Goal.CONTAIN).goal is Goal.CONTAIN


def test_a_run_that_only_asked_somebody_gives_way(hub, client, name):
    """Nothing of it is at the vendor: it ends, its task is taken back, and the emergency has a run of its own."""
    world.connect(hub, client, "supplied", name)
    run = runs.start(hub, name, Goal.ROTATE)
    asked(hub, run)
    made = runs.start(hub, name, Goal.CONTAIN)
    assert made.goal is Goal.CONTAIN
    gone = runs.get(hub, run.id)
    assert (gone.state, gone.outcome) == (RunState.ABORTED_CLEAN, "gave way to an emergency")
    assert tasks.waiting(hub) == []
    asked(hub, made)
    assert [task.run_id for task in tasks.waiting(hub)] == [made.id]


def test_a_run_that_somebody_answered_does_not_give_way(hub, client, name):
    """What a person brought exists at the vendor: the next action is named instead."""
    world.connect(hub, client, "supplied", name)
    run = runs.start(hub, name, Goal.ROTATE)
    asked(hub, run)
    (task,) = tasks.waiting(hub)
    tasks.submit(hub, task.id, shapes.pasted(shapes.person_supplies(client, name)))
    with pytest.raises(Conflict, match=run.id) as refused:
        runs.start(hub, name, Goal.CONTAIN)
    assert f"keyturn rollback {run.id}" in refused.value.hint
    assert f"keyturn contain {name}" in refused.value.hint


# -- ending a run --------------------------------------------------------------------------------------------------


def test_a_cancelled_run_pauses_nobody(hub, client, name):
    """Consumers that waited for a person are served again."""
    world.connect(hub, client, "supplied", name)
    run = runs.start(hub, name, Goal.ROTATE)
    asked(hub, run)
    connection = connections.find(hub, name)
    hub.store.write(lambda tx: rows.change(tx, connection.id, state=ConnectionState.PAUSED.value))
    assert runs.cancel(hub, run.id).state is RunState.ABORTED_CLEAN
    assert connections.find(hub, name).state is ConnectionState.ACTIVE
    assert leases.resolve(hub, name).version.number == 1
    left = hub.store.read(lambda tx: task_rows.of_run(tx, run.id))
    assert {task.state for task in left} == {TaskState.CANCELLED}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (LineKind.INTENT, {"version": "ver_1"}),
        (LineKind.RECEIPT, {"task": "tsk_1"}),
        (LineKind.OBSERVED, {"what": "outage"}),
    ],
)
def test_a_run_that_may_have_changed_something_is_not_cancelled(hub, client, name, kind, facts):
    """A person may have pressed the button already; the hint is the way back that there is."""
    world.connect(hub, client, "supplied", name)
    run = runs.start(hub, name, Goal.ROTATE)
    asked(hub, run)
    entry = journal.Entry(time.time(), run.id, "stage", kind, 0, facts)
    hub.store.write(lambda tx: journal.append(tx, run.connection_id, [entry]))
    with pytest.raises(Conflict) as refused:
        runs.cancel(hub, run.id)
    assert refused.value.hint == f"Use `keyturn rollback {run.id}`."
    assert runs.get(hub, run.id).state is RunState.WAITING_HUMAN


def test_a_call_that_was_refused_for_certain_changed_nothing(hub, client, name):
    """The vendor throttles: whoever does not want to wait ends the run, and the value it offered with it."""
    world.connect(hub, client, "one_slot", name)
    client.arm(name, "throttle_storm", "set", times=9, seconds=30.0)
    run = runs.start(hub, name, Goal.ROTATE)
    Executor(hub.hub).advance(run.id)
    said = [(line.kind, line.facts.get("outcome")) for line in runs.lines(hub, run.id)]
    assert (LineKind.OUTCOME, "not_applied") in said
    assert "cancel" in runs.ways_out(hub, runs.get(hub, run.id))
    assert runs.cancel(hub, run.id).state is RunState.ABORTED_CLEAN
    left = {
        v.number: v.state for v in hub.store.read(lambda tx: versions.of_connection(tx, run.connection_id))
    }
    assert left.pop(1) is State.CURRENT
    assert set(left.values()) <= {State.REFUSED}


def test_nobody_ends_a_run_under_a_worker_of_the_same_process(hub, client, name):
    """Its call may be under way; only the worker itself may take its principal again."""
    world.connect(hub, client, "one_slot", name)
    run, now = runs.start(hub, name, Goal.ROTATE), time.time()
    hub.store.write(lambda tx: principals.take(tx, run.principal_id, hub.hub.worker, run.id, now, now + 60))
    for act in (runs.cancel, runs.rollback, lambda h, r: runs.stop(h, r, "over")):
        with pytest.raises(Conflict, match="being worked on"):
            act(hub, run.id)
    Executor(hub.hub).advance(run.id)
    assert runs.get(hub, run.id).started_at is not None


def test_a_run_that_ended_meanwhile_stays_ended(hub, client, name, monkeypatch):
    """What was read before the lease is read again under it."""
    world.connect(hub, client, "one_slot", name)
    run = runs.start(hub, name, Goal.ROTATE)
    stale = runs.get(hub, run.id)
    ended = {"state": "complete", "due_at": None, "ended_at": time.time()}
    hub.store.write(lambda tx: run_rows.change(tx, run.id, ended))
    monkeypatch.setattr(runs, "get", lambda *_: stale)
    with pytest.raises(Conflict, match="has ended already"):
        runs.cancel(hub, run.id)
    state = hub.store.read(lambda tx: run_rows.by_id(tx, run.id)).state
    free = hub.store.read(lambda tx: principals.active_run(tx, run.principal_id))
    assert (state, free) == (RunState.COMPLETE, None)


# -- two connections, one account ----------------------------------------------------------------------------------


def twice(hub, client, method, name):
    """A connection, and another with the same values."""
    made = world.connect(hub, client, method, name)
    values = {**made.settings, **dict(made.material), **dict(made.admin or {})}
    known = {f.name for f in shapes.system().method(method).fields}
    chosen = {key: value for key, value in values.items() if key in known}
    connections.connect(hub, "shapes", method, f"{name}-too", chosen)


@pytest.mark.parametrize("goal", [Goal.CONTAIN, Goal.DISCONNECT, Goal.REVOKE])
def test_an_end_is_always_possible_and_names_whom_it_takes_along(hub, client, name, goal):
    """An emergency must not be refused because somebody shares the account: the plan warns."""
    twice(hub, client, "one_slot", name)
    assert any(f"{name}-too" in said for said in runs.plan(hub, name, goal).warnings)


def test_one_slot_is_not_rotated_under_a_sibling(hub, client, name):
    """The other connection would lose its credential: refused, with its name and the way out."""
    twice(hub, client, "one_slot", name)
    with pytest.raises(Conflict, match=f"{name}-too") as refused:
        runs.start(hub, name, Goal.ROTATE)
    assert "reconnect" in refused.value.hint
    assert runs.recent(hub) == []


def test_siblings_with_credentials_of_their_own_may_go(hub, client, name):
    """Where each has its own id, only deleting the account itself is refused."""
    made = world.connect(hub, client, "many_ids", name)
    own = client.call("issue", principal=name, by="person", label="another program")
    values = {**made.settings, **dict(made.admin or {}), "key_id": own["id"], "secret": own["value"]}
    known = {f.name for f in shapes.system().method("many_ids").fields}
    connections.connect(
        hub, "shapes", "many_ids", f"{name}-too", {k: v for k, v in values.items() if k in known}
    )
    assert runs.plan(hub, name, Goal.ROTATE)
    assert runs.plan(hub, name, Goal.DISCONNECT)


@pytest.mark.parametrize("method", ["many_ids", "two_slots", "one_slot"])
def test_one_credential_in_two_connections_is_not_rotated_under_the_other(hub, client, name, method):
    """The same value twice, or the only other slot: the second connection would be cut off, so it is refused by name."""
    twice(hub, client, method, name)
    with pytest.raises(Conflict, match=f"{name}-too"):
        runs.plan(hub, name, Goal.ROTATE)


def test_an_account_is_not_dropped_under_a_sibling(hub, client, name):
    """A sibling that was disconnected has nothing to lose."""
    twice(hub, client, "two_slots", name)
    admin = connections.find(hub, name).id
    hub.store.write(hub.secrets.sealing(f"admin:{admin}", shapes.Material({"a": "b"}).to_bytes(), 0.0))
    with pytest.raises(Conflict, match=f"{name}-too"):
        runs.plan(hub, name, Goal.DISCONNECT, drop=True)
    other = connections.find(hub, f"{name}-too")
    hub.store.write(
        lambda tx: rows.change(
            tx, other.id, state=ConnectionState.DISCONNECTED.value, current_version_id=None
        )
    )
    assert "drop" in [s.key for s in runs.plan(hub, name, Goal.DISCONNECT, drop=True).steps]


# -- lying down while a person answers -----------------------------------------------------------------------------


def test_an_answer_that_was_taken_up_wakes_nobody(hub, client, name):
    """A run that waits for its second task sleeps: the first one's answer is not looked at again and again."""
    world.connect(hub, client, "supplied", name)
    run = runs.start(hub, name, Goal.ROTATE)
    two = lambda r: len(runs.left_behind(hub, r.id)[0]) == 2  # noqa: E731
    run = until(hub, client, run, name, two)
    assert run.state is RunState.WAITING_HUMAN
    assert run.due_at > time.time() + 86400
    supply, delete = runs.left_behind(hub, run.id)[0]
    assert (supply.state, delete.state) == (TaskState.SUBMITTED, TaskState.OPEN)


def test_an_answer_that_comes_while_the_run_lies_down_is_not_missed(hub, client, name):
    """It is due again in the very commit with which it lies down: whoever follows it sees no rest in between."""
    world.connect(hub, client, "regenerate_person", name)
    run = asked(hub, runs.start(hub, name, Goal.ROTATE))
    (task,) = runs.left_behind(hub, run.id)[0]

    def listen(place):
        if place == "probe:old_while_waiting:before":  # after it looked at the task, before it lies down
            boundary.listen(None)
            tasks.submit(hub, task.id, {"secret": shapes.person_resets(client, name)})

    runs.retry(hub, run.id)
    boundary.listen(listen)
    Executor(hub.hub).advance(run.id)
    assert runs.get(hub, run.id).due_at <= time.time()
    assert until(hub, client, run, name, None).state is RunState.COMPLETE


# -- what is kept of values that were turned down ------------------------------------------------------------------


def test_a_refused_candidate_is_kept_until_another_is_proven(hub, client, name):
    """Its ciphertext goes with the switch; what is owed keeps its value until it is paid."""
    world.connect(hub, client, "two_slots", name)
    client.arm(name, "value_refused", "set", times=1)
    run = until(hub, client, runs.start(hub, name, Goal.ROTATE), name, None)
    assert run.state is RunState.COMPLETE
    known = hub.store.read(lambda tx: versions.of_connection(tx, run.connection_id))
    assert {v.state for v in known} == {State.DEAD, State.REFUSED, State.CURRENT}
    sealed = {row for (row,) in hub.store.read(lambda tx: tx.all("SELECT id FROM sealed"))}
    assert {v.state for v in known if f"version:{v.id}" in sealed} == {State.CURRENT}


def test_a_value_that_is_owed_is_not_destroyed(hub, client, name):
    """What a person brought and was turned down may live at the vendor: the debt needs it to prove its death."""
    world.connect(hub, client, "supplied", name)
    run = asked(hub, runs.start(hub, name, Goal.ROTATE))
    (task,) = runs.left_behind(hub, run.id)[0]
    tasks.submit(hub, task.id, {"key_id": f"{name}.77", "secret": "ktlab-not-a-key-at-all"})
    run = until(hub, client, run, name, None)
    assert run.state is RunState.COMPLETE_WITH_DEBT
    (owed,) = [d for d in runs.left_behind(hub, run.id)[1] if d.kind == "unwanted"]
    assert hub.secrets.find(f"version:{owed.version_id}") is not None


# -- the gate opens only on a switch that everybody sees -----------------------------------------------------------


def at_once(hub, name):
    """A policy that gives nobody any time."""
    connection = connections.find(hub, name)
    policy = {"drain_min_s": 0.0, "retention_s": 0.0}
    hub.store.write(lambda tx: rows.change(tx, connection.id, policy=policy))


def test_a_required_consumer_holds_the_old_one_also_without_a_least_time(hub, client, name):
    """Whether it has moved on is judged by the generation after the switch."""
    world.connect(hub, client, "many_ids", name)
    at_once(hub, name)
    leases.declare(hub, name, "slow", "live")
    leases.give_back(hub, leases.take(hub, name, "slow").lease_id)
    run = draining(hub, client, runs.start(hub, name, Goal.ROTATE), name)
    assert "not seen on the new one yet: slow" in run.waiting_for
    leases.give_back(hub, leases.take(hub, name, "slow").lease_id)
    assert until(hub, client, run, name, None).state is RunState.COMPLETE


def test_no_lease_falls_between_the_look_and_the_end(hub, client, name):
    """Whoever leases after the gate was found open gets the new one: the old one is not ended under anybody."""
    world.connect(hub, client, "many_ids", name)
    at_once(hub, name)
    old, got = connections.find(hub, name).current_version_id, []

    def listen(place):
        if place == "line:OBSERVED:drain:before":
            boundary.listen(None)
            got.append(leases.take(hub, name, "late", ttl_s=300.0).version.id)

    boundary.listen(listen)
    until(hub, client, runs.start(hub, name, Goal.ROTATE), name, None)
    assert len(got) == 1
    assert got != [old]
