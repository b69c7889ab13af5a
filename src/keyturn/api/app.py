"""The HTTP application and how it is served: the list of routes is the map of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from keyturn.api import callback, intake, managing, oauth, problems
from keyturn.api.document import described, guarded
from keyturn.api.door import open_door
from keyturn.api.shield import Shield
from keyturn.bootstrap import Keyturn
from keyturn.model.moment import iso
from keyturn.operations.notices import Herald
from keyturn.web.app import Pages

_SECURITY: list[dict[str, list[str]]] = [{"AccessKey": []}, {"Bearer": []}]
_WHOAMI = "/api/v1/whoami"
_OPEN = ("/healthz", callback.PATH, *oauth.PATHS, oauth.METADATA)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_app(hub: Keyturn) -> FastAPI:
    """The application of one hub: its API, and its pages behind that. The lifespan closes the book of uses; the engine is
    the server's business."""
    door, book = open_door(hub)
    herald = Herald(hub)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loader.start()
        herald.start()
        yield
        await run_in_threadpool(herald.stop)
        await run_in_threadpool(loader.stop)
        await run_in_threadpool(book.close)

    app = FastAPI(
        title="Keyturn",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,  # clients drop or leak headers when redirected
    )
    app.add_middleware(Shield)
    problems.install(app)

    @app.get("/healthz", tags=["health"], summary="Whether the hub can read its database")
    def healthz() -> dict[str, str]:
        hub.store.read(lambda tx: tx.one("SELECT 1"))
        return {"status": "ok"}

    async def whoami(request: Request) -> Response:
        found = await door.enter_fast(request)
        secret = found.secret
        if secret is None:  # a service identity's token
            plain = {"credential": found.name, "state": "live", "scopes": sorted(found.scopes)}
            return JSONResponse(plain, headers={"Cache-Control": "no-store"})
        body: dict[str, Any] = {
            "credential": found.name,
            "slot": secret.slot,
            "state": secret.state.value,
            "scopes": sorted(found.scopes),
            "expires_at": iso(found.token.expires_at if found.token else secret.ends_at),
        }
        if found.token:
            body["client_id"] = found.token.client_id
        if found.subject:
            body["subject"] = found.subject
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    # not a FastAPI route, and before them: programs call it as often as they like, in half the time
    app.router.routes.insert(0, Route(_WHOAMI, whoami, methods=["GET"]))
    managing.add_routes(app, hub, door)
    loader = intake.add_routes(app, hub, door)
    app.include_router(callback.routes(hub, door))
    oauth.add_routes(app, hub, door, book)
    _describe(app)
    pages = Pages(hub)
    app.state.pages = pages

    async def rest(request: Request) -> Response:
        known = any(route.matches(request.scope)[0] is Match.PARTIAL for route in app.router.routes)
        raise HTTPException(405 if known else 404)

    app.add_route("/api/{rest:path}", rest, methods=_METHODS)  # an unknown call is a problem, not a page
    app.mount("/", pages.app)
    return app


def _describe(app: FastAPI) -> None:
    """Tells the OpenAPI page how callers authenticate."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        found = plain()
        schemes = found.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["AccessKey"] = {"type": "apiKey", "in": "header", "name": "AccessKey"}
        schemes["Bearer"] = {"type": "http", "scheme": "bearer"}
        answers = {
            "200": {"description": "Its name, slot, state and scopes"},
            "401": {"description": "Refused"},
        }
        page = {"summary": "Who the presented credential is", "tags": ["credentials"], "responses": answers}
        found["paths"][_WHOAMI] = {"get": page}
        oauth.describe(found["paths"])
        described(found)
        for path, methods in found["paths"].items():
            for operation in methods.values() if path not in _OPEN else ():
                operation["security"] = _SECURITY
                guarded(operation)
        return found

    setattr(app, "openapi", openapi)  # noqa: B010 - FastAPI's documented way to extend it; types forbid assigning


def serve(
    hub: Keyturn,
    host: str = "127.0.0.1",
    port: int = 8425,
    *,
    trusted_proxies: str = "",
    certificate: str = "",
    key: str = "",
) -> None:
    """Serves until SIGINT or SIGTERM, with the engine started and stopped around it; over TLS with a certificate.

    `trusted_proxies`: addresses whose X-Forwarded-For is believed; by default nobody's, since allowed networks and
    the limit of failed attempts go by the caller's address. There is no access log: URLs can hold codes.
    """
    app = create_app(hub)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        timeout_graceful_shutdown=10,
        ssl_certfile=certificate or None,
        ssl_keyfile=key or None,
    )
    server = uvicorn.Server(config)
    # open streams would hold up the end
    app.state.pages.live.stopping = app.state.streams.stopping = lambda: server.should_exit
    hub.engine.start()
    try:
        server.run()
    finally:
        hub.engine.stop()
