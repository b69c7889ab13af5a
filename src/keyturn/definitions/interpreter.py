"""A definition as the capabilities of a connector: what is declared is there, what is not declared is None."""

from __future__ import annotations

from keyturn.contract.capabilities import Capabilities, Revoker
from keyturn.definitions.auth import OAuth
from keyturn.definitions.consent import DeclaredAuthorizer
from keyturn.definitions.inventory import DeclaredLister
from keyturn.definitions.lifecycle import (
    DeclaredIssuer,
    DeclaredMaker,
    DeclaredRevoker,
    DeclaredSetter,
    TokenRevoker,
)
from keyturn.definitions.model import Definition, Generate
from keyturn.definitions.verifier import DeclaredVerifier


def capabilities(definition: Definition) -> Capabilities:
    """The capabilities that `definition` declares."""
    rotation, auth = definition.rotation, definition.auth
    create = rotation.create
    issues = create is not None and rotation.mode in {"create_then_revoke", "in_place"}
    sets = create is not None and rotation.mode == "set_value"
    consents = isinstance(auth, OAuth) and auth.kind == "oauth2_code"
    return Capabilities(
        verifier=DeclaredVerifier(definition),
        lister=DeclaredLister(definition, definition.discover) if definition.discover else None,
        maker=DeclaredMaker(definition, rotation.generate or Generate("")) if sets else None,
        setter=DeclaredSetter(definition, create) if sets and create else None,
        issuer=DeclaredIssuer(definition, create) if issues and create else None,
        revoker=_revoker(definition),
        authorizer=DeclaredAuthorizer(definition, auth) if consents and isinstance(auth, OAuth) else None,
    )


def _revoker(definition: Definition) -> Revoker | None:
    if definition.rotation.revoke is not None:
        return DeclaredRevoker(definition, definition.rotation.revoke)
    auth = definition.auth
    if isinstance(auth, OAuth) and auth.revoke is not None:
        return TokenRevoker(definition, auth, auth.revoke)
    return None
