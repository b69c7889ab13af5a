"""One worker's tools: its own vendor and clock, a home to copy for each case, and children to run things in.

Whoever uses them must hold no threads: they fork.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from keyturn.bootstrap import Keyturn
from keyturn_lab.vendors.shapes import Client
from tests.faults import world
from tests.faults.cases import APPLY_LAG_S, DEADLINE_S, SETTLE_S
from tests.faults.clock import SharedClock

WORK_S, LIMIT_S = (
    30.0,
    300.0,
)  # of computing and of real time, for one child: a busy machine is slow and not wrong


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
            self.recreate("template", "template0")
        status, _ = in_child(lambda _: open_world(self, self.template).close())
        if status:
            raise RuntimeError("the template hub could not be made")

    def database(self, which: str) -> str:
        """The address of this worker's own database; empty for SQLite."""
        return (
            f"{self.server}/faults_{os.path.basename(self.folder).replace('-', '_')}_{which}"
            if self.server
            else ""
        )

    def recreate(self, which: str, like: str) -> None:
        name, like = self._name(which), like if like == "template0" else self._name(like)
        with psycopg.connect(f"{self.server}/postgres", autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[call-overload]
            server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')  # type: ignore[call-overload]

    def _name(self, which: str) -> str:
        return self.database(which).rpartition("/")[2]


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


def copy_home(bench: Bench, folder: Path) -> None:
    assert bench.template is not None
    if bench.server:
        bench.recreate("case", "template")
    (folder / "home").mkdir(parents=True)
    for path in bench.template.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(bench.template)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name.endswith(".reserve"):
                continue
            shutil.copyfile(path, target)
            target.chmod(path.stat().st_mode & 0o777)


def in_child(work: Callable[[Callable[[Any], None]], None], output: Path | None = None) -> tuple[int, Any]:
    """Runs `work` in a forked child with a hard time limit; what it told, and its wait status."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            gc.disable()  # it lives for a moment; a collection would only copy pages
            signal.setitimer(
                signal.ITIMER_PROF, WORK_S
            )  # the default actions of SIGPROF and SIGALRM end the process
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
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
