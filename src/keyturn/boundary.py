"""The two things every layer must respect: no network inside a transaction, and places where a crash may strike.

`reach` marks an instant between two effects. In production nobody listens and it costs one comparison; the fault
matrix listens and kills the process there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from keyturn.errors import CallInsideTransaction


class _Thread(threading.local):
    transactions = 0


_thread = _Thread()
_listener: Callable[[str], None] | None = None


class _Transaction:
    def __enter__(self) -> None:
        _thread.transactions += 1

    def __exit__(self, *_: object) -> None:
        _thread.transactions -= 1


_transaction = _Transaction()


def transaction() -> AbstractContextManager[None]:
    """Marks the current thread as holding an open database transaction."""
    return _transaction


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
