"""`keyturn worker`: the engine until a signal says stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Protocol

from keyturn.engine.embedded import Engine

_LOOK_S = 0.5  # the kernel may hand a signal to another thread; this one then notices only when it runs again
GRACE_S = 60.0  # longer than any call with its receipt; a supervisor may kill sooner, that is a crash like any other


class Hub(Protocol):
    """What there is to run and to close."""

    @property
    def engine(self) -> Engine:
        """The engine."""

    def close(self) -> None:
        """Ends threads and connections."""


def run(hub: Hub, *, grace_s: float = GRACE_S) -> bool:
    """Works until SIGTERM or SIGINT, then lets the runs in flight come to rest; False when time ran out first.

    A run in flight goes on to where it waits or ends, so a call that was sent always gets its receipt. A second signal
    ends at once, as a crash would: every run is picked up again from its journal.
    """
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        hub.engine.start()
        while not stop.wait(_LOOK_S):
            pass
        return hub.engine.stop(grace_s)
    finally:
        hub.close()
        for number, handler in before.items():
            signal.signal(number, handler)
