"""What waits for a second person: the list, and their word on a run's page."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import InvalidInput
from keyturn.operations import approvals
from keyturn.operations.rights import Operation
from keyturn.web.site import Visit


def every(it: Visit) -> Response:
    """Runs to approve and emergencies to look at, oldest first."""
    found = approvals.waiting(it.hub, it.projects())
    return it.render(
        "approvals.html",
        items=found,
        mine={item.run.id: not approvals.why_not(it.who, item.asked, item.project) for item in found},
    )


def approve(it: Visit, run_id: str) -> Response:
    """Lets the run begin, or says that one has looked at an emergency."""
    run, connection, _ = it.run(run_id)
    made = approvals.approve(it.hub, it.who, run.id, it.text("reason"))
    it.done(Operation.RUN_APPROVE, connection.name, run=run.id, verb="approve")
    began = made.state is not run.state
    say = "Approved: it begins now." if began else "Put on record: you have looked at it."
    return it.redirect(f"/runs/{run.id}", say)


def refuse(it: Visit, run_id: str) -> Response:
    """Ends the run before it begins, or objects to an emergency."""
    run, connection, _ = it.run(run_id)
    try:
        approvals.refuse(it.hub, it.who, run.id, it.text("reason"))
    except InvalidInput as error:
        return it.redirect(f"/runs/{run.id}", f"{error.message[:1].upper()}{error.message[1:]}.", "bad")
    it.done(Operation.RUN_APPROVE, connection.name, run=run.id, verb="refuse")
    return it.redirect(f"/runs/{run.id}", "Put on record: you refused.")
