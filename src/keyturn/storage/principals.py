"""Rows of `principal`: the lease and epoch that keep two workers apart, and the lock-out counter."""

from __future__ import annotations

from keyturn.errors import LeaseLost
from keyturn.model.ids import PrincipalId, RunId, new_id
from keyturn.storage.database import Tx


def ensure(tx: Tx, identity: str) -> PrincipalId:
    """The id of the principal with this identity text; made when new."""
    tx.run(
        "INSERT INTO principal (id, identity, holder, epoch, lease_until) VALUES (?,?,'',0,0)"
        " ON CONFLICT (identity) DO NOTHING",
        new_id("prn"),
        identity,
    )
    row = tx.one("SELECT id FROM principal WHERE identity = ?", identity)
    if row is None:
        raise LookupError("a principal that was just made is not there")
    return PrincipalId(row[0])


def alone(tx: Tx, identity: str) -> None:
    """Until the commit nobody else gets past this for the same identity text, in any process."""
    tx.hold("SELECT id FROM principal WHERE id = ?", ensure(tx, identity))


def by_identity(tx: Tx, identity: str) -> PrincipalId | None:
    """The principal with this identity text, if any connection ever had it."""
    row = tx.one("SELECT id FROM principal WHERE identity = ?", identity)
    return PrincipalId(row[0]) if row else None


def take(
    tx: Tx, principal_id: PrincipalId, holder: str, run_id: RunId, now: float, until: float
) -> int | None:
    """Takes the lease for a run: the new epoch, or None while another worker or another run has it.

    A run keeps the principal (`active_run_id`) until it ends, also while it waits without a lease. The same holder may
    take it again at once, to go on after its store failed: a holder's name stands for one line of work.
    """
    taken = tx.one(
        "UPDATE principal SET holder = ?, epoch = epoch + 1, lease_until = ?, active_run_id = ?"
        " WHERE id = ? AND (lease_until < ? OR holder = ?) AND (active_run_id IS NULL OR active_run_id = ?)"
        " RETURNING epoch",
        holder,
        until,
        run_id,
        principal_id,
        now,
        holder,
        run_id,
    )
    return int(taken[0]) if taken else None


def borrow(tx: Tx, principal_id: PrincipalId, holder: str, now: float, until: float) -> int | None:
    """Takes the lease without a run, for a chore: the new epoch, or None while a worker or an unfinished run has it."""
    taken = tx.one(
        "UPDATE principal SET holder = ?, epoch = epoch + 1, lease_until = ?"
        " WHERE id = ? AND lease_until < ? AND active_run_id IS NULL RETURNING epoch",
        holder,
        until,
        principal_id,
        now,
    )
    return int(taken[0]) if taken else None


def hold(tx: Tx, principal_id: PrincipalId, epoch: int, until: float) -> None:
    """Renews the lease inside a commit. Raises: LeaseLost when the epoch moved on: this worker must not write."""
    if not tx.run(
        "UPDATE principal SET lease_until = ? WHERE id = ? AND epoch = ?", until, principal_id, epoch
    ):
        raise LeaseLost(
            "another worker took this run over", hint="Nothing to do: the other worker continues it."
        )


def let_go(tx: Tx, principal_id: PrincipalId, epoch: int, *, ended: bool) -> None:
    """Gives the lease back; when the run ended, the principal too. Raises: LeaseLost as `hold` does."""
    if ended:
        sql = "UPDATE principal SET lease_until = 0, active_run_id = NULL WHERE id = ? AND epoch = ?"
    else:
        sql = "UPDATE principal SET lease_until = 0 WHERE id = ? AND epoch = ?"
    if not tx.run(sql, principal_id, epoch):
        raise LeaseLost(
            "another worker took this run over", hint="Nothing to do: the other worker continues it."
        )


def active_run(tx: Tx, principal_id: PrincipalId) -> str | None:
    """The run that owns the principal now."""
    row = tx.one("SELECT active_run_id FROM principal WHERE id = ?", principal_id)
    return str(row[0]) if row and row[0] else None


def note_refusal(tx: Tx, principal_id: PrincipalId, at: float) -> None:
    """Counts one of our own refused logins against the lock-out budget."""
    tx.run("INSERT INTO refused_login (principal_id, at) VALUES (?, ?)", principal_id, at)


def forget_refusal(tx: Tx, principal_id: PrincipalId, at: float) -> None:
    """Takes back a login that was counted beforehand and then was let in."""
    tx.run("DELETE FROM refused_login WHERE principal_id = ? AND at = ?", principal_id, at)


def refusals(tx: Tx, principal_id: PrincipalId, since: float) -> int:
    """Our refused logins since then."""
    row = tx.one("SELECT COUNT(*) FROM refused_login WHERE principal_id = ? AND at > ?", principal_id, since)
    return int(row[0]) if row else 0


def past_refusals(tx: Tx, before: float) -> int:
    """How many refused logins are older than that."""
    row = tx.one("SELECT COUNT(*) FROM refused_login WHERE at < ?", before)
    return int(row[0]) if row else 0


def prune_refusals(tx: Tx, before: float) -> int:
    """Deletes the refused logins older than that; how many."""
    return tx.run("DELETE FROM refused_login WHERE at < ?", before)
