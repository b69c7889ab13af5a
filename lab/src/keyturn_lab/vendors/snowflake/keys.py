"""Public keys as Snowflake takes them: a bare base64 body in, a fingerprint out.

Source: docs.snowflake.com user-guide/key-pair-auth (format, fingerprint) and key-pair-auth-troubleshooting (refusals).
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

SLOTS = ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2")
SMALLEST_RSA_BITS = 2048

PublicKey = RSAPublicKey | EllipticCurvePublicKey


class BadPublicKey(ValueError):
    """Not a key body: PEM armour, ssh-rsa, truncated, or too small."""


@dataclass(frozen=True)
class SlotKey:
    """What one slot holds. The fingerprint is derived and cannot be set."""

    body: str
    fingerprint: str
    public: PublicKey
    set_at: datetime


def read_key(body: str, at: datetime) -> SlotKey:
    """A slot's content from the base64 body of an SPKI PEM; line breaks are tolerated, armour is not.

    Raises: BadPublicKey.
    """
    compact = "".join(body.split())
    try:
        key = load_der_public_key(base64.b64decode(compact, validate=True))
    except (ValueError, TypeError, binascii.Error) as problem:
        raise BadPublicKey("not the base64 body of a public key") from problem
    if isinstance(key, RSAPublicKey) and key.key_size < SMALLEST_RSA_BITS:
        raise BadPublicKey("smaller than 2048 bits")
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey):
        raise BadPublicKey("neither RSA nor ECDSA")
    return SlotKey(compact, fingerprint(key), key, at)


def fingerprint(key: PublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()
