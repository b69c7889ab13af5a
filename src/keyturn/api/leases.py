"""Leases over HTTP: programs resolve a credential at use time, hold it, and give it back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from keyturn.api import examples, shapes
from keyturn.api.calls import NO_STORE, Body, Caller, Calls, Visit
from keyturn.api.door import REALM, quoted
from keyturn.api.problems import Refused
from keyturn.errors import Conflict, NotFound
from keyturn.model.moment import iso
from keyturn.operations import connections, events, leases, projects
from keyturn.operations.rights import Operation

calls = Calls("leases")
_WEEK_S = 7 * 86400
Ttl = Annotated[float, Field(ge=1, le=_WEEK_S, description="Seconds")]


class Wanted(Body):
    """Which connection, for whom, for how long."""

    connection: Annotated[str, Field(min_length=1, max_length=80)]
    consumer: Annotated[str, Field(min_length=1, max_length=120)]
    ttl_s: Ttl = 300.0


class Longer(Body):
    """How much longer, from now."""

    ttl_s: Ttl = 300.0


def _scoped(it: Visit, name: str) -> None:
    """The scope `lease`, or `lease:NAME` for this one connection. Raises: Refused, before anything is looked up."""
    scopes = it.who.scopes or frozenset()
    if "lease" not in scopes and f"lease:{name}" not in scopes:
        needed = quoted(f"lease:{name}")
        raise Refused(
            403,
            "cred.scope",
            "the credential lacks the scope this call needs",
            {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{needed}"'},
            hint="Issue one with that scope.",
        )


def _held(it: Visit, lease_id: str) -> None:
    """A key for one connection has no say in another's leases. A lease that is not there is nobody's."""
    found = leases.connection_of(it.hub, lease_id)
    _scoped(it, found.name if found else "")
    if found is not None:
        project = projects.of(it.hub, found.id)
        events.require(it.site, it.who, it.operation, project, found.name)


@calls.post(
    "/leases",
    Operation.CREDENTIAL_LEASE,
    "Lease a credential",
    answer=shapes.Lease,
    status=201,
    example=examples.LEASE,
    sends={"connection": "orders-db", "consumer": "etl", "ttl_s": 300},
    problems=(404,),
    secret=True,
)
def take(it: Caller, wanted: Wanted) -> Response:
    """What serves now, held for `ttl_s`. While `other` is there, try it once when `values` are refused."""
    _scoped(it, wanted.connection)
    try:
        connection = connections.find(it.hub, wanted.connection)
    except NotFound:
        raise NotFound(
            "there is no such connection", hint="Its name is asked for.", field="connection"
        ) from None
    events.require(it.site, it.who, it.operation, projects.of(it.hub, connection.id), connection.name)
    _scoped(it, connection.name)  # by id it is the same connection
    if it.hub.catalog.method(connection.system, connection.method).direction == "inbound":
        raise Conflict(
            f"{connection.name} was issued by this hub, which does not keep its value",
            hint="Whoever was given it has it; reissue it for a new one.",
        )
    held = leases.take(it.hub, connection.name, wanted.consumer, ttl_s=wanted.ttl_s)
    body: dict[str, Any] = {
        "id": held.lease_id,
        "connection": held.connection.name,
        "generation": held.connection.generation,
        "version": held.version.number,
        "values": dict(held.material),
        "other": dict(held.other) if held.other else None,
        "not_after": iso(held.not_after),
    }
    return JSONResponse(body, 201, NO_STORE)


@calls.post(
    "/leases/{lease}/extend",
    Operation.CREDENTIAL_LEASE,
    "Hold it longer",
    answer=shapes.Extended,
    example={"id": examples.LEASE["id"], "ttl_s": 300},
    sends={"ttl_s": 300},
    problems=(404,),
)
def extend(it: Caller, lease: str, longer: Longer) -> Response:
    """409 when it has ended: lease again."""
    _held(it, lease)
    if not leases.extend(it.hub, lease, longer.ttl_s):
        raise Conflict("the lease has ended or never was", hint="Lease the connection again.")
    return JSONResponse({"id": lease, "ttl_s": longer.ttl_s}, headers=NO_STORE)


@calls.delete("/leases/{lease}", Operation.CREDENTIAL_LEASE, "Give it back", status=204)
def give_back(it: Caller, lease: str) -> Response:
    """Giving back twice is fine."""
    _held(it, lease)
    leases.give_back(it.hub, lease)
    return Response(status_code=204)
