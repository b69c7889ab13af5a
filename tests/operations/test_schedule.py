"""What the clock asks for: tokens are replaced before they end, due rotations begin, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, runs, schedule
from keyturn.storage import connections as rows
from keyturn.storage import versions
from keyturn_lab.vendors.shapes.running import Shapes
from tests.faults import world

DAY = 86400.0


@pytest.fixture
def vendor() -> Iterator[Shapes]:
    with Shapes.in_thread() as running:
        yield running


@pytest.fixture
def connected(hub: Keyturn, vendor: Shapes) -> Callable[..., str]:
    def make(name: str, method: str = "two_slots", **policy: object) -> str:
        world.connect(hub, vendor.client, method, name)
        found = connections.find(hub, name)
        hub.store.write(lambda tx: rows.change(tx, found.id, policy={**found.policy, **policy}))
        return name

    return make


def age(hub: Keyturn, name: str, **columns: float) -> None:
    """As if what serves were older than it is."""
    version = connections.find(hub, name).current_version_id
    names = ", ".join(f"{column} = ?" for column in columns)
    hub.store.write(lambda tx: tx.run(f"UPDATE version SET {names} WHERE id = ?", *columns.values(), version))


def begun(hub: Keyturn, name: str) -> list[tuple[Goal, RunState]]:
    return [(run.goal, run.state) for run in runs.recent(hub, name, 10)]


def test_a_rotation_that_is_due_begins_once_where_its_policy_says_so(
    hub: Keyturn, connected: Callable[..., str]
) -> None:
    """Only with `automatic`; two workers, or two looks, begin it once; one that is not due is left alone."""
    due, by_hand, young = (
        connected("due", automatic=True, max_age_days=30.0),
        connected("by hand", max_age_days=30.0),
        connected("young", automatic=True),
    )
    for name in (due, by_hand, young):
        age(hub, name, changed_at=time.time() - 31 * DAY)
    assert schedule.start_due(hub) == 1
    assert schedule.start_due(hub) == 0
    assert begun(hub, due) == [(Goal.ROTATE, RunState.QUEUED)]
    assert begun(hub, by_hand) == begun(hub, young) == []
    (line,) = runs.lines(hub, runs.recent(hub, due, 1)[0].id)
    assert line.facts["by"] == schedule.BY


def test_one_that_ended_badly_is_not_begun_again_at_once(hub: Keyturn, connected: Callable[..., str]) -> None:
    """The same trigger gives the ended run; the next try is another day's."""
    name = connected("due", automatic=True, max_age_days=1.0)
    age(hub, name, changed_at=time.time() - 2 * DAY)
    assert schedule.start_due(hub) == 1
    runs.cancel(hub, runs.recent(hub, name, 1)[0].id)
    assert schedule.start_due(hub) == 0
    assert len(begun(hub, name)) == 1


def test_what_ends_is_due_with_time_to_spare(hub: Keyturn, connected: Callable[..., str]) -> None:
    """A secret of 100 days is due after 86, whatever the policy allows; one of ten days after eight."""
    name = connected("ends", max_age_days=365.0)
    now = time.time()
    for life, due in ((100 * DAY, 86 * DAY), (10 * DAY, 8 * DAY)):
        age(hub, name, changed_at=now, expires_at=now + life)
        connection = connections.find(hub, name)
        current = hub.store.read(lambda tx, c=connection: versions.by_id(tx, c.current_version_id))
        assert schedule.due_at(connection, current) == pytest.approx(now + due, abs=1.0)


def test_a_grant_is_refreshed_when_most_of_its_token_is_gone(
    hub: Keyturn, vendor: Shapes, connected: Callable[..., str]
) -> None:
    """Its new version has a time of its own; while a run is going on nothing is begun; a revoked one is left alone."""
    name = connected("grant", "grant")
    first = runs.start(hub, name, Goal.REFRESH)
    world.drive(hub, first.id, world.person(vendor.client, hub, "grant"))
    assert schedule.start_due(hub) == 0
    age(hub, name, refresh_at=time.time() - 1)
    assert schedule.start_due(hub) == 1
    assert schedule.start_due(hub) == 0
    run = runs.recent(hub, name, 1)[0]
    assert run.goal is Goal.REFRESH
    ended = world.drive(hub, run.id, world.person(vendor.client, hub, "grant"))
    assert ended.state is RunState.COMPLETE
    current = connections.find(hub, name).current_version_id
    age(hub, name, refresh_at=time.time() - 1)
    hub.store.write(lambda tx: rows.change(tx, connections.find(hub, name).id, state="revoked"))
    assert current
    assert schedule.start_due(hub) == 0


def test_the_time_to_refresh_comes_from_the_token(tmp_path: Path) -> None:
    """60 to 70 % of its life; nothing where there is no refresh token or no end."""
    from keyturn.executor.context import _refresh_at
    from keyturn.model.secret import Material

    token = {"refresh_token": "r", "expires_at": "4600"}
    assert all(
        1000 + 0.6 * 3600 <= (_refresh_at(Material(token), 1000.0) or 0) <= 1000 + 0.7 * 3600
        for _ in range(50)
    )
    assert _refresh_at(Material({"refresh_token": "r"}), 1000.0) is None
    assert _refresh_at(Material({"expires_at": "4600"}), 1000.0) is None
    assert _refresh_at(Material(token), 5000.0) is None
