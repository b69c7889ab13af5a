"""What connectors take and give. Frozen; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.model.credential import Ref
from keyturn.model.secret import Material


@dataclass(frozen=True)
class NetworkPolicy:
    """Where a connector may connect beyond the public internet.

    `allowed_hosts` are `host` or `host:port` the operator opened although they are private, loopback or plain http.
    """

    allowed_hosts: frozenset[str] = frozenset()

    def allows(self, host: str, port: int) -> bool:
        """Whether the operator opened this host."""
        return host in self.allowed_hosts or f"{host}:{port}" in self.allowed_hosts


@dataclass(frozen=True)
class Access:
    """With what a connector acts: the connection's settings and the credential that makes the call.

    `acting` is the connection's own credential (self path), `admin` a separate administrator's where the connection
    has one. `marker` is our token for a label the vendor lets us write. Every call must end within `deadline_s`.
    """

    settings: Mapping[str, Any]
    acting: Material | None = None
    admin: Material | None = None
    deadline_s: float = 15.0
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    marker: str = ""

    @property
    def actor(self) -> Material:
        """The administrator where there is one, else the credential itself."""
        chosen = self.admin or self.acting
        if chosen is None:
            raise LookupError("this call needs a credential to act with")
        return chosen


@dataclass(frozen=True)
class Candidate:
    """A new credential: where it sits (or will sit) at the vendor, and its value. `expires_at` in epoch seconds."""

    ref: Ref
    material: Material
    expires_at: float | None = None


@dataclass(frozen=True)
class Remote:
    """One credential as the vendor's inventory shows it. Times in epoch seconds; None means not told."""

    ref: Ref
    active: bool = True
    created_at: float | None = None
    last_used_at: float | None = None


@dataclass(frozen=True)
class Found:
    """Something `discover` saw at the vendor that could be, or already is, a connection."""

    name: str
    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """What a small read saw: how many items, and where in words. Never any of them."""

    count: int
    detail: str = ""
