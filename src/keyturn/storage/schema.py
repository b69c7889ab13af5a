"""The migrations, in order, and the words in which the two dialects differ."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from importlib.resources import files
from typing import Any, Protocol

_WORDS = {
    "sqlite": {"{blob}": "BLOB", "{real}": "REAL", "{int}": "INTEGER"},
    "postgresql": {"{blob}": "BYTEA", "{real}": "DOUBLE PRECISION", "{int}": "BIGINT"},
}


class _Executes(Protocol):
    def all(self, sql: str, *params: Any) -> Any: ...
    def one(self, sql: str, *params: Any) -> Any: ...
    def run(self, sql: str, *params: Any) -> int: ...


_END = re.compile(r";\n(?=\S|\Z)")  # of a statement: what is indented belongs to the one before


def migrations(dialect: str) -> list[tuple[int, str]]:
    """(number, SQL) of every migration shipped for a dialect, ascending. `0001_name.sql` is for both,
    `0002_name.sqlite.sql` for one of them: triggers are not written alike."""
    folder = files("keyturn.storage") / "migrations"
    found = []
    for entry in folder.iterdir():
        _, *only, kind = entry.name.split(".")
        if kind == "sql" and only in ([], [dialect]):
            found.append((int(entry.name[:4]), entry.read_text()))
    return sorted(found)


def migrate(tx: _Executes, dialect: str, transaction: AbstractContextManager[Any]) -> None:
    """Brings the database to the newest schema, all or nothing. Two processes at once: the second waits."""
    with transaction:
        if dialect == "postgresql":
            tx.one("SELECT pg_advisory_xact_lock(7236177)")  # an arbitrary number that is ours
        tx.run("CREATE TABLE IF NOT EXISTS schema_version (number INTEGER NOT NULL)")
        done = {row[0] for row in tx.all("SELECT number FROM schema_version")}
        for number, text in migrations(dialect):
            if number not in done:
                for old, new in _WORDS[dialect].items():
                    text = text.replace(old, new)
                for statement in _END.split(text):
                    if statement.strip():
                        tx.run(statement)
                tx.run("INSERT INTO schema_version (number) VALUES (?)", number)
