"""The page behind a one-time link: an outsider takes a value once and says that it is in place.

The code travels behind `#` and in a form, never in an address a server or a proxy writes down.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from keyturn.api.door import Attempts
from keyturn.api.problems import problem
from keyturn.bootstrap import Keyturn
from keyturn.errors import NotFound
from keyturn.operations import register

PATH = "/handover"
_SCRIPT = "const c=location.hash.slice(1);if(c){document.getElementById('code').value=c;history.replaceState(null,'',location.pathname)}"
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'sha256-{_HASH}'; style-src 'unsafe-inline'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title} - Keyturn</title>
<style>body{{font:1.125rem/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color-scheme:light dark}}
code,input{{font:1rem/1.5 ui-monospace,monospace;word-break:break-all;width:100%;box-sizing:border-box}}button{{font:inherit;padding:.4rem 1rem;margin-top:1rem}}</style>
</head><body><main><h1>{title}</h1>{body}</main>{script}</body></html>
"""
_ASK = """<p>Somebody who runs Keyturn hands you a credential. It can be shown once, so open it when you are ready to put it
in its place.</p><form method="post" action="/handover"><label for="code">Code of your link</label>
<input id="code" name="code" required autocomplete="off" spellcheck="false"><button>Show it once</button></form>"""
_DONE = """<form method="post" action="/handover/done"><input type="hidden" name="code" value="{code}">
<button>It is in its place</button></form>"""


def routes(hub: Keyturn) -> APIRouter:
    """One page to open, one to take, one to say done. A program may send and get JSON."""
    router = APIRouter(tags=["handover"])
    guesses = Attempts()

    @router.get(PATH, summary="The page of a one-time link", response_class=HTMLResponse)
    def ask() -> Response:
        """Shows nothing yet: whatever looks at links in advance must not use them up."""
        return _page("A credential for you", _ASK, script=f"<script>{_SCRIPT}</script>")

    @router.post(PATH, summary="Take the value, once", response_class=HTMLResponse)
    async def take(request: Request) -> Response:
        """The value, this once."""
        code, wants_json = await _code(request)
        try:
            found = await run_in_threadpool(register.open_link, hub, code, address=_address(request))
        except NotFound as error:
            return _refused(request, error, wants_json)
        if wants_json:
            body = {"name": found.name, "values": dict(found.values)}
            return JSONResponse(body, headers=_HEADERS)
        rows = "".join(
            f"<p>{html.escape(name)}<br><code>{html.escape(value)}</code></p>"
            for name, value in found.values.items()
        )
        said = (
            f"<p>For <strong>{html.escape(found.name)}</strong>. This page cannot be shown again.</p>{rows}"
        )
        return _page("Your credential", said + _DONE.format(code=html.escape(code)))

    @router.post(f"{PATH}/done", summary="Say that it is in place", response_class=HTMLResponse)
    async def done(request: Request) -> Response:
        """The hub still waits for the first use; this answers the person who waits for you."""
        code, wants_json = await _code(request)
        try:
            name = await run_in_threadpool(register.acknowledge, hub, code, address=_address(request))
        except NotFound as error:
            return _refused(request, error, wants_json)
        if wants_json:
            return JSONResponse({"name": name, "acknowledged": True}, headers=_HEADERS)
        return _page("Thank you", "<p>Keyturn knows. You may close this tab.</p>")

    def _refused(request: Request, error: NotFound, wants_json: bool) -> Response:
        wait_s = guesses.fail(_address(request))
        if wait_s:
            headers = {**_HEADERS, "Retry-After": str(math.ceil(wait_s))}
            if wants_json:
                return problem(429, "rate.limited", "too many attempts", headers=headers)
            return HTMLResponse(
                _page_text("Too many attempts", "<p>Please wait a few minutes.</p>"), 429, headers
            )
        if wants_json:
            return problem(404, "not_found", error.message, hint=error.hint, headers=_HEADERS)
        return HTMLResponse(
            _page_text("Nothing here", f"<p>{html.escape(error.message)}. {html.escape(error.hint)}</p>"),
            404,
            _HEADERS,
        )

    return router


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _code(request: Request) -> tuple[str, bool]:
    """The code from a form or from JSON, and whether the caller is a program."""
    raw = await request.body()
    if len(raw) > 4096:
        return "", False
    if "json" in request.headers.get("content-type", ""):
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            return "", True
        code = value.get("code") if isinstance(value, dict) else None
        return (code if isinstance(code, str) else ""), True
    found = parse_qs(raw.decode(errors="replace")).get("code", [""])
    return found[0].strip(), False


def _page_text(title: str, body: str, script: str = "") -> str:
    return _PAGE.format(title=html.escape(title), body=body, script=script)


def _page(title: str, body: str, script: str = "") -> Response:
    return HTMLResponse(_page_text(title, body, script), headers=_HEADERS)
