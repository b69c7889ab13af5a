"""The product's rounds: runs are started for every connection, the embedded engine finishes them, all are checked."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from bench.floor import Loop
from bench.world import Product, engine
from keyturn.connectors.postgresql import scram_memo
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import leases, runs
from keyturn.storage import runs as run_rows
from keyturn_lab.parts.postgres import PostgresCluster, Role


def run(made: Product, order: list[int], in_flight: int) -> Loop:
    """One round. The time runs from the first start to the last completion; each run's is start plus execution.

    Raises: AssertionError when a run is anything but COMPLETE with the old value known dead.
    """
    scram_memo._memo.clear()  # noqa: SLF001 - a real hub rotates a role every few weeks, not every minute
    with engine(made.hub, in_flight) as (hub, timed):
        starting: dict[str, float] = {}

        def start(index: int) -> None:
            asked = time.perf_counter()
            started = runs.start(hub, made.names[index], Goal.ROTATE)
            starting[started.id] = time.perf_counter() - asked

        began = time.perf_counter()
        # As many callers as there may be runs in flight: one alone would wait for the disk once for each start, and
        # that would be measured instead.
        with ThreadPoolExecutor(in_flight) as callers:
            list(callers.map(start, order))
        # Asked after every change: so first what costs nothing.
        finished = hub.engine.run_until(
            lambda: len(timed.ended_at) >= len(order) and not hub.store.read(run_rows.unfinished),
            timeout_s=120,
        )
        seconds = max(timed.ended_at) - began
    assert finished, "the runs did not end"
    _check(made, list(starting))
    return Loop(seconds, tuple(timed.took[each] + starting[each] for each in starting))


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
