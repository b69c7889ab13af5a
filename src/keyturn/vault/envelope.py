"""Envelope encryption of one row: a fresh data key seals the row, the master key wraps the data key. Pure, no I/O.

Layout of `Sealed.to_bytes()`, version 1, all lengths fixed but the last:

    version 1 | key id 8 | wrap salt 16, nonce 12, wrapped data key 32 + tag 16 | nonce 12, ciphertext n + tag 16

The identity of a row ("version:ver_x") is associated data of both layers, so a sealed row moved to another place does
not open. The key id is associated data of the wrap alone: rewrapping under a new key must not touch the ciphertext.
Destroying the wrapped key (deleting the row) destroys the value, whoever holds the master key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyturn.errors import VaultSealed, VaultTampered

KEY_BYTES = 32
_VERSION = 1
_ID_BYTES, _SALT, _NONCE, _TAG = 8, 16, 12, 16
_WRAP_BYTES = _SALT + _NONCE + KEY_BYTES + _TAG
_HEAD = 1 + _ID_BYTES + _WRAP_BYTES
_KEY_ID_LABEL, _WRAP_LABEL, _BODY_LABEL = b"keyturn/kek-id/1", b"keyturn/wrap/1", b"keyturn/body/1"


@dataclass(frozen=True)
class Kek:
    """A key-encryption key. `id` is a short public fingerprint of the key, so a wrong key is named before it is tried."""

    key: bytes = field(repr=False)
    id: str = field(init=False)
    _mac: hmac.HMAC = field(init=False, repr=False, compare=False)  # keyed once; a wrap copies it

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a key-encryption key has {KEY_BYTES} bytes, this one has {len(self.key)}")
        digest = hmac.digest(self.key, _KEY_ID_LABEL, hashlib.sha256)
        object.__setattr__(self, "id", "kek_" + digest[:_ID_BYTES].hex())
        object.__setattr__(self, "_mac", hmac.new(self.key, _WRAP_LABEL, hashlib.sha256))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Kek is not pickled: load it from its source")

    @classmethod
    def generate(cls) -> Kek:
        """A fresh random key."""
        return cls(os.urandom(KEY_BYTES))


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed row: which master key wraps it, the wrapped data key, and nonce + ciphertext."""

    kek_id: str
    wrapped_key: bytes
    body: bytes

    def to_bytes(self) -> bytes:
        """The compact form that storage keeps: 113 bytes more than the plaintext."""
        return b"%c%b%b%b" % (_VERSION, bytes.fromhex(self.kek_id[4:]), self.wrapped_key, self.body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Sealed:
        """Reads the compact form. Raises: VaultTampered when it cannot be one."""
        if len(data) < _HEAD + _NONCE + _TAG or data[0] != _VERSION:
            raise VaultTampered(
                "a sealed value is cut short or has an unknown format",
                hint="Restore the row from a backup; if a newer Keyturn wrote it, run that version.",
            )
        return cls("kek_" + data[1 : 1 + _ID_BYTES].hex(), data[1 + _ID_BYTES : _HEAD], data[_HEAD:])


def seal(kek: Kek, plaintext: bytes, identity: str) -> Sealed:
    """Seals `plaintext` to its place. Twice gives two different results, both good."""
    fresh = os.urandom(KEY_BYTES + _NONCE)
    data_key, nonce = fresh[:KEY_BYTES], fresh[KEY_BYTES:]
    body = AESGCM(data_key).encrypt(nonce, plaintext, _place(_BODY_LABEL, identity))
    return Sealed(kek.id, _wrap(kek, data_key, identity), nonce + body)


def open_(kek: Kek, sealed: Sealed, identity: str) -> bytes:
    """The plaintext.

    Raises: VaultSealed when `kek` is not the key that wraps it; VaultTampered when anything was altered or the row
    comes from another place.
    """
    data_key = _unwrap(kek, sealed, identity)
    try:
        return AESGCM(data_key).decrypt(
            sealed.body[:_NONCE], sealed.body[_NONCE:], _place(_BODY_LABEL, identity)
        )
    except (InvalidTag, ValueError):
        raise _tampered(identity) from None


def rewrap(sealed: Sealed, old: Kek, new: Kek, identity: str) -> Sealed:
    """The same ciphertext with its data key wrapped under `new`. Raises as `open_` does, but does not check the body."""
    return Sealed(new.id, _wrap(new, _unwrap(old, sealed, identity), identity), sealed.body)


def _wrap(kek: Kek, data_key: bytes, identity: str) -> bytes:
    """Wraps a data key under a key derived for this one wrap.

    Random 96-bit nonces under one AES-GCM key are good for 2^32 messages (SP 800-38D, 8.3), and a repeat would give
    away the XOR of two data keys and the authentication key. A hub that rewraps a large store often would have to
    count. Instead a 128-bit salt picks a wrap key of its own (HKDF-Expand, the shape of XAES-256-GCM), so a repeat
    needs salt and nonce, 224 random bits, to collide: no counting, for two microseconds a row.
    """
    fresh = os.urandom(_SALT + _NONCE)
    salt, nonce = fresh[:_SALT], fresh[_SALT:]
    return fresh + AESGCM(_wrap_key(kek, salt)).encrypt(
        nonce, data_key, _place(_WRAP_LABEL, identity, kek.id)
    )


def _unwrap(kek: Kek, sealed: Sealed, identity: str) -> bytes:
    data_key = _try_unwrap(kek, sealed.wrapped_key, identity)
    if data_key is not None and sealed.kek_id == kek.id:
        return data_key
    if data_key is None and sealed.kek_id != kek.id:
        raise VaultSealed(
            f"{identity} is sealed under {sealed.kek_id}, which is not among the loaded keys",
            hint=f"Add the key {sealed.kek_id} to the key source, after the newest.",
            kek_id=sealed.kek_id,
        )
    # Either the right key fails, or a loaded key opens a row that claims another one: its label was altered.
    raise _tampered(identity)


def _try_unwrap(kek: Kek, wrapped: bytes, identity: str) -> bytes | None:
    salt, nonce, box = wrapped[:_SALT], wrapped[_SALT : _SALT + _NONCE], wrapped[_SALT + _NONCE :]
    try:
        return AESGCM(_wrap_key(kek, salt)).decrypt(nonce, box, _place(_WRAP_LABEL, identity, kek.id))
    except (InvalidTag, ValueError):
        return None


def _wrap_key(kek: Kek, salt: bytes) -> bytes:
    """HKDF-Expand-SHA256(kek, label | salt), one block. The KEK is uniform, so the extract half adds nothing."""
    mac = kek._mac.copy()  # noqa: SLF001 - same module
    mac.update(salt + b"\x01")
    return mac.digest()


def _place(label: bytes, identity: str, kek_id: str = "") -> bytes:
    """Associated data. The key id has a fixed length and comes first, so no two places share their bytes."""
    if not identity:
        raise ValueError("a sealed value needs an identity: without one, rows could be swapped")
    return b"%b\x00%b\x00%b" % (label, kek_id.encode(), identity.encode())


def _tampered(identity: str) -> VaultTampered:
    return VaultTampered(
        f"{identity} does not open: it was altered or comes from another row",
        hint="Restore the row from a backup and find out who wrote to the database.",
        identity=identity,
    )
