"""Several hosts on one store, each with a spool that no other can read: an answer in one of them is waited for."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn import boundary
from keyturn.bootstrap import Keyturn
from keyturn.engine.sweep import Sweep
from keyturn.executor.executor import Executor
from keyturn.executor.hub import Hub
from keyturn.executor.spooling import ELSEWHERE_S
from keyturn.model.plan import Goal
from keyturn.model.run import LineKind, Run, RunState
from keyturn.operations import debts, runs
from keyturn.vault import spool
from keyturn_lab.vendors.shapes import Shapes
from tests.faults import world

LATE_S = 90.0  # past every call of the other host, and past what a vendor forgives
IRREPLACEABLE = [("regenerate", Goal.ROTATE), ("grant", Goal.REAUTHORIZE), ("grant", Goal.REFRESH)]


class Host:
    """One host's half of a shared hub, at a time of its own."""

    def __init__(self, whole: Keyturn, folder: Path, name: str, later_s: float = 0.0) -> None:
        path = str(folder / f"spool-{name}")
        self.sweep = Sweep(
            whole.store,
            whole.secrets,
            lambda: time.time() + later_s,
            f"{name}/1/1",
            wake=lambda _run, _at: None,
            spool=path,
            spool_name=f"spool_{name}",
            spool_private=whole.roots.spool_private,
        )
        self.hub: Hub = replace(
            whole.hub,
            worker=f"{name}/1/1",
            spool=path,
            spool_name=f"spool_{name}",
            import_spool=self.sweep.import_spool,
            clock=self.sweep.clock,
        )
        self.executor = Executor(self.hub)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Keyturn]:
    opened = world.open_world(tmp_path, patience=1.0)
    yield opened
    opened.close()
    boundary.listen(None)


@pytest.fixture
def vendor() -> Iterator[Shapes]:
    with Shapes.in_thread() as running:
        yield running


def sent(whole: Keyturn, vendor: Shapes, host: Host, method: str, goal: Goal, *, spooled: bool) -> Run:
    """A run whose call was answered to `host`; the store refused the answer, or (not `spooled`) it was lost."""
    world.connect(whole, vendor.client, method, "p")
    run = runs.start(whole, "p", goal)
    if goal is Goal.REAUTHORIZE:
        host.executor.advance(run.id)
        (task,) = runs.left_behind(whole, run.id)[0]
        world.person(vendor.client, whole, "p")(task)
    seen = []

    def listen(place: str) -> None:
        seen.append(place)
        if not spooled and place.startswith("call:") and place.endswith(":after"):
            raise KeyboardInterrupt
        if place == "commit:before" and any(each.startswith("line:RECEIPT:") for each in seen):
            raise sqlite3.OperationalError("full")

    boundary.listen(listen)
    try:
        host.executor.advance(run.id)
    except KeyboardInterrupt:
        pass
    finally:
        boundary.listen(None)
    whole.store.write(lambda tx: tx.run("UPDATE principal SET lease_until = 0"))
    assert len(spool.read(host.hub.spool, whole.roots.spool_private).records) == spooled
    return runs.get(whole, run.id)


def calls(whole: Keyturn, run: Run) -> int:
    return sum(line.kind is LineKind.INTENT for line in runs.lines(whole, run.id))


@pytest.mark.parametrize(("method", "goal"), IRREPLACEABLE)
def test_an_answer_in_another_hosts_spool_is_waited_for(
    whole: Keyturn, vendor: Shapes, tmp_path: Path, method: str, goal: Goal
) -> None:
    """The other host names whose it is and sends nothing; once the owner is back, its answer is what the run goes on with."""
    owner, other = Host(whole, tmp_path, "a"), Host(whole, tmp_path, "b", LATE_S)
    run = sent(whole, vendor, owner, method, goal, spooled=True)
    before = calls(whole, run)
    other.sweep.vouch()  # its own spool says nothing about the owner's
    for _ in range(3):
        other.executor.advance(run.id)
    waits = runs.get(whole, run.id)
    assert waits.state is RunState.RESOLVING
    assert "spool_a" in waits.waiting_for
    assert calls(whole, run) == before
    assert not debts.every(whole)
    assert owner.sweep.import_spool() == 1
    assert runs.get(whole, run.id).due_at <= time.time()
    world.drive(whole, run.id, world.person(vendor.client, whole, "p"))
    assert runs.get(whole, run.id).state is RunState.COMPLETE
    asked = [line for line in runs.lines(whole, run.id) if line.facts.get("decision") == "asked"]
    assert len(asked) == (goal is Goal.REAUTHORIZE)


@pytest.mark.parametrize(("method", "goal"), IRREPLACEABLE)
def test_a_spool_that_is_empty_or_away_is_not_waited_for(
    whole: Keyturn, vendor: Shapes, tmp_path: Path, method: str, goal: Goal
) -> None:
    """When its host says that nothing came, or is away for too long, the run goes on as after any lost answer."""
    owner = Host(whole, tmp_path, "a", LATE_S)
    run = sent(whole, vendor, Host(whole, tmp_path, "a"), method, goal, spooled=False)
    Host(whole, tmp_path, "b", LATE_S).executor.advance(run.id)
    assert "spool_a" in runs.get(whole, run.id).waiting_for
    if method == "regenerate":
        later = Host(whole, tmp_path, "b", ELSEWHERE_S * whole.hub.patience + LATE_S * 2)
    else:
        assert owner.sweep.vouch()
        later = Host(whole, tmp_path, "b", LATE_S + 1.0)
    whole.store.write(lambda tx: tx.run("UPDATE run SET due_at = 0"))
    for _ in range(3):
        later.executor.advance(run.id)
    assert "spool_a" not in runs.get(whole, run.id).waiting_for


def test_a_spool_has_one_name(tmp_path: Path) -> None:
    """Made once, kept beside it; a folder that cannot be written has none."""
    path = str(tmp_path / "spool")
    assert spool.identify(path) == spool.identify(path) != ""
    assert spool.identify("/proc/nothing/spool") == ""
