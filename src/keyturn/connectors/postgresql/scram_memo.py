"""Remembers for a minute the SCRAM keys of a password just written, so that its first proof need not hash again.

Why a proof that uses them still proves the vault's value: the memo is asked with the password and salt of the material
the executor has just opened from the vault, and answers only if exactly these were hashed before. Another password, or
one bit of it, finds nothing and goes the long way. What is saved is repeating a pure function on the same input, never
a login. The one thing not exercised is that a client that hashes with the server's copy of the salt gets the same keys:
salt and keys leave in one text, written by one pure function, and a test logs in both ways.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
import time
from collections import OrderedDict

from keyturn.keymaking.scram import ScramKeys, scram_keys
from keyturn.model.secret import Material

SALT = (
    "scram_salt"  # public part of the material: with it, writing the same value again gives the same verifier
)
_SIZE, _KEEP_S = 256, 60.0
_lock = threading.Lock()
_memo: OrderedDict[bytes, tuple[float, ScramKeys]] = OrderedDict()


def new_salt() -> str:
    """16 random bytes as text, chosen once when the value is made."""
    return base64.b64encode(os.urandom(16)).decode()


def keys_of(material: Material) -> ScramKeys:
    """The keys of the material's password, hashed at most once a minute; a value somebody pasted gets a fresh salt."""
    salt = _salt(material)
    if salt is None:
        return scram_keys(material["password"])
    index = _index(material["password"], salt)
    found = _recall(index)
    if found is None:
        found = scram_keys(material["password"], salt)
        with _lock:
            _memo[index] = (time.monotonic() + _KEEP_S, found)
            while len(_memo) > _SIZE:
                _memo.popitem(last=False)
    return found


def recent_keys(material: Material) -> tuple[bytes, bytes] | None:
    """The keys to log in with, only if this very password was written a moment ago."""
    salt = _salt(material)
    found = None if salt is None else _recall(_index(material.get("password", ""), salt))
    return None if found is None else (found.client_key, found.server_key)


def forget(material: Material) -> None:
    """Drops the keys: the server holds another verifier of this password, or another password."""
    salt = _salt(material)
    if salt is not None:
        with _lock:
            _memo.pop(_index(material.get("password", ""), salt), None)


def _recall(index: bytes) -> ScramKeys | None:
    now = time.monotonic()
    with _lock:
        while _memo and next(iter(_memo.values()))[0] <= now:
            _memo.popitem(last=False)
        found = _memo.get(index)
    return None if found is None or found[0] <= now else found[1]


def _index(password: str, salt: bytes) -> bytes:
    return hashlib.sha256(salt + password.encode()).digest()  # 16 bytes of salt: no two inputs run together


def _salt(material: Material) -> bytes | None:
    try:
        salt = base64.b64decode(material.get(SALT, ""), validate=True)
    except binascii.Error:
        return None
    return salt if len(salt) == 16 else None
