"""What servers store of a password, worked out here so that the password itself is in no statement. Pure.

Sources: https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/ and
https://dev.mysql.com/doc/refman/8.4/en/caching-sha2-pluggable-authentication.html, checked 2026-11-23. The last one is
SHA-256-crypt (https://www.akkadia.org/drepper/SHA-crypt.txt) with 5000 rounds and a salt of 20 bytes.
"""

from __future__ import annotations

import functools
import hashlib
import os

from keyturn.errors import InvalidInput
from keyturn.keymaking.passwords import BASE62
from keyturn.model.secret import Material
from keyturn.transport.sql import mariadb_ed25519

NATIVE, ED25519, CACHING = "mysql_native_password", "ed25519", "caching_sha2_password"
SALT = "sha2_salt"  # public part of the material: with it, writing the same value again stores the same text
NOBODY = "invalid"  # what no password fits; documented for mysql_native_password, seen on MariaDB 10.11
_ALPHABET = "./" + BASE62[:10] + BASE62[10:36] + BASE62[36:]  # crypt's own order: ./0-9A-Za-z
_PREFIX, _ROUNDS, _SALT_SIZE = "$A$005$", 5000, 20


def new_salt() -> str:
    """20 random characters, uniform: 6 bits each."""
    return "".join(_ALPHABET[byte & 63] for byte in os.urandom(_SALT_SIZE))


def stored(plugin: str, material: Material) -> str:
    """The text the server keeps of this password. Raises: InvalidInput for a plugin that is not known here."""
    password = material.get("password", "")
    if plugin == NATIVE:
        twice = hashlib.sha1(
            hashlib.sha1(password.encode(), usedforsecurity=False).digest(), usedforsecurity=False
        )
        return "*" + twice.hexdigest().upper()
    if plugin == ED25519:
        return mariadb_ed25519.stored(password)
    if plugin == CACHING:
        return _caching(password, material.get(SALT, ""))
    raise InvalidInput(f"plugin {plugin} is not known", field="plugin")


def fits(plugin: str, kept: str, password: str) -> bool:
    """Whether the stored text is of this password."""
    if plugin == CACHING:
        salt = kept.removeprefix(_PREFIX)[:_SALT_SIZE]
        return len(salt) == _SALT_SIZE and _caching(password, salt) == kept
    return plugin in {NATIVE, ED25519} and stored(plugin, Material({"password": password})) == kept


@functools.lru_cache(maxsize=256)
def fingerprint(kept: str, user: str) -> str:
    """A public mark of a stored text.

    Salted with the user and slow on purpose: what these servers store has no salt of its own, so a quick mark would
    let whoever reads a journal try a person's weak password.
    """
    return hashlib.pbkdf2_hmac("sha256", kept.encode(), user.encode(), 20_000).hex()[:24]


def _caching(password: str, salt: str) -> str:
    if len(salt.encode("latin-1", "replace")) != _SALT_SIZE:
        salt = new_salt()
    return f"{_PREFIX}{salt}{sha256_crypt(password.encode(), salt.encode('latin-1'), _ROUNDS)}"


def sha256_crypt(password: bytes, salt: bytes, rounds: int) -> str:
    """The digest part of SHA-256-crypt: 43 characters."""
    sha = hashlib.sha256
    alternate = sha(password + salt + password).digest()
    mixed = password + salt + _stretched(alternate, len(password))
    bits = len(password)
    while bits:
        mixed += alternate if bits & 1 else password
        bits >>= 1
    digest = sha(mixed).digest()
    p = _stretched(sha(password * len(password)).digest(), len(password))
    s = _stretched(sha(salt * (16 + digest[0])).digest(), len(salt))
    for number in range(rounds):
        text = p if number & 1 else digest
        text += (s if number % 3 else b"") + (p if number % 7 else b"")
        digest = sha(text + (digest if number & 1 else p)).digest()
    found = ""
    for start in range(10):
        a, b, c = start, (start + 10) % 30, (start + 20) % 30
        a, b, c = ((a, b, c), (c, a, b), (b, c, a))[start % 3]
        found += _encoded(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
    return found + _encoded(digest[31] << 8 | digest[30], 3)


def _stretched(digest: bytes, size: int) -> bytes:
    return (digest * (size // len(digest) + 1))[:size]


def _encoded(number: int, characters: int) -> str:
    return "".join(_ALPHABET[number >> 6 * place & 63] for place in range(characters))
