"""A connector that does nothing at no cost, so that what is measured is the hub itself: engine, journal, vault, store."""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.world import Cpu, Timed, engine, open_product_hub
from keyturn.bootstrap import Keyturn
from keyturn.catalog import Catalog
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Field, Method, System
from keyturn.contract.values import Access, Candidate
from keyturn.model.card import Card, GapClass, Hands, Proof, Strategy
from keyturn.model.credential import Connection, ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, RunId, VersionId, new_id
from keyturn.model.plan import Goal
from keyturn.model.run import LineKind, Run, RunState
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected
from keyturn.operations import connections as connecting
from keyturn.operations import runs
from keyturn.planner.plans import plan as make_plan
from keyturn.storage import connections, journal, principals, versions
from keyturn.storage import runs as run_rows
from keyturn.storage.database import Tx
from keyturn.vault.secrets import version_row

_CARD = Card(
    Strategy.SET_ONE, Hands.AUTOMATIC, GapClass.Z1, Proof.D1, set_is_absolute=True, new_kills_old=True
)  # the shape of PostgreSQL's row
_FIELDS = (Field("principal", "Principal"), Field("secret", "Secret", secret=True))


class Vendor:
    """What every principal's value is."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._numbers = itertools.count()

    def verify(self, access: Access, material: Material) -> Probe:
        """Accepts the last value that was set."""
        name = str(access.settings["principal"])
        known = self.values.get(name, f"first-{name}")
        return accepted(name) if material["secret"] == known else rejected("wrong")

    def bogus(self, material: Material) -> Material:
        """A value nobody set."""
        return Material({**material, "secret": "bogus"}, material.public)

    def make(self, access: Access, slot: Ref) -> Candidate:  # noqa: ARG002 - as the Protocol says
        """The next number."""
        return Candidate(Ref(slot="one"), Material({"secret": f"value-{next(self._numbers)}"}))

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - as the Protocol says
        """Remembers it."""
        self.values[str(access.settings["principal"])] = material["secret"]


def catalog() -> Catalog:
    """A catalogue that has the connector, as an entry point would give it."""
    vendor = Vendor()

    def system() -> System:
        method = Method("none", "Nothing", "outbound", "Does nothing", _FIELDS, _CARD, ("principal",))
        return System("noop", "Nothing", "Does nothing", (), (method,))

    def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:  # noqa: ARG001 - one method
        return Capabilities(vendor, maker=vendor, setter=vendor)

    return Catalog(extra={"noop": SimpleNamespace(system=system, capabilities=capabilities)})  # type: ignore[dict-item]


def insert_connections(hub: Keyturn, count: int) -> list[Connection]:
    """Makes connections through the storage functions, many to a commit: connecting each would take minutes."""
    made: list[Connection] = []
    for first in range(0, count, 500):
        batch = range(first, min(first + 500, count))
        seals = []
        found: list[tuple[Connection, Version]] = []
        now = time.time()
        for index in batch:
            version_id = VersionId(new_id("ver"))
            material = Material({"secret": f"first-p{index}"})
            seals.append(hub.secrets.sealing(version_row(version_id), material.to_bytes(), now))
            connection = Connection(
                id=ConnectionId(new_id("con")),
                name=f"noop-{index}",
                system="noop",
                method="none",
                settings={"principal": f"p{index}"},
                principal_id=PrincipalId(""),
                owner="bench",
                policy={},
                identity={"principal": f"p{index}"},
                state=ConnectionState.ACTIVE,
                generation=0,
                current_version_id=version_id,
                definition_hash="",
                created_at=now,
            )
            version = Version(
                version_id,
                connection.id,
                PrincipalId(""),
                1,
                State.CURRENT,
                Ref(slot="one"),
                hub.roots.fingerprint(material["secret"]),
                Provenance.HUMAN,
                None,
                None,
                now,
            )
            found.append((connection, version))

        def work(tx: Tx, found: list[Any] = found, seals: list[Any] = seals) -> None:
            for connection, version in found:
                principal_id = principals.ensure(tx, f"noop/{connection.settings['principal']}")
                connections.add(tx, Connection(**{**connection.__dict__, "principal_id": principal_id}))
                versions.add(tx, Version(**{**version.__dict__, "principal_id": principal_id}))
            for seal in seals:
                seal(tx)

        hub.store.write(work)
        made += [connection for connection, _ in found]
    return made


def insert_runs(hub: Keyturn) -> int:
    """Queues a rotation of every connection, many to a commit. Rows and journal lines are those of `runs.start`."""
    every = connecting.every(hub)
    for first in range(0, len(every), 500):
        now = time.time()
        queued = []
        for connection in every[first : first + 500]:
            queued.append(_run(hub, connection, now))

        def work(tx: Tx, queued: list[Run] = queued) -> None:
            for run in queued:
                facts = {"decision": "started", "goal": run.goal.value, "by": "bench", "reason": ""}
                run_rows.add(tx, run)
                entry = journal.Entry(run.created_at, run.id, "start", LineKind.DECISION, 0, facts)
                journal.append(tx, run.connection_id, [entry])

        hub.store.write(work)
    return len(every)


def _run(hub: Keyturn, connection: Connection, now: float) -> Run:
    made = make_plan(runs.situation(hub, connection), Goal.ROTATE)
    return runs.queued(RunId(new_id("run")), connection, made, new_id("trg"), "", now)


def insert_history(hub: Keyturn, many: int) -> None:
    """Gives every connection so many values that are dead and runs that have ended, as a grant that renews itself every
    hour collects them."""
    for connection in connecting.every(hub):
        known = hub.store.read(lambda tx, c=connection: versions.of_connection(tx, c.id))
        serving, now = known[0], time.time()
        ended = replace(_run(hub, connection, now), state=RunState.COMPLETE, due_at=0.0, ended_at=now)

        def work(tx: Tx, serving: Version = serving, ended: Run = ended) -> None:
            for number in range(serving.number + 1, serving.number + many + 1):
                dead = replace(serving, id=VersionId(new_id("ver")), number=number, state=State.DEAD)
                versions.add(tx, dead)
                run_rows.add(tx, replace(ended, id=RunId(new_id("run")), trigger=new_id("trg")))

        hub.store.write(work)


@contextmanager
def noop_hub(home: Path, count: int, database: str = "") -> Iterator[Keyturn]:
    """A hub with `count` connections that cost nothing to rotate."""
    hub = open_product_hub(home, database, catalog())
    try:
        insert_connections(hub, count)
        yield hub
    finally:
        hub.close()


def finish(hub: Keyturn, in_flight: int, count: int) -> tuple[float, Timed]:
    """Lets the engine end everything that is queued; seconds, and when each run came to rest."""
    began = time.perf_counter()
    with engine(hub, in_flight) as (going, timed):
        done = going.engine.run_until(
            lambda: len(timed.ended_at) >= count and not hub.store.read(run_rows.unfinished), timeout_s=300
        )
        seconds = time.perf_counter() - began
    assert done, "the runs did not end"
    bad = hub.store.read(
        lambda tx: tx.one("SELECT COUNT(*) FROM run WHERE state <> 'complete' OR proof <> 'D1'")
    )
    assert bad is not None and bad[0] == 0, "a run did not complete"
    return seconds, timed


def overhead(hub: Keyturn, in_flight: int) -> dict[str, float]:
    """One round over every connection, `runs.start` included: ms of time and of CPU per run."""
    names = [each.name for each in connecting.every(hub)]
    cpu = Cpu()
    with engine(hub, in_flight) as (going, timed):
        began = time.perf_counter()
        with ThreadPoolExecutor(in_flight) as callers:
            list(callers.map(lambda name: runs.start(going, name, Goal.ROTATE), names))
        going.engine.run_until(
            lambda: len(timed.ended_at) >= len(names) and not hub.store.read(run_rows.unfinished), 120
        )
        seconds = max(timed.ended_at) - began
    return {"ms": seconds / len(names) * 1000, "cpu_ms": cpu.spent()[0] / len(names) * 1000}


def queue(home: Path, count: int, in_flight: int = 8) -> dict[str, float]:
    """Queues `count` runs, then lets the engine end them: throughput at the start and the end, and peak memory."""
    with noop_hub(home, count) as hub:
        insert_runs(hub)
        before = _rss_mb()
        seconds, timed = finish(hub, in_flight, count)
    ended = sorted(timed.ended_at)
    part = max(2, min(1000, count // 4))
    return {
        "runs": count,
        "first_1k_per_s": (part - 1) / (ended[part - 1] - ended[0]),
        "last_1k_per_s": (part - 1) / (ended[-1] - ended[-part]),
        "per_s": count / seconds,
        "peak_rss_mb": _rss_mb(),
        "rss_before_mb": before,
    }


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":  # in a process of its own, so that its memory is its own
    print(json.dumps(queue(Path(sys.argv[1]), int(sys.argv[2]))))
