"""Versions: one value of a connection's credential each, immutable but for their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from keyturn.model.ids import ConnectionId, PrincipalId, VersionId


@dataclass(frozen=True)
class Ref:
    """Where a credential sits at the vendor: its id, and the slot and public fingerprint where there are such things.

    An empty `id` means that the vendor gives no handle (a pasted API key).
    """

    id: str = ""
    slot: str = ""
    fingerprint: str = ""
    label: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The shape stored in rows and journal lines; empty fields are left out."""
        pairs = {"id": self.id, "slot": self.slot, "fingerprint": self.fingerprint, "label": self.label}
        found: dict[str, Any] = {k: v for k, v in pairs.items() if v}
        if self.more:
            found["more"] = dict(self.more)
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ref:
        """The inverse of `as_json`."""
        return cls(**dict(data))

    @property
    def ends_at(self) -> float | None:
        """When the vendor lets it end, in epoch seconds, where a connector told so in `more`."""
        try:
            return float(self.more["ends_at"])
        except (KeyError, ValueError):
            return None

    def same_place(self, other: Ref) -> bool:
        """Whether both name the same remote credential: by id first, else by slot and fingerprint."""
        if self.id or other.id:
            return self.id == other.id and self.slot == other.slot
        return bool(self.slot or self.fingerprint) and (self.slot, self.fingerprint) == (
            other.slot,
            other.fingerprint,
        )


class State(StrEnum):
    """A version's life. Order matters: `SEALED` to `PROVEN` are candidates, `DRAINING` to `REVOKED` are on the way out."""

    SEALED = "sealed"  # a candidate in the vault; the vendor has not heard of it
    REQUESTED = "requested"  # the call that makes it real is journaled and may have been sent
    ISSUED = "issued"  # the vendor has it
    PROVEN = "proven"
    CURRENT = "current"
    DRAINING = "draining"
    DISABLED = "disabled"  # reversibly off at the vendor
    REVOKING = "revoking"
    REVOKED = "revoked"  # death asked for, not yet proven
    DEAD = "dead"
    REFUSED = "refused"  # the vendor definitely said no; ciphertext is kept until another is proven
    SUSPECT = "suspect"  # compromised: never served
    ORPHAN = "orphan"  # alive at the vendor, value unknown to us


CANDIDATE = frozenset({State.SEALED, State.REQUESTED, State.ISSUED, State.PROVEN})
LIVE = frozenset(
    {
        State.REQUESTED,
        State.ISSUED,
        State.PROVEN,
        State.CURRENT,
        State.DRAINING,
        State.DISABLED,
        State.REVOKING,
        State.REVOKED,
        State.SUSPECT,
        State.ORPHAN,
    }
)


class Provenance(StrEnum):
    """Where the value came from."""

    OURS = "ours"
    VENDOR = "vendor"
    HUMAN = "human"
    GRANT = "grant"


@dataclass(frozen=True)
class Version:
    """One credential value. The value itself is in the vault under `version:<id>`; `fingerprint` is keyed (HMAC).

    `method` is set from a migration on, when a connection has values of two methods; empty means the connection's own.
    `refresh_at` is when a grant's short-lived token should be replaced, None where nothing is refreshed.
    """

    id: VersionId
    connection_id: ConnectionId
    principal_id: PrincipalId
    number: int
    state: State
    ref: Ref
    fingerprint: str
    provenance: Provenance
    born_at: float | None
    expires_at: float | None
    changed_at: float
    method: str = ""
    refresh_at: float | None = None

    def moved(self, state: State, at: float) -> Version:
        """The same version in another state: the one thing about it that changes."""
        copy = object.__new__(Version)
        copy.__dict__.update(self.__dict__, state=state, changed_at=at)  # a run does it five times
        return copy


@dataclass(frozen=True)
class Connection:
    """One integration: our named link to one account of a system, by one method."""

    id: ConnectionId
    name: str
    system: str
    method: str
    settings: Mapping[str, Any]
    principal_id: PrincipalId
    owner: str
    policy: Mapping[str, Any]
    identity: Mapping[str, str]
    state: ConnectionState
    generation: int
    current_version_id: VersionId | None
    definition_hash: str
    created_at: float


class ConnectionState(StrEnum):
    """What a person sees of a connection."""

    ACTIVE = "active"
    PAUSED = "paused"  # consumers wait: a person is replacing the one credential there can be
    NEEDS_REAUTH = "needs_reauth"
    DISCONNECTED = "disconnected"
    REVOKED = "revoked"  # the grant was revoked; the row waits to be authorized again
