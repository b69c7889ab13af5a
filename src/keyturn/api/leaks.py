"""Reports of leaked credentials over HTTP: any text, or the scanners' list of tokens; nothing of it comes back.

Who reports either shows a credential of this hub or signs what it sends, as scanning services do.
"""

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
from keyturn.operations import leaks, signed_reports
from keyturn.operations.leaks import Radius, Report
from keyturn.operations.signed_reports import KEY_HEADER, SIGNATURE_HEADER, Standing

SCOPE = "leaks:write"
_MOST_ITEMS = 100
_SAYS = {
    Standing.WRONG: "the signature is not one of this key over this body",
    Standing.UNKNOWN_KEY: "the service has no key of this id",
}


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """Reporting needs the scope `leaks:write`, or the signature of the service whose keys the operator named. A stranger
    could otherwise stop a credential they stole, which would be right, or probe whether one works, which would not."""
    router = APIRouter(prefix="/api/v1", tags=["leaks"])

    @router.post("/leaks", summary="Report leaked credentials")
    async def report(request: Request, dry_run: bool = False) -> Response:
        """`text/plain`: any text, a log or a diff. JSON: a list of `{"token", "source", "url"}`. Secrets of this hub are
        refused everywhere when this answers; runs replace what leaked. `dry_run=true` shows whom that hits.

        Scanning services sign the raw body instead of showing a credential (`Github-Public-Key-Identifier`,
        `Github-Public-Key-Signature`: ECDSA over P-256 and SHA-256), where `KEYTURN_LEAK_KEYS_URL` names their keys. They
        get a list of `{"token_hash", "token_type", "label"}`, `label` being `true_positive` or `false_positive`."""
        key_id, signature = (request.headers.get(name) for name in (KEY_HEADER, SIGNATURE_HEADER))
        if key_id is not None or signature is not None:
            return await _signed(request, key_id or "", signature or "")
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

    async def _signed(request: Request, key_id: str, signature: str) -> Response:
        """Its credentials, if it shows any as well, count for nothing: the signature does. What is in the address is not
        signed, so it may not say anything."""
        if not hub.settings.leak_keys:
            raise Refused(
                403,
                "leak.signed_off",
                "this hub believes no signed reports",
                hint="Whoever runs it names the service's keys in KEYTURN_LEAK_KEYS_URL; or report with a credential.",
            )
        if request.scope.get("query_string"):
            raise Refused(422, "invalid_input", "a signed report has nothing in its address")
        raw = await request.body()
        standing = await run_in_threadpool(signed_reports.judge, hub, key_id, signature, raw)
        if standing is Standing.NO_KEYS:
            raise Refused(
                503,
                "leak.no_keys",
                "the keys that reports are signed with cannot be fetched at present",
                {"Retry-After": "60"},
            )
        if standing is not Standing.GOOD:
            door.count_failure(request.client.host if request.client else "")
            raise Refused(401, f"leak.{standing.value}", _SAYS[standing])
        answer = await run_in_threadpool(signed_reports.take, hub, key_id, raw)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

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
