"""Events over HTTP: one, a batch, a signed webhook, or as Segment sends them; what is refused leaves a record."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from keyturn.api.door import Door
from keyturn.api.problems import Refused
from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput
from keyturn.model.moment import iso
from keyturn.operations import intake
from keyturn.operations.intake import Origin, Receipt, Sent, Taken
from keyturn.operations.issued import CheckResult

SCOPE = "events:write"
_JSON = "application/json"
_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """Sending needs the scope `events:write`; such a key can read nothing. Reading needs `read`."""
    router = APIRouter(tags=["events"])

    async def _enter(request: Request, raw: bytes) -> CheckResult:
        """The sender. What is refused at the door is put on record before the caller hears of it."""
        try:
            found = await door.enter_fast(request, SCOPE)
            if found.secret is None:
                raise Refused(403, "event.who", "events need a key that this hub issued")
        except Refused as refusal:
            who = refusal.who if isinstance(refusal.who, CheckResult) else None
            if who is not None:  # without a credential, and from a guesser, nothing is kept
                await _record(who, refusal.code, raw, request)
            raise
        return found

    async def _record(
        who: CheckResult | None, code: str, raw: bytes | str, request: Request, event_id: str = ""
    ) -> None:
        await run_in_threadpool(intake.refuse, hub, who, code, raw, _origin(request), event_id=event_id)

    async def _one(
        request: Request, raw: bytes, found: CheckResult, event_id: str = "", id_field: str = "id"
    ) -> Response:
        """Takes one event; a malformed or forbidden one is put on record. Raises: Refused."""
        try:
            sent = intake.read(raw, event_id=event_id, id_field=id_field)
        except InvalidInput as error:
            await _record(found, error.facts["code"], raw, request, event_id)
            status = 413 if error.facts["code"] == "event.too_large" else 422
            raise Refused(status, error.facts["code"], error.message, hint=error.hint) from None
        receipt = (await _take(found, [sent]))[0]
        if receipt.taken is Taken.REFUSED:
            await _record(found, receipt.why, raw, request, sent.id)
            raise Refused(403, receipt.why, "this credential may not send events of this type")
        if receipt.taken is Taken.CONFLICT:
            await _record(found, "event.conflict", raw, request, sent.id)
            raise Refused(409, "event.conflict", "this id was used for another event before")
        return JSONResponse({"id": receipt.id, "status": receipt.taken.value}, 202)

    async def _take(found: CheckResult, sent: list[Sent]) -> list[Receipt]:
        assert found.secret is not None
        secret = found.secret
        return await run_in_threadpool(intake.take, hub, secret.connection_id, secret.version_id, sent)

    @router.post("/api/v1/events", summary="Send an event", status_code=202)
    async def one(request: Request) -> Response:
        """A JSON object with `id` and `type`. The same again is answered `duplicate`; another with its id is 409."""
        raw = await request.body()
        found = await _enter(request, raw)
        _check_kind(request, {_JSON})
        return await _one(request, raw, found)

    @router.post("/api/v1/events/batch", summary="Send up to 500 events", status_code=202)
    async def batch(request: Request) -> Response:
        """A JSON array or NDJSON. Each event is answered by itself; 202 when all were taken, else 207."""
        raw = await request.body()
        found = await _enter(request, raw)
        _check_kind(request, {_JSON, *_LINES})
        return await _batch(request, raw, found, "id")

    async def _batch(request: Request, raw: bytes, found: CheckResult, id_field: str) -> Response:
        try:
            read = intake.read_batch(raw, id_field=id_field)
        except InvalidInput as error:
            await _record(found, "event.malformed", raw, request)
            raise Refused(422, "event.malformed", error.message) from None
        try:
            door.charge(request, found, SCOPE, len(read) - 1)
        except Refused as refusal:
            await _record(found, refusal.code, raw, request)
            raise
        good = [each for each in read if isinstance(each, Sent)]
        receipts = iter(await _take(found, good) if good else [])
        items: list[dict[str, str]] = []
        for each in read:
            if isinstance(each, Sent):
                receipt = next(receipts)
                why = receipt.why or ("event.conflict" if receipt.taken is Taken.CONFLICT else "")
                if why:
                    await _record(found, why, each.body, request, each.id)
                item = {"id": receipt.id, "status": receipt.taken.value, "code": why}
            else:
                event_id, text, problem = each
                await _record(found, problem.facts["code"], text, request, event_id)
                item = {"id": event_id, "status": Taken.REFUSED.value, "code": problem.facts["code"]}
            items.append({name: value for name, value in item.items() if value or name == "id"})
        whole = all(item["status"] in {Taken.ACCEPTED, Taken.DUPLICATE} for item in items)
        return JSONResponse({"items": items}, 202 if whole else 207)

    @router.post("/api/v1/webhooks/{publisher}", summary="A signed webhook", status_code=202)
    async def webhook(request: Request, publisher: str) -> Response:
        """Signed as Standard Webhooks says: headers `webhook-id`, `webhook-timestamp`, `webhook-signature`. Either secret
        of an overlap will do; a clock may be five minutes off; an id is taken once."""
        raw = await request.body()
        given = request.headers
        event_id, address = given.get("webhook-id", ""), _origin(request).address
        found = await run_in_threadpool(
            intake.judge_signature,
            hub,
            publisher,
            event_id,
            given.get("webhook-timestamp", ""),
            given.get("webhook-signature", ""),
            raw,
            address,
        )
        try:
            door.admit(request, found, SCOPE)
        except Refused as refusal:
            if refusal.status != 429 or found.secret is not None:
                code = "event.signature" if refusal.status == 401 else refusal.code
                who = await run_in_threadpool(intake.named, hub, publisher) if found.secret is None else found
                await _record(who, code, raw, request, event_id)
            if refusal.status == 401:
                raise Refused(
                    401,
                    "event.signature",
                    "no signature of this publisher in time",
                    hint="Check secret and clock.",
                ) from None
            raise
        return await _one(request, raw, found, event_id)

    @router.post("/api/v1/segment", summary="Events as Segment sends them", status_code=202)
    @router.post("/clickstream/segmentio/event", include_in_schema=False, status_code=202)
    async def segment(request: Request) -> Response:
        """A track, identify, page, screen, group or alias call, or `{"batch": [...]}`; `messageId` is the event's id.

        Source: https://segment.com/docs/connections/spec/common/, checked 2026-11-23.
        """
        raw = await request.body()
        found = await _enter(request, raw)
        _check_kind(request, {_JSON})
        inner = intake.batch_of(raw)
        if inner is not None:
            return await _batch(request, inner, found, "messageId")
        return await _one(request, raw, found, id_field="messageId")

    # -- reading ---------------------------------------------------------------------------------------------------

    @router.get("/api/v1/events", summary="Events that were taken")
    def every(
        request: Request,
        after: Annotated[str, Query(max_length=40)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """In order of arrival; `next` is the `after` of the next page. Kept for 30 days."""
        door.enter(request, "read")
        found = intake.page(hub, after, limit + 1)
        items = ",".join(
            f'{{"key":"{e.key}","from":"{e.connection_id}","received_at":"{iso(e.received_at)}","event":{e.body}}}'
            for e in found[:limit]
        )
        more = f',"next":"{found[limit - 1].key}"' if len(found) > limit else ""
        headers = {"Cache-Control": "no-store"}
        return Response(f'{{"items":[{items}]{more}}}', media_type=_JSON, headers=headers)

    @router.get("/api/v1/events/refused", summary="What was not taken within the last day")
    def refused(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> dict[str, Any]:
        """With the reason, size and address, so that a gap can be seen; never a body."""
        door.enter(request, "read")
        return {
            "items": [
                {
                    "id": r.id,
                    "from": r.connection_id,
                    "code": r.code,
                    "event_id": r.event_id,
                    "size": r.size,
                    "address": r.address,
                    "agent": r.agent,
                    "refused_at": iso(r.refused_at),
                    "can_be_replayed": r.body is not None,
                    "replayed_at": iso(r.replayed_at),
                }
                for r in intake.refusals(hub, limit=limit)
            ]
        }

    return router


def _origin(request: Request) -> Origin:
    address = request.client.host if request.client else ""
    return Origin(address, request.headers.get("user-agent", ""), dict(request.headers))


def _check_kind(request: Request, known: set[str]) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in known:
        raise Refused(
            415,
            "event.kind",
            f"this takes {' or '.join(sorted(known))}",
            {"Accept-Post": ", ".join(sorted(known))},
        )
