"""The embedded engine: a bounded pool of threads, and a loop that finds in our own table what is due."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Protocol, Self

from keyturn.engine.sweep import Sweep, Sweeper, worker_name
from keyturn.executor.executor import Claim, Executor, Seen
from keyturn.model.ids import RunId
from keyturn.model.run import Run, RunState
from keyturn.storage import runs
from keyturn.storage.database import Store, Tx

LOOK_S = 1.0  # how late a run is found that another process made due
_TOGETHER_S = 0.05
_BATCH = 64
_WORST_PAUSE_S = 60.0


class Engine(Protocol):
    """Advances due runs. `wake` is the port through which others say that something may be due: a hint, never the
    truth."""

    def start(self) -> None:
        """Starts threads. Without it the engine only passes hints on."""

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Takes no new run, lets those in flight come to where they wait or end; False when time ran out first."""

    def wake(self, run_id: str, at: float) -> None:
        """A run may go on at `at`. Safe from any thread, after the commit that says so; never raises."""

    def seat(self) -> Seat:
        """For a `with` block: keeps a free thread for a run that is about to be started, if there is one; given back at
        the end unless the run was claimed."""

    def run_until(self, finished: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Blocks until `finished`, asked after every change; False when time ran out."""


@dataclass(frozen=True)
class _Ready:
    """A run that waits for a thread. `due_at`: None when it was only hinted at."""

    run_id: RunId
    due_at: float | None = None
    claim: Claim | None = None


class Seat:
    """A thread that waits for one run: what starts it claims it in the same transaction, so that no other need follow.

    `leave` gets the claim, or None, when the `with` block ends.
    """

    def __init__(self, executor: Executor | None, leave: Callable[[Claim | None], None]) -> None:
        self._executor, self._leave = executor, leave
        self.claimed: Claim | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave(self.claimed if kind is None else None)

    def claim(self, tx: Tx, run: Run, seen: Seen | None) -> Run:
        """As `Executor.claim`, for the thread: the run as it is to be stored, which is as given where no thread is free.
        The transaction may be run again."""
        self.claimed = self._executor.claim(tx, run, seen) if self._executor is not None else None
        if self.claimed is None:
            return run
        return replace(run, state=RunState.RUNNING, started_at=self.claimed.at)


def no_seat() -> Seat:
    """Where no thread is free."""
    return Seat(None, lambda _: None)


class Embedded:
    """Advances due runs with at most `threads` in flight, each run once at a time.

    `grace_s` leaves what is due to others for that long: the queue engine looks only for what its queue has lost.
    """

    def __init__(
        self,
        executor: Executor,
        store: Store,
        clock: Callable[[], float],
        threads: int = 8,
        *,
        sweep: Sweep | None = None,
        look_s: float = LOOK_S,
        grace_s: float = 0.0,
    ) -> None:
        self._executor, self._store, self._clock, self._size = executor, store, clock, threads
        self._sweep, self._sweeper = sweep, Sweeper(sweep) if sweep else None
        self._look_s, self._grace_s = look_s, grace_s
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)  # the looking thread waits here for a reason to look
        self._done = threading.Condition(self._lock)  # `run_until` waits here for a run to come to rest
        self._ready: SimpleQueue[_Ready | None] = SimpleQueue()  # None: nothing more comes
        self._seats = 0  # threads that are kept for runs about to be started
        self._busy: set[RunId] = set()  # ready or in flight
        self._again: set[RunId] = set()  # hinted at while in flight
        self._then: dict[RunId, list[Callable[[], None]]] = {}
        self._timers: list[tuple[float, RunId]] = []
        self._failed: dict[RunId, tuple[int, float]] = {}
        self._changes = 0  # a hint between looking and lying down must not be slept through
        self._look_at = math.inf
        self._more = False  # the last look did not see all that is due
        self._rested = False  # a run came to rest since the last look
        self._stopping = False
        self._threads: list[threading.Thread] = []

    # -- the port ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._threads:
            return
        if self._sweep is not None:
            self._sweep.at_start()
        names = {f"keyturn-run-{n}": self._serve for n in range(self._size)} | {"keyturn-due": self._look}
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in names.items()]
        for thread in self._threads:
            thread.start()
        if self._sweeper is not None:
            self._sweeper.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        until = time.monotonic() + timeout_s
        self.drain()
        if self._sweeper is not None:
            self._sweeper.stop(timeout_s)
        for thread in self._threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def wake(self, run_id: str, at: float) -> None:
        with self._lock:
            if run_id not in self._busy:
                self._failed.pop(RunId(run_id), None)  # somebody wants it tried now
            if at < self._look_at:
                self._look_soon()

    def run_until(self, finished: Callable[[], bool], timeout_s: float | None = None) -> bool:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not finished():
            if until is not None and time.monotonic() >= until:
                return False
            with self._lock:
                self._done.wait(timeout=0.2)
        return True

    def seat(self) -> Seat:
        with self._lock:
            if not self._threads or self._stopping or len(self._busy) + self._seats >= self._size:
                return no_seat()
            self._seats += 1
        return Seat(self._executor, self._leave_seat)

    def _leave_seat(self, claimed: Claim | None) -> None:
        with self._lock:
            self._seats -= 1
            if claimed is not None:
                self._add(_Ready(claimed.run.id, claim=claimed))

    # -- for the queue engine ------------------------------------------------------------------------------------

    def offer(self, run_id: RunId, then: Callable[[], None] | None = None) -> None:
        """Advances a run if it is due, as soon as a thread is free; `then` is called when that is over."""
        with self._lock:
            if not self._stopping:
                if then is not None:
                    self._then.setdefault(run_id, []).append(then)
                if run_id in self._busy:
                    self._again.add(run_id)
                else:
                    self._add(_Ready(run_id))
                return
        if then is not None:
            then()

    def offer_at(self, run_id: RunId, at: float) -> None:
        """Offers a run when its time has come, if this process is still there."""
        with self._lock:
            heapq.heappush(self._timers, (at, run_id))
            if at < self._look_at:
                self._look_soon()

    def is_busy(self, run_id: RunId) -> bool:
        """Whether this process has the run in hand; if so it will look at it once more afterwards."""
        with self._lock:
            if run_id not in self._busy:
                return False
            self._again.add(run_id)
            return True

    def drain(self) -> list[RunId]:
        """Takes nothing new from now on; the runs that were waiting for a thread."""
        with self._lock:
            self._stopping = True
            left = []
            for ready in self._take_ready():
                if ready.claim is None:
                    left.append(ready.run_id)
                else:  # its principal is taken
                    self._ready.put(ready)
            self._ready.put(None)
            self._busy.difference_update(left)
            then = [each for run_id in left for each in self._then.pop(run_id, [])]
            for condition in (self._change, self._done):
                condition.notify_all()
        for each in then:
            each()
        return left

    def _take_ready(self) -> list[_Ready]:
        """Everything that waits for a thread, out of the queue."""
        found: list[_Ready] = []
        with suppress(Empty):
            while True:
                ready = self._ready.get_nowait()
                if ready is not None:
                    found.append(ready)
        return found

    # -- looking -------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        self._changes += 1
        self._change.notify()

    def _look_together(self) -> None:
        """Runs that come to rest one after another share a look; the last one of all is looked behind at once."""
        if not self._busy:
            self._look_soon()
        elif not self._rested:
            self._rested = True
            if self._look_at is not math.inf:  # else it looks just now, and sees the mark when it has
                self._look_at = min(self._look_at, self._clock() + _TOGETHER_S)
                self._change.notify()

    def _look(self) -> None:
        while not self._stopping:
            with self._lock:
                changes, self._look_at, self._rested = self._changes, math.inf, False
                busy, room = set(self._busy), self._ready.qsize() < self._size
                self._fire_timers()
            pause = self._look_s
            if room:
                try:
                    pause = self._find(busy)
                except Exception:  # the store is ill, or a row is: the loop must outlive both
                    pause = self._look_s
            with self._lock:
                if self._timers:
                    pause = min(pause, max(0.0, self._timers[0][0] - self._clock()))
                if self._rested:
                    pause = min(pause, _TOGETHER_S)
                self._look_at = self._clock() + pause
                while self._changes == changes and not self._stopping and self._look_at > self._clock():
                    # not a moment before it is due
                    if not self._change.wait(timeout=self._look_at - self._clock() + 0.0005):
                        break

    def _find(self, busy: set[RunId]) -> float:
        """Puts what is due in front of the pool; how long nothing else will be. One read for both questions.

        `busy` was noted before reading: a run that comes to rest meanwhile was read as it is no longer.
        """
        if self._sweep is not None:
            self._sweep.import_spool()
        now = self._clock()
        limit = _BATCH + len(busy) + len(self._failed)

        def look(tx: Tx) -> tuple[list[tuple[RunId, float]], float | None]:
            due = runs.due(tx, now - self._grace_s, limit)
            row = tx.one("SELECT MIN(due_at) FROM run WHERE due_at > ?", now - self._grace_s)
            return due, row[0] if row else None

        found, next_at = self._store.read(look)
        with self._lock:
            self._more = len(found) >= limit
            for run_id, due_at in found:
                _, not_before = self._failed.get(run_id, (0, 0.0))
                if run_id not in busy and run_id not in self._busy and not_before <= time.monotonic():
                    self._add(_Ready(run_id, None if self._grace_s else due_at))
        wait = self._look_s if next_at is None else next_at + self._grace_s - now
        return min(self._look_s, max(0.001, wait))

    def _add(self, ready: _Ready) -> None:
        self._busy.add(ready.run_id)
        self._ready.put(ready)

    def _fire_timers(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            _, run_id = heapq.heappop(self._timers)
            if run_id in self._busy:
                self._again.add(run_id)
            else:
                self._add(_Ready(run_id))

    # -- the pool ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            ready = self._ready.get()
            if ready is None:
                self._ready.put(None)  # for the next thread; what came behind it is still done
                if self._ready.qsize() == 1:
                    return
                continue
            if self._more and self._ready.qsize() == self._size - 1:
                with self._lock:
                    self._look_soon()
            settled, again = self._advance(ready)
            self._rest(ready.run_id, settled=settled, again=again)

    def _advance(self, ready: _Ready) -> tuple[bool, bool]:
        """Whether the run got anywhere, and whether it is due again already. The thread outlives whatever happens.

        A hint may be stale (another worker was faster, or the run waits for something else by now), so it is checked.
        """
        run_id = ready.run_id
        try:
            before = ready.due_at
            if ready.claim is not None:
                before = ready.claim.run.due_at
            elif before is None:
                before = self._due_at(run_id)
            if before is None or before > self._clock():
                return True, False
            if self._executor.advance(run_id, ready.claim):
                return True, False
            after = self._due_at(run_id)
            return after != before, after is not None and after <= self._clock()
        except Exception:  # an ill store, a missing connector, our bug
            return False, False

    def _due_at(self, run_id: RunId) -> float | None:
        row = self._store.read(lambda tx: tx.one("SELECT due_at FROM run WHERE id = ?", run_id), alone=True)
        return row[0] if row else None

    def _rest(self, run_id: RunId, *, settled: bool, again: bool) -> None:
        """A run is out of hand. One that got nowhere is left alone for a while, longer each time, so that a defect or
        an ill store costs little; its row stays due and shows it."""
        with self._lock:
            self._busy.discard(run_id)
            tries = 0
            if settled:
                self._failed.pop(run_id, None)
            else:
                tries = min(12, self._failed.get(run_id, (0, 0.0))[0] + 1)
                self._failed[run_id] = (tries, time.monotonic() + min(_WORST_PAUSE_S, 0.02 * 2**tries))
            then = self._then.pop(run_id, [])
            if (run_id in self._again or again) and tries < 2 and not self._stopping:
                self._add(_Ready(run_id))
            self._again.discard(run_id)
            if (
                self._ready.qsize() < self._size
            ):  # another run of the same principal may have waited for this one
                self._look_together()
            self._done.notify_all()
        for each in then:
            each()


__all__ = ["Embedded", "Engine", "worker_name"]
