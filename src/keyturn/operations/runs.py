"""Planning, starting, following, cancelling, rolling back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.executor.executor import Seen
from keyturn.executor.hub import RowOf
from keyturn.model.approval import Approval, ApprovalState, why_needed
from keyturn.model.credential import Connection, ConnectionState, State, Version
from keyturn.model.ids import ConnectionId, RunId, new_id
from keyturn.model.plan import Goal, Kind, Plan, says
from keyturn.model.policy import Policy
from keyturn.model.run import TERMINAL, Debt, Line, LineKind, Outcome, Run, RunState, Task, TaskState, Track
from keyturn.operations.connections import find, named
from keyturn.planner.plans import plan as make_plan
from keyturn.planner.situation import Situation
from keyturn.storage import (
    approvals,
    connections,
    debts,
    jobs,
    journal,
    people,
    principals,
    projects,
    runs,
    sealed,
    tasks,
    versions,
)
from keyturn.storage.database import Tx
from keyturn.storage.rows import dump
from keyturn.vault.secrets import admin_row


def situation(hub: Keyturn, connection: Connection, *, drop: bool = False) -> Situation:
    """A connection as it stands. `drop`: as if its policy said that a disconnect deletes the remote identity."""
    row = hub.catalog.row_of(connection)
    return hub.store.read(
        lambda tx: _situation(tx, _there(connections.by_id(tx, connection.id)), row, drop=drop)
    )


def _there(found: Connection | None) -> Connection:
    if found is None:
        raise NotFound("the connection is gone")
    return found


def _situation(tx: Tx, connection: Connection, row: RowOf, *, drop: bool) -> Situation:
    policy = Policy.read(connection.policy)
    known = versions.in_play(tx, connection.id, (connection.current_version_id,))
    there = connections.around(tx, connection, admin_row(connection.id))
    others = connections.siblings(tx, connection) if there.siblings else []
    siblings = [other for other in others if other.state not in _WITHOUT]
    return Situation(
        connection=connection,
        method=row.method,
        card=row.card,
        can=capability_names(row.can),
        has_admin=there.admin,
        versions=known,
        policy=replace(policy, drop_principal=True) if drop else policy,
        siblings=siblings,
        same_value=_same_value(tx, connection, known, siblings) if siblings else frozenset(),
        jobs=[
            (job.id, job.name)
            for job in (jobs.of_connection(tx, connection.id) if there.jobs else ())
            if job.after_rotation and job.paused_at is None
        ],
        sources=projects.labels_of(tx, connection.id) if there.sources else (),
    )


def _same_value(
    tx: Tx, connection: Connection, known: Sequence[Version], siblings: Sequence[Connection]
) -> frozenset[str]:
    """Siblings whose current version has the fingerprint of ours: somebody entered one credential twice."""
    ours = {version.fingerprint for version in known if version.id == connection.current_version_id}
    theirs = (
        (other, versions.by_id(tx, other.current_version_id))
        for other in siblings
        if other.current_version_id
    )
    return frozenset(other.name for other, version in theirs if version and version.fingerprint in ours)


_WITHOUT = frozenset({ConnectionState.DISCONNECTED, ConnectionState.REVOKED})  # no credential to lose


def capability_names(can: Capabilities) -> frozenset[str]:
    """The names of the capabilities there are."""
    return frozenset(name for name, value in vars(can).items() if value is not None)


def plan(hub: Keyturn, name: str, goal: Goal, *, drop: bool = False) -> Plan:
    """The plan for a goal, without starting anything. Changes nothing, calls nobody."""
    return make_plan(situation(hub, find(hub, name), drop=drop), goal)


def start(
    hub: Keyturn,
    name: str,
    goal: Goal,
    *,
    reason: str = "",
    trigger: str = "",
    drop: bool = False,
    who: str = "",
    view: Callable[[Situation], Situation] = lambda seen: seen,
    shape: Callable[[Plan], Plan] = lambda made: made,
    also: Callable[[Tx, Connection], None] | None = None,
    hold: Callable[[RunId], Callable[[Tx], None]] | None = None,
    emergency: str = "",
    many: int = 1,
    address: str = "",
    accept: Sequence[str] = (),
    **facts: Any,
) -> Run:
    """Freezes a plan into a queued run. The same trigger again returns the same run.

    The plan is made inside the transaction, from the locked connection: nothing changes between the two. `view` may see
    the connection otherwise than it is, `shape` change the plan, `also` write beside it; `facts` go into the journal.

    A plan that needs a second person (`model/approval.py`; `many` connections were asked for at once) waits as
    `waiting_approval` and is never due; `hold`, where given, then keeps what `also` would have changed until it is
    approved. With `emergency`, a reason, it begins at once and somebody looks at it afterwards.

    A plan with a moment in which no known credential may work (`Plan.risk`) starts only when its words are in `accept`
    or in the connection's policy; the journal says who accepted what.

    Raises: InvalidInput naming the words when they were not said; Conflict when another run of this connection has not ended, or one with this goal waits for approval
    (`facts['run']`).
    """
    now, given, run_id, by = time.time(), trigger, RunId(new_id("run")), who or hub.settings.actor
    trigger = given or f"trg_{run_id.removeprefix('run_')}"
    emergency = " ".join(emergency.split())
    reason = reason or emergency
    said = {"decision": "started", "goal": goal.value, "by": by, "reason": reason, **facts}
    if address:
        said["address"] = address

    keep = hold(run_id) if hold is not None else None

    def why(tx: Tx, as_is: Connection, made: Plan | None) -> str:
        policy, rules = Policy.read(as_is.policy).approve, hub.settings.approvals
        has_accounts = partial(people.are_there, tx)
        return why_needed(rules, policy, goal, made, many=many, has_accounts=has_accounts)

    def work(tx: Tx) -> Run:
        seat.claimed = None  # of an attempt that was undone
        # with its principal: an emergency may end a run, and a free thread takes the new one
        as_is = named(connections.locked(tx, name), name)
        again = runs.by_trigger(tx, as_is.id, given) if given else None
        if again is not None:
            return again
        still_open = runs.open_of(tx, as_is.id)
        if any(each.goal is goal and each.state is RunState.WAITING_APPROVAL for each in still_open):
            _one_question(tx, as_is, goal, now, by, is_emergency=bool(emergency))
        unfinished = runs.under_way(still_open)
        needed = why(tx, as_is, None) if goal is Goal.CONTAIN else ""
        hurries = goal is Goal.CONTAIN and (bool(emergency) or not needed)
        if unfinished is not None and hurries and unfinished.goal in _ROUTINE:
            if _goes_on(unfinished):
                open_one = approvals.of_run(tx, unfinished.id)
                if needed and (open_one is None or open_one.decided_at is not None):
                    _ask(tx, as_is.id, unfinished, needed, now, by, address, emergency)
                return _hurry(tx, unfinished, now, by, reason)
            _give_way(tx, hub, unfinished, name, now, by)
            as_is = _there(connections.by_id(tx, as_is.id))
        elif unfinished is not None:
            raise Conflict(
                f"{name} has a run that has not ended ({unfinished.id}, {unfinished.state.value})",
                hint=f"Wait, or use `keyturn rollback {unfinished.id}` or `keyturn cancel {unfinished.id}`.",
                run=unfinished.id,
            )
        row = hub.catalog.row_of(as_is)
        stands = _situation(tx, as_is, row, drop=drop)
        seen = view(stands)
        run = queued(run_id, seen.connection, shape(make_plan(seen, goal)), trigger, reason, now)
        needed = why(tx, as_is, run.plan)
        waits = bool(needed) and not emergency
        if waits:
            run = replace(run, state=RunState.WAITING_APPROVAL, due_at=0.0, waiting_for=f"approval: {needed}")
        if waits and keep is not None:
            keep(tx)
        elif also is not None:
            also(tx, seen.connection)
        if not waits:
            run = seat.claim(tx, run, Seen(as_is, stands.versions, row) if also is None else None)
        runs.add(tx, run)
        began = {**said, **_accepted(run.plan, accept), "decision": "requested" if waits else "started"}
        journal.append(tx, as_is.id, [journal.Entry(now, run.id, "start", LineKind.DECISION, 0, began)])
        if needed:
            as_planned = make_plan(seen, goal) if waits else None
            _ask(tx, as_is.id, run, needed, now, by, address, emergency, as_planned)
        return run

    with hub.engine.seat() as seat:
        made = hub.store.write(work)
    if seat.claimed is None and made.state is not RunState.WAITING_APPROVAL:
        hub.engine.wake(made.id, now)
    return made


def _accepted(made: Plan, said: Sequence[str]) -> dict[str, str]:
    """What the journal says of a risk and of its acceptance. Raises: InvalidInput."""
    if not made.risk:
        return {}
    if made.accept and not any(says(each, made.accept) for each in said):
        raise InvalidInput(
            f"somebody must accept a risk in words first: {made.risk}",
            hint=f"Say: {made.accept}. An administrator's credential on the connection takes the risk away.",
            field="accept",
        )
    return {"risk": made.risk, "accepted": made.accept or "by the connection's policy"}


def queued(run_id: RunId, connection: Connection, frozen: Plan, trigger: str, reason: str, now: float) -> Run:
    """A run of this plan that nobody has begun: due at once, not stored yet."""
    return Run(
        id=run_id,
        connection_id=connection.id,
        principal_id=connection.principal_id,
        goal=frozen.goal,
        trigger=trigger,
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


# -- a second person ---------------------------------------------------------------------------------------------------


def held_row(run_id: str) -> str:
    """Where what was typed for a run is sealed until the run is approved."""
    return f"approval:{run_id}"


def as_seen(tx: Tx, connection_id: ConnectionId, planned: Plan) -> tuple[int, str]:
    """A connection's generation, and a digest of what a frozen plan rests on besides: settings, policy, method and the
    plan itself as it would be made now. Which sources use the credential may change meanwhile."""
    as_is = connections.by_id(tx, connection_id)
    if as_is is None:
        raise NotFound("the connection is gone")
    rests_on = [as_is.settings, as_is.policy, as_is.method, as_is.definition_hash, as_is.principal_id]
    said = dump([*rests_on, as_is.state.value, replace(planned, used_by=()).as_json()])
    return as_is.generation, hashlib.sha256(said.encode()).hexdigest()


def still_fits(
    tx: Tx, run: Run, seen: str, row: RowOf, view: Callable[[Situation], Situation] = lambda found: found
) -> bool:
    """Whether connection and plan are still what they were when the plan was frozen; the generation apart.

    Raises: Conflict, InvalidInput when the goal makes no sense any more.
    """
    as_is = _there(connections.by_id(tx, run.connection_id))
    plans = (make_plan(view(_situation(tx, as_is, row, drop=drop)), run.goal) for drop in (False, True))
    return any(as_seen(tx, run.connection_id, each)[1] == seen for each in plans)


def _ask(
    tx: Tx,
    connection_id: ConnectionId,
    run: Run,
    rule: str,
    now: float,
    by: str,
    address: str,
    emergency: str,
    planned: Plan | None = None,
) -> None:
    """Puts the question to a second person on record: before the run, or after an emergency."""
    as_is = connections.by_id(tx, connection_id)
    days = Policy.read(as_is.policy).approval_days if as_is else 0.0
    generation, seen = as_seen(tx, connection_id, planned) if planned else (0, "")
    question = Approval(
        run_id=run.id,
        connection_id=connection_id,
        goal=run.goal,
        state=ApprovalState.REVIEW if emergency else ApprovalState.WAITING,
        why=rule,
        asked_by=by,
        asked_from=address,
        asked_why=emergency or run.reason,
        asked_at=now,
        generation=generation,
        seen=seen,
        ends_at=None if emergency else now + days * 86400.0,
        decided_by="",
        decided_from="",
        decided_why="",
        decided_at=None,
    )
    approvals.add(tx, question)
    facts: dict[str, Any] = {"by": by, "from": address, "rule": rule}
    if emergency:
        facts = {"decision": "approval_skipped", **facts, "why": emergency}
    else:
        facts = {"decision": "approval_asked", **facts, "until": question.ends_at}
    journal.append(tx, connection_id, [journal.Entry(now, run.id, "approval", LineKind.DECISION, 0, facts)])


def _one_question(
    tx: Tx, connection: Connection, goal: Goal, now: float, by: str, *, is_emergency: bool
) -> None:
    """Of one connection and goal only one run waits for approval. Raises: Conflict."""
    asked = approvals.waiting_for(tx, connection.id, goal)
    if asked is None:
        return
    if asked.ends_at is not None and asked.ends_at <= now:
        end_waiting(tx, asked.run_id, ApprovalState.EXPIRED, now, by="keyturn", why=NOBODY)
    elif is_emergency:
        why = "begun as an emergency instead"
        end_waiting(tx, asked.run_id, ApprovalState.WITHDRAWN, now, by=by, why=why)
    else:
        raise Conflict(
            f"{connection.name} has a run to {goal.value} that waits for approval ({asked.run_id})",
            hint=f"Somebody else approves it, or take it back with `keyturn cancel {asked.run_id}`.",
            run=asked.run_id,
        )


NOBODY = "nobody approved it in time"
_SAID = {
    ApprovalState.EXPIRED: "approval_expired",
    ApprovalState.WITHDRAWN: "approval_withdrawn",
    ApprovalState.REFUSED: "approval_refused",
}


def end_waiting(
    tx: Tx, run_id: RunId, how: ApprovalState, now: float, *, by: str, why: str, address: str = ""
) -> bool:
    """Ends a run that waits for approval, before anything was done. False when it does not wait (any more)."""
    run = runs.by_id(tx, run_id)
    if run is None or run.state is not RunState.WAITING_APPROVAL:
        return False
    tx.hold("SELECT generation FROM connection WHERE id = ?", run.connection_id)
    if not approvals.decide(tx, run_id, how, by=by, address=address, why=why, at=now):
        return False
    facts = {"decision": _SAID[how], "by": by, "from": address, "why": why}
    journal.append(
        tx, run.connection_id, [journal.Entry(now, run_id, "approval", LineKind.DECISION, 0, facts)]
    )
    sealed.destroy(tx, held_row(run_id))
    columns = {"state": RunState.ABORTED_CLEAN.value, "ended_at": now, "waiting_for": "", "outcome": why}
    runs.change(tx, run_id, columns)
    return True


# -- an emergency while a routine run is under way (semantics 13) --------------------------------------------------

_ROUTINE = frozenset({Goal.ROTATE, Goal.REAUTHORIZE, Goal.REFRESH})
_STANDS = frozenset({RunState.WAITING_HUMAN, RunState.BLOCKED, RunState.LOST})
_A_LOOK_S = 2.0  # longer than a worker looks at a run that only waits


def _goes_on(run: Run) -> bool:
    """Whether the run itself replaces and ends the old one by and by, without anybody: before the switch only while
    nobody has to do something, after it in any case."""
    if run.track is not Track.FORWARD or run.goal is Goal.REFRESH:
        return False
    switch = next((i for i, step in enumerate(run.plan.steps) if step.kind is Kind.CUTOVER), -1)
    return 0 <= switch < run.cursor or run.state not in _STANDS


def _hurry(tx: Tx, run: Run, now: float, by: str, reason: str) -> Run:
    """The run goes on without waiting for consumers."""
    facts = {"decision": "contain", "by": by, "reason": reason}
    journal.append(
        tx, run.connection_id, [journal.Entry(now, run.id, "contain", LineKind.DECISION, 0, facts)]
    )
    runs.wake(tx, run.id, now)
    return run


def _give_way(tx: Tx, hub: Keyturn, run: Run, name: str, now: float, by: str) -> None:
    """Ends a run that would keep an emergency waiting. Raises: Conflict when something of it is at the vendor."""
    as_is, epoch = _take(tx, hub, run.id, now)
    if _may_have_changed(tx, as_is):
        open_tasks = [t for t in tasks.of_run(tx, run.id) if t.state in tasks.OPEN_STATES]
        if run.track is Track.ROLLBACK or run.state not in _STANDS:
            todo = f"Wait until it has ended (`keyturn run {run.id} --follow`)"
        elif open_tasks:
            todo = f"Do `keyturn task {open_tasks[0].id}`" + _or_undo(as_is)
        else:
            todo = f"Remove the cause and use `keyturn retry {run.id}`" + _or_undo(as_is)
        raise Conflict(
            f"{name} has a run that has changed something at the vendor ({run.id}, {run.state.value})",
            hint=f"{todo}, then `keyturn contain {quote(name)}` again.",
            run=run.id,
        )
    _end(tx, as_is, epoch, now, by, "gave way to an emergency")


def _or_undo(run: Run) -> str:
    return f" or `keyturn rollback {run.id}`" if run.plan.rollback else ""


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


def listed(
    hub: Keyturn,
    *,
    connection_id: str = "",
    states: Sequence[str] = (),
    goal: str = "",
    projects: frozenset[str] | None = None,
    before: tuple[float, str] | None = None,
    limit: int = 50,
) -> list[Run]:
    """The runs that fit, newest first; those older than `before`, a run's (created_at, id)."""
    return hub.store.read(
        lambda tx: runs.page(
            tx,
            connection_id=connection_id,
            states=states,
            goal=goal,
            projects=projects,
            before=before,
            limit=limit,
        )
    )


def some(hub: Keyturn, ids: Sequence[str]) -> list[Run]:
    """Named runs, in the order named; those that there are."""
    found: dict[str, Run] = {}
    for first in range(0, len(ids), 500):
        chunk = ids[first : first + 500]
        found |= hub.store.read(lambda tx: runs.by_ids(tx, chunk))  # noqa: B023 - called at once
    return [found[each] for each in ids if each in found]


def steps_said(hub: Keyturn, ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """The steps that each of some runs has lines of in the journal."""
    return hub.store.read(lambda tx: journal.steps_of(tx, ids)) if ids else {}


def lines(hub: Keyturn, run_id: str) -> list[Line]:
    """A run's journal."""
    return hub.store.read(lambda tx: journal.of_run(tx, run_id))


def left_behind(hub: Keyturn, run_id: str) -> tuple[list[Task], list[Debt]]:
    """The tasks and debts of a run."""
    return hub.store.read(lambda tx: (tasks.of_run(tx, RunId(run_id)), debts.of_run(tx, RunId(run_id))))


def name_of(hub: Keyturn, run: Run | Task | Debt) -> str:
    """The connection's name."""
    found = hub.store.read(lambda tx: connections.by_id(tx, run.connection_id))
    return found.name if found else str(run.connection_id)


def owner_of(hub: Keyturn, connection_id: str) -> str:
    """Who answers for a connection."""
    found = hub.store.read(lambda tx: connections.by_id(tx, ConnectionId(connection_id)))
    return found.owner if found else ""


def settled(run: Run) -> bool:
    """Whether nothing more happens without a person: ended, or waiting for one."""
    waits = {RunState.WAITING_APPROVAL, RunState.WAITING_HUMAN, RunState.BLOCKED, RunState.LOST}
    return run.state in TERMINAL or run.state in waits


def _is_reversible(tx: Tx, run: Run) -> bool:
    """Whether the run can still be undone: no step that cannot be undone has been begun."""
    begun = {line.step for line in journal.of_run(tx, run.id) if line.kind is LineKind.INTENT}
    return not any(step.key in begun for step in run.plan.steps if not step.reversible)


def _take(tx: Tx, hub: Keyturn, run_id: RunId, now: float) -> tuple[Run, int]:
    """Takes an unfinished run's principal for this one transaction: the run as it is now, and the epoch.

    Raises: Conflict when it has ended or a worker has it, one of this process too: its call may be under way.
    """
    run = runs.by_id(tx, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}", field="run")
    if run.state is RunState.WAITING_APPROVAL:
        raise _not_begun(run_id)
    epoch = principals.take(tx, run.principal_id, f"{hub.hub.worker}/op/{new_id('op')}", run_id, now, now + 5)
    run = runs.by_id(tx, run_id) or run  # what the lease covers is read under it
    if run.state in TERMINAL:
        raise Conflict(
            f"{run_id} has ended already ({run.state.value})", hint="Start a new rotation instead."
        )
    if epoch is None:
        raise Conflict(f"{run_id} is being worked on", hint="Try again in a moment.", busy=True)
    return run, epoch


def _in_turn(hub: Keyturn, work: Callable[[Tx], None]) -> None:
    """Commits what takes a run's principal. A worker that merely looks at the run has it for a moment and is waited for,
    so that nobody's button is refused for that. Raises: Conflict when it has it for longer: its call may be under way."""
    until = time.monotonic() + _A_LOOK_S
    while True:
        try:
            return hub.store.write(work)
        except Conflict as error:
            if not error.facts.get("busy") or time.monotonic() >= until:
                raise
        time.sleep(0.02)


def _not_begun(run_id: str) -> Conflict:
    return Conflict(
        f"{run_id} has not begun: it waits for approval",
        hint=f"Somebody else uses `keyturn approve {run_id}`; `keyturn cancel {run_id}` takes it back.",
        run=run_id,
    )


def _may_have_changed(tx: Tx, run: Run) -> bool:
    """Whether anything may be at the vendor: sent by us and not refused for certain, or done by a person who was asked."""
    sent: dict[str, int] = {}  # calls of a step that no answer says were refused
    for line in journal.of_run(tx, run.id):
        outage = line.kind is LineKind.OBSERVED and line.facts.get("what") == "outage"
        if outage or line.kind is LineKind.RECEIPT:
            return True
        if line.kind is LineKind.INTENT:
            sent[line.step] = sent.get(line.step, 0) + 1
        elif line.kind is LineKind.OUTCOME:
            outcome = line.facts.get("outcome")
            if outcome == Outcome.APPLIED.value:
                return True
            # `resolved`: found out afterwards. What the call left behind may be owed, so that run is not a clean one.
            if outcome == Outcome.NOT_APPLIED.value and not line.facts.get("resolved"):
                sent[line.step] = max(0, sent.get(line.step, 0) - 1)
    return any(sent.values()) or any(task.state is TaskState.SUBMITTED for task in tasks.of_run(tx, run.id))


def _end(tx: Tx, run: Run, epoch: int, now: float, by: str, why: str) -> None:
    """Ends a run from outside: nobody is asked or paused any more, the principal is free."""
    state = RunState.ABORTED_CLEAN.value
    facts = {"decision": "ended", "state": state, "by": by, "why": why}
    entry = journal.Entry(now, run.id, "cancel", LineKind.DECISION, epoch, facts)
    journal.append(tx, run.connection_id, [entry])
    _cancel_tasks(tx, run)
    made = versions.by_id(tx, run.new_version_id) if run.new_version_id else None
    if made is not None and made.state is State.REQUESTED:  # the vendor would not have it
        versions.move(tx, made.id, State.REFUSED, now)
    connection = connections.by_id(tx, run.connection_id)
    if connection is not None and connection.state is ConnectionState.PAUSED:
        connections.change(tx, connection.id, state=ConnectionState.ACTIVE.value)
    columns = {"state": state, "due_at": None, "ended_at": now, "waiting_for": "", "outcome": why}
    runs.change(tx, run.id, columns)
    principals.let_go(tx, run.principal_id, epoch, ended=True)


def _cancel_tasks(tx: Tx, run: Run) -> None:
    for task in tasks.of_run(tx, run.id):
        if task.state in tasks.OPEN_STATES:
            tasks.change(tx, task.id, state=TaskState.CANCELLED.value, why="cancelled")


def ways_out(hub: Keyturn, run: Run) -> frozenset[str]:
    """Which of `cancel`, `rollback` and `retry` a person may try now. Asking changes nothing; the verb decides again."""

    def work(tx: Tx) -> frozenset[str]:
        if run.state in TERMINAL:
            return frozenset()
        found = {"retry"} if run.state in {*_STANDS, RunState.WAITING, RunState.RESOLVING} else set()
        if not _may_have_changed(tx, run) or _only_asked(tx, run):
            found.add("cancel")
        elif run.track is Track.FORWARD and run.plan.rollback and _is_reversible(tx, run):
            found.add("rollback")
        return frozenset(found)

    return hub.store.read(work)


def _only_asked(tx: Tx, run: Run) -> bool:
    """Whether all that may have changed something is a person who was asked to, and the old one was not seen refused."""
    said = journal.of_run(tx, run.id)
    if any(line.kind is LineKind.RECEIPT or line.facts.get("what") == "outage" for line in said):
        return False
    found = tasks.of_run(tx, run.id)
    asked = any(task.state in tasks.OPEN_STATES for task in found)
    answered = any(task.state is TaskState.SUBMITTED for task in found)
    by_person = all(line.facts.get("by") == "person" for line in said if line.kind is LineKind.INTENT)
    return asked and not answered and by_person


def cancel(hub: Keyturn, run_id: str) -> Run:
    """Ends a run before anything was changed at the vendor.

    Where only a person could have changed something, they are asked no longer and the old one is tested: the run ends when
    it works, and is lost when it does not. Raises: Conflict when something was changed, or may have been.
    """
    run, now, by = get(hub, run_id), time.time(), hub.settings.actor

    def work(tx: Tx) -> None:
        if end_waiting(tx, run.id, ApprovalState.WITHDRAWN, now, by=by, why="cancelled"):
            return
        as_is, epoch = _take(tx, hub, run.id, now)
        if _may_have_changed(tx, as_is) and _only_asked(tx, as_is):
            facts = {"decision": "cancel", "by": by}
            journal.append(
                tx, run.connection_id, [journal.Entry(now, run.id, "cancel", LineKind.DECISION, epoch, facts)]
            )
            _cancel_tasks(tx, as_is)
            runs.hasten(tx, run.id, now)
            principals.let_go(tx, as_is.principal_id, epoch, ended=False)
            return
        if _may_have_changed(tx, as_is):
            raise Conflict(
                f"{run_id} has changed something at the vendor, or a person may have",
                hint=f"Use `keyturn rollback {run_id}`."
                if as_is.plan.rollback
                else f"It only rolls forward: `keyturn run {run_id}` says what it waits for.",
            )
        _end(tx, as_is, epoch, now, by, "cancelled")

    _in_turn(hub, work)
    found = get(hub, run_id)
    if found.state not in TERMINAL:
        hub.engine.wake(run.id, now)
    return found


def stop(hub: Keyturn, run_id: str, why: str, *, who: str = "") -> Run:
    """Ends a run although it changed something: whoever calls has ended all it worked on. Ended already: as it is."""
    run, now = get(hub, run_id), time.time()
    if run.state not in TERMINAL:

        def work(tx: Tx) -> None:
            by = who or hub.settings.actor
            if end_waiting(tx, run.id, ApprovalState.WITHDRAWN, now, by=by, why=why):
                return
            as_is, epoch = _take(tx, hub, run.id, now)
            _end(tx, as_is, epoch, now, by, why)

        _in_turn(hub, work)
    return get(hub, run_id)


def rollback(hub: Keyturn, run_id: str) -> Run:
    """Turns a run around, before its point of no return: the old one serves again, the new one is removed.

    Raises: Conflict past the point of no return, or when the run ended: roll forward with a new rotation.
    """
    run, now = get(hub, run_id), time.time()

    def work(tx: Tx) -> None:
        as_is, taken = _take(tx, hub, run.id, now)
        if not as_is.plan.rollback or not _is_reversible(tx, as_is):
            raise Conflict(
                f"{run_id} is past its point of no return",
                hint="It only rolls forward; start a new rotation afterwards.",
            )
        facts = {"decision": "rollback", "by": hub.settings.actor}
        journal.append(
            tx, run.connection_id, [journal.Entry(now, run.id, "rollback", LineKind.DECISION, taken, facts)]
        )
        _cancel_tasks(tx, run)
        columns = {
            "track": Track.ROLLBACK.value,
            "cursor": 0,
            "due_at": now,
            "state": RunState.RUNNING.value,
            "attempts": 0,
        }
        runs.change(tx, run.id, {**columns, "outcome": "rolled back on request"})
        principals.let_go(tx, run.principal_id, taken, ended=False)

    _in_turn(hub, work)
    hub.engine.wake(run.id, now)
    return get(hub, run_id)


def retry(hub: Keyturn, run_id: str) -> Run:
    """Makes a waiting or blocked run due now."""
    run = get(hub, run_id)
    if run.state in TERMINAL:
        raise Conflict(f"{run_id} has ended already ({run.state.value})")
    if run.state is RunState.WAITING_APPROVAL:
        raise _not_begun(run_id)
    now = time.time()
    hub.store.write(lambda tx: runs.hasten(tx, run.id, now))
    hub.engine.wake(run.id, now)
    return get(hub, run_id)


def serving(hub: Keyturn, connection: Connection) -> str:
    """In words: what serves traffic now and what else is alive."""
    return in_words(hub.store.read(lambda tx: versions.in_play(tx, connection.id), alone=True))


def page(hub: Keyturn, after: str, limit: int) -> list[tuple[Connection, str]]:
    """The connections whose names follow `after`, by name, with what serves each."""

    def work(tx: Tx) -> tuple[list[Connection], dict[str, list[Version]]]:
        found = connections.page(tx, after, limit)
        return found, versions.unspent_of(tx, [connection.id for connection in found])

    found, known = hub.store.read(work)
    return [(connection, in_words(known[connection.id])) for connection in found]


def in_words(known: Sequence[Version]) -> str:
    """Of a connection's versions: which serves, and which others are alive."""
    current = next((v for v in known if v.state is State.CURRENT), None)
    others = [
        f"v{v.number} {v.state.value}"
        for v in known
        if v.state not in {State.CURRENT, State.DEAD, State.REFUSED}
    ]
    words = f"v{current.number} serves" if current else "nothing serves"
    return words + (f"; also alive: {', '.join(others)}" if others else "")
