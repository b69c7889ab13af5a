"""The OAuth endpoints for programs: token, revocation, introspection, metadata. The consent is a page, see `web`.

Answers are JSON as RFC 6749, 7009, 7662 and 8414 have it, never a problem document; none may be kept by a cache.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from keyturn.api.door import Door
from keyturn.api.problems import problem
from keyturn.bootstrap import Keyturn
from keyturn.operations import oauth
from keyturn.operations.issued import IssuedBook
from keyturn.operations.oauth import Answer, Caller

_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_METHODS = [
    "POST",
    "GET",
    "PUT",
    "PATCH",
    "DELETE",
]  # all but the first are refused here, not by the pages behind
_FORM = "application/x-www-form-urlencoded"
_MALFORMED = Answer(
    400, {"error": "invalid_request", "error_description": "not a form, or sent in the wrong place"}
)
METADATA = oauth.METADATA
PATHS = (oauth.TOKEN, oauth.REVOKE, oauth.INTROSPECT)


def add_routes(app: FastAPI, hub: Keyturn, door: Door, book: IssuedBook) -> None:
    """POST to the three endpoints, GET of the metadata. Failed attempts count against the caller's address, as at the door."""
    server = oauth.server(hub, book)

    def endpoint(path: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if request.method != "POST":
                raise HTTPException(405, headers={"Allow": "POST"})
            sent = await _form(request)
            if sent is None:
                return _json(_MALFORMED)
            address = request.client.host if request.client else ""
            caller = Caller(address, request.headers.get("user-agent", ""))
            authorization = request.headers.get("authorization", "")
            made = await run_in_threadpool(server.answer, path, sent, authorization, caller)
            if made.failed and (wait_s := door.attempts.fail(address)):
                return _json(
                    Answer(
                        429,
                        {"error": made.body["error"], "error_description": "too many failed attempts"},
                        {"Retry-After": str(math.ceil(wait_s))},
                    )
                )
            return _json(made)

        return answer

    for path in PATHS:
        app.add_route(path, endpoint(path), methods=_METHODS)

    async def metadata(_: Request) -> Response:
        try:
            return JSONResponse(server.metadata())
        except ValueError:
            return problem(
                404,
                "no_oauth",
                "this hub is not served over TLS",
                hint="Set KEYTURN_PUBLIC_URL to its https address.",
            )

    app.add_route(oauth.METADATA, metadata, methods=["GET"])


async def _form(request: Request) -> list[tuple[str, str]] | None:
    """The form; None for anything else, and for what stands in the address, where logs and proxies keep it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        request.scope.get("query_string")
        or kind != _FORM
        or len(request.headers.getlist("authorization")) > 1
    ):
        return None
    body = await request.body()
    if len(body) > oauth.MOST_FORM:
        return None
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=100,
        )
    except ValueError:
        return None


def _json(answer: Answer) -> Response:
    return JSONResponse(dict(answer.body), answer.status, {**_HEADERS, **answer.headers})


def describe(paths: dict[str, Any]) -> None:
    """Adds the endpoints to the OpenAPI page."""
    says = {
        oauth.TOKEN: "Tokens for a client (RFC 6749)",
        oauth.REVOKE: "End a token (RFC 7009)",
        oauth.INTROSPECT: "Whether a token lives (RFC 7662)",
    }
    for path, text in says.items():
        answers = {"200": {"description": "As the RFC has it"}, "401": {"description": "invalid_client"}}
        form = {"content": {_FORM: {"schema": {"type": "object"}}}, "required": True}
        paths[path] = {
            "post": {"summary": text, "tags": ["oauth"], "requestBody": form, "responses": answers}
        }
    metadata = {"summary": "What this OAuth server offers (RFC 8414)", "tags": ["oauth"]}
    paths[oauth.METADATA] = {"get": {**metadata, "responses": {"200": {"description": "The document"}}}}
