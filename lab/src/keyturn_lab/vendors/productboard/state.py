"""What Productboard remembers: workspaces, members, access tokens, OAuth apps and grants, the rate; no HTTP."""

import base64
import hashlib
import itertools
import json
import threading
import uuid
from collections import deque
from dataclasses import dataclass

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

CODE_LIFE_S = 600.0
ACCESS_LIFE_S = 86_400.0
REFRESH_LIFE_S = 180 * 86_400.0
REUSE_S = 3600.0
SCOPES = frozenset(
    {"entities:read", "entities:write", "entities:delete", "notes:read", "notes:write", "notes:delete"}
    | {"analytics:read", "members_pii:read"}
)


@dataclass
class Settings:
    """What a test may change; the defaults are what Productboard documents, or the safer guess where it is silent."""

    v1_gone: int = 0  # 404 or 410 once v1 is switched off
    plan_too_small: bool = False
    api_enabled: bool = True
    per_second: int = 50
    page_size: int = 100
    tokens_end_with_member: bool = True
    html_links: bool = True


@dataclass
class Token:
    """One public API access token. Deleted ones are kept, because they may still work for a moment."""

    id: int
    name: str
    value: str
    member: "Member"
    life: Lifespan


@dataclass
class Member:
    id: str
    workspace: str
    email: str
    role: str  # admin | maker
    is_disabled: bool = False


@dataclass
class App:
    """A registered OAuth application; a public one has no secret and must use PKCE."""

    id: str
    client_id: str
    client_secret: str
    redirect_uri: str


@dataclass
class Grant:
    """One pair of tokens from a consent or a refresh. `used_at` is the first use of its refresh token."""

    app: App
    member: Member
    scope: str
    access: str
    refresh: str
    access_life: Lifespan
    refresh_life: Lifespan
    used_at: float | None = None


@dataclass(frozen=True)
class Asked:
    """What a consent was given to, until its code is traded."""

    app: App
    member: Member
    scope: str
    challenge: str
    until_at: float


@dataclass(frozen=True)
class Caller:
    """Who calls: a member, with scopes when the token came by OAuth."""

    member: Member
    scopes: frozenset[str] | None = None


class Boards:
    """All workspaces of the pretended Productboard. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self._ids = itertools.count(501)
            self._members: dict[str, Member] = {}
            self._tokens: list[Token] = []
            self.apps: dict[str, App] = {}
            self._asked: dict[str, Asked] = {}
            self._grants: list[Grant] = []
            self._calls: dict[str, deque[float]] = {}
            for workspace, email, role in (
                ("acme", "integration@acme.example", "admin"),
                ("acme", "admin@acme.example", "admin"),
                ("acme", "maker@acme.example", "maker"),
                ("globex", "integration@globex.example", "admin"),
            ):
                self._members[email] = Member(str(uuid.uuid4()), workspace, email, role)

    def alive(self) -> list[Live]:
        with self._lock:
            now = self._clock.now()
            tokens = [
                Live(
                    str(each.id),
                    "access_token",
                    each.member.email,
                    each.value,
                    {"name": each.name, "workspace": each.member.workspace},
                )
                for each in self._tokens
                if each.life.holds(now) and self._keeps(each.member)
            ]
            granted = [
                Live(each.app.client_id, "refresh_token", each.member.email, each.refresh)
                for each in self._grants
                if each.refresh_life.holds(now) and each.used_at is None
            ]
            return tokens + granted

    def _keeps(self, member: Member) -> bool:
        is_able = not member.is_disabled and member.role == "admin"
        return is_able or not self.settings.tokens_end_with_member

    def authenticate(self, value: str) -> Caller | None:
        """Who stands behind an access token or an OAuth access token."""
        with self._lock:
            now = self._clock.now()
            for token in self._tokens:
                if token.value == value:
                    is_good = token.life.holds(now) and self._keeps(token.member)
                    return Caller(token.member) if is_good else None
            for grant in self._grants:
                if grant.access == value and grant.access_life.holds(now):
                    return Caller(grant.member, frozenset(grant.scope.split()))
            return None

    def count_call(self, value: str) -> int:
        """Count one call with a token in the last second: what remains, below zero when it is over the limit."""
        with self._lock:
            now = self._clock.now()
            calls = self._calls.setdefault(hashlib.sha256(value.encode()).hexdigest(), deque())
            while calls and calls[0] <= now - 1:
                calls.popleft()
            calls.append(now)
            return self.settings.per_second - len(calls)

    def members(self, workspace: str) -> list[Member]:
        with self._lock:
            return [each for each in self._members.values() if each.workspace == workspace]

    def member(self, email: str) -> Member | None:
        return self._members.get(email)

    def tokens(self, workspace: str) -> list[Token]:
        """The workspace's tokens, as the settings list them."""
        with self._lock:
            return [t for t in self._tokens if t.member.workspace == workspace and not t.life.is_doomed()]

    def add_token(self, member: Member, name: str) -> Token:
        """A further token, a JWT without an end, known after `settle_s`; names need not be unique."""
        with self._lock:
            now = self._clock.now()
            value = _jwt({"iss": "https://app.productboard.com", "sub": member.id, "iat": int(now)})
            token = Token(next(self._ids), name, value, member, Lifespan(self._quirks.known_from(now)))
            self._tokens.append(token)
            return token

    def delete_token(self, token: Token) -> None:
        """End one token; it goes from the list at once and works until `linger_s` has passed."""
        with self._lock:
            token.life.end(self._quirks.dead_from(self._clock.now()))

    def change_member(
        self, member: Member, *, role: str | None = None, is_disabled: bool | None = None
    ) -> None:
        """Promote, demote, disable or enable a member; what that does to its tokens is a switch."""
        with self._lock:
            member.role = member.role if role is None else role
            member.is_disabled = member.is_disabled if is_disabled is None else is_disabled

    def register_app(self, redirect_uri: str, *, is_public: bool = False) -> App:
        with self._lock:
            secret = "" if is_public else guard.mint("productboard_client_secret", 40)
            app = App(str(next(self._ids)), guard.mint("productboard_client_id", 24), secret, redirect_uri)
            self.apps[app.client_id] = app
            return app

    def agree(self, member: Member, app: App, scope: str, challenge: str) -> str:
        """A code for the app, after the member said yes."""
        with self._lock:
            code = guard.mint("productboard_code", 24)
            self._asked[code] = Asked(app, member, scope, challenge, self._clock.now() + CODE_LIFE_S)
            return code

    def exchange(self, app: App, code: str, redirect_uri: str, verifier: str) -> Grant | None:
        """Trade a code, once, for a pair; None when it is used, old, another app's or its verifier is wrong."""
        with self._lock:
            asked = self._asked.pop(code, None)
            if asked is None or asked.until_at < self._clock.now() or asked.app is not app:
                return None
            if redirect_uri != app.redirect_uri or (
                asked.challenge and _challenge(verifier) != asked.challenge
            ):
                return None
            return self._grant(app, asked.member, asked.scope)

    def refresh(self, app: App, refresh: str) -> Grant | None:
        """A new pair. The used refresh token can be used again for an hour after its first use, then no more."""
        with self._lock:
            now = self._clock.now()
            for grant in self._grants:
                if refresh != grant.refresh or grant.app is not app or not grant.refresh_life.holds(now):
                    continue
                if grant.used_at is None:
                    grant.used_at = now
                    grant.refresh_life.end(now + REUSE_S)
                return self._grant(app, grant.member, grant.scope)
            return None

    def _grant(self, app: App, member: Member, scope: str) -> Grant:
        now = self._clock.now()
        grant = Grant(
            app,
            member,
            scope,
            access=_jwt(
                {"iss": "https://app.productboard.com", "sub": member.id, "exp": now + ACCESS_LIFE_S}
            ),
            refresh=guard.mint("productboard_refresh_token", 40),
            access_life=Lifespan(now, now + ACCESS_LIFE_S),
            refresh_life=Lifespan(now, now + REFRESH_LIFE_S),
        )
        self._grants.append(grant)
        return grant

    def revoke(self, app: App, value: str) -> None:
        """End one token of an app, whichever of the pair; unknown ones count as done (RFC 7009)."""
        with self._lock:
            now = self._clock.now()
            for grant in self._grants:
                if grant.app is app and value == grant.refresh:
                    grant.refresh_life.end(now)
                if grant.app is app and value == grant.access:
                    grant.access_life.end(now)

    def info(self, value: str) -> Grant | None:
        """The grant behind an OAuth access token in force."""
        with self._lock:
            now = self._clock.now()
            return next((g for g in self._grants if g.access == value and g.access_life.holds(now)), None)


def _jwt(claims: dict[str, object]) -> str:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=")
        for each in ({"alg": "RS256", "typ": "JWT"}, {**claims, "jti": uuid.uuid4().hex})
    )
    return guard.remember("productboard_token", f"{head}.{body}.{guard.mint('productboard_signature', 40)}")


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
