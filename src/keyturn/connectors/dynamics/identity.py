"""How the application, or its administrator's, shows who it is: a secret, or an assertion signed with a certificate."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from keyturn.connectors.dynamics.client import Application, Session
from keyturn.errors import InvalidInput
from keyturn.keymaking import certificates
from keyturn.keymaking.certificates import Certified
from keyturn.model.secret import Material

_GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_ASSERTION_S = 300
_PROOF_S = 600  # "exp should be nbf + 10 mins": learn.microsoft.com/graph/application-rollkey-prooftoken
_CLOCK_SKEW_S = 60
_DIRECTORY = "00000002-0000-0000-c000-000000000000"  # the audience of a proof, in every cloud
_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def by_secret(session: Session, material: Material) -> Application:
    """The application with the secret in `material`. Raises: InvalidInput."""
    return _secret(session.client_id, material, "client_secret")


def by_certificate(session: Session, material: Material) -> Application:
    """The application with the certificate in `material`. Raises: InvalidInput."""
    return _certificate(session.client_id, pair_of(material))


def acting(session: Session, own: Callable[[Session, Material], Application]) -> Application:
    """Who changes the application in Graph: the administrator's application where there is one, else itself.

    Raises: InvalidInput when there is neither.
    """
    access = session.access
    if access.admin is not None:
        return _admin(access.admin)
    if access.acting is None:
        raise InvalidInput(
            "there is no credential left to act with", hint="Bring one that works.", field="client_id"
        )
    return own(session, access.acting)


def pair_of(material: Material, field: str = "certificate") -> Certified:
    """Key and certificate. Raises: InvalidInput naming the field."""
    if not material.get(field):
        raise InvalidInput("the certificate is missing", hint="Give the PEM file.", field=field)
    prefix = field.removesuffix("certificate")
    passphrase = f"{prefix}passphrase"
    return certificates.load(
        material[field], material.get(passphrase) or None, field=field, passphrase_field=passphrase
    )


def proof_of_possession(pair: Certified, object_id: str) -> str:
    """The token that addKey and removeKey ask for: made with a valid certificate of the application itself."""
    now = int(time.time())
    header = {"alg": "RS256", "typ": "JWT", "kid": pair.thumbprint, "x5t": pair.x5t}
    claims = {"aud": _DIRECTORY, "iss": object_id, "nbf": now, "exp": now + _PROOF_S}
    signed = _signed_part(header, claims)
    return f"{signed}.{_b64(pair.keys.sign(signed.encode()))}"


def assertion(pair: Certified, client_id: str, token_url: str) -> str:
    """A client assertion: PS256 with the SHA-256 thumbprint, as Microsoft documents it."""
    now = int(time.time())
    header = {"alg": "PS256", "typ": "JWT", "x5t#S256": pair.x5t_s256}
    claims = {
        "aud": token_url,
        "iss": client_id,
        "sub": client_id,
        "jti": secrets.token_urlsafe(16),
        "nbf": now - _CLOCK_SKEW_S,
        "iat": now,
        "exp": now + _ASSERTION_S,
    }
    signed = _signed_part(header, claims)
    return f"{signed}.{_b64(pair.keys.sign_pss(signed.encode()))}"


def _admin(material: Material) -> Application:
    client_id = material.get("admin_client_id", "")
    if not client_id:
        raise InvalidInput(
            "the administrator's client id is missing", hint="Enter it.", field="admin_client_id"
        )
    if material.get("admin_certificate"):
        return _certificate(client_id, pair_of(material, "admin_certificate"))
    return _secret(client_id, material, "admin_client_secret")


def _secret(client_id: str, material: Material, field: str) -> Application:
    value = material.get(field, "")
    if not value:
        raise InvalidInput("the client secret is missing", hint="Enter its value.", field=field)
    if _GUID.match(value):
        raise InvalidInput(
            "this is the secret's id, not its value",
            hint="The portal shows the value once, when the secret is made; the id is of no use here.",
            field=field,
        )
    return Application(client_id, lambda _url: {"client_secret": value})


def _certificate(client_id: str, pair: Certified) -> Application:
    return Application(
        client_id,
        lambda url: {"client_assertion_type": _BEARER, "client_assertion": assertion(pair, client_id, url)},
    )


def _signed_part(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
