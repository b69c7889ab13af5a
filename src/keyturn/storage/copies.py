"""SQLite database files as files: what is in one, and copying one while it is in use. Nothing here migrates.

Every function opens the file it is given and closes it again. A file that is only looked at is never created.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from keyturn.errors import StoreUnavailable

SQLITE_VERSION = sqlite3.sqlite_version_info
BUSY_S = 10.0  # how long a database that somebody else has is waited for


def damage(path: Path) -> str:
    """What a quick check of the whole file finds; empty when it is sound. Raises: StoreUnavailable."""
    with _look(path) as database:
        said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if said == "ok" else said


def sealed_body(path: Path, row_id: str) -> bytes | None:
    """The ciphertext of one sealed row. Raises: StoreUnavailable, also when the table is not there."""
    with _look(path) as database:
        row = database.execute("SELECT body FROM sealed WHERE id = ?", (row_id,)).fetchone()
    return None if row is None else bytes(row[0])


def key_ids(path: Path) -> tuple[str, ...]:
    """The ids of the master keys that sealed rows are wrapped with. Raises: StoreUnavailable."""
    with _look(path) as database:
        rows = database.execute("SELECT DISTINCT kek_id FROM sealed ORDER BY kek_id").fetchall()
    return tuple(str(row[0]) for row in rows)


def count_connections(path: Path) -> int:
    """How many connections the hub in this file has. Raises: StoreUnavailable."""
    with _look(path) as database:
        return int(database.execute("SELECT COUNT(*) FROM connection").fetchone()[0])


def copy_out(database: Path, target: Path) -> None:
    """A consistent copy of a database in use, as one file with nothing beside it. Raises: StoreUnavailable."""
    with _look(database) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=-1, progress=_patient())
        copy.execute("PRAGMA journal_mode=DELETE")  # one file: nothing of it is left beside it


def copy_in(source: Path, database: Path) -> None:
    """Puts a copy's content in a database's place, in one step and readable by us alone.

    Waits some seconds while somebody else has the database. Raises: StoreUnavailable, with nothing changed.
    """
    with _look(source) as origin, closing(sqlite3.connect(database, timeout=0.2)) as target:
        database.chmod(0o600)
        origin.backup(target, pages=-1, progress=_patient())


def _patient() -> Callable[[int, int, int], None]:
    """Told after each step of a copy. SQLite steps again and again while a database is locked; this gives up."""
    until = time.monotonic() + BUSY_S

    def look(status: int, _left: int, _pages: int) -> None:
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} and time.monotonic() >= until:
            raise StoreUnavailable(f"another program has held the database for {BUSY_S:.0f} s")

    return look


@contextmanager
def _look(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads and never creates the file.

    SQLite's errors, also those of the `with` block, come out as ours with its own text as the message: the caller
    says what was being done.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as database:
            yield database
    except sqlite3.Error as error:
        raise StoreUnavailable(str(error)) from None
