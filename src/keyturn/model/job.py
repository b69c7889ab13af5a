"""Jobs: small reads through a connection, their results, and when they are due. No I/O, no clock."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from keyturn.errors import InvalidInput
from keyturn.model.ids import ConnectionId, JobId

MOST = 1000  # items of one sample; a job shows that reading works, it moves no data
LEAST_EVERY_S, MOST_EVERY_S = 60.0, 30 * 86400.0


class Level(StrEnum):
    """How far a credential was tried, each further than the one before."""

    FORMAT = "format"  # its parts have the shape that the row asks for
    AUTH = "auth"  # a fresh login, as the pinned account
    READ = "read"  # one item of what the jobs read, before the switch
    JOB = "job"  # a whole job, after it


class JobState(StrEnum):
    """How a read ended. Only `ok` is evidence; only `failed` is a definite no."""

    NEVER = "never"
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"  # no clear answer: throttled, unreachable, outside the documented shape
    INTERRUPTED = "interrupted"  # the credential was replaced under it: it runs again


class Cause(StrEnum):
    """Why a job ran."""

    ADDED = "added"
    SCHEDULE = "schedule"
    DEMAND = "demand"
    AFTER_PAUSE = "after_pause"  # it was due while the connection was paused
    ROTATION = "rotation"  # the evidence of a run


@dataclass(frozen=True)
class Job:
    """A sample of at most `most` items of `what`, read through a connection.

    `due_at` in epoch seconds, None for a job on demand. `held_at`: due since then, but its connection does not serve.
    `state` is how it last ended.
    """

    id: JobId
    connection_id: ConnectionId
    name: str
    what: str
    most: int
    schedule: str
    after_rotation: bool
    due_at: float | None
    claimed_by: str
    claimed_until: float
    paused_at: float | None
    paused_by: str
    held_at: float | None
    state: JobState
    created_at: float
    created_by: str


@dataclass(frozen=True)
class Reading:
    """How one read ended: how many items (never more than asked for), how long it took, and in words why not.

    Nothing of what was read is in it. `wait_s` is how long the vendor told us to wait.
    """

    state: JobState
    count: int = 0
    seconds: float = 0.0
    code: str = ""
    detail: str = ""
    wait_s: float = 0.0

    def as_facts(self) -> dict[str, Any]:
        """What the journal keeps of it."""
        facts: dict[str, Any] = {
            "state": self.state.value,
            "count": self.count,
            "seconds": round(self.seconds, 3),
        }
        if self.code:
            facts["code"] = self.code
        if self.detail:
            facts["detail"] = self.detail
        return facts


@dataclass(frozen=True)
class JobResult:
    """One run of a job, with the version it used. `run_id` names the rotation it is evidence for; empty otherwise."""

    id: str
    job_id: JobId
    connection_id: ConnectionId
    version_id: str
    run_id: str
    cause: Cause
    reading: Reading
    began_at: float


# -- when ----------------------------------------------------------------------------------------------------------------

_EVERY = re.compile(r"every ([1-9][0-9]{0,5}) ?(m|min|h|d)")
_AT = re.compile(r"(daily|weekdays) at ([01]?[0-9]|2[0-3]):([0-5][0-9])")
_UNITS = {"m": 60, "min": 60, "h": 3600, "d": 86400}
_FORMS = "Use `every 15m`, `every 2h`, `daily at 06:30` or `weekdays at 06:30` (UTC)."


def read_schedule(text: str) -> str:
    """The schedule in its one spelling; empty for a job on demand. Raises: InvalidInput."""
    said = " ".join(text.lower().split())
    if not said:
        return ""
    every, at = _EVERY.fullmatch(said), _AT.fullmatch(said)
    if every:
        length = int(every[1]) * _UNITS[every[2]]
        if not LEAST_EVERY_S <= length <= MOST_EVERY_S:
            raise InvalidInput(
                "a job runs at most every minute and at least every 30 days", hint=_FORMS, field="schedule"
            )
        return f"every {every[1]}{every[2][0]}"
    if at:
        return f"{at[1]} at {int(at[2]):02d}:{at[3]}"
    raise InvalidInput("the schedule is not understood", hint=_FORMS, field="schedule")


def next_due(schedule: str, due_at: float | None, now: float) -> float | None:
    """The first time after `now`, in epoch seconds; times that were missed are not made up for. None: on demand.

    `every` counts on from `due_at`, so that a slow job does not drift; without one it counts from `now`.
    """
    every, at = _EVERY.fullmatch(schedule), _AT.fullmatch(schedule)
    if every:
        length = int(every[1]) * _UNITS[every[2]]
        begin = now if due_at is None or due_at > now else due_at
        return begin + length * (math.floor((now - begin) / length) + 1)
    if at:
        moment = datetime.fromtimestamp(now, UTC).replace(
            hour=int(at[2]), minute=int(at[3]), second=0, microsecond=0
        )
        while moment.timestamp() <= now or (at[1] == "weekdays" and moment.weekday() > 4):
            moment += timedelta(days=1)
        return moment.timestamp()
    return None
