"""Rows of `notice`, what changed in the order in which it was seen; of `noticed`, what was seen last; and of those who are
told: recipients and their deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.storage.database import Row, Tx
from keyturn.storage.rows import dump, load

_HEAD = "hub"


@dataclass(frozen=True)
class Notice:
    """Something changed. `subject` is a run's, task's, debt's or connection's id."""

    number: int
    at: float
    topic: str
    connection_id: str
    subject: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Recipient:
    """Somebody who is told: `webhook` or `mail`. An empty project is the whole hub."""

    id: str
    kind: str
    name: str
    address: str
    topics: str
    project: str
    created_at: float
    created_by: str
    paused_at: float | None


@dataclass(frozen=True)
class Delivery:
    """Telling one recipient one notice. `due_at` None: over."""

    id: str
    recipient_id: str
    notice_number: int
    state: str
    tries: int
    due_at: float | None
    said: str
    created_at: float
    ended_at: float | None


# -- what changed ------------------------------------------------------------------------------------------------------


def head(tx: Tx) -> tuple[int, float]:
    """The number of the latest notice, and when was last looked."""
    row = tx.one("SELECT number, looked_at FROM notice_head WHERE id = ?", _HEAD)
    return (int(row[0]), float(row[1])) if row else (0, 0.0)


def lock(tx: Tx) -> tuple[int, float]:
    """The same, and nobody else adds notices before the commit: numbers are seen in their order."""
    row = tx.lock("SELECT number, looked_at FROM notice_head WHERE id = ?", _HEAD)
    return (int(row[0]), float(row[1])) if row else (0, 0.0)


def looked(tx: Tx, number: int, at: float) -> None:
    """Sets the head."""
    tx.run("UPDATE notice_head SET number = ?, looked_at = ? WHERE id = ?", number, at, _HEAD)


def add(tx: Tx, notices: Iterable[Notice]) -> None:
    """Inserts notices, numbered by whoever holds the head."""
    tx.many(
        "INSERT INTO notice (number, at, topic, connection_id, subject, facts) VALUES (?,?,?,?,?,?)",
        [(n.number, n.at, n.topic, n.connection_id, n.subject, dump(dict(n.facts))) for n in notices],
    )


def _notice(row: Row) -> Notice:
    return Notice(int(row[0]), row[1], row[2], row[3], row[4], load(row[5]))


def after(tx: Tx, number: int, limit: int) -> list[Notice]:
    """The notices behind a number, in order."""
    rows = tx.all(
        "SELECT number, at, topic, connection_id, subject, facts FROM notice WHERE number > ?"
        " ORDER BY number LIMIT ?",
        number,
        limit,
    )
    return [_notice(row) for row in rows]


def by_number(tx: Tx, number: int) -> Notice | None:
    """One notice."""
    row = tx.one(
        "SELECT number, at, topic, connection_id, subject, facts FROM notice WHERE number = ?", number
    )
    return _notice(row) if row else None


def oldest(tx: Tx) -> int:
    """The number of the oldest notice that is kept; 0 for none."""
    row = tx.one("SELECT MIN(number) FROM notice")
    return int(row[0]) if row and row[0] is not None else 0


def prune(tx: Tx, before: float) -> int:
    """Deletes old notices whose deliveries are over, with those deliveries; how many."""
    tx.run(
        "DELETE FROM delivery WHERE due_at IS NULL AND notice_number IN (SELECT number FROM notice WHERE at < ?)",
        before,
    )
    return tx.run(
        "DELETE FROM notice WHERE at < ? AND number NOT IN (SELECT notice_number FROM delivery)", before
    )


def marks(tx: Tx, subjects: Sequence[str]) -> dict[str, str]:
    """What was seen last of each subject."""
    found: dict[str, str] = {}
    for start in range(0, len(subjects), 500):
        some = subjects[start : start + 500]
        marks = ",".join("?" * len(some))
        found |= {
            row[0]: row[1]
            for row in tx.all(f"SELECT subject, mark FROM noticed WHERE subject IN ({marks})", *some)
        }
    return found


def still_open(tx: Tx, prefix: str) -> list[str]:
    """The subjects that were open when they were last seen, by the beginning of their ids."""
    rows = tx.all(
        "SELECT subject FROM noticed WHERE is_open = 1 AND subject >= ? AND subject < ?", prefix, prefix + "~"
    )
    return [row[0] for row in rows]


def mark(tx: Tx, seen: Sequence[tuple[str, str, bool]], at: float) -> None:
    """Keeps what was seen: (subject, mark, whether it may still change)."""
    for subject, text, is_open in seen:
        tx.run(
            "INSERT INTO noticed (subject, mark, is_open, at) VALUES (?,?,?,?) ON CONFLICT (subject) DO UPDATE SET"
            " mark = excluded.mark, is_open = excluded.is_open, at = excluded.at",
            subject,
            text,
            int(is_open),
            at,
        )


def forget(tx: Tx, before: float) -> int:
    """Deletes what was seen of subjects that ended long ago; how many."""
    return tx.run("DELETE FROM noticed WHERE is_open = 0 AND at < ?", before)


# -- what there is to see ----------------------------------------------------------------------------------------------


def moving_runs(tx: Tx, since: float) -> list[Row]:
    """(id, connection_id, goal, state, track, cursor, waiting_for, proof, outcome, ended_at, created_at) of runs that have
    not ended, and of those that ended or began since."""
    return tx.all(
        "SELECT id, connection_id, goal, state, track, cursor, waiting_for, proof, outcome, ended_at, created_at"
        " FROM run WHERE ended_at IS NULL OR ended_at >= ? OR created_at >= ? ORDER BY created_at, id",
        since,
        since,
    )


def runs_of(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """The same of named runs."""
    return _named(
        tx,
        "SELECT id, connection_id, goal, state, track, cursor, waiting_for, proof, outcome, ended_at, created_at"
        " FROM run WHERE id IN",
        ids,
    )


def tasks_of(tx: Tx, since: float, ids: Sequence[str]) -> list[Row]:
    """(id, connection_id, run_id, kind, state, title, claimed_by, due_at, created_at) of tasks somebody should do, of those
    that came since, and of those that are named."""
    columns = "id, connection_id, run_id, kind, state, title, claimed_by, due_at, created_at"
    rows = tx.all(
        f"SELECT {columns} FROM task WHERE state IN ('open', 'claimed', 'submitted', 'returned') OR created_at >= ?"
        " ORDER BY created_at, id",
        since,
    )
    known = {row[0] for row in rows}
    return rows + _named(tx, f"SELECT {columns} FROM task WHERE id IN", [i for i in ids if i not in known])


def debts_of(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(id, connection_id, run_id, kind, why, owner, tries, closed_at, closed_by, created_at) of open debts, and of those
    that are named."""
    columns = "id, connection_id, run_id, kind, why, owner, tries, closed_at, closed_by, created_at"
    rows = tx.all(f"SELECT {columns} FROM debt WHERE closed_at IS NULL ORDER BY created_at, id")
    known = {row[0] for row in rows}
    return rows + _named(tx, f"SELECT {columns} FROM debt WHERE id IN", [i for i in ids if i not in known])


def _named(tx: Tx, sql: str, ids: Sequence[str]) -> list[Row]:
    found: list[Row] = []
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        found += tx.all(f"{sql} ({','.join('?' * len(some))})", *some)
    return found


# -- who is told -------------------------------------------------------------------------------------------------------

_RECIPIENT = "id, kind, name, address, topics, project, created_at, created_by, paused_at"


def add_recipient(tx: Tx, recipient: Recipient) -> bool:
    """Inserts a recipient. False when the name is taken."""
    return 1 == tx.run(
        f"INSERT INTO recipient ({_RECIPIENT}) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (name) DO NOTHING",
        *recipient.__dict__.values(),
    )


def recipients(tx: Tx) -> list[Recipient]:
    """All of them by name."""
    return [Recipient(*row) for row in tx.all(f"SELECT {_RECIPIENT} FROM recipient ORDER BY name")]


def recipient(tx: Tx, recipient_id: str) -> Recipient | None:
    """One by its id."""
    row = tx.one(f"SELECT {_RECIPIENT} FROM recipient WHERE id = ?", recipient_id)
    return Recipient(*row) if row else None


def change_recipient(tx: Tx, recipient_id: str, **columns: Any) -> int:
    """Sets columns."""
    names = ", ".join(f"{name} = ?" for name in columns)
    return tx.run(f"UPDATE recipient SET {names} WHERE id = ?", *columns.values(), recipient_id)


def drop_recipient(tx: Tx, recipient_id: str) -> int:
    """Deletes one with its deliveries."""
    tx.run("DELETE FROM delivery WHERE recipient_id = ?", recipient_id)
    return tx.run("DELETE FROM recipient WHERE id = ?", recipient_id)


_DELIVERY = "id, recipient_id, notice_number, state, tries, due_at, said, created_at, ended_at"


def add_deliveries(tx: Tx, deliveries: Sequence[Delivery]) -> None:
    """Inserts deliveries."""
    tx.many(
        f"INSERT INTO delivery ({_DELIVERY}) VALUES (?,?,?,?,?,?,?,?,?)",
        [tuple(each.__dict__.values()) for each in deliveries],
    )


def due(tx: Tx, now: float, limit: int) -> list[Delivery]:
    """Deliveries whose time has come, longest due first, without those of recipients that are paused."""
    columns = ", ".join(f"d.{name}" for name in _DELIVERY.split(", "))
    rows = tx.all(
        f"SELECT {columns} FROM delivery d JOIN recipient r ON r.id = d.recipient_id"
        " WHERE d.due_at IS NOT NULL AND d.due_at <= ? AND r.paused_at IS NULL ORDER BY d.due_at, d.id LIMIT ?",
        now,
        limit,
    )
    return [Delivery(*row) for row in rows]


def claim(tx: Tx, delivery: Delivery, until: float) -> bool:
    """Takes a delivery for one attempt. False when another worker has it by now. After a crash it is due again at
    `until`."""
    return 1 == tx.run(
        "UPDATE delivery SET due_at = ?, tries = tries + 1 WHERE id = ? AND due_at = ? AND tries = ?",
        until,
        delivery.id,
        delivery.due_at,
        delivery.tries,
    )


def settle(
    tx: Tx, delivery: Delivery, state: str, said: str, due_at: float | None, ended_at: float | None
) -> None:
    """What came of the attempt; nothing when it was taken over meanwhile."""
    tx.run(
        "UPDATE delivery SET state = ?, said = ?, due_at = ?, ended_at = ? WHERE id = ? AND tries = ? AND ended_at IS NULL",
        state,
        said,
        due_at,
        ended_at,
        delivery.id,
        delivery.tries + 1,
    )


def deliveries(tx: Tx, recipient_id: str, before: int, limit: int) -> list[tuple[Delivery, str]]:
    """A recipient's deliveries with their topics, newest first; those of notices before a number when it is given."""
    columns = ", ".join(f"d.{name}" for name in _DELIVERY.split(", "))
    rows = tx.all(
        f"SELECT {columns}, n.topic FROM delivery d JOIN notice n ON n.number = d.notice_number"
        " WHERE d.recipient_id = ? AND d.notice_number < ? ORDER BY d.notice_number DESC LIMIT ?",
        recipient_id,
        before or 1 << 60,
        limit,
    )
    return [(Delivery(*row[:9]), row[9]) for row in rows]


def again(tx: Tx, delivery_id: str, recipient_id: str, at: float) -> int:
    """Makes a delivery that was given up due once more."""
    return tx.run(
        "UPDATE delivery SET state = 'waiting', due_at = ?, tries = 0, ended_at = NULL"
        " WHERE id = ? AND recipient_id = ? AND state = 'given_up'",
        at,
        delivery_id,
        recipient_id,
    )
