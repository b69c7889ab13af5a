"""What `write` and `read` promise, on both stores."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyturn import boundary
from keyturn.errors import CallInsideTransaction, Conflict, InvalidInput, StoreUnavailable
from keyturn.storage import database as module
from keyturn.storage.database import SqliteStore, Store, Tx, open_store
from keyturn.storage.schema import migrations
from tests.programs import running

ROOT = Path(__file__).parents[2]


def put(name: str, value: str = "x") -> Callable[[Tx], int]:
    return lambda tx: tx.run("INSERT INTO hub (name, value) VALUES (?, ?)", name, value)


def names(store: Store) -> set[str]:
    return {row[0] for row in store.read(lambda tx: tx.all("SELECT name FROM hub"))}


def test_what_was_written_is_read(store: Store) -> None:
    """A write's result comes back, and its rows are there for every reader."""
    assert store.write(put("one")) == 1
    assert names(store) == {"one"}


def test_a_failing_write_changes_nothing(store: Store) -> None:
    """Everything a function did before it raised is undone, and its own error comes back."""

    def work(tx: Tx) -> None:
        put("half")(tx)
        raise Conflict("no")

    with pytest.raises(Conflict):
        store.write(work)
    assert names(store) == set()


def held(store: Store) -> tuple[threading.Event, threading.Thread]:
    """Keeps the writer busy, so that what comes next is committed together."""
    busy, go = threading.Event(), threading.Event()

    def work(tx: Tx) -> None:
        busy.set()
        go.wait(10)

    thread = threading.Thread(target=lambda: store.write(work))
    thread.start()
    assert busy.wait(5)
    return go, thread


def test_one_failing_member_takes_nobody_along(store: Store) -> None:
    """Of writes that share a commit only the one that failed is undone: an error of ours, a broken rule, bad SQL."""
    store.write(put("taken"))

    def fails(tx: Tx) -> None:
        put("half")(tx)
        raise Conflict("no")

    def wrong(tx: Tx) -> None:
        put("quarter")(tx)
        tx.run("INSERT INTO no_such_table VALUES (1)")

    go, thread = held(store)
    works = [put("a"), fails, put("b"), put("taken"), wrong, put("c")]
    with ThreadPoolExecutor(len(works)) as pool:
        done = []
        for work in works:
            done.append(pool.submit(store.write, work))
            time.sleep(0.02)
        go.set()
        errors = [each.exception(10) for each in done]
    thread.join()
    assert [error is None for error in errors] == [True, False, True, False, False, True]
    assert names(store) == {"taken", "a", "b", "c"}


def test_a_read_sees_one_moment(store: Store) -> None:
    """All statements of a read see the same state, whatever is committed in between."""
    store.write(put("one"))

    def look(tx: Tx) -> tuple[int, int]:
        before = len(tx.all("SELECT name FROM hub"))
        writer = threading.Thread(target=lambda: store.write(put("two")))
        writer.start()
        writer.join(10)
        return before, len(tx.all("SELECT name FROM hub"))

    assert store.read(look) == (1, 1)
    assert names(store) == {"one", "two"}


def test_many_rows_at_once(store: Store) -> None:
    """Rows go in together, with odd characters, and none is fine too."""
    rows = [(f"n{n}", "100 % ? ünïcode '\"") for n in range(50)]
    store.write(lambda tx: tx.many("INSERT INTO hub (name, value) VALUES (?,?)", rows))
    store.write(lambda tx: tx.many("INSERT INTO hub (name, value) VALUES (?,?)", []))
    assert names(store) == {name for name, _ in rows}
    assert store.read(lambda tx: tx.one("SELECT value FROM hub WHERE name = 'n7'")) is not None


def test_no_call_leaves_inside_a_write(store: Store) -> None:
    """The guard is on while a write runs and off again afterwards, also after a failure."""
    with pytest.raises(CallInsideTransaction):
        store.write(lambda _: boundary.leaving("a vendor"))
    boundary.leaving("a vendor")


def test_after_the_end_a_write_says_so(url: str) -> None:
    """Nobody waits for an answer that cannot come."""
    store = open_store(url)
    store.close()
    with pytest.raises(StoreUnavailable):
        store.write(put("late"))
    store.close()


def test_an_address_that_is_neither(tmp_path: Path) -> None:
    """Other databases are refused by name."""
    with pytest.raises(InvalidInput):
        open_store("mysql://localhost/x")
    with pytest.raises(StoreUnavailable) as refused:
        open_store("postgresql://nobody:x@127.0.0.1:1/x?connect_timeout=2")
    assert refused.value.hint


def test_a_write_that_returned_survives_a_kill(url: str) -> None:
    """Whatever eight threads were told is durable is there after kill -9, and the chain of the store is whole."""
    argv = [sys.executable, "-m", "tests.storage.crash", url]
    with running(argv, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout
        said = [child.stdout.readline() for _ in range(100)]
        child.kill()
        said += child.stdout.readlines()
    told = {f"n{int(line)}" for line in said if line.endswith(b"\n")}
    store = open_store(url)
    try:
        assert told <= names(store)
        if store.dialect == "sqlite":
            assert store.read(lambda tx: tx.one("PRAGMA integrity_check")) == ("ok",)
    finally:
        store.close()


def test_two_processes_migrate_once(url: str) -> None:
    """First starts at the same moment: every migration is applied exactly once."""
    code = f"from keyturn.storage.database import open_store; open_store({url!r}).close()"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [child.wait(30) for child in children] == [0, 0, 0, 0]
    store = open_store(url)
    try:
        applied = [row[0] for row in store.read(lambda tx: tx.all("SELECT number FROM schema_version"))]
    finally:
        store.close()
    assert sorted(applied) == [number for number, _ in migrations("sqlite")]


@pytest.mark.postgres
def test_a_paused_writer_does_not_keep_others_out(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row locks of a worker that stopped inside a transaction end by themselves, and its write did not happen."""
    monkeypatch.setattr(module, "_STALLED_S", 0.5)
    stalled, other = open_store(database), open_store(database)
    other.write(put("one", "before"))
    inside = threading.Event()

    def stall(tx: Tx) -> None:
        tx.run("UPDATE hub SET value = 'stalled'")
        inside.set()
        time.sleep(2.0)
        tx.run("UPDATE hub SET value = 'more'")

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(stalled.write, stall)
        assert inside.wait(5)
        begun = time.monotonic()
        other.write(lambda tx: tx.run("UPDATE hub SET value = 'other'"))
        assert time.monotonic() - begun < 1.5
        assert isinstance(done.exception(10), StoreUnavailable)
    assert other.read(lambda tx: tx.all("SELECT value FROM hub")) == [("other",)]
    for each in (stalled, other):
        each.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "keyturn.db")


def test_a_full_disk(sqlite: SqliteStore) -> None:
    """StoreUnavailable with a hint for everybody in the commit, nothing half-written, and reading goes on."""
    sqlite.write(put("before"))
    pages = sqlite.read(lambda tx: tx.one("PRAGMA page_count"))
    assert pages
    sqlite.write(lambda tx: tx.one(f"PRAGMA max_page_count = {pages[0] + 2}"))

    def large(tx: Tx) -> None:
        put("half")(tx)
        put("large", "x" * 100_000)(tx)

    with pytest.raises(StoreUnavailable) as refused:
        sqlite.write(large)
    assert refused.value.hint
    assert names(sqlite) == {"before"}
    sqlite.write(lambda tx: tx.one("PRAGMA max_page_count = 100000"))
    sqlite.write(put("after"))
    assert names(sqlite) == {"before", "after"}
    sqlite.close()


def test_a_locked_database(sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's lock ends in StoreUnavailable with a hint, after some patience; then writing goes on."""
    sqlite.write(lambda tx: tx.one("PRAGMA busy_timeout = 200"))
    other = sqlite3.connect(sqlite._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as refused:
        sqlite.write(put("one"))
    assert "locked" in refused.value.message
    assert refused.value.hint
    assert names(sqlite) == set()
    other.execute("ROLLBACK")
    other.close()
    sqlite.write(put("one"))
    assert names(sqlite) == {"one"}
    sqlite.close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A path that is a file's child says so with a hint."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable) as refused:
        SqliteStore(tmp_path / "file" / "keyturn.db")
    assert refused.value.hint


def test_only_the_owner_reads_the_file(sqlite: SqliteStore) -> None:
    """The database and its companions are readable by nobody else."""
    sqlite.write(put("one"))
    found = {path.name: path.stat().st_mode & 0o077 for path in sqlite._path.parent.glob("keyturn.db*")}
    assert len(found) > 1
    assert not any(found.values()), found
    sqlite.close()


def test_a_write_inside_a_write_is_refused(sqlite: SqliteStore) -> None:
    """It would wait for itself for ever."""
    with pytest.raises(RuntimeError):
        sqlite.write(lambda _: sqlite.write(put("one")))
    sqlite.close()


def test_writes_that_queue_up_share_a_commit(sqlite: SqliteStore) -> None:
    """Group commit: many waiting writes, few commits."""
    commits: list[str] = []
    go, thread = held(sqlite)
    boundary.listen(lambda place: commits.append(place) if place == "commit:after" else None)
    try:
        with ThreadPoolExecutor(32) as pool:
            done = [pool.submit(sqlite.write, put(f"n{n}")) for n in range(32)]
            time.sleep(0.3)
            go.set()
            assert [each.result(10) for each in done] == [1] * 32
    finally:
        boundary.listen(None)
    thread.join()
    assert len(commits) <= 3
    sqlite.close()
