"""The chores: what a crash, a full disk or a missed wake-up left lying about."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.engine import sweep as module
from keyturn.engine.embedded import Embedded
from keyturn.engine.queue import Queue
from keyturn.engine.sweep import Sweep, free_dead_holders, worker_name
from keyturn.model.ids import DebtId, RunId
from keyturn.model.plan import Goal
from keyturn.model.run import Debt, RunState, TaskState
from keyturn.operations import connections, runs, tasks
from keyturn.storage import debts, principals, sealed
from keyturn.storage import runs as rows
from keyturn.storage import tasks as task_rows
from keyturn.vault import spool
from keyturn_lab.vendors.shapes import Shapes
from tests.engine import noop
from tests.faults import world


@pytest.fixture
def sweep(hub: Keyturn) -> Sweep:
    engine = hub.engine._pool if isinstance(hub.engine, Queue) else hub.engine
    assert isinstance(engine, Embedded)
    assert engine._sweep is not None
    return engine._sweep


def read(hub: Keyturn, row_id: str) -> bytes | None:
    return hub.secrets.find(row_id)


def test_spooled_answers_become_receipts(hub: Keyturn, sweep: Sweep) -> None:
    """An answer the store refused is a receipt after the start, and the spool is empty."""
    spool.append(sweep.spool, hub.roots.spool_public, "receipt:run_1:stage:1", b"the only copy")
    sweep.at_start()
    assert read(hub, "receipt:run_1:stage:1") == b"the only copy"
    assert spool.read(sweep.spool, hub.roots.spool_private).size_bytes == 0


def test_a_receipt_that_is_there_is_not_replaced(hub: Keyturn, sweep: Sweep) -> None:
    """A spool that outlived the commit, or a planted record, changes nothing that is known."""
    hub.store.write(hub.secrets.sealing("receipt:run_1:stage:1", b"known", time.time()))
    spool.append(sweep.spool, hub.roots.spool_public, "receipt:run_1:stage:1", b"other")
    assert sweep.import_spool() == 0
    assert read(hub, "receipt:run_1:stage:1") == b"known"


def test_only_receipts_come_out_of_the_spool(hub: Keyturn, sweep: Sweep) -> None:
    """Whoever can write the file cannot add a credential; the record is kept aside for a person."""
    spool.append(sweep.spool, hub.roots.spool_public, "admin:con_1", b"planted")
    assert sweep.import_spool() == 0
    assert read(hub, "admin:con_1") is None
    folder, name = os.path.split(sweep.spool)
    assert [each for each in os.listdir(folder) if each.startswith(f"{name}.damaged-")]


def test_a_running_engine_takes_the_spool_in_before_it_goes_on(hub: Keyturn, sweep: Sweep) -> None:
    """A run must not resume without the answer it is waiting for."""
    hub.engine.start()
    spool.append(sweep.spool, hub.roots.spool_public, "receipt:run_2:stage:1", b"late")
    assert hub.engine.run_until(lambda: read(hub, "receipt:run_2:stage:1") == b"late", 10)


def test_planned_destructions_are_carried_out(hub: Keyturn, sweep: Sweep) -> None:
    """Ciphertext goes when its time has come, not before."""
    now = time.time()
    for name, at in (("version:old", now - 1), ("version:young", now + 60)):
        hub.store.write(hub.secrets.sealing(name, b"dead", now))
        hub.store.write(lambda tx, n=name, at=at: sealed.destroy_later(tx, n, at))
    assert sweep.destroy_due() == 1
    assert read(hub, "version:old") is None
    assert read(hub, "version:young") == b"dead"


def owe(hub: Keyturn, name: str, next_try_at: float) -> Debt:
    connection = connections.find(hub, name)
    facts = ("alive", "still accepted", {}, "matrix", 0, next_try_at, time.time(), None, "", "")
    debt = Debt(DebtId(f"dbt_{name}"), connection.id, None, RunId("run_1"), *facts)
    hub.store.write(lambda tx: debts.add(tx, debt))
    return debt


def test_debts_are_tried_when_their_time_has_come(hub: Keyturn, sweep: Sweep) -> None:
    """A due debt gets one attempt and its next time; the principal is free afterwards."""
    noop.connect(hub, 2)
    owe(hub, "n0", time.time() - 1)
    owe(hub, "n1", time.time() + 60)
    assert sweep.try_debts() == 1
    assert sweep.try_debts() == 0
    tried = hub.store.read(lambda tx: debts.by_id(tx, DebtId("dbt_n0")))
    assert tried is not None
    assert tried.tries == 1
    run = runs.start(hub, "n0", Goal.ROTATE)
    hub.engine._executor.advance(run.id)
    assert runs.get(hub, run.id).state is RunState.COMPLETE


def test_no_debt_is_tried_beside_a_run(hub: Keyturn, sweep: Sweep) -> None:
    """Ending an old slot while a run fills it would end the new credential."""
    noop.connect(hub, 1)
    owe(hub, "n0", time.time() - 1)
    connection, now = connections.find(hub, "n0"), time.time()
    take = lambda tx: principals.take(tx, connection.principal_id, "other/1/1", RunId("run_1"), now, now - 1)  # noqa: E731
    hub.store.write(take)
    assert sweep.try_debts() == 0


def test_a_debt_that_raises_frees_its_principal(hub: Keyturn, sweep: Sweep) -> None:
    """An attempt that fails in an unforeseen way blocks no run."""
    noop.connect(hub, 1)
    owe(hub, "n0", time.time() - 1)

    def fails(_debt: Debt) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError):
        Sweep(hub.store, hub.secrets, time.time, "w/1/1", hub.engine.wake, try_debt=fails).try_debts()
    run = runs.start(hub, "n0", Goal.ROTATE)
    hub.engine._executor.advance(run.id)
    assert runs.get(hub, run.id).state is RunState.COMPLETE


def test_leases_of_dead_processes_end(hub: Keyturn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the death is certain: this host, this process-id space, another start time."""
    noop.connect(hub, 1)
    mine, until = worker_name(), time.time() + 60
    host = mine.split("/")[0]
    dead = [f"{host}/999999999/1", f"{host}/{os.getpid()}/1", f"{host}/{os.getpid()}/1/debt"]
    alive = [
        mine,
        f"{mine}/debt",
        "elsewhere-00000000/1/1",
        f"{socket.gethostname()}/1/1",
        f"{host}/x/1",
        "odd",
    ]
    for holder in (*dead, *alive):
        hub.store.write(
            lambda tx, h=holder: tx.run("UPDATE principal SET holder = ?, lease_until = ?", h, until)
        )
        assert free_dead_holders(hub.store) == (holder in dead), holder


def test_an_answer_given_while_the_run_lay_down_is_not_slept_through(tmp_path: Path) -> None:
    """A person's submission just before the run wrote its next due time still wakes it; once it went on, no more."""
    with Shapes.in_thread() as vendor:
        hub = world.open_world(tmp_path)
        try:
            world.connect(hub, vendor.client, "supplied", "one")
            run = runs.start(hub, "one", Goal.ROTATE)
            world.drive(hub, run.id, lambda _: None, stop=lambda r: r.state is RunState.WAITING_HUMAN)
            sweep = hub.engine._sweep
            assert sweep.wake_answered() == 0
            (task,) = tasks.waiting(hub)
            asleep = runs.get(hub, run.id).due_at
            world.person(vendor.client, hub, "one")(task)
            hub.store.write(lambda tx: rows.change(tx, run.id, {"due_at": asleep}))
            assert sweep.wake_answered() == 1
            assert runs.get(hub, run.id).due_at <= time.time()
            world.drive(
                hub,
                run.id,
                lambda _: None,
                stop=lambda r: r.state is RunState.WAITING_HUMAN and bool(tasks.waiting(hub)),
            )
            done = hub.store.read(lambda tx: task_rows.of_run(tx, run.id))
            assert TaskState.SUBMITTED in {each.state for each in done}
            assert sweep.wake_answered() == 0
        finally:
            hub.close()


def test_an_idle_engine_commits_nothing(hub: Keyturn, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chore reads first."""
    noop.connect(hub, 1)
    monkeypatch.setattr(hub.store, "write", lambda _: pytest.fail("a commit for nothing"))
    sweep.at_start()
    for chore in (sweep.wake_answered, sweep.destroy_due, sweep.try_debts):
        assert chore() == 0
    assert module.free_dead_holders(hub.store) == 0
