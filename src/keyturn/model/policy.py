"""What a connection's owner asked for: proof, drain, soak, retention. Stored as a mapping, read with defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from keyturn.errors import InvalidInput
from keyturn.model.approval import read_goals
from keyturn.model.card import Card, Proof


@dataclass(frozen=True)
class Policy:
    """Durations in seconds. Empty `proof` means what the card gives."""

    proof: str = ""
    drain_min_s: float = 2.0  # whoever resolved the old one just before the switch gets to use it
    drain_max_s: float = 72 * 3600.0
    soak_s: float = 0.0
    retention_s: float = 7 * 86400.0  # how long the ciphertext of a dead version is kept
    task_days: float = 14.0
    drop_principal: bool = False  # a disconnect also deletes the remote user or client
    max_age_days: float = 90.0  # 0: it is never due by its age
    automatic: bool = (
        False  # rotate by itself when it is due; where a person's hand is needed, a task is opened
    )
    approve: tuple[str, ...] = ()  # goals that a second person approves, besides those that the hub asks for
    approval_days: float = 7.0  # how long a run waits to be approved
    unused_days: float = 180.0  # what this hub issued and nobody used for so long is ended; 0: never
    accept: str = (
        ""  # the words that accept a plan's risk (`Plan.risk`) once for all runs, those by themselves too
    )
    settle_create_s: float | None = None  # where this account is known to be faster or slower than the card
    settle_revoke_s: float | None = None
    apply_lag_s: float | None = None
    call_deadline_s: float | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Policy:
        """Checks names and types. Raises: InvalidInput naming the key."""
        if not data:
            return _DEFAULTS
        known = _KNOWN
        for key, value in data.items():
            if key not in known:
                raise InvalidInput(
                    f"there is no policy setting named {key}",
                    hint=f"Known: {', '.join(sorted(known))}.",
                    field=key,
                )
            if key == "proof":
                if value not in {p.value for p in Proof}:
                    raise InvalidInput("proof must be one of D0, D1, D2, D3, DA", field=key)
            elif key == "approve":
                if not isinstance(value, list | tuple):
                    raise InvalidInput("approve must be a list of goals", field=key)
                read_goals(value, key)
            elif key == "accept":
                if not isinstance(value, str):
                    raise InvalidInput("accept must be the words in which the risk is accepted", field=key)
            elif key in _YES_OR_NO and not isinstance(value, bool):
                raise InvalidInput(f"{key} must be true or false", field=key)
            elif key not in _YES_OR_NO and (not isinstance(value, int | float) or value < 0):
                raise InvalidInput(f"{key} must be a number of at least 0", field=key)
        return cls(**{**data, "approve": tuple(data.get("approve", ()))})

    def grade(self, card: Card) -> Proof:
        """The grade of death proof a run must reach."""
        return Proof(self.proof) if self.proof else card.proof

    def deadline(self, card: Card) -> float:
        """How long one call may take."""
        return card.call_deadline_s if self.call_deadline_s is None else self.call_deadline_s

    def lag(self, card: Card) -> float:
        """How much later an unanswered call may still take effect."""
        return card.apply_lag_s if self.apply_lag_s is None else self.apply_lag_s

    def settle_create(self, card: Card) -> float:
        """How long a new credential may still be refused."""
        return card.settle_create_s if self.settle_create_s is None else self.settle_create_s

    def settle_revoke(self, card: Card) -> float:
        """How long a dead credential may still be accepted."""
        return card.settle_revoke_s if self.settle_revoke_s is None else self.settle_revoke_s


_YES_OR_NO = frozenset({"drop_principal", "automatic"})
_DEFAULTS = Policy()
_KNOWN = frozenset(f.name for f in fields(Policy))
