"""The root secret and the subkeys derived from it: fingerprints, tokens, cursors, audit signature, spool.

Separate from the master keys on purpose. Fingerprints and the audit key must outlive every rotation of a master key,
so they come from 32 bytes made once, sealed like any other row under `ROOTS_IDENTITY` and only rewrapped afterwards.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

ROOTS_IDENTITY = "hub:roots"
_BYTES = 32


def new_roots() -> bytes:
    """Made once, at `keyturn init`; storage seals it under `ROOTS_IDENTITY`. Losing it breaks every fingerprint."""
    return os.urandom(_BYTES)


class _Keyed:
    """HMAC-SHA-256 (RFC 2104) with the key's two blocks hashed once: an eighth of the price at every call of the API.
    Every thread works on copies."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def hexdigest(self, message: bytes) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


class Roots:
    """The subkeys of one hub. All are stable for the life of its root secret."""

    __slots__ = ("_fingerprint_key", "_root", "_signing", "_spool", "_tokens")

    def __init__(self, root: bytes) -> None:
        if len(root) != _BYTES:
            raise ValueError(f"a root secret has {_BYTES} bytes, this one has {len(root)}")
        self._root = root
        self._fingerprint_key = self.subkey("fingerprint")
        self._tokens = _Keyed(self.subkey("token"))
        self._signing = Ed25519PrivateKey.from_private_bytes(self.subkey("audit"))
        self._spool = X25519PrivateKey.from_private_bytes(self.subkey("spool"))

    def __repr__(self) -> str:
        return "Roots(••••)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Roots are not pickled: open them through the vault")

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose; knowing one tells nothing of the root or of another. A purpose is data: never rename."""
        return HKDFExpand(SHA256(), _BYTES, f"keyturn/roots/1/{purpose}".encode()).derive(self._root)

    def fingerprint(self, text: str) -> str:
        """`fp_` and 32 hex digits: equal for equal secrets within this hub, useless for guessing without the key."""
        return "fp_" + hmac.digest(self._fingerprint_key, text.encode(), hashlib.sha256)[:16].hex()

    def token_digest(self, token: str) -> str:
        """What storage keeps of a token the hub issued (64 hex digits); looked up by equality."""
        return self._tokens.hexdigest(token.encode())

    @property
    def cursor_key(self) -> bytes:
        """Authenticates page cursors and other values that travel through a client."""
        return self.subkey("cursor")

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature (64 bytes) with the hub's audit key; the same data gives the same signature."""
        return self._signing.sign(data)

    @property
    def public_key_pem(self) -> str:
        """The audit key's public half, for whoever verifies an export."""
        return (
            self._signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        )

    @property
    def spool_private(self) -> bytes:
        """Opens the spool; raw X25519."""
        return self._spool.private_bytes_raw()

    @property
    def spool_public(self) -> bytes:
        """Seals to the spool without an unlock; raw X25519. Kept in memory, or in clear beside the spool."""
        return self._spool.public_key().public_bytes_raw()


def verify(public_key_pem: str, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is the hub's over `data`. Anything malformed is simply not a signature."""
    try:
        key = load_pem_public_key(public_key_pem.encode())
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
