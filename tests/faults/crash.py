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
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from keyturn import boundary
from keyturn.bootstrap import Keyturn
from keyturn.engine.sweep import free_dead_holders
from keyturn.executor.executor import Executor
from keyturn.model.run import TERMINAL, Run, RunState, Task, TaskState
from keyturn.operations import runs, tasks
from keyturn.operations.connections import find
from keyturn.storage import runs as run_rows
from keyturn_lab.vendors.shapes import Client
from tests.faults import invariants, world
from tests.faults import shapes_connector as shapes
from tests.faults.cases import APPLY_LAG_S, DEADLINE_S, LEEWAY_S, SETTLE_S, Case
from tests.faults.clock import SharedClock
from tests.faults.invariants import INSTANT
from tests.faults.seen import Seen, Start, Watcher

LIMIT_S = 30.0  # of real time, for one child
ROUNDS = 400
ONCE_MORE = 4  # one case in so many goes on to a second rotation; each that nobody was killed in does
_STUCK = 3  # times a run may come back to the same waiting state before it counts as at rest
_PEEKS = ("commit:after", "call:")

shapes.DEADLINE_S = 10.0  # real seconds; what a time-out means is told by the vendor closing at once


@dataclass
class Bench:
    """One worker's tools: its own vendor, its clock, a home to copy, a folder for cases."""

    client: Client
    clock: SharedClock
    folder: Path
    server: str = ""  # a PostgreSQL server's address for a superuser, without a database; empty: SQLite
    template: Path | None = None
    cases: int = 0
    mutate: Callable[[], None] | None = None  # breaks the product on purpose, in the children

    def prepare(self) -> None:
        """Makes the template home, in a child because an open hub has threads."""
        self.template = self.folder / "template"
        self.template.mkdir()
        if self.server:
            self._recreate("template", "template0")
        status, _ = _in_child(lambda _: open_world(self, self.template).close())
        if status:
            raise RuntimeError("the template hub could not be made")
        _import_what_children_import(self)
        gc.collect()
        gc.freeze()

    def database(self, which: str) -> str:
        """The address of this worker's own database; empty for SQLite."""
        return (
            f"{self.server}/faults_{os.path.basename(self.folder).replace('-', '_')}_{which}"
            if self.server
            else ""
        )

    def _recreate(self, which: str, like: str) -> None:
        name, like = self._name(which), like if like == "template0" else self._name(like)
        with psycopg.connect(f"{self.server}/postgres", autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[call-overload]
            server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')  # type: ignore[call-overload]

    def _name(self, which: str) -> str:
        return self.database(which).rpartition("/")[2]


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


def open_world(bench: Bench, folder: Path | None) -> Keyturn:
    """A hub in a case's folder, with cards as slow as real ones: time leaps."""
    assert folder is not None
    return world.open_world(
        folder,
        bench.database(folder.name if folder == bench.template else "case"),
        patience=1.0,
        settle_s=SETTLE_S,
        call_deadline_s=DEADLINE_S,
        apply_lag_s=APPLY_LAG_S,
    )


def run(bench: Bench, case: Case, *, verbose: bool = False, thorough: bool = False) -> Result:
    """Runs one case. `thorough` looks at every instant; it is implied where nobody is killed."""
    bench.cases += 1
    folder = bench.folder / f"case-{bench.cases}"
    _copy(bench, folder)
    bench.clock.reset(bench.client)
    result = Result(case.name)
    try:
        status, said = _in_child(lambda out: _first(bench, case, folder, out), folder / "first.txt")
        result.places = [tuple(each) for each in (said or {}).get("places", [])]
        result.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not result.killed and status:
            result.violations.append(("END", _fate("the first process", status, folder / "first.txt")))
        if case.then and not result.violations:
            status, said = _in_child(
                lambda out: _second(bench, case, folder, out, die=case.then), folder / "again.txt"
            )
            if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                result.violations.append(("END", _fate("the second process", status, folder / "again.txt")))
        status, said = _in_child(
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


def _import_what_children_import(bench: Bench) -> None:
    """Lazy imports cost a child more than all of its work: what one of them imported, this process imports once."""
    case = Case.parse("two_slots/rotate/none/never#0")
    folder = bench.folder / "warm"
    _copy(bench, folder)
    bench.clock.reset(bench.client)
    before = set(sys.modules)

    def work(tell: Callable[[Any], None]) -> None:
        _first(bench, case, folder, lambda _: None)
        tell(sorted(set(sys.modules) - before))

    _, names = _in_child(work, folder / "first.txt")
    for name in names or ():
        with suppress(ImportError):
            importlib.import_module(name)
    shutil.rmtree(folder, ignore_errors=True)


def _copy(bench: Bench, folder: Path) -> None:
    assert bench.template is not None
    if bench.server:
        bench._recreate("case", "template")
    (folder / "home").mkdir(parents=True)
    for path in bench.template.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(bench.template)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name.endswith(".reserve"):
                continue
            shutil.copyfile(path, target)
            target.chmod(path.stat().st_mode & 0o777)


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


def _in_child(work: Callable[[Callable[[Any], None]], None], output: Path | None = None) -> tuple[int, Any]:
    """Runs `work` in a forked child with a hard time limit; what it told, and its wait status."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)  # the default action of SIGALRM ends the process
            if output is not None:
                handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(handle, 1)
                os.dup2(handle, 2)

            def tell(what: Any) -> None:
                os.write(writer, b"")  # keeps the pipe's end in this closure alive
                with os.fdopen(os.dup(writer), "w") as out:
                    json.dump(what, out)

            work(tell)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    _, status = os.waitpid(pid, 0)
    return status, json.loads(text) if text else None


# -- the first process: connects, arms the fault, rotates, dies ---------------------------------------------------


def _first(bench: Bench, case: Case, folder: Path, tell: Callable[[Any], None]) -> None:
    bench.clock.install()
    random.seed(case.name)
    if bench.mutate is not None:
        bench.mutate()
    hub = open_world(bench, folder)
    name = principal_name(case)
    start = _set_up(bench, hub, case, name)
    (folder / "start.json").write_text(start.dump())
    places: list[tuple[str, int]] = []
    with _dying(case.place, case.k, places):
        made = runs.start(hub, name, case.subject.goal, trigger=case.name)
        Driver(bench, hub, case, folder).drive(made.id)
    tell({"places": places})
    hub.close()


def principal_name(case: Case) -> str:
    """The vendor's name for it, also the connection's."""
    return f"p-{case.subject.name}"


def _set_up(bench: Bench, hub: Keyturn, case: Case, name: str) -> Start:
    subject, fault, client = case.subject, case.fault, bench.client
    options = dict(subject.options)
    if fault.name == "lockout":
        options["lockout"] = {
            "max_failures": shapes.LOCKOUT.max_failures,
            "window_s": shapes.LOCKOUT.window_s,
        }
    made = world.connect(hub, client, subject.method, name, **options)
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
        c["id"]
        for c in alive
        if c["id"] == ref.get("id") or (c["slot"] and c["fingerprint"] == ref.get("fingerprint"))
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


@contextmanager
def _dying(place: str, k: int, places: list[tuple[str, int]]) -> Iterator[None]:
    """Records every place reached, and ends this process for good at the k-th time `place` is."""
    seen: Counter[str] = Counter()

    def listen(reached: str) -> None:
        seen[reached] += 1
        if reached == place and seen[reached] == k:
            os.kill(os.getpid(), signal.SIGKILL)
        places.append((reached, seen[reached]))

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
    random.seed(case.name + "again")
    if bench.mutate is not None:
        bench.mutate()
    hub = open_world(bench, folder)
    start = Start.load((folder / "start.json").read_text())
    driver = Driver(bench, hub, case, folder)
    watcher = Watcher(case, start, hub, bench.client, secrets=set(start.secrets))
    checks = Checks(watcher, driver, thorough=thorough)
    answered = invariants.in_receipts(checks.instant("at the crash", full=True))
    places: list[tuple[str, int]] = []
    with _dying(*(die or ("never", 0)), places), checks.listening(places):
        free_dead_holders(hub.store)
        made = runs.start(hub, start.name, case.subject.goal, trigger=case.name)
        stopped = driver.drive(made.id, checks.between)
    seen = checks.instant("at rest", full=True)
    checks.say("END", invariants.ends_well(seen, stopped), "at rest")
    checks.say("I1", invariants.i1_ends_working(watcher, seen), "at rest")
    checks.say("I1", invariants.i1_receipts_are_read(answered, seen), "at rest")
    checks.say("I10", invariants.i10_chain_holds(seen), "at rest")
    text = _journal(seen) if verbose or checks.found else ""
    is_chosen = thorough or invariants.is_refresh(case) or zlib.crc32(case.name.encode()) % ONCE_MORE == 0
    if is_chosen and seen.run is not None and seen.run.state is RunState.COMPLETE and not checks.found:
        checks.say("I12", _once_more(bench, hub, driver, checks), "once more")
    if verbose:
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
    bench.client.call("disarm", principal=name)
    bench.clock.leap(bench.client, 3 * LEEWAY_S)
    made = runs.start(hub, name, driver.case.subject.goal, trigger="once more")
    driver.answered = 0
    stopped = driver.drive(made.id)
    again = runs.get(hub, made.id)
    seen = checks.watcher.look()
    if stopped or again.state is not RunState.COMPLETE:
        return f"the next one ends {again.state.value}: {stopped or again.waiting_for or again.outcome}"
    return invariants.i1_ends_working(checks.watcher, seen)


def _journal(seen: Seen) -> str:
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

    watcher: Watcher
    driver: Driver
    thorough: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)
    tried_transaction: bool = False

    def say(self, invariant: str, wrong: str, when: str) -> None:
        if wrong and not any(name == invariant for name, _ in self.found):
            self.found.append((invariant, f"{wrong} [{when}]"))

    def instant(self, when: str, *, full: bool = False) -> Seen:
        """Everything that must hold at any instant."""
        self.watcher.person = tuple(self.driver.memory().get("holds", []))
        seen = self.watcher.look()
        for name, check in INSTANT.items():
            if full or name not in {"I3", "I8", "I11"}:
                self.say(name, check(seen), when)
        self.say("I6", invariants.i6_consumers_work(self.watcher, seen), when)
        return seen

    def between(self, when: str) -> None:
        """Between two advances of the run."""
        self.instant(when)

    @contextmanager
    def listening(self, places: list[tuple[str, int]]) -> Iterator[None]:
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
        yield


class Driver:
    """Does what engine and people would do, and leaps over the waits."""

    def __init__(self, bench: Bench, hub: Keyturn, case: Case, folder: Path | None) -> None:
        self.bench, self.hub, self.case, self.folder = bench, hub, case, folder
        self.answered = 0

    def drive(self, run_id: str, check: Callable[[str], None] = lambda _: None) -> str:
        """To quiescence; words when it is not reached."""
        stuck: Counter[RunState] = Counter()
        executor = Executor(self.hub.hub)
        for _ in range(ROUNDS):
            made = runs.get(self.hub, run_id)
            if made.state in TERMINAL:
                return ""
            if made.state in {RunState.WAITING_HUMAN, RunState.LOST} and self._people(made):
                continue
            wait = made.due_at - self.bench.clock.now()
            if made.state in invariants.WAITS and wait > 60:
                stuck[made.state] += 1
                if stuck[made.state] > _STUCK:
                    return ""
            if wait > 0:
                self._leap(wait, check)
            executor.advance(made.id)
            check("between two steps")
        return f"no rest after {ROUNDS} rounds"

    def _leap(self, wait: float, check: Callable[[str], None]) -> None:
        self.bench.clock.leap(self.bench.client, wait / 2)
        check("while waiting")
        self.bench.clock.leap(self.bench.client, wait / 2 + 1e-3)

    # -- people: their memory survives our crashes ---------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """What the person holds in their hands and head."""
        path = self.folder / "person.json" if self.folder else None
        return json.loads(path.read_text()) if path and path.exists() else {}

    def _remember(self, **what: Any) -> None:
        if self.folder:
            (self.folder / "person.json").write_text(json.dumps({**self.memory(), **what}))

    def _people(self, made: Run) -> bool:
        """Whether somebody did something."""
        did = False
        for task in tasks.waiting(self.hub):
            if task.run_id == made.id and task.state in {
                TaskState.OPEN,
                TaskState.RETURNED,
                TaskState.CLAIMED,
            }:
                if self.answered >= 6:
                    return False  # people give up too
                self.answered += 1
                self._answer(task)
                did = True
        return did

    def _answer(self, task: Task) -> None:
        name, client, fault = principal_name(self.case), self.bench.client, self.case.fault.name
        again = int(self.memory().get("tries", 0))
        if task.kind == "supply" and self.case.subject.name != "supplied":
            tasks.submit(self.hub, task.id, self._rescue(name, client))
        elif task.kind == "supply":
            if fault == "wrong_paste" and not again:
                self._remember(tries=1)
                tasks.submit(self.hub, task.id, {"key_id": f"{name}.77", "secret": "ktlab-not-a-key-at-all"})
                return
            holds = self.memory().get("holds", [])
            if not holds or task.state is TaskState.RETURNED:
                holds = [shapes.person_supplies(client, name), *holds]
                self._remember(holds=holds)
            tasks.submit(self.hub, task.id, shapes.pasted(holds[0]))
            self._remember(holds=holds[1:])
        elif task.kind == "consent":
            url = next(str(i["url"]) for i in task.instructions if "url" in i)
            more: dict[str, Any] = {}
            if not again and fault in {"denied", "fewer_rights"}:
                self._remember(tries=1)
                more = {"deny": True} if fault == "denied" else {"rights": ["read"]}
            tasks.submit(self.hub, task.id, {"callback_url": shapes.person_consents(url, **more)})
        elif task.kind == "delete":
            text = " ".join(str(i["text"]) for i in task.instructions)
            which = text.split("Delete the key ")[1].split(" of ")[0]
            shapes.person_deletes(client, name, which)
            tasks.submit(self.hub, task.id, {})

    def _rescue(self, name: str, client: Client) -> dict[str, str]:
        """What a person brings who follows the vendor's recovery steps: reset there, by their own rights."""
        method = self.case.subject.method
        if method == "grant":
            raise AssertionError("a grant is asked for in the browser")
        if method == "many_ids":
            made = client.call("issue", principal=name, by="person", label="by hand")
            return {"key_id": made["id"], "secret": made["value"]}
        slot = {"two_slots": "a", "named_slots": "k1", "regenerate": "key"}.get(method, "password")
        if method in {"named_slots", "regenerate"}:
            return {
                "slot": slot,
                "secret": client.call("regenerate", principal=name, by="person", slot=slot)["value"],
            }
        value = f"ktlab-by-hand-{self.answered}-{os.urandom(8).hex()}"
        client.call("set", principal=name, by="person", slot=slot, value=value)
        return {"slot": slot, "secret": value}


def unfinished(hub: Keyturn) -> int:
    """Runs that have not ended."""
    return hub.store.read(run_rows.unfinished)
