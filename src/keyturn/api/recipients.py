"""Who is told of what: webhooks and mail addresses, their topics, and what became of each delivery."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response

from keyturn.api import examples, shapes
from keyturn.api.calls import NO_STORE, Body, Caller, Calls
from keyturn.api.paging import After, Limit, cursor, page, place
from keyturn.model.moment import iso
from keyturn.model.secret import Secret
from keyturn.operations import notices
from keyturn.operations.rights import Operation
from keyturn.storage.notices import Delivery, Recipient

calls = Calls("recipients")
Topics = Annotated[list[Annotated[str, Field(max_length=40)]], Field(min_length=1, max_length=40)]
Address = Annotated[str, Field(min_length=1, max_length=2000)]


class New(Body):
    """`address` is an https URL or an e-mail address; with `project`, only what happens in it is told."""

    kind: Literal["webhook", "mail"]
    name: Annotated[str, Field(min_length=1, max_length=80)]
    address: Address
    topics: Topics
    project: Annotated[str, Field(max_length=80)] = ""


class Change(Body):
    """What is not named stays."""

    address: Address | None = None
    topics: Topics | None = None
    paused: bool | None = None


def _delivery(each: Delivery, topic: str) -> dict[str, Any]:
    return {
        "id": each.id,
        "notice": each.notice_number,
        "topic": topic,
        "state": each.state,
        "tries": each.tries,
        "said": each.said,
        "created": iso(each.created_at),
        "next_try": iso(each.due_at),
        "ended": iso(each.ended_at),
    }


def _shown(made: Recipient, secret: Secret | None) -> Response:
    body = {**notices.told(made), "secret": secret.reveal() if secret else None}
    return JSONResponse(body, 201, NO_STORE)


@calls.get(
    "/recipients",
    Operation.NOTICE_READ,
    "Who is told of what",
    answer=shapes.Page[shapes.Recipient],
    example=examples.page(examples.RECIPIENT),
    hub_wide=True,
)
def every(it: Caller, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """By name."""
    found = notices.recipients(it.hub)
    return page(it.hub, ["recipients"], found, lambda r: (r.name,), after, limit, notices.told)


@calls.get(
    "/recipients/topics",
    Operation.NOTICE_READ,
    "What one can be told of",
    answer=shapes.Page[shapes.Topic],
    example=examples.page({"topic": "run.done", "says": "a run has ended"}),
    hub_wide=True,
)
def topics(it: Caller) -> dict[str, Any]:
    """The `type` of a webhook's body is one of these."""
    del it
    return {"items": [{"topic": topic, "says": says} for topic, says in notices.TOPICS.items()]}


@calls.post(
    "/recipients",
    Operation.NOTICE_CHANGE,
    "Tell somebody",
    answer=shapes.NewRecipient,
    status=201,
    example={**examples.RECIPIENT, "secret": "whsec_..."},
    sends={
        "kind": "webhook",
        "name": "ops-channel",
        "address": "https://hooks.example.com/keyturn",
        "topics": ["run.done", "debt.open"],
    },
    hub_wide=True,
    secret=True,
)
def add(it: Caller, body: New) -> Response:
    """A webhook's deliveries are signed with `secret` as Standard Webhooks says; it is in this answer and nowhere else."""
    made, secret = notices.add_recipient(
        it.hub, it.who, body.kind, body.name, body.address, body.topics, " ".join(body.project.split())
    )
    return _shown(made, secret)


@calls.get(
    "/recipients/{recipient}",
    Operation.NOTICE_READ,
    "One recipient",
    answer=shapes.Recipient,
    example=examples.RECIPIENT,
    problems=(404,),
    hub_wide=True,
)
def one(it: Caller, recipient: str) -> dict[str, Any]:
    """By id."""
    return notices.told(notices.recipient(it.hub, recipient))


@calls.patch(
    "/recipients/{recipient}",
    Operation.NOTICE_CHANGE,
    "Another address or other topics; pause and go on",
    answer=shapes.Recipient,
    example=examples.RECIPIENT,
    sends={"paused": True},
    problems=(404,),
    hub_wide=True,
)
def change(it: Caller, recipient: str, body: Change) -> dict[str, Any]:
    """While paused nothing new is kept for it."""
    return notices.told(
        notices.change_recipient(
            it.hub, it.who, recipient, address=body.address, topics=body.topics, paused=body.paused
        )
    )


@calls.delete(
    "/recipients/{recipient}",
    Operation.NOTICE_CHANGE,
    "Tell them no more",
    status=204,
    problems=(404,),
    hub_wide=True,
)
def drop(it: Caller, recipient: str) -> None:
    """Its deliveries go with it."""
    notices.drop_recipient(it.hub, it.who, recipient)


@calls.post(
    "/recipients/{recipient}/secret",
    Operation.NOTICE_CHANGE,
    "A new signing secret",
    answer=shapes.NewRecipient,
    status=201,
    example={**examples.RECIPIENT, "secret": "whsec_..."},
    problems=(404,),
    hub_wide=True,
    secret=True,
)
def renew(it: Caller, recipient: str) -> Response:
    """For a day deliveries carry both signatures, so nobody has to hurry."""
    found = notices.recipient(it.hub, recipient)
    return _shown(found, notices.new_secret(it.hub, it.who, recipient))


@calls.post(
    "/recipients/{recipient}/test",
    Operation.NOTICE_TEST,
    "Send a test message now",
    answer=shapes.TestMessage,
    example={"delivered": False, "said": "it answered 404"},
    problems=(404,),
    hub_wide=True,
)
def test(it: Caller, recipient: str) -> dict[str, Any]:
    """Sent once, also while paused, signed as any other; its `type` is `test.message`. `said` is the status it answered, or
    what went wrong."""
    sent = notices.test(it.hub, it.who, recipient)
    return {"delivered": sent.is_done, "said": sent.said}


@calls.get(
    "/recipients/{recipient}/deliveries",
    Operation.NOTICE_READ,
    "What became of telling them",
    answer=shapes.Page[shapes.Delivery],
    example=examples.page(examples.DELIVERY),
    problems=(404,),
    hub_wide=True,
)
def deliveries(it: Caller, recipient: str, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """Newest first."""
    of = ["deliveries", recipient]
    found = notices.deliveries(it.hub, recipient, place(it.hub, of, after) or 0, limit + 1)
    here = found[:limit]
    more = {"next": cursor(it.hub, of, here[-1][0].notice_number)} if len(found) > limit else {}
    return {"items": [_delivery(*each) for each in here], **more}


@calls.post(
    "/recipients/{recipient}/deliveries/{delivery}/try",
    Operation.NOTICE_CHANGE,
    "Deliver once more what was given up",
    status=204,
    problems=(404,),
    hub_wide=True,
)
def again(it: Caller, recipient: str, delivery: str) -> None:
    """Under the same id: whoever received it already can tell."""
    notices.try_again(it.hub, it.who, recipient, delivery)
