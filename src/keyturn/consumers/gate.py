"""The drain gate: why an old version may not be ended yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Remote
from keyturn.model.card import Card, Strategy
from keyturn.model.credential import Connection, State, Version
from keyturn.model.plan import Kind
from keyturn.model.policy import Policy
from keyturn.model.run import Run
from keyturn.storage import consumers
from keyturn.storage.database import Store

DEPLOY_TIME_S = 86400.0
LOOK_AGAIN_S = 5.0
QUIET_S = 3600.0  # how long one that was used after its time must have been silent
_STRAGGLE_S = (
    2.0  # who resolved it just before the switch may log in just after; and vendors tell whole seconds
)


@dataclass(frozen=True)
class Closed:
    """Who still needs it, in words, and when to look again (epoch seconds)."""

    why: str
    until: float


class Looker(Protocol):
    """What the gate needs of a run's context."""

    card: Card
    can: Capabilities
    policy: Policy
    connection: Connection
    run: Run

    @property
    def hub(self) -> _Hub: ...

    def access(self) -> Access: ...


class _Hub(Protocol):
    @property
    def store(self) -> Store: ...

    @property
    def patience(self) -> float: ...

    def clock(self) -> float: ...


def why_closed(look: Looker, version: Version, *, back: bool = False) -> Closed | None:
    """None when the gate is open: time is up, no lease holds it, every required consumer moved on, and the vendor
    (where it reports use) last saw it before the cut-over. `back`: it served only until a rollback, so only those
    who were seen on it have to move."""
    now = look.hub.clock()
    again = now + LOOK_AGAIN_S * look.hub.patience
    since = version.changed_at
    declared, held, generation = look.hub.store.read(
        lambda tx: (
            consumers.declared(tx, look.connection.id),
            consumers.holders(tx, version.id, now),
            tx.one("SELECT generation FROM connection WHERE id = ?", look.connection.id),
        )
    )
    if held:
        names = ", ".join(sorted({lease.consumer for lease in held}))
        return Closed(f"leased by {names}", min(again, held[0].until_at))
    if look.card.strategy is Strategy.ISSUED and look.can.lister is not None:
        live = look.can.lister.list(look.access()) if version.state is State.DRAINING else ()
        return _issued_closed(look, version, live, declared)
    if version.state is State.DRAINING:
        now_is = int(generation[0] if generation else 0)
        least = since + max([overlap_s(look.run, look.policy), *(_least_s(c, now_is) for c in declared)])
        if now < least:
            return Closed("consumers get time to pick up the new one", least)
        behind = [
            c.name
            for c in declared
            if c.required and (c.seen_generation == now_is - 1 if back else c.seen_generation < now_is)
        ]
        if behind:
            return Closed(f"not seen on the new one yet: {', '.join(behind)}", again)
    if look.card.last_used and look.can.lister is not None and version.state is State.DRAINING:
        for remote in look.can.lister.list(look.access()):
            used = remote.last_used_at
            if used is None or not remote.ref.same_place(version.ref):
                continue
            overlap = overlap_s(look.run, look.policy)
            late = used > since + max(look.card.settle_create_s, overlap) + _STRAGGLE_S
            silent_at = used + QUIET_S * look.hub.patience
            if late and now < silent_at:
                return Closed("the vendor saw it used after the switch", min(again, silent_at))
    return None


def _issued_closed(
    look: Looker, version: Version, live: tuple[Remote, ...], declared: list[consumers.Consumer]
) -> Closed | None:
    """S8: after the overlap the old one waits for the first use of the new one, then for its own silence, at the latest
    for its deadline (twice the overlap). Users of an issued one never resolve here: the first use tells."""
    now, since = look.hub.clock(), version.changed_at
    again = now + LOOK_AGAIN_S * look.hub.patience
    old = next((remote for remote in live if remote.ref.same_place(version.ref)), None)
    if old is None:
        return None  # it is let in no longer: nobody can need it
    overlap = overlap_s(look.run, look.policy)
    least = since + max([overlap, *(_least_s(c, look.connection.generation) for c in declared)])
    if now < least:
        return Closed("consumers get time to pick up the new one", least)
    successors = [r for r in live if not r.ref.same_place(version.ref)]
    if not _asked(look.run, "force") and not any(r.last_used_at is not None for r in successors):
        return Closed("the new one was never used; the old one serves on", again)
    silent_at = (old.last_used_at or 0.0) + min(overlap, QUIET_S)
    if now < min(silent_at, since + 2 * overlap):
        return Closed("still used; it gets time to fall silent", min(again, silent_at))
    return None


def overlap_s(run: Run, policy: Policy) -> float:
    """How long both of a run's versions work at least: what it was started with; else the policy."""
    asked = _asked(run, "overlap_s")
    return policy.drain_min_s if asked is None else float(asked)


def _asked(run: Run, name: str) -> Any:
    """A parameter of the frozen plan's drain step."""
    return next((s.params.get(name) for s in run.plan.steps if s.kind is Kind.DRAIN), None)


def _least_s(consumer: consumers.Consumer, generation: int) -> float:
    if consumer.kind == "cached":
        return 2 * consumer.ttl_s
    return DEPLOY_TIME_S if consumer.kind == "deploy-time" and consumer.seen_generation < generation else 0.0
