"""Many issued credentials ended with one word: all of a kind, all that were issued before some moment, or both."""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, KeyturnError
from keyturn.issued import kinds
from keyturn.operations import issued, register
from keyturn.operations.issued import Issued
from keyturn.storage.database import Tx
from keyturn.storage.issued import ALIVE, IssuedSecret


@dataclass(frozen=True)
class Chosen:
    """A credential with those of its secrets that were chosen. `hit`: whom ending them cuts off, in words."""

    credential: Issued
    secrets: tuple[IssuedSecret, ...]
    hit: tuple[str, ...]

    @property
    def slot(self) -> str | None:
        """The one slot that is chosen of several; None for all that is alive."""
        alive = [s for s in self.credential.secrets if s.state in ALIVE]
        return None if len(self.secrets) == len(alive) else self.secrets[0].slot


@dataclass(frozen=True)
class Ended:
    """A credential that is refused now. `run_id` proves it, where there is one; `error` says what a person must do."""

    name: str
    slots: tuple[str, ...]
    run_id: str = ""
    error: str = ""


def choose(
    hub: Keyturn, kind: str = "", before: float | None = None, projects: frozenset[str] | None = None
) -> list[Chosen]:
    """What would be ended, by name; only of some projects when given. A key to a bucket is chosen with all of its keys.

    Raises: InvalidInput when neither a kind nor a moment is named, NotFound for a kind this hub does not issue.
    """
    if not kind and before is None:
        raise InvalidInput("name a kind, a moment, or both", field="kind")
    wanted = kinds.named(kind).name if kind else ""
    found = []
    for each in issued.page(hub, projects, limit=None):
        alive = [s for s in each.secrets if s.state in ALIVE]
        old = tuple(s for s in alive if before is None or s.created_at < before)
        if not old or wanted not in {"", each.kind}:
            continue
        if not kinds.named(each.kind).is_ours_to_check and len(old) < len(alive):
            continue  # the newest one was issued since
        slot = old[0].slot if len(old) < len(alive) else None
        found.append(Chosen(each, old, tuple(register.affected(hub, each.connection.id, slot))))
    return found


def end(
    hub: Keyturn,
    kind: str = "",
    before: float | None = None,
    *,
    projects: frozenset[str] | None = None,
    reason: str = "",
    who: str = "",
) -> list[Ended]:
    """Ends what `choose` names: refused on every worker, with all tokens, from one commit on; then a run for each proves
    it. Called again after a crash it ends what is left. Raises: as `choose`.
    """
    who, now = who or hub.settings.actor, time.time()
    chosen = choose(hub, kind, before, projects)
    ledger = issued.book(hub)

    def brake(tx: Tx) -> None:
        for each in chosen:
            if kinds.named(
                each.credential.kind
            ).is_ours_to_check:  # else the store alone can end it: its run does
                about = each.credential.connection.id
                issued.end_now(tx, ledger, about, each.secrets, now, by=who, reason=reason, among=len(chosen))

    if chosen:
        hub.store.write(brake)
    return [_prove(hub, each, reason, who) for each in chosen]


def _prove(hub: Keyturn, each: Chosen, reason: str, who: str) -> Ended:
    """What follows the end is as after a revocation that was cut off here."""
    name, slots = each.credential.connection.name, tuple(s.slot for s in each.secrets if s.slot)
    try:
        run = issued.revoke(hub, each.credential.connection.id, each.slot, reason=reason, who=who)
    except Conflict:  # the other slot serves, and a run that is under way sees to the rest
        return Ended(name, slots)
    except KeyturnError as error:
        return Ended(name, slots, error=error.message)
    return Ended(name, slots, run.id if run is not None else "")
