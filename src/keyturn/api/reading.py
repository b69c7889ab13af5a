"""What may be read: the systems there are, the connections, a run as a live checklist."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from keyturn.api.door import Door
from keyturn.bootstrap import Keyturn
from keyturn.model.moment import iso
from keyturn.operations import runs


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """Each needs the scope `read`."""
    router = APIRouter(prefix="/api/v1", tags=["reading"])

    @router.get("/systems", summary="The rows and their capability cards")
    def systems(request: Request) -> dict[str, Any]:
        door.enter(request, "read")
        return {
            "items": [
                {
                    "system": system.name,
                    "method": method.name,
                    "title": f"{system.title}: {method.title}",
                    "direction": method.direction,
                    "strategy": method.card.strategy.value,
                    "gap_class": method.card.gap_class.value,
                    "proof": method.card.proof.value,
                    "hands": method.card.hands.value,
                }
                for system in hub.catalog.systems()
                for method in system.methods
            ]
        }

    @router.get("/connections", summary="The connections by name")
    def every(
        request: Request, after: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 100
    ) -> dict[str, Any]:
        """`next` is the `after` of the next page; absent on the last one."""
        door.enter(request, "read")
        found = runs.page(hub, after, limit + 1)
        items = [
            {
                "id": c.id,
                "name": c.name,
                "system": c.system,
                "method": c.method,
                "state": c.state.value,
                "owner": c.owner,
                "generation": c.generation,
                "created_at": iso(c.created_at),
                "serving": serving,
            }
            for c, serving in found[:limit]
        ]
        return {"items": items, **({"next": items[-1]["name"]} if len(found) > limit else {})}

    @router.get("/runs/{run_id}", summary="A run, its plan and its journal")
    def run(request: Request, run_id: str) -> dict[str, Any]:
        door.enter(request, "read")
        found = runs.get(hub, run_id)
        lines = [
            {
                "number": line.number,
                "at": iso(line.at),
                "step": line.step,
                "kind": line.kind.value,
                "facts": dict(line.facts),
            }
            for line in runs.lines(hub, run_id)
        ]
        return {
            "id": found.id,
            "connection": runs.name_of(hub, found),
            "goal": found.goal.value,
            "state": found.state.value,
            "track": found.track.value,
            "cursor": found.cursor,
            "waiting_for": found.waiting_for,
            "due_at": iso(found.due_at) if found.due_at else None,
            "proof": found.proof,
            "outcome": found.outcome,
            "created_at": iso(found.created_at),
            "ended_at": iso(found.ended_at),
            "plan": found.plan.as_json(),
            "lines": lines,
        }

    return router
