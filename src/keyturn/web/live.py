"""Live pages: an event stream that says only that something changed. What changed is fetched as the page itself is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from keyturn.errors import Conflict
from keyturn.operations import overview, sessions
from keyturn.web.site import Site, Visit

LOOK_S, STILL_S, CHECK_S, LONGEST_S = 0.5, 15.0, 20.0, 600.0
_MOST, _MOST_EACH = 256, 12


class Live:
    """The streams of one process. However many look at the same thing, the database is asked twice a second."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str]] = {}
        self._open: dict[str, int] = {}
        self.stopping: Callable[[], bool] = lambda: False

    def pulse(self, run_id: str = "") -> str:
        """What the page shows now, as a short text to compare."""
        now = time.monotonic()
        with self._lock:
            at, found = self._known.get(run_id, (0.0, ""))
            if now - at < LOOK_S / 2:
                return found
        found = overview.pulse(self._site.hub, run_id)
        with self._lock:
            self._known[run_id] = (now, found)
            if len(self._known) > _MOST:
                self._known = {run_id: (now, found)}
        return found

    def hub(self, it: Visit) -> Response:
        """Something changed somewhere."""
        return self._stream(it, "")

    def run(self, it: Visit, run_id: str) -> Response:
        """Something changed in this run."""
        it.run(run_id)
        return self._stream(it, run_id)

    def _stream(self, it: Visit, run_id: str) -> Response:
        key = it.session.digest
        with self._lock:
            if self._open.get(key, 0) >= _MOST_EACH or sum(self._open.values()) >= _MOST:
                raise Conflict(
                    "too many live pages are open", hint="Close some tabs, then load this one again."
                )
        seen = it.request.headers.get("last-event-id") or it.asked("seen")
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        return StreamingResponse(
            self._events(key, it.cookie, run_id, seen), media_type="text/event-stream", headers=headers
        )

    async def _events(self, key: str, cookie: str, run_id: str, seen: str) -> AsyncIterator[str]:
        began = said = checked = time.monotonic()
        with self._lock:
            self._open[key] = self._open.get(key, 0) + 1
        try:
            yield "retry: 2000\n\n"
            while not self.stopping() and time.monotonic() - began < LONGEST_S:
                found, now = await run_in_threadpool(self.pulse, run_id), time.monotonic()
                if found != seen:
                    seen, said = found, now
                    yield f"id: {found}\nevent: changed\ndata: {found}\n\n"
                elif now - said > STILL_S:
                    said = now
                    yield ": still here\n\n"
                if now - checked > CHECK_S:
                    checked = now
                    if await run_in_threadpool(sessions.who, self._site.hub, cookie, touch=False) is None:
                        yield "event: over\ndata: signed out\n\n"
                        return
                await asyncio.sleep(LOOK_S)
        finally:
            with self._lock:
                left = self._open.get(key, 1) - 1
                if left:
                    self._open[key] = left
                else:
                    self._open.pop(key, None)
