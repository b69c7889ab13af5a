"""PostgreSQL's SCRAM-SHA-256 verifiers, made on our side so that the server and its logs never see a password.

Source: RFC 5802, RFC 7677, PostgreSQL `src/common/scram-common.c` and `saslprep.c`;
compared with libpq's own result by a test.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

_SALT_BYTES = 16
ITERATIONS = 4096  # PostgreSQL's default; our passwords are random, so more rounds would only slow each login
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


@dataclass(frozen=True)
class ScramKeys:
    """The keys of one password. `client_key` logs in, so it is as secret as the password itself."""

    salt: bytes
    iterations: int
    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @property
    def stored_key(self) -> bytes:
        """What the server compares with: the hash of the client key."""
        return hashlib.sha256(self.client_key).digest()

    def verifier(self) -> str:
        """The text for `ALTER ROLE ... PASSWORD`. Not the password, but good for guessing it and for posing as the server."""
        salt, stored, server = (
            base64.b64encode(b).decode() for b in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def scram_keys(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> ScramKeys:
    """The keys of `password` under a fresh salt, or a given one. About 1 ms, with the interpreter lock released."""
    if not password:
        raise ValueError("PostgreSQL stores an empty password as none at all, which ends every login")
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    # cryptography brings its own OpenSSL, twice as fast at this as the interpreter's, and releases the lock too
    salted = PBKDF2HMAC(SHA256(), 32, salt, iterations).derive(prepared(password))
    client, server = (hmac.digest(salted, label, "sha256") for label in (b"Client Key", b"Server Key"))
    return ScramKeys(salt, iterations, client, server)


def matches(password: str, verifier: str) -> bool:
    """Whether a stored verifier (`pg_authid.rolpassword`) is this password's: proof without a login."""
    found = _VERIFIER.fullmatch(verifier)
    if (
        found is None or not password or not int(found[1])
    ):  # seven digits: a hostile server cannot keep us hashing
        return False
    try:
        salt = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(scram_keys(password, salt, int(found[1])).verifier(), verifier)


def prepared(password: str) -> bytes:
    """The bytes PostgreSQL hashes: SASLprep where the password allows it, else the password as it is, like libpq."""
    try:
        return (password if password.isascii() else saslprep(password)).encode()
    except ValueError:
        return password.encode()


def saslprep(text: str) -> str:
    """RFC 4013 for stored strings. Raises: ValueError for prohibited, unassigned or mixed-direction text."""
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    if not normal or any(table(character) for character in normal for table in _PROHIBITED):
        raise ValueError("SASLprep does not allow this text")
    if any(stringprep.in_table_d1(character) for character in normal) and (
        any(stringprep.in_table_d2(character) for character in normal)
        or not (stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1]))
    ):
        raise ValueError("SASLprep does not allow this mix of directions")
    return normal
