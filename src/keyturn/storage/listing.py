"""Many connections at once: one light row each, and what tells that something changed."""

from __future__ import annotations

from keyturn.storage.database import Row, Tx


def light(tx: Tx) -> list[Row]:
    """Every connection by name with its current version: (id, name, system, method, owner, project, state, policy,
    created_at, version number, born_at, changed_at, expires_at)."""
    return tx.all(
        "SELECT c.id, c.name, c.system, c.method, c.owner, c.project, c.state, c.policy, c.created_at,"
        " v.number, v.born_at, v.changed_at, v.expires_at"
        " FROM connection c LEFT JOIN version v ON v.id = c.current_version_id ORDER BY c.name"
    )


def unfinished(tx: Tx) -> list[Row]:
    """(connection id, run id, goal, state, waiting_for, due_at) of the runs that have not ended."""
    waiting = tx.all(  # before the others: what is under way matters more
        "SELECT r.connection_id, r.id, r.goal, r.state, r.waiting_for, r.due_at FROM approval a"
        " JOIN run r ON r.id = a.run_id WHERE a.decided_at IS NULL AND a.state = 'waiting' ORDER BY r.created_at"
    )
    under_way = tx.all(
        "SELECT connection_id, id, goal, state, waiting_for, due_at FROM run WHERE due_at IS NOT NULL"
        " ORDER BY created_at"
    )
    return [*waiting, *under_way]


def owed(tx: Tx) -> list[Row]:
    """(connection id, open debts)."""
    return tx.all("SELECT connection_id, COUNT(*) FROM debt WHERE closed_at IS NULL GROUP BY connection_id")


def asked(tx: Tx) -> list[Row]:
    """(connection id, tasks somebody should do)."""
    return tx.all(
        "SELECT connection_id, COUNT(*) FROM task WHERE state IN ('open', 'claimed', 'returned')"
        " GROUP BY connection_id"
    )


def pulse(tx: Tx) -> str:
    """A text that is another one as soon as a connection, run, task or debt changed."""
    parts = (
        tx.one("SELECT COUNT(*), SUM(journal_count), SUM(generation) FROM connection"),
        tx.one("SELECT COUNT(*), MAX(due_at), SUM(cursor) FROM run WHERE due_at IS NOT NULL"),
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
