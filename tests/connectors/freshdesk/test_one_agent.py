"""One agent: the gap of a reset is announced, kept short, measured from the second the old key dies, and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.compliance.case import ME
from tests.compliance.lab import the_lab
from tests.compliance.rows.freshdesk import one_agent
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.errors import Conflict, InvalidInput
from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, Run, RunState
from keyturn.operations import connections, leases, runs, systems, tasks
from keyturn_lab import people


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = open_world(one_agent(the_lab()), tmp_path)
    made.enter()
    yield made
    made.hub.close()


def state(world: World) -> ConnectionState:
    return connections.find(world.hub, world.name).state


def gap(world: World, run: Run) -> dict[str, object] | None:
    found = systems.run_page(world.hub, runs.get(world.hub, run.id))["gap"]
    return dict(found) if found else None


def gap_seen(world: World, run: Run) -> dict[str, object] | None:
    """The gap once the hub has seen it; nobody answers meanwhile."""
    until = time.monotonic() + 10
    while gap(world, run) is None and time.monotonic() < until:
        time.sleep(0.02)
    return gap(world, run)


def test_the_gap_is_announced_measured_and_recorded(world: World) -> None:
    """Paused before the person acts; the clock begins when the old key is refused, not when the task was opened."""
    there = the_lab().vendor("freshdesk")
    run = runs.start(world.hub, world.name, Goal.ROTATE)
    assert any("paused" in warning for warning in run.plan.warnings)
    waiting = world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
    assert waiting.state is RunState.WAITING_HUMAN
    (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
    assert state(world) is ConnectionState.PAUSED
    with pytest.raises(Conflict, match="paused"):
        leases.take(world.hub, world.name, "a program")
    assert gap(world, run) is None, "nobody has reset anything yet"
    key = people.freshdesk_reset_key(there.url, ME)
    lasting = gap_seen(world, run)
    assert lasting is not None, world.why(runs.get(world.hub, run.id))
    assert lasting["until"] is None
    time.sleep(0.3)
    tasks.submit(world.hub, task.id, {"api_key": key})
    done = world.follow(run.id)
    assert done.state is RunState.COMPLETE, world.why(done)
    assert state(world) is ConnectionState.ACTIVE
    over = gap(world, done)
    assert over is not None
    assert over["since"] == lasting["since"]
    assert over["until"] is not None
    assert 0.3 <= float(str(over["seconds"])) < 10
    assert leases.take(world.hub, world.name, "a program").material["api_key"] == key


def test_the_clock_pauses_nobody_before_somebody_is_there(world: World) -> None:
    """An automatic rotation waits for a person without stopping consumers; whoever takes the task up stops them."""
    run = runs.start(world.hub, world.name, Goal.ROTATE, trigger="clock/rotate/once", who="keyturn")
    world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
    (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
    assert state(world) is ConnectionState.ACTIVE
    held = leases.take(world.hub, world.name, "a program", ttl_s=5)
    leases.give_back(world.hub, held.lease_id)
    tasks.claim(world.hub, task.id)
    until = time.monotonic() + 5
    while state(world) is not ConnectionState.PAUSED and time.monotonic() < until:
        time.sleep(0.02)
    assert state(world) is ConnectionState.PAUSED
    with pytest.raises(Conflict, match="paused"):
        leases.take(world.hub, world.name, "a program")
    tasks.submit(world.hub, task.id, world.case.person(task))
    done = world.follow(run.id)
    assert done.state is RunState.COMPLETE, world.why(done)
    assert state(world) is ConnectionState.ACTIVE


def test_a_reset_that_nobody_did_pauses_nobody_for_ever(tmp_path: Path) -> None:
    """The old key pasted back is refused at once; once the task's time is over the old one is tested and serves on."""
    case = one_agent(the_lab())
    world = open_world(replace(case, policy={**case.policy, "task_days": 1.5 / 86400}), tmp_path)
    try:
        old = world.enter()["api_key"]
        run = runs.start(world.hub, world.name, Goal.ROTATE)
        world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
        (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
        with pytest.raises(InvalidInput, match="version 1"):
            tasks.submit(world.hub, task.id, {"api_key": old})
        ended = follow_alone(world, run)
        assert ended.state is RunState.ABORTED_CLEAN, world.why(ended)
        assert state(world) is ConnectionState.ACTIVE
        assert world.serving()["api_key"] == old
    finally:
        world.hub.close()


def test_whoever_does_not_want_to_wait_cancels(world: World) -> None:
    """The person is asked no longer and the old key is tested: it works, so nobody is paused any more."""
    run = runs.start(world.hub, world.name, Goal.ROTATE)
    world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
    assert "cancel" in runs.ways_out(world.hub, runs.get(world.hub, run.id))
    patiently(lambda: runs.cancel(world.hub, run.id))
    ended = follow_alone(world, run)
    assert ended.state is RunState.ABORTED_CLEAN, world.why(ended)
    assert state(world) is ConnectionState.ACTIVE
    assert "cancel" in {line.facts.get("decision") for line in runs.lines(world.hub, run.id)}


def test_a_reset_that_was_done_is_not_cancelled(world: World) -> None:
    """The old key is refused already: the way is forward, with the new one."""
    run = runs.start(world.hub, world.name, Goal.ROTATE)
    world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
    key = people.freshdesk_reset_key(the_lab().vendor("freshdesk").url, ME)
    assert gap_seen(world, run)
    with pytest.raises(Conflict, match="a person may have"):
        patiently(lambda: runs.cancel(world.hub, run.id))
    (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
    tasks.submit(world.hub, task.id, {"api_key": key})
    assert world.follow(run.id).state is RunState.COMPLETE


def patiently(act: Callable[[], object]) -> None:
    """A worker may be looking at the run in this very moment."""
    for _ in range(100):
        try:
            act()
            return
        except Conflict as error:
            if "being worked on" not in error.message:
                raise
            time.sleep(0.02)


def follow_alone(world: World, run: Run) -> Run:
    """Until it ends, with nobody who answers."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        found = runs.get(world.hub, run.id)
        if found.state in TERMINAL:
            return found
        time.sleep(0.05)
    return runs.get(world.hub, run.id)
