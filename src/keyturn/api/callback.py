"""Where a vendor sends the browser after a consent: finds the task by its state and hands the answer over, unshown."""

from __future__ import annotations

import hmac
import json

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from keyturn.api.door import Door
from keyturn.api.problems import Refused
from keyturn.bootstrap import Keyturn
from keyturn.errors import KeyturnError
from keyturn.model.run import Task
from keyturn.operations import tasks

PATH = "/oauth/callback"
_MOST = 8192
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address holds the code
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Keyturn</title>
<style>body{{font:1.125rem/1.6 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem;color-scheme:light dark}}</style>
</head><body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """One page. It repeats nothing of its address: not the code, not the state, not the vendor's words."""
    router = APIRouter(tags=["consent"])

    @router.get(PATH, summary="The end of a consent in the browser", response_class=HTMLResponse)
    def received(request: Request) -> Response:
        address = request.client.host if request.client else ""
        query = request.url.query
        state = request.query_params.get("state", "")
        task = _task(hub, state) if state and len(query) <= _MOST else None
        if task is None:
            try:
                door.count_failure(address)
            except Refused as error:
                return _page(429, "Too many attempts", "Please wait a few minutes.", error.headers)
            return _page(
                404,
                "Nobody waits for this answer",
                "The consent was answered already, has expired or belongs to another hub. Open the task in Keyturn"
                " again and use its link.",
            )
        try:
            tasks.submit(
                hub, task.id, {"callback_url": f"{hub.settings.public_url}{PATH}?{query}"}, "browser"
            )
        except KeyturnError:
            return _page(
                409,
                "Keyturn could not take the answer",
                "Nothing was changed. Open the task in Keyturn again and use its link.",
            )
        if "error" in request.query_params:
            return _page(
                200,
                "The consent was not given",
                "The vendor says so; the old credential works on. The task in Keyturn shows what to do next.",
            )
        return _page(200, "Keyturn received your consent", "You may close this tab.")

    return router


def _page(status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(_PAGE.format(title=title, text=text), status, {**_HEADERS, **(headers or {})})


def _task(hub: Keyturn, state: str) -> Task | None:
    """The open consent whose sealed session has this state."""
    for task in tasks.waiting(hub):
        if task.kind != "consent":
            continue
        session = hub.secrets.find(f"task:{task.id}:session")
        expected = str(json.loads(session).get("state", "")) if session else ""
        if expected and hmac.compare_digest(expected.encode(), state.encode()):
            return task
    return None
