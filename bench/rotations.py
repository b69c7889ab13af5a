"""The product's rounds: runs are started for every connection, the embedded engine finishes them, all are checked."""

from __future__ import annotations

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
    """One round: a caller keeps so many in flight, it starts the next run whenever one came to rest. Each rotation's time
    is from before its start to its end, waiting for a worker included.

    Raises: AssertionError when a run is anything but COMPLETE with the old value known dead.
    """
    scram_memo._memo.clear()  # noqa: SLF001 - a real hub rotates a role every few weeks, not every minute
    todo = iter(order)
    began_at: dict[str, float] = {}
    each_s: list[float] = []
    with engine(made.hub, in_flight) as (hub, timed):

        def start_next() -> None:
            index = next(todo, None)
            if index is not None:
                began = time.perf_counter()
                began_at[runs.start(hub, made.names[index], Goal.ROTATE).id] = began

        began = time.perf_counter()
        for _ in range(in_flight):
            start_next()
        while len(each_s) < len(order):
            run_id, ended = timed.next_at_rest()
            each_s.append(ended - began_at[run_id])
            start_next()
        seconds = time.perf_counter() - began
    _check(made, list(began_at))
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
