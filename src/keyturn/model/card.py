"""The capability card: what one row's credentials can do at the vendor. Declared data; the planner derives from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    """The shapes a rotation can have (docs/strategies.md)."""

    NOTHING = "S0"  # there is no credential: nothing is ever rotated
    TWO_SLOTS = "S1"  # two slots, we generate
    MANY_IDS = "S2"  # many ids, the vendor generates
    NAMED_SLOTS = "S3"  # two named slots, the vendor generates
    SET_ONE = "S4"  # one slot, we generate
    REGENERATE = "S5"  # one slot, the vendor generates and the new kills the old
    SUPPLIED = "S6"  # a person supplies the new one, beside the old
    CONSENT = "S7"  # a person consents in a browser
    ISSUED = "S8"  # we are the vendor


class Hands(StrEnum):
    """Who makes the change at the vendor."""

    AUTOMATIC = "automatic"
    GUIDED = "guided"


class GapClass(StrEnum):
    """What a consumer that resolves at use time notices."""

    Z0 = "Z0"  # nothing: true overlap
    Z1 = "Z1"  # at most one refused login that is retried at once
    Z2 = "Z2"  # a visible gap: consumers are paused
    Z3 = "Z3"  # a gap that cannot be avoided or bounded


class Proof(StrEnum):
    """How well the death of an old credential is known."""

    D0 = "D0"  # the vendor accepted the delete
    D1 = "D1"  # inventory no longer shows it, or its slot holds another value
    D2 = "D2"  # refused three times while the new is accepted and a bogus one is refused alike
    D3 = "D3"  # D1 and D2, and everything derived from it has run out
    DA = "DA"  # a named person attests it

    def reaches(self, wanted: Proof) -> bool:
        """Whether this grade satisfies a policy that asks for `wanted`."""
        order = (Proof.D0, Proof.DA, Proof.D1, Proof.D2, Proof.D3)
        return order.index(self) >= order.index(wanted)


class RevokeScope(StrEnum):
    """What dies when one credential is revoked."""

    CREDENTIAL = "credential"
    GRANT = "grant"
    PRINCIPAL = "principal"


@dataclass(frozen=True)
class Lockout:
    """The vendor locks the account after `max_failures` refused logins within `window_s` seconds."""

    max_failures: int
    window_s: float


@dataclass(frozen=True)
class Card:
    """The answers every row must give. Durations in seconds; `slots` None means many, up to `cap` (0: no cap)."""

    strategy: Strategy
    hands: Hands
    gap_class: GapClass
    proof: Proof
    slots: int | None = 1
    slot_names: tuple[str, ...] = ()
    cap: int = 0
    set_is_absolute: bool = False  # sending the same value again gives the same state
    label_field: str = ""  # where our marker can be written on the remote credential
    inventory: bool = False  # ids or fingerprints can be listed
    last_used: bool = False  # the vendor reports when a credential was last used
    secret_reviewable: bool = False
    disable_first: bool = False  # there is a reversible off switch
    revoke_scope: RevokeScope = RevokeScope.CREDENTIAL
    new_kills_old: bool = False
    own_client: bool = False  # each grant comes with a client of its own, registered before the consent
    settle_create_s: float = 0.0  # how long a new credential may still be refused
    settle_revoke_s: float = 0.0  # how long a dead one may still be accepted
    prove_times: int = 1  # accepted answers in a row before a new credential counts as proven
    derived_ttl_s: float = 0.0  # how long tokens or sessions made from it outlive it
    lockout: Lockout | None = None
    old_counts: bool = False  # a login with the old value counts against the live account
    admin_path: bool = False  # a separate administrator credential can set it
    reconcile_path: bool = False
    call_deadline_s: float = 15.0  # no answer after this: the outcome is unknown
    apply_lag_s: float = 0.0  # how much later an unanswered call may still take effect
    dies_on: str = ""  # ISO date on which the vendor withdraws the method
