"""What operations give, as the shapes that calls answer with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.model.credential import Connection
from keyturn.model.moment import iso
from keyturn.model.plan import Plan
from keyturn.model.run import Debt, Line, Run, Task
from keyturn.operations import approvals, progress, projects, runs, systems, tasks
from keyturn.operations.tasks import Owned
from keyturn.storage.rows import dump


def connection(hub: Keyturn, named: str) -> dict[str, Any]:
    """A connection with everything that is not secret."""
    page = systems.connection_page(hub, named)
    return {**page, "project": projects.of(hub, page["id"])}


def plan(hub: Keyturn, of: Connection, made: Plan, many: int = 1) -> dict[str, Any]:
    """A plan, the digest by which it can be started as it is, and which rule would ask a second person first; `many`
    connections are asked for at once."""
    frozen = made.as_json()
    return {
        "connection": of.name,
        **frozen,
        **{key: list(frozen[key]) for key in ("steps", "rollback", "warnings", "used_by")},
        "point_of_no_return": made.point_of_no_return(),
        "approval": approvals.needed(hub, of, made, many),
        "digest": digest(made),
    }


def digest(made: Plan) -> str:
    """Names a plan by everything it says."""
    return hashlib.sha256(dump(made.as_json()).encode()).hexdigest()


def run_line(hub: Keyturn, run: Run) -> dict[str, Any]:
    """A run in a list."""
    return run_lines(hub, [run])[0]


def run_lines(hub: Keyturn, found: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs in a list."""
    return [_run_line(run, page) for run, page in zip(found, systems.run_pages(hub, found), strict=True)]


def _run_line(run: Run, page: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **page,
        "connection_id": run.connection_id,
        "track": run.track.value,
        "cursor": run.cursor,
        "reason": run.reason,
        "attempts": run.attempts,
        "due_at": iso(run.due_at) if run.due_at else None,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
    }


def run(hub: Keyturn, found: Run) -> dict[str, Any]:
    """A run with its plan and journal."""
    lines = runs.lines(hub, found.id)
    return {
        **run_line(hub, found),
        "plan": found.plan.as_json(),
        "steps": progress.steps(found, lines),
        "lines": [line(each) for each in lines],
    }


def line(each: Line) -> dict[str, Any]:
    """A journal line."""
    facts: Mapping[str, Any] = each.facts
    return {
        "connection_id": each.connection_id,
        "number": each.number,
        "at": iso(each.at),
        "run_id": each.run_id,
        "step": each.step,
        "kind": each.kind.value,
        "facts": dict(facts),
        "hash": each.hash,
    }


def task(hub: Keyturn, found: Task) -> dict[str, Any]:
    """A task, with what the machine check said."""
    name, owner = runs.name_of(hub, found), runs.owner_of(hub, found.connection_id)
    return task_of(hub, Owned(found, name, owner, projects.of(hub, found.connection_id)))


def task_of(hub: Keyturn, each: Owned) -> dict[str, Any]:
    """The same of one whose connection is known."""
    result, said = tasks.verdict_of(hub, each.task)
    return {
        **systems.task_page(hub, each.task, each.connection),
        "owner": each.owner,
        "project": each.project,
        "result": result,
        "said": said,
    }


def debt(hub: Keyturn, found: Debt) -> dict[str, Any]:
    """A debt."""
    return systems.debt_page(hub, found)
