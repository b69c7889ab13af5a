"""SCRAM keys of passwords made here, remembered for a minute, so that writing and proving one hash it once.

Why a proof that uses them still proves the vault's value: they are computed from the password and salt of the material
the executor has just opened from the vault, or recalled if exactly these were hashed before. Another password, or one
bit of it, finds nothing and is hashed itself. What is saved is repeating a pure function on the same input, never
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
from typing import Literal

from keyturn.keymaking.scram import ScramKeys, scram_keys
from keyturn.model.secret import Material

SALT = (
    "scram_salt"  # public part of the material: with it, writing the same value again gives the same verifier
)
_SIZE, _KEEP_S = 256, 60.0
_lock = threading.Lock()
_memo: OrderedDict[bytes, tuple[float, ScramKeys | None]] = (
    OrderedDict()
)  # None: the server holds another text


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
    if not found:
        found = scram_keys(material["password"], salt)
        _keep(index, found)
    return found


def login_keys(material: Material) -> tuple[bytes, bytes] | None:
    """The keys to log in with, if the password was made here: under the salt it was written with. libpq would hash the
    password for every login anew, at three times the price; a pasted value's salt is the server's secret, so there it must.
    """
    salt, password = _salt(material), material.get("password", "")
    if salt is None or not password or _recall(_index(password, salt)) is None:
        return None
    found = keys_of(material)
    return found.client_key, found.server_key


def doubt(material: Material) -> None:
    """Keeps to the password itself for a minute: the server holds another text of it, or another password."""
    salt = _salt(material)
    if salt is not None:
        _keep(_index(material.get("password", ""), salt), None)


def _keep(index: bytes, found: ScramKeys | None) -> None:
    with _lock:
        _memo[index] = (time.monotonic() + _KEEP_S, found)
        _memo.move_to_end(index)
        while len(_memo) > _SIZE:
            _memo.popitem(last=False)


def _recall(index: bytes) -> ScramKeys | Literal[False] | None:
    """What is remembered: the keys, None for a doubt, False for nothing."""
    now = time.monotonic()
    with _lock:
        while _memo and next(iter(_memo.values()))[0] <= now:
            _memo.popitem(last=False)
        held = _memo.get(index)
    return False if held is None or held[0] <= now else held[1]


def _index(password: str, salt: bytes) -> bytes:
    return hashlib.sha256(salt + password.encode()).digest()  # 16 bytes of salt: no two inputs run together


def _salt(material: Material) -> bytes | None:
    try:
        salt = base64.b64decode(material.get(SALT, ""), validate=True)
    except binascii.Error:
        return None
    return salt if len(salt) == 16 else None
