"""Rows of `repeat`: calls that were made with an idempotency key. The answer itself is sealed, under the row's id."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.storage.database import Tx


@dataclass(frozen=True)
class Repeat:
    """One key of one caller. `status` None: the call is being made, by `claim`, until `claimed_until` at the latest."""

    id: str
    body: str
    status: int | None
    claim: str
    claimed_until: float
    ends_at: float


def take(tx: Tx, wanted: Repeat, now: float) -> Repeat | None:
    """Takes a key for a call. None when it is ours now; else what is there: an answer, or somebody who makes the call."""
    row = tx.lock(
        "SELECT id, body, status, claim, claimed_until, ends_at FROM repeat WHERE id = ?", wanted.id
    )
    if row is not None:
        found = Repeat(*row)
        stale = found.ends_at <= now if found.status is not None else found.claimed_until <= now
        if not stale:
            return found
        tx.run("DELETE FROM repeat WHERE id = ?", wanted.id)
    tx.run(
        "INSERT INTO repeat (id, body, status, claim, claimed_until, ends_at) VALUES (?,?,?,?,?,?)",
        wanted.id,
        wanted.body,
        wanted.status,
        wanted.claim,
        wanted.claimed_until,
        wanted.ends_at,
    )
    return None


def answered(tx: Tx, repeat_id: str, claim: str, status: int) -> bool:
    """The call was made. False when the claim ran out and somebody else has it."""
    return 1 == tx.run(
        "UPDATE repeat SET status = ? WHERE id = ? AND claim = ? AND status IS NULL", status, repeat_id, claim
    )


def drop(tx: Tx, repeat_id: str, claim: str) -> None:
    """The call made nothing: the key is free again."""
    tx.run("DELETE FROM repeat WHERE id = ? AND claim = ? AND status IS NULL", repeat_id, claim)


def prune(tx: Tx, now: float) -> int:
    """Deletes the keys that are over; how many."""
    return tx.run("DELETE FROM repeat WHERE ends_at < ?", now)
