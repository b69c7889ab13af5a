"""Jira's grant through the hub: refreshed in time, a lost answer forgiven, and a dead grant told from a wrong app secret."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.compliance.case import ME
from tests.compliance.lab import StandIn, the_lab
from tests.compliance.rows.jira import jira
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal
from keyturn.model.run import LineKind, Run, RunState, Task
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, editing, runs, schedule
from keyturn.storage import versions
from keyturn_lab import people
from keyturn_lab.guard import DEMO_PASSWORD


@pytest.fixture
def there() -> StandIn:
    return the_lab().vendor("jira")


@pytest.fixture
def world(there: StandIn, tmp_path: Path) -> Iterator[World]:
    made = open_world(jira(the_lab()), tmp_path)
    made.enter()
    there.post("settings", {"leeway_s": 600.0})
    yield made
    made.hub.close()


def state(world: World) -> ConnectionState:
    return connections.find(world.hub, world.name).state


def decided(world: World, run_id: str) -> set[str]:
    return {
        str(line.facts.get("decision"))
        for line in runs.lines(world.hub, run_id)
        if line.kind is LineKind.DECISION
    }


def test_the_clock_refreshes_before_the_token_ends(world: World) -> None:
    """Due at 60 to 70 % of an hour; then the clock begins the refresh, and the next one is due from the new token on."""
    current = connections.find(world.hub, world.name).current_version_id
    version = world.hub.store.read(lambda tx: versions.by_id(tx, current))
    assert version is not None
    due = version.refresh_at
    assert due is not None
    assert 0.59 * 3570 <= due - time.time() <= 0.7 * 3570
    assert schedule.start_due(world.hub) == 0
    old = world.serving()
    world.hub.store.write(
        lambda tx: tx.run("UPDATE version SET refresh_at = ? WHERE id = ?", time.time() - 1, current)
    )
    assert schedule.start_due(world.hub) == 1
    (run, *_) = runs.recent(world.hub, world.name, 1)
    done = world.follow(run.id)
    assert done.state is RunState.COMPLETE, world.why(done)
    assert world.serving()["refresh_token"] != old["refresh_token"]
    assert world.serving()["grant_ends_at"] == old["grant_ends_at"], (
        "a refresh does not move the absolute end"
    )
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED


def test_a_lost_answer_to_a_refresh_is_asked_for_again_within_the_leeway(
    world: World, there: StandIn
) -> None:
    """Atlassian takes the used token for ten more minutes, for exactly this; the person is not asked."""
    old = world.serving()
    there.arm("refresh", "answer_lost")
    done = world.run(Goal.REFRESH)
    assert done.state is RunState.COMPLETE, world.why(done)
    assert world.serving()["refresh_token"] != old["refresh_token"]
    assert world.serving()["refresh_token"] in world.case.alive()
    assert state(world) is ConnectionState.ACTIVE


def refused_again(world: World) -> Run:
    """A refresh that is refused; the waits before it is asked again are cut short."""

    def hurry(run: Run) -> bool:
        if "asked again" in run.waiting_for:
            runs.retry(world.hub, run.id)
        return False

    return world.run(Goal.REFRESH, until=hurry)


@pytest.mark.parametrize("refusal", ["invalid_grant", "unauthorized_client"])
def test_a_dead_grant_needs_a_person_and_their_consent_mends_it(
    world: World, there: StandIn, refusal: str
) -> None:
    """Both spellings of a dead refresh token (a changed password, say): needs_reauth, and the stored pair stays sealed."""
    there.post("settings", {"refusal": refusal})
    people.jira_change_password(there.url, ME, DEMO_PASSWORD)
    run = refused_again(world)
    assert run.state in {RunState.ABORTED_CLEAN, RunState.ABORTED_WITH_DEBT}, world.why(run)
    assert state(world) is ConnectionState.NEEDS_REAUTH
    assert "needs_reauth" in decided(world, run.id)
    assert world.serving()["refresh_token"]
    mended = world.run(Goal.REAUTHORIZE)
    assert mended.state is RunState.COMPLETE, world.why(mended)
    assert state(world) is ConnectionState.ACTIVE
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED


def test_a_wrong_app_secret_is_no_dead_grant(world: World, there: StandIn) -> None:
    """Somebody replaced the app's secret: nobody is asked to consent, and with the right secret it goes on."""
    grant = world.serving()["refresh_token"]
    app = there.post("apps", {"client_id": world.case.values["client_id"], "replace_secret": True})
    run = world.run(Goal.REFRESH, until=lambda r: r.state is RunState.BLOCKED)
    assert run.state is RunState.BLOCKED, world.why(run)
    assert "client" in run.waiting_for
    assert state(world) is ConnectionState.ACTIVE
    assert "needs_reauth" not in decided(world, run.id)
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED, "its token still works"
    runs.cancel(world.hub, run.id)
    editing.edit(world.hub, world.name, values={"client_secret": app["client_secret"]})
    done = world.run(Goal.REFRESH)
    assert done.state is RunState.COMPLETE, world.why(done)
    assert world.serving()["refresh_token"] != grant


def test_a_leaked_token_is_contained_with_all_that_came_of_it(world: World, there: StandIn) -> None:
    """Whoever refreshed with the stolen token holds another one: the whole grant goes, by a person's hand, and is proven gone."""
    there.post("settings", {"leeway_s": 0.2})
    stolen = world.serving()
    client = {name: world.case.values[name] for name in ("client_id", "client_secret")}
    asked = {"grant_type": "refresh_token", "refresh_token": stolen["refresh_token"], **client}
    descendant = httpx2.post(f"{there.url}/oauth/token", json=asked, trust_env=False).json()["refresh_token"]
    person, lies = world.case.person, iter([True])

    def careless(task: Task) -> dict[str, str]:
        if task.kind == "delete" and next(lies, False):
            return {}  # says that it was done
        return person(task)

    world.case.person = careless
    plan = runs.plan(world.hub, world.name, Goal.CONTAIN)
    assert any("consents twice" in warning for warning in plan.warnings)
    run = world.run(Goal.CONTAIN, timeout_s=40)
    assert run.state is RunState.COMPLETE, world.why(run)
    alive = world.case.alive()
    assert descendant not in alive
    assert stolen["refresh_token"] not in alive
    assert alive == {world.serving()["refresh_token"]}
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
