"""The drain gate: why an old version may not be ended yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access
from keyturn.model.card import Card
from keyturn.model.credential import Connection, State, Version
from keyturn.model.policy import Policy
from keyturn.storage import consumers
from keyturn.storage.database import Store

DEPLOY_TIME_S = 86400.0
LOOK_AGAIN_S = 5.0


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

    @property
    def hub(self) -> _Hub: ...

    def access(self) -> Access: ...


class _Hub(Protocol):
    @property
    def store(self) -> Store: ...

    @property
    def patience(self) -> float: ...

    def clock(self) -> float: ...


def why_closed(look: Looker, version: Version) -> Closed | None:
    """None when the gate is open: time is up, no lease holds it, every required consumer moved on, and the vendor
    (where it reports use) last saw it before the cut-over."""
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
    if version.state is State.DRAINING:
        least = since + max([look.policy.drain_min_s, *(_least_s(c) for c in declared)])
        if now < least:
            return Closed("consumers get time to pick up the new one", least)
        behind = [
            c.name
            for c in declared
            if c.required and c.seen_generation < int(generation[0] if generation else 0)
        ]
        if behind:
            return Closed(f"not seen on the new one yet: {', '.join(behind)}", again)
    if look.card.last_used and look.can.lister is not None and version.state is State.DRAINING:
        for remote in look.can.lister.list(look.access()):
            used = remote.last_used_at
            if (
                remote.ref.same_place(version.ref)
                and used is not None
                and used > since + look.card.settle_create_s
            ):
                return Closed("the vendor saw it used after the switch", again)
    return None


def _least_s(consumer: consumers.Consumer) -> float:
    if consumer.kind == "cached":
        return 2 * consumer.ttl_s
    return DEPLOY_TIME_S if consumer.kind == "deploy-time" and not consumer.seen_generation else 0.0
