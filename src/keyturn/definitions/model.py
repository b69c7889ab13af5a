"""A definition, typed block by block. What `reader` makes and `lint`, `derive` and the interpreter use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.contract.manifest import GuideStep
from keyturn.definitions.expressions import Template
from keyturn.definitions.jsonpath import JsonPath
from keyturn.definitions.patterns import groups
from keyturn.model.card import Lockout

ABSENT: Any = object()

CLASSES = (
    "credential_invalid",
    "client_invalid",
    "reauth_required",
    "permission",
    "scope_missing",
    "plan",
    "not_found",
    "rate_limited",
    "transient",
    "validation",
    "unexpected_page",
    "unknown",
)
PHASES = (
    "test",
    "discover",
    "sample",
    "create",
    "set",
    "revoke",
    "token",
    "refresh",
    "authorize_callback",
    "login",
)


@dataclass(frozen=True)
class Input:
    """A setting of the connection that is not secret. `default` may be a template over other inputs."""

    name: str
    title: str
    help: str = ""
    example: str = ""
    pattern: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    default: Any = None
    default_template: Template | None = None
    required: bool = True
    source: str = ""


@dataclass(frozen=True)
class Part:
    """One part of the credential, or of the administrator's."""

    name: str
    title: str
    help: str = ""
    example: str = ""
    pattern: str = ""
    secret: bool = True
    required: bool = True
    trim: bool = False
    source: str = ""


@dataclass(frozen=True)
class RequestSpec:
    """A request as declared. `auth` False sends it unsigned; `signed_as` is an auth block of the request's own."""

    method: str
    path: Template | None = None
    url: Template | None = None
    query: tuple[tuple[str, Template], ...] = ()
    headers: tuple[tuple[str, Template], ...] = ()
    json: Any = ABSENT  # JSON with templates at its leaves
    form: tuple[tuple[str, Template], ...] | None = None
    auth: bool = True
    signed_as: Any = None
    safe: bool = False
    allow_secret_in_url: bool = False
    line: int = 0
    at: str = ""


@dataclass(frozen=True)
class JsonTest:
    """A condition on the JSON body; the keys that are given must all hold."""

    path: JsonPath
    equals: Any = ABSENT
    not_equals: Any = ABSENT
    contains: str = ""
    exists: bool | None = None


@dataclass(frozen=True)
class Condition:
    """What an answer must look like; everything given must hold."""

    status: tuple[int, ...] = ()
    status_from: int = 0
    status_to: int = 0
    json: JsonTest | None = None
    header: tuple[str, str] | None = None
    content_type_contains: str = ""
    text_contains: str = ""
    phase: str = ""
    network: str = ""


@dataclass(frozen=True)
class Wait:
    """Where an answer says how long to wait, and in which of the five dialects."""

    unit: str  # seconds | ms | unix | iso | http_date
    header: str = ""
    json: JsonPath | None = None


@dataclass(frozen=True)
class ErrorRule:
    """First match wins."""

    when: Condition
    kind: str
    wait: Wait | None = None
    message: str = ""
    hint: str = ""
    line: int = 0


@dataclass(frozen=True)
class Extract:
    """Where a value comes from in an answer: exactly one of the sources is given."""

    json: JsonPath | None = None
    header: str = ""
    status: bool = False
    text_regex: str = ""
    value: Template | None = None
    cardinality: str = "one"  # one | optional | many
    type: str = ""  # "" | string | int
    split: str = ""  # one text that lists many, such as OAuth's scope


@dataclass(frozen=True)
class Placement:
    """Where one piece of the credential travels."""

    where: str  # header | query | cookie | form | json
    name: str
    format: Template


@dataclass(frozen=True)
class Identity:
    """Who answered. `reason` is given where the vendor tells nobody."""

    principal: Extract | None = None
    principal_label: Extract | None = None
    tenant: Extract | None = None
    rights: Extract | None = None
    reason: str = ""


@dataclass(frozen=True)
class TestBlock:
    """The harmless call that proves a credential."""

    request: RequestSpec
    success: tuple[Condition, ...]
    identity: Identity
    negative_control: bool
    negative_reason: str = ""
    line: int = 0

    __test__ = False  # pytest collects names that start with Test


@dataclass(frozen=True)
class Pagination:
    """How a list goes on: none, link_header, cursor, page or next_url_in_body."""

    kind: str = "none"
    response_path: JsonPath | None = None
    param: str = ""
    start: int = 1
    max_pages: int = 20


@dataclass(frozen=True)
class Discover:
    """How the vendor's inventory is listed."""

    request: RequestSpec
    items: JsonPath
    id: JsonPath
    pagination: Pagination = field(default_factory=Pagination)
    label: JsonPath | None = None
    created: JsonPath | None = None
    last_used: JsonPath | None = None
    expires: JsonPath | None = None
    mask: JsonPath | None = None
    active: JsonPath | None = None


@dataclass(frozen=True)
class Named:
    """What a job may name: `pattern`, whose groups are `${sample.GROUP}` in the request; `form` says it to people."""

    form: str
    pattern: str
    example: str


@dataclass(frozen=True)
class SampleRead:
    """One list that jobs may read a piece of. `limit_param` names the query parameter that bounds a page; `most` is the
    vendor's largest page; `unlimited` where it is known to have no such parameter.

    With `named` a job says which one. `success` must hold before anything is counted; `absent_is_empty` where the
    vendor leaves an empty list out.
    """

    name: str
    title: str
    request: RequestSpec
    items: JsonPath
    limit_param: str = ""
    unlimited: bool = False
    most: int = 100
    named: Named | None = None
    help: str = ""
    success: tuple[Condition, ...] = ()
    absent_is_empty: bool = False
    line: int = 0

    def parts(self) -> frozenset[str]:
        """The names that stand behind `${sample.}` in the request."""
        return frozenset({"limit", *(groups(self.named.pattern) if self.named is not None else ())})


@dataclass(frozen=True)
class Generate:
    """How `set_value` makes a value."""

    part: str
    length: int = 32
    alphabet: str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
    min_classes: int = 3


@dataclass(frozen=True)
class Create:
    """The call that makes, regenerates or sets a value."""

    request: RequestSpec
    success: tuple[Condition, ...]
    extract: Mapping[str, Extract] = field(default_factory=dict)
    handle: str = ""
    marker_field: str = ""
    once_only: bool = True
    recover: str = "none"
    cap_reached: tuple[Condition, ...] = ()
    line: int = 0


@dataclass(frozen=True)
class Revoke:
    """The call that ends a credential."""

    request: RequestSpec
    success: tuple[Condition, ...]
    already_gone: tuple[int, ...] = (404, 410)
    actor: str = "pending"
    line: int = 0


@dataclass(frozen=True)
class DeadCheck:
    """How death is proven."""

    expect: str = "credential_invalid"
    also: tuple[str, ...] = ()
    every_s: float = 10.0
    for_s: float = 600.0
    line: int = 0


@dataclass(frozen=True)
class Rotation:
    """The lifecycle."""

    mode: str  # create_then_revoke | in_place | set_value | reconsent | manual
    actor: str = "current"
    create: Create | None = None
    generate: Generate | None = None
    revoke: Revoke | None = None
    dead_check: DeadCheck | None = None
    settle_create_s: float = 120.0
    settle_revoke_s: float = 120.0
    consecutive: int = 1
    compare: Mapping[str, str] = field(default_factory=dict)
    overlap_min_s: float = 0.0
    overlap_max_s: float = 0.0
    line: int = 0


@dataclass(frozen=True)
class Manual:
    """What a person does where no call is declared."""

    effect: str = "unknown"  # old_dies_immediately | overlap | unknown
    requires_pause: bool = False
    create_steps: tuple[GuideStep, ...] = ()
    revoke_steps: tuple[GuideStep, ...] = ()
    recovery_steps: tuple[GuideStep, ...] = ()
    paste_fields: tuple[str, ...] = ()
    confirm_question: str = ""
    line: int = 0


@dataclass(frozen=True)
class Definition:
    """One `rest-credential/v1` document. `hash` covers its whole content; `lines` serve the lint."""

    id: str
    title: str
    revision: int
    docs: str
    inputs: tuple[Input, ...]
    hosts: tuple[str, ...]
    base_url: Template
    parts: tuple[Part, ...]
    admin_parts: tuple[Part, ...]
    auth: Any  # one of definitions.auth's blocks
    test: TestBlock
    errors: tuple[ErrorRule, ...] = ()
    discover: Discover | None = None
    samples: tuple[SampleRead, ...] = ()
    rotation: Rotation = field(default_factory=lambda: Rotation("manual"))
    manual: Manual | None = None
    max_active: int = 0  # 0: no limit told
    overlap: bool = True
    policy_days: int = 0
    expiry_told: bool = False
    lockout: Lockout | None = None
    old_counts: bool = False
    reviewable: bool = False
    headers: tuple[tuple[str, Template], ...] = ()
    timeout_s: float = 15.0
    max_bytes: int = 262_144
    env: tuple[tuple[str, str], ...] = ()
    principal: tuple[str, ...] = ()
    hash: str = ""
    where: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def line(self, key: str) -> int:
        """The line of a top-level block; 1 when it is absent."""
        return self.lines.get(key, 1)

    def secret_names(self) -> frozenset[str]:
        """The parts that are secret, the administrator's and the OAuth tokens included."""
        own = {p.name for p in (*self.parts, *self.admin_parts) if p.secret}
        return frozenset(own | {"access_token", "refresh_token"})
