"""A second person's word: what waits for it, giving it, refusing it, and looking at emergencies afterwards.

Nobody approves what they asked for, and no program does. A decision changes the run and the journal in one commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound, NotPermitted
from keyturn.executor.hub import RowOf
from keyturn.model.approval import Approval, ApprovalState, why_needed
from keyturn.model.credential import Connection
from keyturn.model.ids import RunId
from keyturn.model.moment import iso
from keyturn.model.plan import Goal, Plan
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind, Run, RunState
from keyturn.operations import events, migrating, projects, rights, runs, sessions
from keyturn.operations.connections import find
from keyturn.operations.rights import Operation, Who
from keyturn.planner.situation import Situation
from keyturn.storage import approvals, connections, journal, people, sealed
from keyturn.storage import runs as rows
from keyturn.storage.database import Tx

MACHINE = "the command line"
_LONGEST = 500
_SAID = {
    ApprovalState.APPROVED: "approved",
    ApprovalState.REVIEWED: "emergency_reviewed",
    ApprovalState.OBJECTED: "emergency_objected",
}


@dataclass(frozen=True)
class Item:
    """Something that a second person is asked: its run, connection and project."""

    asked: Approval
    run: Run
    connection: Connection
    project: str


def at_machine(hub: Keyturn) -> Who:
    """Who speaks on the command line: the account named like `KEYTURN_ACTOR`; on a hub without accounts that name alone.

    Whoever runs commands can take any name: this keeps the record right, it stops nobody who has the machine.
    Raises: NotPermitted when there are accounts and none of that name.
    """
    login = sessions.normal(hub.settings.actor)

    def look(tx: Tx) -> tuple[bool, people.Account | None]:
        return people.are_there(tx), people.by_login(tx, login)

    there, account = hub.store.read(look)
    if not there:
        return Who(hub.settings.actor, name=hub.settings.actor, address=MACHINE, is_local=True)
    if account is None or account.kind != people.PERSON or account.disabled_at is not None:
        raise NotPermitted(
            f"{hub.settings.actor} has no account on this hub",
            hint="Set KEYTURN_ACTOR to your sign-in name, or decide on the run's page.",
            field="KEYTURN_ACTOR",
        )
    return sessions.as_who(hub, account, MACHINE)


# -- looking -----------------------------------------------------------------------------------------------------------


def waiting(hub: Keyturn, within: frozenset[str] | None = None) -> list[Item]:
    """What waits for a second person, oldest first: runs to approve and emergencies to look at. Only those of some
    projects when given."""
    now = time.time()

    def work(tx: Tx) -> list[Item]:
        every = [each for each in approvals.unanswered(tx) if each.ends_at is None or each.ends_at > now]
        known = rows.by_ids(tx, [each.run_id for each in every])
        there = connections.by_ids(tx, [each.connection_id for each in every])
        where = people.projects_of(tx, list(there))
        return [
            Item(each, known[each.run_id], there[each.connection_id], where[each.connection_id])
            for each in every
            if each.run_id in known and each.connection_id in there
        ]

    return [item for item in hub.store.read(work) if within is None or item.project in within]


def needed(hub: Keyturn, connection: Connection, made: Plan, many: int = 1) -> str:
    """Which rule would ask a second person before this plan is carried out; empty when none does."""
    wanted, rules = Policy.read(connection.policy).approve, hub.settings.approvals
    has_accounts = partial(hub.store.read, people.are_there)
    return why_needed(rules, wanted, made.goal, made, many=many, has_accounts=has_accounts)


def of_run(hub: Keyturn, run_id: str) -> Approval | None:
    """The latest question about a run; None when nobody is asked."""
    return hub.store.read(lambda tx: approvals.of_run(tx, RunId(run_id)))


def page(item: Item) -> dict[str, Any]:
    """A question as data."""
    asked = item.asked
    return {
        "run": asked.run_id,
        "connection": item.connection.name,
        "project": item.project,
        "owner": item.connection.owner,
        "goal": asked.goal.value,
        "kind": "review" if asked.state is ApprovalState.REVIEW else "approval",
        "rule": asked.why,
        "asked_by": asked.asked_by,
        "reason": asked.asked_why,
        "asked": iso(asked.asked_at),
        "until": iso(asked.ends_at),
    }


def why_not(who: Who, asked: Approval, project: str) -> str:
    """Why somebody may not answer this question; empty when they may."""
    if not rights.may(who, Operation.RUN_APPROVE, project):
        return rights.why_not(who, Operation.RUN_APPROVE)
    if who.scopes is not None:
        return "a program is no second person"
    if sessions.normal(who.login) == sessions.normal(asked.asked_by):
        return f"{who.login} asked for it: somebody else decides"
    return ""


# -- deciding ----------------------------------------------------------------------------------------------------------


def approve(hub: Keyturn, who: Who, run_id: str, reason: str = "") -> Run:
    """Lets a run begin as it was frozen; of an emergency: says that one has looked at it. The same person again changes
    nothing.

    Raises: NotPermitted for the requester, for programs and without the role; NotFound; Conflict when it was decided
    otherwise, is too late, another run of the connection is going on, or the plan no longer fits: that is refused.
    """
    asked, project, reason = _asked(hub, run_id), "", _plain(reason)
    connection = find(hub, asked.connection_id)
    project = projects.of(hub, connection.id)
    if asked.decided_at is not None and _is_again(
        asked, who, {ApprovalState.APPROVED, ApprovalState.REVIEWED}
    ):
        return runs.get(hub, run_id)
    _require(hub, who, asked, connection, project)
    if asked.state is ApprovalState.REVIEW:
        return _answer(hub, who, asked, ApprovalState.REVIEWED, reason)
    run, now = runs.get(hub, run_id), time.time()
    fit = _fitting(hub, run, asked)

    def work(tx: Tx) -> str:
        tx.hold("SELECT generation FROM connection WHERE id = ?", connection.id)
        late = _still_open(tx, asked, now)
        if late:
            return late
        going_on = rows.unfinished_of(tx, connection.id)
        if going_on is not None:
            raise Conflict(
                f"{connection.name} has a run that has not ended ({going_on.id}, {going_on.state.value})",
                hint="Approve it when that has ended.",
                run=going_on.id,
            )
        wrong = fit(tx)
        if wrong:
            why = f"it no longer fits: {wrong}"
            runs.end_waiting(
                tx, run.id, ApprovalState.REFUSED, now, by=who.login, why=why, address=who.address
            )
            return f"{run_id} was refused: {why}"
        as_is = connections.by_id(tx, connection.id)
        approvals.decide(
            tx, run.id, ApprovalState.APPROVED, by=who.login, address=who.address, why=reason, at=now
        )
        _line(tx, asked, ApprovalState.APPROVED, who, reason, now)
        sealed.destroy(tx, runs.held_row(run.id))
        columns = {"state": RunState.QUEUED.value, "due_at": now, "waiting_for": ""}
        rows.change(tx, run.id, {**columns, "old_version_id": as_is.current_version_id if as_is else None})
        return ""

    failed = hub.store.write(work)
    if failed:
        raise Conflict(failed, hint="Look at the plan as it is now, and ask for it again.", run=run_id)
    hub.engine.wake(run_id, now)
    return runs.get(hub, run_id)


def refuse(hub: Keyturn, who: Who, run_id: str, reason: str) -> Run:
    """Ends a run before it begins; of an emergency: says that it should not have been one. The same person again changes
    nothing. Raises: InvalidInput without a reason; otherwise as `approve`."""
    asked, reason = _asked(hub, run_id), _plain(reason)
    if not reason:
        raise InvalidInput("a refusal needs a reason", hint="The requester reads it.", field="reason")
    connection = find(hub, asked.connection_id)
    if asked.decided_at is not None and _is_again(
        asked, who, {ApprovalState.REFUSED, ApprovalState.OBJECTED}
    ):
        return runs.get(hub, run_id)
    _require(hub, who, asked, connection, projects.of(hub, connection.id))
    if asked.state is ApprovalState.REVIEW:
        return _answer(hub, who, asked, ApprovalState.OBJECTED, reason)
    now = time.time()

    def work(tx: Tx) -> str:
        tx.hold("SELECT generation FROM connection WHERE id = ?", connection.id)
        late = _still_open(tx, asked, now)
        if not late:
            why = f"{who.login} refused: {reason}"
            runs.end_waiting(
                tx, asked.run_id, ApprovalState.REFUSED, now, by=who.login, why=why, address=who.address
            )
        return late

    failed = hub.store.write(work)
    if failed:
        raise Conflict(failed, run=run_id)
    return runs.get(hub, run_id)


def expire_due(hub: Keyturn) -> int:
    """Ends the runs that nobody approved in time; how many. Several workers end each once."""
    now = time.time()

    def end(run_id: RunId) -> bool:
        return hub.store.write(
            lambda tx: runs.end_waiting(tx, run_id, ApprovalState.EXPIRED, now, by="keyturn", why=runs.NOBODY)
        )

    return sum(end(run_id) for run_id in hub.store.read(lambda tx: approvals.overdue(tx, now)))


# -- the pieces --------------------------------------------------------------------------------------------------------


def _asked(hub: Keyturn, run_id: str) -> Approval:
    runs.get(hub, run_id)
    asked = of_run(hub, run_id)
    if asked is None:
        raise NotFound(
            f"nobody is asked about {run_id}", hint="`keyturn approvals` shows what waits.", field="run"
        )
    return asked


def _plain(reason: str) -> str:
    text = " ".join(reason.split())
    if len(text) > _LONGEST or not text.isprintable():
        raise InvalidInput(f"a reason has at most {_LONGEST} characters", field="reason")
    return text


def _is_again(asked: Approval, who: Who, wanted: set[ApprovalState]) -> bool:
    return asked.state in wanted and asked.decided_by == who.login


def _require(hub: Keyturn, who: Who, asked: Approval, connection: Connection, project: str) -> None:
    """Raises: NotPermitted, after the refusal was put on record; Conflict when it was decided already."""
    why = why_not(who, asked, project)
    if why:
        facts = {"operation": Operation.RUN_APPROVE.value, "on": connection.name, "run": asked.run_id}
        events.note(hub, "refused", by=who.login, address=who.address, why=why, **facts)
        raise NotPermitted(why, hint="Somebody else with the role approver or admin decides.", field="role")
    if asked.decided_at is not None:
        raise Conflict(_was(asked), run=asked.run_id)


def _was(asked: Approval) -> str:
    by = f" by {asked.decided_by}" if asked.decided_by else ""
    return f"{asked.run_id} was {asked.state.value} already{by}"


def _still_open(tx: Tx, asked: Approval, now: float) -> str:
    """Empty while the run waits; a run that is too late is ended here. Raises: Conflict when somebody was faster."""
    as_is = approvals.of_run(tx, asked.run_id)
    if as_is is None or as_is.decided_at is not None:
        raise Conflict(_was(as_is or asked), run=asked.run_id)
    if as_is.ends_at is not None and as_is.ends_at <= now:
        runs.end_waiting(tx, asked.run_id, ApprovalState.EXPIRED, now, by="keyturn", why=runs.NOBODY)
        return f"{asked.run_id} is too late: {runs.NOBODY}"
    return ""


def _fitting(hub: Keyturn, run: Run, asked: Approval) -> Callable[[Tx], str]:
    """What is wrong with the frozen plan by now, for the approving transaction; empty when it fits, and then what was
    kept for it has been applied."""
    row: RowOf | None = None
    view: Callable[[Situation], Situation] = lambda seen: seen  # noqa: E731 - a default, not a function of its own
    also: Callable[[Tx, Connection], None] = lambda _tx, _connection: None  # noqa: E731
    broken = ""
    try:
        connection = find(hub, run.connection_id)
        row = hub.catalog.row_of(connection)
        if run.goal is Goal.MIGRATE:
            kept = migrating.held(hub, run)
            view, also = kept.view, kept.also
    except (Conflict, InvalidInput) as error:
        broken = error.message

    def fit(tx: Tx) -> str:
        as_is = connections.by_id(tx, run.connection_id)
        if broken or as_is is None or row is None:
            return broken or "the connection is gone"
        if as_is.generation != asked.generation + _refreshed(tx, run, asked):
            return "the connection's credential was replaced meanwhile"
        try:
            fits = runs.still_fits(tx, run, asked.seen, row, view)
        except KeyturnError as error:
            return error.message
        if not fits:
            return "the connection or its plan is another one by now"
        also(tx, as_is)
        return ""

    return fit


def _refreshed(tx: Tx, run: Run, asked: Approval) -> int:
    """How often the grant was refreshed since: that changes its tokens, not what was asked."""
    done = {RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT}
    return sum(
        each.goal is Goal.REFRESH and each.state in done and each.created_at >= asked.asked_at
        for each in rows.since(tx, run.connection_id, asked.asked_at)
    )


def _answer(hub: Keyturn, who: Who, asked: Approval, how: ApprovalState, reason: str) -> Run:
    """The answer about an emergency that was."""
    now = time.time()

    def work(tx: Tx) -> None:
        tx.hold("SELECT generation FROM connection WHERE id = ?", asked.connection_id)
        if not approvals.decide(tx, asked.run_id, how, by=who.login, address=who.address, why=reason, at=now):
            raise Conflict(f"{asked.run_id} was looked at already", run=asked.run_id)
        _line(tx, asked, how, who, reason, now)

    hub.store.write(work)
    return runs.get(hub, asked.run_id)


def _line(tx: Tx, asked: Approval, how: ApprovalState, who: Who, why: str, now: float) -> None:
    facts = {
        "decision": _SAID[how],
        "by": who.login,
        "from": who.address,
        "why": why,
        "asked_by": asked.asked_by,
    }
    facts = {key: value for key, value in facts.items() if value}
    entry = journal.Entry(now, asked.run_id, "approval", LineKind.DECISION, 0, facts)
    journal.append(tx, asked.connection_id, [entry])
