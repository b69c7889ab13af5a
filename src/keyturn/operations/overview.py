"""All connections at a glance: found, filtered, sorted, in pages; what needs somebody today; and whether it changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import NotFound
from keyturn.model.run import TERMINAL, Debt, Run, Task
from keyturn.operations import approvals
from keyturn.storage import debts, listing, runs, tasks
from keyturn.storage.database import Tx
from keyturn.storage.listing import SOON_S

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
    jobs: int = 0
    failing_jobs: int = 0

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


def lines(hub: Keyturn, ids: Sequence[str]) -> list[Line]:
    """Some connections, in the order named; those that are gone are left out."""
    return hub.store.read(lambda tx: _lines(tx, ids))


def line(hub: Keyturn, connection_id: str) -> Line:
    """One of them. Raises: NotFound."""
    found = lines(hub, [connection_id])
    if not found:
        raise NotFound("there is no such connection")
    return found[0]


def _lines(tx: Tx, ids: Sequence[str]) -> list[Line]:
    if not ids:
        return []
    of_run = {row[0]: row for row in listing.unfinished(tx, ids)}
    debts_of, tasks_of = dict(map(tuple, listing.owed(tx, ids))), dict(map(tuple, listing.asked(tx, ids)))
    jobs_of = {row[0]: (int(row[1]), int(row[2])) for row in listing.jobs(tx, ids)}
    found = {}
    for row in listing.light(tx, ids):
        run = of_run.get(row[0])
        found[row[0]] = Line(
            id=row[0],
            name=row[1],
            system=row[2],
            method=row[3],
            owner=row[4],
            project=row[5],
            state=row[6],
            created_at=row[7],
            version=row[8],
            since=row[9],
            due=row[10],
            expires=row[11],
            run=run[1] if run else "",
            goal=run[2] if run else "",
            run_state=run[3] if run else "",
            debts=debts_of.get(row[0], 0),
            tasks=tasks_of.get(row[0], 0),
            jobs=jobs_of.get(row[0], (0, 0))[0],
            failing_jobs=jobs_of.get(row[0], (0, 0))[1],
        )
    return [found[each] for each in ids if each in found]


def names(hub: Keyturn, ids: Iterable[str], projects: frozenset[str] | None = None) -> dict[str, str]:
    """The names of some connections by id; of those in other projects, when `projects` are given, nothing."""
    some = set(ids)
    return hub.store.read(lambda tx: listing.named(tx, some, projects)) if some else {}


def by_name(hub: Keyturn, wanted: Iterable[str], projects: frozenset[str] | None = None) -> dict[str, Line]:
    """Some connections by their names; those of other projects, when `projects` are given, are left out."""
    some = set(wanted)
    found = hub.store.read(lambda tx: _lines(tx, listing.ids_of(tx, some, projects)))
    return {each.name: each for each in found}


SORTS = ("name", "state", "system", "age", "due", "expires", "owner")


@dataclass(frozen=True)
class Page:
    """A page of connections; `next` is the place behind its last one, None on the last page. `total` fit, of `every` one
    there is; both are 0 where they were not counted."""

    lines: list[Line]
    total: int
    every: int
    next: list[Any] | None
    first: int


def page(
    hub: Keyturn,
    projects: frozenset[str] | None,
    *,
    text: str = "",
    name: str = "",
    system: str = "",
    health: str = "",
    sort: str = "name",
    down: bool = False,
    after: Sequence[Any] | None = None,
    size: int = PAGE,
    counted: bool = True,
) -> Page:
    """The connections that fit, sorted; those behind the place `after`. What comes, goes or changes meanwhile moves no
    other: a place is a value of what is sorted by, not a number of a line. Who needs no numbers says so: the database then
    stops at the end of the page."""
    wanted = listing.Wanted(
        projects, text.split(), system, name, health if health in HEALTH else "", time.time(), tuple(HEALTH)
    )
    sort = sort if sort in SORTS else "name"

    def work(tx: Tx) -> Page:
        before = int(after[2]) if after else 0
        is_narrow = counted and bool(text.split() or system or name or wanted.health)
        behind = after[:2] if after else None
        left, found = listing.page(
            tx, wanted, sort, down=down, after=behind, limit=size + 1, all_read=is_narrow
        )
        shown, more = found[:size], len(found) > size
        every = listing.count(tx, listing.Wanted(projects)) if counted else 0
        last = shown[-1] if shown else ("", "")
        return Page(
            _lines(tx, [each for each, _ in shown]),
            before + left if is_narrow else every,
            every,
            [last[1], last[0], before + len(shown)] if more else None,
            before + 1,
        )

    return hub.store.read(work)


def systems(hub: Keyturn, projects: frozenset[str] | None) -> list[str]:
    """The systems that connections are to, by name."""
    return hub.store.read(lambda tx: listing.systems(tx, projects))


# -- today ---------------------------------------------------------------------------------------------------------------

SHOWN, MOST_SHOWN = 10, 100


@dataclass(frozen=True)
class Today:
    """What needs somebody now, most urgent first in each list, and of each list only the first; `counts` says how many
    there are, by the list's name."""

    tasks: list[Task]
    stuck: list[tuple[Run, str]]
    expired: list[Line]
    overdue: list[Line]
    expiring: list[Line]
    reauthorize: list[Line]
    debts: list[tuple[Debt, str]]
    failed: list[tuple[Run, str]]
    running: list[Line]
    approvals: list[approvals.Item]
    connections: int
    counts: Mapping[str, int]

    @property
    def is_quiet(self) -> bool:
        """Whether nobody has to do anything."""
        return not any(many for name, many in self.counts.items() if name != "running")


_RECENT_S = 7 * 86400.0
_BY_HEALTH = {  # the list, its health, what its first is the first by
    "expired": ("expired", "expires"),
    "overdue": ("overdue", "due"),
    "expiring": ("expiring", "expires"),
    "reauthorize": ("needs_reauth", "name"),
    "running": ("running", "name"),
}


def today(hub: Keyturn, projects: frozenset[str] | None = None, most: int = SHOWN) -> Today:
    """Home: what is overdue, expires, waits for a person, is owed, or failed and was not followed by a better run; up to
    `most` of each."""
    now = time.time()
    asked = approvals.waiting(hub, projects)

    def work(tx: Tx) -> Today:
        counts: dict[str, int] = {"approvals": len(asked)}
        by_health = {}
        for name, (health, sort) in _BY_HEALTH.items():
            wanted = listing.Wanted(projects, health=health, now=now)
            counts[name], found = listing.page(
                tx, wanted, sort, down=False, after=None, limit=most, all_read=True
            )
            by_health[name] = _lines(tx, [each for each, _ in found])
        counts["tasks"], waiting = tasks.page(tx, projects=projects, limit=most)
        counts["debts"], owed = debts.page(tx, projects=projects, limit=most)
        counts["failed"], failed = listing.fruitless(tx, now - _RECENT_S, projects, most)
        counts["stuck"], stuck = listing.stuck(tx, projects, most)
        known = runs.by_ids(tx, [run_id for run_id, _ in (*failed, *stuck)])
        named = listing.named(tx, [debt.connection_id for debt in owed])
        return Today(
            tasks=waiting,
            stuck=[(known[run_id], name) for run_id, name in stuck],
            debts=[(debt, named.get(debt.connection_id, "")) for debt in owed],
            failed=[(known[run_id], name) for run_id, name in failed],
            approvals=asked[:most],
            connections=listing.count(tx, listing.Wanted(projects)),
            counts=counts,
            **by_health,
        )

    return hub.store.read(work)


def days(
    hub: Keyturn, starts: Sequence[float], projects: frozenset[str] | None, most: int = 5
) -> tuple[dict[int, tuple[int, list[str]]], dict[int, tuple[int, list[str]]]]:
    """By the number of the day: how many rotations are due, and how many credentials end, with the first names. The days
    begin at `starts`; the last of them only ends the day before."""

    def work(tx: Tx) -> tuple[dict[int, tuple[int, list[str]]], ...]:
        both = []
        for column in ("due_at", "expires_at"):
            found: dict[int, tuple[int, list[str]]] = {}
            for day, many, name in listing.days(tx, column, starts, projects, most):
                found.setdefault(day, (many, []))[1].append(name)
            both.append(found)
        return tuple(both)

    due, ends = hub.store.read(work)
    return due, ends


def ages(
    hub: Keyturn, bounds: Sequence[float], projects: frozenset[str] | None
) -> dict[int, tuple[int, int]]:
    """How many credentials are how old, and how many of them overdue, by how many of the `bounds` they are older than."""
    now = time.time()
    found = hub.store.read(lambda tx: listing.ages(tx, bounds, now, projects))
    return {bucket: (many, late) for bucket, many, late in found}


# -- live ----------------------------------------------------------------------------------------------------------------


def pulse(hub: Keyturn, run_id: str = "") -> str:
    """A short text that is another one as soon as something changed: of the hub, or of one run."""
    said = hub.store.read(lambda tx: listing.pulse_of_run(tx, run_id) if run_id else listing.pulse(tx))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def has_ended(run: Run) -> bool:
    """Whether nothing of it will change any more."""
    return run.state in TERMINAL
