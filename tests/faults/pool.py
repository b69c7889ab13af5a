"""Runs cases in several processes: each with its own vendor, taking the next case when it has finished one."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from keyturn_lab.vendors.shapes import Shapes
from tests.faults.bench import Bench
from tests.faults.cases import Case
from tests.faults.clock import SharedClock
from tests.faults.crash import Result, run, warm

MEMORY = Path("/dev/shm")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: a kill of the process loses nothing there that a disk would keep."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="ktfaults-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def bench(server: str = "", mutate: Callable[[], None] | None = None) -> Iterator[Bench]:
    """One worker's tools. The caller must hold no threads."""
    with scratch() as folder, Shapes.in_process() as vendor:
        made = Bench(vendor.client, SharedClock(), folder, server, mutate=mutate)
        made.prepare()
        warm(made)
        yield made


def run_all(
    cases: Sequence[Case],
    workers: int,
    each: Callable[[Result], None],
    server: str = "",
) -> None:
    """Calls `each` with every result as it comes."""
    if workers <= 1:
        with bench(server) as tools:
            for case in cases:
                each(run(tools, case))
        return
    waiting = list(cases)[::-1]
    with selectors.DefaultSelector() as ready:
        started = [_start(server) for _ in range(min(workers, max(1, len(waiting))))]
        try:
            for pid, give, take in started:
                ready.register(take, selectors.EVENT_READ, (pid, give))
                _give(give, waiting)
            busy = len(started)
            while busy:
                for key, _ in ready.select():
                    line = key.fileobj.readline()  # type: ignore[union-attr]
                    if not line:
                        ready.unregister(key.fileobj)
                        busy -= 1
                        continue
                    each(_result(json.loads(line)))
                    _give(key.data[1], waiting)
        finally:
            for pid, give, take in started:
                give.close()
                take.close()
                os.waitpid(pid, 0)
    if waiting:
        raise RuntimeError(f"the workers are gone and {len(waiting)} cases were not run")


def _give(give: IO[str], waiting: list[Case]) -> None:
    give.write((waiting.pop().name if waiting else "") + "\n")
    give.flush()


def _result(data: dict[str, object]) -> Result:
    made = Result(**data)  # type: ignore[arg-type]
    made.places = [(place, k) for place, k in made.places]
    made.then_places = [(place, k) for place, k in made.then_places]
    made.violations = [(name, text) for name, text in made.violations]
    return made


def _start(server: str) -> tuple[int, IO[str], IO[str]]:
    orders, give = os.pipe()
    take, answers = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(give)
            os.close(take)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with os.fdopen(orders) as asked, os.fdopen(answers, "w") as told, bench(server) as tools:
                for line in asked:
                    if not line.strip():
                        break
                    told.write(json.dumps(run(tools, Case.parse(line.strip())).__dict__) + "\n")
                    told.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(orders)
    os.close(answers)
    return pid, os.fdopen(give, "w"), os.fdopen(take)


def took(since: float) -> str:
    """Seconds since, for people."""
    return f"{time.monotonic() - since:.0f} s"
