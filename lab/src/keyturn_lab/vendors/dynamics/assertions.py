"""Reading what a client signed: assertions for the token endpoint, proofs for addKey and removeKey."""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from keyturn_lab.vendors.dynamics.state import App, Certificate, Tenant

DIRECTORY = "00000002-0000-0000-c000-000000000000"
_SKEW_S = 300.0


class Malformed(Exception):
    """Not a token at all."""


class NotRegistered(Exception):
    """Signed with something the application does not know; the text is the reason in Entra's words."""


class OutOfTime(Exception):
    """Its times do not cover now."""


def read(tenant: Tenant, app: App, text: str, audiences: set[str]) -> dict[str, Any]:
    """The claims of a client assertion, once its signature, certificate, audience and times hold."""
    header, claims, signed, signature = _parts(text)
    if header.get("alg") not in {"RS256", "PS256"}:
        raise Malformed
    found = _by_thumbprint(tenant, app, header)
    if found is None:
        raise NotRegistered("The key was not found.")
    now = tenant.clock.now()
    if now >= found.ends_at:
        raise NotRegistered("The key used is expired.")
    if not _verifies(found, str(header["alg"]), signed, signature) or not tenant.knows(found):
        raise NotRegistered("The key was not found.")
    if claims.get("iss") != app.app_id or claims.get("sub") != app.app_id:
        raise Malformed
    if claims.get("aud") not in audiences:
        raise Malformed
    starts, ends = claims.get("nbf", claims.get("iat")), claims.get("exp")
    if not _is_number(ends) or (starts is not None and not _is_number(starts)):
        raise Malformed
    if now > float(ends) + _SKEW_S or (starts is not None and now < float(starts) - _SKEW_S):
        raise OutOfTime
    if not tenant.settings.assertion_replay:
        jti = str(claims.get("jti"))
        if jti in tenant.seen_jti:
            raise Malformed
        tenant.seen_jti.add(jti)
    found.used_at = now
    return claims


def is_proof(tenant: Tenant, app: App, text: Any, removing: str = "") -> bool:
    """Whether somebody holding a valid certificate of this application made this within the last ten minutes."""
    try:
        header, claims, signed, signature = _parts(text)
    except Malformed:
        return False
    now = tenant.clock.now()
    good = (
        header.get("alg") == "RS256"
        and claims.get("aud") == DIRECTORY
        and claims.get("iss") == app.object_id
        and _is_number(claims.get("nbf"))
        and _is_number(claims.get("exp"))
        and claims["nbf"] - _SKEW_S <= now <= claims["exp"]
        and claims["exp"] - claims["nbf"] <= 601
    )
    found = _by_thumbprint(tenant, app, header)
    if not good or found is None or now >= found.ends_at or found.life.is_doomed():
        return False
    if found.key_id == removing.lower() and not tenant.settings.proves_own_removal:
        return False
    return _verifies(found, "RS256", signed, signature)


def _parts(text: Any) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    if not isinstance(text, str) or text.count(".") != 2 or "=" in text:
        raise Malformed
    head, body, tail = text.split(".")
    try:
        header, claims = json.loads(_unb64(head)), json.loads(_unb64(body))
        signature = _unb64(tail)
    except ValueError:
        raise Malformed from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Malformed
    return header, claims, f"{head}.{body}".encode(), signature


def _by_thumbprint(tenant: Tenant, app: App, header: dict[str, Any]) -> Certificate | None:
    """By x5t#S256, or by x5t; MSAL pads the latter, which base64url in a token should not be."""
    for each in app.certificates:
        gone = each.life.until_at is not None and tenant.clock.now() >= each.life.until_at
        names = {"x5t#S256": hashlib.sha256(each.der).digest(), "x5t": each.thumbprint}
        for name, digest in names.items():
            value = header.get(name)
            if isinstance(value, str) and _unb64(value) == digest and not gone:
                return each
    return None


def _verifies(certificate: Certificate, alg: str, signed: bytes, signature: bytes) -> bool:
    key = certificate.parsed.public_key()
    assert isinstance(key, RSAPublicKey)
    padding = PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH) if alg == "PS256" else PKCS1v15()
    try:
        key.verify(signature, signed, padding, SHA256())
    except InvalidSignature:
        return False
    return True


def _unb64(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError:
        return b""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
