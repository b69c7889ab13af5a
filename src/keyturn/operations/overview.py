"""All connections at a glance: found, filtered, sorted, in pages; what needs somebody today; and whether it changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.model.policy import Policy
from keyturn.model.run import TERMINAL, Debt, Run, RunState, Task
from keyturn.operations import approvals, debts, runs, tasks
from keyturn.storage import listing
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import load

SOON_S = 30 * 86400.0
PAGE = 50
_GONE = frozenset({"disconnected", "revoked"})


@dataclass(frozen=True)
class Line:
    """One connection. `since` is when its credential was made or came here; `due` when its policy wants the next."""

    id: str
    name: str
    system: str
    method: str
    owner: str
    project: str
    state: str
    created_at: float
    version: int | None
    since: float | None
    due: float | None
    expires: float | None
    run: str = ""
    goal: str = ""
    run_state: str = ""
    debts: int = 0
    tasks: int = 0

    @property
    def health(self) -> str:
        """What matters most about it now: one word of `HEALTH`."""
        if self.run_state in {"lost", "blocked"}:
            return self.run_state
        if self.state == "needs_reauth":
            return "needs_reauth"
        if self.run_state:
            return "waits" if self.tasks or self.run_state in _FOR_PEOPLE else "running"
        if self.state in _GONE:
            return self.state
        now = time.time()
        if self.expires is not None and self.expires <= now:
            return "expired"
        if self.due is not None and self.due <= now:
            return "overdue"
        if self.debts:
            return "owes"
        if self.expires is not None and self.expires - now < SOON_S:
            return "expiring"
        return "paused" if self.state == "paused" else "good"


_FOR_PEOPLE = frozenset({"waiting_human", "waiting_approval"})
HEALTH: Mapping[str, str] = {
    "lost": "Lost: no known credential works",
    "blocked": "Blocked",
    "expired": "Expired",
    "needs_reauth": "Needs authorization",
    "overdue": "Rotation overdue",
    "waits": "Waits for a person",
    "running": "Run under way",
    "owes": "Has debts",
    "expiring": "Expires soon",
    "paused": "Paused",
    "good": "Good",
    "revoked": "Not authorized",
    "disconnected": "Disconnected",
}


def lines(hub: Keyturn, projects: frozenset[str] | None = None) -> list[Line]:
    """Every connection by name; only those of some projects when given."""

    def work(tx: Tx) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
        return listing.light(tx), listing.unfinished(tx), listing.owed(tx), listing.asked(tx)

    rows, open_runs, owed, asked = hub.store.read(work)
    of_run = {row[0]: row for row in open_runs}
    debts_of, tasks_of = {r[0]: r[1] for r in owed}, {r[0]: r[1] for r in asked}
    found = []
    for row in rows:
        if projects is not None and row[5] not in projects:
            continue
        since = (row[10] or row[11]) if row[9] is not None else None
        days = Policy.read(load(row[7])).max_age_days
        run = of_run.get(row[0])
        found.append(
            Line(
                id=row[0],
                name=row[1],
                system=row[2],
                method=row[3],
                owner=row[4],
                project=row[5],
                state=row[6],
                created_at=row[8],
                version=row[9],
                since=since,
                due=since + days * 86400 if since is not None else None,
                expires=row[12],
                run=run[1] if run else "",
                goal=run[2] if run else "",
                run_state=run[3] if run else "",
                debts=debts_of.get(row[0], 0),
                tasks=tasks_of.get(row[0], 0),
            )
        )
    return found


_FAR = float("inf")
SORTS: Mapping[str, Callable[[Line], Any]] = {
    "name": lambda line: line.name.casefold(),
    "state": lambda line: list(HEALTH).index(line.health),
    "system": lambda line: f"{line.system}/{line.method}",
    "age": lambda line: line.since or _FAR,
    "due": lambda line: line.due or _FAR,
    "expires": lambda line: line.expires or _FAR,
    "owner": lambda line: line.owner.casefold(),
}


@dataclass(frozen=True)
class Page:
    """A page of connections; `next` is the cursor of the one behind it, empty on the last."""

    lines: list[Line]
    total: int
    every: int
    next: str
    systems: list[str]
    healths: list[str]
    first: int


def page(
    hub: Keyturn,
    projects: frozenset[str] | None,
    *,
    text: str = "",
    system: str = "",
    health: str = "",
    sort: str = "name",
    down: bool = False,
    after: str = "",
    size: int = PAGE,
) -> Page:
    """The connections that fit, sorted; those behind the connection whose id is `after`."""
    every = lines(hub, projects)
    words = text.casefold().split()
    fitting = [
        line
        for line in every
        if (not system or line.system == system)
        and (not health or line.health == health)
        and all(word in _text_of(line) for word in words)
    ]
    fitting.sort(key=SORTS.get(sort, SORTS["name"]), reverse=down)
    begin = next((n + 1 for n, line in enumerate(fitting) if line.id == after), 0) if after else 0
    shown = fitting[begin : begin + size]
    more = begin + size < len(fitting)
    there = {line.health for line in every}
    return Page(
        shown,
        len(fitting),
        len(every),
        shown[-1].id if more and shown else "",
        sorted({line.system for line in every}),
        [each for each in HEALTH if each in there],
        begin + 1,
    )


def _text_of(line: Line) -> str:
    return f"{line.name} {line.system} {line.method} {line.owner} {line.project}".casefold()


# -- today ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Today:
    """What needs somebody now, most urgent first in each list."""

    tasks: list[Task]
    stuck: list[tuple[Run, str]]
    expired: list[Line]
    overdue: list[Line]
    expiring: list[Line]
    reauthorize: list[Line]
    debts: list[tuple[Debt, str]]
    failed: list[tuple[Run, str]]
    running: list[Line]
    connections: int
    names: Mapping[str, str] = field(default_factory=dict)
    approvals: list[approvals.Item] = field(default_factory=list)

    @property
    def is_quiet(self) -> bool:
        """Whether nobody has to do anything."""
        return not any(
            (
                self.approvals,
                self.tasks,
                self.stuck,
                self.expired,
                self.overdue,
                self.expiring,
                self.reauthorize,
                self.debts,
                self.failed,
            )
        )


_FAILED = frozenset({RunState.ABORTED_CLEAN, RunState.ABORTED_WITH_DEBT})
_STUCK = frozenset({RunState.BLOCKED, RunState.LOST})
_RECENT_S = 7 * 86400.0


def today(hub: Keyturn, projects: frozenset[str] | None = None) -> Today:
    """Home: what is overdue, expires, waits for a person, is owed, or failed and was not followed by a better run."""
    every, now = lines(hub, projects), time.time()
    names = {line.id: line.name for line in every}
    latest: dict[str, Run] = {}
    for run in runs.recent(hub, limit=500):
        latest.setdefault(run.connection_id, run)
    mine = [run for run in latest.values() if run.connection_id in names]
    return Today(
        tasks=[task for task in tasks.waiting(hub) if task.connection_id in names],
        stuck=_named([r for r in mine if r.state in _STUCK], names),
        expired=_by(every, "expired", lambda line: line.expires or 0),
        overdue=_by(every, "overdue", lambda line: line.due or 0),
        expiring=_by(every, "expiring", lambda line: line.expires or 0),
        reauthorize=_by(every, "needs_reauth", lambda line: line.name),
        debts=[(debt, names[debt.connection_id]) for debt in debts.every(hub) if debt.connection_id in names],
        failed=_named([r for r in mine if r.state in _FAILED and (r.ended_at or 0) > now - _RECENT_S], names),
        running=[line for line in every if line.health == "running"],
        connections=len(every),
        names=names,
        approvals=approvals.waiting(hub, projects),
    )


def _by(every: Sequence[Line], health: str, key: Callable[[Line], Any]) -> list[Line]:
    return sorted((line for line in every if line.health == health), key=key)


def _named(found: Sequence[Run], names: Mapping[str, str]) -> list[tuple[Run, str]]:
    return [(run, names[run.connection_id]) for run in found]


# -- live ----------------------------------------------------------------------------------------------------------------


def pulse(hub: Keyturn, run_id: str = "") -> str:
    """A short text that is another one as soon as something changed: of the hub, or of one run."""
    said = hub.store.read(lambda tx: listing.pulse_of_run(tx, run_id) if run_id else listing.pulse(tx))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def has_ended(run: Run) -> bool:
    """Whether nothing of it will change any more."""
    return run.state in TERMINAL
