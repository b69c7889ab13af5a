"""Many connections, runs and lines: what is found is what is there, found by index, in a number of statements that does not
grow with the fleet."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC
from itertools import pairwise
from typing import Any

import pytest
from bench.crowd import Crowd, Size, fill
from bench.world import open_product_hub

from keyturn.bootstrap import Keyturn
from keyturn.model.ids import ConnectionId
from keyturn.model.run import LineKind, RunState
from keyturn.operations import (
    approvals,
    audit,
    debts,
    issued,
    notices,
    overview,
    runs,
    schedule,
    systems,
    tasks,
)
from keyturn.storage import connections, journal, listing, versions
from keyturn.storage import notices as notice_rows
from keyturn.storage.database import Row, Tx
from keyturn.web import charts
from tests import stores

DAY = 86400.0
SIZE = Size(
    connections=120, runs=700, lines=6000, waiting=8, asked=4, stuck=3, debts=12, issued=5, longest=40
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Keyturn, Crowd]]:
    home = tmp_path_factory.mktemp("fleet") / "home"
    hub = open_product_hub(home, stores.url(home))
    yield hub, fill(hub, SIZE)
    hub.close()


@pytest.fixture
def hub(made: tuple[Keyturn, Crowd]) -> Keyturn:
    return made[0]


@pytest.fixture
def crowd(made: tuple[Keyturn, Crowd]) -> Crowd:
    return made[1]


@pytest.fixture
def lines(hub: Keyturn) -> list[overview.Line]:
    """Every connection, one by one."""
    return [overview.line(hub, each.id) for each in hub.store.read(connections.every)]


def through(hub: Keyturn, size: int, **asked: Any) -> list[overview.Line]:
    """All pages of a list, one after another."""
    found: list[overview.Line] = []
    page = overview.page(hub, None, size=size, **asked)
    while True:
        assert page.first == len(found) + 1 or not page.lines
        found += page.lines
        if page.next is None:
            assert page.total == len(found)
            return found
        assert len(page.lines) == size
        page = overview.page(hub, None, size=size, after=page.next, **asked)


def test_what_was_filled_in_is_whole(hub: Keyturn) -> None:
    """The chains hold, and every line is filed under who acted."""
    assert audit.check(hub) == []


# -- the list ------------------------------------------------------------------------------------------------------------

FAR = float("inf")
KEYS: dict[str, Callable[[overview.Line], Any]] = {
    "age": lambda line: line.since or FAR,
    "due": lambda line: line.due or FAR,
    "expires": lambda line: line.expires or FAR,
    "state": lambda line: list(overview.HEALTH).index(line.health),
    "system": lambda line: f"{line.system}/{line.method}",
    "name": lambda line: line.name.lower(),
    "owner": lambda line: line.owner.lower(),
}


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("sort", overview.SORTS)
def test_pages_show_everything_once_and_in_order(
    hub: Keyturn, lines: list[overview.Line], sort: str, down: bool
) -> None:
    """However it is sorted, from either end."""
    found = through(hub, 17, sort=sort, down=down)
    assert sorted(line.id for line in found) == sorted(line.id for line in lines)
    if sort not in {"name", "owner", "system"}:  # words follow the database's own alphabet
        keys = [KEYS[sort](line) for line in found]
        assert keys == sorted(keys, reverse=down)


@pytest.mark.parametrize("health", overview.HEALTH)
def test_the_database_and_the_line_agree_on_health(
    hub: Keyturn, lines: list[overview.Line], health: str
) -> None:
    """What the list is filtered by is what each line then says."""
    found = through(hub, 50, health=health)
    assert {line.id for line in found} == {line.id for line in lines if line.health == health}


def test_there_is_something_of_nearly_every_health(lines: list[overview.Line]) -> None:
    """Else the test above would show little."""
    there = {line.health for line in lines}
    assert there >= {"blocked", "overdue", "waits", "owes", "good", "needs_reauth"}


def test_words_are_found_wherever_they_are(hub: Keyturn, lines: list[overview.Line]) -> None:
    """In name, system, method, owner or project, in any case; what means something to the database does not."""
    for text in ("ORDERS", "snowflake eu", "key_pair", "billing-0", "nowhere", "s_c", "50%", "!"):
        wanted = {
            line.id
            for line in lines
            if all(
                word.lower() in f"{line.name} {line.system} {line.method} {line.owner} {line.project}".lower()
                for word in text.split()
            )
        }
        assert {line.id for line in through(hub, 30, text=text)} == wanted


def test_other_projects_are_not_counted(hub: Keyturn, lines: list[overview.Line]) -> None:
    """Nor named, nor drawn."""
    mine = frozenset({"Orders", "Billing"})
    some = {line.id for line in lines if line.project in mine}
    page = overview.page(hub, mine, size=500)
    assert {line.id for line in page.lines} == some
    assert page.total == page.every == len(some)
    assert set(overview.names(hub, [line.id for line in lines], mine)) == some
    assert overview.today(hub, mine).connections == len(some)
    assert overview.page(hub, frozenset(), size=5).lines == []


def test_a_place_holds_when_the_list_changes(hub: Keyturn) -> None:
    """What is renamed to the front meanwhile is not shown twice, and nothing behind is left out."""
    first = overview.page(hub, None, size=20)
    other = overview.page(hub, None, size=500).lines[60]
    hub.store.write(lambda tx: connections.change(tx, ConnectionId(other.id), name="0000"))
    try:
        rest = overview.page(hub, None, size=500, after=first.next)
    finally:
        hub.store.write(lambda tx: connections.change(tx, ConnectionId(other.id), name=other.name))
    shown = {line.id for line in (*first.lines, *rest.lines)}
    assert len(first.lines) + len(rest.lines) == len(shown) == first.every - 1


# -- home ----------------------------------------------------------------------------------------------------------------


def test_today_counts_all_and_shows_the_first(hub: Keyturn, lines: list[overview.Line]) -> None:
    """Of each kind, most urgent first."""
    found = overview.today(hub, most=3)
    by_health = {
        "overdue": "overdue",
        "expiring": "expiring",
        "expired": "expired",
        "needs_reauth": "reauthorize",
    }
    for health, name in by_health.items():
        assert found.counts[name] == sum(line.health == health for line in lines), health
    overdue = sorted((line for line in lines if line.health == "overdue"), key=lambda line: line.due or 0)
    assert [line.id for line in found.overdue] == [line.id for line in overdue[:3]]
    assert (found.counts["tasks"], len(found.tasks)) == (SIZE.waiting, 3)
    assert (found.counts["stuck"], len(found.stuck)) == (SIZE.stuck, 3)
    assert (found.counts["debts"], len(found.debts)) == (SIZE.debts, 3)
    assert found.counts["approvals"] == len(approvals.waiting(hub)) == SIZE.asked
    assert not found.is_quiet


def test_runs_that_came_to_nothing_are_told_once(hub: Keyturn) -> None:
    """Only the last run of a connection counts, and only for a week."""
    latest: dict[str, Any] = {}
    for run in runs.listed(hub, limit=5000):
        latest.setdefault(run.connection_id, run)
    failed = {RunState.ABORTED_CLEAN, RunState.ABORTED_WITH_DEBT}
    since = time.time() - 90 * DAY
    wanted = {r.id for r in latest.values() if r.state in failed and (r.ended_at or 0) > since}
    many, found = hub.store.read(lambda tx: listing.fruitless(tx, since, None, 100))
    assert (many, {run_id for run_id, _ in found}) == (len(wanted), wanted)
    assert wanted


def test_the_pictures_are_of_the_connections(hub: Keyturn, lines: list[overview.Line]) -> None:
    """Every day's number and first names; every bar."""
    now = time.time()
    starts = charts.starts(UTC, now)
    due, ends = overview.days(hub, starts, None, most=2)
    there = [line for line in lines if line.state not in {"disconnected", "revoked"}]
    for found, attribute in ((due, "due"), (ends, "expires")):
        for day, (begin, end) in enumerate(pairwise(starts)):
            on = [line for line in there if begin <= (getattr(line, attribute) or 0) < end]
            many, names = found.get(day, (0, []))
            assert many == len(on)
            assert names == [line.name for line in sorted(on, key=lambda each: getattr(each, attribute))][:2]
    bars = charts.ages(overview.ages(hub, charts.AGE_BOUNDS, None))
    assert sum(bar.count for bar in bars) == sum(line.since is not None for line in there)
    assert sum(bar.late for bar in bars) == sum((line.due or FAR) <= now for line in there)


# -- what triggers keep --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "born", "lasts"),
    [
        ({}, 10.0, None),
        ({"max_age_days": 3.5}, 10.0, 100.0),
        ({"automatic": True}, 10.0, None),
        ({"automatic": True, "max_age_days": 365.0}, 10.0, 100.0),
        ({"automatic": True, "max_age_days": 365.0}, 0.0, 10.0),
        ({"automatic": False}, 0.0, 5.0),
        ({"automatic": True, "max_age_days": 0}, 10.0, None),
        ({"automatic": True, "max_age_days": 0}, 10.0, 100.0),
    ],
)
def test_dates_of_a_connection_are_those_of_what_serves(
    hub: Keyturn, crowd: Crowd, policy: dict[str, Any], born: float, lasts: float | None
) -> None:
    """Whoever writes the version, the policy or the pointer, and however."""
    found, now = crowd.connections[5], time.time()
    version_id = found.current_version_id
    assert version_id is not None

    def work(tx: Tx) -> None:
        tx.run(
            "UPDATE version SET born_at = ?, changed_at = ?, expires_at = ? WHERE id = ?",
            now - born * DAY if born else None,
            now,
            now + lasts * DAY if lasts else None,
            version_id,
        )
        connections.change(tx, found.id, policy=policy)

    def look(tx: Tx) -> tuple[Any, ...]:
        row = tx.one("SELECT since_at, due_at, expires_at, rotate_at FROM connection WHERE id = ?", found.id)
        assert row is not None
        return (*row, connections.by_id(tx, found.id), versions.by_id(tx, version_id))

    hub.store.write(work)
    since, due, expires, rotate, connection, version = hub.store.read(look)
    assert since == pytest.approx(now - born * DAY, abs=0.01)
    most = policy.get("max_age_days", 90.0)
    assert due == (pytest.approx(since + most * DAY, abs=0.01) if most else None)
    assert expires == version.expires_at
    wanted = schedule.due_at(connection, version) if policy.get("automatic") else None
    assert rotate == (None if wanted is None else pytest.approx(wanted, abs=0.01))
    hub.store.write(lambda tx: connections.change(tx, found.id, current_version_id=None))
    assert hub.store.read(look)[:4] == (None, None, None, None)
    hub.store.write(lambda tx: connections.change(tx, found.id, current_version_id=version_id))
    assert hub.store.read(look)[0] == pytest.approx(since, abs=0.01)


# -- the audit trail -----------------------------------------------------------------------------------------------------


def search(hub: Keyturn, limit: int, look_at: int, **asked: Any) -> tuple[list[tuple[str, int]], int]:
    """All that a search finds, page by page, and how many pages were not full."""
    found, short, before = [], 0, None
    for _ in range(10_000):
        part = hub.store.read(
            lambda tx: journal.search(tx, before=before, limit=limit, look_at=look_at, **asked)  # noqa: B023
        )
        found += [(line.connection_id, line.number) for line in part.lines]
        if part.place is None:
            return found, short
        assert len(part.lines) <= limit
        assert part.until is not None
        assert all(line.at >= part.until for line in part.lines)
        short += len(part.lines) < limit
        before = part.place
    raise AssertionError("the search does not end")


@pytest.fixture
def trail(hub: Keyturn) -> list[Any]:
    """Every line, newest first."""
    heads = hub.store.read(journal.heads)
    found = [
        line
        for head in heads
        for line in hub.store.read(lambda tx, h=head: journal.of_connection(tx, h.connection_id))
    ]
    return sorted(found, key=lambda line: (line.at, line.connection_id, line.number), reverse=True)


def test_a_search_finds_what_fits_once_and_in_order(hub: Keyturn, crowd: Crowd, trail: list[Any]) -> None:
    """By time, person, kind and words, however little it reads at a time."""
    middle, owner = trail[len(trail) // 2].at, crowd.connections[3].owner
    cases: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
        ({}, lambda _: True),
        ({"since": middle}, lambda line: line.at >= middle),
        ({"until": middle}, lambda line: line.at < middle),
        ({"by": owner}, lambda line: line.facts.get("by") == owner),
        ({"kind": "OUTCOME"}, lambda line: line.kind is LineKind.OUTCOME),
        (
            {"words": ["contain"], "until": middle},
            lambda line: line.facts.get("goal") == "contain" and line.at < middle,
        ),
        (
            {"by": owner, "words": ["started"]},
            lambda line: line.facts.get("by") == owner and "goal" in line.facts,
        ),
        ({"words": ["nothing-like-it"]}, lambda _: False),
    ]
    for asked, fits in cases:
        wanted = [(line.connection_id, line.number) for line in trail if fits(line)]
        for limit, look_at in ((400, 20_000), (97, 1500)):
            found, short = search(hub, limit, look_at, **asked)
            assert found == wanted, asked
        if "words" in asked and "by" not in asked:
            assert short, "it says so when it stops before a page is full"
    assert any(fits(line) for _, fits in cases[5:6] for line in trail)


def test_a_chain_is_searched_backwards(hub: Keyturn, crowd: Crowd, trail: list[Any]) -> None:
    """One connection's lines, and the hub's own."""
    for chain in (crowd.longest.id, journal.HUB):
        own = [line for line in trail if line.connection_id == chain]
        wanted = [(line.connection_id, line.number) for line in sorted(own, key=lambda each: -each.number)]
        assert search(hub, 50, 20_000, chain=chain)[0] == wanted
        by_kind = {(line.connection_id, line.number) for line in own if line.kind is LineKind.DECISION}
        assert set(search(hub, 20, 64, chain=chain, kind="DECISION")[0]) == by_kind


def test_a_line_filed_under_another_name_is_found_out(hub: Keyturn, crowd: Crowd) -> None:
    """Whoever hides what somebody did from the search is seen by the check."""
    name = crowd.connections[0].id
    wrong = "UPDATE journal SET actor = ? WHERE connection_id = ? AND number = 2"
    was = hub.store.read(
        lambda tx: tx.one("SELECT actor FROM journal WHERE connection_id = ? AND number = 2", name)
    )
    assert was is not None
    assert was[0] == crowd.connections[0].owner
    hub.store.write(lambda tx: tx.run(wrong, "", name))
    try:
        (said,) = audit.check(hub)
    finally:
        hub.store.write(lambda tx: tx.run(wrong, was[0], name))
    assert "line 2 is filed under another name" in said


# -- runs, tasks, debts, what was issued ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"goal": "contain"},
        {"states": ["blocked"]},
        {"states": ["waiting_human", "waiting_approval"]},
        {"states": ["aborted_clean", "blocked"]},
        {"states": ["complete", "lost"]},
        {"states": ["complete_with_debt"], "goal": "rotate"},
    ],
)
def test_runs_are_paged(hub: Keyturn, asked: dict[str, Any]) -> None:
    """Newest first, each once, whichever are asked for."""
    every = runs.listed(hub, limit=10_000)
    wanted = [
        run.id
        for run in every
        if run.goal.value == asked.get("goal", run.goal.value)
        and run.state.value in asked.get("states", [run.state.value])
    ]
    found: list[Any] = []
    while True:
        part = runs.listed(
            hub, before=(found[-1].created_at, found[-1].id) if found else None, limit=37, **asked
        )
        found += part
        if len(part) < 37:
            break
    assert [run.id for run in found] == wanted
    assert wanted


def test_tasks_debts_and_issued_are_paged(hub: Keyturn) -> None:
    """By urgency, by age, by name; each once."""
    many, first = tasks.owned_page(hub, limit=5)
    _, rest = tasks.owned_page(hub, after=[first[-1].task.due_at, first[-1].task.id], limit=50)
    assert many == len(first) + len(rest) == SIZE.waiting
    assert [e.task.id for e in (*first, *rest)] == [t.id for t in tasks.waiting(hub)]
    many, owed = debts.page(hub, limit=5)
    _, left = debts.page(hub, after=[owed[-1][0].created_at, owed[-1][0].id], limit=50)
    assert many == len(owed) + len(left) == SIZE.debts
    assert [d.id for d, _ in (*owed, *left)] == [d.id for d in debts.every(hub)]
    some = issued.page(hub, limit=3)
    assert [each.connection.name for each in (*some, *issued.page(hub, after=some[-1].connection.name))] == [
        f"partner {n:04}" for n in range(SIZE.issued)
    ]
    assert issued.page(hub, frozenset({"Orders"})) == []


def test_several_runs_are_described_as_each_alone(hub: Keyturn) -> None:
    """The page of a run in a list is the page of that run."""
    found = runs.listed(hub, limit=40) + runs.listed(hub, states=["blocked", "waiting_human"], limit=10)

    def timeless(page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "seconds": 0}

    together = systems.run_pages(hub, found)
    assert [timeless(page) for page in together] == [timeless(systems.run_page(hub, run)) for run in found]


# -- what it costs -------------------------------------------------------------------------------------------------------


class Counting:
    """A store that keeps what it was asked."""

    def __init__(self, hub: Keyturn) -> None:
        self._store, self.said = hub.store, []  # type: ignore[var-annotated]
        self.dialect = hub.store.dialect

    def read(self, work: Callable[[Tx], Any], *, alone: bool = False) -> Any:
        return self._store.read(lambda tx: work(_Heard(tx, self.said)), alone=alone)

    def write(self, work: Callable[[Tx], Any], *, durable: bool = True) -> Any:
        return self._store.write(lambda tx: work(_Heard(tx, self.said)), durable=durable)


class _Heard:
    def __init__(self, tx: Tx, said: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._tx, self._said = tx, said

    def all(self, sql: str, *params: Any) -> list[Row]:
        self._said.append((sql, params))
        return self._tx.all(sql, *params)

    def one(self, sql: str, *params: Any) -> Row | None:
        self._said.append((sql, params))
        return self._tx.one(sql, *params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


def looks(size: int) -> dict[str, Callable[[Keyturn], object]]:
    """What faces and chores ask, of lists with `size` lines."""
    return {
        "list": lambda hub: overview.page(hub, None, size=size),
        "list by due": lambda hub: overview.page(hub, None, sort="due", size=size),
        "overdue": lambda hub: overview.page(hub, None, health="overdue", size=size),
        "today": lambda hub: overview.today(hub, most=size),
        "days": lambda hub: overview.days(hub, charts.starts(UTC, time.time()), None, most=size),
        "lines": lambda hub: systems.lines_of(
            hub, [line.id for line in overview.page(hub, None, size=size).lines]
        ),
        "runs": lambda hub: systems.run_pages(hub, runs.listed(hub, limit=size)),
        "runs blocked": lambda hub: runs.listed(hub, states=["blocked"], limit=size),
        "runs failed": lambda hub: runs.listed(hub, states=["aborted_clean"], limit=size),
        "runs contained": lambda hub: runs.listed(hub, goal="contain", limit=size),
        "tasks": lambda hub: tasks.owned_page(hub, limit=size),
        "debts": lambda hub: debts.page(hub, limit=size),
        "issued": lambda hub: issued.page(hub, limit=size),
        "approvals": approvals.waiting,
        "audit": lambda hub: audit.search(hub, limit=size),
        "audit words": lambda hub: audit.search(hub, words=["nothing"], limit=size),
        "audit by": lambda hub: audit.search(hub, by="somebody", limit=size),
        "audit chain": lambda hub: audit.search(hub, connection=journal.HUB, limit=size),
        "pulse": overview.pulse,
        "changes": lambda hub: hub.store.read(lambda tx: notices._changed(tx, time.time(), widely=False)),
        "dates": lambda hub: hub.store.read(lambda tx: notice_rows.changed_connections(tx, time.time())),
        "due": lambda hub: hub.store.read(lambda tx: schedule._rotations(tx, time.time())),
        "refreshes": lambda hub: hub.store.read(lambda tx: schedule._refreshes(tx, time.time())),
    }


def heard(hub: Keyturn, act: Callable[[Keyturn], object]) -> list[tuple[str, tuple[Any, ...]]]:
    counting = Counting(hub)
    act(replace(hub, store=counting))  # type: ignore[arg-type]
    return counting.said


@pytest.mark.parametrize("name", looks(1))
def test_the_number_of_statements_does_not_grow(hub: Keyturn, name: str) -> None:
    """Two lines or a hundred: as many questions to the database."""
    few, many = heard(hub, looks(2)[name]), heard(hub, looks(100)[name])
    assert len(many) <= len(few) + 5
    assert len(many) < 60


_LARGE = ("journal", "run", "version", "noticed", "task", "debt")


@pytest.mark.parametrize("name", looks(1))
def test_large_tables_are_read_by_index(hub: Keyturn, name: str) -> None:
    """No table that grows for ever is gone through from end to end."""

    def plan(tx: Tx, sql: str, params: tuple[Any, ...]) -> str:
        if hub.store.dialect == "sqlite":
            return "\n".join(str(row[3]) for row in tx.all(f"EXPLAIN QUERY PLAN {sql}", *params))
        tx.all(
            "SELECT set_config('enable_seqscan', 'off', true)"
        )  # here everything is small: what could be used
        return "\n".join(str(row[0]) for row in tx.all(f"EXPLAIN {sql}", *params))

    for sql, params in heard(hub, looks(20)[name]):
        if not sql.lstrip().startswith(("SELECT", "WITH")) or "set_config" in sql:
            continue
        said = hub.store.read(lambda tx, s=sql, p=params: plan(tx, s, p))
        alias = dict(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)\s+(?:AS\s+)?(\w+)\b", sql))
        for table in _LARGE:
            names = {table, alias.get(table, table)}
            if hub.store.dialect == "sqlite":
                bad = [line for line in said.splitlines() if re.match(rf"SCAN ({'|'.join(names)})$", line)]
            else:
                bad = re.findall(rf"Seq Scan on {table}\b", said)
            assert not bad, f"{sql}\n{said}"
