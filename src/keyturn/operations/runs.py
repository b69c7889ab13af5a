"""Planning, starting, following, cancelling, rolling back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from keyturn.bootstrap import Keyturn
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Remote
from keyturn.errors import Conflict, NotFound
from keyturn.model.credential import Connection, State
from keyturn.model.ids import RunId, new_id
from keyturn.model.plan import Goal, Plan
from keyturn.model.policy import Policy
from keyturn.model.run import TERMINAL, Debt, Line, LineKind, Run, RunState, Task, TaskState, Track
from keyturn.operations.connections import access_of, find
from keyturn.planner.plans import plan as make_plan
from keyturn.planner.situation import Situation
from keyturn.storage import connections, debts, journal, principals, runs, tasks, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row


def situation(hub: Keyturn, connection: Connection, *, look: bool = False) -> Situation:
    """A connection as it stands; `look` also asks the vendor for its inventory."""
    row = hub.catalog.row_of(connection)
    known = hub.store.read(lambda tx: versions.of_connection(tx, connection.id))
    inventory: Sequence[Remote] | None = None
    if look and row.can.lister is not None and row.card.inventory:
        _, access, _ = access_of(hub, connection)
        inventory = row.can.lister.list(access)
    return Situation(
        connection=connection,
        method=row.method,
        card=row.card,
        can=capability_names(row.can),
        has_admin=hub.store.read(
            lambda tx: tx.one("SELECT 1 FROM sealed WHERE id = ?", admin_row(connection.id))
        )
        is not None,
        versions=known,
        policy=Policy.read(connection.policy),
        inventory=inventory,
    )


def capability_names(can: Capabilities) -> frozenset[str]:
    """The names of the capabilities there are."""
    return frozenset(name for name, value in vars(can).items() if value is not None)


def plan(hub: Keyturn, name: str, goal: Goal) -> Plan:
    """The plan for a goal, without starting anything. Changes nothing, calls nobody."""
    return make_plan(situation(hub, find(hub, name)), goal)


def start(hub: Keyturn, name: str, goal: Goal, *, reason: str = "", trigger: str = "") -> Run:
    """Freezes a plan into a queued run. The same trigger again returns the same run.

    Raises: Conflict when another run of this connection has not ended.
    """
    connection = find(hub, name)
    frozen = make_plan(situation(hub, connection), goal)
    now = time.time()
    run = Run(
        id=RunId(new_id("run")),
        connection_id=connection.id,
        principal_id=connection.principal_id,
        goal=goal,
        trigger=trigger or new_id("trg"),
        reason=reason,
        plan=frozen,
        state=RunState.QUEUED,
        track=Track.FORWARD,
        cursor=0,
        due_at=now,
        waiting_for="",
        old_version_id=connection.current_version_id,
        new_version_id=None,
        attempts=0,
        proof="",
        created_at=now,
        started_at=None,
        ended_at=None,
        outcome="",
    )
    facts = {"decision": "started", "goal": goal.value, "by": hub.settings.actor, "reason": reason}

    def work(tx: Tx) -> Run:
        again = runs.by_trigger(tx, connection.id, run.trigger)
        if again is not None:
            return again
        open_runs = [r for r in runs.recent(tx, connection.id, 5) if r.state not in TERMINAL]
        if open_runs and goal is Goal.CONTAIN and open_runs[0].goal in {Goal.ROTATE, Goal.REAUTHORIZE}:
            return _hurry(tx, open_runs[0], now, hub.settings.actor, reason)
        if open_runs:
            raise Conflict(
                f"{name} has a run that has not ended ({open_runs[0].id}, {open_runs[0].state.value})",
                hint=f"Wait, or use `keyturn rollback {open_runs[0].id}` or `keyturn cancel {open_runs[0].id}`.",
            )
        runs.add(tx, run)
        journal.append(tx, connection.id, [journal.Entry(now, run.id, "start", LineKind.DECISION, 0, facts)])
        return run

    made = hub.store.write(work)
    hub.engine.wake(made.id, now)
    return made


def _hurry(tx: Tx, run: Run, now: float, by: str, reason: str) -> Run:
    """An emergency while a routine run is under way: that run goes on without waiting for anybody (semantics 13)."""
    facts = {"decision": "contain", "by": by, "reason": reason}
    journal.append(
        tx, run.connection_id, [journal.Entry(now, run.id, "contain", LineKind.DECISION, 0, facts)]
    )
    runs.wake(tx, run.id, now)
    return run


def get(hub: Keyturn, run_id: str) -> Run:
    """A run. Raises: NotFound."""
    found = hub.store.read(lambda tx: runs.by_id(tx, RunId(run_id)))
    if found is None:
        raise NotFound(f"there is no run {run_id}", hint="`keyturn runs` shows the latest.", field="run")
    return found


def recent(hub: Keyturn, name: str = "", limit: int = 50) -> list[Run]:
    """The latest runs, of one connection when named."""
    connection_id = find(hub, name).id if name else None
    return hub.store.read(lambda tx: runs.recent(tx, connection_id, limit))


def lines(hub: Keyturn, run_id: str) -> list[Line]:
    """A run's journal."""
    return hub.store.read(lambda tx: journal.of_run(tx, run_id))


def left_behind(hub: Keyturn, run_id: str) -> tuple[list[Task], list[Debt]]:
    """The tasks and debts of a run."""
    return hub.store.read(lambda tx: (tasks.of_run(tx, RunId(run_id)), debts.of_run(tx, RunId(run_id))))


def name_of(hub: Keyturn, run: Run) -> str:
    """The connection's name."""
    found = hub.store.read(lambda tx: connections.by_id(tx, run.connection_id))
    return found.name if found else str(run.connection_id)


def settled(run: Run) -> bool:
    """Whether nothing more happens without a person: ended, or waiting for one."""
    return run.state in TERMINAL or run.state in {RunState.WAITING_HUMAN, RunState.BLOCKED, RunState.LOST}


def _is_reversible(tx: Tx, run: Run) -> bool:
    """Whether the run can still be undone: no step that cannot be undone has been begun."""
    begun = {line.step for line in journal.of_run(tx, run.id) if line.kind is LineKind.INTENT}
    return not any(step.key in begun for step in run.plan.steps if not step.reversible)


def cancel(hub: Keyturn, run_id: str) -> Run:
    """Ends a run before it changed anything at the vendor. Raises: Conflict when it did: use rollback."""
    run = get(hub, run_id)
    if run.state in TERMINAL:
        raise Conflict(f"{run_id} has ended already ({run.state.value})")
    now = time.time()

    def work(tx: Tx) -> None:
        taken = principals.take(tx, run.principal_id, hub.hub.worker, run.id, now, now + 5)
        if taken is None:
            raise Conflict(f"{run_id} is being worked on", hint="Try again in a moment.")
        if any(line.kind in {LineKind.INTENT, LineKind.RECEIPT} for line in journal.of_run(tx, run.id)):
            raise Conflict(
                f"{run_id} has changed something at the vendor", hint=f"Use `keyturn rollback {run_id}`."
            )
        facts = {"decision": "ended", "state": "aborted_clean", "by": hub.settings.actor, "why": "cancelled"}
        journal.append(
            tx, run.connection_id, [journal.Entry(now, run.id, "cancel", LineKind.DECISION, taken, facts)]
        )
        for task in tasks.of_run(tx, run.id):
            if task.state in tasks.OPEN_STATES:
                tasks.change(tx, task.id, state=TaskState.CANCELLED.value, why="cancelled")
        runs.change(
            tx,
            run.id,
            {
                "state": "aborted_clean",
                "due_at": None,
                "ended_at": now,
                "waiting_for": "",
                "outcome": "cancelled",
            },
        )
        principals.let_go(tx, run.principal_id, taken, ended=True)

    hub.store.write(work)
    return get(hub, run_id)


def rollback(hub: Keyturn, run_id: str) -> Run:
    """Turns a run around, before its point of no return: the old one serves again, the new one is removed.

    Raises: Conflict past the point of no return, or when the run ended: roll forward with a new rotation.
    """
    run = get(hub, run_id)
    if run.state in TERMINAL:
        raise Conflict(
            f"{run_id} has ended already ({run.state.value})", hint="Start a new rotation instead."
        )
    now = time.time()

    def work(tx: Tx) -> None:
        taken = principals.take(tx, run.principal_id, hub.hub.worker, run.id, now, now + 5)
        if taken is None:
            raise Conflict(f"{run_id} is being worked on", hint="Try again in a moment.")
        if not run.plan.rollback or not _is_reversible(tx, run):
            raise Conflict(
                f"{run_id} is past its point of no return",
                hint="It only rolls forward; start a new rotation afterwards.",
            )
        facts = {"decision": "rollback", "by": hub.settings.actor}
        journal.append(
            tx, run.connection_id, [journal.Entry(now, run.id, "rollback", LineKind.DECISION, taken, facts)]
        )
        for task in tasks.of_run(tx, run.id):
            if task.state in tasks.OPEN_STATES:
                tasks.change(tx, task.id, state=TaskState.CANCELLED.value, why="cancelled")
        columns = {
            "track": Track.ROLLBACK.value,
            "cursor": 0,
            "due_at": now,
            "state": RunState.RUNNING.value,
            "attempts": 0,
        }
        runs.change(tx, run.id, {**columns, "outcome": "rolled back on request"})
        principals.let_go(tx, run.principal_id, taken, ended=False)

    hub.store.write(work)
    hub.engine.wake(run.id, now)
    return get(hub, run_id)


def retry(hub: Keyturn, run_id: str) -> Run:
    """Makes a waiting or blocked run due now."""
    run = get(hub, run_id)
    if run.state in TERMINAL:
        raise Conflict(f"{run_id} has ended already ({run.state.value})")
    now = time.time()
    hub.store.write(lambda tx: runs.hasten(tx, run.id, now))
    hub.engine.wake(run.id, now)
    return get(hub, run_id)


def serving(hub: Keyturn, connection: Connection) -> str:
    """In words: what serves traffic now and what else is alive."""
    known = hub.store.read(lambda tx: versions.of_connection(tx, connection.id))
    current = next((v for v in known if v.state is State.CURRENT), None)
    others = [
        f"v{v.number} {v.state.value}"
        for v in known
        if v.state not in {State.CURRENT, State.DEAD, State.REFUSED}
    ]
    words = f"v{current.number} serves" if current else "nothing serves"
    return words + (f"; also alive: {', '.join(others)}" if others else "")
