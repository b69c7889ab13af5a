"""One function for each kind of step. Each first looks whether its work is already done; only then it acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keyturn.executor.context import Context
from keyturn.executor.moves import Move
from keyturn.executor.steps.bring import ask, consent
from keyturn.executor.steps.check import preflight, prove
from keyturn.executor.steps.death import prove_dead
from keyturn.executor.steps.handover import handover
from keyturn.executor.steps.jobs import run_jobs
from keyturn.executor.steps.make import issue, refresh, set_value
from keyturn.executor.steps.retire import disable, drain, revoke, soak, tell
from keyturn.executor.steps.switch import close, cutover, flip_back, remove
from keyturn.model.plan import Kind, Step

STEPS: Mapping[Kind, Callable[[Context, Step], Move]] = {
    Kind.PREFLIGHT: preflight,
    Kind.SET: set_value,
    Kind.ISSUE: issue,
    Kind.ASK: ask,
    Kind.CONSENT: consent,
    Kind.REFRESH: refresh,
    Kind.PROVE: prove,
    Kind.CUTOVER: cutover,
    Kind.JOBS: run_jobs,
    Kind.HANDOVER: handover,
    Kind.DRAIN: drain,
    Kind.DISABLE: disable,
    Kind.SOAK: soak,
    Kind.REVOKE: revoke,
    Kind.TELL: tell,
    Kind.PROVE_DEAD: prove_dead,
    Kind.REMOVE: remove,
    Kind.FLIP_BACK: flip_back,
    Kind.CLOSE: close,
}
