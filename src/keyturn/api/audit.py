"""The audit trail: searched, taken away with its heads signed, and checked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from keyturn.api import examples, shapes, shown
from keyturn.api.calls import NO_STORE, Body, Caller, Calls
from keyturn.api.paging import After, Limit, cursor, place
from keyturn.errors import InvalidInput
from keyturn.model.moment import iso
from keyturn.operations import audit
from keyturn.operations.rights import Operation

calls = Calls("audit")
JSONL = "application/jsonl"
_CHUNK = 64 * 1024
_HUB = "hub"


class Exported(Body):
    """The text of an export; `public_key` (PEM) pins whose signature it must be; `earlier` is an older export."""

    export: Annotated[str, Field(min_length=1)]
    public_key: Annotated[str, Field(max_length=2000)] = ""
    earlier: str = ""


@calls.get(
    "/audit",
    Operation.AUDIT_READ,
    "Search the audit trail",
    answer=shapes.Trail,
    example=examples.page(examples.JOURNAL),
    problems=(404,),
)
def search(
    it: Caller,
    connection: Annotated[
        str, Query(max_length=80, description="A connection, or `hub` for its own lines")
    ] = "",
    run: Annotated[str, Query(max_length=60)] = "",
    kind: Literal["INTENT", "RECEIPT", "OUTCOME", "OBSERVED", "DECISION"] | None = None,
    since: Annotated[datetime | None, Query(description="From this instant on")] = None,
    until: Annotated[datetime | None, Query(description="Before this instant")] = None,
    by: Annotated[str, Query(max_length=200, description="Who acted, as the line names them")] = "",
    text: Annotated[str, Query(max_length=200, description="Words that are all in what a line says")] = "",
    after: After = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """Newest first. Kinds and words are looked for line by line: an answer may hold fewer than `limit`, or none, and still
    have a `next`; `looked_back_to` then says how far it came."""
    chosen = connection if connection in {"", _HUB} else it.connection(connection).id
    began, ended = _seconds(since), _seconds(until)
    of = ["audit", chosen, run, kind, by, began, ended, text]
    begin = place(it.hub, of, after)
    found = audit.search(
        it.hub,
        connection=chosen,
        run_id=run,
        kind=kind or "",
        by=by,
        since=began,
        until=ended,
        words=text.split(),
        before=tuple(begin) if begin else None,
        limit=limit,
    )
    more = {"next": cursor(it.hub, of, list(found.place))} if found.place else {}
    told = {"looked_back_to": iso(found.until)} if found.place and len(found.lines) < limit else {}
    return {"items": [shown.line(each) for each in found.lines], **more, **told}


def _seconds(at: datetime | None) -> float | None:
    if at is None:
        return None
    try:
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        raise InvalidInput("this instant is too far away", field="since") from None


@calls.get(
    "/audit/export",
    Operation.AUDIT_READ,
    "Take the whole trail away",
    example='{"format":"keyturn-audit/1"}',
    media=JSONL,
    hub_wide=True,
)
def export(it: Caller) -> Response:
    """Every line, a JSON object each, and at the end the signed heads. `keyturn audit verify` checks it without a hub."""
    handle, name = tempfile.mkstemp(prefix="keyturn-audit-")
    os.close(handle)
    path = Path(name)
    try:
        done = audit.export(it.hub, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    it.done("audit", lines=done.lines)
    headers = {
        **NO_STORE,
        "Keyturn-Broken": str(len(done.broken)),
        "Content-Disposition": 'attachment; filename="audit.jsonl"',
    }
    return StreamingResponse(_sent(path), media_type=JSONL, headers=headers)


def _sent(path: Path) -> Iterator[bytes]:
    """The file's bytes; it is gone afterwards, also when nobody reads to the end."""
    try:
        with path.open("rb") as file:
            path.unlink()
            while chunk := file.read(_CHUNK):
                yield chunk
    finally:
        path.unlink(missing_ok=True)


@calls.get(
    "/audit/check",
    Operation.AUDIT_READ,
    "Whether every chain holds up to its head",
    answer=shapes.Whole,
    example={"ok": True, "broken": []},
    hub_wide=True,
)
def check(it: Caller) -> dict[str, Any]:
    """Reads all of it. What is broken is named by connection."""
    broken = audit.check(it.hub)
    return {"ok": not broken, "broken": broken}


@calls.get(
    "/audit/key",
    Operation.AUDIT_READ,
    "The public key that exports are signed with",
    answer=shapes.PublicKey,
    example={"public_key": "-----BEGIN PUBLIC KEY-----\n..."},
)
def key(it: Caller) -> dict[str, Any]:
    """Keep it away from the hub: whoever forges an export could bring their own."""
    return {"public_key": it.hub.roots.public_key_pem}


@calls.post(
    "/audit/verify",
    Operation.AUDIT_READ,
    "Check an export",
    answer=shapes.Verified,
    example={"ok": True, "signed": True, "connections": 3, "lines": 120, "broken": []},
    sends={"export": '{"format":"keyturn-audit/1"}\n'},
)
def verify(it: Caller, body: Exported) -> dict[str, Any]:
    """For exports that fit into a call; larger ones are checked with `keyturn audit verify`. Without `public_key` it must be
    this hub's signature."""
    with tempfile.TemporaryDirectory(prefix="keyturn-audit-") as folder:
        path, before = Path(folder) / "export", Path(folder) / "earlier"
        path.write_text(body.export, encoding="utf-8")
        if body.earlier:
            before.write_text(body.earlier, encoding="utf-8")
        pinned = body.public_key or it.hub.roots.public_key_pem
        try:
            found = audit.verify(path, pinned, before if body.earlier else None)
        except InvalidInput as error:
            raise InvalidInput(
                "this is not an audit export", field=str(error.facts.get("field", "export"))
            ) from None
    return {
        "ok": found.is_whole,
        "signed": found.signed,
        "connections": found.connections,
        "lines": found.lines,
        "broken": list(found.broken),
    }
