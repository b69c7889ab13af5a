"""Distinct id types, so that a run's id is never taken for a version's."""

from __future__ import annotations

import os
import re
import time
from typing import NewType

ConnectionId = NewType("ConnectionId", str)
PrincipalId = NewType("PrincipalId", str)
VersionId = NewType("VersionId", str)
RunId = NewType("RunId", str)
TaskId = NewType("TaskId", str)
DebtId = NewType("DebtId", str)
LeaseId = NewType("LeaseId", str)
JobId = NewType("JobId", str)
ProjectId = NewType("ProjectId", str)
SourceId = NewType("SourceId", str)

VERSION_ID = re.compile(r"ver_[0-9a-z]{20,}")  # in any text

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32: sorts by time, survives being read aloud
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of time, so ids sort by birth, then 80 random bits."""
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10))
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"
