"""Whole runs of Snowflake's OAuth row: consenting again, the wrong person, refreshing, and two connections on one client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compliance.lab import the_lab
from tests.compliance.rows.snowflake import oauth, oauth_by_consent, password_by_an_administrator
from tests.operations.test_rows_end_to_end import World, _only_ours_alive, open_world

from keyturn.errors import Conflict
from keyturn.model.credential import ConnectionState, State
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import RunState
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, runs, tasks


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = open_world(oauth(the_lab()), tmp_path)
    yield made
    made.hub.close()


def test_a_new_consent_replaces_the_whole_pair(world: World) -> None:
    """Authorized again: another refresh token under the other client secret; the old pair is ended and proven dead."""
    old = world.enter()
    plan = runs.plan(world.hub, world.name, Goal.REAUTHORIZE)
    assert [s.kind for s in plan.steps][:2] == [Kind.PREFLIGHT, Kind.CONSENT]
    run = world.run(Goal.REAUTHORIZE)
    assert run.state is RunState.COMPLETE, world.why(run)
    new = world.serving()
    assert new["refresh_token"] != old["refresh_token"]
    assert new["client_secret"] != old["client_secret"]
    _only_ours_alive(world)
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    run = world.run(Goal.ROTATE)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert world.serving()["refresh_token"] == new["refresh_token"]
    _only_ours_alive(world)


def test_nothing_but_a_disconnect_with_drop_drops_the_integration(world: World) -> None:
    """Rotated, authorized again, contained, disconnected and reconnected: the guide's one warning is kept."""
    world.enter()
    there = the_lab().vendor("snowflake")
    begun = len(there.get("effects"))
    for goal in (Goal.ROTATE, Goal.REAUTHORIZE, Goal.CONTAIN, Goal.DISCONNECT, Goal.RECONNECT):
        run = world.run(goal, timeout_s=40)
        assert run.state is RunState.COMPLETE, (goal, world.why(run))
    effects = there.get("effects")[begun:]
    assert "alter_integration" in effects
    assert "drop_integration" not in effects


def test_a_dead_grant_is_mended_by_a_consent(world: World) -> None:
    """The refresh token ran out: nobody can log in, and a person's consent brings the connection back."""
    old = world.enter()
    there = the_lab().vendor("snowflake")
    user, integration = str(world.case.values["user"]), str(world.case.values["integration"])
    there.post("consents", {"user": user, "integration": integration, "revoke": True})
    assert connections.test(world.hub, world.name).code == "invalid_grant"
    run = world.run(Goal.REAUTHORIZE)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert world.serving()["refresh_token"] != old["refresh_token"]
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED


def test_somebody_elses_consent_changes_nothing(world: World) -> None:
    """The pinned user consents or nobody: the task comes back, the old pair serves on."""
    old = world.enter()
    run = runs.start(world.hub, world.name, Goal.REAUTHORIZE)
    world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
    (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
    url = next(str(each["url"]) for each in task.instructions if each.get("url"))
    assert world.case.other_consent is not None
    tasks.submit(world.hub, task.id, {"callback_url": world.case.other_consent(url)})

    def turned_down(_run: object) -> bool:
        said = {line.facts.get("decision") for line in runs.lines(world.hub, run.id)}
        return "turned_down" in said

    world.follow(run.id, until=turned_down)
    assert turned_down(run)
    assert world.serving() == old
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED


def test_a_refresh_shows_that_the_grant_lives(world: World) -> None:
    """The pair stays what it was, in the slot where it was; the next rotation still finds the other one."""
    old = world.enter()
    run = world.run(Goal.REFRESH)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert world.serving()["refresh_token"] == old["refresh_token"]
    run = world.run(Goal.ROTATE)
    assert run.state is RunState.COMPLETE, world.why(run)
    _only_ours_alive(world)


def test_two_connections_on_one_integration_are_not_rotated_alone(world: World) -> None:
    """Both hold the same client secret, whoever consented: ending it for one would end it for the other."""
    world.enter()
    connections.connect(
        world.hub, "snowflake", "oauth", "second", world.case.values, policy=world.case.policy
    )
    with pytest.raises(Conflict, match="second"):
        runs.plan(world.hub, world.name, Goal.ROTATE)


def test_a_connection_waits_for_its_first_consent(tmp_path: Path) -> None:
    """With an administrator neither secret nor token is typed: the first consent pins the account."""
    world = open_world(oauth_by_consent(the_lab()), tmp_path)
    try:
        world.connect()
        assert connections.find(world.hub, world.name).state is ConnectionState.REVOKED
        run = world.run(Goal.REAUTHORIZE)
        assert run.state is RunState.COMPLETE, world.why(run)
        assert connections.find(world.hub, world.name).identity["principal"] == world.case.values["user"]
        assert world.known(State.CURRENT) == world.case.alive()
    finally:
        world.hub.close()


def test_a_password_leaves_evidence_and_is_given_up_at_the_end(tmp_path: Path) -> None:
    """LOGIN_HISTORY's word on the new password is in the trail; disconnected with drop: unset, proven, disabled, dropped."""
    world = open_world(password_by_an_administrator(the_lab()), tmp_path)
    try:
        world.enter()
        assert any(
            "withdraws" in warning for warning in runs.plan(world.hub, world.name, Goal.ROTATE).warnings
        )
        run = world.run(Goal.ROTATE)
        assert run.state is RunState.COMPLETE, world.why(run)
        seen = [line.facts for line in runs.lines(world.hub, run.id) if line.facts.get("what") == "last_used"]
        assert [facts["version"] for facts in seen] == [
            connections.find(world.hub, world.name).current_version_id
        ]
        assert str(seen[0]["at"]).startswith("20")
        there = the_lab().vendor("snowflake")
        begun = len(there.get("effects"))
        gone = world.follow(runs.start(world.hub, world.name, Goal.DISCONNECT, drop=True).id)
        assert gone.state is RunState.COMPLETE, world.why(gone)
        changes = [each for each in there.get("effects")[begun:] if each.startswith(("alter_", "drop_"))]
        assert changes == ["alter_user_unset", "alter_user_set", "drop_user"]
    finally:
        world.hub.close()
