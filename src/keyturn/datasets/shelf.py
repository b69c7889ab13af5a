"""The datasets: one SQLite file each, so that one can be dropped, copied or damaged without the others.

Records belong to the load that brought them, and readers see a load whole or not at all. How far a load has come is in
the same file, written in the same transaction as its records: after a crash it goes on there, without loss and without
a record twice.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyturn.datasets.reading import Batch, Reject
from keyturn.errors import InvalidInput, NotFound, StoreUnavailable

REJECTS_KEPT = 10_000  # of one load; those after it are counted only
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS part (
  n INTEGER PRIMARY KEY, load TEXT NOT NULL UNIQUE, state TEXT NOT NULL, offset INTEGER NOT NULL, line INTEGER NOT NULL,
  accepted INTEGER NOT NULL, rejected INTEGER NOT NULL, columns TEXT NOT NULL, changed_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS record (id INTEGER PRIMARY KEY, part INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reject (
  part INTEGER NOT NULL, line INTEGER NOT NULL, last_line INTEGER NOT NULL, offset INTEGER NOT NULL, why TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS reject_part ON reject (part, line);
"""
_SEEN = "part IN (SELECT n FROM part WHERE state = 'whole')"
_SWEPT = 20_000


@dataclass(frozen=True)
class Part:
    """What one load has brought. `state` is loading, whole (readers see it) or ended (its records go away)."""

    n: int
    load: str
    state: str
    offset: int
    line: int
    accepted: int
    rejected: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A dataset as readers see it. `size_bytes` is what its file takes on disk."""

    name: str
    records: int
    columns: tuple[str, ...]
    loads: int
    changed_at: float | None
    size_bytes: int


def check_name(name: str) -> str:
    """Raises: InvalidInput. The name is a file's name too, so nothing else is let through."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "a dataset's name is 1 to 63 small letters, digits, _ or -, and begins with a letter",
            field="dataset",
        )
    return name


class Shelf:
    """The folder of the datasets. Several processes may use it at once; writers wait for each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """The datasets there are."""
        return sorted(path.stem for path in self._folder.glob("*.db") if _NAME.fullmatch(path.stem))

    def _path(self, name: str) -> Path:
        return self._folder / f"{check_name(name)}.db"

    @contextmanager
    def _open(self, name: str, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        """Raises: NotFound, StoreUnavailable."""
        path = self._path(name)
        try:
            if make:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            elif not path.exists():
                raise NotFound(f"there is no dataset {name}", field="dataset")
            with closing(
                sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            ) as base:
                base.execute("PRAGMA journal_mode=WAL")
                base.execute("PRAGMA synchronous=FULL")
                base.execute("PRAGMA temp_store=MEMORY")
                base.execute("PRAGMA cache_size=-8192")  # 8 MiB, however large the file
                if make:
                    base.executescript(_SCHEMA)
                yield base
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"the dataset {name} cannot be used: {type(error).__name__}",
                hint="Check free space and permissions of the hub's folder `datasets`.",
            ) from None

    # -- loading ---------------------------------------------------------------------------------------------------

    def begin(self, name: str, load: str) -> Part:
        """The part of a load, made where it is new: where to go on."""
        with self._open(name, make=True) as base:
            base.execute(
                "INSERT INTO part (load, state, offset, line, accepted, rejected, columns, changed_at)"
                " VALUES (?, 'loading', 0, 0, 0, 0, '[]', ?) ON CONFLICT DO NOTHING",
                (load, time.time()),
            )
            found = _part(base, load)
            assert found is not None
            return found

    @contextmanager
    def writing(self, name: str) -> Iterator[Writer]:
        """A connection for many batches."""
        with self._open(name, make=True) as base:
            yield Writer(base)

    def part(self, name: str, load: str) -> Part | None:
        """How far a load has come."""
        with self._open(name) as base:
            return _part(base, load)

    def finish(self, name: str, load: str, *, replaces: bool) -> Part:
        """Shows a load to readers, whole; `replaces` takes away everything else at the same instant. Again is fine."""
        with self._open(name) as base:
            base.execute("BEGIN IMMEDIATE")
            if replaces:
                base.execute("UPDATE part SET state = 'ended' WHERE load <> ? AND state = 'whole'", (load,))
            base.execute(
                "UPDATE part SET state = 'whole', changed_at = ? WHERE load = ? AND state = 'loading'",
                (time.time(), load),
            )
            base.execute("COMMIT")
            found = _part(base, load)
        if found is None:
            raise NotFound("the load is gone")
        self.sweep(name)
        return found

    def abandon(self, name: str, load: str) -> None:
        """Takes a load's records away that no reader has seen. Called twice or without a part, nothing happens."""
        try:
            with self._open(name) as base:
                base.execute("UPDATE part SET state = 'ended' WHERE load = ? AND state = 'loading'", (load,))
        except NotFound:
            return
        self.sweep(name)

    def sweep(self, name: str) -> None:
        """Deletes the records of ended parts, some at a time, so that no writer waits for long."""
        with self._open(name) as base:
            ended = [row[0] for row in base.execute("SELECT n FROM part WHERE state = 'ended'")]
            for n in ended:
                gone = _SWEPT
                while gone == _SWEPT:
                    gone = base.execute(
                        "DELETE FROM record WHERE id IN (SELECT id FROM record WHERE part = ? LIMIT ?)",
                        (n, _SWEPT),
                    ).rowcount
                base.execute("UPDATE part SET state = 'gone' WHERE n = ?", (n,))

    # -- reading ---------------------------------------------------------------------------------------------------

    def summary(self, name: str) -> Summary:
        """What readers see. Raises: NotFound."""
        path = self._path(name)
        with self._open(name) as base:
            rows = base.execute(
                "SELECT accepted, columns, changed_at FROM part WHERE state = 'whole' ORDER BY n"
            ).fetchall()
        columns = dict.fromkeys(column for row in rows for column in json.loads(row[1]))
        return Summary(
            name,
            sum(row[0] for row in rows),
            tuple(columns),
            len(rows),
            max((row[2] for row in rows), default=None),
            path.stat().st_size,
        )

    def page(self, name: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Records (id, JSON object as text) behind `after`, in the order in which they came."""
        with self._open(name) as base:
            return base.execute(
                f"SELECT id, body FROM record WHERE id > ? AND {_SEEN} ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()

    def each(self, name: str) -> Iterator[str]:
        """Every record as JSON text, from one consistent view, however long it takes; memory is bounded."""
        with self._open(name) as base:
            base.execute("BEGIN")
            found = base.execute(f"SELECT body FROM record WHERE {_SEEN} ORDER BY id")
            while rows := found.fetchmany(1000):
                for row in rows:
                    yield row[0]

    def rejects(self, name: str, load: str, after: int, limit: int) -> list[tuple[int, Reject]]:
        """Rejected records of a load, in order; the first 10,000 are kept."""
        with self._open(name) as base:
            rows = base.execute(
                "SELECT r.rowid, r.line, r.last_line, r.offset, r.why FROM reject r JOIN part p ON p.n = r.part"
                " WHERE p.load = ? AND r.rowid > ? ORDER BY r.rowid LIMIT ?",
                (load, after, limit),
            ).fetchall()
        return [(row[0], Reject(*row[1:])) for row in rows]

    def drop(self, name: str) -> None:
        """Deletes a dataset with everything in it. Raises: NotFound."""
        path = self._path(name)
        if not path.exists():
            raise NotFound(f"there is no dataset {name}", field="dataset")
        for each in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            each.unlink(missing_ok=True)


class Writer:
    """Writes a load's batches."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base

    def add(self, part: Part, batch: Batch, columns: tuple[str, ...]) -> Part:
        """One batch and how far it brings the load, in one durable transaction. Returns the part as it is then.

        Raises: NotFound when the load was ended meanwhile.
        """
        base = self._base
        accepted, rejected = part.accepted + len(batch.bodies), part.rejected + len(batch.rejects)
        room = max(0, REJECTS_KEPT - part.rejected)
        base.execute("BEGIN IMMEDIATE")
        try:
            base.executemany(
                "INSERT INTO record (part, body) VALUES (?,?)", ((part.n, body) for body in batch.bodies)
            )
            base.executemany(
                "INSERT INTO reject (part, line, last_line, offset, why) VALUES (?,?,?,?,?)",
                ((part.n, r.line, r.last_line, r.offset, r.why) for r in batch.rejects[:room]),
            )
            moved = base.execute(
                "UPDATE part SET offset = ?, line = ?, accepted = ?, rejected = ?, columns = ?, changed_at = ?"
                " WHERE n = ? AND state = 'loading' AND offset = ?",
                (
                    batch.offset,
                    batch.line,
                    accepted,
                    rejected,
                    json.dumps(columns),
                    time.time(),
                    part.n,
                    part.offset,
                ),
            ).rowcount
            if moved != 1:  # ended, or another loader has come further: nothing is written twice
                raise NotFound("the load is not where this loader left it")
            base.execute("COMMIT")
        except BaseException:
            if base.in_transaction:
                base.execute("ROLLBACK")
            raise
        return Part(part.n, part.load, part.state, batch.offset, batch.line, accepted, rejected, columns)


def _part(base: sqlite3.Connection, load: str) -> Part | None:
    row = base.execute(
        "SELECT n, load, state, offset, line, accepted, rejected, columns FROM part WHERE load = ?", (load,)
    ).fetchone()
    if row is None:
        return None
    n, name, state, offset, line, accepted, rejected, columns = row
    return Part(n, name, state, offset, line, accepted, rejected, tuple(json.loads(columns)))
