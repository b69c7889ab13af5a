"""Moving a connection to another method: same name, same account, no gap, the old way in proven dead."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn import boundary
from keyturn.errors import Conflict, InvalidInput
from keyturn.model.credential import State
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import TERMINAL, Run, RunState
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, leases, migrating, runs
from keyturn_lab.vendors.snowflake import people
from tests.compliance.case import url_of
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows import ROWS
from tests.compliance.rows.snowflake import CALLBACK, ROLE
from tests.operations.test_rows_end_to_end import World, open_world

BASIC = "snowflake/password by an administrator"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = open_world(or_skip(lambda: ROWS[BASIC](the_lab())), tmp_path)
    made.connect()
    yield made
    made.hub.engine.stop()
    made.hub.close()


def migrate(world: World, to: str = "key_pair") -> Run:
    started = migrating.start(world.hub, world.name, to, {}, reason="passwords end")
    return world.follow(started.id, timeout_s=60)


def accepted(world: World) -> Verdict:
    """A fresh login with what serves now, by the row it is of now."""
    held = leases.resolve(world.hub, world.name)
    row, access, _ = connections.access_of(world.hub, connections.find(world.hub, world.name))
    return row.can.verifier.verify(access, held.material).verdict


def at_the_vendor(world: World) -> set[str]:
    there = the_lab().vendor("snowflake")
    user = world.case.values["user"]
    return {each["kind"] for each in there.alive() if each["owner"] == user}


def test_a_password_becomes_a_key_pair_under_the_same_name(world: World) -> None:
    """Programs that resolve at use time notice nothing; the password is unset and proven dead; the next rotation is the
    new method's own."""
    refused, logins, stop = list[str](), list[int](), threading.Event()

    def consume() -> None:
        while not stop.is_set():
            (logins if accepted(world) is Verdict.ACCEPTED else refused).append(1)  # type: ignore[arg-type]
            stop.wait(0.05)

    consumer = threading.Thread(target=consume)
    consumer.start()
    try:
        run = migrate(world)
    finally:
        stop.set()
        consumer.join()
    assert run.state is RunState.COMPLETE, world.why(run)
    assert run.proof == "D2"
    assert logins
    assert not refused
    now = connections.find(world.hub, world.name)
    assert now.method == "key_pair"
    assert "private_key" in leases.resolve(world.hub, world.name).material
    assert at_the_vendor(world) == {"public_key"}
    assert [(v.method, v.state) for v in world.versions()] == [
        ("key_pair", State.CURRENT),
        ("password", State.DEAD),
    ]
    again = world.run(Goal.ROTATE, timeout_s=60)
    assert again.state is RunState.COMPLETE, world.why(again)
    assert again.plan.method == "key_pair"


def test_a_password_becomes_a_grant_by_the_users_own_consent(world: World) -> None:
    """The other way out of a withdrawn method: the user consents with the password that goes, and only then it is unset.
    The grant lives on without it, and its next rotation is that of the client's two secrets."""
    there, user = the_lab().vendor("snowflake"), world.case.values["user"]
    named = f"HUB_{the_lab().number()}"
    made = there.post("integrations", {"name": named, "properties": {"OAUTH_REDIRECT_URI": CALLBACK}})
    values = {"integration": named, "client_id": made["client_id"], "role": ROLE}
    password = world.case.values["password"]
    world.case = replace(
        world.case,
        person=lambda task: {"callback_url": people.consent(url_of(task), user, password=password)},
    )
    started = migrating.start(world.hub, world.name, "oauth", values, reason="passwords end")
    run = world.follow(started.id, timeout_s=60)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert run.proof == "D2"
    assert connections.find(world.hub, world.name).method == "oauth"
    assert accepted(world) is Verdict.ACCEPTED
    assert "password" not in at_the_vendor(world)
    assert [(v.method, v.state) for v in world.versions()] == [
        ("oauth", State.CURRENT),
        ("password", State.DEAD),
    ]
    again = world.run(Goal.ROTATE, timeout_s=60)
    assert again.state is RunState.COMPLETE, world.why(again)
    assert (again.plan.method, accepted(world)) == ("oauth", Verdict.ACCEPTED)


def test_the_plan_says_it_all_and_changes_nothing(world: World) -> None:
    """Both ways in are looked at, the point of no return is the end of the old one, and programs are warned."""
    made = migrating.plan(world.hub, world.name, "key_pair", {})
    kinds = [step.kind for step in made.steps]
    assert kinds == [
        Kind.PREFLIGHT,
        Kind.PREFLIGHT,
        Kind.SET,
        Kind.PROVE,
        Kind.CUTOVER,
        Kind.DRAIN,
        Kind.REVOKE,
        Kind.PROVE_DEAD,
    ]
    assert made.steps[made.point_of_no_return()].key == "revoke"
    assert made.rollback
    assert any("SNOWFLAKE" in each and "instead of" in each for each in made.warnings)
    assert connections.find(world.hub, world.name).method == "password"
    assert not world.hub.store.read(lambda tx: tx.all("SELECT id FROM run"))


def test_what_makes_no_sense_is_refused_by_name(world: World) -> None:
    """The field and the way out; nothing is started."""
    for to, words in (("password", "key_pair"), ("pasword", "key_pair"), ("", "oauth")):
        with pytest.raises(InvalidInput) as refused:
            migrating.plan(world.hub, world.name, to, {})
        assert refused.value.facts["field"] == "to"
        assert words in refused.value.hint
    with pytest.raises(InvalidInput) as refused:
        runs.plan(world.hub, world.name, Goal.MIGRATE)
    assert "--to" in refused.value.hint
    assert migrate(world).state is RunState.COMPLETE
    with pytest.raises(InvalidInput) as refused:
        migrating.plan(world.hub, world.name, "password", {})
    assert "step back" in refused.value.message + refused.value.hint


def test_an_account_that_is_connected_by_that_method_is_not_connected_twice(world: World) -> None:
    """Two connections would end each other's keys."""
    assert migrate(world).state is RunState.COMPLETE
    there = the_lab().vendor("snowflake")
    there.post("users", {"name": world.case.values["user"], "password": world.case.values["password"]})
    key = leases.resolve(world.hub, world.name).material["private_key"]
    values = {k: v for k, v in world.case.values.items() if k != "password"}
    connections.connect(world.hub, "snowflake", "key_pair", "beside", {**values, "private_key": key})
    connections.connect(world.hub, "snowflake", "password", "basic again", world.case.values)
    with pytest.raises(Conflict, match="beside"):
        migrating.plan(world.hub, "basic again", "key_pair", {})


def test_it_is_undone_before_the_point_of_no_return(world: World) -> None:
    """The password serves again, by its own row, and the key that was added is gone."""
    leases.take(world.hub, world.name, "a long job", ttl_s=600)  # keeps the old one from being ended
    started = migrating.start(world.hub, world.name, "key_pair", {})
    world.follow(
        started.id,
        until=lambda run: run.cursor < len(run.plan.steps) and run.plan.steps[run.cursor].kind is Kind.DRAIN,
        timeout_s=60,
    )
    assert connections.find(world.hub, world.name).method == "key_pair"
    runs.rollback(world.hub, started.id)
    ended = world.follow(started.id, timeout_s=60)
    assert ended.state is RunState.ABORTED_CLEAN, world.why(ended)
    assert connections.find(world.hub, world.name).method == "password"
    assert accepted(world) is Verdict.ACCEPTED
    assert at_the_vendor(world) == {"password"}


class Killed(BaseException):
    """Ends the advance where a process would have died."""


@contextmanager
def dying(place: str, k: int) -> Iterator[Counter[str]]:
    seen: Counter[str] = Counter()

    def listen(reached: str) -> None:
        seen[reached] += 1
        if reached == place and seen[reached] == k:
            raise Killed

    boundary.listen(listen)
    try:
        yield seen
    finally:
        boundary.listen(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "call:stage:before",
        "call:stage:after",
        "probe:new:after",
        "line:DECISION:cutover:before",
        "line:DECISION:cutover:after",
        "call:revoke:before",
        "call:revoke:after",
        "probe:old:after",
    ],
)
def test_a_death_anywhere_loses_nothing(world: World, place: str) -> None:
    """Whoever goes on finishes: the account has the key alone, and at the moment of the death something worked."""
    from keyturn.executor.executor import Executor

    world.hub.engine.stop()
    started = migrating.start(world.hub, world.name, "key_pair", {})
    executor = Executor(world.hub.hub)
    with dying(place, 1) as seen, pytest.raises(Killed):
        for _ in range(200):
            executor.advance(started.id)
    assert seen[place] == 1
    assert accepted(world) is Verdict.ACCEPTED
    for _ in range(2000):
        run = runs.get(world.hub, started.id)
        if run.state in TERMINAL:
            break
        executor.advance(started.id)
        threading.Event().wait(0.01)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert connections.find(world.hub, world.name).method == "key_pair"
    assert accepted(world) is Verdict.ACCEPTED
    assert at_the_vendor(world) == {"public_key"}
