"""What the calls answer, as types. A test holds them against the shapes that the API answers with."""

from __future__ import annotations

from typing import Any, Generic, NotRequired, TypedDict, TypeVar

T = TypeVar("T")


class Page(TypedDict, Generic[T]):
    """A page of a list; with `next`, more follows."""

    items: list[T]
    next: NotRequired[str]


class Connection(TypedDict):
    """A connection in one line."""

    id: str
    name: str
    system: str
    method: str
    state: str
    health: str
    owner: str
    project: str
    version: int | None
    since: str | None
    due: str | None
    expires: str | None
    alive: list[str]
    serving: str
    generation: int
    created_at: str | None
    run: str
    goal: str
    run_state: str
    debts: int
    tasks: int
    jobs: int
    failing_jobs: int


class ConnectionPage(TypedDict):
    """One connection. Never a secret."""

    name: str
    id: str
    system: str
    method: str
    title: str
    state: str
    project: str
    owner: str
    version: int | None
    since: str | None
    due: str | None
    expires: str | None
    alive: list[str]
    serving: str
    strategy: str
    gap_class: str
    proof: str
    hands: str
    identity: dict[str, Any]
    settings: dict[str, Any]
    policy: dict[str, Any]
    definition: str
    created: str | None
    versions: list[dict[str, Any]]
    consumers: list[dict[str, Any]]
    generation: int
    validation: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    used_by: list[Any]


class Tested(TypedDict):
    """What a fresh test saw: `accepted`, `rejected`, or `unknown`."""

    connection: str
    verdict: str
    identity: NotRequired[dict[str, Any] | None]
    code: NotRequired[str | None]
    detail: NotRequired[str | None]
    locked: NotRequired[bool | None]


class Plan(TypedDict):
    """Exactly what would happen. A run started with `digest` starts only while this is still the plan."""

    connection: str
    goal: str
    system: str
    method: str
    strategy: str
    gap_class: str
    proof: str
    steps: list[dict[str, Any]]
    rollback: list[dict[str, Any]]
    warnings: list[str]
    target_slot: str
    used_by: list[Any]
    risk: str
    accept: str
    point_of_no_return: int
    approval: str
    digest: str


class RunLine(TypedDict):
    """A run in a list."""

    id: str
    connection: str
    connection_id: str
    goal: str
    state: str
    ended: bool
    track: str
    cursor: int
    proof: str
    strategy: str
    gap_class: str
    seconds: float
    waiting_for: str
    outcome: str
    reason: str
    attempts: int
    due_at: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    serving: str
    alive: list[str]
    tasks: list[dict[str, Any]]
    debts: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    gap: dict[str, Any] | None
    next: str


class Run(RunLine):
    """A run with its plan and journal."""

    plan: dict[str, Any]
    steps: list[dict[str, Any]]
    lines: list[dict[str, Any]]


class Started(TypedDict):
    """What became of one connection of several."""

    connection: str
    run: NotRequired[str | None]
    plan: NotRequired[Plan | None]
    problem: NotRequired[dict[str, Any] | None]


class Task(TypedDict):
    """What a person is asked to do."""

    id: str
    connection: str
    run: str
    kind: str
    state: str
    title: str
    why: str
    instructions: list[dict[str, Any]]
    fields: list[dict[str, Any]]
    claimed_by: str
    claimed_until: str | None
    created: str | None
    due: str | None
    owner: str
    project: str
    result: str
    said: str


class Debt(TypedDict):
    """Something left alive or unproven."""

    id: str
    connection: str
    run: str
    kind: str
    why: str
    facts: dict[str, Any]
    owner: str
    tries: int
    created: str | None
    next_try: str | None
    closed: str | None
    closed_by: str
    closed_why: str


class Lease(TypedDict):
    """A leased credential. While `other` is there, try it once when `values` are refused."""

    id: str
    connection: str
    generation: int
    version: int
    values: dict[str, str]
    other: dict[str, str] | None
    not_after: str | None
