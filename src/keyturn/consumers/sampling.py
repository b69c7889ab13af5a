"""One small read through a connection, as its jobs do it: every way it can end becomes a `Reading`, none an exception."""

from __future__ import annotations

import time

from keyturn.contract.capabilities import Reader
from keyturn.contract.values import Access
from keyturn.errors import (
    CallInsideTransaction,
    KeyturnError,
    OutcomeUnknown,
    Retry,
    UnexpectedAnswer,
    unexpected,
)
from keyturn.model.job import JobState, Reading
from keyturn.model.secret import Material

_LONGEST_DETAIL = 300


def read(reader: Reader | None, access: Access, material: Material, what: str, limit: int) -> Reading:
    """Reads at most `limit` items of `what`. A definite refusal is `failed`, anything unclear `unknown`.

    Nothing of what was read survives but the count. Raises: CallInsideTransaction alone.
    """
    began = time.monotonic()
    if reader is None:
        return Reading(JobState.FAILED, detail="this connector reads no samples")
    try:
        found = reader.read_sample(access, material, what, limit)
    except CallInsideTransaction:
        raise
    except KeyturnError as error:
        unclear = error.retry is not Retry.NEVER or isinstance(error, OutcomeUnknown | UnexpectedAnswer)
        return Reading(
            JobState.UNKNOWN if unclear else JobState.FAILED,
            seconds=time.monotonic() - began,
            code=str(error.facts.get("code") or error.facts.get("class") or type(error).__name__),
            detail=_plain(error.message),
            wait_s=float(error.facts.get("wait_s") or 0.0),
        )
    except Exception as error:
        return Reading(JobState.UNKNOWN, seconds=time.monotonic() - began, detail=unexpected(error))
    count = min(max(int(found.count), 0), limit)
    return Reading(JobState.OK, count, time.monotonic() - began, detail=_plain(found.detail))


def _plain(text: str) -> str:
    """Short, and of characters that a store and a terminal can hold."""
    said = "".join(c for c in text.encode("utf-8", "replace").decode() if c.isprintable())
    return said[:_LONGEST_DETAIL]
