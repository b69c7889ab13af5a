"""Connections: the list, one of them, connecting, testing before and after, editing, history, consumers, plans."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import JSONResponse, Response

from keyturn.api import examples, shapes, shown
from keyturn.api.calls import Body, Caller, Calls
from keyturn.api.paging import After, Limit, cursor, place
from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput
from keyturn.model.moment import iso
from keyturn.model.plan import Goal
from keyturn.operations import connections, editing, leases, migrating, overview, projects, runs, systems
from keyturn.operations.rights import Operation

calls = Calls("connections")
Name = Annotated[str, Field(min_length=1, max_length=80)]
Word = Annotated[str, Field(min_length=1, max_length=80)]
Values = Annotated[dict[Word, Annotated[str, Field(max_length=65536)]], Field(max_length=100)]
Policy = Annotated[dict[Word, bool | float | str | None], Field(max_length=30)]
Planned = Literal["rotate", "reauthorize", "refresh", "revoke", "disconnect", "reconnect", "contain"]
_VENDOR = (502, 504)


class Connect(Body):
    """A new connection. `values` are the fields of its row (`GET /systems/{system}`), secrets among them; `definition` is
    the hash of one that is kept here, for custom-rest."""

    system: Word
    method: Word
    name: Name
    values: Values
    owner: Annotated[str, Field(max_length=120)] = ""
    policy: Policy = Field(default_factory=dict)
    project: Annotated[str, Field(max_length=80)] = ""
    definition: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""


class Edit(Body):
    """What is not named stays. In `policy` null takes a setting back to its default; `values` are fields that are neither
    the credential itself nor name the account."""

    owner: Annotated[str, Field(max_length=120)] | None = None
    policy: Policy | None = None
    values: Values | None = None
    project: Annotated[str, Field(max_length=80)] | None = None


class Use(Body):
    """Who uses it: `live` asks at every use, `cached` keeps it for `ttl_s`, `deploy-time` picks it up at a deployment,
    `pushed` is written to a target, `outside` is not under our control."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    kind: Literal["live", "cached", "deploy-time", "pushed", "outside"]
    ttl_s: Annotated[float, Field(ge=0, le=366 * 86400)] = 0.0
    required: bool = True


class Move(Body):
    """Where `migrate` goes: a method of the same system, and the fields it needs beyond those that are known."""

    to: Word
    values: Values = Field(default_factory=dict)


@calls.get(
    "/connections",
    Operation.CONNECTION_READ,
    "The connections",
    answer=shapes.Page[shapes.ConnectionLine],
    example=examples.page(examples.LINE),
)
def every(
    it: Caller,
    text: Annotated[str, Query(max_length=200, description="Words in name, system, owner or project")] = "",
    name: Annotated[str, Query(max_length=80, description="Exactly this name")] = "",
    system: Annotated[str, Query(max_length=80)] = "",
    health: Annotated[str, Query(max_length=20, description="As in the answers, e.g. overdue")] = "",
    sort: Literal["name", "state", "system", "age", "due", "expires", "owner"] = "name",
    down: bool = False,
    after: After = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """Filtered and sorted, a page at a time. `next` works with the same filters only."""
    of = ["connections", text, name, system, health, sort, down]
    found = overview.page(
        it.hub,
        it.projects(),
        text=text,
        name=name,
        system=system,
        health=health,
        sort=sort,
        down=down,
        after=place(it.hub, of, after),
        size=limit,
        counted=False,
    )
    seen = {line.id: line for line in found.lines}
    items = [_line(line, seen[line["id"]]) for line in systems.lines_of(it.hub, list(seen))]
    return {"items": items, **({"next": cursor(it.hub, of, found.next)} if found.next else {})}


def _line(line: dict[str, Any], seen: overview.Line) -> dict[str, Any]:
    return {
        **line,
        "health": seen.health,
        "project": seen.project,
        "run": seen.run,
        "goal": seen.goal,
        "run_state": seen.run_state,
        "debts": seen.debts,
        "tasks": seen.tasks,
        "jobs": seen.jobs,
        "failing_jobs": seen.failing_jobs,
    }


@calls.post(
    "/connections",
    Operation.CONNECTION_CHANGE,
    "Connect: test a credential, then keep it",
    answer=shapes.Connected,
    status=201,
    example=examples.CONNECTED,
    sends=examples.CONNECT,
    problems=(404, *_VENDOR),
)
def connect(it: Caller, body: Connect) -> dict[str, Any]:
    """Nothing is saved unless the vendor accepts the credential and refuses a made-up one. Rows that wait for a person's
    consent are saved without a credential, in state `revoked`: start `reauthorize` next."""
    _allowed(it, body)
    made = connections.connect(
        it.hub,
        body.system,
        body.method,
        body.name,
        body.values,
        owner=body.owner,
        policy=body.policy,
        definition=_definition(it.hub, body.definition),
    )
    if body.project:
        projects.move(it.hub, made.connection.id, body.project)
    it.done(made.connection.name, verb="connect")
    return {
        **shown.connection(it.hub, made.connection.id),
        "verdict": made.probe.verdict.value,
        "negative_control": made.negative_control,
    }


def _allowed(it: Caller, body: Connect) -> None:
    """Whoever may connect in some projects only must name one of them."""
    if not it.may(Operation.CONNECTION_CHANGE, " ".join(body.project.split())):
        raise InvalidInput("you may not connect in this project", field="project")


def _definition(hub: Keyturn, digest: str) -> str:
    """Raises: InvalidInput when it is not kept here."""
    if digest and digest not in {each["hash"] for each in systems.own_definitions(hub)}:
        raise InvalidInput("there is no such definition", hint="Add it first.", field="definition")
    return digest


@calls.post(
    "/connections/test",
    Operation.CONNECTION_CHANGE,
    "Test a credential without keeping it",
    answer=shapes.Checked,
    example=examples.CHECKED,
    sends=examples.CONNECT,
    problems=(404, *_VENDOR),
)
def check(it: Caller, body: Connect) -> dict[str, Any]:
    """Everything that connecting does before it saves. `unknown`: a person's consent comes first."""
    _allowed(it, body)
    found = connections.check(
        it.hub,
        body.system,
        body.method,
        body.name,
        body.values,
        owner=body.owner,
        policy=body.policy,
        definition=_definition(it.hub, body.definition),
    )
    return {
        "system": body.system,
        "method": body.method,
        "verdict": found.probe.verdict.value,
        "identity": dict(found.probe.identity),
        "rights": sorted(found.probe.rights),
        "negative_control": found.negative_control,
        "detail": found.probe.detail,
    }


@calls.get(
    "/connections/{connection}",
    Operation.CONNECTION_READ,
    "One connection",
    answer=shapes.ConnectionPage,
    example=examples.CONNECTION,
    problems=(404,),
)
def one(it: Caller, connection: str) -> dict[str, Any]:
    """By name or id; a name with a slash in it by its id. Never a secret."""
    return shown.connection(it.hub, it.connection(connection).id)


@calls.patch(
    "/connections/{connection}",
    Operation.CONNECTION_CHANGE,
    "Edit owner, policy, settings or project",
    answer=shapes.ConnectionPage,
    example=examples.CONNECTION,
    sends={"owner": "sam", "policy": {"max_age_days": 60}},
    problems=(404, 409, *_VENDOR),
)
def edit(it: Caller, connection: str, body: Edit) -> dict[str, Any]:
    """With other settings, what serves now is tested before anything is saved, and must be the same account."""
    found = it.connection(connection)
    if body.project is not None and not it.may(Operation.CONNECTION_CHANGE, " ".join(body.project.split())):
        raise InvalidInput("you may not move it to this project", field="project")
    editing.edit(it.hub, found.id, owner=body.owner, policy=body.policy, values=body.values)
    if body.project is not None:
        projects.move(it.hub, found.id, body.project)
    it.done(found.name, verb="edit")
    return shown.connection(it.hub, found.id)


@calls.post(
    "/connections/{connection}/test",
    Operation.CONNECTION_TEST,
    "Test what serves now",
    answer=shapes.Tested,
    example=examples.TESTED,
    problems=(404, *_VENDOR),
)
def test(it: Caller, connection: str) -> dict[str, Any]:
    """A fresh login; journaled. `unknown` with code `wrong_account`: it is let in as somebody else."""
    found = it.connection(connection)
    probe = connections.test(it.hub, found.id)
    it.done(found.name, verb="test")
    return {"connection": found.name, **probe.as_facts()}


@calls.post(
    "/connections/{connection}/discover",
    Operation.CONNECTION_TEST,
    "What the credential can see at the vendor",
    answer=shapes.Page[shapes.Discovered],
    example=examples.page(examples.FOUND),
    problems=(404, *_VENDOR),
)
def discover(it: Caller, connection: str) -> dict[str, Any]:
    """Credentials, roles, accounts: whatever the row can list."""
    found = connections.discover(it.hub, it.connection(connection).id)
    return {"items": [{"name": f.name, "kind": f.kind, "facts": dict(f.facts)} for f in found]}


@calls.get(
    "/connections/{connection}/history",
    Operation.CONNECTION_READ,
    "Versions and journal of a connection",
    answer=shapes.History,
    example=examples.HISTORY,
    problems=(404,),
)
def history(
    it: Caller, connection: str, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> dict[str, Any]:
    """The latest lines, oldest first."""
    known, lines = systems.history(it.hub, it.connection(connection).id, limit)
    return {
        "versions": [systems.version_page(each) for each in known],
        "journal": [shown.line(each) for each in lines],
    }


@calls.get(
    "/connections/{connection}/consumers",
    Operation.CONNECTION_READ,
    "Who was said to use a connection",
    answer=shapes.Page[shapes.Consumer],
    example=examples.page(examples.CONSUMER),
    problems=(404,),
)
def consumers(it: Caller, connection: str) -> dict[str, Any]:
    """An old credential waits for those that are required."""
    return {"items": systems.connection_page(it.hub, it.connection(connection).id)["consumers"]}


@calls.post(
    "/connections/{connection}/consumers",
    Operation.CONNECTION_CHANGE,
    "Say who uses a connection",
    answer=shapes.Page[shapes.Consumer],
    example=examples.page(examples.CONSUMER),
    sends={"name": "billing-job", "kind": "live"},
    problems=(404,),
)
def use(it: Caller, connection: str, body: Use) -> dict[str, Any]:
    """The same name again changes what was said of it."""
    found = it.connection(connection)
    if body.kind == "cached" and not body.ttl_s:
        raise InvalidInput("a cached consumer needs ttl_s: how long it keeps a value", field="ttl_s")
    leases.declare(it.hub, found.id, body.name, body.kind, ttl_s=body.ttl_s, required=body.required)
    it.done(found.name, verb="use", consumer=body.name)
    return {"items": systems.connection_page(it.hub, found.id)["consumers"]}


@calls.get(
    "/connections/{connection}/leases",
    Operation.CONNECTION_READ,
    "Who holds a connection's credential now",
    answer=shapes.Page[shapes.Holder],
    example=examples.page(examples.HOLDER),
    problems=(404,),
)
def held(it: Caller, connection: str) -> dict[str, Any]:
    """While a lease lasts, the version it is for is not ended."""
    found = leases.held(it.hub, it.connection(connection).id)
    return {
        "items": [
            {
                "id": lease.id,
                "consumer": lease.consumer,
                "version": number,
                "taken": iso(lease.taken_at),
                "until": iso(lease.until_at),
            }
            for number, lease in found
        ]
    }


@calls.get(
    "/connections/{connection}/plan/{goal}",
    Operation.PLAN_READ,
    "What would happen, step by step",
    answer=shapes.Plan,
    example=examples.PLAN,
    problems=(404, 409),
)
def plan(it: Caller, connection: str, goal: Planned, drop: bool = False) -> dict[str, Any]:
    """Changes nothing and calls nobody. `drop`: a disconnect also deletes the remote user or client."""
    found = it.connection(connection)
    return shown.plan(it.hub, found, runs.plan(it.hub, found.id, Goal(goal), drop=drop))


@calls.post(
    "/connections/{connection}/plan/migrate",
    Operation.PLAN_READ,
    "What moving to another method would do",
    answer=shapes.Plan,
    example={**examples.PLAN, "goal": "migrate"},
    sends={"to": "key_pair"},
    problems=(404,),
)
def plan_move(it: Caller, connection: str, body: Move) -> dict[str, Any]:
    """The same for `migrate`. What both methods have is taken over."""
    found = it.connection(connection)
    return shown.plan(it.hub, found, migrating.plan(it.hub, found.id, body.to, body.values))


def as_plan(plan: dict[str, Any]) -> Response:
    """A plan as the answer of a dry run."""
    return JSONResponse(shapes.Plan.model_validate(plan).model_dump(mode="json"))
