"""The queue engine, for several workers on PostgreSQL: Procrastinate carries run ids. Its only importer.

A queue row holds a run's id and nothing else, and is only a hint: whoever gets it looks in our own table whether the run
is due. Rows that are lost, doubled or stale therefore cost a look and nothing more, and no queue row is ever repaired:
jobs of dead workers are dropped, finished ones deleted, and a worker with free threads finds overdue runs by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import procrastinate
from procrastinate import exceptions, jobs
from procrastinate.schema import SchemaManager
from procrastinate.worker import Worker

from keyturn.engine.embedded import LOOK_S, Embedded, Seat
from keyturn.engine.sweep import Sweep
from keyturn.executor.executor import Executor
from keyturn.model.ids import RunId
from keyturn.storage.database import Store

NAME, TASK = "keyturn", "keyturn.advance"
NEAR_S = (
    5.0  # a shorter wait stays in this process; should it die, the others find the run when the grace is over
)
GRACE_S = 5.0  # how long overdue runs are left to the queue
POLL_S = 2.0  # for scheduled rows: only new ones are notified
STALLED_S = 30.0
_ADVISORY_LOCK = 7236178  # beside the one of our own migrations
logging.getLogger("procrastinate").setLevel(
    logging.CRITICAL
)  # its tracebacks tell nothing that the sweep does not mend


class Queue:
    """The same pool of threads as `Embedded`, fed by hints from every process."""

    def __init__(
        self,
        executor: Executor,
        store: Store,
        clock: Callable[[], float],
        url: str,
        threads: int = 8,
        *,
        sweep: Sweep | None = None,
        near_s: float = NEAR_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self._executor, self._clock, self._threads = executor, clock, threads
        self._near_s = near_s
        self._pool = Embedded(
            executor, store, clock, threads, sweep=sweep, look_s=max(LOOK_S, grace_s / 2), grace_s=grace_s
        )
        self._arguments: dict[str, Any] = {
            "conninfo": url,
            "kwargs": {"options": f"-c search_path={schema_name()}"},
        }
        self._sender: procrastinate.App | None = None
        self._send_lock = threading.Lock()
        self._silent_until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    # -- the port ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._thread is not None:
            return
        self._pool.start()
        self._thread = threading.Thread(target=self._serve, name="keyturn-queue", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        until = time.monotonic() + timeout_s
        self._stopping = True
        for run_id in self._pool.drain():
            self._send(run_id, 0.0)  # for the others
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        ended = self._pool.stop(max(0.0, until - time.monotonic()))
        if self._sender is not None:
            self._sender.close()
        return ended

    def wake(self, run_id: str, at: float) -> None:
        now, run = self._clock(), RunId(run_id)
        if self._thread is not None and not self._stopping:
            if at <= now and self._pool.is_busy(run):
                return
            if now < at <= now + self._near_s:
                self._pool.offer_at(run, at)
                return
        self._send(run, at)

    def seat(self) -> Seat:
        return self._pool.seat()

    def run_until(self, finished: Callable[[], bool], timeout_s: float | None = None) -> bool:
        return self._pool.run_until(finished, timeout_s)

    # -- sending hints -------------------------------------------------------------------------------------------

    def _send(self, run_id: RunId, at: float) -> None:
        """Defers the id; the same hint twice is one row. What goes wrong is left to the sweep.

        A scheduled row must not keep an immediate one out, so the time is part of its queueing lock.
        """
        if time.monotonic() < self._silent_until:
            return
        later = at > self._clock()
        try:
            self._open_sender().configure_task(
                TASK,
                allow_unknown=True,
                queue=NAME,
                queueing_lock=f"{run_id}@{at:.0f}" if later else run_id,
                schedule_at=datetime.fromtimestamp(at, UTC) if later else None,
                priority=0 if later else 1,
            ).defer(run_id=run_id)
        except exceptions.AlreadyEnqueued:
            pass
        except Exception:
            self._silent_until = (
                time.monotonic() + GRACE_S
            )  # no caller waits for a queue that does not answer

    def _open_sender(self) -> procrastinate.App:
        with self._send_lock:
            if self._sender is None:
                connector = procrastinate.SyncPsycopgConnector(
                    **self._arguments, min_size=1, max_size=4, timeout=2.0
                )
                app = procrastinate.App(connector=connector)
                app.open()
                apply_schema(connector)
                self._sender = app
            return self._sender

    # -- receiving hints -----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.run(self._receive())

    async def _receive(self) -> None:
        """Procrastinate's worker is asyncio: it lives in this thread and only hands ids to the pool."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        while not self._stopping:
            with suppress(
                Exception
            ):  # the database is away, or the schema may not be made: the sweep goes on alone
                await asyncio.to_thread(self._open_sender)
                await self._listen(self._stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.0 if self._stopping else POLL_S)

    async def _listen(self, stop: asyncio.Event) -> None:
        app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(**self._arguments, min_size=1, max_size=4)
        )
        app.task(name=TASK, queue=NAME)(self._advance)
        async with app.open_async():
            worker = Worker(
                app,
                queues=[NAME],
                concurrency=self._threads,
                fetch_job_polling_interval=POLL_S,
                abort_job_polling_interval=3600.0,
                delete_jobs="always",
                install_signal_handlers=False,
            )
            working = asyncio.create_task(worker.run())  # type: ignore[no-untyped-call]
            stopped = asyncio.create_task(stop.wait())
            dropper = asyncio.create_task(_drop_stalled(app))
            await asyncio.wait({working, stopped, dropper}, return_when=asyncio.FIRST_COMPLETED)
            # Asked, not cancelled: a cancellation can get lost in a call that it makes while it starts, and it would work
            # on for ever. It waits for the jobs in hand.
            worker.stop()  # type: ignore[no-untyped-call]
            for task in (dropper, stopped):
                task.cancel()
            await asyncio.gather(stopped, working, return_exceptions=True)
            await asyncio.wait({dropper}, timeout=1.0)  # its cancellation can get lost in a call, too
            if dropper.done() and not dropper.cancelled():
                dropper.exception()  # seen: the next round tries again

    async def _advance(self, run_id: str) -> None:
        """One job: over when the pool has dealt with the run, so that a worker takes no more than it has threads."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self._pool.offer(RunId(run_id), lambda: _tell(loop, done))
        await done.wait()


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is gone: nobody waits
        loop.call_soon_threadsafe(done.set)


async def _drop_stalled(app: procrastinate.App) -> None:
    """Deletes what dead workers had in hand: the run itself is found due in our table when its lease ends."""
    while True:
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
            await app.job_manager.finish_job(job, status=jobs.Status.FAILED, delete_job=True)
        await asyncio.sleep(STALLED_S)


def schema_name() -> str:
    """Named after the SQL it was made with: another release of Procrastinate makes its own beside it, so nothing is
    ever migrated. Any of them may be dropped at any time."""
    return f"keyturn_queue_{hashlib.sha256(SchemaManager.get_schema().encode()).hexdigest()[:8]}"


def apply_schema(connector: Any) -> None:
    """Makes the queue's tables where there are none. Two processes at once: the second waits."""
    with connector.pool.connection() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        name = schema_name()
        there = connection.execute("SELECT to_regclass(%s)", [f"{name}.procrastinate_jobs"]).fetchone()
        if there[0] is None:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
            connection.execute(SchemaManager.get_schema())
