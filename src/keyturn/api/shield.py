"""The outermost layer: no exception, no oversized body and no missing header gets past it."""

from __future__ import annotations

from functools import cache

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyturn.api.problems import unexpected

MOST_BYTES = 1024 * 1024
STREAMED = "/api/v1/bulk/"  # counted where it is received, and written to disk as it comes
HEADERS = "keyturn.headers"  # of a request's scope: what the door has to say with whatever answer there is
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


@cache
def _raw(name: str) -> bytes:
    return name.lower().encode()


class Shield:
    """Plain ASGI: costs two closures per request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app; answers 500 without any text of the failure, since a log line would keep it for ever."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False
        size = 0
        most = float("inf") if scope["path"].startswith(STREAMED) else MOST_BYTES

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise HTTPException(413)  # FastAPI would turn any other exception here into a 400
            return message

        async def marked(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                there = {name.lower() for name, _ in message["headers"]}
                said = [(_raw(name), value.encode()) for name, value in scope.get(HEADERS, {}).items()]
                missing = [each for each in (*_HEADERS, *said) if each[0] not in there]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        try:
            await self._app(scope, counted, marked)
        except Exception as error:
            answer = unexpected(error)
            if not begun:
                await answer(scope, receive, marked)
