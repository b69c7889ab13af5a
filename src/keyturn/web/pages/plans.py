"""What would happen, before anything does; and starting exactly that."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.issued import kinds
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.plan import Goal, Kind, Plan
from keyturn.model.run import RunState
from keyturn.operations import approvals, events, runs, systems
from keyturn.operations.rights import Operation
from keyturn.storage.rows import dump
from keyturn.web import words
from keyturn.web.site import Visit

_ROTATES = (Goal.ROTATE, Goal.REAUTHORIZE, Goal.REFRESH, Goal.CONTAIN)
_ENDS = (Goal.REVOKE, Goal.DISCONNECT, Goal.RECONNECT)
_GRAVE = frozenset({Goal.REVOKE, Goal.DISCONNECT, Goal.CONTAIN})


def _goal(text: str, among: tuple[Goal, ...]) -> Goal:
    found = next((goal for goal in among if goal.value == text), None)
    if found is None:
        raise NotFound("there is no such page")
    return found


def show(it: Visit, connection_id: str, goal: str) -> Response:
    """The plan of a goal: steps, who does them, what users notice, from where on nothing can be undone."""
    connection, project = it.connection(connection_id)
    return _show(it, connection, project, _goal(goal, _ROTATES + _ENDS))


def _show(
    it: Visit, connection: Connection, project: str, goal: Goal, status: int = 200, wrong: str = ""
) -> Response:
    made: Plan | None = None
    why, hint = "", ""
    try:
        made = runs.plan(it.hub, connection.id, goal)
    except (Conflict, InvalidInput) as error:
        why, hint = error.message, words.hint(error.hint)
    unfinished = [run for run in runs.recent(it.hub, connection.id, 20) if run.ended_at is None]
    open_run = next((run for run in unfinished if run.state is not RunState.WAITING_APPROVAL), None)
    asked_run = next((r for r in unfinished if r.state is RunState.WAITING_APPROVAL and r.goal is goal), None)
    operation = Operation.RUN_ROTATE if goal in _ROTATES else Operation.RUN_END
    is_ours = kinds.is_ours(connection.system, connection.method)
    return it.render(
        "plan.html",
        status,
        connection=connection,
        goal=goal,
        plan=made,
        why=why,
        hint=hint,
        wrong=wrong,
        open_run=open_run,
        asked_run=asked_run,
        second=approvals.needed(it.hub, connection, made) if made else "",
        emergency=it.text("emergency"),
        may_start=it.may(operation, project) and not is_ours and (open_run is None or goal is Goal.CONTAIN),
        start=f"/connections/{connection.id}/{'start' if goal in _ROTATES else 'end'}/{goal.value}",
        is_grave=goal in _GRAVE,
        account=words.account(connection.identity),
        replaces=goal in _ROTATES and made is not None,
        consents=made is not None and any(step.kind is Kind.CONSENT for step in made.steps),
        rights=connection.identity.get("rights_label", ""),
        digest=digest(made) if made else "",
        trigger=it.text("trigger") or new_id("web"),
        reason=it.text("reason"),
        accept=it.text("accept"),
        no_return=made.point_of_no_return() if made else 0,
        gaps=systems.GAPS,
        proofs=systems.PROOFS,
        others=[
            (each.value, words.GOALS[each][0]) for each in (*_ROTATES, *_ENDS) if _fits(it, connection, each)
        ],
    )


def _fits(it: Visit, connection: Connection, goal: Goal) -> bool:
    try:
        runs.plan(it.hub, connection.id, goal)
    except KeyturnError:
        return False
    return True


def digest(plan: Plan) -> str:
    """What makes a plan this plan."""
    return hashlib.sha256(dump(plan.as_json()).encode()).hexdigest()


def rotate(it: Visit, connection_id: str, goal: str) -> Response:
    """Starts a run that replaces a credential."""
    return _start(it, connection_id, _goal(goal, _ROTATES))


def end(it: Visit, connection_id: str, goal: str) -> Response:
    """Starts a run that ends credentials, or brings a first one again."""
    return _start(it, connection_id, _goal(goal, _ENDS))


def _start(it: Visit, connection_id: str, goal: Goal) -> Response:
    """Freezes the plan that was shown; when it is another one by now, nothing starts and the new one is shown."""
    connection, project = it.connection(connection_id)
    if kinds.is_ours(connection.system, connection.method):
        raise Conflict(
            f"{connection.name} was issued by this hub: it is reissued, so that its new value is shown"
        )
    shown = it.text("digest")
    if goal in _GRAVE and it.text("sure") != "yes":
        return _show(it, connection, project, goal, 422, "Say that you are sure.")

    def as_shown(made: Plan) -> Plan:
        if digest(made) != shown:
            raise _Another("the plan is another one by now")
        return made

    try:
        run = runs.start(
            it.hub,
            connection.id,
            goal,
            reason=" ".join(it.text("reason").split())[:300],
            trigger=it.text("trigger")[:60],
            shape=as_shown,
            emergency=" ".join(it.text("emergency").split())[:300],
            address=it.address,
            accept=(it.text("accept")[:300],),
        )
    except InvalidInput as error:
        if error.facts.get("field") != "accept":
            raise
        return _show(
            it, connection, project, goal, 422, "Type the words to accept the risk: nothing was started."
        )
    except _Another:
        wrong = "Something changed since this page was made. Look at the plan again, then start it."
        return _show(it, connection, project, goal, 409, wrong)
    events.note(
        it.site.hub,
        "did",
        by=it.who.login,
        address=it.address,
        operation=f"run.{goal.value}",
        on=connection.name,
        run=run.id,
    )
    return it.redirect(f"/runs/{run.id}")


class _Another(Conflict):
    """The plan changed between showing and starting."""
