"""How a credential travels: the typed auth blocks of a definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from keyturn.definitions.expressions import Reference, Template
from keyturn.definitions.jsonpath import JsonPath
from keyturn.definitions.model import Condition, ErrorRule, Extract, Placement, RequestSpec


@dataclass(frozen=True)
class NoAuth:
    """Nothing is sent."""

    kind: str = "none"


@dataclass(frozen=True)
class Placed:
    """The parts go where `place` says: api_key, and bearer as its commonest case."""

    kind: str
    place: tuple[Placement, ...]
    allow_secret_in_url: bool = False


@dataclass(frozen=True)
class Basic:
    """User and password in one header."""

    username: Template
    password: Template
    encoding: str = "utf-8"
    kind: str = "basic"


@dataclass(frozen=True)
class Login:
    """A first call trades the parts for a session token."""

    request: RequestSpec
    token: Extract
    place: tuple[Placement, ...]
    ttl_s: float = 3600.0
    kind: str = "login"


@dataclass(frozen=True)
class TokenAnswer:
    """Where a token answer keeps its values, and in which unit it counts."""

    access_token: JsonPath
    refresh_token: JsonPath
    expires_in: JsonPath
    expires_unit: str
    scope: JsonPath
    expires_at: JsonPath | None = None
    expires_at_format: str = "unix"


@dataclass(frozen=True)
class Refresh:
    """How the vendor's refresh tokens live."""

    url: Template | None = None
    params: tuple[tuple[str, Template], ...] = ()
    rotates: str = ""  # always | sometimes | never; empty: not told
    keep_old_if_absent: bool = True
    reuse_leeway_s: float = 0.0
    idle_days: float = 0.0
    absolute_days: float = 0.0
    before_test: bool = False  # a refresh changes nothing, so the test is signed with a token fresh from one


@dataclass(frozen=True)
class Granted:
    """The resource (site, tenant) inside a grant that this connection means."""

    request: RequestSpec
    list: JsonPath
    id: JsonPath
    label: JsonPath | None = None
    rights: JsonPath | None = None
    where: Condition | None = None
    chosen_by: str = ""  # the input that names the id or label when there are several


@dataclass(frozen=True)
class TokenRevoke:
    """RFC 7009, or what a vendor calls so."""

    url: Template
    token: str = "refresh_token"  # noqa: S105 - the part's name


@dataclass(frozen=True)
class OAuth:
    """Client credentials (`oauth2_cc`) or authorization code (`oauth2_code`)."""

    kind: str
    token_url: Template
    client_id: Template
    client_secret: Template
    client_auth: str
    body_format: str
    response: TokenAnswer
    params: tuple[tuple[str, Template], ...] = ()
    headers: tuple[tuple[str, Template], ...] = ()
    scope: tuple[str, ...] = ()
    scope_separator: str = " "
    default_ttl_s: float = 3600.0
    expiry_skew_s: float = 0.0
    errors: tuple[ErrorRule, ...] = ()
    authorize_url: Template | None = None
    authorize_params: tuple[tuple[str, Template], ...] = ()
    pkce: str = "S256"
    verify_iss: str = ""
    refresh: Refresh = field(default_factory=Refresh)
    granted: Granted | None = None
    revoke: TokenRevoke | None = None
    grant_shared: bool = False
    place: tuple[Placement, ...] = ()

    def own_client(self) -> bool:
        """Whether the client is the credential itself, so that its refusal is the credential's."""
        return any(r.scope == "secret" for r in self.client_references())

    def client_references(self) -> Iterator[Reference]:
        """The expressions that name the client."""
        yield from self.client_id.references()
        yield from self.client_secret.references()


Auth = NoAuth | Placed | Basic | Login | OAuth
