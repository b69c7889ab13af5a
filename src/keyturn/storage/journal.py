"""The append-only journal: one hash chain per connection. It is also the audit trail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.errors import NotFound
from keyturn.model.run import Line, LineKind
from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load


@dataclass(frozen=True)
class Entry:
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
            entry.kind.value,
            entry.epoch,
        ]
    )
    return hashlib.sha256((said + facts).encode()).hexdigest()


def append(tx: Tx, connection_id: str, entries: Sequence[Entry]) -> None:
    """Adds lines to the connection's chain. Raises: NotFound when there is no such connection."""
    head = tx.lock("SELECT journal_count, journal_hash FROM connection WHERE id = ?", connection_id)
    if head is None:
        raise NotFound("no such connection", connection=connection_id)
    number, previous = int(head[0]), str(head[1])
    rows: list[Row] = []
    for entry in entries:
        number += 1
        facts = dump(dict(entry.facts))
        previous = link(previous, connection_id, number, entry, facts)
        rows.append(
            (
                connection_id,
                number,
                entry.at,
                entry.run_id,
                entry.step,
                entry.kind.value,
                entry.epoch,
                facts,
                previous,
            )
        )
    tx.many(
        "INSERT INTO journal (connection_id, number, at, run_id, step, kind, epoch, facts, hash)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        rows,
    )
    tx.run(
        "UPDATE connection SET journal_count = ?, journal_hash = ? WHERE id = ?",
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


def of_connection(tx: Tx, connection_id: str, after: int = 0, limit: int = 10_000) -> list[Line]:
    """A connection's lines in order, after a number."""
    sql = f"SELECT {_COLUMNS} FROM journal WHERE connection_id = ? AND number > ? ORDER BY number LIMIT ?"
    return [_read(row) for row in tx.all(sql, connection_id, after, limit)]


def verify(lines: Sequence[Line]) -> int | None:
    """The number of the first line of a connection's chain that does not follow; None when the chain holds."""
    previous = ""
    for expected, line in enumerate(lines, start=1):
        entry = Entry(line.at, line.run_id, line.step, line.kind, line.epoch, line.facts)
        wanted = link(previous, line.connection_id, expected, entry, dump(dict(line.facts)))
        if line.number != expected or line.hash != wanted:
            return expected
        previous = line.hash
    return None
