"""The tidy-up both engines share: what a crash, a full disk or a missed wake-up left lying about, found in our tables.

Every chore reads first and writes only when there is something to do, so an idle hub commits nothing. Every chore may
run in several processes at once.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from keyturn.errors import Conflict
from keyturn.model.ids import RunId
from keyturn.model.run import Debt, RunState, TaskState, Track
from keyturn.storage import consumers, debts, issued, principals, runs, sealed, spools, tasks
from keyturn.storage.database import Store, Tx
from keyturn.vault import spool
from keyturn.vault.secrets import Secrets

OFTEN_S, SELDOM_S = 10.0, 60.0
JOBS_S, JOBS_AT_ONCE = 5.0, 2  # how late a job may start; how many read at once in one process
LEASES_KEPT_S = 86400.0
REFUSALS_KEPT_S = 30 * 86400.0  # no vendor counts failed logins for longer
_DEBTS_AT_ONCE = 20


@dataclass(frozen=True)
class Sweep:
    """The chores. `try_debt` makes one attempt at a debt and records its outcome, without it debts are left alone;
    `run_job` runs one job that is due and tells whether there was one, without it jobs are left to other processes;
    `worker` is this process's name.
    """

    store: Store
    secrets: Secrets
    clock: Callable[[], float]
    worker: str
    wake: Callable[[str, float], None]
    spool: str = ""
    spool_name: str = ""
    spool_private: bytes = b""
    try_debt: Callable[[Debt], object] | None = None
    run_job: Callable[[], bool] | None = None
    start_due: Callable[[], object] | None = (
        None  # begins what the clock asks for; only long-running programs do
    )

    def at_start(self) -> None:
        """Before the first run is advanced: answers a full disk kept from the store, and leases of the dead."""
        if self.spool:
            spool.prepare(self.spool)
        self.import_spool()
        free_dead_holders(self.store)

    def import_spool(self) -> int:
        """Files spooled answers as the receipts they are, then empties the spool; how many were new.

        Costs one `stat` while the spool is empty, so the engine calls it before every look at what is due: a run must
        not resume without the answer it is waiting for. Whoever can write the file could add a record; only receipts
        are taken, never over one that is there, and anything else is kept aside for a person like damage.
        """
        if not self.spool or not _has_bytes(self.spool):
            return 0
        found = spool.read(self.spool, self.spool_private)
        receipts = [record for record in found.records if record.identity.startswith("receipt:")]
        now = self.clock()
        seals = [(each.identity, self.secrets.sealing(each.identity, each.payload, now)) for each in receipts]

        def work(tx: Tx) -> list[RunId]:
            fresh: list[RunId] = []
            for identity, seal in seals:
                if sealed.get(tx, identity) is None:
                    seal(tx)
                    fresh.append(RunId(identity.split(":")[1]))
                    runs.wake(tx, fresh[-1], now)
            return fresh

        fresh = self.store.write(work) if seals else []
        strangers = len(found.records) - len(receipts)
        spool.clear(self.spool, replace(found, damaged=found.damaged + strangers))
        return len(fresh)

    def vouch(self) -> bool:
        """Says that this host's spool is empty, while some run may wait to hear it: another host cannot look there."""
        if not self.spool_name or not self.store.read(spools.is_asked):
            return False
        began = self.clock()
        self.import_spool()
        if _has_bytes(self.spool):
            return False
        self.store.write(lambda tx: spools.note_empty(tx, self.spool_name, began))
        return True

    def wake_answered(self) -> int:
        """Makes runs due whose person answered, or was late, while the run was just lying down to wait; how many.

        The run writes its next due time after it looked at the task, so an answer in between would be slept through.
        """
        now = self.clock()

        def look(tx: Tx) -> list[RunId]:
            rows = tx.all(
                "SELECT t.run_id, t.step FROM task t JOIN run r ON r.id = t.run_id"
                " WHERE r.state = ? AND r.due_at > ? AND (t.state = ? OR (t.state IN (?,?,?) AND t.due_at <= ?))",
                RunState.WAITING_HUMAN.value,
                now,
                TaskState.SUBMITTED.value,
                *(state.value for state in tasks.OPEN_STATES),
                now,
            )
            return [RunId(run_id) for run_id, step in rows if _waits_at(tx, RunId(run_id), str(step))]

        found = self.store.read(look)
        for run_id in found:
            self.store.write(lambda tx, each=run_id: runs.wake(tx, each, now))  # type: ignore[misc]
            self.wake(run_id, now)
        return len(found)

    def destroy_due(self) -> int:
        """Carries out planned destructions of dead versions' ciphertext; how many."""
        now = self.clock()
        due = self.store.read(
            lambda tx: tx.one("SELECT 1 FROM sealed WHERE destroy_at IS NOT NULL AND destroy_at <= ?", now)
        )
        return self.store.write(lambda tx: sealed.destroy_due(tx, now)) if due else 0

    def age_secrets(self) -> int:
        """Issued secrets made for later are live, and those at their end expired, once it is time; how many. The door goes
        by the clock anyway: this is for whoever looks at them, and that no clock set back revives what has ended."""
        now = self.clock()
        is_due = self.store.read(lambda tx: issued.has_due(tx, now))
        return self.store.write(lambda tx: issued.keep_time(tx, now)) if is_due else 0

    def try_debts(self) -> int:
        """One attempt at each debt whose time has come and whose principal nobody works on; how many were tried.

        The attempt itself holds the principal: ending an old slot while a run fills it would end the new credential.
        """
        now, tried = self.clock(), 0
        if self.try_debt is None:
            return 0
        for debt in self.store.read(lambda tx: debts.due(tx, now, _DEBTS_AT_ONCE)):
            with suppress(Conflict):  # somebody else has the debt or its principal by now
                self.try_debt(debt)
                tried += 1
        return tried

    def prune(self) -> int:
        """Deletes leases that are long over and refused logins older than every lock-out window; how many."""
        now = self.clock()
        leases_before, refusals_before = now - LEASES_KEPT_S, now - REFUSALS_KEPT_S
        found = self.store.read(
            lambda tx: (
                consumers.past_leases(tx, leases_before) + principals.past_refusals(tx, refusals_before)
            )
        )
        if not found:
            return 0
        return self.store.write(
            lambda tx: (
                consumers.prune_leases(tx, leases_before) + principals.prune_refusals(tx, refusals_before)
            )
        )


class Sweeper:
    """Runs the chores in a thread of their own, because a debt may wait for a slow vendor, and jobs in others, because
    they wait for one as a rule."""

    def __init__(
        self, sweep: Sweep, often_s: float = OFTEN_S, seldom_s: float = SELDOM_S, jobs_s: float = JOBS_S
    ) -> None:
        self._sweep, self._often_s, self._seldom_s, self._jobs_s = sweep, often_s, seldom_s, jobs_s
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the threads; nothing is done before the first interval is over."""
        works = [("keyturn-tidy", self._serve)]
        if self._sweep.run_job is not None:
            works += [(f"keyturn-job-{n}", self._serve_jobs) for n in range(JOBS_AT_ONCE)]
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in works]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ends the threads after the chore and the jobs in hand; a job that is cut off runs again."""
        until = time.monotonic() + timeout_s
        self._stop.set()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _serve_jobs(self) -> None:
        run_job = self._sweep.run_job
        while run_job is not None and not self._stop.wait(self._jobs_s):
            with suppress(Exception):  # an ill store, a missing connector: looked at again
                while not self._stop.is_set() and run_job():
                    pass

    def _serve(self) -> None:
        sweep = self._sweep
        seldom_at = time.monotonic() + self._seldom_s
        while not self._stop.wait(self._often_s):
            _do(lambda: free_dead_holders(sweep.store))
            _do(sweep.vouch)
            _do(sweep.wake_answered)
            if sweep.start_due is not None:
                _do(sweep.start_due)
            if time.monotonic() >= seldom_at:
                seldom_at = time.monotonic() + self._seldom_s
                _do(sweep.destroy_due)
                _do(sweep.age_secrets)
                _do(sweep.try_debts)
                _do(sweep.prune)


def _do(chore: Callable[[], object]) -> None:
    """A chore that fails is tried again next time and must not keep the others from being done."""
    with suppress(Exception):
        chore()


def _waits_at(tx: Tx, run_id: RunId, step: str) -> bool:
    """Whether the run still stands at the step a task belongs to: an answered task stays until its run ends."""
    run = runs.by_id(tx, run_id)
    if run is None:
        return False
    forward = run.track is Track.FORWARD
    steps = run.plan.steps if forward else run.plan.rollback
    here = steps[run.cursor].key if run.cursor < len(steps) else ""
    return step == (here if forward else f"rollback.{here}")


def _has_bytes(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


# -- who is alive --------------------------------------------------------------------------------------------------


def worker_name() -> str:
    """`host/pid/started`: unique for ever, and tells on the same host whether its process still lives."""
    return f"{_host()}/{os.getpid()}/{_started(os.getpid())}"


def free_dead_holders(store: Store) -> int:
    """Ends the leases of processes of this host that are gone, instead of waiting for them to run out; how many."""
    held = "SELECT DISTINCT holder FROM principal WHERE lease_until > 0 AND holder <> ''"
    gone = [str(row[0]) for row in store.read(lambda tx: tx.all(held)) if _is_dead(str(row[0]))]
    if not gone:
        return 0

    def work(tx: Tx) -> int:
        return sum(
            tx.run("UPDATE principal SET lease_until = 0 WHERE holder = ? AND lease_until > 0", holder)
            for holder in gone
        )

    return store.write(work)


def _is_dead(holder: str) -> bool:
    """Certain only for a process of this very host; anybody else is left to their lease."""
    host, _, rest = holder.partition("/")
    pid, _, rest = rest.partition("/")
    started = rest.partition("/")[0]
    return host == _host() and pid.isdigit() and bool(started) and _started(int(pid)) != started


def _host() -> str:
    """The host's name and which kernel and process-id space: containers may share a name and must not see each
    other's processes as dead."""
    space = socket.gethostname()
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            space += boot.read().strip()
        space += os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()}-{hashlib.sha256(space.encode()).hexdigest()[:8]}"


def _started(pid: int) -> str:
    """When a process of this host started, in kernel ticks; empty when it is gone (or is a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
