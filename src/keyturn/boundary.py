"""The two things every layer must respect: no network inside a transaction, and places where a crash may strike.

`reach` marks an instant between two effects. In production nobody listens and it costs one comparison; the fault
matrix listens and kills the process there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keyturn.errors import CallInsideTransaction


class _Thread(threading.local):
    transactions = 0


_thread = _Thread()
_listener: Callable[[str], None] | None = None


@contextmanager
def transaction() -> Iterator[None]:
    """Marks the current thread as holding an open database transaction."""
    _thread.transactions += 1
    try:
        yield
    finally:
        _thread.transactions -= 1


def leaving(target: str) -> None:
    """Called by every transport door before bytes leave the process.

    Raises: CallInsideTransaction, in production too: a remote effect must never hang on a commit that may fail.
    """
    if _thread.transactions:
        raise CallInsideTransaction(
            f"network call to {target} inside a database transaction",
            hint="This is a defect in Keyturn; the call was not made.",
        )


def reach(place: str) -> None:
    """Marks a place where a crash must lose nothing."""
    if _listener is not None:
        _listener(place)


def listen(listener: Callable[[str], None] | None) -> None:
    """Installs the fault matrix's listener; None removes it."""
    global _listener  # noqa: PLW0603 - one per process by nature, like a signal handler
    _listener = listener
