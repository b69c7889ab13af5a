"""Administrator sessions, used again between calls and threads, and given up when they are old or idle."""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from keyturn import boundary
from keyturn.errors import VendorUnavailable
from keyturn.transport.sql.conninfo import Login
from keyturn.transport.sql.fresh import login
from keyturn.transport.sql.session import Session

IDLE_S = 60.0
LIFE_S = 600.0
PER_LOGIN = 8  # sessions at one server as one role: administrators share a server with everybody else
_Key = tuple[Any, ...]


@dataclass
class _Shelf:
    idle: list[tuple[Session, float, float]] = field(default_factory=list)  # session, born, idle since
    out: int = 0


class _Pool:
    """Sessions by (server, role, fingerprint of the password): a rotated password never meets an old session."""

    def __init__(self) -> None:
        self._shelves: dict[_Key, _Shelf] = {}
        self._changed = threading.Condition()
        self._reaper: threading.Timer | None = None
        self._pepper = os.urandom(32)

    @contextmanager
    def session(self, params: Login) -> Iterator[Session]:
        boundary.leaving(params.host)
        until = time.monotonic() + params.deadline_s
        key = self._key(params)
        taken, born = self._take(key, params, until)
        try:
            taken = taken or login(params)
            taken.until = until
            yield taken
        finally:
            self._give_back(key, taken, born)

    def close(self) -> None:
        """Ends every idle session."""
        self._reap(everything=True)

    def _key(self, params: Login) -> _Key:
        print_ = hmac.digest(self._pepper, params.password.reveal().encode(), "sha256")
        return (params.host, params.port, params.user, params.database, params.sslmode, params.ca, print_)

    def _take(self, key: _Key, params: Login, until: float) -> tuple[Session | None, float]:
        with self._changed:
            shelf = self._shelves.setdefault(key, _Shelf())
            while shelf.out >= PER_LOGIN:
                if not self._changed.wait(max(until - time.monotonic(), 0)):
                    raise VendorUnavailable(
                        f"all administrator sessions at {params.host} are busy", host=params.host, code="busy"
                    )
                shelf = self._shelves.setdefault(key, _Shelf())
            shelf.out += 1
            found, born = None, time.monotonic()
            while shelf.idle and found is None:
                found, born, since = shelf.idle.pop()
                if not found.is_usable() or _is_stale(born, since):
                    found.close()
                    found, born = None, time.monotonic()
            return found, born

    def _give_back(self, key: _Key, taken: Session | None, born: float) -> None:
        with self._changed:
            shelf = self._shelves[key]
            shelf.out -= 1
            if taken is not None and taken.is_usable():
                shelf.idle.append((taken, born, time.monotonic()))
                self._schedule()
            elif taken is not None:
                taken.close()
            self._changed.notify_all()

    def _schedule(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(IDLE_S, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self, *, everything: bool = False) -> None:
        with self._changed:
            if self._reaper is not None:
                self._reaper.cancel()
            self._reaper = None
            for key, shelf in list(self._shelves.items()):
                stale = [e for e in shelf.idle if everything or _is_stale(e[1], e[2])]
                for entry in stale:
                    shelf.idle.remove(entry)
                    entry[0].close()
                if not shelf.idle and not shelf.out:
                    del self._shelves[key]
            if any(shelf.idle for shelf in self._shelves.values()):
                self._schedule()


def _is_stale(born: float, since: float) -> bool:
    now = time.monotonic()
    return now - since >= IDLE_S or now - born >= LIFE_S


_pool = _Pool()


def admin(params: Login) -> AbstractContextManager[Session]:
    """A session of an administrator, reused between calls and threads. Never for a proof: it proves only the pool.

    Raises: like `login`, and VendorUnavailable when all sessions stay busy until the deadline.
    """
    return _pool.session(params)


def close_idle() -> None:
    """Ends every pooled session that nobody uses: at shutdown, and after an administrator was rotated."""
    _pool.close()
