"""A run that is started while a thread is free is claimed by the same transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn import boundary
from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import runs
from tests.engine import noop
from tests.engine.conftest import open_noop
from tests.engine.test_engine import finished, pool_of

Connected = Callable[[int], list[str]]


def test_start_and_claim_are_one_commit(hub: Keyturn, connected: Connected) -> None:
    """Start with its claim, intent, and the rest: three commits."""
    (name,) = connected(1)
    hub.engine.start()
    commits: list[str] = []
    boundary.listen(lambda place: commits.append(place) if place == "commit:before" else None)
    try:
        run = runs.start(hub, name, Goal.ROTATE)
        assert hub.engine.run_until(lambda: runs.get(hub, run.id).state is RunState.COMPLETE, 10)
    finally:
        boundary.listen(None)
    if hub.store.dialect == "sqlite":  # the other store's driver commits by itself
        assert len(commits) == 3


def test_a_start_that_is_refused_gives_its_thread_back(hub: Keyturn, connected: Connected) -> None:
    """However many starts fail, the pool has all its threads afterwards, and the principal is free."""
    first, second = connected(2)
    held = runs.start(hub, first, Goal.ROTATE)  # nobody works yet: it stays under way
    pool = pool_of(hub)
    pool._threads = [threading.current_thread()]  # as if started, with nobody who finds it
    for _ in range(3 * pool._size):
        with pytest.raises(Conflict):
            runs.start(hub, first, Goal.ROTATE)
    assert pool._seats == 0
    pool._threads = []
    hub.engine.start()
    made = runs.start(hub, second, Goal.ROTATE)
    assert hub.engine.run_until(lambda: finished(hub), 20)
    assert {runs.get(hub, each).state for each in (held.id, made.id)} == {RunState.COMPLETE}


def test_no_thread_free_means_no_claim(
    hub: Keyturn, connected: Connected, vendor: noop.Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run behind others waits without a lease, so that another worker may take it."""
    *busy, last = connected(pool_of(hub)._size + 1)
    answer, put = threading.Event(), vendor.set

    def slow(*given: object) -> None:
        answer.wait(10)
        put(*given)

    monkeypatch.setattr(vendor, "set", slow)
    hub.engine.start()
    for name in busy:
        runs.start(hub, name, Goal.ROTATE)
    made = runs.start(hub, last, Goal.ROTATE)
    row = hub.store.read(
        lambda tx: tx.one("SELECT lease_until FROM principal WHERE id = ?", made.principal_id)
    )
    answer.set()
    assert row == (0.0,)
    assert hub.engine.run_until(lambda: finished(hub), 20)


def test_stop_finishes_what_was_claimed(
    hub: Keyturn, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose start claimed it is as good as in flight: stopping at that moment lets it come to rest."""
    (name,) = connected(1)
    pool = pool_of(hub)
    hub.engine.start()
    add = pool._add

    def stopped_meanwhile(*given: object) -> None:
        pool._stopping = True
        add(*given)

    monkeypatch.setattr(pool, "_add", stopped_meanwhile)
    run = runs.start(hub, name, Goal.ROTATE)
    assert hub.engine.stop(10)
    assert runs.get(hub, run.id).state is RunState.COMPLETE


def test_a_crash_before_the_thread_has_it_loses_nothing(
    hub: Keyturn,
    connected: Connected,
    vendor: noop.Vendor,
    tmp_path: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lease of a claim that nobody took up ends, and another worker finishes the run with one effect."""
    (name,) = connected(1)
    pool = pool_of(hub)
    executor = pool._executor
    executor.hub = replace(executor.hub, lease_s=0.5)
    hub.engine.start()
    monkeypatch.setattr(pool, "_add", lambda *_: None)  # as a kill -9 just after the commit
    run = runs.start(hub, name, Goal.ROTATE)
    other = open_noop(tmp_path, url, vendor)
    try:
        other.engine.start()
        assert other.engine.run_until(lambda: runs.get(other, run.id).state is RunState.COMPLETE, 20)
    finally:
        other.close()
    assert {len(values) for values in vendor.values.values()} == {2}
