"""Leases over HTTP: programs resolve a credential at use time, hold it, and give it back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from keyturn.api.door import Door
from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict
from keyturn.model.moment import iso
from keyturn.operations import connections, leases

_WEEK_S = 7 * 86400
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
Ttl = Annotated[float, Field(ge=1, le=_WEEK_S, description="Seconds")]


class Wanted(BaseModel):
    """Which connection, for whom, for how long."""

    connection: Annotated[str, Field(min_length=1, max_length=80)]
    consumer: Annotated[str, Field(min_length=1, max_length=120)]
    ttl_s: Ttl = 300.0


class Longer(BaseModel):
    """How much longer, from now."""

    ttl_s: Ttl = 300.0


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """POST, extend, DELETE; each needs the scope `lease` or `lease:<connection>`."""
    router = APIRouter(prefix="/api/v1/leases", tags=["leases"])

    def _enter(request: Request, lease_id: str) -> None:
        """A key for one connection has no say in another's leases."""
        held = leases.connection_of(hub, lease_id)
        door.enter(request, f"lease:{held.name if held else ''}")

    @router.post("", summary="Lease a credential", status_code=201)
    def take(request: Request, wanted: Wanted) -> Response:
        """What serves now, held for `ttl_s`. While `other` is there, try it once when `values` are refused."""
        door.enter(request, f"lease:{wanted.connection}")
        connection = connections.find(hub, wanted.connection)
        if hub.catalog.method(connection.system, connection.method).direction == "inbound":
            raise Conflict(
                f"{connection.name} was issued by this hub, which does not keep its value",
                hint="Whoever was given it has it; reissue it for a new one.",
            )
        held = leases.take(hub, wanted.connection, wanted.consumer, ttl_s=wanted.ttl_s)
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

    @router.post("/{lease_id}/extend", summary="Hold it longer")
    def extend(request: Request, lease_id: str, longer: Longer) -> Response:
        """409 when it has ended: lease again."""
        _enter(request, lease_id)
        if not leases.extend(hub, lease_id, longer.ttl_s):
            raise Conflict("the lease has ended or never was", hint="Lease the connection again.")
        return JSONResponse({"id": lease_id, "ttl_s": longer.ttl_s}, headers=NO_STORE)

    @router.delete("/{lease_id}", summary="Give it back", status_code=204)
    def give_back(request: Request, lease_id: str) -> Response:
        """Giving back twice is fine."""
        _enter(request, lease_id)
        leases.give_back(hub, lease_id)
        return Response(status_code=204)

    return router
