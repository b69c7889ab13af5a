"""Passwords of people: what is good enough, and hashing with Argon2id, a few at a time."""

from __future__ import annotations

import threading
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from keyturn.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 12, 256
_AT_ONCE = threading.BoundedSemaphore(2)  # each takes 64 MiB: a flood of guesses must not take the machine
_WAIT_S = 10.0
_COMMON = ("password", "passwort", "keyturn", "letmein", "qwertz", "qwerty", "123456", "welcome", "admin")


def check(password: str, login: str) -> str:
    """The password as it is hashed. Length counts, not character classes (NIST SP 800-63B). Raises: InvalidInput."""
    text = unicodedata.normalize("NFKC", password)
    if len(text) < SHORTEST:
        raise InvalidInput(
            f"the password needs {SHORTEST} characters or more",
            hint="Four random words are long and easy to remember.",
            field="password",
        )
    if len(text) > LONGEST:
        raise InvalidInput(f"the password has more than {LONGEST} characters", field="password")
    bare = text.casefold()
    name = login.partition("@")[0].casefold()
    for word in (*_COMMON, name if len(name) >= 3 else ""):
        bare = bare.replace(word, "") if word else bare
    if len(set(bare)) < 5:
        raise InvalidInput(
            "the password is easy to guess",
            hint="Use words that have nothing to do with your name or this hub.",
            field="password",
        )
    return text


def hashed(text: str) -> str:
    """Argon2id with the library's present defaults, salt and costs inside."""
    with _turn():
        return _hasher().hash(text)


def matches(stored: str, password: str) -> bool:
    """Whether it is the password. Takes as long where there is no hash: a name's existence does not show in the time."""
    import argon2

    with _turn():
        try:
            found = _hasher().verify(
                stored or _nobodys(), unicodedata.normalize("NFKC", password[: LONGEST + 1])
            )
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    return found and bool(stored)


class _turn:  # noqa: N801 - reads as a verb at its one use
    def __enter__(self) -> None:
        if not _AT_ONCE.acquire(timeout=_WAIT_S):
            raise Conflict("too many people are signing in at once", hint="Try again in a moment.")

    def __exit__(self, *_: object) -> None:
        _AT_ONCE.release()


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    import argon2

    return argon2.PasswordHasher()


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return _hasher().hash("nobody's password")
