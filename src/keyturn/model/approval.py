"""Which plans need a second person, and what such a person is asked. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

from keyturn.errors import InvalidInput
from keyturn.model.card import Strategy
from keyturn.model.ids import ConnectionId, RunId
from keyturn.model.plan import Goal, Plan


class ApprovalState(StrEnum):
    """Where a question to a second person stands. The first two are open."""

    WAITING = "waiting"  # the run does not begin before somebody approves
    REVIEW = "review"  # it began as an emergency; somebody still has to look at it
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"  # cancelled, or begun as an emergency instead
    REVIEWED = "reviewed"
    OBJECTED = "objected"  # looked at, and it should not have been an emergency


@dataclass(frozen=True)
class Approval:
    """A question to a second person about one run. `why` says which rule asks; `asked_why` what the requester gave as
    reason; `generation` and `seen` (a digest) tell the connection and its plan as they were when it was frozen; `ends_at` None: an emergency's review, which
    waits until somebody looks.
    """

    run_id: RunId
    connection_id: ConnectionId
    goal: Goal
    state: ApprovalState
    why: str
    asked_by: str
    asked_from: str
    asked_why: str
    asked_at: float
    generation: int
    seen: str
    ends_at: float | None
    decided_by: str
    decided_from: str
    decided_why: str
    decided_at: float | None


class Mode(StrEnum):
    """When this hub's own rules count."""

    WITH_ACCOUNTS = "with_accounts"  # from the first account on: before that there is no second person
    ON = "on"
    OFF = "off"


@dataclass(frozen=True)
class Rules:
    """The hub's own rules. `goals` empty: the usual ones, see `why_needed`."""

    mode: Mode = Mode.WITH_ACCOUNTS
    goals: frozenset[Goal] = frozenset()

    @classmethod
    def read(cls, text: str) -> Rules:
        """`on`, `off`, empty, or goals with commas between them. Raises: InvalidInput."""
        said = text.strip().lower()
        if not said:
            return cls()
        if said in {Mode.ON.value, Mode.OFF.value}:
            return cls(Mode(said))
        return cls(
            Mode.ON, frozenset(read_goals([each.strip() for each in said.split(",")], "KEYTURN_APPROVALS"))
        )


def read_goals(names: Collection[object], field: str) -> tuple[Goal, ...]:
    """Goals by name, each once, in the order of `Goal`; a refresh waits for nobody. Raises: InvalidInput."""
    known = {
        goal.value: goal for goal in Goal if goal is not Goal.REFRESH
    }  # tokens end, whoever is on holiday
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"{field} must name goals that can wait: {name} is none",
                hint=f"Goals: {', '.join(known)}.",
                field=field,
            )
    return tuple(goal for name, goal in known.items() if name in names)


def why_needed(
    rules: Rules,
    policy: Collection[str],
    goal: Goal,
    plan: Plan | None,
    *,
    many: int,
    has_accounts: Callable[[], bool],
) -> str:
    """Which rule asks a second person before this plan is carried out; empty when none does.

    `policy` are the goals that the connection's own policy names, `many` is how many connections were asked for at
    once. Without another choice of the hub: revoke, migrate, a disconnect that deletes the account at the vendor, and
    an emergency that replaces the credentials of several connections.
    """
    if rules.mode is Mode.OFF:
        return ""
    if goal is Goal.REVOKE and plan is not None and plan.strategy is Strategy.ISSUED:
        return ""  # this hub has closed the door already; the run only proves it
    if goal.value in policy:
        return "the connection's policy asks for it"
    needed = _by_the_hub(rules, goal, plan, many)
    return "" if needed and rules.mode is Mode.WITH_ACCOUNTS and not has_accounts() else needed


def _by_the_hub(rules: Rules, goal: Goal, plan: Plan | None, many: int) -> str:
    if rules.goals:
        return f"this hub asks for it before every {goal.value}" if goal in rules.goals else ""
    if goal is Goal.REVOKE:
        return "it ends the authorization"
    if goal is Goal.MIGRATE:
        return "it changes how the connection authenticates"
    if (
        goal is Goal.DISCONNECT
        and plan is not None
        and any(step.target == "principal" for step in plan.steps)
    ):
        return "it deletes the account at the vendor"
    if goal is Goal.CONTAIN and many > 1:
        return f"it replaces the credentials of {many} connections at once"
    return ""
