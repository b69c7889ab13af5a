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
from keyturn.definitions.located import DeclaredLocator, RefreshDeath
from keyturn.definitions.model import Definition, Generate
from keyturn.definitions.sample import DeclaredReader
from keyturn.definitions.verifier import DeclaredVerifier
from keyturn.errors import InvalidInput


def capabilities(definition: Definition | str) -> Capabilities:
    """The capabilities that `definition` declares. Raises: InvalidInput for the placeholder of a custom row."""
    if isinstance(definition, str):
        raise InvalidInput(
            "this row is described by your own definition",
            hint="Give a rest-credential/v1 document as `definition`.",
            field="definition",
        )
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
        reader=DeclaredReader(definition) if definition.samples else None,
        locator=DeclaredLocator(definition) if create is not None and create.handle else None,
        death=RefreshDeath(definition, auth)
        if consents and isinstance(auth, OAuth) and _by_refresh(definition)
        else None,
    )


def _by_refresh(definition: Definition) -> bool:
    check = definition.rotation.dead_check
    return check is not None and "refresh_fails" in check.also


def _revoker(definition: Definition) -> Revoker | None:
    if definition.rotation.revoke is not None:
        return DeclaredRevoker(definition, definition.rotation.revoke)
    auth = definition.auth
    if isinstance(auth, OAuth) and auth.revoke is not None:
        return TokenRevoker(definition, auth, auth.revoke)
    return None
