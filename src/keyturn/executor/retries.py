"""When to try again: quick at first, then a ladder of hours, always with jitter, never silently for ever."""

from __future__ import annotations

import random

from keyturn.executor.context import Context
from keyturn.executor.moves import Wait
from keyturn.model.run import RunState

LADDER_S = (1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0)
BLOCKED_AFTER = len(LADDER_S)


def pause_s(attempts: int, patience: float, wanted_s: float = 0.0) -> float:
    """Seconds until the next try; at least what the vendor asked for."""
    step = LADDER_S[min(attempts, len(LADDER_S) - 1)] * patience
    return max(wanted_s, step * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret


def soon(ctx: Context, why: str, wanted_s: float = 0.0, state: RunState = RunState.WAITING) -> Wait:
    """A wait on the ladder; after its last rung the run shows as blocked and still goes on trying."""
    attempts = ctx.attempts
    ctx.column(attempts=attempts + 1)
    if attempts >= BLOCKED_AFTER:
        state = RunState.BLOCKED
    return Wait(ctx.hub.clock() + pause_s(attempts, ctx.hub.patience, wanted_s), why, state)
