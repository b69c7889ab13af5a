"""Many connections at once, found by the database: pages, counts and days, none of which loads the whole fleet; and what
tells that something changed.

`since_at`, `due_at` and `expires_at` of a connection say of the version that serves when it came, when its policy wants
the next, and when it ends. Triggers keep them (migration 0021): no writer can forget to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from keyturn.storage.database import Row, Tx

SOON_S = 30 * 86400.0
_FAR = 9e99  # behind every instant

_UNDER_WAY = "SELECT connection_id FROM run WHERE due_at IS NOT NULL"
_ASKED_FOR = "SELECT connection_id FROM approval WHERE decided_at IS NULL AND state = 'waiting'"
_TO_DO = "SELECT connection_id FROM task WHERE state IN ('open', 'claimed', 'returned')"
_OWED = "SELECT connection_id FROM debt WHERE closed_at IS NULL"
_GONE = "c.state IN ('disconnected', 'revoked')"

# What matters most about a connection now, in one word. Two instants: now, and when soon is over.
_HEALTH = f"""CASE
 WHEN c.id IN ({_UNDER_WAY} AND state = 'lost') THEN 'lost'
 WHEN c.id IN ({_UNDER_WAY} AND state = 'blocked') THEN 'blocked'
 WHEN c.state = 'needs_reauth' THEN 'needs_reauth'
 WHEN c.id IN ({_UNDER_WAY}) THEN CASE WHEN c.id IN ({_UNDER_WAY} AND state = 'waiting_human') OR c.id IN ({_TO_DO})
  THEN 'waits' ELSE 'running' END
 WHEN c.id IN ({_ASKED_FOR}) THEN 'waits'
 WHEN {_GONE} THEN c.state
 WHEN c.expires_at <= (SELECT now FROM clock) THEN 'expired'
 WHEN c.due_at <= (SELECT now FROM clock) THEN 'overdue'
 WHEN c.id IN ({_OWED}) THEN 'owes'
 WHEN c.expires_at < (SELECT soon FROM clock) THEN 'expiring'
 WHEN c.state = 'paused' THEN 'paused'
 ELSE 'good' END"""
_CLOCK = "WITH clock AS (SELECT CAST(? AS DOUBLE PRECISION) AS now, CAST(? AS DOUBLE PRECISION) AS soon)"

# What must be so at least, by which the database finds those few that have it
_CANDIDATES = {
    "lost": f"c.id IN ({_UNDER_WAY})",
    "blocked": f"c.id IN ({_UNDER_WAY})",
    "waits": f"(c.id IN ({_UNDER_WAY}) OR c.id IN ({_ASKED_FOR}))",
    "running": f"c.id IN ({_UNDER_WAY})",
    "owes": f"c.id IN ({_OWED})",
    "needs_reauth": "c.state = 'needs_reauth'",
    "disconnected": "c.state = 'disconnected'",
    "revoked": "c.state = 'revoked'",
    "paused": "c.state = 'paused'",
    "expired": "c.expires_at <= (SELECT now FROM clock)",
    "expiring": "c.expires_at < (SELECT soon FROM clock)",
    "overdue": "c.due_at <= (SELECT now FROM clock)",
}

# By what a list may be sorted. For all but the name the database reads every connection's row, and sorts those alone
SORTS = {
    "name": "LOWER(c.name)",
    "system": "c.system || '/' || c.method",
    "owner": "LOWER(c.owner)",
    "age": f"COALESCE(c.since_at, {_FAR})",
    "due": f"COALESCE(c.due_at, {_FAR})",
    "expires": f"COALESCE(c.expires_at, {_FAR})",
}


@dataclass(frozen=True)
class Wanted:
    """Which connections: of these projects (None: all), with these words, of this system, exactly this name, in this
    health at the instant `now`."""

    projects: frozenset[str] | None = None
    words: Sequence[str] = ()
    system: str = ""
    name: str = ""
    health: str = ""
    now: float = 0.0
    order: Sequence[str] = field(default=())  # the words of health, from the worst on: for sorting by state


def _head(wanted: Wanted) -> list[Any]:
    return [wanted.now, wanted.now + SOON_S]


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    found, values = ["1 = 1"], []
    if wanted.projects is not None:
        found.append(f"c.project IN ({_marks(wanted.projects)})")
        values += sorted(wanted.projects)
    for column in ("system", "name"):
        value = getattr(wanted, column)
        if value:
            found.append(f"c.{column} = ?")
            values.append(value)
    for word in wanted.words:
        found.append(
            "fold(c.name || ' ' || c.system || ' ' || c.method || ' ' || c.owner || ' ' || c.project)"
            " LIKE fold(?) ESCAPE '!'"
        )
        values.append(containing(word))
    if wanted.health:
        found.append(f"({_HEALTH}) = ?")
        values.append(wanted.health)
    return " AND ".join(found), values


def _from(wanted: Wanted) -> str:
    """Where to look. The candidates for a health come first, by themselves: the limit, which is none, keeps the database
    from asking everybody else how they are."""
    few = _CANDIDATES.get(wanted.health)
    return f"(SELECT c.* FROM connection c WHERE {few} LIMIT 1000000000) AS c" if few else "connection c"


def containing(word: str) -> str:
    """The LIKE pattern for a text with this word in it; its escape is `!`."""
    return "%" + word.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"


def _marks(values: Collection[Any]) -> str:
    return ",".join("?" * len(values)) or "NULL"


def page(
    tx: Tx,
    wanted: Wanted,
    sort: str,
    *,
    down: bool,
    after: Sequence[Any] | None,
    limit: int,
    all_read: bool = False,
) -> tuple[int, list[tuple[str, Any]]]:
    """(id, what it is sorted by) of the connections that fit, in order; those behind `after`, such a pair turned round. And
    how many there are from there on, where everything must be read anyway (`all_read`)."""
    where, values = _where(wanted)
    key = SORTS.get(sort) or _rank(wanted.order)
    if after is not None:
        where += f" AND ({key}, c.id) {'<' if down else '>'} (?, ?)"
        values += list(after)
    turn, many = "DESC" if down else "ASC", "COUNT(*) OVER ()" if all_read else "0"
    rows = tx.all(
        f"{_CLOCK} SELECT c.id, {key}, {many} FROM {_from(wanted)} WHERE {where} ORDER BY {key} {turn}, c.id {turn} LIMIT ?",
        *_head(wanted),
        *values,
        limit,
    )
    return (int(rows[0][2]) if rows else 0), [(str(row[0]), row[1]) for row in rows]


def _rank(order: Sequence[str]) -> str:
    ranks = " ".join(f"WHEN '{word}' THEN {rank}" for rank, word in enumerate(order))
    return f"(CASE {_HEALTH} {ranks} END)"


def count(tx: Tx, wanted: Wanted) -> int:
    """How many fit."""
    where, values = _where(wanted)
    row = tx.one(f"{_CLOCK} SELECT COUNT(*) FROM {_from(wanted)} WHERE {where}", *_head(wanted), *values)
    return int(row[0]) if row else 0


def systems(tx: Tx, projects: frozenset[str] | None) -> list[str]:
    """The systems that connections are to."""
    where, values = _where(Wanted(projects=projects))
    return [
        str(row[0])
        for row in tx.all(f"SELECT DISTINCT c.system FROM connection c WHERE {where} ORDER BY 1", *values)
    ]


# -- some of them, whole -------------------------------------------------------------------------------------------------


def light(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(id, name, system, method, owner, project, state, created_at, version number, since, due, expires) of some."""
    return tx.all(
        "SELECT c.id, c.name, c.system, c.method, c.owner, c.project, c.state, c.created_at, v.number, c.since_at,"
        " c.due_at, c.expires_at FROM connection c LEFT JOIN version v ON v.id = c.current_version_id"
        f" WHERE c.id IN ({_marks(ids)})",
        *ids,
    )


def named(tx: Tx, ids: Collection[str], projects: frozenset[str] | None = None) -> dict[str, str]:
    """The names of some connections by id; those of other projects are left out."""
    where, values = _where(Wanted(projects=projects))
    some = sorted(set(ids))
    rows = tx.all(
        f"SELECT c.id, c.name FROM connection c WHERE c.id IN ({_marks(some)}) AND {where}", *some, *values
    )
    return {str(row[0]): str(row[1]) for row in rows}


def ids_of(tx: Tx, names: Collection[str], projects: frozenset[str] | None = None) -> list[str]:
    """The ids of some connections by their names; those of other projects are left out."""
    where, values = _where(Wanted(projects=projects))
    some = sorted(set(names))
    rows = tx.all(
        f"SELECT c.id FROM connection c WHERE c.name IN ({_marks(some)}) AND {where}", *some, *values
    )
    return [str(row[0]) for row in rows]


def unfinished(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(connection id, run id, goal, state) of their runs that have not ended. What is under way comes after what waits for
    approval: it matters more."""
    marks = _marks(ids)
    waiting = tx.all(
        "SELECT r.connection_id, r.id, r.goal, r.state FROM approval a JOIN run r ON r.id = a.run_id"
        f" WHERE a.connection_id IN ({marks}) AND a.decided_at IS NULL AND a.state = 'waiting' ORDER BY r.created_at",
        *ids,
    )
    under_way = tx.all(
        "SELECT connection_id, id, goal, state FROM run"
        f" WHERE connection_id IN ({marks}) AND due_at IS NOT NULL ORDER BY created_at",
        *ids,
    )
    return [*waiting, *under_way]


def owed(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(connection id, open debts)."""
    return tx.all(
        f"{_OWED.replace('connection_id', 'connection_id, COUNT(*)', 1)} AND connection_id IN ({_marks(ids)})"
        " GROUP BY connection_id",
        *ids,
    )


def asked(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(connection id, tasks somebody should do)."""
    return tx.all(
        f"{_TO_DO.replace('connection_id', 'connection_id, COUNT(*)', 1)} AND connection_id IN ({_marks(ids)})"
        " GROUP BY connection_id",
        *ids,
    )


def jobs(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(connection id, jobs on it, those of them that could not read)."""
    return tx.all(
        "SELECT connection_id, COUNT(*), COUNT(CASE WHEN state = 'failed' THEN 1 END) FROM job"
        f" WHERE connection_id IN ({_marks(ids)}) GROUP BY connection_id",
        *ids,
    )


# -- all of them, as numbers -------------------------------------------------------------------------------------------


def days(
    tx: Tx, column: str, starts: Sequence[float], projects: frozenset[str] | None, most: int
) -> list[tuple[int, int, str]]:
    """(day, how many in all, a name) of what has its `due_at` or `expires_at` on the days that begin at `starts`, up to
    `most` names a day; the last start only ends the day before. What is gone is not due any more."""
    assert column in {"due_at", "expires_at"}
    where, values = _where(Wanted(projects=projects))
    one_day = (
        f"SELECT * FROM (SELECT {{}} AS n, COUNT(*) OVER () AS many, c.name AS name FROM connection c"
        f" WHERE c.{column} >= ? AND c.{column} < ? AND NOT ({_GONE}) AND {where} ORDER BY c.{column}, c.id LIMIT ?)"
        " AS day{}"
    )
    spans = list(pairwise(starts))  # each day by itself: a range of the index, with its first names
    rows = tx.all(
        " UNION ALL ".join(one_day.format(n, n) for n in range(len(spans))),
        *(each for begin, end in spans for each in (begin, end, *values, most)),
    )
    return [(int(row[0]), int(row[1]), str(row[2])) for row in rows]


def ages(
    tx: Tx, bounds: Sequence[float], now: float, projects: frozenset[str] | None
) -> list[tuple[int, int, int]]:
    """(bucket, how many, how many of them overdue) by how many of the `bounds`, in seconds, what serves is older than."""
    where, values = _where(Wanted(projects=projects))
    bucket = " + ".join(["CASE WHEN c.since_at <= ? THEN 1 ELSE 0 END"] * len(bounds))
    rows = tx.all(
        f"SELECT b, COUNT(*), SUM(late) FROM (SELECT {bucket} AS b, CASE WHEN c.due_at <= ? THEN 1 ELSE 0 END AS late"
        f" FROM connection c WHERE c.since_at IS NOT NULL AND NOT ({_GONE}) AND {where}) AS one GROUP BY b",
        *(now - bound for bound in bounds),
        now,
        *values,
    )
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]


def fruitless(
    tx: Tx, since: float, projects: frozenset[str] | None, limit: int
) -> tuple[int, list[tuple[str, str]]]:
    """How many runs ended without doing it since then and were not followed by another, and (run id, connection's name)
    of the latest."""
    where, values = _where(Wanted(projects=projects))
    # a run takes a month at most, with a person in it: the index is by when it began
    rows = tx.all(
        "SELECT r.id, c.name, COUNT(*) OVER () FROM run r JOIN connection c ON c.id = r.connection_id"
        " WHERE r.state IN ('aborted_clean', 'aborted_with_debt') AND r.ended_at IS NOT NULL AND r.created_at > ?"
        " AND r.ended_at > ? AND NOT EXISTS (SELECT 1 FROM run n WHERE n.connection_id = r.connection_id"
        f" AND n.created_at > r.created_at) AND {where} ORDER BY r.created_at DESC, r.id DESC LIMIT ?",
        since - SOON_S,
        since,
        *values,
        limit,
    )
    return (int(rows[0][2]) if rows else 0), [(str(row[0]), str(row[1])) for row in rows]


def stuck(tx: Tx, projects: frozenset[str] | None, limit: int) -> tuple[int, list[tuple[str, str]]]:
    """The same of runs that cannot go on."""
    where, values = _where(Wanted(projects=projects))
    rows = tx.all(
        "SELECT r.id, c.name, COUNT(*) OVER () FROM run r JOIN connection c ON c.id = r.connection_id"
        f" WHERE r.due_at IS NOT NULL AND r.state IN ('blocked', 'lost') AND {where}"
        " ORDER BY r.created_at DESC, r.id DESC LIMIT ?",
        *values,
        limit,
    )
    return (int(rows[0][2]) if rows else 0), [(str(row[0]), str(row[1])) for row in rows]


# -- whether something changed -----------------------------------------------------------------------------------------

_LATEST = 64


def pulse(tx: Tx) -> str:
    """A text that is another one as soon as a connection, run, task or debt changed. It costs the same however many there
    are: whatever changes one says so in the journal, whose latest lines tell."""
    parts = (
        *tx.all(f"SELECT connection_id, number FROM journal ORDER BY at DESC LIMIT {_LATEST}"),
        tx.one("SELECT COUNT(*), MIN(due_at), MAX(due_at) FROM run WHERE due_at IS NOT NULL"),
        tx.one(
            "SELECT COUNT(*), MAX(claimed_until), MAX(due_at) FROM task WHERE state IN ('open', 'claimed', 'returned')"
        ),
        tx.one("SELECT COUNT(*), MAX(next_try_at) FROM debt WHERE closed_at IS NULL"),
    )
    return repr([tuple(part) if part else () for part in parts])


def pulse_of_run(tx: Tx, run_id: str) -> str:
    """The same of one run."""
    run = tx.one(
        "SELECT r.state, r.track, r.cursor, r.due_at, r.waiting_for, r.attempts, r.outcome, c.journal_count, c.state"
        " FROM run r JOIN connection c ON c.id = r.connection_id WHERE r.id = ?",
        run_id,
    )
    task = tx.one("SELECT COUNT(*), MAX(claimed_until), MAX(state) FROM task WHERE run_id = ?", run_id)
    return repr([tuple(part) if part else () for part in (run, task)])
