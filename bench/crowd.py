"""A store as a large hub has it after years: rows of the real shapes, written by the storage layer's own writers.

Runs are written in the order of time, as they came, so that what is close in time is close on the disk. Chains are valid:
`keyturn audit check` holds on what is made here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.model.approval import Approval, ApprovalState
from keyturn.model.credential import Connection, ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, DebtId, PrincipalId, RunId, TaskId, VersionId, new_id
from keyturn.model.plan import Goal, Kind, Plan
from keyturn.model.run import Debt, LineKind, Run, RunState, Task, TaskState, Track
from keyturn.model.secret import Material
from keyturn.operations import issued, runs
from keyturn.storage import (
    approvals,
    connections,
    consumers,
    debts,
    journal,
    people,
    principals,
    tasks,
    versions,
)
from keyturn.storage import runs as run_rows
from keyturn.storage.consumers import Consumer
from keyturn.storage.database import Tx
from keyturn.vault.secrets import version_row

DAY_S = 86400.0
ROWS = (
    ("postgresql", "password"),
    ("snowflake", "key_pair"),
    ("mixpanel", "service_account"),
    ("s3-customer", "access_key"),
    ("jira", "oauth"),
    ("databricks", "oauth"),
    ("freshdesk", "api_key"),
    ("dynamics", "client_secret"),
    ("mysql", "password"),
    ("zuora", "oauth_client"),
)
_TEAMS = ("Orders", "Billing", "Warehouse", "Support", "Growth", "Platform", "Finance", "Risk")
_PLACES = ("eu", "us", "apac", "latam", "test")
_CHUNK = 250


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    connections: int = 10_000
    runs: int = 100_000
    lines: int = 1_000_000
    waiting: int = 200  # runs a person holds up
    asked: int = 40  # runs that wait for a second person
    stuck: int = 30
    debts: int = 400
    issued: int = 200
    longest: int = 400  # runs of the one connection with a long history


@dataclass
class Crowd:
    """What was made, as far as the measuring needs it."""

    size: Size
    connections: list[Connection]
    longest: Connection
    run_ids: list[str]
    stuck_run: str


def fill(hub: Keyturn, size: Size, seed: int = 7) -> Crowd:
    """Fills an empty store. A few minutes at full size."""
    dice = random.Random(seed)
    now = time.time()
    made = _connections(hub, size, dice, now)
    plans = _plans(hub, made)
    longest = made[len(made) // 2]
    crowd = Crowd(size, made, longest, [], "")
    _past(hub, crowd, plans, dice, now)
    _present(hub, crowd, plans, dice, now)
    for number in range(size.issued):
        issued.issue(hub, "api-key", f"partner {number:04}", {"scopes": "read"})
    _own_lines(hub, size, dice, now)
    return crowd


def _batches(count: int) -> Iterator[range]:
    for first in range(0, count, _CHUNK):
        yield range(first, min(first + _CHUNK, count))


def _connections(hub: Keyturn, size: Size, dice: random.Random, now: float) -> list[Connection]:
    """Active ones mostly; a tenth is overdue, a fifth ends by itself, a quarter rotates by the clock."""
    made: list[Connection] = []
    for batch in _batches(size.connections):
        some = [_connection(hub, n, dice, now) for n in batch]
        seals = [
            hub.secrets.sealing(version_row(v.id), Material({"secret": f"first-{v.id}"}).to_bytes(), now)
            for _, v in some
        ]

        def work(tx: Tx, some: Sequence[Any] = some, seals: Sequence[Any] = seals) -> None:
            for connection, version in some:
                connections.add(tx, connection)
                versions.add(tx, version)
                at = connection.created_at
                seen = {"what": "connect", "verdict": "accepted", "identity": dict(connection.identity)}
                said = {"decision": "connected", "by": connection.owner, "system": connection.system}
                journal.append(
                    tx,
                    connection.id,
                    [
                        journal.Entry(at, "", "connect", LineKind.OBSERVED, 0, seen),
                        journal.Entry(at, "", "connect", LineKind.DECISION, 0, said),
                    ],
                )
            for seal in seals:
                seal(tx)

        found = hub.store.write(lambda tx, some=some: [_placed(tx, c, v) for c, v in some])  # type: ignore[misc]
        some[:] = found
        hub.store.write(work)
        hub.store.write(lambda tx, some=some: _around(tx, some, dice))  # type: ignore[misc]
        made += [connection for connection, _ in some]
    return made


def _placed(tx: Tx, connection: Connection, version: Version) -> tuple[Connection, Version]:
    principal_id = principals.ensure(tx, f"{connection.system}/{connection.name}")
    return replace(connection, principal_id=principal_id), replace(version, principal_id=principal_id)


def _around(tx: Tx, some: Sequence[tuple[Connection, Version]], dice: random.Random) -> None:
    """Projects and consumers."""
    for connection, _ in some:
        if dice.random() < 0.8:
            people.move_to_project(tx, connection.id, dice.choice(_TEAMS))
        for number in range(dice.choice((0, 1, 1, 2))):
            consumers.declare(
                tx,
                Consumer(new_id("use"), connection.id, f"job-{number}", "live", 0.0, True, 1, None),
            )


def _connection(hub: Keyturn, number: int, dice: random.Random, now: float) -> tuple[Connection, Version]:
    system, method = ROWS[number % len(ROWS)]
    row = hub.catalog.method(system, method)
    name = f"{dice.choice(_TEAMS)}-{dice.choice(_PLACES)}-{system}-{number:05}"
    settings = {f.name: str(f.default or f.example or "x") for f in row.fields if not f.secret}
    state = dice.choices(list(ConnectionState), weights=(92, 2, 2, 2, 2))[0]
    automatic = dice.random() < 0.25
    age = dice.uniform(0, 60 if automatic else 100) * DAY_S
    ends = None
    if not automatic and dice.random() < 0.2:
        ends = now + dice.uniform(-5, 300) * DAY_S
    connection = Connection(
        id=ConnectionId(new_id("con")),
        name=name,
        system=system,
        method=method,
        settings={**settings, "user": f"svc_{number}", "account": f"acct{number}"},
        principal_id=PrincipalId(""),
        owner=f"{dice.choice(_TEAMS).lower()}-{number % 50:02}@example.net",
        policy={"automatic": True} if automatic else {"max_age_days": 90.0} if number % 3 else {},
        identity={"principal": f"svc_{number}", "tenant": f"acct{number}"},
        state=state,
        generation=1,
        current_version_id=VersionId(new_id("ver")),
        definition_hash="",
        created_at=now - dice.uniform(100, 1000) * DAY_S,
    )
    born = now - age
    assert connection.current_version_id is not None
    version = Version(
        id=connection.current_version_id,
        connection_id=connection.id,
        principal_id=PrincipalId(""),
        number=100_000,  # behind whatever its history has
        state=State.CURRENT,
        ref=Ref(slot="A"),
        fingerprint=hub.roots.fingerprint(f"first-{number}"),
        provenance=Provenance.OURS,
        born_at=born,
        expires_at=ends,
        changed_at=born,
    )
    return connection, version


def _plans(hub: Keyturn, made: Sequence[Connection]) -> dict[tuple[str, str], Plan]:
    """One rotation plan for each row."""
    usual = (each for each in made if each.state is ConnectionState.ACTIVE)
    first = {(each.system, each.method): each for each in usual}
    return {row: runs.plan(hub, each.id, Goal.ROTATE) for row, each in first.items()}


# -- what happened -----------------------------------------------------------------------------------------------------


def _past(
    hub: Keyturn,
    crowd: Crowd,
    plans: dict[tuple[str, str], Plan],
    dice: random.Random,
    now: float,
) -> None:
    """Runs that ended, in the order of time, with the lines and the versions they left."""
    size, made = crowd.size, crowd.connections
    counts = [0] * len(made)
    long_one = made.index(crowd.longest)
    each_lines = max(4, round((size.lines - 2 * size.connections) * 0.95 / max(1, size.runs)))
    whose = [long_one] * min(size.longest, size.runs // 4)
    whose += [dice.randrange(len(made)) for _ in range(size.runs - len(whose) - size.waiting - size.stuck)]
    dice.shuffle(whose)
    begin = now - 700 * DAY_S
    step = (now - 60 - begin) / max(1, len(whose))
    for batch in _batches(len(whose)):
        some = []
        for place in batch:
            index = whose[place]
            counts[index] += 1
            connection = made[index]
            plan = plans[connection.system, connection.method]
            at = begin + place * step
            some.append(_ended(connection, plan, counts[index], at, each_lines, dice))
        crowd.run_ids += [run.id for run, _, _, _ in some]

        def work(tx: Tx, some: Sequence[Any] = some) -> None:
            for run, version, entries, debt in some:
                run_rows.add(tx, run)
                versions.add(tx, version)
                journal.append(tx, run.connection_id, entries)
                if debt is not None:
                    debts.add(tx, debt)

        hub.store.write(work)


def _ended(
    connection: Connection, plan: Plan, number: int, at: float, lines: int, dice: random.Random
) -> tuple[Run, Version, list[journal.Entry], Debt | None]:
    state = dice.choices(
        (RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT, RunState.ABORTED_CLEAN, RunState.ABORTED_WITH_DEBT),
        weights=(95, 2, 2.5, 0.5),
    )[0]
    goal = dice.choices((Goal.ROTATE, Goal.CONTAIN), weights=(99.5, 0.5))[0]
    run_id, version_id = RunId(new_id("run")), VersionId(new_id("ver"))
    took = dice.uniform(0.2, 40)
    run = Run(
        id=run_id,
        connection_id=connection.id,
        principal_id=connection.principal_id,
        goal=goal,
        trigger=new_id("trg"),
        reason="it is due" if dice.random() < 0.7 else "",
        plan=plan,
        state=state,
        track=Track.FORWARD,
        cursor=len(plan.steps),
        due_at=0.0,
        waiting_for="",
        old_version_id=None,
        new_version_id=version_id,
        attempts=0,
        proof="D2" if state is RunState.COMPLETE else "",
        created_at=at,
        started_at=at + 0.01,
        ended_at=at + took,
        outcome="" if state is RunState.COMPLETE else "the vendor refused the new credential",
    )
    version = Version(
        id=version_id,
        connection_id=connection.id,
        principal_id=connection.principal_id,
        number=number,
        state=State.DEAD if state is RunState.COMPLETE else State.REFUSED,
        ref=Ref(slot="AB"[number % 2]),
        fingerprint=f"{dice.getrandbits(128):032x}",
        provenance=Provenance.OURS,
        born_at=at,
        expires_at=None,
        changed_at=at + took,
    )
    by = "keyturn" if dice.random() < 0.8 else connection.owner
    entries = _entries(run, version_id, by, lines, took)
    debt = None
    if state in {RunState.COMPLETE_WITH_DEBT, RunState.ABORTED_WITH_DEBT}:
        debt = _debt(connection, run, at + took, closed_at=at + took + DAY_S)
    return run, version, entries, debt


def _entries(run: Run, version_id: str, by: str, count: int, took: float) -> list[journal.Entry]:
    """The lines of a run: who began it, then for each step what was meant, seen and done."""
    at, found = run.created_at, []
    begun = {"decision": "started", "goal": run.goal.value, "by": by, "reason": run.reason}
    found.append(journal.Entry(at, run.id, "start", LineKind.DECISION, 0, begun))
    facts: tuple[tuple[LineKind, dict[str, Any]], ...] = (
        (LineKind.INTENT, {"effect": "create", "version": version_id, "call": "POST /credentials"}),
        (LineKind.OUTCOME, {"outcome": "applied", "version": version_id, "status": 200}),
        (LineKind.OBSERVED, {"what": "test", "verdict": "accepted", "version": version_id, "code": ""}),
        (LineKind.DECISION, {"decision": "step_done", "next": "drain"}),
    )
    keys = [step.key for step in run.plan.steps]
    for number in range(count - 1):
        kind, said = facts[number % len(facts)]
        key = keys[min(len(keys) - 1, number * len(keys) // count)]
        found.append(journal.Entry(at + took * number / count, run.id, key, kind, 1, said))
    return found


def _debt(connection: Connection, run: Run, at: float, closed_at: float | None) -> Debt:
    return Debt(
        id=DebtId(new_id("dbt")),
        connection_id=connection.id,
        version_id=run.new_version_id,
        run_id=run.id,
        kind="alive",
        why="the vendor still accepts the old one",
        facts={"ref": {"slot": "A"}, "last": "the old one is still accepted"},
        owner=connection.owner,
        tries=3,
        next_try_at=time.time() + 30 * DAY_S,
        created_at=at,
        closed_at=closed_at,
        closed_by="keyturn" if closed_at else "",
        closed_why="proven dead" if closed_at else "",
    )


# -- what is going on --------------------------------------------------------------------------------------------------


def _present(
    hub: Keyturn,
    crowd: Crowd,
    plans: dict[tuple[str, str], Plan],
    dice: random.Random,
    now: float,
) -> None:
    """Runs that wait for a person, for a second person, or cannot go on; debts that are open. None is due soon."""
    size = crowd.size
    usual = [c for c in crowd.connections if c.state is ConnectionState.ACTIVE and c is not crowd.longest]
    chosen = dice.sample(usual, size.waiting + size.stuck + size.asked + size.debts)

    def work(tx: Tx) -> None:
        for number, connection in enumerate(chosen):
            plan = plans[connection.system, connection.method]
            run, _, entries, _ = _ended(connection, plan, 90_000, now - dice.uniform(60, 9e5), 6, dice)
            run = replace(run, proof="", outcome="", ended_at=None, new_version_id=None)
            if number < size.waiting:
                run = replace(run, state=RunState.WAITING_HUMAN, cursor=1, due_at=now + 20 * DAY_S)
                run = replace(run, waiting_for="a person")
                tasks.add(tx, _task(connection, run, now))
            elif number < size.waiting + size.stuck:
                run = replace(run, state=RunState.BLOCKED, cursor=1, due_at=now + 20 * DAY_S)
                run = replace(run, waiting_for="the vendor refuses the administrator")
                crowd.stuck_run = run.id
            elif number < size.waiting + size.stuck + size.asked:
                run = replace(run, state=RunState.WAITING_APPROVAL, cursor=0, due_at=0.0)
                run = replace(run, waiting_for="approval: more than one", started_at=None)
                run_rows.add(tx, run)
                approvals.add(tx, _approval(connection, run, now))
            else:
                at = now - dice.uniform(1, 30) * DAY_S
                state = RunState.COMPLETE_WITH_DEBT
                run = replace(
                    run, state=state, cursor=len(plan.steps), created_at=at, due_at=0.0, ended_at=at
                )
                debts.add(tx, _debt(connection, run, at, None))
            if run.state is not RunState.WAITING_APPROVAL:
                run_rows.add(tx, run)
            journal.append(tx, connection.id, entries)

    hub.store.write(work)


def _task(connection: Connection, run: Run, now: float) -> Task:
    step = next((each for each in run.plan.steps if each.kind is not Kind.PREFLIGHT), run.plan.steps[0])
    return Task(
        id=TaskId(new_id("tsk")),
        run_id=run.id,
        connection_id=connection.id,
        step=step.key,
        kind="supply",
        state=TaskState.OPEN,
        title=f"Make a new key for {connection.name} and paste it here",
        instructions=({"text": "Open the vendor's settings, make a key, copy it."},) * 4,
        fields=({"name": "api_key", "label": "API key", "secret": True},),
        claimed_by="",
        claimed_until=0.0,
        why="",
        created_at=run.created_at,
        due_at=now + 14 * DAY_S,
    )


def _approval(connection: Connection, run: Run, now: float) -> Approval:
    return Approval(
        run_id=run.id,
        connection_id=connection.id,
        goal=run.goal,
        state=ApprovalState.WAITING,
        why="more than one connection",
        asked_by=connection.owner,
        asked_from="",
        asked_why="quarterly",
        asked_at=run.created_at,
        generation=connection.generation,
        seen="",
        ends_at=now + 7 * DAY_S,
        decided_by="",
        decided_from="",
        decided_why="",
        decided_at=None,
    )


def _own_lines(hub: Keyturn, size: Size, dice: random.Random, now: float) -> None:
    """What belongs to no connection: people coming and going, and what they did."""
    row = hub.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM journal"))
    missing = max(0, size.lines - int(row[0]) if row else 0)
    for batch in _batches(missing):
        entries = []
        for place in batch:
            who = f"{dice.choice(_TEAMS).lower()}-{place % 50:02}@example.net"
            at = now - 30 - (missing - place) * 300.0
            said = {"decision": "signed_in" if place % 3 else "did", "by": who, "from": "10.1.2.3"}
            entries.append(journal.Entry(at, "", "people", LineKind.DECISION, 0, said))
        hub.store.write(lambda tx, entries=entries: journal.append(tx, journal.HUB, entries))  # type: ignore[misc]
