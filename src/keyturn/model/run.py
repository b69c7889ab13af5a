"""Runs and what they leave: states, tasks, debts, journal lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keyturn.model.ids import ConnectionId, DebtId, PrincipalId, RunId, TaskId, VersionId
from keyturn.model.plan import Goal, Plan


class RunState(StrEnum):
    """Where a run stands. The last group is terminal."""

    WAITING_APPROVAL = "waiting_approval"  # frozen; nothing begins before a second person approves
    QUEUED = "queued"
    RUNNING = "running"
    RESOLVING = "resolving"  # a call's outcome is unknown: observing until certain
    WAITING = "waiting"  # for a time: settle, drain, soak, retry
    WAITING_HUMAN = "waiting_human"
    BLOCKED = "blocked"  # cannot go on; the old credential still works
    LOST = (
        "lost"  # no known credential works: every sealed candidate and the vendor's recovery steps are shown
    )
    COMPLETE = "complete"
    COMPLETE_WITH_DEBT = "complete_with_debt"
    ABORTED_CLEAN = "aborted_clean"
    ABORTED_WITH_DEBT = "aborted_with_debt"


TERMINAL = frozenset(
    {RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT, RunState.ABORTED_CLEAN, RunState.ABORTED_WITH_DEBT}
)


class Track(StrEnum):
    """Which list of steps a run follows."""

    FORWARD = "forward"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Run:
    """One execution of a frozen plan. `cursor` indexes the steps of its track; a crash resumes there."""

    id: RunId
    connection_id: ConnectionId
    principal_id: PrincipalId
    goal: Goal
    trigger: str
    reason: str
    plan: Plan
    state: RunState
    track: Track
    cursor: int
    due_at: float
    waiting_for: str
    old_version_id: VersionId | None
    new_version_id: VersionId | None
    attempts: int
    proof: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    outcome: str


class LineKind(StrEnum):
    """What a journal line records."""

    INTENT = "INTENT"  # about to change something at the vendor
    RECEIPT = "RECEIPT"  # the vendor's answer is sealed
    OUTCOME = "OUTCOME"  # applied, not_applied or unknown
    OBSERVED = "OBSERVED"  # something was looked at
    DECISION = "DECISION"  # something was decided, by the hub or a named person


class Outcome(StrEnum):
    """What is known of a call that changes something."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Line:
    """One journal line of a connection's hash chain; `facts` never hold a secret."""

    connection_id: str
    number: int
    at: float
    run_id: str
    step: str
    kind: LineKind
    epoch: int
    facts: Mapping[str, Any]
    hash: str


class TaskState(StrEnum):
    """A person's step, as far as it got."""

    OPEN = "open"
    CLAIMED = "claimed"
    SUBMITTED = "submitted"  # sealed; the machine check follows
    RETURNED = "returned"  # checked and not accepted; `why` says the class of reason
    DONE = "done"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Task:
    """What a person is asked to do: instructions as data, write-only fields, then a machine check."""

    id: TaskId
    run_id: RunId
    connection_id: ConnectionId
    step: str
    kind: str
    state: TaskState
    title: str
    instructions: tuple[Mapping[str, Any], ...]
    fields: tuple[Mapping[str, Any], ...]
    claimed_by: str
    claimed_until: float
    why: str
    created_at: float
    due_at: float
    lookup: str = ""  # keyed fingerprint of a consent's state, by which the callback finds it


@dataclass(frozen=True)
class Debt:
    """Something left alive or unproven, with all that is needed to finish it. Never closed by itself alone."""

    id: DebtId
    connection_id: ConnectionId
    version_id: VersionId | None
    run_id: RunId
    kind: str
    why: str
    facts: Mapping[str, Any]
    owner: str
    tries: int
    next_try_at: float
    created_at: float
    closed_at: float | None
    closed_by: str
    closed_why: str
