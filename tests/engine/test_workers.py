"""Worker processes that are stopped, killed and paused: the runs go on, with the effects of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.model.credential import State
from keyturn.model.ids import RunId
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, runs
from keyturn.storage import journal, versions
from keyturn.storage import runs as rows
from keyturn_lab.vendors.shapes import Shapes
from tests.faults import world

ROOT = Path(__file__).parents[2]
READS = {"login", "list"}  # a woken worker may still look; it must not change
METHODS = ("one_slot", "two_slots", "many_ids")


@pytest.fixture
def shapes() -> Iterator[Shapes]:
    with Shapes.in_process() as running:
        yield running


class Fleet:
    """A hub that only starts runs, and worker processes beside it."""

    def __init__(self, folder: Path, url: str, shapes: Shapes) -> None:
        self.folder, self.url, self.shapes = folder, url, shapes
        self.hub: Keyturn = world.open_world(folder, url)
        self.principals: dict[str, tuple[str, str]] = {}
        self.runs: list[RunId] = []

    def start_runs(self, methods: tuple[str, ...], each: int) -> None:
        for method in methods:
            for n in range(each):
                name = f"{method}-{n}"
                made = world.connect(self.hub, self.shapes.client, method, name)
                self.principals[name] = (method, str(made.settings["principal"]))
        self.runs = [runs.start(self.hub, name, Goal.ROTATE).id for name in self.principals]

    @contextmanager
    def worker(self, **told: str | float) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        argv = [sys.executable, "-m", "tests.engine.child", str(self.folder), self.url]
        with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
            try:
                assert child.stdout
                assert child.stdout.readline() == "ready\n"
                yield child
            finally:
                child.kill()

    def wait(self, timeout_s: float = 40.0) -> None:
        until = time.monotonic() + timeout_s
        while self.hub.store.read(rows.unfinished):
            states = [(r.state.value, r.waiting_for) for r in runs.recent(self.hub) if r.ended_at is None]
            assert time.monotonic() < until, states
            time.sleep(0.1)

    def check(self) -> None:
        """All done, one new version each, and at the vendor nothing alive that is not current in the ledger."""
        assert {runs.get(self.hub, run).state for run in self.runs} == {RunState.COMPLETE}
        for name, (method, principal) in self.principals.items():
            connection = connections.find(self.hub, name)
            known = self.hub.store.read(lambda tx, c=connection: versions.of_connection(tx, c.id))
            assert [v.state for v in known] == [State.CURRENT, State.DEAD], name
            ours = [c for c in self.shapes.client.call("alive", principal=principal) if not _is_foreign(c)]
            assert len(ours) == 1, (name, ours)
            changed = [h for h in self._history(principal) if h["changed"] and h["by"] == "hub"]
            made = [h for h in changed if h["op"] in {"set", "issue", "regenerate"}]
            orphans = [h for h in changed if h["op"] == "delete"][1:]
            assert len(made) == 1 + len(orphans), (name, method, changed)
            lines = self.hub.store.read(lambda tx, c=connection: journal.of_connection(tx, c.id))
            assert journal.verify(lines) is None
            epochs = [line.epoch for line in lines if line.epoch]
            assert epochs == sorted(epochs)

    def changes(self) -> list[Any]:
        """Every changing call the vendor ever saw, refused ones and those that changed nothing too."""
        return [
            [call for call in self.shapes.client.call("calls", principal=each) if call["op"] not in READS]
            for _, each in self.principals.values()
        ]

    def _history(self, principal: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.shapes.client.call("history", principal=principal)
        return found


def _is_foreign(credential: dict[str, Any]) -> bool:
    return bool(credential.get("foreign")) or str(credential.get("by", "")) == "stranger"


@pytest.fixture
def fleet(tmp_path: Path, database: str, shapes: Shapes) -> Iterator[Fleet]:
    made = Fleet(tmp_path, database, shapes)
    yield made
    made.hub.close()


@pytest.mark.postgres
def test_two_workers_share_the_runs(fleet: Fleet) -> None:
    """Two processes do all runs with one effect each, and both do some."""
    with fleet.worker(), fleet.worker():
        fleet.start_runs(METHODS, 6)
        fleet.wait()
    fleet.check()
    holders = fleet.hub.store.read(lambda tx: tx.all("SELECT DISTINCT holder FROM principal"))
    assert len(holders) == 2


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("place", "hit"),
    [("call:stage:after", 3), ("commit:after", 12), ("call:stage:before", 2), ("commit:before", 20)],
)
def test_a_killed_worker_is_taken_over(fleet: Fleet, place: str, hit: int) -> None:
    """After kill -9 in the middle of runs the other worker finishes them; no effect happens twice."""
    fleet.start_runs(METHODS, 3)
    told = {"TEST_SIGNAL": int(signal.SIGKILL), "TEST_PLACE": place, "TEST_HIT": hit}
    with fleet.worker(**told) as doomed, fleet.worker():
        assert doomed.wait(20) == -signal.SIGKILL
        fleet.wait()
    fleet.check()


@pytest.mark.postgres
def test_a_paused_worker_is_fenced(fleet: Fleet) -> None:
    """A worker that slept longer than its lease, between its INTENT and the call, makes no call when it wakes."""
    fleet.start_runs(("one_slot", "many_ids"), 1)
    told = {"TEST_SIGNAL": int(signal.SIGSTOP), "TEST_PLACE": "intent:durable", "TEST_LEASE_S": 2.0}
    told["TEST_THREADS"] = (
        1  # a second run, stopped just before its call, would make it on waking: nobody can fence that
    )
    with fleet.worker(**told) as paused:
        assert paused.stdout
        assert paused.stdout.readline() == "signal\n"
        with fleet.worker():
            fleet.wait()
        before, lines = fleet.changes(), _lines(fleet)
        paused.send_signal(signal.SIGCONT)
        paused.send_signal(
            signal.SIGTERM
        )  # it finishes what it has in hand, the call it was about to make too
        assert paused.wait(30) == 0
        assert fleet.changes() == before
        assert _lines(fleet) == lines
    fleet.check()


def _lines(fleet: Fleet) -> int:
    row = fleet.hub.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM journal"))
    assert row
    return int(row[0])


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_sigterm_is_graceful(
    tmp_path: Path, shapes: Shapes, store: str, request: pytest.FixtureRequest
) -> None:
    """A call that was begun is finished and its outcome kept; the worker says that all came to rest."""
    url = "" if store == "sqlite" else request.getfixturevalue("database")
    fleet = Fleet(tmp_path, url, shapes)
    try:
        fleet.start_runs(("many_ids",), 1)
        with fleet.worker(TEST_SLOW_S=1.0) as child:
            assert child.stdout
            assert child.stdout.readline() == "call\n"
            child.send_signal(signal.SIGTERM)
            said = child.stdout.read()
            assert child.wait(20) == 0
            assert said.endswith("ended True\n")
        lines = runs.lines(fleet.hub, fleet.runs[0])
        assert [line.kind.value for line in lines if line.step == "stage"][:3] == [
            "INTENT",
            "RECEIPT",
            "OUTCOME",
        ]
        with fleet.worker():
            fleet.wait()
        fleet.check()
    finally:
        fleet.hub.close()
