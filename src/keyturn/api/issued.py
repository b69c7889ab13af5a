"""What this hub issues to others: the list, issuing, reissuing beside, revoking. A value is in one answer and in no other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response

from keyturn.api import examples, shapes
from keyturn.api.calls import NO_STORE, Body, Caller, Calls, Visit
from keyturn.api.connections import Name, Policy, Values, Word
from keyturn.api.paging import After, Limit, cursor, place
from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput, NotFound
from keyturn.model.moment import iso, parse
from keyturn.operations import emergency, grants, issued, register
from keyturn.operations.issued import Handed, Issued
from keyturn.operations.rights import Operation

calls = Calls("issued")
_MONTH_S = 30 * 86400
StartsIn = Annotated[float, Field(ge=0, le=issued.LONGEST_WAIT_S)]
Reason = Annotated[str, Field(max_length=300)]


class Issue(Body):
    """`kind` is api-key, m2m or another kind this hub issues; `values` are the fields of its row, e.g. `scopes`. It is let
    in `starts_in_s` from now on."""

    kind: Word
    name: Name
    values: Values = Field(default_factory=dict)
    owner: Annotated[str, Field(max_length=120)] = ""
    policy: Policy = Field(default_factory=dict)
    starts_in_s: StartsIn = 0.0


class Reissue(Body):
    """The new one is let in `starts_in_s` from now on; then both work at least `overlap_s`. `force` ends the old one after it even though the new one was never used;
    `recreate` gives an OAuth client another id as well, and ends the old one at once."""

    overlap_s: Annotated[float, Field(ge=0, le=_MONTH_S)] = issued.OVERLAP_S
    force: bool = False
    recreate: bool = False
    reason: Reason = ""
    starts_in_s: StartsIn = 0.0


class Revoke(Body):
    """Both slots when none is named."""

    slot: Literal["A", "B"] | None = None
    reason: Reason = ""


class Emergency(Body):
    """A kind, a moment (ISO 8601) before which it was issued, or both. `dry_run` names what would be ended and whom that
    hits, and does nothing."""

    kind: Annotated[str, Field(max_length=40)] = ""
    before: Annotated[str, Field(max_length=40)] = ""
    reason: Reason = ""
    dry_run: bool = False


class Reveal(Body):
    """The version that was handed out."""

    version: Word


def handed(hub: Keyturn, made: Handed) -> Response:
    """The one answer that shows it."""
    found = issued.get(hub, made.connection.id)
    body = {
        "name": made.connection.name,
        "kind": found.kind,
        "version": made.version_id,
        "slot": made.slot,
        "client_id": made.client_id,
        "client_secret_expires_at": found.client_secret_expires_at(made.version_id),
        "value": made.value.reveal() if made.value is not None and made.value.reveal() else None,
        "until": iso(made.until),
        "run": made.run.id if made.run else None,
    }
    return JSONResponse(body, 201, NO_STORE)


def _one(it: Visit, named: str) -> Issued:
    return issued.get(it.hub, it.connection(named).id)


@calls.get(
    "/issued",
    Operation.ISSUED_READ,
    "What this hub issued",
    answer=shapes.Page[shapes.Issued],
    example=examples.page(examples.ISSUED),
)
def every(it: Caller, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """By name, the ended ones too: slots, last use, what still works. Never a value."""
    of = ["issued"]
    begin = place(it.hub, of, after)
    found = issued.page(it.hub, it.projects(), after=str(begin[0]) if begin else "", limit=limit + 1)
    here = found[:limit]
    more = {"next": cursor(it.hub, of, [here[-1].connection.name])} if len(found) > limit else {}
    return {"items": [each.told() for each in here], **more}


@calls.post(
    "/issued",
    Operation.ISSUED_CHANGE,
    "Issue a credential",
    answer=shapes.Handed,
    status=201,
    example={**examples.HANDED, "slot": "A", "run": None},
    sends={"kind": "api-key", "name": "partner", "values": {"scopes": "read"}},
    problems=(404,),
    hub_wide=True,
    secret=True,
)
def issue(it: Caller, body: Issue) -> Response:
    """Its value is in this answer and nowhere else."""
    made = issued.issue(
        it.hub,
        body.kind,
        body.name,
        body.values,
        body.owner,
        policy=body.policy,
        who=it.who.login,
        starts_in_s=body.starts_in_s,
    )
    it.done(made.connection.name, verb="issue")
    return handed(it.hub, made)


@calls.post(
    "/issued/revoke",
    Operation.ISSUED_CHANGE,
    "End many at once",
    answer=shapes.EndedMany,
    example={
        "dry_run": False,
        "items": [
            {
                "name": "partner",
                "kind": "api-key",
                "slots": ["A"],
                "hits": ["Acme, ops@acme.example"],
                "run": examples.RUN["id"],
                "error": None,
            }
        ],
    },
    sends={"kind": "api-key", "before": "2026-11-01T00:00:00Z", "reason": "incident 7", "dry_run": True},
    problems=(404,),
)
def revoke_many(it: Caller, body: Emergency) -> dict[str, Any]:
    """For an emergency: all of a kind, all that was issued before a moment, or both; in the caller's projects. Refused on
    every worker, with their tokens, when this answers. A run for each proves it."""
    try:
        before = parse(body.before) if body.before else None
    except ValueError:
        raise InvalidInput("before must be a moment, as 2026-11-01T00:00:00Z", field="before") from None
    chosen = emergency.choose(it.hub, body.kind, before, it.projects())
    ended = {}
    if not body.dry_run:
        found = emergency.end(
            it.hub, body.kind, before, projects=it.projects(), reason=body.reason, who=it.who.login
        )
        ended = {each.name: each for each in found}
        for each in found:
            it.done(each.name, verb="revoke_many")
    items = []
    for one in chosen:
        result = ended.get(one.credential.connection.name)
        items.append(
            {
                "name": one.credential.connection.name,
                "kind": one.credential.kind,
                "slots": [s.slot for s in one.secrets if s.slot],
                "hits": list(one.hit),
                "run": (result.run_id or None) if result else None,
                "error": (result.error or None) if result else None,
            }
        )
    return {"dry_run": body.dry_run, "items": items}


@calls.get(
    "/issued/{credential}",
    Operation.ISSUED_READ,
    "One issued credential",
    answer=shapes.Issued,
    example=examples.ISSUED,
    problems=(404,),
)
def one(it: Caller, credential: str) -> dict[str, Any]:
    """By name or id."""
    return _one(it, credential).told()


@calls.get(
    "/issued/{credential}/where-used",
    Operation.ISSUED_READ,
    "Whom a change of it hits",
    answer=shapes.WhereUsed,
    example=examples.WHERE_USED,
    problems=(404,),
)
def where_used(it: Caller, credential: str) -> dict[str, Any]:
    """To be read before it is reissued or ended: whom it was given to, who called with which slot within 30 days, which
    loads run, how old and how idle it is."""
    return register.told(register.where_used(it.hub, _one(it, credential).connection.id))


@calls.get(
    "/issued/{credential}/grants",
    Operation.ISSUED_READ,
    "What people allow an application",
    answer=shapes.Page[shapes.Grant],
    example=examples.page(
        {"id": "gra_06f0k46s1t2v3w4x5y6z7a8b9c", "login": "kim", "scopes": ["read"], "since": None}
    ),
    problems=(404,),
)
def allowed(it: Caller, credential: str) -> dict[str, Any]:
    """At present, newest first."""
    found = grants.of_application(it.hub, _one(it, credential).connection.id)
    return {
        "items": [
            {"id": each.id, "login": each.subject, "scopes": list(each.scopes), "since": iso(each.since)}
            for each in found
        ]
    }


@calls.delete(
    "/issued/{credential}/grants/{grant}",
    Operation.ISSUED_CHANGE,
    "End what somebody allowed an application",
    status=204,
    problems=(404,),
)
def take_back(it: Caller, credential: str, grant: str) -> None:
    """With every token that came of it, on every worker from this call on."""
    if grant not in {each.id for each in grants.of_application(it.hub, _one(it, credential).connection.id)}:
        raise NotFound("nobody allows it that", field="grant")
    grants.take_back(it.hub, grant, by=it.who.login, address=it.who.address)


@calls.post(
    "/issued/{credential}/reissue",
    Operation.ISSUED_CHANGE,
    "Issue a second one beside the first",
    answer=shapes.Handed,
    status=201,
    example=examples.HANDED,
    sends={"overlap_s": 86400, "reason": "quarterly"},
    problems=(404,),
    secret=True,
)
def reissue(it: Caller, credential: str, body: Reissue | None = None) -> Response:
    """The old one ends after the overlap, once the new one was used and the old one is silent."""
    asked = body or Reissue()
    found = _one(it, credential)
    name, trigger, who = found.connection.id, it.trigger, it.who.login
    if asked.recreate:
        if asked.starts_in_s:
            raise InvalidInput("a client that is made anew works at once", field="starts_in_s")
        made = issued.recreate(it.hub, name, reason=asked.reason, trigger=trigger, who=who)
    else:
        made = issued.reissue(
            it.hub,
            name,
            asked.overlap_s,
            force=asked.force,
            reason=asked.reason,
            trigger=trigger,
            who=who,
            starts_in_s=asked.starts_in_s,
        )
    it.done(found.connection.name, verb="reissue")
    return handed(it.hub, made)


@calls.post(
    "/issued/{credential}/revoke",
    Operation.ISSUED_CHANGE,
    "End an issued credential now",
    answer=shapes.Ended,
    example={"name": "partner", "run": examples.RUN["id"]},
    sends={"slot": "A", "reason": "found in a log"},
    problems=(404,),
)
def revoke(it: Caller, credential: str, body: Revoke | None = None) -> dict[str, Any]:
    """Refused on every worker from this call on. The run proves it."""
    asked = body or Revoke()
    found = _one(it, credential)
    run = issued.revoke(it.hub, found.connection.id, asked.slot, reason=asked.reason, who=it.who.login)
    it.done(found.connection.name, verb="revoke")
    return {"name": found.connection.name, "run": run.id if run else None}


@calls.post(
    "/issued/{credential}/reveal",
    Operation.ISSUED_CHANGE,
    "See a fresh value once more",
    answer=shapes.Handed,
    status=201,
    example={**examples.HANDED, "run": None},
    sends={"version": examples.SECRET["version"]},
    problems=(404,),
    secret=True,
)
def reveal(it: Caller, credential: str, body: Reveal) -> Response:
    """Within ten minutes of its making, and for whoever asked for it. Journaled."""
    found = _one(it, credential)
    secret = next((s for s in found.secrets if s.version_id == body.version), None)
    if secret is None:
        raise InvalidInput("this credential has no such version", field="version")
    value = issued.reveal(it.hub, secret.version_id, who=it.who.login)
    answer = {
        "name": found.connection.name,
        "kind": found.kind,
        "version": secret.version_id,
        "slot": secret.slot,
        "client_id": found.client_id,
        "client_secret_expires_at": found.client_secret_expires_at(secret.version_id),
        "value": value.reveal(),
        "until": None,
        "run": None,
    }
    return JSONResponse(answer, 201, NO_STORE)
