"""An answer of the vendor's that is sealed and cannot be read: the run says the one thing to do, and nothing is lost."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.errors import UnexpectedAnswer
from keyturn.executor.executor import Executor
from keyturn.model.plan import Goal
from keyturn.model.run import LineKind, Run, RunState
from keyturn.operations import leases, runs, tasks
from keyturn_lab.vendors.shapes import Client
from tests.faults import shapes_connector as shapes
from tests.faults import world

NUMBERS = itertools.count(1)


@pytest.fixture
def name() -> str:
    return f"unreadable{next(NUMBERS)}"


def unreadable(monkeypatch: pytest.MonkeyPatch, holder: type, times: int = 10**6) -> None:
    """As if the vendor answered in words of its own: `read` understands the next answers not."""
    real, left = holder.read, itertools.count()

    def read(self: Any, *given: Any) -> Any:
        if next(left) < times:
            raise UnexpectedAnswer("the answer holds no key")
        return real(self, *given)

    monkeypatch.setattr(holder, "read", read)


def stuck(hub: Keyturn, client: Client, name: str, goal: Goal, state: RunState) -> Run:
    run = runs.start(hub, name, goal)
    return world.drive(hub, run.id, world.person(client, hub, name), stop=lambda r: r.state is state)


def alive(client: Client, name: str) -> set[str]:
    return {each["value"] for each in client.call("alive", principal=name) if each["usable"]}


def receipts(hub: Keyturn, run: Run) -> int:
    like = f"receipt:{run.id}:%"
    return int(hub.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM sealed WHERE id LIKE ?", like))[0])


def test_it_stops_and_names_both_ways_out(
    hub: Keyturn, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked once, not again and again; the answer stays sealed; what can read it goes on to the end."""
    world.connect(hub, client, "many_ids", name)
    with monkeypatch.context() as patch:
        unreadable(patch, shapes.Keys)
        run = stuck(hub, client, name, Goal.ROTATE, RunState.BLOCKED)
        assert run.state is RunState.BLOCKED
        assert f"keyturn rollback {run.id}" in run.waiting_for
        assert f"keyturn retry {run.id}" in run.waiting_for
        for _ in range(3):
            runs.retry(hub, run.id)
            Executor(hub.hub).advance(run.id)
        said = runs.lines(hub, run.id)
        assert len([1 for line in said if line.step == "stage" and line.kind is LineKind.INTENT]) == 1
        assert receipts(hub, run) == 1
    runs.retry(hub, run.id)
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.COMPLETE


def test_undone_what_was_made_is_found_and_ended(
    hub: Keyturn, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back does not need to read it: the vendor's list shows what is new, and that goes."""
    world.connect(hub, client, "many_ids", name)
    before, serving = alive(client, name), leases.resolve(hub, name).material
    unreadable(monkeypatch, shapes.Keys)
    run = stuck(hub, client, name, Goal.ROTATE, RunState.BLOCKED)
    assert len(alive(client, name)) == len(before) + 1
    runs.rollback(hub, run.id)
    done = world.drive(hub, run.id, world.person(client, hub, name))
    assert done.state is RunState.ABORTED_CLEAN
    assert alive(client, name) == before
    assert leases.resolve(hub, name).material == serving


def test_where_the_old_one_ended_with_it_a_person_brings_a_value(
    hub: Keyturn, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot and the vendor's value: nothing serves, so the run is LOST and its task says how to mend it."""
    world.connect(hub, client, "regenerate", name)
    unreadable(monkeypatch, shapes.Slots)
    run = stuck(hub, client, name, Goal.ROTATE, RunState.LOST)
    assert run.state is RunState.LOST
    assert [task.kind for task in tasks.waiting(hub) if task.run_id == run.id] == ["supply"]


def test_a_consent_is_asked_for_once_more(
    hub: Keyturn, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code works once, so only another consent helps; the grant nobody can name is owed."""
    world.connect(hub, client, "grant", name)
    unreadable(monkeypatch, shapes.Grants, times=1)
    done = stuck(hub, client, name, Goal.REAUTHORIZE, RunState.BLOCKED)
    assert done.state is RunState.COMPLETE_WITH_DEBT
    assert "unknown_grant" in {debt.kind for debt in runs.left_behind(hub, done.id)[1]}


def test_a_refresh_is_sent_again(
    hub: Keyturn, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page in the place of an answer says nothing about the grant: the same token is sent once more."""
    world.connect(hub, client, "grant", name)
    assert stuck(hub, client, name, Goal.REAUTHORIZE, RunState.BLOCKED).state is RunState.COMPLETE
    unreadable(monkeypatch, shapes.Grants, times=2)
    done = stuck(hub, client, name, Goal.REFRESH, RunState.BLOCKED)
    assert done.state is RunState.COMPLETE
