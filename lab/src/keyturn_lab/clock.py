"""The lab's own time: it ticks like real time and can be pushed forward; nothing here knows a vendor."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


class Clock:
    """Time a test can push forward, so ninety days of idling take no time at all. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset_s = 0.0
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []

    def now(self) -> float:
        """Unix seconds as this lab sees them."""
        with self._lock:
            return time.time() + self._offset_s

    def moment(self) -> datetime:
        """The same instant as an aware UTC datetime."""
        return datetime.fromtimestamp(self.now(), tz=UTC)

    def advance(self, seconds: float) -> None:
        """Move time forward; what became due runs before this returns."""
        if seconds < 0:
            raise ValueError("the lab clock only moves forward")
        with self._lock:
            self._offset_s += seconds
        self._run_due()

    def call_later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Run `action` once `delay_s` of lab time have passed, by waiting or by `advance`."""
        with self._lock:
            due_at = time.time() + self._offset_s + delay_s
            heapq.heappush(self._waiting, (due_at, next(self._order), action))
        # Timers may fire a hair early; the small extra keeps the action from being missed.
        timer = threading.Timer(delay_s + 0.01, self._run_due)
        timer.daemon = True
        timer.start()

    def reset(self) -> None:
        """Return to real time and forget what was waiting."""
        with self._lock:
            self._offset_s = 0.0
            self._waiting.clear()

    def _run_due(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._waiting[0][0] > time.time() + self._offset_s:
                    return
                _, _, action = heapq.heappop(self._waiting)
            action()


@dataclass
class Lifespan:
    """From when until when a vendor accepts a credential; both edges lag behind the human's click."""

    from_at: float
    until_at: float | None = None

    def holds(self, now: float) -> bool:
        """Whether a login at `now` would be accepted."""
        return self.from_at <= now and (self.until_at is None or now < self.until_at)

    def is_doomed(self) -> bool:
        """Whether it was already told to end, even if it lingers."""
        return self.until_at is not None

    def end(self, at: float) -> None:
        """End it at `at`; an earlier end already set stays."""
        if self.until_at is None or at < self.until_at:
            self.until_at = at
