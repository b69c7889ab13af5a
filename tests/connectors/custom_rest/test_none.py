"""A public address: it is watched, connected and left; nothing about it is ever rotated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compliance.lab import the_lab
from tests.compliance.rows.custom_rest import notes_status
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.errors import InvalidInput, VendorUnavailable
from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import RunState
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, leases, overview, runs, systems


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = open_world(notes_status(the_lab()), tmp_path)
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


def test_it_is_never_due(world: World) -> None:
    """However old: neither overdue in the lists, nor begun by the clock, nor a date to wait for."""
    world.connect()
    connection = connections.find(world.hub, world.name)
    old = time.time() - 400 * 86400.0
    world.hub.store.write(
        lambda tx: tx.run(
            "UPDATE version SET changed_at = ?, born_at = ? WHERE id = ?",
            old,
            old,
            connection.current_version_id,
        )
    )
    (line,) = overview.page(world.hub, None).lines
    assert (line.due, line.health) == (None, "good")
    (shown,) = systems.overview(world.hub)
    assert shown["due"] is None


def test_its_row_and_its_page_say_so(world: World) -> None:
    """No strategy, grade or hand is claimed for what never happens."""
    world.connect()
    (row,) = (each for each in systems.rows(world.hub.catalog, "custom-rest") if each["method"] == "none")
    said = {"strategy": "S0", "gap_class": "none", "proof": "none", "hands": "none"}
    page = systems.connection_page(world.hub, world.name)
    assert {name: row[name] for name in said} == {name: page[name] for name in said} == said
    method = next(
        m for m in systems.page(world.hub.catalog, "custom-rest")["methods"] if m["method"] == "none"
    )
    assert method["card"] == {"How it rotates": "S0: There is no credential: nothing to rotate."}


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
