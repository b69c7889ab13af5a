"""The capabilities a connector may have: small Protocols, and the record that lists those of one method.

Promises common to all, for strangers who write a connector:

- Every call is safe to make twice. What "twice" means is said at each.
- Every call raises only Keyturn errors. `VendorUnavailable` and `VendorThrottled` promise that nothing was changed;
  when that is not certain for a call that changes something, raise `OutcomeUnknown`.
- No call prints, logs or stores a secret; nothing is cached between calls: a pooled login proves only the pool.
- No call is made while a database transaction is open; transport's doors enforce it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from keyturn.contract.values import Access, Candidate, Found, Remote, Sample
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe


class Verifier(Protocol):
    """Tells whether a credential works, and as whom."""

    def verify(self, access: Access, material: Material) -> Probe:
        """One harmless, fresh login or read with `material`. Never raises for a refusal or an outage.

        A documented no is `rejected` with the vendor's code; anything unclear is `unknown`.
        """

    def bogus(self, material: Material) -> Material:
        """A well-formed credential that cannot work: the negative control. Prefer a user that does not exist."""


class Lister(Protocol):
    """Shows what exists at the vendor for this principal, so that a lost answer can be resolved."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """All credentials of the principal, following every page. Slots that are empty are left out."""


class Maker(Protocol):
    """Makes a value on our side. No network."""

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A fresh random value for `slot`; the candidate's ref names exactly where `set` will put it."""


class Setter(Protocol):
    """Writes a value we made."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Puts `material` at `ref` and makes it usable. Absolute: sending the same value again changes nothing.

        Raises: ValueRefused (definite, nothing changed), PermissionMissing, OutcomeUnknown.
        """


class Issuer(Protocol):
    """Asks the vendor to make a value."""

    def issue(self, access: Access, slot: Ref) -> bytes:
        """The vendor's raw answer, unread: it is sealed before anybody looks at it.

        `slot` is empty where the vendor numbers credentials itself. Writes `access.marker` where there is a label.
        Raises: CapReached, PermissionMissing (definite, nothing changed), OutcomeUnknown.
        """

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The candidate inside a raw answer. No network. Raises: UnexpectedAnswer."""


class Disabler(Protocol):
    """A reversible off switch."""

    def disable(self, access: Access, ref: Ref) -> None:
        """Turns the credential off. Already off counts as done."""

    def enable(self, access: Access, ref: Ref) -> None:
        """Turns it on again. Already on counts as done."""


class Revoker(Protocol):
    """Ends a credential for good."""

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Ends the credential at `ref`; `material` is its value where we still hold it. Already gone counts as done."""


class Dropper(Protocol):
    """Removes the principal itself (a user, a client), on disconnect only and only when asked."""

    def drop(self, access: Access) -> None:
        """Deletes the remote identity. Already gone counts as done."""


class Authorizer(Protocol):
    """OAuth: consent, exchange, refresh."""

    def begin(self, access: Access, session: Mapping[str, str]) -> str:
        """The URL a person opens. `session` holds `state`, `code_verifier` and `redirect_uri`. No network."""

    def exchange(self, access: Access, session: Mapping[str, str], callback: str) -> bytes:
        """Trades the callback URL's code for a raw token answer. A code works once.

        Raises: InvalidInput when the callback carries an error or another state.
        """

    def refresh(self, access: Access, material: Material) -> bytes:
        """The raw answer to a refresh with `material`. Raises: CredentialRejected when the grant is definitely dead."""

    def read(self, access: Access, receipt: bytes, previous: Material | None) -> Candidate:
        """The grant inside a raw answer; a refresh token that is absent is kept from `previous`."""


class Discoverer(Protocol):
    """Looks for what could be connected or is unaccounted for."""

    def discover(self, access: Access) -> tuple[Found, ...]:
        """What the credential can see. Changes nothing."""


class Locator(Protocol):
    """Tells where a credential that came from outside sits at the vendor."""

    def locate(self, access: Access, material: Material) -> Ref:
        """The ref of `material`, by its own id or by looking its fingerprint up. Changes nothing.

        `more["ends_at"]` is when the vendor lets it end, as text in epoch seconds, where it says so.
        """


class Reader(Protocol):
    """Reads a small sample, as the jobs of a connection do: proof that a credential is good for its work."""

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts at most `limit` items of `what` with a fresh login of `material`, never of an administrator.

        `what` is in the vendor's words (a table, a prefix, the name of a sample); empty means what the connection's
        settings name. It comes from a person: printable, at most 300 characters, and else anything at all, so it is checked
        or quoted. Changes nothing; nothing of what is read is kept. For example
        `read_sample(access, material, "sales.orders", 10)` gives `Sample(10, "sales.orders")`.
        Raises: CredentialRejected, PermissionMissing, NotFound, InvalidInput (definite); VendorUnavailable,
        VendorThrottled, UnexpectedAnswer (nothing is known).
        """


@dataclass(frozen=True)
class Capabilities:
    """What one method of a connector can really do. None means the vendor offers no such thing."""

    verifier: Verifier
    lister: Lister | None = None
    maker: Maker | None = None
    setter: Setter | None = None
    issuer: Issuer | None = None
    disabler: Disabler | None = None
    revoker: Revoker | None = None
    dropper: Dropper | None = None
    authorizer: Authorizer | None = None
    discoverer: Discoverer | None = None
    locator: Locator | None = None
    reader: Reader | None = None
    death: Verifier | None = None  # how a dead one is told where the plain test cannot (a used refresh token)
