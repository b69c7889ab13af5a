"""Where a vendor sends the browser after a consent: finds the task by its state and hands the answer over, unshown."""

from __future__ import annotations

import math
import time

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from keyturn.api.door import Attempts, Door
from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, KeyturnError
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


class _Guesses(Attempts):
    """The callback's own limit: failed API calls from an address do not stop the consents of people behind it."""

    def wait_s(self, address: str) -> float:
        """Seconds to wait for an address that failed too often, else 0. Counts nothing."""
        with self._lock:
            seen = self._failed.get(address)
            if not seen or len(seen) < self._most:
                return 0.0
            return max(0.0, self._window_s - (time.monotonic() - seen[0]))


def routes(hub: Keyturn, _door: Door) -> APIRouter:
    """One page. It repeats nothing of its address: not the code, not the state, not the vendor's words."""
    router = APIRouter(tags=["consent"])
    guesses = _Guesses()

    @router.get(PATH, summary="The end of a consent in the browser", response_class=HTMLResponse)
    def received(request: Request) -> Response:
        address = request.client.host if request.client else ""
        if wait_s := guesses.wait_s(address):  # before any other work
            return _page(
                429,
                "Too many attempts",
                "Please wait a few minutes and load this page again, or copy its address into the task in Keyturn.",
                {"Retry-After": str(math.ceil(wait_s))},
            )
        query = request.url.query
        task = tasks.by_state(hub, request.query_params.get("state", "")) if len(query) <= _MOST else None
        if task is None:
            guesses.fail(address)
            return _nobody()
        try:
            tasks.submit(
                hub, task.id, {"callback_url": f"{hub.settings.public_url}{PATH}?{query}"}, "browser"
            )
        except Conflict:  # another answer came first
            guesses.fail(address)
            return _nobody()
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


def _nobody() -> Response:
    return _page(
        404,
        "Nobody waits for this answer",
        "The consent was answered already, has expired or belongs to another hub. Open the task in Keyturn"
        " again and use its link.",
    )


def _page(status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(_PAGE.format(title=title, text=text), status, {**_HEADERS, **(headers or {})})
