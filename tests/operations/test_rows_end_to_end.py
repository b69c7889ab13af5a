"""Every row through the operations with the embedded engine: connect, test, plan, rotate, roll back, leave, come back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyturn.bootstrap import Keyturn, open_hub
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import CredentialRejected, InvalidInput, KeyturnError
from keyturn.model.card import Hands, Strategy
from keyturn.model.credential import ConnectionState, State, Version
from keyturn.model.job import Cause, Level
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, LineKind, Run, RunState, TaskState
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.operations import audit, connections, jobs, leases, runs, tasks
from keyturn.settings import Settings
from keyturn.storage import principals, versions
from keyturn.transport import sql
from keyturn.vault.secrets import version_row
from tests import stores
from tests.compliance.case import NETWORK, Case
from tests.compliance.lab import Lab, or_skip, the_lab
from tests.compliance.rows import ROWS

PATIENCE = 0.02


@dataclass
class World:
    """A hub with one connection, and the oracle of its vendor."""

    hub: Keyturn
    case: Case
    name: str = "c"

    def connect(self, values: Any = None) -> connections.Connected:
        return connections.connect(
            self.hub,
            self.case.system,
            self.case.method,
            self.name,
            values or self.case.values,
            policy={**self.case.policy, "accept": f"{self.name} may be lost"},
            definition=self.case.definition_hash,
        )

    def enter(self) -> Material:
        """Connected with a credential that works; a grant comes by consent."""
        self.connect()
        if connections.find(self.hub, self.name).state is ConnectionState.REVOKED:
            assert self.run(Goal.REAUTHORIZE).state is RunState.COMPLETE
        return self.serving()

    def serving(self) -> Material:
        return leases.resolve(self.hub, self.name).material

    def row(self) -> tuple[Any, Capabilities]:
        row = self.hub.catalog.row_of(connections.find(self.hub, self.name))
        return row.card, row.can

    def versions(self) -> list[Version]:
        connection = connections.find(self.hub, self.name)
        return self.hub.store.read(lambda tx: versions.of_connection(tx, connection.id))

    def known(self, *states: State) -> set[str]:
        """The oracle's names of the versions in these states."""
        found = set()
        for version in self.versions():
            if version.state in states:
                found.add(self.case.of(self.hub.secrets.material(version_row(version.id))))
        return found

    def run(self, goal: Goal, *, until: Any = None, timeout_s: float = 20.0) -> Run:
        """Starts a run and answers its tasks until it ends, or until `until` holds."""
        return self.follow(runs.start(self.hub, self.name, goal).id, until=until, timeout_s=timeout_s)

    def follow(self, run_id: str, *, until: Any = None, timeout_s: float = 20.0) -> Run:
        ends = time.monotonic() + timeout_s
        while True:
            run = runs.get(self.hub, run_id)
            if run.state in TERMINAL or (until and until(run)):
                return run
            if time.monotonic() > ends:
                raise AssertionError(f"{run.state.value}: {run.waiting_for}")
            if run.state is RunState.WAITING_HUMAN:
                for task in tasks.waiting(self.hub):
                    if task.run_id == run.id and task.state in {TaskState.OPEN, TaskState.RETURNED}:
                        tasks.submit(self.hub, task.id, self.case.person(task))
            self.hub.engine.run_until(lambda: False, timeout_s=0.02)

    def why(self, run: Run) -> str:
        said = [f"{line.step}/{line.kind.value}: {dict(line.facts)}" for line in runs.lines(self.hub, run.id)]
        left = [(debt.kind, debt.why) for debt in runs.left_behind(self.hub, run.id)[1]]
        return f"{run.state.value} {run.waiting_for} {run.outcome} {left}\n" + "\n".join(said[-25:])


def open_world(case: Case, folder: Path, database: str = "", patience: float = PATIENCE) -> World:
    settings = Settings(
        home=folder / "home",
        database=database or stores.url(folder / "home"),
        kek=f"file:{folder / 'key' / 'kek'}",
        network=NETWORK,
        workers=3,
        patience=patience,
        actor="tester",
    )
    hub = open_hub(settings, create=True, catalog=case.catalog())
    hub.engine.start()
    return World(hub, case)


# One row of each strategy: what the store has to do is the same for all rows of one.
ON_BOTH = frozenset(
    {
        "postgresql/password by an administrator",
        "postgresql/password two roles",
        "s3-customer/access_key",
        "snowflake/oauth",
        "freshdesk/api_key",
        "aha/api_key",
        "jira/oauth",
    }
)


PUBLIC = "custom-rest/none"  # nothing to rotate or to end: tests/connectors/custom_rest


def _params(*names: str, known: Mapping[str, str] | None = None) -> list[Any]:
    """Parameters by row; `known` are defects found here that are not mended yet: mended? Then delete the line."""
    found = []
    for name in names or ROWS:
        if name == PUBLIC or (stores.ON_POSTGRESQL and name not in ON_BOTH):
            continue
        marks: list[Any] = [pytest.mark.xdist_group(f"rows-{name.split('/', maxsplit=1)[0]}")]
        if why := (known or {}).get(name):
            marks.append(pytest.mark.xfail(reason=why, strict=True))
        found.append(pytest.param(name, id=name, marks=marks))
    return found


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    case = or_skip(lambda: ROWS[request.param](the_lab()))
    made = open_world(case, tmp_path)
    yield made
    made.hub.close()
    sql.close_idle()


def _only_ours_alive(world: World) -> None:
    """The oracle sees exactly what serves (and whatever the run left as debt is not there)."""
    alive, ours = world.case.alive(), {world.case.of(world.serving())}
    assert alive == ours, f"alive at the vendor: {alive}, ours: {ours}"


def _cannot_be_ended_by_itself(world: World) -> bool:
    return "admin_user" not in world.case.values and world.case.system in {"postgresql", "mysql", "redshift"}


def _is_validated(world: World, run: Run) -> None:
    """Format and login of the new one; where the row can read, one item before the switch and a whole job after it."""
    assert run.new_version_id is not None
    connection, sample = connections.find(world.hub, world.name), world.case.reads
    tried = jobs.validations(world.hub, connection, run.new_version_id)
    wanted = list(Level) if sample is not None else [Level.FORMAT, Level.AUTH]
    assert [(each.level, each.passed) for each in tried] == [(level, True) for level in wanted], tried
    if sample is not None:
        (job,) = jobs.every(world.hub, world.name)
        last = jobs.results(world.hub, job, 1)[0]
        assert (last.cause, last.run_id, last.version_id) == (Cause.ROTATION, run.id, run.new_version_id)
        assert last.reading.count == sample.there


@pytest.mark.parametrize("world", _params(), indirect=True)
def test_a_rotation_is_proven_and_leaves_only_ours_alive(world: World) -> None:
    """Connect tests first; the plan is what runs; COMPLETE means: proof reached, old dead, nothing else left. A job reads
    through it before and after, and how far the new one was tried is on record."""
    try:
        world.connect(world.case.wrong_values)
        saved = connections.every(world.hub)
        assert saved[0].state is ConnectionState.REVOKED, "a wrong credential was saved"
        world.name = "good"
    except CredentialRejected:
        assert connections.every(world.hub) == []
        assert (
            world.hub.store.read(lambda tx: tx.all("SELECT id FROM sealed WHERE id LIKE 'version:%'")) == []
        )
    old = world.enter()
    card, _ = world.row()
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    assert world.case.of(old) in world.case.alive()
    sample = world.case.reads
    if sample is not None:
        _, first = jobs.add(world.hub, world.name, f"sample-{world.case.system}", what=sample.what)
        assert first is not None
        assert first.reading.count == sample.there
    plan = runs.plan(world.hub, world.name, Goal.ROTATE)
    assert plan.strategy is card.strategy
    run = world.run(Goal.ROTATE)
    leaves = world.case.leaves
    assert run.state is (RunState.COMPLETE_WITH_DEBT if leaves else RunState.COMPLETE), world.why(run)
    assert {debt.kind for debt in runs.left_behind(world.hub, run.id)[1]} == leaves
    assert run.plan == plan, "what ran is not what was shown"
    assert run.proof or leaves
    assert run.plan.proof.value in {run.proof, card.proof.value}
    new = world.serving()
    assert world.case.of(new) != world.case.of(old)
    if not (card.strategy is Strategy.CONSENT and card.revoke_scope.value == "grant"):
        assert world.case.of(old) not in world.case.alive()
        _only_ours_alive(world)
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    accepted_at = next(
        n
        for n, line in enumerate(runs.lines(world.hub, run.id))
        if line.kind is LineKind.OBSERVED
        and line.facts.get("what") == "new"
        and line.facts.get("verdict") == "accepted"
    )
    flipped_at = next(
        n for n, line in enumerate(runs.lines(world.hub, run.id)) if line.facts.get("decision") == "cutover"
    )
    assert accepted_at < flipped_at, "switched before it was proven (I3)"
    _is_validated(world, run)
    path = Path(world.hub.settings.home) / "audit.jsonl"
    audit.export(world.hub, path)
    assert audit.verify(path).is_whole


CAN_ROLL_BACK = [n for n in ROWS if n not in {
    "postgresql/password by an administrator",
    "postgresql/password by itself",
    "mysql/password by an administrator",
    "mysql/password by itself",
    "mysql/password ed25519",
    "redshift/password by an administrator",
    "redshift/password by itself",
    "custom-rest/basic",
    "ecosystem/access_key",
    "freshdesk/api_key",
    "sap-datasphere/password by a person",
    "sap-datasphere/password by the hub",
    "snowflake/password by an administrator",
    "snowflake/password by itself",
    "shapes/one_slot",
    "shapes/one_slot_self",
    "shapes/regenerate",
    "shapes/regenerate_person",
    "s3-managed/access_key",  # nobody leases what the hub gave away: tests/connectors/s3_managed
}]  # fmt: skip


ROLLBACK_KNOWN: dict[str, str] = {}
RECONNECT_KNOWN: dict[str, str] = {}


@pytest.mark.parametrize("world", _params(*CAN_ROLL_BACK, known=ROLLBACK_KNOWN), indirect=True)
def test_before_the_point_of_no_return_a_run_can_be_turned_round(world: World) -> None:
    """A lease on the old one holds the drain; rolled back, the old serves again and the new is removed and dead."""
    old = world.enter()
    held = leases.take(world.hub, world.name, "a program", ttl_s=60)
    run = world.run(Goal.ROTATE, until=lambda r: "leased by a program" in r.waiting_for)
    new = world.serving()
    assert world.case.of(new) != world.case.of(old)
    assert world.case.of(old) in world.case.alive(), "ended while it was leased (P3)"
    for _ in range(50):
        try:
            runs.rollback(world.hub, run.id)
            break
        except KeyturnError as error:
            if "being worked on" not in str(error):
                raise
            time.sleep(0.02)
    done = world.follow(run.id)
    card, _ = world.row()
    shared = card.strategy is Strategy.CONSENT and card.revoke_scope.value == "grant"
    assert done.state is (RunState.ABORTED_WITH_DEBT if shared else RunState.ABORTED_CLEAN), world.why(done)
    assert world.case.of(world.serving()) == world.case.of(old)
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    if not shared:
        assert world.case.of(new) not in world.case.alive(), "the new one lives on"
    leases.give_back(world.hub, held.lease_id)


@pytest.mark.parametrize("world", _params(known=RECONNECT_KNOWN), indirect=True)
def test_disconnected_nothing_of_ours_lives_and_it_can_come_back(world: World) -> None:
    """Disconnect ends and proves everything; reconnect brings a new credential that works."""
    old = world.enter()
    run = world.run(Goal.DISCONNECT)
    if _cannot_be_ended_by_itself(world):
        assert run.state is RunState.COMPLETE_WITH_DEBT, world.why(run)
        return
    assert run.state is RunState.COMPLETE, world.why(run)
    assert connections.find(world.hub, world.name).state is ConnectionState.DISCONNECTED
    assert world.case.of(old) not in world.case.alive()
    with pytest.raises(KeyturnError, match="no credential"):
        leases.resolve(world.hub, world.name)
    again = world.run(Goal.RECONNECT, until=lambda r: r.state in {RunState.BLOCKED, RunState.LOST})
    assert again.state is RunState.COMPLETE, world.why(again)
    assert connections.find(world.hub, world.name).state is ConnectionState.ACTIVE
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    _only_ours_alive(world)


@pytest.mark.parametrize("world", _params(), indirect=True)
def test_discover_looks_and_changes_nothing(world: World) -> None:
    """Where it is offered something is found; where not, the reason is the manifest's."""
    world.enter()
    before, (card, can) = world.case.alive(), world.row()
    method = world.hub.catalog.row_of(connections.find(world.hub, world.name)).method
    if can.discoverer is None and can.lister is None:
        with pytest.raises(InvalidInput) as caught:
            connections.discover(world.hub, world.name)
        reason = method.unsupported.get("discover") or method.unsupported.get("list") or "no listing"
        assert reason in caught.value.message
    else:
        try:
            assert connections.discover(world.hub, world.name)
        except InvalidInput as error:
            assert "administrator" in str(error)
    assert world.case.alive() == before
    assert card.hands in Hands


@pytest.mark.parametrize("name", _params("postgresql/password two roles", "s3-customer/access_key"))
def test_the_same_on_a_postgresql_store(name: str, tmp_path: Path) -> None:
    """The store makes no difference: rotate, disconnect, reconnect."""
    lab: Lab = the_lab()
    case = or_skip(lambda: ROWS[name](lab))
    database = or_skip(lambda: lab.postgres.create_database(f"hub_{lab.number()}_{os.getpid()}"))
    world = open_world(case, tmp_path, database)
    try:
        old = world.enter()
        run = world.run(Goal.ROTATE)
        assert run.state is RunState.COMPLETE, world.why(run)
        assert world.case.of(old) not in world.case.alive()
        _only_ours_alive(world)
        for goal in (Goal.DISCONNECT, Goal.RECONNECT):
            done = world.run(goal)
            assert done.state is RunState.COMPLETE, world.why(done)
        _only_ours_alive(world)
    finally:
        world.hub.close()
        sql.close_idle()


CONSENTED = (
    "jira/oauth",
    "custom-rest/oauth2 consent",
    "servicenow/oauth entries by a person",
    "servicenow/oauth entries by the hub",
    "google-analytics/oauth",
    "bigquery/oauth",
)


@pytest.mark.parametrize("world", _params(*CONSENTED, "snowflake/oauth"), indirect=True)
def test_an_authorization_is_revoked_and_given_again(world: World) -> None:
    """The guide's two menu points: nothing of it lives, nothing is served, and a consent alone brings it back."""
    old = world.enter()
    run = world.run(Goal.REVOKE)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert connections.find(world.hub, world.name).state is ConnectionState.REVOKED
    assert world.case.of(old) not in world.case.alive()
    with pytest.raises(KeyturnError, match="no credential"):
        leases.resolve(world.hub, world.name)
    again = world.run(Goal.REAUTHORIZE)
    assert again.state is RunState.COMPLETE, world.why(again)
    assert connections.find(world.hub, world.name).state is ConnectionState.ACTIVE
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    _only_ours_alive(world)


@pytest.mark.parametrize("world", _params(*CONSENTED), indirect=True)
def test_a_consent_by_somebody_else_changes_nothing(world: World) -> None:
    """After the first consent its account is pinned: another person's consent is returned, the old grant serves on."""
    old = world.enter()
    assert connections.find(world.hub, world.name).identity.get("principal"), (
        "the first consent pinned nobody"
    )
    run = runs.start(world.hub, world.name, Goal.REAUTHORIZE)

    def asked(_run: Run) -> list[Any]:
        return [each for each in tasks.waiting(world.hub) if each.run_id == run.id and each.kind == "consent"]

    world.follow(run.id, until=asked)
    (task,) = asked(run)
    url = next(str(each["url"]) for each in task.instructions if each.get("url"))
    assert world.case.other_consent is not None
    tasks.submit(world.hub, task.id, {"callback_url": world.case.other_consent(url)})

    def turned_down(_run: Run) -> bool:
        said = [line.facts.get("decision") for line in runs.lines(world.hub, run.id)]
        return "turned_down" in said and runs.get(world.hub, run.id).state is RunState.WAITING_HUMAN

    for _ in range(1000):
        if turned_down(run):
            break
        time.sleep(0.02)
    said = {line.facts.get("decision") for line in runs.lines(world.hub, run.id)}
    assert "turned_down" in said, world.why(runs.get(world.hub, run.id))
    assert "cutover" not in said
    assert world.case.of(world.serving()) == world.case.of(old)
    assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
    assert "unwanted" in {debt.kind for debt in runs.left_behind(world.hub, run.id)[1]}


@pytest.mark.xdist_group("rows-sap-datasphere")
def test_a_locked_account_is_left_alone_and_costs_no_login_of_the_budget(tmp_path: Path) -> None:
    """Somebody else's refused logins lock it for a day; once an administrator has unlocked it, the run goes on."""
    case = or_skip(lambda: ROWS["sap-datasphere/password by a person"](the_lab()))
    world = open_world(case, tmp_path, patience=0.0005)
    try:
        world.enter()
        with case.throttled():
            run = world.run(Goal.ROTATE, until=lambda run: run.state is RunState.WAITING)
            assert "locked" in run.waiting_for
            world.follow(run.id, until=lambda run: len(_locked(world, run)) > 2)
            assert _refusals(world) <= 1, "looks that a lock turned away were counted"  # one may be under way
        run = world.follow(run.id)
        assert run.state is RunState.COMPLETE, world.why(run)
        first, second = [line.at for line in _locked(world, run)][:2]
        assert second - first > 0.4, "a locked account is hammered"
    finally:
        world.hub.close()
        sql.close_idle()


def _locked(world: World, run: Run) -> list[Any]:
    return [line for line in runs.lines(world.hub, run.id) if line.facts.get("locked")]


def _refusals(world: World) -> int:
    connection = connections.find(world.hub, world.name)
    return world.hub.store.read(lambda tx: principals.refusals(tx, connection.principal_id, 0.0))
