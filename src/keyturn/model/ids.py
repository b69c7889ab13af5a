"""Distinct id types, so that a run's id is never taken for a version's."""

from __future__ import annotations

import os
import time
from typing import NewType

ConnectionId = NewType("ConnectionId", str)
PrincipalId = NewType("PrincipalId", str)
VersionId = NewType("VersionId", str)
RunId = NewType("RunId", str)
TaskId = NewType("TaskId", str)
DebtId = NewType("DebtId", str)
LeaseId = NewType("LeaseId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32: sorts by time, survives being read aloud


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of time, so ids sort by birth, then 80 random bits."""
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10))
    text = ""
    for _ in range(26):
        text = _ALPHABET[number & 31] + text
        number >>= 5
    return f"{prefix}_{text}"
