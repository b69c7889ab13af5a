"""Signing secrets for webhooks and their signatures, as the Standard Webhooks specification has them.

A secret is `whsec_` and base64 of 39 bytes, chosen so that the base64 begins with `ktne` and ends in a checksum: any
library of the standard takes it as it is, and a scanner can still tell it from noise without asking this hub.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, checked 2026-11-23.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable

from keyturn.keymaking.passwords import BASE62, PREFIX, checksum

HEAD = "whsec_"
TOLERANCE_S = 300.0
_RANDOM = 42  # base62 characters: 250 bits
_MOST_SIGNATURES = 8


def secret() -> str:
    """A fresh signing secret; 58 characters."""
    from keyturn.keymaking.passwords import _draw

    body = f"{HEAD}{PREFIX}e{_draw(BASE62, _RANDOM)}"
    return body + checksum(body)


def pattern() -> re.Pattern[str]:
    """Finds our signing secrets in any text."""
    return re.compile(rf"\b{HEAD}{PREFIX}e[0-9A-Za-z]{{{_RANDOM + 6}}}\b")


def is_whole(value: str) -> bool:
    """Whether a value can be one of ours: form and checksum."""
    return pattern().fullmatch(value) is not None and checksum(value[:-6]) == value[-6:]


def sign(value: str, event_id: str, at: int, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA-256 over id, timestamp and body. Raises: ValueError for no such secret."""
    key = base64.b64decode(value.removeprefix(HEAD), validate=True)
    said = f"{event_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode()


def signed_by(values: Iterable[str], event_id: str, at: int, body: bytes, header: str) -> int | None:
    """Which of the secrets made one of the header's signatures; None for none. Every pair is compared, so that the time
    it takes tells nothing."""
    given = [each.encode() for each in header.split(" ")[:_MOST_SIGNATURES]]
    found = None
    for number, value in enumerate(values):
        wanted = sign(value, event_id, at, body).encode()
        for each in given:
            if hmac.compare_digest(each, wanted) and found is None:
                found = number
    return found
