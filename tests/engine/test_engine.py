"""What every engine promises, on every store."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.engine.embedded import Embedded, no_seat
from keyturn.engine.queue import Queue
from keyturn.executor.executor import Claim
from keyturn.model.ids import RunId
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import runs
from keyturn.storage import runs as rows
from tests.engine import noop

Connected = Callable[[int], list[str]]


def finished(hub: Keyturn) -> bool:
    return hub.store.read(rows.unfinished) == 0


def pool_of(hub: Keyturn) -> Embedded:
    return hub.engine._pool if isinstance(hub.engine, Queue) else hub.engine


def test_every_store_has_its_engine(hub: Keyturn, kind: str) -> None:
    """PostgreSQL gets the queue where Procrastinate is installed, and works without it."""
    assert type(hub.engine) is (Queue if kind == "queue" else Embedded)


def test_queued_runs_are_done(hub: Keyturn, connected: Connected) -> None:
    """Runs queued before and after the start are all done, each with one effect."""
    names = connected(8)
    made = [runs.start(hub, name, Goal.ROTATE).id for name in names[:4]]
    hub.engine.start()
    made += [runs.start(hub, name, Goal.ROTATE).id for name in names[4:]]
    assert hub.engine.run_until(lambda: finished(hub), 20)
    assert {runs.get(hub, each).state for each in made} == {RunState.COMPLETE}


def test_one_effect_each(hub: Keyturn, connected: Connected, vendor: noop.Vendor) -> None:
    """No principal's value is set twice."""
    for name in connected(20):
        runs.start(hub, name, Goal.ROTATE)
    hub.engine.start()
    assert hub.engine.run_until(lambda: finished(hub), 20)
    assert {len(values) for values in vendor.values.values()} == {2}


def test_a_hint_is_acted_on_at_once(
    hub: Keyturn, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake between two looks, or during one, is not slept through: no run waits for the periodic look, which here
    would come in an hour."""
    names, pool = connected(30), pool_of(hub)
    pool._look_s = 3600.0
    monkeypatch.setattr(pool, "seat", no_seat)
    hub.engine.start()
    for name in names:
        runs.start(hub, name, Goal.ROTATE)
        assert hub.engine.run_until(lambda: finished(hub), 60)


def test_without_a_hint_the_table_is_enough(
    hub: Keyturn, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose hint was lost is found by looking at our own table."""
    (name,) = connected(1)
    hub.engine.start()
    monkeypatch.setattr(pool_of(hub), "seat", no_seat)
    monkeypatch.setattr(hub.engine, "wake", lambda _run, _at: None)
    run = runs.start(hub, name, Goal.ROTATE)
    assert hub.engine.run_until(lambda: runs.get(hub, run.id).state is RunState.COMPLETE, 15)


def test_a_run_in_flight_costs_no_looking(
    hub: Keyturn, connected: Connected, vendor: noop.Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a vendor is slow its run is due all the time, and the loop does not spin over that."""
    (name,) = connected(1)
    called, answer = threading.Event(), threading.Event()
    put = vendor.set

    def slow(*given: object) -> None:
        called.set()
        answer.wait(10)
        put(*given)

    monkeypatch.setattr(vendor, "set", slow)
    hub.engine.start()
    runs.start(hub, name, Goal.ROTATE)
    assert called.wait(5)
    looks, read = [], hub.store.read
    monkeypatch.setattr(hub.store, "read", lambda work: (looks.append(1), read(work))[1])
    time.sleep(1.5)
    answer.set()
    assert len(looks) < 10
    assert hub.engine.run_until(lambda: finished(hub), 10)


def test_stop_lets_a_call_come_back(
    hub: Keyturn, connected: Connected, vendor: noop.Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run in flight goes on to its end while the engine stops; runs behind it stay due."""
    names = connected(12)
    called, answer = threading.Event(), threading.Event()
    put = vendor.set

    def slow(*given: object) -> None:
        called.set()
        answer.wait(10)
        put(*given)

    monkeypatch.setattr(vendor, "set", slow)
    made = [runs.start(hub, name, Goal.ROTATE).id for name in names]
    hub.engine.start()
    assert called.wait(5)
    time.sleep(0.5)
    threading.Timer(0.3, answer.set).start()
    assert hub.engine.stop(20)
    states = [runs.get(hub, each).state for each in made]
    assert set(states) <= {RunState.COMPLETE, RunState.QUEUED}
    assert states.count(RunState.COMPLETE) == pool_of(hub)._size


def test_a_defect_costs_neither_the_thread_nor_the_processor(
    hub: Keyturn, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose advance raises is tried again after longer and longer pauses, and the others go on."""
    bad, *good = [runs.start(hub, name, Goal.ROTATE).id for name in connected(6)]
    advance, tried = hub.engine._executor.advance, []

    def fails(run_id: RunId, claim: Claim | None) -> None:
        if run_id == bad:
            tried.append(time.monotonic())
            raise RuntimeError("a defect")
        advance(run_id, claim)

    monkeypatch.setattr(hub.engine._executor, "advance", fails)
    hub.engine.start()
    assert hub.engine.run_until(
        lambda: all(runs.get(hub, each).state is RunState.COMPLETE for each in good), 15
    )
    time.sleep(1.0)
    assert 1 <= len(tried) < 12


def test_a_row_that_stays_due_does_not_spin(hub: Keyturn, connected: Connected) -> None:
    """An ended run that somebody made due again is looked at less and less often."""
    (name,) = connected(1)
    run = runs.start(hub, name, Goal.ROTATE)
    hub.engine.start()
    assert hub.engine.run_until(lambda: finished(hub), 15)
    hub.store.write(lambda tx: rows.change(tx, run.id, {"due_at": time.time() - 60}))
    used = time.process_time()
    time.sleep(2.0)
    assert time.process_time() - used < 0.5


def test_waking_after_the_end_is_harmless(hub: Keyturn) -> None:
    """Hints for runs that never were, and after the stop, change nothing and raise nothing."""
    hub.engine.start()
    hub.engine.wake("run_unknown", time.time())
    assert hub.engine.stop(10)
    hub.engine.wake("run_unknown", time.time() + 60)


def test_run_until_says_when_time_ran_out(hub: Keyturn) -> None:
    """A condition that never comes true ends with False."""
    assert not hub.engine.run_until(lambda: False, 0.3)


def test_offers_of_one_run_never_overlap() -> None:
    """Many hints for one run advance it one after another, and once more after the last."""
    running, most, count = [], [], []

    def advance(run_id: RunId, _claim: Claim | None) -> None:
        running.append(run_id)
        most.append(len(running))
        count.append(1)
        time.sleep(0.02)
        running.pop()

    ticks = itertools.count(1)
    store = SimpleNamespace(read=lambda _work, **_: [float(next(ticks))])
    pool = Embedded(SimpleNamespace(advance=advance), store, time.time, 4)
    pool._find = lambda _busy: 1.0
    pool.start()
    over = [threading.Event() for _ in range(20)]
    for each in over:
        pool.offer(RunId("run_one"), each.set)
    assert all(each.wait(5) for each in over)
    pool.stop(5)
    assert max(most) == 1
    assert len(count) >= 2
