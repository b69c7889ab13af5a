"""The embedded engine: a loop over due rows and a bounded pool of threads, in this process."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from keyturn.errors import StoreUnavailable
from keyturn.executor.executor import Executor
from keyturn.model.ids import RunId
from keyturn.storage import runs
from keyturn.storage.database import Store, Tx

_SWEEP_S = 1.0
_BATCH = 64


class Embedded:
    """Advances due runs with at most `threads` in flight. `wake` is the port: a hint, never the truth."""

    def __init__(
        self, executor: Executor, store: Store, clock: Callable[[], float], threads: int = 8
    ) -> None:
        self._executor, self._store, self._clock, self._size = executor, store, clock, threads
        self._changed = threading.Condition()
        self._ready: deque[RunId] = deque()
        self._busy: set[RunId] = set()
        self._wake_at = 0.0
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the loop and the pool."""
        free_dead_holders(self._store)
        self._threads = [
            threading.Thread(target=self._work, name=f"keyturn-run-{n}", daemon=True)
            for n in range(self._size)
        ]
        self._threads.append(threading.Thread(target=self._look, name="keyturn-due", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Lets runs in flight reach their next barrier, then ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def wake(self, run_id: str, at: float) -> None:  # noqa: ARG002 - a queue would need the id
        """Something may be due at `at`."""
        with self._changed:
            self._wake_at = min(self._wake_at, at)
            self._changed.notify_all()

    def run_until(self, finished: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Blocks until `finished`, looking after every change. False on time-out."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not finished():
            if until is not None and time.monotonic() >= until:
                return False
            with self._changed:
                self._changed.wait(timeout=0.2)
        return True

    def _look(self) -> None:
        swept = time.monotonic()
        while not self._stopping:
            with self._changed:
                room = len(self._ready) < self._size
            now = self._clock()
            found: list[RunId] = []
            next_at: float | None = None
            if room:
                with suppress(StoreUnavailable):
                    limit = _BATCH + len(self._busy)
                    found = [run_id for run_id, _ in self._store.read(lambda tx: runs.due(tx, now, limit))]  # noqa: B023
                    next_at = self._store.read(runs.next_due)
            with self._changed:
                fresh = [r for r in found if r not in self._busy]
                for run_id in fresh:
                    self._busy.add(run_id)
                    self._ready.append(run_id)
                if fresh:
                    self._changed.notify_all()
                pause = _SWEEP_S if next_at is None or fresh else min(_SWEEP_S, max(0.002, next_at - now))
                if len(self._ready) >= self._size:
                    pause = _SWEEP_S
                elif fresh:
                    pause = 0.0
                self._wake_at = now + pause
                if pause and not self._stopping:
                    self._changed.wait(timeout=pause)
            if time.monotonic() - swept > 10 * _SWEEP_S:
                swept = time.monotonic()
                with suppress(StoreUnavailable):
                    free_dead_holders(self._store)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ready and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                run_id = self._ready.popleft()
                if len(self._ready) < self._size // 2:
                    self._changed.notify_all()
            try:
                self._executor.advance(run_id)
            except StoreUnavailable:
                time.sleep(0.2)  # the store is ill; the run is still due and is found again
            finally:
                with self._changed:
                    self._busy.discard(run_id)
                    self._changed.notify_all()


def worker_name() -> str:
    """`host/pid/started`: unique for ever, and tells on the same host whether its process still lives."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def free_dead_holders(store: Store) -> None:
    """Ends the leases of processes of this host that are gone, instead of waiting for them to run out."""
    host = socket.gethostname()

    def work(tx: Tx) -> None:
        rows = tx.all("SELECT DISTINCT holder FROM principal WHERE lease_until > 0 AND holder <> ''")
        for (holder,) in rows:
            parts = str(holder).split("/")
            if len(parts) == 3 and parts[0] == host and _started(int(parts[1])) != parts[2]:  # noqa: PLR2004
                tx.run("UPDATE principal SET lease_until = 0 WHERE holder = ?", holder)

    store.write(work)


def _started(pid: int) -> str:
    """When a process of this host started, in kernel ticks; empty when it is gone (or is a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
