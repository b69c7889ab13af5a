"""One Snowflake account in memory: who exists, what opens it, who is in. Holds facts; the rules live beside it.

Every change happens under `Account.lock`, so a repeated request id can wait for the first one's answer.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyturn_lab.quirks import Quirks

from .keys import SlotKey
from .wire import Json

SESSION_LIFE = timedelta(seconds=3600)
MASTER_LIFE = timedelta(seconds=14400)

# A role and the roles it inherits; every role also has PUBLIC.
# Source: docs.snowflake.com user-guide/security-access-control-overview.
_INHERITS = {
    "ACCOUNTADMIN": {"ACCOUNTADMIN", "SECURITYADMIN", "USERADMIN", "SYSADMIN"},
    "SECURITYADMIN": {"SECURITYADMIN", "USERADMIN"},
}


@dataclass
class Settings:
    """Switches for everything the vendor leaves undocumented, and for who may do what."""

    account: str = "TESTACCT"
    self_keys: bool = False
    """A user may set its own RSA keys (MODIFY PROGRAMMATIC AUTHENTICATION METHODS on itself)."""
    binds_in_alter: bool = False
    """`?` is accepted outside SELECT; nobody knows about the real service, so the safe answer is no."""
    strict_basic_encoding: bool = True
    """OAuth client id and secret must be form-encoded inside HTTP Basic."""
    invalid_client_status: int = 400
    login_history_delay_s: float = 0.0
    clock_skew_s: float = 0.0
    """How far the vendor's clock runs ahead of the client's when a key-pair token is judged."""
    password_history: int = 5
    lock_after_failures: int = 5
    lock_minutes: float = 15.0
    access_token_s: int = 600


@dataclass
class Pat:
    """A programmatic access token. `is_off` stays set when the user is enabled again."""

    name: str
    secret: str
    expires_at: datetime
    created_on: datetime
    created_by: str
    role_restriction: str | None = None
    comment: str | None = None
    is_off: bool = False
    rotated_to: str | None = None
    bypass_minutes: int | None = None


@dataclass(frozen=True)
class Ended:
    """A key or password that was replaced or unset; the lab's `linger_s` decides how long it still opens."""

    value: SlotKey | str
    at: datetime


@dataclass
class User:
    name: str
    login_name: str
    created_on: datetime
    type: str | None = None  # None is a PERSON, as on the real account
    owner: str = "ACCOUNTADMIN"
    password: str | None = None
    past_passwords: list[str] = field(default_factory=list)
    password_set_at: datetime | None = None
    must_change_password: bool = False
    change_ticket: str | None = None  # given for a right but expired password
    password_alone: str | None = None  # None lets it in; else `mfa` or `policy` turns it away
    disabled: bool = False
    keys: dict[str, SlotKey] = field(default_factory=dict)
    pats: dict[str, Pat] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)
    default_role: str = "PUBLIC"
    network_policy: str | None = None
    texts: dict[str, str] = field(default_factory=dict)  # COMMENT, EMAIL, DEFAULT_WAREHOUSE ...
    key_manager_roles: set[str] = field(default_factory=set)
    ended: list[Ended] = field(default_factory=list)
    bad_passwords: int = 0
    locked_until: datetime | None = None
    last_success_login: datetime | None = None

    @property
    def is_service(self) -> bool:
        return self.type in ("SERVICE", "SERVICE_AGENT")


@dataclass
class Integration:
    """A `TYPE=OAUTH` security integration with its two client secrets, both valid at once."""

    name: str
    client_id: str
    secrets: list[str]
    created_on: datetime
    owner: str = "ACCOUNTADMIN"
    enabled: bool = True
    properties: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # secrets a client has shown; the others nobody was given


@dataclass
class Grant:
    """What the token endpoint gave out: an access or a refresh token, or a code, of one user's consent."""

    kind: str
    user: str
    integration: str
    role: str
    expires_at: datetime
    facts: Json = field(default_factory=dict)


@dataclass
class Session:
    id: int
    user: str
    role: str
    token: str
    master: str
    token_until: datetime
    master_until: datetime
    factor: str
    integration: str | None = None
    pat: str | None = None
    closed_reason: str | None = None
    poses_as: str | None = None  # the lab pretending to be a confused vendor
    answers: dict[str, Json] = field(default_factory=dict)


@dataclass
class LoginEvent:
    id: int
    at: datetime
    user: str
    client_ip: str
    client_type: str
    client_version: str
    factor: str
    code: str | None
    symbol: str | None
    failure_id: str
    integration: str | None = None


@dataclass
class NetworkPolicy:
    name: str
    created_on: datetime
    allowed: list[str]
    blocked: list[str]


class Account:
    """All of it. `now` is the lab's clock, `mint` the lab's maker of marked secrets.

    `quirks` says how long a new key or password is unknown and an ended one lingers. The vendor documents no delay,
    so both are zero until a test turns the dial.
    """

    def __init__(self, now: Callable[[], datetime], mint: Callable[[str], str], quirks: Quirks) -> None:
        self.now = now
        self.mint = mint
        self.quirks = quirks
        self.lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        self.settings = Settings()
        self.users: dict[str, User] = {}
        self.integrations: dict[str, Integration] = {}
        self.grants: dict[str, Grant] = {}
        self.consents: set[tuple[str, str, str]] = set()  # user, integration, role
        self.sessions: list[Session] = []
        self.logins: list[LoginEvent] = []
        self.policies: dict[str, NetworkPolicy] = {}
        self.account_policy: str | None = None
        self.effects: list[str] = []  # names of the statements that ran: the oracle for "ran once"
        self.outages: list[Json] = []
        self._numbers = itertools.count(1001)

    def next_number(self) -> int:
        return next(self._numbers)

    def by_login(self, login_name: str) -> User | None:
        """Logins are looked up by LOGIN_NAME, in any case; SQL uses NAME."""
        wanted = login_name.upper()
        return next((u for u in self.users.values() if u.login_name.upper() == wanted), None)

    def set_key(self, user: User, slot: str, key: SlotKey | None) -> None:
        """Fills or empties a slot; what it held before has ended."""
        if slot in user.keys:
            user.ended.append(Ended(user.keys.pop(slot), self.now()))
        if key is not None:
            user.keys[slot] = key

    def set_password(self, user: User, password: str | None) -> None:
        if user.password is not None:
            user.past_passwords.append(user.password)
            user.ended.append(Ended(user.password, self.now()))
        user.password, user.password_set_at = password, self.now() if password else None

    def open_keys(self, user: User) -> list[SlotKey]:
        """The keys a login succeeds with now, which is not always what DESC USER shows."""
        known = [key for key in user.keys.values() if self._is_known(key.set_at)]
        return known + [value for value in self._lingering(user) if isinstance(value, SlotKey)]

    def open_passwords(self, user: User) -> list[str]:
        if user.is_service:  # no password door at all, even when a password is left from before
            return []
        set_at = user.password_set_at or user.created_on
        known = [user.password] if user.password is not None and self._is_known(set_at) else []
        return known + [value for value in self._lingering(user) if isinstance(value, str)]

    def _is_known(self, set_at: datetime) -> bool:
        return self.quirks.known_from(set_at.timestamp()) <= self.now().timestamp()

    def _lingering(self, user: User) -> list[SlotKey | str]:
        now = self.now().timestamp()
        return [each.value for each in user.ended if self.quirks.dead_from(each.at.timestamp()) > now]

    def may_take(self, user: User, role: str) -> bool:
        """Whether a user may work as a role: its own, or one those inherit."""
        return any(self.holds_role(held, role) for held in {user.default_role, *user.roles})

    def holds_role(self, role: str, wanted: str) -> bool:
        return wanted == "PUBLIC" or wanted in _INHERITS.get(role, {role})

    def open_session(
        self, user: User, role: str, factor: str, *, integration: str | None, pat: str | None
    ) -> Session:
        now = self.now()
        session = Session(
            id=self.next_number(),
            user=user.name,
            role=role,
            token=self.mint("session"),
            master=self.mint("master"),
            token_until=now + SESSION_LIFE,
            master_until=now + MASTER_LIFE,
            factor=factor,
            integration=integration,
            pat=pat,
        )
        self.sessions.append(session)
        return session

    def session_by(self, token: str) -> Session | None:
        return next((s for s in self.sessions if token == s.token), None)

    def session_by_master(self, token: str) -> Session | None:
        return next((s for s in self.sessions if token == s.master), None)

    def close_sessions(self, reason: str, **match: str) -> None:
        """Ends the sessions whose fields equal `match`; a password or key change never calls this.

        Source: docs.snowflake.com sql-reference/account-usage/sessions (close reasons).
        """
        for session in self.sessions:
            if session.closed_reason is None and all(getattr(session, k) == v for k, v in match.items()):
                session.closed_reason = reason

    def drop_consent(self, user: str, integration: str) -> None:
        """Removes a user's consent, its tokens and the sessions they opened."""
        self.consents = {c for c in self.consents if c[:2] != (user, integration)}
        self.grants = {
            token: grant
            for token, grant in self.grants.items()
            if (grant.user, grant.integration) != (user, integration)
        }
        self.close_sessions("OAUTH_CONSENT_REVOKED", user=user, integration=integration)
