"""What Atlassian remembers: accounts, sites, apps, grants and token families; no HTTP.

One grant exists per app and account, and every consent starts a new token family under it.
Source: https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens/ (checked 2026-11-23).
"""

import base64
import itertools
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

DAY_S = 86_400.0
OFFLINE = "offline_access"
SCOPES = frozenset(
    {"read:jira-work", "read:jira-user", "write:jira-work", "read:me", "read:confluence-content.summary"}
)
_SEED_IDS = UUID("6f1c9f5e-8a0e-4b59-9d0e-3d1c0c3f7a10")


@dataclass
class Settings:
    """What a test may change. Where Atlassian is silent, the default is the case that is harder to handle."""

    leeway_s: float = 600.0
    idle_s: float = 90 * DAY_S
    absolute_s: float = 365 * DAY_S
    access_life_s: float = 3600.0
    code_life_s: float = 300.0
    refusal: str = "invalid_grant"  # or unauthorized_client: both are seen for the same dead refresh token
    omit_refresh_token: bool = False
    refresh_unavailable: int = 0  # how many more refreshes answer 503
    consent_ends_earlier: bool = False
    reuse_kills_family: bool = False
    revoke_effect: str = "none"  # or family, grant
    hide_email: bool = False
    permission_denied: bool = False
    app_access_blocked: bool = False


@dataclass
class Account:
    account_id: str
    email: str
    name: str
    is_admin: bool = False
    password: str = guard.DEMO_PASSWORD
    sites: list[str] = field(default_factory=list)


@dataclass
class Site:
    cloud_id: str
    name: str
    products: tuple[str, ...] = ("jira",)


@dataclass
class App:
    """An app of the developer console. `one_site`: each consent picks a site; otherwise all sites are granted."""

    client_id: str
    client_secret: str
    name: str
    callback: str
    creator: str
    scopes: list[str] = field(default_factory=lambda: sorted(SCOPES))
    one_site: bool = True
    is_shared: bool = True


@dataclass
class Grant:
    """What one account lets one app do; approving a further site adds to it."""

    client_id: str
    account: Account
    sites: set[str] = field(default_factory=set)
    scopes: set[str] = field(default_factory=set)


@dataclass
class Token:
    """An access or refresh token. `retired_at`: when a refresh token was used, after which only leeway is left."""

    id: int
    value: str
    life: Lifespan
    retired_at: float | None = None


@dataclass
class Family:
    """All tokens that descend from one consent."""

    id: int
    grant: Grant
    scopes: frozenset[str]
    began_at: float
    access: list[Token] = field(default_factory=list)
    refresh: list[Token] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """What the token endpoint hands out."""

    access: str
    refresh: str | None
    scopes: frozenset[str]


@dataclass(frozen=True)
class _Code:
    grant: Grant
    scopes: frozenset[str]
    redirect_uri: str
    until_at: float


class Cloud:
    """The pretended Atlassian cloud. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self._ids = itertools.count(1)
            self._grants: dict[tuple[str, str], Grant] = {}
            self._families: list[Family] = []
            self._codes: dict[str, _Code] = {}
            rows = [("acme", ("jira", "confluence")), ("acme-sandbox", ("jira",))]
            sites = [Site(str(uuid5(_SEED_IDS, name)), name, products) for name, products in rows]
            self.sites = {site.cloud_id: site for site in sites}
            people = [
                ("integration@acme.example", "Integration User", False),
                ("admin@acme.example", "Ada Admin", True),
            ]
            self.accounts = {
                email: Account(
                    f"712020:{uuid5(_SEED_IDS, email)}", email, name, is_admin, sites=list(self.sites)
                )
                for email, name, is_admin in people
            }
            self.apps: dict[str, App] = {}
            self.add_app("Keyturn Lab", "http://127.0.0.1:8080/oauth/callback")

    def add_app(
        self, name: str, callback: str, client_id: str | None = None, creator: str | None = None
    ) -> App:
        with self._lock:
            app = App(
                client_id=client_id or guard.mint("jira_client_id", 24),
                client_secret=guard.mint("jira_client_secret", 48),
                name=name,
                callback=callback,
                creator=creator or "admin@acme.example",
            )
            self.apps[app.client_id] = app
            return app

    def replace_secret(self, app: App, value: str | None = None) -> None:
        """Put a new client secret in place; the old one is refused from now on, with no overlap."""
        secret = (
            guard.remember("jira_client_secret", value) if value else guard.mint("jira_client_secret", 48)
        )
        with self._lock:
            app.client_secret = secret

    def alive(self) -> list[Live]:
        """Every access token the API accepts and every refresh token that would still be traded."""
        with self._lock:
            return [
                Live(str(token.id), kind, family.grant.account.email, token.value, _facts(family))
                for family in self._families
                for kind, tokens in (("access_token", family.access), ("refresh_token", family.refresh))
                for token in tokens
                if self._is_usable(token)
            ]

    def _is_usable(self, token: Token) -> bool:
        now = self._clock.now()
        in_leeway = token.retired_at is None or now <= token.retired_at + self.settings.leeway_s
        return in_leeway and token.life.holds(now)

    def live_families(self) -> list[dict[str, object]]:
        """The families of which anything still works, with how much of each kind."""
        with self._lock:
            rows: list[dict[str, object]] = []
            for family in self._families:
                access, refresh = (
                    sum(self._is_usable(each) for each in tokens)
                    for tokens in (family.access, family.refresh)
                )
                if access or refresh:
                    owner = family.grant.account.email
                    rows.append(_facts(family) | {"account": owner, "access": access, "refresh": refresh})
            return rows

    def grant_of(self, app: App, account: Account) -> Grant | None:
        return self._grants.get((app.client_id, account.email))

    def consent(self, app: App, account: Account, scopes: Iterable[str], sites: Iterable[str]) -> str:
        """Record that the account approved, adding to the one grant, and hand out a one-time code."""
        with self._lock:
            key = (app.client_id, account.email)
            grant = self._grants.setdefault(key, Grant(app.client_id, account))
            grant.sites |= set(sites)
            grant.scopes |= set(scopes)
            code = guard.mint("jira_code", 40)
            until_at = self._clock.now() + self.settings.code_life_s
            self._codes[code] = _Code(grant, frozenset(scopes), app.callback, until_at)
            return code

    def exchange(self, app: App, code: str, redirect_uri: str) -> Pair | None:
        """Trade a code, once, for the first pair of a new family."""
        with self._lock:
            found = self._codes.pop(code, None)
            now = self._clock.now()
            if found is None or found.until_at < now or found.redirect_uri != redirect_uri:
                return None
            if found.grant.client_id != app.client_id:
                return None
            if self.settings.consent_ends_earlier:
                self._end(family for family in self._families if family.grant is found.grant)
            family = Family(next(self._ids), found.grant, found.scopes, now)
            self._families.append(family)
            return self._issue(family)

    def is_refresh_unavailable(self) -> bool:
        """Whether this refresh is one of those a test wanted answered with 503; it is used up by asking."""
        with self._lock:
            left = self.settings.refresh_unavailable
            self.settings.refresh_unavailable = max(0, left - 1)
            return left > 0

    def refresh(self, app: App, value: str) -> Pair | None:
        """Trade a refresh token for a new pair and retire it; None when it is unknown, too old or out of leeway."""
        with self._lock:
            for family in self._families:
                for token in family.refresh:
                    if token.value != value or family.grant.client_id != app.client_id:
                        continue
                    if not self._is_usable(token):
                        if token.retired_at is not None and self.settings.reuse_kills_family:
                            self._end([family])
                        return None
                    if self.settings.omit_refresh_token:
                        return self._issue(family, with_refresh=False)
                    # The leeway runs from the first use: using it again does not buy more time.
                    token.retired_at = token.retired_at or self._clock.now()
                    return self._issue(family)
            return None

    def _issue(self, family: Family, *, with_refresh: bool = True) -> Pair:
        now, settings = self._clock.now(), self.settings
        from_at = self._quirks.known_from(now)
        access = Token(next(self._ids), _jwt(family, now), Lifespan(from_at, now + settings.access_life_s))
        family.access.append(access)
        if not with_refresh or OFFLINE not in family.scopes:
            return Pair(access.value, None, family.scopes)
        until_at = min(now + settings.idle_s, family.began_at + settings.absolute_s)
        value = guard.mint("jira_refresh_token", 64)
        family.refresh.append(Token(next(self._ids), value, Lifespan(from_at, until_at)))
        return Pair(access.value, value, family.scopes)

    def authenticate(self, value: str) -> Family | None:
        """The family an access token belongs to, while it works."""
        with self._lock:
            for family in self._families:
                if any(each.value == value and self._is_usable(each) for each in family.access):
                    return family
            return None

    def remove_grant(self, client_id: str, email: str | None = None) -> None:
        """End every family of the app and the account, or of all accounts when none is named."""
        with self._lock:
            for key in [k for k in self._grants if k[0] == client_id and email in {None, k[1]}]:
                grant = self._grants.pop(key)
                self._end(family for family in self._families if family.grant is grant)
                for code in [c for c, found in self._codes.items() if found.grant is grant]:
                    del self._codes[code]

    def change_password(self, account: Account, password: str) -> None:
        """Give the account a new password: its refresh tokens die, its access tokens run on."""
        with self._lock:
            account.password = guard.remember("password", password)
            mine = [family for family in self._families if family.grant.account is account]
            self._end(mine, refresh_only=True)

    def revoke(self, app: App, value: str) -> None:
        """Do what the settings say the undocumented endpoint does, which is nothing unless a test knows better."""
        with self._lock:
            for family in self._families:
                if family.grant.client_id != app.client_id:
                    continue
                if not any(token.value == value for token in family.access + family.refresh):
                    continue
                if self.settings.revoke_effect == "family":
                    self._end([family])
                elif self.settings.revoke_effect == "grant":
                    self.remove_grant(app.client_id, family.grant.account.email)

    def _end(self, families: Iterable[Family], *, refresh_only: bool = False) -> None:
        at = self._quirks.dead_from(self._clock.now())
        for family in families:
            for token in family.refresh if refresh_only else family.access + family.refresh:
                token.life.end(at)


def _facts(family: Family) -> dict[str, object]:
    grant = family.grant
    return {
        "family": family.id,
        "client_id": grant.client_id,
        "sites": sorted(grant.sites),
        "scopes": sorted(family.scopes),
    }


def _jwt(family: Family, now: float) -> str:
    """An access token of the right shape; its signature is random, because nobody but the cloud may read it."""
    claims = {"sub": family.grant.account.account_id, "client_id": family.grant.client_id, "iat": int(now)}
    parts = (
        json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)
    )
    readable = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    return guard.remember("jira_access_token", f"{readable}.{guard.mint('jira_signature', 43)}")
