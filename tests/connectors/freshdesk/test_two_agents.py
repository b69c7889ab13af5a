"""Freshdesk with two agents that take turns: who a key belongs to, and what a person's mistakes come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.compliance.lab import the_lab
from tests.compliance.rows.freshdesk import one_agent, two_agents
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.catalog import Catalog
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import Conflict, CredentialRejected, InvalidInput
from keyturn.model.card import GapClass, Hands, Proof, Strategy
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import LineKind, RunState, Task
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn.operations import connections, runs, tasks
from keyturn.transport import sql
from keyturn_lab import people
from keyturn_lab.standin import running
from keyturn_lab.vendors.freshdesk import STANDIN

FIRST, SECOND, OTHER = "integration@acme.example", "standby@acme.example", "admin@acme.example"
SETTINGS = {"domain": "acme", "agents": "two", "first_agent": FIRST, "second_agent": SECOND.upper()}
ROW = Catalog().row("freshdesk", "api_key", SETTINGS)


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        httpx2.post(f"{address}/_lab/dials", json={"settle_s": 0, "latency_s": 0})
        yield address


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = open_world(two_agents(the_lab()), tmp_path)
    yield made
    made.hub.close()
    sql.close_idle()


def key_of(url: str, agent: str, said: str = "") -> Material:
    return Material(
        {"api_key": people.freshdesk_view_key(url, agent), "agent": said or agent}, frozenset({"agent"})
    )


def access(url: str, **settings: Any) -> Access:
    network = NetworkPolicy(frozenset({"127.0.0.1"}))
    return Access({**SETTINGS, "base_url": url, **settings}, deadline_s=5, network=network)


def test_card_and_guide_are_the_variants() -> None:
    """Two agents overlap without a pause; one agent is as before."""
    card, method = ROW.card, ROW.method
    assert (card.strategy, card.hands, card.gap_class, card.proof) == (
        Strategy.SUPPLIED,
        Hands.GUIDED,
        GapClass.Z0,
        Proof.D2,
    )
    assert (method.paste_fields, method.requires_pause) == (("api_key", "agent"), False)
    assert "take turns" in method.create_steps[0].text
    one = Catalog().row("freshdesk", "api_key", {"domain": "acme", "agents": "one"})
    assert (one.card.strategy, one.method.requires_pause) == (Strategy.REGENERATE, True)
    assert one.can.locator is None


def test_either_agent_is_the_pair(url: str) -> None:
    """Keys of the two are one identity, in any case of the letters; somebody else's key is not."""
    first, second = (ROW.can.verifier.verify(access(url), key_of(url, who)) for who in (FIRST, SECOND))
    assert first.identity["principal"] == f"{FIRST} or {SECOND}"
    assert mismatch(first.identity, second.identity) == ()
    stranger = ROW.can.verifier.verify(access(url), key_of(url, OTHER))
    assert stranger.verdict is Verdict.ACCEPTED
    assert "principal" in mismatch(first.identity, stranger.identity)


@pytest.mark.parametrize(
    ("agent", "said"), [(FIRST, SECOND), (SECOND, FIRST), (OTHER, FIRST), (FIRST, OTHER)]
)
def test_a_key_is_taken_only_as_the_agent_it_is(url: str, agent: str, said: str) -> None:
    """A key named for the wrong agent is not the pair's, and is not placed: the next reset would hit the wrong one."""
    good = ROW.can.verifier.verify(access(url), key_of(url, FIRST))
    found = ROW.can.verifier.verify(access(url), key_of(url, agent, said))
    assert mismatch(good.identity, found.identity) == ("principal",)
    assert agent in found.identity["principal_label"]
    assert ROW.can.locator is not None
    with pytest.raises(InvalidInput):
        ROW.can.locator.locate(access(url), key_of(url, agent, said))


def test_place_is_the_agent(url: str) -> None:
    """A slot that holds one key; a key that does not work yet is placed as it was said to be."""
    assert ROW.can.locator is not None
    assert ROW.can.locator.locate(access(url), key_of(url, SECOND)).slot == SECOND
    early = key_of(url, FIRST).replacing(api_key="ktlabNotYetKnown0001")
    assert ROW.can.locator.locate(access(url), early).slot == FIRST
    for twice in (SECOND, ""):
        with pytest.raises(InvalidInput):
            ROW.can.locator.locate(access(url, first_agent=twice), key_of(url, SECOND))


def test_two_agents_must_be_named(world: World) -> None:
    """The variant's fields are required, the agent whose key is given among them."""
    values = dict(world.case.values)
    for missing in ("first_agent", "second_agent", "agent"):
        with pytest.raises(InvalidInput, match=missing):
            world.connect({name: value for name, value in values.items() if name != missing})
    with pytest.raises(InvalidInput, match="belongs to"):
        world.connect({**values, "agent": SECOND})
    with pytest.raises(CredentialRejected):
        world.connect(world.case.wrong_values)


def test_agents_take_turns(world: World) -> None:
    """Two rotations: each hands over to the other agent, without a pause, and the plan says who acts.

    The second comes within the same ten minutes: its proof may be weaker, because refused logins are rationed.
    """
    world.enter()
    plan = runs.plan(world.hub, world.name, Goal.ROTATE)
    assert (plan.strategy, plan.gap_class) == (Strategy.SUPPLIED, GapClass.Z0)
    assert [step.kind for step in plan.steps if step.who == "person"] == [Kind.ASK, Kind.TELL]
    for expected in (SECOND, FIRST):
        run = world.run(Goal.ROTATE)
        owed = {debt.kind for debt in runs.left_behind(world.hub, run.id)[1]}
        assert run.state is RunState.COMPLETE or (expected == FIRST and owed == {"weak_proof"}), world.why(
            run
        )
        assert world.serving()["agent"] == expected
        assert world.case.alive() == {world.serving()["api_key"]}


def test_resetting_the_agent_in_use_is_not_made_worse(world: World) -> None:
    """The person resets the wrong agent: the new key serves, and nobody is sent to reset that agent once more."""
    world.enter()
    url = str(world.case.values["base_url"])
    asked: list[str] = []

    def mistaken(task: Task) -> dict[str, str]:
        asked.append(task.kind)
        return {"api_key": people.freshdesk_reset_key(url, FIRST), "agent": FIRST}

    world.case = replace(world.case, person=mistaken)
    run = world.run(Goal.ROTATE)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert asked == ["supply"]
    said = [
        line.facts.get("decision") for line in runs.lines(world.hub, run.id) if line.kind is LineKind.DECISION
    ]
    assert "superseded" in said
    key = people.freshdesk_view_key(url, FIRST)
    assert world.serving()["api_key"] == key


def test_a_key_named_for_the_wrong_agent_goes_back_to_the_person(world: World) -> None:
    """The task is returned with whose key it is; named rightly, the run goes on."""
    world.enter()
    run = runs.start(world.hub, world.name, Goal.ROTATE)
    world.follow(run.id, until=lambda r: r.state is RunState.WAITING_HUMAN)
    (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
    answer = world.case.person(task)
    tasks.submit(world.hub, task.id, {**answer, "agent": FIRST})

    def returned(_run: Any) -> bool:
        return any(each.run_id == run.id and each.why for each in tasks.waiting(world.hub))

    world.follow(run.id, until=returned)
    (task,) = [each for each in tasks.waiting(world.hub) if each.run_id == run.id]
    assert SECOND in task.why
    assert world.serving()["agent"] == FIRST
    done = world.follow(run.id)
    assert done.state is RunState.COMPLETE, world.why(done)
    assert world.serving()["agent"] == SECOND


def test_two_connections_of_two_agents_are_two_accounts(tmp_path: Path) -> None:
    """One helpdesk, one key for each agent: rotating one leaves the other alone; the same agent twice is one account."""
    case = one_agent(the_lab())
    world = open_world(case, tmp_path)
    try:
        world.connect()
        there = the_lab().vendor("freshdesk")
        key = people.freshdesk_view_key(there.url, OTHER)
        connections.connect(
            world.hub, "freshdesk", "api_key", "another agent", {**case.values, "api_key": key}
        )
        assert runs.plan(world.hub, world.name, Goal.ROTATE)
        connections.connect(world.hub, "freshdesk", "api_key", "the same agent", case.values)
        with pytest.raises(Conflict, match="the same agent"):
            runs.plan(world.hub, world.name, Goal.ROTATE)
    finally:
        world.hub.engine.stop()
        world.hub.close()
