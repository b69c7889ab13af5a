"""Random text secrets: passwords that meet a vendor's classes, and the opaque tokens the hub issues."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from keyturn.errors import InvalidInput

LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
SYMBOLS = "-_.~"  # RFC 3986 unreserved: the same text in a URL, a shell, SQL, YAML and a connection string
CLASSES = (LOWER, UPPER, DIGITS, SYMBOLS)
BASE62 = DIGITS + UPPER + LOWER
PREFIX = "ktn"  # the product's three letters; scanners know them, so they never change
KINDS = {
    "k": "API key",
    "b": "bulk key",
    "w": "write key",
    "e": "event shared secret",
    "s": "OAuth client secret",
    "t": "access token",
    "r": "refresh token",
}
_PAIRS = tuple(first + second for first in BASE62 for second in BASE62)  # the numbers below 62 * 62
_RANDOM_CHARACTERS, _CHECKSUM_CHARACTERS, _CLIENT_ID_CHARACTERS = 43, 6, 22  # 43 base62 characters: 256 bits


def password(
    length: int = 32, alphabet: str = LOWER + UPPER + DIGITS + SYMBOLS, classes: Sequence[str] = CLASSES
) -> str:
    """A password with at least one character of every class, uniform over all such passwords; 193 bits by default.

    Starts with a letter where the alphabet has one: a leading `-` is read as an option, a leading digit is refused by
    some databases. Whole passwords are drawn until one fits; drawing the classes first and shuffling would favour some.
    Raises: InvalidInput when no password can satisfy the classes.
    """
    if len(set(alphabet)) < 2 or len(set(alphabet)) != len(alphabet):
        raise InvalidInput("a password alphabet needs two or more different characters", field="alphabet")
    wanted = [frozenset(each) & frozenset(alphabet) for each in classes]
    if not all(wanted):
        raise InvalidInput("a required class has no character in the alphabet", field="classes")
    if length < max(8, len(wanted)):
        raise InvalidInput("a generated password has 8 characters or more", field="length")
    letters = any(character.isalpha() for character in alphabet)
    while True:
        drawn = _draw(alphabet, length)
        if (drawn[0].isalpha() or not letters) and all(not each.isdisjoint(drawn) for each in wanted):
            return drawn


class TokenShape(NamedTuple):
    """What a well-formed token says about itself. Not proof that it was ever issued, and never the value."""

    prefix: str
    kind: str
    hint: str  # the last four characters: for telling two tokens apart on a screen


def token(kind: str, prefix: str = PREFIX) -> str:
    """A fresh opaque token: prefix, kind, underscore, 43 random base62 characters, 6 of checksum.

    The checksum lets a client, a log filter or a scanner reject a typing error without asking; it is not security.
    """
    if kind not in KINDS or not re.fullmatch(r"[a-z]{3}", prefix):
        raise ValueError(f"no token kind {kind!r} with prefix {prefix!r}")
    body = f"{prefix}{kind}_{_draw(BASE62, _RANDOM_CHARACTERS)}"
    return body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32 of everything before it, prefix included so that a swapped kind is noticed, as 6 base62 digits."""
    rest, low = divmod(zlib.crc32(body.encode()), len(_PAIRS))
    high, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


@cache
def pattern(prefix: str = PREFIX) -> re.Pattern[str]:
    """Finds tokens in any text: for log filters and secret scanners."""
    return re.compile(rf"\b{re.escape(prefix)}[{''.join(KINDS)}]_[0-9A-Za-z]{{49}}\b")


def parse(value: str, prefix: str = PREFIX) -> TokenShape:
    """The shape of a token. Raises: InvalidInput, without the value, when it cannot be one of ours."""
    if not pattern(prefix).fullmatch(value):
        raise InvalidInput(
            "this is not a Keyturn token", hint=f"Tokens start with {prefix} and have 54 characters."
        )
    if checksum(value[:-_CHECKSUM_CHARACTERS]) != value[-_CHECKSUM_CHARACTERS:]:
        raise InvalidInput(
            "the token's checksum is wrong", hint="A character was changed or lost: copy it again, whole."
        )
    return TokenShape(prefix, value[len(prefix)], value[-4:])


def client_id(prefix: str = PREFIX) -> str:
    """A fresh public client id: not a secret, no checksum."""
    return f"{prefix}c_{_draw(BASE62, _CLIENT_ID_CHARACTERS)}"


def _draw(alphabet: str, length: int) -> str:
    """`length` independent uniform characters. Bytes past the last whole multiple are thrown away: `% 62` would bias."""
    size = len(alphabet)
    if size > 256:
        raise ValueError("an alphabet has at most 256 characters")
    limit = 256 - 256 % size
    drawn: list[str] = []
    while len(drawn) < length:
        drawn += [alphabet[byte % size] for byte in os.urandom(length * 2) if byte < limit]
    return "".join(drawn[:length])
