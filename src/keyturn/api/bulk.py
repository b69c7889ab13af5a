"""Bulk loads and datasets over HTTP: bytes go to disk as they come, and a cut-off upload goes on where it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse

from keyturn.api.door import Door
from keyturn.api.problems import Refused, problem
from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput
from keyturn.model.moment import iso
from keyturn.operations import datasets
from keyturn.operations.datasets import Loader
from keyturn.operations.issued import CheckResult

_TYPES = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
}
_PIECE = "application/partial-upload"
_IDLE_S = 60.0
_BUFFER = 1024 * 1024
_NO_STORE = {"Cache-Control": "no-store"}
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def routes(hub: Keyturn, door: Door, loader: Loader) -> APIRouter:
    """Loading needs the scope `bulk`, reading the scope `read`.

    A load that runs may be finished with the secret it was begun with, also after that was retired.
    Source of the header names: draft-ietf-httpbis-resumable-upload-11, checked 2026-11-23.
    """
    router = APIRouter(prefix="/api/v1", tags=["bulk"])

    async def _enter(request: Request, load_id: str = "") -> tuple[CheckResult, str]:
        """The caller and its credential; with a load's id also a retired secret that this load holds."""

        def excuse(found: CheckResult, address: str) -> CheckResult:
            return datasets.readmit(hub, load_id, found, address)

        found = await door.enter_fast(request, "bulk", excuse=excuse if load_id else None)
        if found.secret is None:
            raise Refused(
                403,
                "bulk.who",
                "bulk loads need a key that this hub issued",
                hint="Issue one: `keyturn issue bulk-key --name NAME`.",
            )
        return found, found.secret.connection_id

    @router.post("/bulk/{dataset}", summary="Load a CSV or NDJSON file", status_code=202)
    async def load(
        request: Request, dataset: str, mode: str = "append", delimiter: str = "comma"
    ) -> Response:
        """The file is the body. `Upload-Complete: ?0` says that more will follow by PATCH. The same `Idempotency-Key`
        gives the same load; what had arrived of it is not sent twice when the caller asks with HEAD first."""
        found, connection_id = await _enter(request)
        form = _form(request)
        size = _size(request)
        if not await run_in_threadpool(datasets.uploads(hub).room, size):
            raise Refused(507, "bulk.no_room", "the hub's disk has no room for this", {"Retry-After": "600"})
        assert found.secret is not None
        try:
            made = await run_in_threadpool(
                datasets.begin,
                hub,
                dataset,
                connection_id,
                found.secret.version_id,
                form=form,
                mode=mode,
                delimiter=_DELIMITERS.get(delimiter, delimiter),
                trigger=request.headers.get("idempotency-key", ""),
            )
        except Conflict as error:
            wait_s = error.facts.get("wait_s")
            if wait_s is None:
                raise
            raise Refused(429, "rate.limited", error.message, {"Retry-After": str(wait_s)}) from None
        if made.state is not datasets.LoadState.RECEIVING or made.received:
            return JSONResponse(_page(made), 200, _headers(made))  # the same key again: nothing is sent twice
        return await _receive(request, made.id, 0)

    @router.get("/bulk/loads", summary="Your latest loads")
    async def mine(request: Request) -> Response:
        _, connection_id = await _enter(request)
        found = await run_in_threadpool(datasets.loads, hub, connection_id)
        return JSONResponse({"items": [_page(each) for each in found]}, headers=_NO_STORE)

    @router.head("/bulk/loads/{load_id}", include_in_schema=False)
    @router.get("/bulk/loads/{load_id}", summary="How far a load is")
    async def status(request: Request, load_id: str) -> Response:
        """`Upload-Offset` is where an upload goes on."""
        _, connection_id = await _enter(request, load_id)
        found = await run_in_threadpool(datasets.of_caller, hub, load_id, connection_id)
        return JSONResponse(_page(found), headers=_headers(found))

    @router.patch("/bulk/loads/{load_id}", summary="Send what follows", status_code=202)
    async def go_on(request: Request, load_id: str) -> Response:
        """`Upload-Offset` must be where the load stands; 409 tells that with its own `Upload-Offset`."""
        _, connection_id = await _enter(request, load_id)
        kind = _kind(request)
        if kind != _PIECE and kind not in _TYPES:
            raise _wrong_kind(f"send the content type {_PIECE}")
        _size(request)
        offset = request.headers.get("upload-offset", "")
        if not offset.isascii() or not offset.isdigit() or len(offset) > 15:
            raise Refused(400, "bulk.offset", "the header Upload-Offset must be a number of bytes")
        await run_in_threadpool(datasets.of_caller, hub, load_id, connection_id)
        return await _receive(request, load_id, int(offset))

    @router.delete("/bulk/loads/{load_id}", summary="Give a load up")
    async def give_up(request: Request, load_id: str) -> Response:
        """Nothing of it is ever seen. 409 when its records are visible already."""
        _, connection_id = await _enter(request, load_id)
        await run_in_threadpool(datasets.of_caller, hub, load_id, connection_id)
        found = await run_in_threadpool(datasets.cancel, hub, load_id)
        return JSONResponse(_page(found), headers=_NO_STORE)

    @router.get("/bulk/loads/{load_id}/rejected", summary="What was left out, and why")
    async def rejected(
        request: Request,
        load_id: str,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Lines from 1 and bytes from 0, with the reason; nothing of the record itself. The first 10,000 are kept."""
        _, connection_id = await _enter(request, load_id)
        found = await run_in_threadpool(datasets.of_caller, hub, load_id, connection_id)
        shelf = datasets.shelf(hub)
        rows = await run_in_threadpool(shelf.rejects, found.dataset, load_id, after, limit + 1)
        items = [
            {"line": r.line, "last_line": r.last_line, "offset": r.offset, "why": r.why}
            for _, r in rows[:limit]
        ]
        more = {"next": rows[limit - 1][0]} if len(rows) > limit else {}
        return JSONResponse({"items": items, **more}, headers=_NO_STORE)

    async def _receive(request: Request, load_id: str, offset: int) -> Response:
        complete = request.headers.get("upload-complete", "?1") == "?1"
        try:
            receiver, let_go = await run_in_threadpool(datasets.receiving, hub, load_id, offset)
        except Conflict as error:
            if "received" not in error.facts:
                raise
            here = {"Upload-Offset": str(error.facts["received"])}
            return problem(409, "bulk.offset", error.message, hint=error.hint, headers=here)
        try:
            await _take(request, receiver)
            await run_in_threadpool(receiver.commit, complete=complete)
        except ClientDisconnect:
            await run_in_threadpool(receiver.commit)  # kept, so that the rest is all that must be sent
            raise
        except Refused:
            await run_in_threadpool(receiver.commit)
            raise
        except InvalidInput as error:
            await run_in_threadpool(datasets.cancel_received, hub, load_id, error.message)
            if error.facts.get("too_large"):
                raise Refused(413, "too_large", error.message) from None
            raise _wrong_kind(error.message, error.hint) from None
        finally:
            await run_in_threadpool(let_go)
        loader.wake()
        found = await run_in_threadpool(datasets.get, hub, load_id)
        return JSONResponse(_page(found), 202, _headers(found))

    # -- reading ---------------------------------------------------------------------------------------------------

    @router.get("/datasets", summary="The datasets there are")
    def every(request: Request) -> dict[str, Any]:
        door.enter(request, "read")
        return {"items": [_summary(each) for each in datasets.every(hub)]}

    @router.get("/datasets/{dataset}", summary="A dataset: columns and number of records")
    def one(request: Request, dataset: str) -> dict[str, Any]:
        door.enter(request, "read")
        return _summary(datasets.shelf(hub).summary(dataset))

    @router.get("/datasets/{dataset}/records", summary="Records, page by page")
    def records(
        request: Request,
        dataset: str,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """`next` is the `after` of the next page; absent on the last one."""
        door.enter(request, "read")
        rows = datasets.shelf(hub).page(dataset, after, limit + 1)
        items = ",".join(body for _, body in rows[:limit])
        more = f',"next":{rows[limit - 1][0]}' if len(rows) > limit else ""
        return Response(f'{{"items":[{items}]{more}}}', media_type="application/json", headers=_NO_STORE)

    @router.get("/datasets/{dataset}/export", summary="A whole dataset")
    def export(
        request: Request, dataset: str, form: Annotated[str, Query(alias="format")] = "ndjson"
    ) -> Response:
        """As `ndjson` or `csv`, from one consistent view, in bounded memory."""
        found = door.enter(request, "read")
        address = request.client.host if request.client else ""
        kind = "text/csv" if form == "csv" else "application/x-ndjson"
        name = f'attachment; filename="{dataset}.{form}"'
        headers = {**_NO_STORE, "Content-Disposition": name}
        parts = datasets.export(hub, dataset, form, found.name, address)
        return StreamingResponse(parts, media_type=kind, headers=headers)

    return router


async def _take(request: Request, receiver: datasets.Receiver) -> None:
    """Writes the body to disk as it comes, a MiB at a time. Raises: Refused for a caller that falls silent."""
    held = bytearray()
    stream: AsyncIterator[bytes] = request.stream()
    try:
        while True:
            try:
                chunk = await asyncio.wait_for(anext(stream), _IDLE_S)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Refused(408, "bulk.slow", f"nothing came for {_IDLE_S:.0f} seconds") from None
            held += chunk
            if len(held) >= _BUFFER:
                await run_in_threadpool(receiver.write, bytes(held))
                held.clear()
    finally:
        if held:
            await run_in_threadpool(receiver.write, bytes(held))


def _kind(request: Request) -> str:
    """The content type. Raises: Refused for another encoding than UTF-8, or a compressed body."""
    said = request.headers.get("content-type", "")
    kind, _, rest = said.partition(";")
    charset = rest.lower().partition("charset=")[2].strip().strip('"')
    if charset not in {"", "utf-8", "utf8", "us-ascii"}:
        raise _wrong_kind("the data must be UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _wrong_kind(
            "the body must not be compressed", "Send it as it is; TLS may compress nothing either."
        )
    return kind.strip().lower()


def _form(request: Request) -> str:
    form = _TYPES.get(_kind(request))
    if form is None:
        raise _wrong_kind("this takes text/csv or application/x-ndjson")
    return form


def _wrong_kind(detail: str, hint: str = "") -> Refused:
    accepts = {"Accept-Post": "text/csv, application/x-ndjson", "Accept-Patch": _PIECE}
    return Refused(415, "bulk.kind", detail, accepts, hint)


def _size(request: Request) -> int:
    """The announced size, 0 when there is none. Raises: Refused before a byte of too large a body is read."""
    said = request.headers.get("content-length", "0")
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 19 else 0
    if size > datasets.MOST_BYTES:
        raise Refused(413, "too_large", f"an upload has up to {datasets.MOST_BYTES // 1024**3} GiB")
    return size


def _headers(load: datasets.Load) -> dict[str, str]:
    open_ = load.state is datasets.LoadState.RECEIVING
    return {
        **_NO_STORE,
        "Location": f"/api/v1/bulk/loads/{load.id}",
        "Upload-Offset": str(load.received),
        "Upload-Complete": "?0" if open_ else "?1",
    }


def _page(load: datasets.Load) -> dict[str, Any]:
    return {
        "id": load.id,
        "dataset": load.dataset,
        "format": load.format,
        "mode": load.mode,
        "state": load.state.value,
        "received_bytes": load.received,
        "read_bytes": load.loaded,
        "accepted": load.accepted,
        "rejected": load.rejected,
        "why": load.why,
        "created_at": iso(load.created_at),
        "ended_at": iso(load.ended_at),
    }


def _summary(found: datasets.Summary) -> dict[str, Any]:
    return {
        "name": found.name,
        "records": found.records,
        "columns": list(found.columns),
        "loads": found.loads,
        "changed_at": iso(found.changed_at),
        "size_bytes": found.size_bytes,
    }
