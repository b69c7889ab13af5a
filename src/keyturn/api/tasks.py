"""What people are asked to do: the list, one task, claiming it, and handing in what cannot be read back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from keyturn.api import examples, shapes, shown
from keyturn.api.calls import Body, Caller, Calls
from keyturn.api.connections import Values
from keyturn.api.paging import After, Limit, cursor, place
from keyturn.operations import tasks
from keyturn.operations.rights import Operation

calls = Calls("tasks")


class HandIn(Body):
    """The task's fields. Sealed as they come; nothing gives them back."""

    values: Values = Field(default_factory=dict)


@calls.get(
    "/tasks",
    Operation.TASK_READ,
    "What people should do now, most urgent first",
    answer=shapes.Page[shapes.Task],
    example=examples.page(examples.TASK),
    problems=(404,),
)
def every(
    it: Caller,
    connection: Annotated[str, Query(max_length=80, description="Of this connection")] = "",
    whose: Annotated[
        Literal["all", "mine", "team"], Query(description="Of connections the caller owns, or its projects'")
    ] = "all",
    after: After = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """Those that are open, claimed, or were given back."""
    chosen = it.connection(connection).id if connection else ""
    of = ["tasks", chosen, whose]
    _, found = tasks.owned_page(
        it.hub,
        whose,
        connection_id=chosen,
        projects=it.projects(),
        after=place(it.hub, of, after),
        limit=limit + 1,
    )
    last = found[limit - 1].task if len(found) > limit else None
    more = {"next": cursor(it.hub, of, [last.due_at, last.id])} if last else {}
    return {"items": [shown.task_of(it.hub, each) for each in found[:limit]], **more}


@calls.get(
    "/tasks/{task}",
    Operation.TASK_READ,
    "One task",
    answer=shapes.Task,
    example=examples.TASK,
    problems=(404,),
)
def one(it: Caller, task: str) -> dict[str, Any]:
    """What to do, where, and which fields to hand in. Nothing that was handed in."""
    return shown.task(it.hub, it.task(task))


@calls.post(
    "/tasks/{task}/claim",
    Operation.TASK_DO,
    "Say that one works on it",
    answer=shapes.Task,
    example={**examples.TASK, "state": "claimed", "claimed_by": "deployer"},
    problems=(404,),
)
def claim(it: Caller, task: str) -> dict[str, Any]:
    """For half an hour. 409 while somebody else does."""
    found = tasks.claim(it.hub, it.task(task).id)
    it.done(found.connection_id, task=found.id, verb="claim")
    return shown.task(it.hub, found)


@calls.post(
    "/tasks/{task}/submit",
    Operation.TASK_DO,
    "Hand in",
    answer=shapes.Task,
    status=202,
    example={**examples.TASK, "state": "submitted", "result": "SUBMITTED", "said": "It is sealed."},
    sends={"values": {"api_key": "..."}},
    problems=(404,),
)
def submit(it: Caller, task: str, body: HandIn) -> dict[str, Any]:
    """Sealed, then tested with the vendor: `result` becomes DONE, or RETURNED with the reason."""
    found = tasks.submit(it.hub, it.task(task).id, body.values)
    it.done(found.connection_id, task=found.id, verb="submit")
    return shown.task(it.hub, found)
