"""What calls answer, as types: only what stands here leaves. Instants are ISO 8601 in UTC, durations seconds."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page of a list. `next` is there when more follows: it is the next call's `after`."""

    items: list[T]
    next: str | None = None


class Problem(BaseModel):
    """An error as `application/problem+json` (RFC 9457). Nothing the caller sent is repeated in it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    hint: str | None = None
    field: str | None = None
    run: str | None = None
    wait_s: float | None = None
    fields: list[dict[str, str]] | None = None


class Row(BaseModel):
    """A row: a system, and a way to authenticate to it."""

    system: str
    method: str
    direction: str
    strategy: str
    gap_class: str
    proof: str
    hands: str
    title: str
    summary: str
    ends_on: str
    variants: list[dict[str, Any]]


class SystemPage(BaseModel):
    """Everything a person needs to work with a system: fields, instructions, permissions, cards, sources."""

    system: str
    title: str
    summary: str
    docs: list[Any]
    methods: list[dict[str, Any]]


class ConnectionLine(BaseModel):
    """A connection in one line. `health` is what matters most about it now."""

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


class VersionPage(BaseModel):
    """A version without its value."""

    number: int
    state: str
    provenance: str
    ref: dict[str, Any]
    fingerprint: str
    changed: str | None
    born: str | None
    expires: str | None


class Consumer(BaseModel):
    """A program that was said to use a connection."""

    name: str
    kind: str
    ttl_s: float
    required: bool
    seen_generation: int
    seen: str | None


class ConnectionPage(BaseModel):
    """One connection: settings, identity, what serves, consumers, and the versions: the latest 30 and all that are not
    dead. Never a secret."""

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
    versions: list[VersionPage]
    consumers: list[Consumer]
    generation: int
    validation: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    used_by: list[Any]


class Tested(BaseModel):
    """What a fresh test saw. Only `accepted` means that it works and only `rejected` that it does not."""

    connection: str
    verdict: str
    identity: dict[str, Any] | None = None
    code: str | None = None
    detail: str | None = None
    locked: bool | None = None


class Checked(BaseModel):
    """What a test before saving saw. `negative_control`: whether a made-up credential is refused."""

    system: str
    method: str
    verdict: str
    identity: dict[str, Any]
    rights: list[str]
    negative_control: str
    detail: str


class Connected(ConnectionPage):
    """A new connection, with what its first test saw."""

    verdict: str
    negative_control: str


class Discovered(BaseModel):
    """Something the credential can see at the vendor."""

    name: str
    kind: str
    facts: dict[str, Any]


class Line(BaseModel):
    """A journal line. `hash` is over the line before it and everything it says."""

    connection_id: str
    number: int
    at: str | None
    run_id: str
    step: str
    kind: str
    facts: dict[str, Any]
    hash: str


class Trail(Page[Line]):
    """A page of the audit trail. `looked_back_to` is there when the search stopped before the page was full: nothing newer
    than that was left out."""

    looked_back_to: str | None = None


class History(BaseModel):
    """The latest journal lines of a connection, oldest first, and the versions they speak of or that are not dead."""

    versions: list[VersionPage]
    journal: list[Line]


class Plan(BaseModel):
    """Exactly what would happen. From the step `point_of_no_return` on it only rolls forward. `risk` tells of a moment in
    which no known credential may work; whoever starts it sends the words of `accept`. `digest` names this plan: a run
    that is started with it starts only while the plan is still this one."""

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


class RunLine(BaseModel):
    """A run in a list: how it stands, what serves, what is alive at the vendor, what to do next."""

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
    """A run with its frozen plan, the plan as a checklist, and its journal."""

    plan: dict[str, Any]
    steps: list[dict[str, Any]]
    lines: list[Line]


class Started(BaseModel):
    """What became of one connection of several: a run, a plan, or a problem that kept it from starting."""

    connection: str
    run: str | None = None
    plan: Plan | None = None
    problem: Problem | None = None


class Several(BaseModel):
    """One answer per connection, in the order asked."""

    items: list[Started]
    started: int
    failed: int


class Task(BaseModel):
    """What a person is asked to do. `result` is DONE, RETURNED or SUBMITTED once it was handed in."""

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


class Debt(BaseModel):
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


class Lease(BaseModel):
    """A leased credential. While `other` is there, try it once when `values` are refused."""

    id: str
    connection: str
    generation: int
    version: int
    values: dict[str, str]
    other: dict[str, str] | None
    not_after: str | None


class Extended(BaseModel):
    """A lease that goes on."""

    id: str
    ttl_s: float


class Holder(BaseModel):
    """Who holds a credential now."""

    id: str
    consumer: str
    version: int
    taken: str | None
    until: str | None


class IssuedSecret(BaseModel):
    """One secret of an issued credential, without its value. `starts`: null for one that was let in at once."""

    version: str
    slot: str
    hint: str
    state: str
    created: str | None
    starts: str | None
    ends: str | None
    first_used: str | None
    last_used: str | None
    last_used_from: str
    last_used_agent: str
    uses: int


class Issued(BaseModel):
    """An issued credential. `client_secret_expires_at`: of an OAuth client, in epoch seconds; 0 for never (RFC 7591)."""

    id: str
    name: str
    kind: str
    state: str
    owner: str
    client_id: str
    client_secret_expires_at: int | None
    settings: dict[str, Any]
    secrets: list[IssuedSecret]


class Keeper(BaseModel):
    """Somebody an issued credential was given to. `owed`: they have not confirmed the newest secret."""

    name: str
    contact: str
    place: str
    state: str
    owed: bool
    changed: str | None
    by: str


class CallerSeen(BaseModel):
    """Who called with which slot."""

    slot: str
    address: str
    agent: str
    first: str | None
    last: str | None
    uses: int


class WhereUsed(BaseModel):
    """Whom a change of an issued credential hits. `loads` still run with it; `findings` are what is odd about it."""

    name: str
    kind: str
    holders: list[Keeper]
    callers: list[CallerSeen]
    loads: list[str]
    findings: list[str]


class Grant(BaseModel):
    """What somebody allows an application."""

    id: str
    login: str
    scopes: list[str]
    since: str | None


class Handed(BaseModel):
    """A fresh credential. `value` is shown in this answer and not again."""

    name: str
    kind: str
    version: str
    slot: str
    client_id: str
    client_secret_expires_at: int | None
    value: str | None
    until: str | None
    run: str | None


class Ended(BaseModel):
    """An issued credential is refused from now on; `run` proves it, where there is one."""

    name: str
    run: str | None


class EndedOne(BaseModel):
    """One of many that were ended at once, or would be. `hits`: whom that cuts off; `error`: what a person must do."""

    name: str
    kind: str
    slots: list[str]
    hits: list[str]
    run: str | None
    error: str | None


class EndedMany(BaseModel):
    """What was ended at once; with `dry_run`, what would be."""

    dry_run: bool
    items: list[EndedOne]


class Definition(BaseModel):
    """A definition that is kept here, and who uses it."""

    hash: str
    name: str
    added_at: str | None
    connections: list[str]


class Finding(BaseModel):
    """One thing about a definition. `refuse` must be corrected."""

    level: str
    line: int
    field: str
    message: str
    fix: str


class Report(BaseModel):
    """Everything wrong with a definition at once."""

    usable: bool
    findings: list[Finding]


class Added(BaseModel):
    """A definition that was kept."""

    hash: str
    name: str
    new: bool


class Whole(BaseModel):
    """Whether every chain holds up to its head."""

    ok: bool
    broken: list[str]


class Verified(BaseModel):
    """What was found in an export."""

    ok: bool
    signed: bool
    connections: int
    lines: int
    broken: list[str]


class PublicKey(BaseModel):
    """The key that signs exports. Keep it elsewhere."""

    public_key: str


class Check(BaseModel):
    """One thing the hub stands on: ok, warn or fail."""

    name: str
    state: str
    said: str
    fix: str


class Doctor(BaseModel):
    """Everything the hub stands on."""

    ok: bool
    checks: list[Check]


class Backup(BaseModel):
    """A copy of the database, on the hub's machine."""

    file: str
    size_bytes: int
    made: str | None


class NewBackup(Backup):
    """A backup just made: it opens only with all of these master keys."""

    keys: list[str]
    connections: int


class MasterKey(BaseModel):
    """A master key that is loaded, and how many rows it wraps; the newest one seals."""

    id: str
    rows: int
    newest: bool


class Vault(BaseModel):
    """The master keys, newest first; `lost` are rows under keys that are not loaded, by key."""

    source: str
    keys: list[MasterKey]
    lost: dict[str, int]


class Rewrapped(BaseModel):
    """Which key is the newest now, and how many rows were wrapped anew."""

    key: str
    rows: int


class Today(BaseModel):
    """What needs somebody now, by how urgent it is: of each list the first 100; `counts` says by the list's name how many
    there are."""

    connections: int
    quiet: bool
    counts: dict[str, int]
    tasks: list[str]
    stuck: list[str]
    failed: list[str]
    expired: list[str]
    overdue: list[str]
    expiring: list[str]
    reauthorize: list[str]
    debts: list[str]
    running: list[str]


class Role(BaseModel):
    """A role; an empty project is the whole hub."""

    role: str
    project: str


class Token(BaseModel):
    """A token of a service identity, without its value."""

    id: str
    name: str
    scopes: list[str]
    hint: str
    created: str | None
    created_by: str
    ends: str | None
    ended: str | None
    used: str | None
    used_from: str


class Person(BaseModel):
    """An account: a person, or a service identity with its tokens."""

    id: str
    kind: str
    login: str
    name: str
    roles: list[Role]
    created: str | None
    disabled: str | None
    seen: str | None
    sessions: int
    tokens: list[Token]


class Invited(BaseModel):
    """A new person. `link` is shown in this answer and not again."""

    id: str
    login: str
    link: str


class NewToken(BaseModel):
    """A new token. `value` is shown in this answer and not again."""

    id: str
    name: str
    scopes: list[str]
    ends: str | None
    value: str


class Recipient(BaseModel):
    """Somebody who is told: the address of a webhook, or of a mailbox."""

    id: str
    kind: str
    name: str
    address: str
    topics: list[str]
    project: str
    created: str | None
    created_by: str
    paused: str | None


class NewRecipient(Recipient):
    """A new recipient. `secret` is what a webhook's deliveries are signed with; it is shown in this answer and not again."""

    secret: str | None


class TestMessage(BaseModel):
    """What came of a test message: whether it was taken, and the answer."""

    delivered: bool
    said: str


class Topic(BaseModel):
    """Something one can be told of."""

    topic: str
    says: str


class Delivery(BaseModel):
    """What became of telling somebody something: waiting, done or given up."""

    id: str
    notice: int
    topic: str
    state: str
    tries: int
    said: str
    created: str | None
    next_try: str | None
    ended: str | None


class Approval(BaseModel):
    """What waits for a second person: a run that has not begun, or an emergency to look at afterwards."""

    run: str
    connection: str
    project: str
    owner: str
    goal: str
    kind: str
    rule: str
    asked_by: str
    reason: str
    asked: str | None
    until: str | None


class JobResult(BaseModel):
    """How a job ended. Nothing of what was read is in it."""

    state: str
    count: int | None
    seconds: float
    code: str
    detail: str
    cause: str
    version: str
    run: str
    at: str | None


class Job(BaseModel):
    """A small read through a connection."""

    name: str
    id: str
    connection: str
    reads: str
    most: int
    schedule: str
    runs_after_rotation: bool
    state: str
    paused_by: str
    held: str
    last: dict[str, Any] | None
    due: str | None
    created: str | None
    created_by: str


class JobPage(Job):
    """A job with its latest results."""

    results: list[JobResult]


class Source(BaseModel):
    """Something that reads through a connection."""

    label: str
    project: str
    object: str
    name: str
    connection: str
    reads: str
    changed: str | None
    created_by: str


class ProjectObject(BaseModel):
    """An object of a project, with its sources."""

    name: str
    sources: list[Source]


class Project(BaseModel):
    """A project with its objects."""

    name: str
    objects: list[ProjectObject]
    created: str | None
    created_by: str
