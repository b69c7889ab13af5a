"""The store: one way to read, one way to write, on SQLite and PostgreSQL.

`write` runs a function inside a transaction and returns when it is durable. On SQLite there is one writing connection,
and whoever comes first commits for all who came meanwhile (group commit), so that many runs share one fsync. On
PostgreSQL each write is its own transaction and the server groups them.

Statements are written once, with `?` marks; differences between the two live in this file and in `schema.py`.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from keyturn import boundary
from keyturn.errors import Conflict, InvalidInput, KeyturnError, StoreUnavailable
from keyturn.storage import schema

T = TypeVar("T")
Row = Sequence[Any]


class Tx(Protocol):
    """What a read or write function gets."""

    def all(self, sql: str, *params: Any) -> list[Row]:
        """Every row."""

    def one(self, sql: str, *params: Any) -> Row | None:
        """The first row, or None."""

    def run(self, sql: str, *params: Any) -> int:
        """Executes and returns the number of rows touched."""

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        """Executes an `INSERT ... VALUES (?,...)` once per row."""

    def lock(self, sql: str, *params: Any) -> Row | None:
        """Like `one`, and on PostgreSQL keeps the row locked until the commit (SQLite has one writer anyway)."""

    def hold(self, sql: str, *params: Any) -> None:
        """Like `lock` where nothing of the row is needed: SQLite has nothing to do."""


class Store(Protocol):
    """A database that holds our tables."""

    dialect: str

    def write(self, work: Callable[[Tx], T], *, durable: bool = True) -> T:
        """Runs `work` in a transaction; returns once it is durable. Raises StoreUnavailable with nothing changed,
        unless the commit itself was cut off: then the caller reads the truth back before acting.
        `work` may be run again when another process changed the same rows first, or when another's work in the same
        commit failed: it must do nothing but read and write.

        `durable=False` lets SQLite return as soon as others see it: a power cut may undo it, but never without undoing
        everything written after it, and it ends every worker on that machine too. PostgreSQL's workers outlive its
        server, so there every write waits for the disk.
        """

    def read(self, work: Callable[[Tx], T], *, alone: bool = False) -> T:
        """Runs `work` on a consistent view; never waits for writers on SQLite. `alone`: it is one statement, or each of
        its statements may have a view of its own, which spares the two around them."""

    def close(self) -> None:
        """Ends threads and connections."""


def open_store(url: str) -> Store:
    """Opens (and migrates) the store at `sqlite:///path` or `postgresql://...`."""
    if url.startswith("sqlite:///"):
        return SqliteStore(Path(url.removeprefix("sqlite:///")))
    if urlsplit(url).scheme in {"postgresql", "postgres"}:
        return PostgresStore(url)
    raise InvalidInput(
        "the database URL is neither sqlite:/// nor postgresql://",
        hint="Set KEYTURN_DATABASE, e.g. sqlite:////var/lib/keyturn/keyturn.db",
        field="KEYTURN_DATABASE",
    )


class _SqliteTx:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, sql: str, *params: Any) -> list[Row]:
        return self._connection.execute(sql, params).fetchall()

    def one(self, sql: str, *params: Any) -> Row | None:
        found: Row | None = self._connection.execute(sql, params).fetchone()
        return found

    lock = one

    def hold(self, sql: str, *params: Any) -> None:
        """One writer: nobody else gets in."""

    def run(self, sql: str, *params: Any) -> int:
        return self._connection.execute(sql, params).rowcount

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(sql, rows)


class _Member:
    """One write on its way into a commit. Its thread sleeps on `sleep`, which opens when the commit is decided, or
    when it is this thread's turn to commit for all who wait."""

    __slots__ = ("durable", "error", "result", "settled", "sleep", "work")

    def __init__(self, work: Callable[[Tx], Any], durable: bool) -> None:
        self.work, self.durable = work, durable
        self.result: Any = None
        self.error: BaseException | None = None
        self.settled = False
        self.sleep = threading.Lock()
        self.sleep.acquire()

    def fail(self, error: BaseException) -> None:
        """Its own work failed: nobody else's business."""
        self.settle(_raced() if isinstance(error, sqlite3.IntegrityError) else error)

    def settle(self, error: BaseException | None = None) -> None:
        """The commit is decided: the thread may go on."""
        self.error, self.settled = error, True
        self.sleep.release()


class SqliteStore:
    """SQLite in WAL mode with full durability; a reading connection per thread, and one that writes.

    Who comes to write first commits for all who came meanwhile, then hands over to the next in line: one fsync for
    many, and no thread in between that must be woken for each commit.
    """

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._waiting: deque[_Member] = deque()
        self._led = False  # somebody commits now
        self._durable = True  # how the writing connection commits
        self._closed = False
        self._closing = threading.Lock()
        self._idle = threading.Condition(self._closing)
        self._readers: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # made by us, because SQLite's companion files take over the mode the file has when they are opened
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            self._writer = self._connect()
            schema.migrate(_SqliteTx(self._writer), self.dialect, _sqlite_transaction(self._writer))
        except (OSError, sqlite3.Error) as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            raise StoreUnavailable(
                f"cannot open the database {path}: {_words(error)}",
                hint="Another program holds it. Nothing was changed; try again, or find and end that program."
                if busy
                else "Check the path, its permissions and the free space.",
            ) from None
        self._tx = _SqliteTx(self._writer)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=512
        )
        connection.execute(
            "PRAGMA page_size=2048"
        )  # of a new file: a changed row logs its whole page (ADR 0002)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # else each batch makes and removes a file for its savepoints
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA secure_delete=ON")  # a destroyed version leaves no bytes behind
        # PostgreSQL's is made by a migration; SQLite's own LOWER knows ASCII alone
        connection.create_function("fold", 1, lambda text: text and str(text).lower(), deterministic=True)
        return connection

    def write(self, work: Callable[[Tx], T], *, durable: bool = True) -> T:
        if getattr(self._local, "commits", False):
            raise RuntimeError("a write inside a write would wait for itself")
        mine = _Member(work, durable)
        with self._closing:  # nothing is put behind the end, where nobody would answer it
            if self._closed:
                raise StoreUnavailable("the database is closed")
            self._waiting.append(mine)
            leads, self._led = not self._led, True
        interrupted: BaseException | None = None
        if not leads:
            try:
                mine.sleep.acquire()
            except BaseException as error:  # Ctrl-C; the turn to commit for the others may come still
                interrupted = error
                mine.sleep.acquire()
        if not mine.settled:
            self._lead()
        if interrupted is not None:
            raise interrupted
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def _lead(self) -> None:
        """Commits for all who wait, then hands over to the next in line, whatever happened."""
        with self._closing:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_MEMBERS))]
        self._local.commits = True
        try:
            self._commit(self._writer, self._tx, batch)
        finally:
            self._local.commits = False
            with self._closing:
                if self._waiting:
                    self._waiting[0].sleep.release()
                else:
                    self._led = False
                    self._idle.notify_all()

    def read(self, work: Callable[[Tx], T], *, alone: bool = False) -> T:
        connection = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = self._local.connection = self._connect()
                self._readers.append(connection)
            if alone:
                return work(_SqliteTx(connection))
            connection.execute("BEGIN")
            try:
                return work(_SqliteTx(connection))
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database cannot be read: {_words(error)}") from None

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._idle.wait_for(lambda: not self._led, timeout=10)  # those who came before are still answered
        self._writer.close()
        for connection in self._readers:
            connection.close()

    def _sync(self, durable: bool) -> None:
        """Whether the next commit waits for the disk. Without it the log still keeps commits in order."""
        if durable is not self._durable:
            self._writer.execute("PRAGMA synchronous=" + ("FULL" if durable else "NORMAL"))
            self._durable = durable

    def _commit(self, connection: sqlite3.Connection, tx: Tx, batch: list[_Member]) -> None:
        """One transaction and one fsync for the whole batch."""
        kept: list[_Member] = []
        try:
            with boundary.transaction():
                self._sync(any(member.durable for member in batch))
                kept = self._work(connection, tx, batch)
                boundary.reach("commit:before")
                connection.execute("COMMIT")
                boundary.reach("commit:after")
        except BaseException as error:  # whoever waits must be answered, and the writer must live
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            failure = StoreUnavailable(
                f"the database refused the commit: {_words(error)}",
                hint="Nothing was changed. Check free space and that no other program holds the database.",
            )
            for member in batch:
                if not member.settled:
                    member.settle(failure)
            if not isinstance(error, Exception):
                raise
            return
        for member in kept:
            member.settle()

    def _work(self, connection: sqlite3.Connection, tx: Tx, batch: list[_Member]) -> list[_Member]:
        """Does what the members want in a transaction that is left open; those who got it done. Where one fails, which
        is rare, all begin anew with a savepoint around each, so that its failure is its own."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for member in batch:
                member.result = member.work(tx)
        except Exception as error:
            if _is_ill(error) or not connection.in_transaction:
                raise
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            if len(batch) == 1:
                member.fail(error)
                return []
        else:
            return batch
        kept: list[_Member] = []
        for member in batch:
            connection.execute("SAVEPOINT member")
            try:
                member.result = member.work(tx)
                kept.append(member)
            except BaseException as error:  # the member's own failure is its caller's business
                if _is_ill(error) or not connection.in_transaction:
                    raise
                connection.execute("ROLLBACK TO member")
                member.fail(error)
            connection.execute("RELEASE member")
        return kept


_MOST_MEMBERS = 256


_ILL = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }
)


def _is_ill(error: BaseException) -> bool:
    """Whether the database failed, and with it everybody in the batch, rather than one member's own statement."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF in _ILL


def _raced() -> Conflict:
    """A row broke a rule of the schema: almost always two at once made the same thing."""
    return Conflict(
        "somebody else changed the same thing at the same moment", hint="Look at it, then try again."
    )


@contextmanager
def _sqlite_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _words(error: BaseException) -> str:
    """An SQLite or OS message names files and tables, never values; of anything else only its kind is said."""
    return str(error) if isinstance(error, sqlite3.Error | OSError) else type(error).__name__


class _PostgresTx:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def _execute(self, sql: str, params: Row) -> Any:
        return self._connection.execute(_percent(sql), params)

    def all(self, sql: str, *params: Any) -> list[Row]:
        found: list[Row] = self._execute(sql, params).fetchall()
        return found

    def one(self, sql: str, *params: Any) -> Row | None:
        found: Row | None = self._execute(sql, params).fetchone()
        return found

    def lock(self, sql: str, *params: Any) -> Row | None:
        return self.one(sql + " FOR UPDATE", *params)

    def hold(self, sql: str, *params: Any) -> None:
        self._execute(sql + " FOR UPDATE", params)

    def run(self, sql: str, *params: Any) -> int:
        count: int = self._execute(sql, params).rowcount
        return count

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        """One statement with all rows: a message for each would cost as much as a statement for each."""
        head, values = sql.rsplit(" VALUES ", 1)
        if rows:
            every = f"{head} VALUES {','.join([values] * len(rows))}"
            self._execute(every, [value for row in rows for value in row])


_translated: dict[str, str] = {}


def _percent(sql: str) -> str:
    found = _translated.get(sql)
    if found is None:
        found = _translated[sql] = re.sub(r"\?", "%s", sql.replace("%", "%%"))
    return found


_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"  # one view for all statements of a read


_STALLED_S = 10.0
_OVERTAKEN_S = 10.0  # how long a write is begun anew when others change the same rows first


def _configure(connection: Any) -> None:
    """What a write has read must still be so when it changes it, as on SQLite with its one writer: of two that change
    the same row, PostgreSQL refuses the later, and it begins anew with what is there now. A write that returned must
    survive a power cut, also on a server whose default is to answer sooner. And the rows locked by a worker that was
    paused, or cut off, inside a transaction must not keep the others out for as long."""
    from psycopg import IsolationLevel

    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.execute(f"SET idle_in_transaction_session_timeout = {_STALLED_S * 1000:.0f}")


class PostgresStore:
    """PostgreSQL through a small pool; several processes and machines may share it."""

    dialect = "postgresql"

    def __init__(self, url: str, size: int = 16) -> None:
        import psycopg
        from psycopg_pool import ConnectionPool

        self._errors = psycopg.Error
        self._integrity = psycopg.IntegrityError
        self._overtaken = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
        try:
            with psycopg.connect(url, connect_timeout=10) as connection:
                schema.migrate(_PostgresTx(connection), self.dialect, connection.transaction())
        except psycopg.Error as error:
            raise StoreUnavailable(
                f"cannot open the PostgreSQL database: {type(error).__name__}",
                hint="Check KEYTURN_DATABASE: host, database, user, password and the right to create tables.",
            ) from None
        self._pool = ConnectionPool(
            url,
            min_size=1,
            max_size=size,
            open=True,
            configure=_configure,
            kwargs={"autocommit": True, "prepare_threshold": 1},
        )

    def write(self, work: Callable[[Tx], T], *, durable: bool = True) -> T:  # noqa: ARG002 - always, see the Protocol
        until = time.monotonic() + _OVERTAKEN_S
        while True:
            try:
                return self._write(work)
            except self._overtaken:
                if time.monotonic() > until:
                    raise _raced() from None
            time.sleep(random.uniform(0.0, 0.02))  # noqa: S311 - no two of them in step

    def _write(self, work: Callable[[Tx], T]) -> T:
        try:
            with self._pool.connection() as connection, boundary.transaction():
                with connection.transaction():
                    result = work(_PostgresTx(connection))
                    boundary.reach("commit:before")
                boundary.reach("commit:after")
                return result
        except (KeyturnError, *self._overtaken):
            raise
        except self._integrity:
            raise _raced() from None
        except Exception as error:
            if not isinstance(error, self._errors) and type(error).__module__.split(".")[0] != "psycopg_pool":
                raise
            raise StoreUnavailable(
                f"the database refused the commit: {type(error).__name__}",
                hint="Check that PostgreSQL is up and has free space.",
            ) from None

    def read(self, work: Callable[[Tx], T], *, alone: bool = False) -> T:
        try:
            with self._pool.connection() as connection:
                if alone:
                    return work(_PostgresTx(connection))
                connection.execute(_READING)
                try:
                    return work(_PostgresTx(connection))
                finally:
                    connection.execute("COMMIT")
        except self._errors as error:
            raise StoreUnavailable(f"the database cannot be read: {type(error).__name__}") from None

    def close(self) -> None:
        self._pool.close()
