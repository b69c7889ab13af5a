"""The stream of changes: server-sent events of runs, tasks and debts, resumed by the last event's number."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from keyturn.api.calls import Caller, Calls, Visit
from keyturn.api.door import Door
from keyturn.api.problems import Refused
from keyturn.errors import Conflict, KeyturnError
from keyturn.operations import notices, rights
from keyturn.operations.rights import Operation
from keyturn.storage.notices import Notice

calls = Calls("events")
EVENTS = "text/event-stream"
LOOK_S, STILL_S, CHECK_S, LONGEST_S = 0.5, 15.0, 20.0, 3600.0
_MOST, _MOST_EACH = 256, 12


@dataclass
class Streams:
    """The open streams of one process. However many there are, the head is looked at twice a second."""

    stopping: Callable[[], bool] = lambda: False
    open: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: tuple[float, int] = (0.0, 0)

    def enter(self, who: str) -> None:
        """Raises: Conflict when there are too many."""
        with self.lock:
            if self.open.get(who, 0) >= _MOST_EACH or sum(self.open.values()) >= _MOST:
                raise Conflict("too many streams are open", hint="One is enough for everything.")
            self.open[who] = self.open.get(who, 0) + 1

    def leave(self, who: str) -> None:
        """One stream less."""
        with self.lock:
            left = self.open.get(who, 1) - 1
            self.open.pop(who, None)
            if left:
                self.open[who] = left

    def head(self, it: Visit) -> int:
        """The number of the latest notice."""
        now = time.monotonic()
        with self.lock:
            at, number = self.known
            if now - at < LOOK_S / 2:
                return number
        number = notices.latest(it.site)
        with self.lock:
            self.known = (now, number)
        return number


@calls.get(
    "/stream",
    Operation.HUB_READ,
    "Changes of runs, tasks and debts, as they happen",
    example='id: 17\nevent: run.done\ndata: {"type":"run.done","timestamp":"2026-11-23T10:00:00.000Z","data":{}}\n\n',
    media=EVENTS,
    problems=(409,),
)
def stream(it: Caller, request: Request) -> Response:
    """Server-sent events: `id` is a number, `event` a topic, `data` what a webhook would carry. With `Last-Event-ID` it goes
    on behind that number; the event `reset` says that something before it is not kept any more: read everything anew."""
    streams: Streams = request.app.state.streams
    door: Door = request.app.state.door
    asked = request.headers.get("last-event-id", "")
    begin, is_reset = _begin(it, asked)
    streams.enter(it.who.id)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(
        _told(it, request, streams, door, begin, is_reset=is_reset), media_type=EVENTS, headers=headers
    )


def _begin(it: Visit, asked: str) -> tuple[int, bool]:
    """From where to tell, and whether something before it is lost."""
    if not asked:
        return notices.latest(it.site), False
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 16 else -1
    if notices.is_kept(it.site, number):
        return number, False
    return notices.latest(it.site), True


async def _told(
    it: Visit, request: Request, streams: Streams, door: Door, number: int, *, is_reset: bool
) -> AsyncIterator[str]:
    began = said = checked = time.monotonic()
    try:
        yield f"retry: 2000\nid: {number}\n" + ("event: reset\ndata: {}\n\n" if is_reset else ": here\n\n")
        while not streams.stopping() and time.monotonic() - began < LONGEST_S:
            now = time.monotonic()
            if await run_in_threadpool(streams.head, it) > number:
                found, number = await run_in_threadpool(notices.after, it.site, number, it.projects())
                said = now if found else said
                for each in found:
                    yield _event(each)
                if found:
                    continue
            if now - said > STILL_S:
                said = now
                yield f"id: {number}\n: still here\n\n"
            if now - checked > CHECK_S:
                checked = now
                if not await run_in_threadpool(_is_let_in, it, request, door):
                    yield "event: over\ndata: {}\n\n"
                    return
            await asyncio.sleep(LOOK_S)
    finally:
        streams.leave(it.who.id)


def _is_let_in(it: Visit, request: Request, door: Door) -> bool:
    """Whether the credential still opens this; the roles of now count from here on."""
    with suppress(Refused, KeyturnError):
        it.who = door.who(request)
        return rights.may_somewhere(it.who, it.operation)
    return False


def _event(each: Notice) -> str:
    body = json.dumps(notices.payload(each), separators=(",", ":"))
    return f"id: {each.number}\nevent: {each.topic}\ndata: {body}\n\n"
