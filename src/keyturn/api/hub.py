"""The hub itself: what needs somebody today, and whether it is well."""

from __future__ import annotations

from typing import Any

from keyturn.api import examples, shapes
from keyturn.api.calls import Caller, Calls
from keyturn.operations import doctor, overview
from keyturn.operations.rights import Operation

calls = Calls("hub")


@calls.get(
    "/today",
    Operation.HUB_READ,
    "What needs somebody now",
    answer=shapes.Today,
    example=examples.TODAY,
)
def today(it: Caller) -> dict[str, Any]:
    """Ids of tasks, runs and debts, names of connections; most urgent first. `counts` tells of those beyond the first 100."""
    found = overview.today(it.hub, it.projects(), overview.MOST_SHOWN)
    return {
        "connections": found.connections,
        "quiet": found.is_quiet,
        "counts": dict(found.counts),
        "tasks": [task.id for task in found.tasks],
        "stuck": [run.id for run, _ in found.stuck],
        "failed": [run.id for run, _ in found.failed],
        "expired": [line.name for line in found.expired],
        "overdue": [line.name for line in found.overdue],
        "expiring": [line.name for line in found.expiring],
        "reauthorize": [line.name for line in found.reauthorize],
        "debts": [debt.id for debt, _ in found.debts],
        "running": [line.name for line in found.running],
    }


@calls.get(
    "/doctor",
    Operation.HUB_CHECK,
    "Look at everything the hub stands on",
    answer=shapes.Doctor,
    example=examples.DOCTOR,
    hub_wide=True,
)
def look(it: Caller) -> dict[str, Any]:
    """Database, master key, packages, audit trail, clock. Changes nothing."""
    found = doctor.doctor(it.site.settings, it.site.catalog)
    return {"ok": all(each.state != "fail" for each in found), "checks": [vars(each) for each in found]}
