"""Reports of leaked credentials over HTTP: any text, or the scanners' list of tokens; nothing of it comes back."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from keyturn.api.door import Door
from keyturn.api.problems import Refused
from keyturn.bootstrap import Keyturn
from keyturn.model.moment import iso
from keyturn.operations import leaks
from keyturn.operations.leaks import Radius, Report

SCOPE = "leaks:write"
_MOST_ITEMS = 100


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """Reporting needs the scope `leaks:write`. A stranger could otherwise stop a credential they stole, which would be
    right, or probe whether one works, which would not."""
    router = APIRouter(prefix="/api/v1", tags=["leaks"])

    @router.post("/leaks", summary="Report leaked credentials")
    async def report(request: Request, dry_run: bool = False) -> Response:
        """`text/plain`: any text, a log or a diff. JSON: a list of `{"token", "source", "url"}`. Secrets of this hub are
        refused everywhere when this answers; runs replace what leaked. `dry_run=true` shows whom that hits."""
        found = await door.enter_fast(request, SCOPE)
        raw = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/plain":
            items = [(raw.decode(errors="replace"), "", "")]
        elif kind == "application/json":
            items = _items(raw)
        else:
            raise Refused(415, "leak.kind", "this takes text/plain or application/json")
        answers = []
        for text, source, url in items:
            made = await run_in_threadpool(
                leaks.report, hub, text, source=source, url=url, dry_run=dry_run, who=found.name
            )
            answers.append(_page(made))
        return JSONResponse({"dry_run": dry_run, "items": answers}, headers={"Cache-Control": "no-store"})

    return router


def _items(raw: bytes) -> list[tuple[str, str, str]]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(422, "invalid_input", "the body is not JSON") from None
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_ITEMS:
        raise Refused(422, "invalid_input", f"the body is a list of 1 to {_MOST_ITEMS} reports")
    return leaks.texts(value)


def _page(made: Report) -> dict[str, Any]:
    return {
        "label": "true_positive" if made.known else "false_positive",
        "in_our_form": made.ours,
        "known": [page(each) for each in made.known],
    }


def page(each: Radius) -> dict[str, Any]:
    """One find as JSON; the same words as on the command line."""
    return {
        "name": each.name,
        "system": each.system,
        "what": each.what,
        "was_live": each.was_live,
        "state": each.state,
        "last_used_at": iso(each.last_used_at),
        "hits": list(each.hit),
        "steps": list(each.steps),
        "action": each.action,
        "run": each.run_id or None,
        "error": each.error or None,
    }
