"""The product's rounds: runs are started for every connection, the embedded engine finishes them, all are checked."""

from __future__ import annotations

import threading
import time

import psycopg

from bench.floor import Loop
from bench.world import Product, engine
from keyturn.connectors.postgresql import scram_memo
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import leases, runs
from keyturn_lab.parts.postgres import PostgresCluster, Role


def run(made: Product, order: list[int], in_flight: int) -> Loop:
    """One round: as many callers as there may be in flight, each starts a run, waits for its end and starts the next,
    as the bare loop and the peer do. Each rotation's time is from the start to the end, waiting for a worker included.

    Raises: AssertionError when a run is anything but COMPLETE with the old value known dead.
    """
    scram_memo._memo.clear()  # noqa: SLF001 - a real hub rotates a role every few weeks, not every minute
    todo, lock = iter(order), threading.Lock()
    started: list[str] = []
    each_s: list[float] = []
    failures: list[BaseException] = []
    with engine(made.hub, in_flight) as (hub, timed):

        def rotate() -> None:
            try:
                while True:
                    with lock:
                        index = next(todo, None)
                    if index is None:
                        return
                    began = time.perf_counter()
                    run_id = runs.start(hub, made.names[index], Goal.ROTATE).id
                    started.append(run_id)
                    timed.wait_for(run_id)
                    each_s.append(time.perf_counter() - began)
            except BaseException as error:
                failures.append(error)

        callers = [threading.Thread(target=rotate) for _ in range(in_flight)]
        began = time.perf_counter()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        seconds = time.perf_counter() - began
    if failures:
        raise failures[0]
    _check(made, started)
    return Loop(seconds, tuple(each_s))


def _check(made: Product, ids: list[str]) -> None:
    for run_id in ids:
        found = runs.get(made.hub, run_id)
        state = (found.state, found.proof)
        assert state == (RunState.COMPLETE, "D1"), f"{state}: {found.waiting_for or found.outcome}"


def spot_check(made: Product, target: PostgresCluster, order: list[int]) -> int:
    """Logs in with a driver of its own: what the hub serves is accepted, what the role began with is not."""
    for index in order:
        held = leases.resolve(made.hub, made.names[index])
        role = made.roles[index]
        psycopg.connect(target.dsn(role=Role(role.name, held.material["password"]))).close()
        assert not target.accepts(role), f"the first password of {role.name} still works"
    return len(order)
