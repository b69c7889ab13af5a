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
# Found by the database: of all that may have changed only what is another than when it was seen last.

_DUE_SOON_S, _DAY_S = 7 * 86400.0, 86400.0


def changed_runs(tx: Tx, since: float, *, everything: bool) -> list[str]:
    """The ids of runs that are another now, as they came: of those that had not ended when they were seen, of those that
    began since then, and of all that are under way when `everything` is asked for."""
    mark = (
        "t.state || '/' || CASE WHEN t.ended_at IS NOT NULL OR t.state IN ('blocked', 'lost') THEN ''"
        " ELSE t.track || '/' || t.cursor || '/' || t.waiting_for END"
    )
    going = (
        "t.id IN (SELECT id FROM run WHERE due_at IS NOT NULL"
        " UNION ALL SELECT run_id FROM approval WHERE decided_at IS NULL)"
    )
    return _changed(tx, "run", "run_", mark, going if everything else "1 = 0", since)


def changed_tasks(tx: Tx, since: float, *, everything: bool) -> list[str]:
    """The same of tasks."""
    mark, going = (
        "t.state || '/' || t.claimed_by",
        "t.state IN ('open', 'claimed', 'submitted', 'returned')",
    )
    return _changed(tx, "task", "tsk_", mark, going if everything else "1 = 0", since)


def _changed(tx: Tx, table: str, prefix: str, mark: str, going: str, since: float) -> list[str]:
    rows = tx.all(
        f"SELECT t.id, t.created_at FROM noticed n JOIN {table} t ON t.id = n.subject WHERE n.is_open = 1"
        f" AND n.subject >= '{prefix}' AND n.subject < '{prefix}~' AND n.mark <> {mark}"
        f" UNION SELECT t.id, t.created_at FROM {table} t WHERE t.created_at >= ?"
        f" AND NOT EXISTS (SELECT 1 FROM noticed n WHERE n.subject = t.id AND n.mark = {mark})"
        f" UNION SELECT t.id, t.created_at FROM {table} t WHERE ({going})"
        " AND NOT EXISTS (SELECT 1 FROM noticed n WHERE n.subject = t.id) ORDER BY 2, 1",
        since,
    )
    return [str(row[0]) for row in rows]


def changed_debts(tx: Tx) -> list[str]:
    """The same of debts: open ones that were not seen as open, and closed ones that were."""
    rows = tx.all(
        "SELECT d.id, d.created_at FROM debt d WHERE d.closed_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM noticed n WHERE n.subject = d.id AND n.mark = 'open')"
        " UNION SELECT d.id, d.created_at FROM noticed n JOIN debt d ON d.id = n.subject WHERE n.is_open = 1"
        " AND n.subject >= 'dbt_' AND n.subject < 'dbt_~' AND d.closed_at IS NOT NULL ORDER BY 2, 1"
    )
    return [str(row[0]) for row in rows]


def changed_connections(tx: Tx, now: float) -> list[Row]:
    """(subject, mark, mark it had, connection's name, state, due, expires) of what is to be said about connections and is
    another now. A subject is a connection's id and `state`, `due` or `expires`; an empty mark: nothing more is to be said.
    Whichever credential a date is about is part of its mark: of the next one it is told again."""
    gone = "c.state IN ('disconnected', 'revoked')"
    version = "'/v' || COALESCE((SELECT v.number FROM version v WHERE v.id = c.current_version_id), 0)"
    columns = "c.name AS name, c.state AS state, c.due_at AS due, c.expires_at AS ends"
    return tx.all(
        "WITH said AS ("
        f" SELECT c.id || '/state' AS subject, 'broken' AS mark, {columns} FROM connection c"
        " WHERE c.state = 'needs_reauth'"
        " UNION ALL"
        f" SELECT c.id || '/due', CASE WHEN c.due_at <= ? THEN 'over' ELSE 'soon' END || {version}, {columns}"
        f" FROM connection c WHERE c.due_at <= ? AND NOT ({gone})"
        " UNION ALL"
        " SELECT c.id || '/expires', CASE WHEN c.expires_at <= ? THEN 'over' WHEN c.expires_at <= ? THEN 'day'"
        f" WHEN c.expires_at <= ? THEN 'week' ELSE 'month' END || {version}, {columns}"
        f" FROM connection c WHERE c.expires_at <= ? AND NOT ({gone}))"
        " SELECT s.subject, s.mark, COALESCE(n.mark, ''), s.name, s.state, s.due, s.ends FROM said s"
        " LEFT JOIN noticed n ON n.subject = s.subject WHERE COALESCE(n.mark, '') <> s.mark"
        " UNION ALL"
        " SELECT n.subject, '', n.mark, '', '', NULL, NULL FROM noticed n WHERE n.is_open = 1"
        " AND n.subject >= 'con_' AND n.subject < 'con_~' AND n.mark <> ''"
        " AND n.subject NOT IN (SELECT subject FROM said) ORDER BY 1",
        now,
        now + _DUE_SOON_S,
        now,
        now + _DAY_S,
        now + _DUE_SOON_S,
        now + 30 * _DAY_S,
    )


def runs_of(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(id, connection_id, goal, state, track, cursor, waiting_for, proof, outcome, ended_at, created_at) of named runs, as
    they came."""
    return _named(
        tx,
        "SELECT id, connection_id, goal, state, track, cursor, waiting_for, proof, outcome, ended_at, created_at"
        " FROM run WHERE id IN",
        ids,
    )


def tasks_of(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(id, connection_id, run_id, kind, state, title, claimed_by, due_at, created_at) of named tasks."""
    return _named(
        tx,
        "SELECT id, connection_id, run_id, kind, state, title, claimed_by, due_at, created_at FROM task WHERE id IN",
        ids,
    )


def debts_of(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """(id, connection_id, run_id, kind, why, owner, tries, closed_at, closed_by, created_at) of named debts."""
    return _named(
        tx,
        "SELECT id, connection_id, run_id, kind, why, owner, tries, closed_at, closed_by, created_at FROM debt"
        " WHERE id IN",
        ids,
    )


def _named(tx: Tx, sql: str, ids: Sequence[str]) -> list[Row]:
    found: list[Row] = []
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        found += tx.all(f"{sql} ({','.join('?' * len(some))})", *some)
    place = {each: number for number, each in enumerate(ids)}
    return sorted(found, key=lambda row: place[row[0]])


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
