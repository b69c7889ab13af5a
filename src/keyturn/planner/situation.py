"""Everything a plan is made from, in one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.contract.manifest import Method
from keyturn.model.card import Card
from keyturn.model.credential import LIVE, Connection, Version
from keyturn.model.policy import Policy


@dataclass(frozen=True)
class Situation:
    """One connection as it stands. `can` names the capabilities its connector has; `has_admin` tells the path."""

    connection: Connection
    method: Method
    card: Card
    can: frozenset[str]
    has_admin: bool
    versions: Sequence[Version]
    policy: Policy
    siblings: Sequence[Connection] = ()  # others with a credential of the same remote identity
    jobs: Sequence[tuple[str, str]] = ()  # (id, name) of those that run after a rotation
    sources: Sequence[str] = ()  # project/object/source of everything that reads through it
    same_value: frozenset[str] = (
        frozenset()
    )  # names of those siblings that serve the very value this one serves
    origin: Situation | None = (
        None  # for a migration: as it is by its present method; all else is by the new one
    )

    @property
    def current(self) -> Version | None:
        """The version that serves now."""
        return next((v for v in self.versions if v.id == self.connection.current_version_id), None)

    def alive(self) -> tuple[Version, ...]:
        """Versions that may still be alive at the vendor."""
        return tuple(v for v in self.versions if v.state in LIVE)
