"""Where a pasted credential sits, and how a dead grant is told: by a refresh that the vendor refuses."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.contract.values import Access
from keyturn.definitions import bogus
from keyturn.definitions.auth import OAuth
from keyturn.definitions.consent import DeclaredAuthorizer
from keyturn.definitions.derive import ref_of
from keyturn.definitions.model import Definition
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown


@dataclass(frozen=True)
class DeclaredLocator:
    """The handle is one of the parts; nothing is asked of the vendor."""

    definition: Definition

    def locate(self, access: Access, material: Material) -> Ref:
        """An empty ref when the handle was not pasted."""
        del access
        return ref_of(self.definition, material)


@dataclass(frozen=True)
class RefreshDeath:
    """Asks for a refresh with a token that should be dead, and throws the answer away.

    A refresh that works burns the token: the vendor retires it, nobody holds its successor, and the next probe after
    the vendor's leeway finds it refused. For credentials on their way out only, never for one that serves.
    """

    definition: Definition
    auth: OAuth

    def verify(self, access: Access, material: Material) -> Probe:
        """`rejected` only for a class that means a dead grant; a refused client says nothing about the grant."""
        try:
            DeclaredAuthorizer(self.definition, self.auth).refresh(access, material)
        except CredentialRejected as error:
            return rejected("reauth_required", error.message)
        except InvalidInput as error:
            if error.facts.get("field") != "refresh_token":
                raise
            return unknown("no_refresh_token", error.message)
        except VendorThrottled as error:
            return unknown("rate_limited", error.message, float(error.facts.get("wait_s", 0.0)))
        except (
            VendorUnavailable,
            OutcomeUnknown,
            UnexpectedAnswer,
            PermissionMissing,
            ValueRefused,
        ) as error:
            return unknown("unclear", error.message)
        return accepted("not told")

    def bogus(self, material: Material) -> Material:
        """A refresh token that never was."""
        return bogus.bogus(self.definition, material)
