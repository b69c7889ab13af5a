"""A run as a checklist: what is done, what is under way, for whom it waits. Every face draws the same one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.model.moment import iso
from keyturn.model.plan import Step
from keyturn.model.run import TERMINAL, Line, Run, RunState, Track


@dataclass(frozen=True)
class Item:
    """One line of a checklist. `mark` is done, now, person, open, undone or stop; `key` names it in the journal."""

    mark: str
    step: Step
    key: str


def checklist(run: Run, said: frozenset[str] = frozenset()) -> list[Item]:
    """The plan of a run with what is done. `said` are the journal's step names, needed once it rolls back."""
    forward = run.plan.steps
    if run.track is Track.FORWARD:
        return [Item(_mark(run, i, len(forward)), step, step.key) for i, step in enumerate(forward)]
    back = run.plan.rollback
    undone = [Item("undone" if step.key in said else "open", step, step.key) for step in forward]
    return [
        *undone,
        *(Item(_mark(run, i, len(back)), step, f"rollback.{step.key}") for i, step in enumerate(back)),
    ]


def _mark(run: Run, index: int, count: int) -> str:
    if index < run.cursor or (run.state in TERMINAL and run.cursor >= count):
        return "done"
    if index > run.cursor:
        return "open"
    if run.state in TERMINAL or run.state in {RunState.BLOCKED, RunState.LOST}:
        return "stop"
    if run.state is RunState.QUEUED:
        return "open"
    return "person" if run.state in _FOR_PEOPLE else "now"


_FOR_PEOPLE = frozenset({RunState.WAITING_HUMAN, RunState.WAITING_APPROVAL})


def is_still(run: Run) -> bool:
    """Whether nothing more happens without somebody. A run that is due is about to be looked at, whatever it waits for."""
    if run.state in TERMINAL or run.state is RunState.WAITING_APPROVAL:
        return True
    stands = run.state in {RunState.WAITING_HUMAN, RunState.BLOCKED, RunState.LOST}
    return stands and run.due_at > time.time()


def waits(run: Run) -> str:
    """What a run waits for, in words; empty while it works or when it has ended."""
    if run.state in TERMINAL or run.state in {RunState.QUEUED, RunState.RUNNING} or not run.waiting_for:
        return ""
    if run.state in _FOR_PEOPLE:
        return f"waits for {run.waiting_for}"
    return f"{run.state.value.replace('_', ' ')}: {run.waiting_for}"


def times(lines: Sequence[Line]) -> dict[str, tuple[float, float]]:
    """When each step first and last said something in the journal."""
    found: dict[str, tuple[float, float]] = {}
    for line in lines:
        first, _ = found.get(line.step, (line.at, line.at))
        found[line.step] = (first, line.at)
    return found


def steps(run: Run, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The checklist as data, with times from the journal."""
    when = times(lines)
    return [
        {
            "key": item.key,
            "title": item.step.title,
            "who": item.step.who,
            "state": item.mark,
            "reversible": item.step.reversible,
            "from": iso(when[item.key][0]) if item.key in when else None,
            "to": iso(when[item.key][1]) if item.key in when else None,
        }
        for item in checklist(run, frozenset(when))
    ]
