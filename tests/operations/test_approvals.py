"""A second person's word: which plans need it, that nothing happens before it, and what every decision leaves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound, NotPermitted
from keyturn.executor.executor import Executor
from keyturn.model.approval import ApprovalState, Mode, Rules, read_goals, why_needed
from keyturn.model.plan import Goal
from keyturn.model.policy import Policy
from keyturn.model.run import Run, RunState
from keyturn.operations import (
    approvals,
    connections,
    events,
    migrating,
    overview,
    passwords,
    people,
    progress,
    runs,
    schedule,
)
from keyturn.operations.rights import Role, Who
from keyturn.storage import connections as connection_rows
from keyturn.storage import people as account_rows
from keyturn.storage import runs as run_rows
from keyturn.vault.secrets import admin_row
from keyturn_lab.vendors.shapes import Client
from tests.faults import world

NUMBERS = itertools.count(1)
LOCAL = Who("root", is_local=True)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Keyturn]:
    """A hub without accounts."""
    opened = world.open_world(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def hub(plain: Keyturn) -> Keyturn:
    """The same where approvals are on, without accounts."""
    return asks(plain, "on")


def asks(hub: Keyturn, text: str) -> Keyturn:
    return replace(hub, settings=replace(hub.settings, approvals=Rules.read(text)))


def acting(hub: Keyturn, actor: str) -> Keyturn:
    return replace(hub, settings=replace(hub.settings, actor=actor))


@pytest.fixture
def name() -> str:
    return f"apr{next(NUMBERS)}"


@pytest.fixture
def person(plain: Keyturn, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Who]:
    """`person(role)` makes an account and tells who that is."""
    import argon2

    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: cheap)

    def make(role: Role = Role.APPROVER, login: str = "", project: str = "") -> Who:
        login = login or role.value
        made = people.invite(plain, LOCAL, login, login, [(role.value, project)])
        people.accept(plain, made.code.reveal(), "plum-orbit-kettle-42")
        return Who(login, made.account.id, login, "192.0.2.7", ((role, project),))

    return make


ADA = Who("ada", address="192.0.2.7", is_local=True)


def policy(hub: Keyturn, name: str, **wanted: object) -> None:
    found = connections.find(hub, name)
    hub.store.write(lambda tx: connection_rows.change(tx, found.id, policy={**found.policy, **wanted}))


def drive(hub: Keyturn, client: Client, run: Run, name: str) -> Run:
    return world.drive(hub, run.id, world.person(client, hub, name))


def said(hub: Keyturn, run: Run) -> list[dict[str, object]]:
    return [dict(line.facts) for line in runs.lines(hub, run.id) if line.step == "approval"]


def touched(client: Client, name: str) -> object:
    """What the vendor has heard about this account: every call."""
    return client.call("calls", principal=name)


# -- the rules ---------------------------------------------------------------------------------------------------------


def rule(
    goal: Goal, text: str = "", *, mine: tuple[str, ...] = (), many: int = 1, accounts: bool = True
) -> bool:
    return bool(why_needed(Rules.read(text), mine, goal, None, many=many, has_accounts=lambda: accounts))


@pytest.mark.parametrize("goal", list(Goal))
def test_what_needs_a_second_person_unless_the_hub_says_otherwise(goal: Goal) -> None:
    """Revoking and migrating; an emergency of several connections; nothing on a hub without accounts."""
    assert rule(goal) is (goal in {Goal.REVOKE, Goal.MIGRATE})
    assert rule(goal, many=2) is (goal in {Goal.REVOKE, Goal.MIGRATE, Goal.CONTAIN})
    assert not rule(goal, many=2, accounts=False)
    assert rule(goal, "on", accounts=False) is rule(goal)
    assert not rule(goal, "off", mine=(goal.value,), many=9)
    assert rule(goal, "rotate, disconnect", accounts=False) is (goal in {Goal.ROTATE, Goal.DISCONNECT})
    assert rule(goal, mine=(goal.value,), accounts=False)


def test_settings_and_policies_name_goals() -> None:
    """A word that is no goal is refused, and so is a refresh, which cannot wait."""
    assert Rules.read(" ON ") == Rules(Mode.ON)
    assert Rules.read("revoke,rotate").goals == {Goal.REVOKE, Goal.ROTATE}
    assert read_goals(["rotate", "revoke"], "x") == (Goal.ROTATE, Goal.REVOKE)
    for wrong in ("revoke,", "refresh", "everything"):
        with pytest.raises(InvalidInput):
            Rules.read(wrong)
    assert Policy.read({"approve": ["rotate"]}).approve == ("rotate",)
    for bad in ("rotate", ["refresh"], [1], 3, {"rotate": 1}):
        with pytest.raises(InvalidInput):
            Policy.read({"approve": bad})


def test_deleting_the_account_needs_it_and_a_plain_disconnect_does_not(
    hub: Keyturn, client: Client, name: str
) -> None:
    """What the flag asks for and what the policy asks for."""
    world.connect(hub, client, "one_slot", name)
    assert runs.start(hub, name, Goal.DISCONNECT, drop=True).state is RunState.WAITING_APPROVAL
    runs.cancel(hub, runs.recent(hub, name, 1)[0].id)
    run = runs.start(hub, name, Goal.DISCONNECT)
    assert run.state is RunState.QUEUED
    runs.cancel(hub, run.id)
    policy(hub, name, drop_principal=True)
    assert runs.start(hub, name, Goal.DISCONNECT).state is RunState.WAITING_APPROVAL


def test_a_hub_with_accounts_asks_by_itself(
    plain: Keyturn, client: Client, name: str, person: Callable[..., Who]
) -> None:
    """Before its first account it does not."""
    world.connect(plain, client, "grant", name)
    run = runs.start(plain, name, Goal.REVOKE)
    assert run.state is RunState.QUEUED
    runs.cancel(plain, run.id)
    person(Role.ADMIN)
    assert runs.start(plain, name, Goal.REVOKE).state is RunState.WAITING_APPROVAL


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_nothing_happens_before_somebody_approves(hub: Keyturn, client: Client, name: str) -> None:
    """Not due, not woken, not advanced by hand, not retried or rolled back; shown as waiting; other runs go on."""
    world.connect(hub, client, "two_slots", name)
    policy(hub, name, approve=["rotate"])
    before = touched(client, name)
    run = runs.start(hub, name, Goal.ROTATE, reason="because")
    assert (run.state, run.due_at, run.started_at) == (RunState.WAITING_APPROVAL, 0.0, None)
    assert hub.store.read(lambda tx: run_rows.due(tx, time.time() + 1e9, 10)) == []
    hub.store.write(lambda tx: run_rows.wake(tx, run.id, time.time()))
    hub.store.write(lambda tx: run_rows.hasten(tx, run.id, time.time()))
    assert Executor(hub.hub).advance(run.id) is False
    for verb in (runs.retry, runs.rollback):
        with pytest.raises(Conflict, match="waits for approval"):
            verb(hub, run.id)
    assert runs.get(hub, run.id) == run
    assert [line.step for line in runs.lines(hub, run.id)] == ["start", "approval"]
    assert touched(client, name) == before
    assert progress.is_still(run)
    assert runs.settled(run)
    assert progress.waits(run) == "waits for approval: the connection's policy asks for it"
    assert runs.ways_out(hub, run) == {"cancel"}
    line = overview.line(hub, run.connection_id)
    assert (line.run, line.run_state, line.health) == (run.id, "waiting_approval", "waits")
    (item,) = approvals.waiting(hub)
    assert item.run == run
    assert approvals.page(item)["asked_by"] == "matrix"
    assert approvals.page(item)["reason"] == "because"
    with pytest.raises(Conflict, match="waits for approval"):
        runs.start(hub, name, Goal.ROTATE)
    other = runs.start(hub, name, Goal.CONTAIN)
    assert drive(hub, client, other, name).state is RunState.COMPLETE


def test_approved_it_runs_as_it_was_frozen(hub: Keyturn, client: Client, name: str) -> None:
    """The same plan, by the word of another; who, from where and why are in the journal; twice changes nothing."""
    world.connect(hub, client, "two_slots", name)
    policy(hub, name, approve=["rotate"])
    run = runs.start(hub, name, Goal.ROTATE, address="192.0.2.1")
    begun = approvals.approve(hub, ADA, run.id, "change 4711")
    assert begun.state is RunState.QUEUED
    assert begun.plan == run.plan
    assert approvals.approve(hub, ADA, run.id).id == run.id
    with pytest.raises(Conflict, match="approved already by ada"):
        approvals.approve(hub, replace(ADA, login="bob"), run.id)
    with pytest.raises(Conflict, match="approved already"):
        approvals.refuse(hub, ADA, run.id, "too late")
    assert drive(hub, client, run, name).state is RunState.COMPLETE
    asked, approved = said(hub, run)
    assert (asked["decision"], asked["by"], asked["from"]) == ("approval_asked", "matrix", "192.0.2.1")
    assert (
        approved["decision"],
        approved["by"],
        approved["from"],
        approved["why"],
        approved["asked_by"],
    ) == (
        "approved",
        "ada",
        "192.0.2.7",
        "change 4711",
        "matrix",
    )
    assert approvals.waiting(hub) == []
    assert approvals.of_run(hub, run.id).state is ApprovalState.APPROVED  # type: ignore[union-attr]


def test_refused_it_ends_before_it_began(hub: Keyturn, client: Client, name: str) -> None:
    """With the reason for the requester; the principal is free, and the credential untouched."""
    world.connect(hub, client, "grant", name)
    run = runs.start(hub, name, Goal.REVOKE)
    with pytest.raises(InvalidInput, match="needs a reason"):
        approvals.refuse(hub, ADA, run.id, "  ")
    with pytest.raises(InvalidInput, match="at most"):
        approvals.refuse(hub, ADA, run.id, "x" * 501)
    ended = approvals.refuse(hub, ADA, run.id, "not now")
    assert (ended.state, ended.outcome) == (RunState.ABORTED_CLEAN, "ada refused: not now")
    assert approvals.refuse(hub, ADA, run.id, "not now").id == run.id
    assert Executor(hub.hub).advance(run.id) is False
    assert said(hub, run)[-1] == {
        "decision": "approval_refused",
        "by": "ada",
        "from": "192.0.2.7",
        "why": "ada refused: not now",
    }
    again = runs.start(hub, name, Goal.REVOKE)
    assert again.id != run.id
    with pytest.raises(NotFound):
        approvals.approve(hub, ADA, "run_none")


@pytest.mark.parametrize("round_", range(3))
def test_two_decide_at_the_same_moment(hub: Keyturn, client: Client, name: str, round_: int) -> None:
    """One of them does; the other is told, and the run is what the one decided."""
    world.connect(hub, client, "grant", name)
    run = runs.start(hub, name, Goal.REVOKE)

    def decide(who: str) -> str:
        try:
            if who == "ada":
                return approvals.approve(hub, ADA, run.id).state.value
            if who == "bob":
                return approvals.refuse(hub, replace(ADA, login="bob"), run.id, "no").state.value
            return runs.cancel(hub, run.id).state.value
        except Conflict:
            return "lost"

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(decide, ("ada", "bob", "eve")))
    asked = approvals.of_run(hub, run.id)
    assert asked is not None
    ends = [each["decision"] for each in said(hub, run) if each["decision"] != "approval_asked"]
    if (
        asked.state is ApprovalState.APPROVED
    ):  # a run that was approved and has changed nothing may still be cancelled
        assert ends == ["approved"]
        assert answers[0] in {"queued", "aborted_clean"}
    else:
        assert runs.get(hub, run.id).state is RunState.ABORTED_CLEAN
        assert ends in (["approval_refused"], ["approval_withdrawn"])
        assert answers[0] == "lost"


@pytest.mark.parametrize("actor", ["ada", "ADA", " Ada "])
def test_nobody_decides_about_their_own(hub: Keyturn, client: Client, name: str, actor: str) -> None:
    """However the name is written; the attempt is on record, and the run waits on."""
    world.connect(hub, client, "grant", name)
    run = runs.start(acting(hub, actor), name, Goal.REVOKE)
    for decide in (approvals.approve, approvals.refuse):
        with pytest.raises(NotPermitted, match="somebody else decides"):
            decide(hub, ADA, run.id, "x")
    assert runs.get(hub, run.id).state is RunState.WAITING_APPROVAL
    line = events.latest(hub, 1)[0]
    assert (line.facts["decision"], line.facts["by"], line.facts["run"]) == ("refused", "ada", run.id)
    assert runs.cancel(hub, run.id).state is RunState.ABORTED_CLEAN
    assert said(hub, run)[-1]["decision"] == "approval_withdrawn"
    assert approvals.waiting(hub) == []


def test_roles_and_programs(plain: Keyturn, client: Client, name: str, person: Callable[..., Who]) -> None:
    """Approver and admin, in the connection's project; no program, whatever its roles and scopes."""
    world.connect(plain, client, "grant", name)
    people_ = {role: person(role) for role in Role}
    stranger = person(Role.APPROVER, "elsewhere", "other")
    run = runs.start(acting(plain, "somebody"), name, Goal.REVOKE)
    robot = replace(people_[Role.ADMIN], login="robot", scopes=frozenset({"end", "approve", ""}))
    for who in (people_[Role.VIEWER], people_[Role.OPERATOR], stranger, robot):
        with pytest.raises(NotPermitted):
            approvals.approve(plain, who, run.id)
        with pytest.raises(NotPermitted):
            approvals.refuse(plain, who, run.id, "x")
    assert runs.get(plain, run.id).state is RunState.WAITING_APPROVAL
    assert approvals.approve(plain, people_[Role.APPROVER], run.id).state is RunState.QUEUED


def test_who_speaks_on_the_command_line(plain: Keyturn, person: Callable[..., Who]) -> None:
    """Without accounts whoever KEYTURN_ACTOR names; with accounts the account of that name and its roles."""
    assert approvals.at_machine(acting(plain, "kim")).is_local
    person(Role.APPROVER, "kim")
    found = approvals.at_machine(acting(plain, "Kim"))
    assert (found.login, found.is_local, found.held) == ("kim", False, ((Role.APPROVER, ""),))
    with pytest.raises(NotPermitted, match="has no account"):
        approvals.at_machine(acting(plain, "lee"))
    plain.store.write(lambda tx: account_rows.change(tx, found.id, disabled_at=time.time()))
    with pytest.raises(NotPermitted, match="has no account"):
        approvals.at_machine(acting(plain, "kim"))


# -- time and change ---------------------------------------------------------------------------------------------------


def test_nobody_in_time(hub: Keyturn, client: Client, name: str) -> None:
    """It ends by the clock, or when somebody comes too late; each once; afterwards it can be asked for again."""
    world.connect(hub, client, "grant", name)
    policy(hub, name, approval_days=2.0)
    first = runs.start(hub, name, Goal.REVOKE)
    asked = approvals.of_run(hub, first.id)
    assert asked is not None
    assert asked.ends_at == pytest.approx(asked.asked_at + 2 * 86400)
    assert approvals.expire_due(hub) == 0

    def late(run: Run) -> None:
        hub.store.write(
            lambda tx: tx.run("UPDATE approval SET ends_at = ? WHERE run_id = ?", time.time() - 1, run.id)
        )

    late(first)
    assert approvals.waiting(hub) == []
    schedule.start_due(hub)
    assert approvals.expire_due(hub) == 0
    ended = runs.get(hub, first.id)
    assert (ended.state, ended.outcome) == (RunState.ABORTED_CLEAN, runs.NOBODY)
    second = runs.start(hub, name, Goal.REVOKE)
    late(second)
    with pytest.raises(Conflict, match="too late"):
        approvals.approve(hub, ADA, second.id)
    assert runs.get(hub, second.id).state is RunState.ABORTED_CLEAN
    third = runs.start(hub, name, Goal.REVOKE)
    late(third)
    fourth = runs.start(hub, name, Goal.REVOKE)
    assert runs.get(hub, third.id).state is RunState.ABORTED_CLEAN
    assert said(hub, third)[-1]["decision"] == "approval_expired"
    assert fourth.state is RunState.WAITING_APPROVAL


def test_a_plan_that_no_longer_fits_is_refused(hub: Keyturn, client: Client, name: str) -> None:
    """The credential was replaced meanwhile: approving refuses, and says so to both."""
    world.connect(hub, client, "many_ids", name)
    policy(hub, name, approve=["disconnect"])
    run = runs.start(hub, name, Goal.DISCONNECT)
    assert world.rotate(hub, client, name).state is RunState.COMPLETE
    with pytest.raises(Conflict, match="replaced meanwhile"):
        approvals.approve(hub, ADA, run.id)
    ended = runs.get(hub, run.id)
    assert ended.state is RunState.ABORTED_CLEAN
    assert "no longer fits" in ended.outcome
    assert said(hub, run)[-1]["by"] == "ada"
    assert Executor(hub.hub).advance(run.id) is False


def test_an_edited_connection_is_another_one(hub: Keyturn, client: Client, name: str) -> None:
    """Settings or policy that changed since: what was approved is not what would be done."""
    world.connect(hub, client, "many_ids", name)
    policy(hub, name, approve=["disconnect"])
    run = runs.start(hub, name, Goal.DISCONNECT)
    policy(hub, name, proof="D1")
    with pytest.raises(Conflict, match="another one by now"):
        approvals.approve(hub, ADA, run.id)


def test_a_refresh_meanwhile_changes_nothing(hub: Keyturn, client: Client, name: str) -> None:
    """A grant whose tokens are refreshed every hour can still be revoked by two people; what serves then is ended."""
    world.connect(hub, client, "grant", name)
    run = runs.start(hub, name, Goal.REVOKE)
    refreshed = runs.start(hub, name, Goal.REFRESH)
    assert drive(hub, client, refreshed, name).state is RunState.COMPLETE
    begun = approvals.approve(hub, ADA, run.id)
    assert begun.old_version_id == connections.find(hub, name).current_version_id != run.old_version_id
    assert drive(hub, client, begun, name).state in {RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT}
    assert connections.find(hub, name).state.value == "revoked"


def test_what_waits_stops_no_clock(hub: Keyturn, client: Client, name: str) -> None:
    """Tokens are refreshed and due rotations begin while a request waits, and a rotation that needs approval is asked
    for once."""
    world.connect(hub, client, "grant", name)
    runs.start(hub, name, Goal.REVOKE)
    current = connections.find(hub, name).current_version_id
    past = time.time() - 1
    hub.store.write(lambda tx: tx.run("UPDATE version SET refresh_at = ? WHERE id = ?", past, current))
    assert schedule.start_due(hub) == 1
    assert runs.recent(hub, name, 1)[0].goal is Goal.REFRESH
    other = f"{name}b"
    world.connect(hub, client, "two_slots", other)
    policy(hub, other, automatic=True, max_age_days=1.0, approve=["rotate"])
    born = time.time() - 3 * 86400
    version = connections.find(hub, other).current_version_id
    hub.store.write(lambda tx: tx.run("UPDATE version SET changed_at = ? WHERE id = ?", born, version))
    assert schedule.start_due(hub) == 1
    assert schedule.start_due(hub) == 0
    assert [run.state for run in runs.recent(hub, other)] == [RunState.WAITING_APPROVAL]


def test_while_another_run_is_going_on_it_cannot_begin(hub: Keyturn, client: Client, name: str) -> None:
    """Approving says so and the run waits on."""
    world.connect(hub, client, "many_ids", name)
    policy(hub, name, approve=["disconnect"])
    run = runs.start(hub, name, Goal.DISCONNECT)
    other = runs.start(hub, name, Goal.ROTATE)
    with pytest.raises(Conflict, match="has not ended") as refused:
        approvals.approve(hub, ADA, run.id)
    assert refused.value.facts["run"] == other.id
    runs.cancel(hub, other.id)
    assert approvals.approve(hub, ADA, run.id).state is RunState.QUEUED


# -- emergencies -------------------------------------------------------------------------------------------------------


def test_an_emergency_begins_at_once_and_is_looked_at_afterwards(
    hub: Keyturn, client: Client, name: str
) -> None:
    """It replaces the request that waited; the open item stays until somebody else acknowledges it."""
    world.connect(hub, client, "grant", name)
    waited = runs.start(hub, name, Goal.REVOKE)
    run = runs.start(hub, name, Goal.REVOKE, emergency="leaked in a ticket")
    assert run.state is RunState.QUEUED
    assert run.reason == "leaked in a ticket"
    assert runs.get(hub, waited.id).outcome == "begun as an emergency instead"
    drive(hub, client, run, name)
    (item,) = approvals.waiting(hub)
    assert (item.asked.state, item.asked.ends_at) == (ApprovalState.REVIEW, None)
    assert approvals.page(item)["kind"] == "review"
    assert said(hub, run)[0]["decision"] == "approval_skipped"
    assert said(hub, run)[0]["why"] == "leaked in a ticket"
    with pytest.raises(NotPermitted):
        approvals.approve(hub, Who("matrix", is_local=True), run.id)
    before = runs.get(hub, run.id)
    approvals.approve(hub, ADA, run.id, "justified")
    assert runs.get(hub, run.id) == before
    assert approvals.waiting(hub) == []
    assert said(hub, run)[-1] == {
        "decision": "emergency_reviewed",
        "by": "ada",
        "from": "192.0.2.7",
        "why": "justified",
        "asked_by": "matrix",
    }


def test_an_emergency_may_be_objected_to(hub: Keyturn, client: Client, name: str) -> None:
    """The run is what it is; the word is on record."""
    world.connect(hub, client, "two_slots", name)
    run = runs.start(hub, name, Goal.CONTAIN, emergency="drill", many=2)
    approvals.refuse(hub, ADA, run.id, "a drill is no emergency")
    assert runs.get(hub, run.id).state is RunState.QUEUED
    assert said(hub, run)[-1]["decision"] == "emergency_objected"
    with pytest.raises(Conflict, match="objected already"):
        approvals.approve(hub, replace(ADA, login="bob"), run.id)


def test_an_emergency_that_needs_nobody_leaves_nothing(hub: Keyturn, client: Client, name: str) -> None:
    """One connection's leak is contained without asking anybody."""
    world.connect(hub, client, "two_slots", name)
    run = runs.start(hub, name, Goal.CONTAIN, emergency="in a log")
    assert run.state is RunState.QUEUED
    assert approvals.of_run(hub, run.id) is None
    assert approvals.waiting(hub) == []


def test_hurrying_a_run_needs_the_same_word(hub: Keyturn, client: Client, name: str) -> None:
    """An emergency of several connections does not turn a routine run into one unasked; as an emergency it does, and
    leaves its review at that run."""
    world.connect(hub, client, "many_ids", name)
    routine = runs.start(hub, name, Goal.ROTATE)
    with pytest.raises(Conflict, match="has not ended"):
        runs.start(hub, name, Goal.CONTAIN, many=2)
    assert runs.start(hub, name, Goal.CONTAIN, many=2, emergency="leak").id == routine.id
    (item,) = approvals.waiting(hub)
    assert (item.run.id, item.asked.state) == (routine.id, ApprovalState.REVIEW)
    runs.start(hub, name, Goal.CONTAIN, many=2, emergency="leak, once more")
    approvals.approve(hub, ADA, routine.id)
    assert approvals.waiting(hub) == []
    runs.start(hub, name, Goal.CONTAIN, many=2, emergency="another one")
    assert [each.asked.asked_why for each in approvals.waiting(hub)] == ["another one"]


# -- migrating ---------------------------------------------------------------------------------------------------------


def test_a_migration_changes_nothing_before_it_is_approved(hub: Keyturn, client: Client, name: str) -> None:
    """What was typed waits sealed; refused it is destroyed, approved it is used, and settings that another edit made
    meanwhile are not overwritten."""
    world.connect(hub, client, "one_slot", name)
    before = connections.find(hub, name)
    admin = dict(hub.secrets.material(admin_row(before.id))) if hub.secrets.find(admin_row(before.id)) else {}
    first = migrating.start(hub, name, "two_slots", {}, address="192.0.2.1")
    assert first.state is RunState.WAITING_APPROVAL
    assert (first.plan.method, connections.find(hub, name)) == ("two_slots", before)
    assert hub.secrets.find(runs.held_row(first.id)) is not None
    approvals.refuse(hub, ADA, first.id, "not yet")
    assert hub.secrets.find(runs.held_row(first.id)) is None
    second = migrating.start(hub, name, "two_slots", {})
    policy(hub, name, task_days=3.0)
    with pytest.raises(Conflict, match="another one by now"):
        approvals.approve(hub, ADA, second.id)
    assert hub.secrets.find(runs.held_row(second.id)) is None
    third = migrating.start(hub, name, "two_slots", {})
    approved = approvals.approve(hub, ADA, third.id)
    assert (approved.state, approved.plan) == (RunState.QUEUED, third.plan)
    assert hub.secrets.find(runs.held_row(third.id)) is None
    after = dict(hub.secrets.material(admin_row(before.id))) if admin else {}
    assert after == admin
