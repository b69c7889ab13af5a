"""Two real worker processes on one store: one is stopped for longer than its lease, the other takes the run over.

In real time, since a stopped process cannot leap. The leases and cards are short instead.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keyturn import boundary
from keyturn.bootstrap import Keyturn
from keyturn.executor.executor import Executor
from keyturn.model.run import TERMINAL
from keyturn.operations import runs
from keyturn_lab.vendors.shapes import Client, Shapes
from tests.faults import invariants, world
from tests.faults.bench import in_child
from tests.faults.cases import Case
from tests.faults.driver import principal_name
from tests.faults.pool import scratch
from tests.faults.seen import Start, Watcher

LEASE_S = 0.5
LIMIT_S = 15.0
PLACES = (
    "line:INTENT:stage:after",
    "commit:after",
    "call:stage:after",
    "probe:new:after",
    "line:DECISION:cutover:after",
)


@dataclass(frozen=True)
class Table:
    """Where both workers sit: a folder with one store, and a vendor."""

    folder: Path
    client: Client
    database: str = ""


@contextmanager
def table(database: str = "") -> Iterator[Table]:
    """A vendor in a process of its own and an empty folder."""
    with scratch() as folder, Shapes.in_process() as vendor:
        yield Table(folder, vendor.client, database)


def open_hub(at: Table) -> tuple[Keyturn, Executor]:
    """A hub with a short lease."""
    hub = world.open_world(at.folder, at.database)
    return hub, Executor(replace(hub.hub, lease_s=LEASE_S))


def advance(hub: Keyturn, executor: Executor, run_id: str) -> str:
    """Tries to go on until the run has ended, whoever ends it. The state."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        made = runs.get(hub, run_id)
        if made.state in TERMINAL:
            return made.state.value
        pause = made.due_at - time.time()
        if pause > 0:
            time.sleep(min(pause, 0.05))
            continue
        executor.advance(made.id)
        time.sleep(0.01)  # somebody else may hold it
    return f"not ended: {runs.get(hub, run_id).state.value}"


def stopped_at(
    at: Table, case: Case, breaks: Callable[[], None] | None = None, steal: bool = False
) -> list[str]:
    """What is wrong after a worker slept at `case`'s place beyond its lease (or was robbed of it) and woke up again."""
    name = principal_name(case)
    _, told = in_child(lambda tell: tell(_prepare(at, case, name)))
    start, run_id = Start.load(told["start"]), told["run"]
    sleeper = _fork(lambda: _sleeper(at, case, run_id, breaks))
    asleep = _await_stop(sleeper)
    if steal:
        in_child(lambda _: _steal(at))
    other = _fork(lambda: _other(at, run_id, breaks), at.folder / "other.txt")
    if steal:
        time.sleep(0.05)  # both run now
        _wake(sleeper, asleep)
    ended = [_status(other)]
    if not steal:
        _wake(sleeper, asleep)
    ended.append(_status(sleeper))
    _, wrong = in_child(lambda tell: tell(_judge(at, case, start, run_id)))
    if wrong is None:
        return ["the judge died"]
    fates = [f"a worker ended with {code}" for code in ended if code]
    return [*wrong, *fates, *([] if asleep else ["the worker never came to that place"])]


def _prepare(at: Table, case: Case, name: str) -> dict[str, str]:
    hub, _ = open_hub(at)
    made = world.connect(hub, at.client, case.subject.method, name, **case.subject.options)
    alive = at.client.call("alive", principal=name)
    ours = next(c["id"] for c in alive if c["id"] not in made.said["strangers"])
    start = Start(name, frozenset(made.said["strangers"]), ours, made.said["admin"] or "", frozenset())
    run = runs.start(hub, name, case.subject.goal)
    hub.close()
    return {"start": start.dump(), "run": run.id}


def _fork(work: Callable[[], None], output: Path | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.setitimer(signal.ITIMER_REAL, 3 * LIMIT_S)
            if output is not None:
                handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def _sleeper(at: Table, case: Case, run_id: str, breaks: Callable[[], None] | None) -> None:
    if breaks is not None:
        breaks()
    hub, executor = open_hub(at)
    seen = 0

    def listen(place: str) -> None:
        nonlocal seen
        seen += place == case.place
        if place == case.place and seen == case.k:
            boundary.listen(None)
            os.kill(os.getpid(), signal.SIGSTOP)

    boundary.listen(listen)
    advance(hub, executor, run_id)
    hub.close()


def _other(at: Table, run_id: str, breaks: Callable[[], None] | None) -> None:
    if breaks is not None:
        breaks()
    hub, executor = open_hub(at)
    advance(hub, executor, run_id)
    hub.close()


def _steal(at: Table) -> None:
    hub, _ = open_hub(at)
    hub.store.write(lambda tx: tx.run("UPDATE principal SET lease_until = 0"))
    hub.close()


def _await_stop(pid: int) -> bool:
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
        if done and os.WIFSTOPPED(status):
            return True
        if done:
            return False
        time.sleep(0.005)
    return False


def _wake(pid: int, asleep: bool) -> None:
    if asleep:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _status(pid: int) -> int:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return 0
    return status


def _judge(at: Table, case: Case, start: Start, run_id: str) -> list[str]:
    hub, executor = open_hub(at)
    state = advance(hub, executor, run_id)
    watcher = Watcher(case, start, hub, at.client)
    seen = watcher.look()
    wrong = [f"{name}: {text}" for name, check in invariants.INSTANT.items() if (text := check(seen))]
    wrong += [f"I6: {text}" for text in [invariants.i6_consumers_work(watcher, seen)] if text]
    wrong += [f"I10: {text}" for text in [invariants.i10_chain_holds(seen)] if text]
    if state != "complete":
        wrong.append(f"END: {state} {seen.run.waiting_for if seen.run else ''}")
    if len(seen.ours) != 1:
        wrong.append(f"I8: {len(seen.ours)} credentials live at the vendor")
    wrong += _effects(case, seen)
    hub.close()
    return wrong


def _effects(case: Case, seen: Any) -> list[str]:
    """One set of effects: each call took effect once. An answer that slept too long counts as lost: made once more."""
    wrong = []
    for op in (case.subject.stage, case.subject.end):
        count = sum(h["op"] == op and h["changed"] and h["by"] == "hub" for h in seen.history)
        most = 2 if case.place.startswith("call:") else 1
        if op and not 1 <= count <= most:
            wrong.append(f"I8: {op} took effect {count} times")
    cuts = [line for line in seen.lines if line.facts.get("decision") == "cutover"]
    if len(cuts) != 1:
        wrong.append(f"I8: switched {len(cuts)} times")
    return wrong


def overtaken(breaks: Callable[[], None], places: Sequence[str] = PLACES) -> str:
    """For the mutations: what the two workers did wrong together; empty when nothing."""
    for place in places:
        with table() as at:
            wrong = stopped_at(at, Case.parse(f"two_slots/rotate/none/{place}#1"), breaks)
        told = [text for text in wrong if text.startswith("I8")]
        if told:
            return f"{place}: {told[0]}"
    return ""
