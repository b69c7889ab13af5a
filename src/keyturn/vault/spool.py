"""The spool: where a vendor's answer goes when the store refuses it, so that the only copy of a secret is never lost.

An append-only file of records sealed to the hub's X25519 public key: appending needs no unlock and no database. Each
record is `magic 4 | length 4 | version 1 | ephemeral public key 32 | ciphertext + tag`. The magic lets a reader find
the next record behind a torn or damaged one, so one bad record never hides a good one.

Sealing to a public key proves secrecy, not authorship: whoever can write the file and knows the public key could add
a record. What comes out of the spool is therefore a receipt like any other: it is parsed, probed, then believed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
import time
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyturn.errors import StoreUnavailable
from keyturn.vault import files

_MAGIC = b"\x89KTS"
_VERSION = b"\x01"
_FRAME = struct.Struct(">4sI")
_IDENTITY = struct.Struct(">H")
_PUBLIC, _TAG = 32, 16
_LEAST = len(_VERSION) + _PUBLIC + _IDENTITY.size + _TAG
_NONCE = bytes(12)  # safe: the key comes from a fresh ephemeral key and encrypts once
_RESERVE_BYTES = 1 << 20


@dataclass(frozen=True)
class Record:
    """One spooled answer: the row it was meant for, and its bytes."""

    identity: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Spooled:
    """What a spool file holds. `damaged` counts stretches that do not open: torn writes, flipped bits, another hub's."""

    records: tuple[Record, ...]
    damaged: int
    size_bytes: int


def prepare(path: str, reserve_bytes: int = _RESERVE_BYTES) -> None:
    """At start-up: proves the spool can be written, and sets disk space aside beside it.

    The usual reason for a store to refuse is a full disk, on which the spool would fail as well; `append` then gives
    the reserve up. Calling it twice changes nothing. Raises: StoreUnavailable.
    """
    try:
        os.makedirs(_folder(path), mode=0o700, exist_ok=True)
        _write(path, b"")
        handle = os.open(_reserve(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, reserve_bytes)
        finally:
            os.close(handle)
    except OSError as error:
        raise _refused(path, error) from None


def identify(path: str) -> str:
    """The name of this spool, made on first use and kept beside it: hosts that share the folder share the name.

    Empty where nothing can be written: there is no spool then either, and `prepare` says so.
    """
    name = path + ".name"
    with contextlib.suppress(OSError):
        if not os.path.exists(name):
            with contextlib.suppress(FileExistsError):
                files.write_private(name, f"spool_{secrets.token_hex(8)}".encode(), replace=False)
        with open(name, encoding="ascii", errors="replace") as file:
            return file.read(64)
    return ""


def append(path: str, public_key: bytes, identity: str, payload: bytes) -> None:
    """Seals `payload` to the hub and returns once it is on disk. Safe from several threads and processes.

    Appending the same answer twice is harmless: the reader files it by `identity`.
    Raises: StoreUnavailable when the disk refuses too; then nothing usable was kept and the caller must compensate.
    """
    record = _seal(public_key, identity, payload)
    try:
        try:
            _write(path, record)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            with contextlib.suppress(FileNotFoundError):  # spent already: the second try decides
                os.unlink(_reserve(path))
            _write(path, record)
    except OSError as error:
        raise _refused(path, error) from None


def read(path: str, private_key: bytes) -> Spooled:
    """All records that open, oldest first; an absent file is an empty spool.

    Never raises for damage: the caller files what opens, then reports `damaged`. Raises: StoreUnavailable.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise _refused(path, error) from None
    ours = X25519PrivateKey.from_private_bytes(private_key)
    records: list[Record] = []
    damaged, at, hurt = 0, 0, False
    while at < len(data):
        found = _record_at(data, at, ours)
        if found is None:
            damaged += not hurt  # a stretch counts once, however many steps it takes to leave it
            hurt = True
            following = data.find(_MAGIC, at + 1)
            at = following if following > 0 else len(data)
        else:
            record, at = found
            records.append(record)
            hurt = False
    return Spooled(tuple(records), damaged, len(data))


def clear(path: str, spooled: Spooled) -> bool:
    """Empties the spool after everything in `spooled` was committed; False if it has grown since: read again.

    A spool with damage is moved aside to `<path>.damaged-<time>` instead, for a person to look at.
    """
    try:
        with files.locked(_folder(path)):
            if not os.path.exists(path):
                return True
            if os.path.getsize(path) != spooled.size_bytes:
                return False
            if spooled.damaged:
                os.rename(path, f"{path}.damaged-{time.time_ns()}")
            else:
                os.truncate(path, 0)
            files.sync_folder(_folder(path))
    except OSError as error:
        raise _refused(path, error) from None
    return True


def _write(path: str, record: bytes) -> None:
    with files.locked(_folder(path)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            before = os.fstat(handle).st_size
            try:
                written = os.write(handle, record)
                if written != len(record):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        if not before:
            files.sync_folder(_folder(path))


def _seal(public_key: bytes, identity: str, payload: bytes) -> bytes:
    hub = X25519PublicKey.from_public_bytes(public_key)
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    head = _VERSION + sender
    name = identity.encode()
    box = AESGCM(_key(ephemeral.exchange(hub), sender, public_key)).encrypt(
        _NONCE, _IDENTITY.pack(len(name)) + name + payload, head
    )
    return _FRAME.pack(_MAGIC, len(head) + len(box)) + head + box


def _record_at(data: bytes, at: int, ours: X25519PrivateKey) -> tuple[Record, int] | None:
    """The record that starts at `at` and where the next one starts; None unless it opens."""
    if len(data) - at < _FRAME.size + _LEAST:
        return None
    magic, length = _FRAME.unpack_from(data, at)
    start, end = at + _FRAME.size, at + _FRAME.size + length
    if magic != _MAGIC or length < _LEAST or end > len(data):
        return None
    head, box = data[start : start + 1 + _PUBLIC], data[start + 1 + _PUBLIC : end]
    try:
        shared = ours.exchange(X25519PublicKey.from_public_bytes(head[1:]))
        key = _key(shared, head[1:], ours.public_key().public_bytes_raw())
        plain = AESGCM(key).decrypt(_NONCE, box, head)
    except (InvalidTag, ValueError):  # ValueError: a damaged public key of small order
        return None
    (name_bytes,) = _IDENTITY.unpack_from(plain)
    split = _IDENTITY.size + name_bytes
    return Record(plain[_IDENTITY.size : split].decode(), plain[split:]), end


def _key(shared: bytes, sender: bytes, hub: bytes) -> bytes:
    """Bound to both public keys, as in HPKE and age, so a record cannot be presented as sealed to another key."""
    return HKDF(SHA256(), 32, salt=sender + hub, info=b"keyturn/spool/1").derive(shared)


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def _reserve(path: str) -> str:
    return path + ".reserve"


def _refused(path: str, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"the spool {path} refused a read or write ({error.strerror})",
        hint="Free disk space or repair the file's owner and mode; do not stop Keyturn before it could write.",
    )
