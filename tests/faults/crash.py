"""One case: a process that dies at a place, a second one that recovers, and the checks in between and after.

Whoever calls `run` must hold no threads: it forks. Each child opens its own hub, so nothing survives but the disk.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from keyturn import boundary
from keyturn.bootstrap import Keyturn
from keyturn.engine.sweep import free_dead_holders
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import runs
from keyturn.operations.connections import find
from keyturn_lab.vendors.shapes import Client
from tests.faults import invariants, issuing, world
from tests.faults import shapes_connector as shapes
from tests.faults.bench import Bench, copy_home, in_child, open_world
from tests.faults.cases import LEEWAY_S, Case
from tests.faults.driver import Driver, principal_name
from tests.faults.seen import Seen, Start, Watcher

ONCE_MORE = 4  # one case in so many goes on to a second rotation; each that nobody was killed in does
_PEEKS = ("commit:after", "call:")


@dataclass
class Result:
    """What became of one case."""

    name: str
    state: str = ""
    waiting_for: str = ""
    killed: bool = False
    violations: list[tuple[str, str]] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    then_places: list[tuple[str, int]] = field(default_factory=list)
    text: str = ""


def warm(bench: Bench) -> None:
    """Lazy imports cost a child more than all of its work: what one of them imported, this process imports once."""
    case = Case.parse("two_slots/rotate/none/never#0")
    folder = bench.folder / "warm"
    copy_home(bench, folder)
    bench.clock.reset(bench.client)
    before = set(sys.modules)

    def work(tell: Callable[[Any], None]) -> None:
        _first(bench, case, folder, lambda _: None)
        tell(sorted(set(sys.modules) - before))

    _, names = in_child(work, folder / "first.txt")
    for name in names or ():
        with suppress(ImportError):
            importlib.import_module(name)
    if not bench.server:  # what OpenSSL and `re` make on first use; on PostgreSQL an open hub has threads
        hub = open_world(bench, folder)
        find(hub, principal_name(case))
        hub.close()
    shutil.rmtree(folder, ignore_errors=True)
    gc.collect()
    gc.freeze()


def run(bench: Bench, case: Case, *, verbose: bool = False, thorough: bool = False) -> Result:
    """Runs one case. `thorough` looks at every instant; it is implied where nobody is killed."""
    bench.cases += 1
    folder = bench.folder / f"case-{bench.cases}"
    copy_home(bench, folder)
    bench.clock.reset(bench.client)
    result = Result(case.name)
    try:
        status, said = in_child(lambda out: _first(bench, case, folder, out), folder / "first.txt")
        result.places = [tuple(each) for each in (said or {}).get("places", [])]
        result.violations = [tuple(each) for each in (said or {}).get("violations", [])]
        result.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not result.killed and status:
            result.violations.append(("END", _fate("the first process", status, folder / "first.txt")))
        if case.then and result.killed:
            status, said = in_child(
                lambda out: _second(bench, case, folder, out, die=case.then), folder / "again.txt"
            )
            if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                result.violations.append(("END", _fate("the second process", status, folder / "again.txt")))
        status, said = in_child(
            lambda out: _second(
                bench, case, folder, out, verbose=verbose, thorough=thorough or not result.killed
            ),
            folder / "second.txt",
        )
        if said is None:
            result.violations.append(("END", _fate("the recovering process", status, folder / "second.txt")))
        else:
            result.state, result.waiting_for = said["state"], said["waiting_for"]
            result.violations += [tuple(each) for each in said["violations"]]
            result.then_places = [tuple(each) for each in said["places"]]
            result.text = said["text"]
            leak = invariants.i9_no_secret_in_clear(said["secrets"], _files(folder))
            if leak:
                result.violations.append(("I9", leak))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _files(folder: Path) -> dict[str, bytes]:
    """Everything that a case left on the disk, but for the master key and the person's memory."""
    kept = (
        p for p in folder.rglob("*") if p.is_file() and p.name not in {"kek", "person.json", "start.json"}
    )
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


def _fate(who: str, status: int, output: Path) -> str:
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    tail = output.read_text(errors="replace")[-1500:] if output.exists() else ""
    return f"{who} ended by {how}: {tail}"


# -- the first process: connects, arms the fault, rotates, dies ---------------------------------------------------


def _first(bench: Bench, case: Case, folder: Path, tell: Callable[[Any], None]) -> None:
    bench.clock.install()
    issuing.install(bench.clock)
    random.seed(case.name)
    if bench.mutate is not None:
        bench.mutate()
    hub = open_world(bench, folder)
    name = principal_name(case)
    start = issuing.set_up(hub, case) if case.subject.is_issued else _set_up(bench, hub, case, name)
    (folder / "start.json").write_text(start.dump())
    places: list[tuple[str, int]] = []
    driver, watcher = _play(bench, hub, case, folder, start)
    checks = Checks(watcher, driver, thorough=True)
    with _dying(case.place, case.k, places, _store(hub, case, folder)):
        if case.place == "never":  # nobody dies, so every instant of the calm run can be looked at
            checks.listen()
        driver.go(checks.between if case.place == "never" else lambda _: None)
    tell({"places": places, "violations": checks.found})
    hub.close()


def _set_up(bench: Bench, hub: Keyturn, case: Case, name: str) -> Start:
    subject, fault, client = case.subject, case.fault, bench.client
    options = dict(subject.options)
    if fault.name == "lockout":
        options["lockout"] = {
            "max_failures": shapes.LOCKOUT.max_failures,
            "window_s": shapes.LOCKOUT.window_s,
        }
    made = world.connect(hub, client, subject.method, name, **options)
    if subject.goal is Goal.RECONNECT:
        left = runs.start(hub, name, Goal.DISCONNECT, trigger="before")
        Driver(bench, hub, case, None).drive(left.id)
    if fault.name == "grace":
        _arm(client, case, name)
        first = runs.start(hub, name, trigger="before", goal=subject.goal)
        Driver(bench, hub, case, None).drive(first.id)
    came: list[str] = []
    if fault.kind and fault.name != "grace":
        came = (_arm(client, case, name) or {}).get("strangers", [])
    connection = find(hub, name)
    serving = hub.store.read(
        lambda tx: tx.one("SELECT ref FROM version WHERE id = ?", connection.current_version_id)
    )
    ref = json.loads(serving[0]) if serving else {}
    alive = client.call("alive", principal=name)
    at = next(
        (
            c["id"]
            for c in alive
            if c["id"] == ref.get("id") or (c["slot"] and c["fingerprint"] == ref.get("fingerprint"))
        ),
        "",
    )
    secrets = {v for c in alive for v in (*c["values"], c["value"]) if v} | set(made.material.secrets())
    secrets |= set(made.admin.secrets()) if made.admin else set()
    return Start(
        name, frozenset([*made.said["strangers"], *came]), at, made.said["admin"] or "", frozenset(secrets)
    )


def _arm(client: Client, case: Case, name: str) -> Any:
    fault, subject = case.fault, case.subject
    by = "person" if subject.by_person and fault.where in {"stage", "end"} else "hub"
    op = fault.op(subject) or "*"
    return client.arm(name, fault.kind, op, only_by=by, **fault.more)


def _store(hub: Keyturn, case: Case, folder: Path) -> Callable[[str], None]:
    """What our own store does at a place: with `store_refuses` it turns down, once in the life of a case, the commit
    that holds a RECEIPT (in S8: the book's own): before it (a full disk), or after it has landed (a lost answer)."""
    how, mark = case.fault.name.rpartition("store_refuses.")[2], folder / "refused"
    when = "commit:after" if how.endswith("lands") else "commit:before"
    begins = "call:stage:before" if how.startswith("book") else "line:RECEIPT:"
    is_meant = False

    def at(place: str) -> None:
        nonlocal is_meant
        if not case.fault.name.startswith("store_refuses"):
            return
        if place.startswith(begins):
            is_meant = True
        elif is_meant and place == when and not mark.exists():
            mark.touch()
            raise (
                psycopg.errors.DiskFull
                if hub.store.dialect == "postgresql"
                else sqlite3.OperationalError("full")
            )
        elif place == "commit:after":
            is_meant = False

    return at


@contextmanager
def _dying(
    place: str, k: int, places: list[tuple[str, int]], also: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Records every place reached, and ends this process for good at the k-th time `place` is."""
    seen: Counter[str] = Counter()

    def listen(reached: str) -> None:
        seen[reached] += 1
        if reached == place and seen[reached] == k:
            os.kill(os.getpid(), signal.SIGKILL)
        places.append((reached, seen[reached]))
        also(reached)

    boundary.listen(listen)
    try:
        yield
    finally:
        boundary.listen(None)


# -- the second process: looks, recovers, checks ------------------------------------------------------------------


def _second(
    bench: Bench,
    case: Case,
    folder: Path,
    tell: Callable[[Any], None],
    *,
    die: tuple[str, int] | None = None,
    verbose: bool = False,
    thorough: bool = False,
) -> None:
    bench.clock.install()
    issuing.install(bench.clock)
    random.seed(case.name + "again")
    if bench.mutate is not None:
        bench.mutate()
    hub = open_world(bench, folder)
    start = Start.load((folder / "start.json").read_text())
    driver, watcher = _play(bench, hub, case, folder, start)
    checks = Checks(watcher, driver, thorough=thorough)
    answered = watcher.answers(checks.instant("at the crash", full=True))
    places: list[tuple[str, int]] = []
    with _dying(*(die or ("never", 0)), places, _store(hub, case, folder)):
        checks.listen()
        free_dead_holders(hub.store)
        stopped = driver.go(checks.between)
    seen = checks.instant("at rest", full=True)
    for invariant, wrong in watcher.at_rest(answered, seen, stopped):
        checks.say(invariant, wrong, "at rest")
    text = watcher.journal(seen) if verbose or checks.found else ""
    is_chosen = thorough or invariants.is_refresh(case) or zlib.crc32(case.name.encode()) % ONCE_MORE == 0
    if is_chosen and seen.run is not None and seen.run.state is RunState.COMPLETE and not checks.found:
        checks.say("I12", _once_more(bench, hub, driver, checks), "once more")
    if verbose and not case.subject.is_issued:
        text += f"\nalive: {json.dumps(seen.alive, indent=1)}\nhistory:\n" + "\n".join(map(str, seen.history))
    final = seen.run
    tell(
        {
            "state": final.state.value if final else "",
            "waiting_for": (final.waiting_for or final.outcome) if final else "",
            "violations": checks.found,
            "places": places,
            "secrets": sorted(s for s in watcher.secrets if len(s) >= 8),
            "text": text,
        }
    )
    hub.close()


def _once_more(bench: Bench, hub: Keyturn, driver: Driver, checks: Checks) -> str:
    """The same goal again, with no fault and after every grace and leeway: it must work as if nothing had happened."""
    name = checks.watcher.start.name
    if not driver.case.subject.is_issued:
        bench.client.call("disarm", principal=name)
    bench.clock.leap(bench.client, 3 * LEEWAY_S)
    stopped = driver.once_more()
    again = runs.recent(hub, name, 1)[0]
    seen = checks.watcher.look()
    if stopped or again.state is not RunState.COMPLETE:
        return f"the next one ends {again.state.value}: {stopped or again.waiting_for or again.outcome}"
    return checks.watcher.ends_working(seen)


def _play(bench: Bench, hub: Keyturn, case: Case, folder: Path, start: Start) -> tuple[Any, Any]:
    """Who acts and who watches: a vendor's case, or the book's."""
    if case.subject.is_issued:
        return issuing.play(bench, hub, case, folder, start)
    watcher = VendorWatcher(case, start, hub, bench.client, secrets=set(start.secrets))
    return Driver(bench, hub, case, folder), watcher


class VendorWatcher(Watcher):
    """Watches a connection to a vendor, and knows what must hold for it."""

    def instant(self, seen: Seen, *, full: bool = False) -> Iterable[tuple[str, str]]:
        """What must hold at any instant."""
        return invariants.instant(self, seen, full=full)

    def answers(self, seen: Seen) -> Any:
        """What only a sealed answer knows."""
        return invariants.in_receipts(seen)

    def at_rest(self, answered: Any, seen: Seen, stopped: str) -> Iterable[tuple[str, str]]:
        """What must hold in the end."""
        return invariants.at_rest(self, answered, seen, stopped)

    def ends_working(self, seen: Seen) -> str:
        """What serves is accepted."""
        return invariants.i1_ends_working(self, seen)

    def journal(self, seen: Seen) -> str:
        """For people."""
        lines = [
            f"{x.number:3} {x.run_id[-4:]} {x.epoch:2} {x.step:16} {x.kind.value:8} {dict(x.facts)}"
            for x in seen.lines
        ]
        states = [f"version {v.number} {v.state.value} {v.ref.as_json()}" for v in seen.versions]
        owed = [f"debt {d.kind}: {d.why} {dict(d.facts)}" for d in seen.debts]
        return "\n".join([*lines, *states, *owed])


@dataclass
class Checks:
    """Collects what is wrong, each kind once."""

    watcher: Any  # a VendorWatcher or a BookWatcher
    driver: Driver
    thorough: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)
    tried_transaction: bool = False

    def say(self, invariant: str, wrong: str, when: str) -> None:
        if wrong and not any(name == invariant for name, _ in self.found):
            self.found.append((invariant, f"{wrong} [{when}]"))

    def instant(self, when: str, *, full: bool = False) -> Any:
        """Everything that must hold at any instant."""
        self.watcher.person = tuple(self.driver.memory().get("holds", []))
        seen = self.watcher.look()
        for name, wrong in self.watcher.instant(seen, full=full):
            self.say(name, wrong, when)
        return seen

    def between(self, when: str) -> None:
        """Between two advances of the run."""
        self.instant(when)

    def listen(self) -> None:
        """Looks also inside an advance: after each commit and around each call (`thorough`), and at a transaction."""
        record = boundary._listener

        def listen(place: str) -> None:
            if record is not None:
                record(place)
            if place == "commit:before" and not self.tried_transaction:
                self.tried_transaction = True
                self.say("I13", invariants.i13_no_call_inside_transaction(), place)
            if self.thorough and place.startswith(_PEEKS):
                self.instant(place)

        boundary.listen(listen)
