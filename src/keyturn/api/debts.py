"""Debts: what is still alive or unproven; trying again, and closing one on one's word."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from keyturn.api import examples, shapes, shown
from keyturn.api.calls import Body, Caller, Calls
from keyturn.api.paging import After, Limit, cursor, place
from keyturn.operations import debts, systems
from keyturn.operations.rights import Operation

calls = Calls("debts")


class Close(Body):
    """How one knows."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)]


@calls.get(
    "/debts",
    Operation.DEBT_READ,
    "What is still alive or unproven, oldest first",
    answer=shapes.Page[shapes.Debt],
    example=examples.page(examples.DEBT),
    problems=(404,),
)
def every(
    it: Caller,
    connection: Annotated[str, Query(max_length=80, description="Of this connection")] = "",
    after: After = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """The open ones."""
    chosen = it.connection(connection).id if connection else ""
    of = ["debts", chosen]
    _, found = debts.page(
        it.hub, it.projects(), connection_id=chosen, after=place(it.hub, of, after), limit=limit + 1
    )
    last = found[limit - 1][0] if len(found) > limit else None
    more = {"next": cursor(it.hub, of, [last.created_at, last.id])} if last else {}
    return {"items": [systems.debt_page(it.hub, debt, name) for debt, name in found[:limit]], **more}


@calls.get(
    "/debts/{debt}",
    Operation.DEBT_READ,
    "One debt",
    answer=shapes.Debt,
    example=examples.DEBT,
    problems=(404,),
)
def one(it: Caller, debt: str) -> dict[str, Any]:
    """What is owed, why, and what was tried. A closed one stays."""
    return shown.debt(it.hub, it.debt(debt))


@calls.post(
    "/debts/{debt}/try",
    Operation.DEBT_TRY,
    "Try to end and prove it once more",
    answer=shapes.Debt,
    example={**examples.DEBT, "tries": 2},
    problems=(404, 502, 504),
)
def attempt(it: Caller, debt: str) -> dict[str, Any]:
    """The answer is the debt: closed with the proof, or open with what was seen. 409 while a run is at work."""
    found = it.debt(debt)
    if found.closed_at is None:
        debts.try_again(it.hub, found)
        it.done(found.connection_id, debt=found.id, verb="try")
    return shown.debt(it.hub, debts.get(it.hub, found.id))


@calls.post(
    "/debts/{debt}/close",
    Operation.DEBT_CLOSE,
    "Close a debt on one's word",
    answer=shapes.Debt,
    example={
        **examples.DEBT,
        "closed": "2026-11-24T10:00:00.000Z",
        "closed_by": "kim",
        "closed_why": "deleted",
    },
    sends={"reason": "deleted by hand at the vendor, seen by Kim"},
    problems=(404,),
)
def close(it: Caller, debt: str, body: Close) -> dict[str, Any]:
    """The caller's name and the reason go into the audit trail."""
    found = debts.close(it.hub, it.debt(debt).id, body.reason)
    it.done(found.connection_id, debt=found.id, verb="close")
    return shown.debt(it.hub, found)
