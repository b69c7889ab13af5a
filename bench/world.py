"""What is measured, made for one run and thrown away: PostgreSQL clusters that sync to disk, hubs, connections."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from keyturn.bootstrap import Keyturn, open_hub
from keyturn.catalog import Catalog
from keyturn.contract.values import NetworkPolicy
from keyturn.engine.embedded import Embedded
from keyturn.executor.executor import Claim, Executor
from keyturn.model.ids import RunId
from keyturn.operations import connections
from keyturn.settings import Settings
from keyturn_lab.parts.postgres import PostgresCluster, Role

STORES = ("sqlite", "postgresql")
LOOPBACK = NetworkPolicy(frozenset({"127.0.0.1"}))
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Product:
    """One hub on one store, and the roles it keeps: `names` are its connections, in the order of `roles`."""

    store: str
    hub: Keyturn
    names: tuple[str, ...]
    roles: tuple[Role, ...]


@contextmanager
def clusters() -> Iterator[tuple[PostgresCluster, PostgresCluster]]:
    """The server whose roles are rotated, and another one for the PostgreSQL store. Both with fsync on."""
    options = {"log_statement": "none", "log_connections": "off"}
    with (
        PostgresCluster(fsync=True, max_connections=300, options=options) as target,
        PostgresCluster(fsync=True, max_connections=100, options=options) as keeping,
    ):
        yield target, keeping


@contextmanager
def folder() -> Iterator[Path]:
    """A private folder on the disk that the temporary files are on."""
    path = Path(tempfile.mkdtemp(prefix="keyturn-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def open_product_hub(home: Path, database: str = "", catalog: Catalog | None = None) -> Keyturn:
    """A fresh hub as `keyturn init` makes it."""
    settings = Settings(
        home=home,
        database=database or f"sqlite:///{home / 'keyturn.db'}",
        kek=f"file:{home.with_name(home.name + '-config') / 'kek'}",
        network=LOOPBACK,
        actor="bench",
    )
    return open_hub(settings, create=True, catalog=catalog)


@contextmanager
def product(
    store: str, home: Path, target: PostgresCluster, keeping: PostgresCluster, roles: list[Role], admin: Role
) -> Iterator[Product]:
    """A hub with one connection for each role, connected the way a person does it: tested, then saved."""
    database = keeping.create_database("keyturn") if store == "postgresql" else ""
    hub = open_product_hub(home, database)
    names = tuple(f"{store}-{role.name}" for role in roles)

    def connect(index: int) -> None:
        values = {
            "host": target.host,
            "port": str(target.port),
            "database": "postgres",
            "sslmode": "disable",
            "user": roles[index].name,
            "password": roles[index].password,
            "admin_user": admin.name,
            "admin_password": admin.password,
        }
        connections.connect(hub, "postgresql", "password", names[index], values)

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(connect, range(len(roles))))
        yield Product(store, hub, names, tuple(roles))
    finally:
        hub.close()


class Timed:
    """Stands before the executor and tells when each run was put down."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._at_rest: SimpleQueue[tuple[str, float]] = SimpleQueue()
        self.ended_at: list[float] = []

    def advance(self, run_id: RunId, claim: Claim | None = None) -> bool:
        """As the executor's."""
        try:
            return self._executor.advance(run_id, claim)
        finally:
            now = time.perf_counter()
            self.ended_at.append(now)
            self._at_rest.put((run_id, now))

    def claim(self, *what: Any) -> Claim | None:
        """As the executor's."""
        return self._executor.claim(*what)

    def next_at_rest(self) -> tuple[str, float]:
        """The next run that was put down, and when. Raises: Empty after two minutes."""
        return self._at_rest.get(timeout=120)


@contextmanager
def engine(hub: Keyturn, in_flight: int) -> Iterator[tuple[Keyturn, Timed]]:
    """The same hub with an engine of its own that keeps `in_flight` runs going."""
    executor = Executor(hub.hub)
    timed = Timed(executor)
    made = Embedded(cast(Executor, timed), hub.store, time.time, in_flight)
    executor.hub = replace(hub.hub, wake=made.wake)
    made.start()
    try:
        yield replace(hub, engine=made), timed
    finally:
        made.stop()


def shuffled(count: int, seed: int) -> list[int]:
    """The same order for everybody in one round."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


class Cpu:
    """CPU seconds since the last look: of this process, and of PostgreSQL servers with all their sessions."""

    def __init__(self, *servers: PostgresCluster) -> None:
        self._servers = servers
        self._seen = self._now()

    def spent(self) -> tuple[float, float]:
        """(ours, theirs) since the last call."""
        now, before = self._now(), self._seen
        self._seen = now
        return now[0] - before[0], now[1] - before[1]

    def _now(self) -> tuple[float, float]:
        return time.process_time(), sum(map(_server_seconds, self._servers))


def _server_seconds(server: PostgresCluster) -> float:
    pid_file = Path(server.log_path).parent / "data" / "postmaster.pid"
    root = int(pid_file.read_text().split()[0])
    total = _ticks(root, ended=True)
    for child in Path(f"/proc/{root}/task/{root}/children").read_text().split():
        total += _ticks(int(child), ended=False)
    return total / _TICK


def process_seconds(pid: int) -> float:
    """CPU seconds of a process so far."""
    return _ticks(pid, ended=False) / _TICK


def _ticks(pid: int, *, ended: bool) -> int:
    """User and system time; with that of children that have ended and were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15] if ended else fields[11:13]))
