"""Checks a key-pair login token for real: fingerprint, signature, times, account. The answer is a symbol or nothing.

The client only ever sees 390144 and an id; the symbol is for login history and SYSTEM$GET_LOGIN_FAILURE_DETAILS.

Source: docs.snowflake.com user-guide/key-pair-auth-troubleshooting (the 3943xx list);
snowflakedb/snowflake-connector-python src/snowflake/connector/auth/keypair.py (claims, account cut).
"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .keys import PublicKey, SlotKey

SKEW_S = 60
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


@dataclass(frozen=True)
class JwtProblem:
    code: str
    symbol: str


BAD_USER = JwtProblem("394300", "JWT_TOKEN_INVALID_USER_IN_ISSUER")
MISSING_TIME = JwtProblem("394301", "JWT_TOKEN_MISSING_ISSUE_OR_EXPIRATION_TIME")
BAD_ISSUE_TIME = JwtProblem("394302", "JWT_TOKEN_INVALID_ISSUE_TIME")
BAD_EXPIRY = JwtProblem("394303", "JWT_TOKEN_INVALID_EXPIRATION_TIME")
BAD_FINGERPRINT = JwtProblem("394304", "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH")
BAD_ALGORITHM = JwtProblem("394305", "JWT_TOKEN_INVALID_ALGORITHM")
BAD_SIGNATURE = JwtProblem("394306", "JWT_TOKEN_INVALID_SIGNATURE")
BAD_ACCOUNT = JwtProblem("394307", "JWT_TOKEN_INVALID_ACCOUNT")  # exact spelling unconfirmed


@dataclass(frozen=True)
class Claims:
    """A token taken apart, nothing believed yet."""

    account: str
    user: str
    fingerprint: str
    subject: str
    issued_at: float | None
    expires_at: float | None
    algorithm: str
    signed: bytes
    signature: bytes


def read_token(token: str) -> Claims | None:
    """The token's parts, or None when it is no such token. User names may hold dots, so both ends are cut first."""
    try:
        head, body, signature = token.split(".")
        header, payload = _json(head), _json(body)
        account, _, rest = str(payload["iss"]).partition(".")
        user, _, mark = rest.rpartition(".")
        return Claims(
            account=account,
            user=user,
            fingerprint=mark,
            subject=str(payload.get("sub", "")),
            issued_at=_instant(payload.get("iat")),
            expires_at=_instant(payload.get("exp")),
            algorithm=str(header.get("alg", "")),
            signed=f"{head}.{body}".encode(),
            signature=_unpad(signature),
        )
    except (ValueError, KeyError, AttributeError, binascii.Error):
        return None


def problem_with(
    claims: Claims, *, account: str, login_name: str, slots: Iterable[SlotKey], now: datetime
) -> JwtProblem | None:
    """The first thing wrong with a login token for this user, or None when it opens the door."""
    at = now.timestamp()
    if claims.issued_at is None or claims.expires_at is None:
        return MISSING_TIME
    if claims.account != account:
        return BAD_ACCOUNT
    if claims.user != login_name or claims.subject != f"{account}.{login_name}":
        return BAD_USER
    if abs(at - claims.issued_at) > SKEW_S:
        return BAD_ISSUE_TIME
    if claims.expires_at <= at or claims.expires_at <= claims.issued_at:
        return BAD_EXPIRY
    if claims.algorithm[:2] not in ("RS", "ES") or claims.algorithm[2:] not in _HASHES:
        return BAD_ALGORITHM
    key = next((slot.public for slot in slots if slot.fingerprint == claims.fingerprint), None)
    if key is None:
        return BAD_FINGERPRINT
    if isinstance(key, RSAPublicKey) != claims.algorithm.startswith("RS"):
        return BAD_ALGORITHM
    return None if _is_signed_by(key, claims) else BAD_SIGNATURE


def _is_signed_by(key: PublicKey, claims: Claims) -> bool:
    digest = _HASHES[claims.algorithm[2:]]
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(claims.signature, claims.signed, padding.PKCS1v15(), digest)
        else:
            half = len(claims.signature) // 2
            r, s = (int.from_bytes(part) for part in (claims.signature[:half], claims.signature[half:]))
            key.verify(encode_dss_signature(r, s), claims.signed, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def _json(part: str) -> dict[str, Any]:
    value = json.loads(_unpad(part))
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one refusal for every malformed token
    return value


def _unpad(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _instant(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
