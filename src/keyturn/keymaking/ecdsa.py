"""Signatures that others make with ECDSA over P-256 and SHA-256: checked here, never made."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def is_signed(data: bytes, signature: bytes, public_pem: str) -> bool:
    """Whether a DER signature over these very bytes is this key's. False for a key of another kind or curve: which
    algorithm counts is decided here, not by whoever made the key."""
    try:
        key = load_pem_public_key(public_pem.encode("ascii", "replace"))
    except (ValueError, UnsupportedAlgorithm):
        return False
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        return False
    try:
        key.verify(signature, data, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
