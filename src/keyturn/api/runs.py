"""Runs: starting them for one connection or several, the list, one with its journal; retry, roll back, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from keyturn.api import examples, shapes, shown
from keyturn.api.calls import Body, Caller, Calls, Visit
from keyturn.api.connections import Values, Word, as_plan
from keyturn.api.paging import After, Limit, cursor, page, place
from keyturn.api.problems import slug, status_of
from keyturn.errors import Conflict, KeyturnError
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.plan import Goal, Plan
from keyturn.model.run import Run, RunState
from keyturn.operations import approvals, migrating, runs
from keyturn.operations.rights import Operation

calls = Calls("runs")
MOST_AT_ONCE = 500
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Reason = Annotated[str, Field(max_length=300)]
Accept = Annotated[list[Reason], Field(max_length=MOST_AT_ONCE)]
_SAYS = {
    Goal.ROTATE: "Replace the credential and prove the old one dead",
    Goal.REAUTHORIZE: "Ask a person for a fresh consent",
    Goal.REFRESH: "Use a grant's refresh token now",
    Goal.CONTAIN: "A credential leaked: replace it now, end all others",
    Goal.REVOKE: "End the authorization, keep the connection",
    Goal.DISCONNECT: "End every credential of a connection",
    Goal.RECONNECT: "Bring a new credential to a disconnected one",
}
_ROTATES = frozenset({Goal.ROTATE, Goal.REAUTHORIZE, Goal.REFRESH, Goal.CONTAIN})


class Start(Body):
    """`dry_run` answers the plan and starts nothing. With `plan`, a plan's digest, the run starts only while the plan is
    still that one. `emergency` is a reason not to wait for a second person, who looks at it afterwards. A plan with a
    `risk` starts only with its words, `accept` of the plan."""

    reason: Reason = ""
    dry_run: bool = False
    plan: Digest = ""
    emergency: Reason = ""
    accept: Accept = Field(default_factory=list)


class StartDropping(Start):
    """`drop` also deletes the remote user or client, where the vendor has that."""

    drop: bool = False


class StartMove(Start):
    """Moving to another method of the same system. `values` are fields of that method."""

    to: Word
    values: Values = Field(default_factory=dict)


class StartSeveral(Body):
    """Several connections by name or id; one that cannot start keeps no other back."""

    connections: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=80)]],
        Field(min_length=1, max_length=MOST_AT_ONCE),
    ]
    reason: Reason = ""
    dry_run: bool = False
    emergency: Reason = ""
    accept: Accept = Field(default_factory=list)


def _operation(goal: Goal) -> Operation:
    return Operation.RUN_ROTATE if goal in _ROTATES else Operation.RUN_END


def _as_shown(digest: str) -> Callable[[Plan], Plan]:
    """Lets a plan through that is still the one that was shown. Raises: Conflict."""

    def look(made: Plan) -> Plan:
        if digest and shown.digest(made) != digest:
            raise Conflict("the plan is another one by now", hint="Look at it again, then start it.")
        return made

    return look


def _starting(goal: Goal) -> None:
    """The call that starts one goal for one connection, and the one for several."""

    def begin(it: Visit, named: str, asked: Start, *, drop: bool = False) -> Any:
        found = it.connection(named)
        _not_ours(it, found)
        if asked.dry_run:
            return as_plan(shown.plan(it.hub, found, runs.plan(it.hub, found.id, goal, drop=drop)))
        made = runs.start(
            it.hub,
            found.id,
            goal,
            reason=asked.reason,
            trigger=it.trigger,
            drop=drop,
            shape=_as_shown(asked.plan),
            emergency=asked.emergency,
            address=it.who.address,
            accept=asked.accept,
        )
        it.done(found.name, run=made.id)
        return shown.run(it.hub, made)

    def start(it: Caller, connection: str, body: Start | None = None) -> Any:
        return begin(it, connection, body or Start())

    def start_dropping(it: Caller, connection: str, body: StartDropping | None = None) -> Any:
        asked = body or StartDropping()
        return begin(it, connection, asked, drop=asked.drop)

    def several(it: Caller, body: StartSeveral) -> dict[str, Any]:
        base = it.trigger
        items = [_one(it, goal, named, body, base) for named in dict.fromkeys(body.connections)]
        failed = sum("problem" in item for item in items)
        return {"items": items, "started": 0 if body.dry_run else len(items) - failed, "failed": failed}

    handler: Callable[..., Any] = start_dropping if goal is Goal.DISCONNECT else start
    handler.__name__, several.__name__ = goal.value, f"{goal.value}_several"
    handler.__doc__ = (
        "The plan is frozen into a queued run; the same idempotency key again gives the same run. 409 while another run"
        " of the connection has not ended."
    )
    several.__doc__ = (
        "One answer per connection, in the order asked: a run (or its plan), or why there is none."
    )
    calls.add(
        "POST",
        f"/connections/{{connection}}/{goal.value}",
        _operation(goal),
        _SAYS[goal],
        handler,
        answer=shapes.Run,
        status=202,
        example={**examples.RUN, "goal": goal.value},
        sends=examples.START,
        problems=(404,),
        also={200: {"model": shapes.Plan, "description": "The plan of a dry run"}},
    )
    calls.add(
        "POST",
        f"/runs/{goal.value}",
        _operation(goal),
        f"{_SAYS[goal]}: several connections",
        several,
        answer=shapes.Several,
        example=examples.SEVERAL,
        sends={"connections": ["orders-db", "dwh"], "reason": "quarterly"},
    )


def _not_ours(it: Visit, found: Connection) -> None:
    """Raises: Conflict for a credential of this hub: its new value would be seen by nobody."""
    if it.hub.catalog.method(found.system, found.method).direction == "inbound":
        raise Conflict(
            f"{found.name} was issued by this hub",
            hint="Reissue it, so that its new value is shown; or revoke it.",
        )


def _one(it: Visit, goal: Goal, named: str, body: StartSeveral, base: str) -> dict[str, Any]:
    try:
        found = it.connection(named)
        _not_ours(it, found)
        if body.dry_run:
            made = runs.plan(it.hub, found.id, goal)
            return {
                "connection": found.name,
                "plan": shown.plan(it.hub, found, made, len(set(body.connections))),
            }
        run = runs.start(
            it.hub,
            found.id,
            goal,
            reason=body.reason,
            trigger=f"{base}/{found.id}",
            emergency=body.emergency,
            many=len(set(body.connections)),
            address=it.who.address,
            accept=body.accept,
        )
    except KeyturnError as error:
        status, title = status_of(error)
        code = slug(type(error))
        problem = {
            "type": f"urn:keyturn:problem:{code}",
            "title": title,
            "status": status,
            "detail": error.message,
            "code": code,
            "request_id": new_id("req"),
            **({"hint": error.hint} if error.hint else {}),
            **({"run": error.facts["run"]} if "run" in error.facts else {}),
        }
        return {"connection": named, "problem": problem}
    it.done(found.name, run=run.id)
    return {"connection": found.name, "run": run.id}


for _goal in _SAYS:
    _starting(_goal)


@calls.post(
    "/connections/{connection}/migrate",
    Operation.RUN_END,
    "Move to another method of the same system, without a gap",
    answer=shapes.Run,
    status=202,
    example={**examples.RUN, "goal": "migrate"},
    sends={"to": "key_pair", "reason": "no more passwords"},
    problems=(404,),
    also={200: {"model": shapes.Plan, "description": "The plan of a dry run"}},
)
def migrate(it: Caller, connection: str, body: StartMove) -> Any:
    """The new way in is proven to be the same account before programs are switched to it, under the same name."""
    found = it.connection(connection)
    made = migrating.plan(it.hub, found.id, body.to, body.values)
    _as_shown(body.plan)(made)
    if body.dry_run:
        return as_plan(shown.plan(it.hub, found, made))
    run = migrating.start(
        it.hub,
        found.id,
        body.to,
        body.values,
        reason=body.reason,
        trigger=it.trigger,
        emergency=body.emergency,
        address=it.who.address,
    )
    it.done(found.name, run=run.id)
    return shown.run(it.hub, run)


@calls.get(
    "/runs",
    Operation.RUN_READ,
    "The runs, newest first",
    answer=shapes.Page[shapes.RunLine],
    example=examples.page(examples.RUN_LINE),
    problems=(404,),
)
def every(
    it: Caller,
    connection: Annotated[str, Query(max_length=80, description="Of this connection, by name or id")] = "",
    state: Annotated[list[RunState] | None, Query(description="In one of these states")] = None,
    goal: Goal | None = None,
    after: After = "",
    limit: Limit = 50,
) -> dict[str, Any]:
    """A page at a time; runs that begin meanwhile do not move the pages behind."""
    chosen = it.connection(connection).id if connection else ""
    states = sorted({each.value for each in state or ()})
    wanted = goal.value if goal else ""
    of = ["runs", chosen, states, wanted]
    begin = place(it.hub, of, after)
    found = runs.listed(
        it.hub,
        connection_id=chosen,
        states=states,
        goal=wanted,
        projects=it.projects(),
        before=(begin[0], begin[1]) if begin else None,
        limit=limit + 1,
    )
    more = {"next": cursor(it.hub, of, _place(found[limit - 1]))} if len(found) > limit else {}
    return {"items": shown.run_lines(it.hub, found[:limit]), **more}


def _place(run: Run) -> list[Any]:
    return [run.created_at, run.id]


@calls.get(
    "/runs/{run}",
    Operation.RUN_READ,
    "A run, its plan and its journal",
    answer=shapes.Run,
    example=examples.RUN,
    problems=(404,),
)
def one(it: Caller, run: str) -> dict[str, Any]:
    """The plan as a checklist, and every line of the journal."""
    return shown.run(it.hub, it.run(run))


@calls.get(
    "/runs/{run}/lines",
    Operation.RUN_READ,
    "A run's journal lines",
    answer=shapes.Page[shapes.Line],
    example=examples.page(examples.JOURNAL),
    problems=(404,),
)
def lines(it: Caller, run: str, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """In order. `next` stays good: lines that come later are behind it."""
    found = it.run(run)
    of = ["lines", found.id]
    begin = place(it.hub, of, after) or 0
    left = [each for each in runs.lines(it.hub, found.id) if each.number > begin]
    here = left[:limit]
    more = {"next": cursor(it.hub, of, here[-1].number)} if len(left) > limit else {}
    return {"items": [shown.line(each) for each in here], **more}


def _steering(verb: str, says: str, about: str, act: Callable[[Any, str], Run]) -> None:
    def steer(it: Caller, run: str) -> dict[str, Any]:
        found = it.run(run)
        after = act(it.hub, found.id)
        it.done(runs.name_of(it.hub, found), run=found.id, verb=verb)
        return shown.run(it.hub, after)

    steer.__name__, steer.__doc__ = verb, about
    calls.add(
        "POST",
        f"/runs/{{run}}/{verb}",
        Operation.RUN_STEER,
        says,
        steer,
        answer=shapes.Run,
        example=examples.RUN,
        problems=(404,),
    )


_steering("retry", "Look at a waiting or blocked run now", "409 when it has ended.", runs.retry)
_steering(
    "rollback",
    "Undo a run before its point of no return",
    "The old one serves again, the new one is taken away and proven dead. 409 past that point.",
    runs.rollback,
)
_steering(
    "cancel",
    "End a run that changed nothing yet",
    "409 when something was changed at the vendor, or may have been: roll it back then.",
    runs.cancel,
)


@calls.get(
    "/approvals",
    Operation.APPROVAL_READ,
    "What waits for a second person",
    answer=shapes.Page[shapes.Approval],
    example=examples.page(examples.APPROVAL),
)
def waiting(it: Caller, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """Oldest first. A person answers, on the run's page or the command line: no program is a second person."""
    found = approvals.waiting(it.hub, it.projects())
    return page(
        it.hub,
        ["approvals"],
        found,
        lambda item: (item.asked.asked_at, item.asked.run_id),
        after,
        limit,
        approvals.page,
    )
