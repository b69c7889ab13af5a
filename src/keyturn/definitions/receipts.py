"""A vendor's raw answer as bytes to seal: when it came, its headers, and the body unread.

The time matters: an answer that is opened an hour after a crash must not make its token look an hour younger.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from keyturn.errors import UnexpectedAnswer
from keyturn.transport.http import Answer

_MAGIC = b"keyturn-receipt/1 "


@dataclass(frozen=True)
class Receipt:
    """An opened receipt; `at` in epoch seconds."""

    at: float
    answer: Answer


def pack(answer: Answer) -> bytes:
    """The bytes to seal. Holds secrets: for the vault only."""
    head = {"at": time.time(), "status": answer.status, "headers": dict(answer.headers), "host": answer.host}
    return _MAGIC + json.dumps(head).encode() + b"\n" + answer.body


def unpack(receipt: bytes) -> Receipt:
    """The inverse; a bare body is taken as an answer that came just now. Raises: UnexpectedAnswer."""
    if not receipt.startswith(_MAGIC):
        return Receipt(time.time(), Answer(200, {}, receipt))
    head, _, body = receipt[len(_MAGIC) :].partition(b"\n")
    try:
        found = json.loads(head)
        return Receipt(float(found["at"]), Answer(found["status"], found["headers"], body, found["host"]))
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswer(
            "a sealed answer cannot be read", hint="It was written by another version."
        ) from None
