"""One run: its plan as a live checklist, what it waits for, its journal, and the ways out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from keyturn.model.approval import ApprovalState
from keyturn.model.card import Proof
from keyturn.model.run import Line, LineKind, Run, RunState
from keyturn.operations import approvals, overview, progress, runs, systems
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_SHOWN = 200


def show(it: Visit, run_id: str) -> Response:
    """The checklist. Loading it again at any time shows where the run is."""
    run, connection, project = it.run(run_id)
    lines = runs.lines(it.hub, run.id)
    times = _times(lines)
    items = progress.checklist(run, frozenset(times))
    page = systems.run_page(it.hub, run)
    _, left = runs.left_behind(it.hub, run.id)
    may_steer = it.may(Operation.RUN_STEER, project)
    asked = approvals.of_run(it.hub, run.id)
    is_asked = asked is not None and asked.decided_at is None
    return it.render(
        "run.html",
        run=run,
        connection=connection,
        page=page,
        items=items,
        times=times,
        done=sum(item.mark == "done" for item in items),
        no_return=run.plan.point_of_no_return(),
        passed=any(line.kind is LineKind.INTENT and line.step in _final(run) for line in lines),
        waits=progress.waits(run),
        is_still=progress.is_still(run),
        has_ended=overview.has_ended(run),
        ways=runs.ways_out(it.hub, run) if may_steer else frozenset(),
        asked=asked,
        is_asked=is_asked,
        is_review=asked is not None and asked.state is ApprovalState.REVIEW,
        why_not=approvals.why_not(it.who, asked, project) if asked is not None and is_asked else "",
        debts=left,
        lines=lines[-_SHOWN:][::-1],
        evidence=_evidence(lines),
        proof=systems.PROOFS[Proof(run.proof)] if run.proof in set(Proof) else "",
        gap=systems.GAPS[run.plan.gap_class],
        versions=words.versions(systems.spoken_of(it.hub, connection, lines)),
        advice=_advice(run, page),
        recovery=systems.recovery(it.hub, connection) if run.state is RunState.LOST else (),
    )


def _final(run: Run) -> set[str]:
    return {step.key for step in run.plan.steps if not step.reversible}


def _times(lines: Sequence[Line]) -> dict[str, tuple[float, float]]:
    """From when to when each step spoke in the journal."""
    found: dict[str, tuple[float, float]] = {}
    for line in lines:
        first, _ = found.get(line.step, (line.at, line.at))
        found[line.step] = (first, line.at)
    return found


def _evidence(lines: Sequence[Line]) -> list[tuple[Line, str]]:
    """What was seen at the vendor: the tests with their verdicts, and what its listing showed."""
    said = [
        (line, str(line.facts.get("verdict") or line.facts.get("shows") or ""))
        for line in lines
        if line.kind is LineKind.OBSERVED
    ]
    return [(line, word) for line, word in said if word]


def _advice(run: Run, page: dict[str, Any]) -> str:
    """What somebody should do now, for people with buttons."""
    if run.state is RunState.COMPLETE:
        return ""
    if run.state is RunState.ABORTED_CLEAN:
        return "Nothing is left behind. Remove the cause, then start it again."
    if run.state in {RunState.COMPLETE_WITH_DEBT, RunState.ABORTED_WITH_DEBT}:
        return (
            "Something is still owed, see below. The hub tries again by itself."
            if page["debts"]
            else "Everything owed is settled."
        )
    if run.state is RunState.LOST:
        return "No known credential works. Follow the recovery steps below, as the vendor's administrator."
    if run.state is RunState.WAITING_APPROVAL:
        return "Nothing was done yet, and nothing is before somebody else approves it."
    if page["tasks"]:
        return "Somebody does its task; the run goes on by itself afterwards."
    if run.state is RunState.BLOCKED:
        return "The old credential still works. Remove the cause, then look again."
    return "It goes on by itself. You may close this page."


def retry(it: Visit, run_id: str) -> Response:
    """Looks again now."""
    run, connection, _ = it.run(run_id)
    runs.retry(it.hub, run.id)
    it.done(Operation.RUN_STEER, connection.name, run=run.id, verb="retry")
    return it.redirect(f"/runs/{run.id}", "The hub looks again now.")


def cancel(it: Visit, run_id: str) -> Response:
    """Ends it before anything was changed."""
    run, connection, _ = it.run(run_id)
    found = runs.cancel(it.hub, run.id)
    it.done(Operation.RUN_STEER, connection.name, run=run.id, verb="cancel")
    said = (
        "The run is cancelled. Nothing was changed at the vendor."
        if found.ended_at
        else "Nobody is asked any more. The old credential is tested; the run ends when it works."
    )
    return it.redirect(f"/runs/{run.id}", said)


def rollback(it: Visit, run_id: str) -> Response:
    """Turns it around."""
    run, connection, _ = it.run(run_id)
    runs.rollback(it.hub, run.id)
    it.done(Operation.RUN_STEER, connection.name, run=run.id, verb="rollback")
    return it.redirect(
        f"/runs/{run.id}", "The run is rolling back: the old credential serves, the new one is removed."
    )
