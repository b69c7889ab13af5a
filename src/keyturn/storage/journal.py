"""The append-only journal: one hash chain per connection, and one for the hub itself (who signed in, who was refused).
It is also the audit trail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keyturn.errors import NotFound
from keyturn.model.run import Line, LineKind
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

HUB = "hub"  # the chain of what belongs to no connection


class Entry(NamedTuple):
    """A line about to be written."""

    at: float
    run_id: str
    step: str
    kind: LineKind
    epoch: int
    facts: Mapping[str, Any]


def link(previous: str, connection_id: str, number: int, entry: Entry, facts: str) -> str:
    """The hash of a line: over the line before it and everything it says."""
    said = dump(
        [
            previous,
            connection_id,
            number,
            repr(entry.at),
            entry.run_id,
            entry.step,
            entry.kind,
            entry.epoch,
        ]
    )
    return hashlib.sha256((said + facts).encode()).hexdigest()


def actor(facts: Mapping[str, Any]) -> str:
    """Who a line names as the one who acts: it is filed under this, so that all that somebody did is found."""
    by = facts.get("by")
    return by if isinstance(by, str) else ""


def _text(facts: Mapping[str, Any]) -> str:
    """Text from outside may hold what UTF-8 cannot: it must not be able to stop a commit."""
    said = dump(dict(facts))
    return said if said.isascii() else said.encode("utf-8", "replace").decode()


def append(tx: Tx, connection_id: str, entries: Sequence[Entry]) -> None:
    """Adds lines to the connection's chain. Raises: NotFound when there is no such connection."""
    table = "chain" if connection_id == HUB else "connection"
    head = tx.lock(f"SELECT journal_count, journal_hash FROM {table} WHERE id = ?", connection_id)
    if head is None:
        raise NotFound("no such connection", connection=connection_id)
    number, previous = int(head[0]), str(head[1])
    rows: list[Row] = []
    for entry in entries:
        number += 1
        facts = _text(entry.facts)
        previous = link(previous, connection_id, number, entry, facts)
        rows.append(
            (
                connection_id,
                number,
                entry.at,
                entry.run_id,
                entry.step,
                str(entry.kind),
                entry.epoch,
                facts,
                previous,
                actor(entry.facts),
            )
        )
    tx.many(
        "INSERT INTO journal (connection_id, number, at, run_id, step, kind, epoch, facts, hash, actor)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        rows,
    )
    tx.run(
        f"UPDATE {table} SET journal_count = ?, journal_hash = ? WHERE id = ?",
        number,
        previous,
        connection_id,
    )


_COLUMNS = "connection_id, number, at, run_id, step, kind, epoch, facts, hash"


def _read(row: Row) -> Line:
    return Line(row[0], row[1], row[2], row[3], row[4], LineKind(row[5]), row[6], load(row[7]), row[8])


def of_run(tx: Tx, run_id: str) -> list[Line]:
    """A run's lines in order."""
    return [
        _read(row)
        for row in tx.all(f"SELECT {_COLUMNS} FROM journal WHERE run_id = ? ORDER BY number", run_id)
    ]


def of_runs(tx: Tx, run_ids: Sequence[str]) -> dict[str, list[Line]]:
    """The lines of some runs, by run, in order."""
    marks = ",".join("?" * len(run_ids)) or "NULL"
    found: dict[str, list[Line]] = {}
    for row in tx.all(f"SELECT {_COLUMNS} FROM journal WHERE run_id IN ({marks}) ORDER BY number", *run_ids):
        found.setdefault(row[3], []).append(_read(row))
    return found


def steps_of(tx: Tx, run_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """The steps that some runs have lines of."""
    marks = ",".join("?" * len(run_ids)) or "NULL"
    found: dict[str, set[str]] = {}
    for run_id, step in tx.all(
        f"SELECT DISTINCT run_id, step FROM journal WHERE run_id IN ({marks})", *run_ids
    ):
        found.setdefault(run_id, set()).add(step)
    return {run_id: frozenset(steps) for run_id, steps in found.items()}


def of_connection(tx: Tx, connection_id: str, after: int = 0, limit: int = 10_000) -> list[Line]:
    """A connection's lines in order, after a number."""
    return [line for line, _ in filed(tx, connection_id, after, limit)]


def filed(tx: Tx, connection_id: str, after: int, limit: int) -> list[tuple[Line, str]]:
    """The same, each with whom it is filed under."""
    sql = f"SELECT {_COLUMNS}, actor FROM journal WHERE connection_id = ? AND number > ? ORDER BY number LIMIT ?"
    return [(_read(row), row[9]) for row in tx.all(sql, connection_id, after, limit)]


def latest(tx: Tx, connection_id: str, limit: int, before: int = 0) -> list[Line]:
    """A chain's last lines, newest first; those before a number when it is given."""
    sql = (
        f"SELECT {_COLUMNS} FROM journal WHERE connection_id = ? AND number < ? ORDER BY number DESC LIMIT ?"
    )
    return [_read(row) for row in tx.all(sql, connection_id, before or 1 << 60, limit)]


@dataclass(frozen=True)
class Found:
    """What a search saw. `place` is where the next one goes on: (at, connection id, number) of a line, which need not be one
    that is shown; None when everything was looked at. `until` is how far back this one has looked."""

    lines: list[Line]
    place: tuple[float, str, int] | None
    until: float | None


LOOKED_AT = 20_000  # lines that one search reads at most


def search(
    tx: Tx,
    *,
    chain: str = "",
    run_id: str = "",
    kind: str = "",
    by: str = "",
    since: float | None = None,
    until: float | None = None,
    words: Sequence[str] = (),
    before: tuple[float, str, int] | None = None,
    limit: int = 100,
    look_at: int = LOOKED_AT,
) -> Found:
    """The lines that fit, newest first, behind `before`. Time, chain, run and who acted are found by index; for a kind and
    for `words`, which must all be in what a line says, lines are read one after another: so many and no more, and the
    answer says where it stopped. A chain is searched in its own order, backwards; everything else by time."""
    one_chain = bool(chain) and not run_id and not by
    fixed: list[str] = []
    values: list[Any] = []
    for sql, value in (
        ("connection_id = ?", chain or None),
        ("run_id = ?", run_id or None),
        ("actor = ? AND actor <> ''", by or None),
        ("at >= ?", since),
        ("at < ?", until),
    ):
        if value is not None:
            fixed.append(sql)
            values.append(value)
    if before is not None and one_chain:
        fixed.append("number < ?")
        values.append(before[2])
    elif before is not None:
        fixed.append("at <= ? AND (at, connection_id, number) < (?, ?, ?)")
        values += [before[0], *before]
    end = _end(tx, fixed, values, look_at, one_chain=one_chain) if kind or words or one_chain else None
    picked, wanted = list(fixed), list(values)
    if end is not None:
        picked.append("number >= ?" if one_chain else "at >= ?")
        wanted.append(end[2] if one_chain else end[0])
    if kind:
        picked.append("kind = ?")
        wanted.append(kind)
    for word in words:
        picked.append("facts LIKE ? ESCAPE '!'")
        wanted.append("%" + word.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%")
    where = f" WHERE {' AND '.join(picked)}" if picked else ""
    order = "number DESC" if one_chain else "at DESC, connection_id DESC, number DESC"
    rows = tx.all(f"SELECT {_COLUMNS} FROM journal{where} ORDER BY {order} LIMIT ?", *wanted, limit + 1)
    lines = [_read(row) for row in rows[:limit]]
    if len(rows) > limit:
        last = lines[-1]
        return Found(lines, (last.at, last.connection_id, last.number), last.at)
    if end is None:
        return Found(lines, None, None)
    return Found(lines, end, end[0])


def _end(
    tx: Tx, fixed: Sequence[str], values: Sequence[Any], look_at: int, *, one_chain: bool
) -> tuple[float, str, int] | None:
    """How far back a search goes that reads line after line: the place of the last line it looks at. None: to the very
    end. By time it takes in all lines of that instant, so the place is before every one of them."""
    where = f" WHERE {' AND '.join(fixed)}" if fixed else ""
    if one_chain:
        row = tx.one(
            f"SELECT at, connection_id, number FROM journal{where} ORDER BY number DESC LIMIT 1 OFFSET ?",
            *values,
            look_at - 1,
        )
        return (row[0], row[1], row[2]) if row else None
    row = tx.one(f"SELECT at FROM journal{where} ORDER BY at DESC LIMIT 1 OFFSET ?", *values, look_at - 1)
    return (row[0], "", 0) if row else None


@dataclass(frozen=True)
class Head:
    """Where a chain ends: `number` and `hash` as the connection's row has them, and the `last` line there is.

    Lines whose connection has no row any more are a chain with an empty head.
    """

    connection_id: str
    name: str
    number: int
    hash: str
    last: int


def heads(tx: Tx) -> list[Head]:
    """The head of every chain, by name."""
    rows = tx.all(
        "SELECT id, name, journal_count, journal_hash,"
        " (SELECT COALESCE(MAX(number), 0) FROM journal WHERE connection_id = connection.id)"
        " FROM connection ORDER BY name"
    )
    own = tx.all(
        "SELECT id, name, journal_count, journal_hash,"
        " (SELECT COALESCE(MAX(number), 0) FROM journal WHERE connection_id = chain.id) FROM chain ORDER BY id"
    )
    left = tx.all(
        "SELECT connection_id, MAX(number) FROM journal"
        " WHERE connection_id NOT IN (SELECT id FROM connection) AND connection_id NOT IN (SELECT id FROM chain)"
        " GROUP BY connection_id ORDER BY connection_id"
    )
    return [
        *(Head(*row) for row in rows),
        *(Head(*row) for row in own if row[2] or row[4]),  # nothing said yet: nothing to show
        *(Head(row[0], row[0], 0, "", row[1]) for row in left),
    ]


class Chain:
    """Follows one connection's lines from the first on and keeps only where it is."""

    def __init__(self) -> None:
        self.count, self.number, self.hash = 0, 0, ""
        self.broken: int | None = None

    def add(self, line: Line) -> None:
        """Takes the next line. `broken` is the number of the first one that does not follow."""
        self.count += 1
        if self.broken is None:
            entry = Entry(line.at, line.run_id, line.step, line.kind, line.epoch, line.facts)
            wanted = link(self.hash, line.connection_id, self.count, entry, dump(dict(line.facts)))
            if line.number != self.count or line.hash != wanted:
                self.broken = self.count
        self.number, self.hash = line.number, line.hash

    def findings(self, number: int, digest: str) -> list[str]:
        """What is wrong with the chain, once its last line was added, when its head is this one."""
        found = [] if self.broken is None else [f"line {self.broken} does not follow"]
        if self.number < number:
            missing = number - self.number
            found.append(
                f"is cut off: {missing} {'line is' if missing == 1 else 'lines are'} missing at the end"
            )
        elif self.number > number:
            found.append(f"goes on after its head, line {number}")
        elif self.hash != digest and self.broken is None:
            found.append(f"has another head than its last line, {number}")
        return found


def verify(lines: Iterable[Line]) -> int | None:
    """The number of the first line of a connection's chain that does not follow; None when the chain holds."""
    chain = Chain()
    for line in lines:
        chain.add(line)
        if chain.broken is not None:
            return chain.broken
    return None
