"""A public address: it is watched, connected and left; nothing about it is ever rotated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compliance.case import Case
from tests.compliance.lab import the_lab
from tests.compliance.rows.custom_rest import PUBLIC, drafted
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.errors import InvalidInput, VendorUnavailable
from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import RunState
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, leases, runs


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    there = the_lab().vendor("notes")
    there.post("reset", {})
    text = drafted(there.url, PUBLIC)
    case = Case("custom-rest", "none", {}, set, lambda _: "", {}, definition=text)
    made = open_world(case, tmp_path)
    yield made
    made.hub.close()


def test_it_is_connected_and_watched(world: World) -> None:
    """No made-up credential is tried, as none is asked for; trouble there shows at the next test."""
    made = world.connect()
    assert made.negative_control == "skipped"
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    there = the_lab().vendor("notes")
    there.arm("status", "error_not_applied")
    assert connections.test(world.hub, world.name).verdict is Verdict.UNKNOWN
    assert dict(leases.resolve(world.hub, world.name).material) == {}


def test_an_address_that_does_not_answer_is_not_saved(world: World) -> None:
    the_lab().vendor("notes").arm("status", "html_page")
    with pytest.raises(VendorUnavailable):
        world.connect()
    assert connections.every(world.hub) == []


@pytest.mark.parametrize("goal", [Goal.ROTATE, Goal.CONTAIN, Goal.REAUTHORIZE])
def test_there_is_nothing_to_rotate(world: World, goal: Goal) -> None:
    """Said at once, and no task asks anybody for a credential that does not exist."""
    world.connect()
    with pytest.raises(InvalidInput, match="no credential"):
        runs.plan(world.hub, world.name, goal)


def test_it_is_left_and_taken_up_again(world: World) -> None:
    """Nothing is ended at the vendor and nobody is asked; reconnected it is tested before it serves."""
    world.connect()
    plan = runs.plan(world.hub, world.name, Goal.DISCONNECT)
    assert [step.kind for step in plan.steps] == [Kind.DRAIN, Kind.CLOSE]
    assert world.run(Goal.DISCONNECT).state is RunState.COMPLETE
    assert connections.find(world.hub, world.name).state is ConnectionState.DISCONNECTED
    back = world.run(Goal.RECONNECT)
    assert back.state is RunState.COMPLETE, world.why(back)
    assert connections.find(world.hub, world.name).state is ConnectionState.ACTIVE
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
