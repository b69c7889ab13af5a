"""What Aha! remembers: accounts, users, named keys, OAuth apps and tokens, and the rate counters; no HTTP."""

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

DEFAULT_ACCOUNT = "acme"
CODE_LIFE_S = 600.0


@dataclass
class Settings:
    """What a test may change; the defaults are what Aha! documents, or the safer guess where it is silent."""

    json_errors: bool = False
    force_https: bool = False
    products_forbidden: bool = False
    per_minute: int = 300
    per_second: int = 20
    oauth_expires_in: int | None = None
    oauth_refresh: bool = False
    oauth_revoke: bool = False


@dataclass
class NamedKey:
    id: int
    name: str
    value: str
    created_at: float
    life: Lifespan


@dataclass
class User:
    """A person of one account. Deleted keys stay in `keys`, because they may still work for a moment."""

    id: str
    account: str
    email: str
    name: str
    is_admin: bool = False
    is_enabled: bool = True
    keys: list[NamedKey] = field(default_factory=list)

    def listed_keys(self) -> list[NamedKey]:
        return [key for key in self.keys if not key.life.is_doomed()]


@dataclass
class OAuthApp:
    id: str
    name: str
    client_id: str
    client_secret: str
    redirect_uri: str


@dataclass
class Token:
    """An OAuth token of one user and app; `refresh` is only there when the switch is on."""

    id: int
    value: str
    user: User
    client_id: str
    life: Lifespan
    expires_in: int | None
    refresh: str | None


@dataclass
class _Code:
    user: User
    client_id: str
    redirect_uri: str
    until_at: float


class Roadmaps:
    """All accounts of the pretended Aha!. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self.warnings: list[str] = []
            self.audits: list[dict[str, str]] = []
            self.apps: dict[str, OAuthApp] = {}
            self.accounts = {DEFAULT_ACCOUNT: "Acme Roadmaps", "globex": "Globex Roadmaps"}
            self._ids = itertools.count(7_000_000_001)
            self._users: dict[str, User] = {}
            self._tokens: list[Token] = []
            self._codes: dict[str, _Code] = {}
            self._calls: dict[str, deque[float]] = {}
            self._add_user(DEFAULT_ACCOUNT, "integration@acme.example", "Integration User")
            self._add_user(DEFAULT_ACCOUNT, "admin@acme.example", "Ada Admin", is_admin=True)
            self._add_user("globex", "integration@globex.example", "Globex Integration")

    def _add_user(self, account: str, email: str, name: str, *, is_admin: bool = False) -> None:
        user = User(str(next(self._ids)), account, email, name, is_admin)
        self._users[user.id] = user

    def alive(self) -> list[Live]:
        with self._lock:
            now = self._clock.now()
            keys = [
                Live(
                    str(key.id), "api_key", user.email, key.value, {"account": user.account, "name": key.name}
                )
                for user in self._users.values()
                for key in user.keys
                if user.is_enabled and key.life.holds(now)
            ]
            tokens = [
                Live(str(t.id), "oauth_token", t.user.email, t.value, {"client_id": t.client_id})
                for t in self._tokens
                if t.user.is_enabled and t.life.holds(now)
            ]
            return keys + tokens

    def authenticate(self, account: str, value: str) -> User | None:
        """The enabled user of this account behind a key or a token."""
        with self._lock:
            now = self._clock.now()
            for user in self.users(account):
                if any(key.value == value and key.life.holds(now) for key in user.keys):
                    return user if user.is_enabled else None
            for token in self._tokens:
                if token.value == value and token.life.holds(now) and token.user.account == account:
                    return token.user if token.user.is_enabled else None
            return None

    def count_call(self, account: str) -> tuple[bool, int, int]:
        """Count one call of the account: whether it is within both limits, what remains, when a slot frees up."""
        with self._lock:
            now = self._clock.now()
            calls = self._calls.setdefault(account, deque())
            while calls and calls[0] <= now - 60:
                calls.popleft()
            calls.append(now)
            in_last_second = sum(at > now - 1 for at in calls)
            remaining = self.settings.per_minute - len(calls)
            is_within = remaining >= 0 and in_last_second <= self.settings.per_second
            return is_within, max(0, remaining), int(calls[0] + 60)

    def users(self, account: str) -> list[User]:
        with self._lock:
            return [user for user in self._users.values() if user.account == account]

    def user(self, account: str, user_id: str) -> User | None:
        return next((user for user in self.users(account) if user.id == user_id), None)

    def user_by_email(self, account: str, email: str) -> User | None:
        return next((user for user in self.users(account) if user.email == email), None)

    def generate_key(self, user: User, name: str) -> NamedKey:
        """A further key for the user, known after `settle_s`; names need not be unique."""
        with self._lock:
            now = self._clock.now()
            life = Lifespan(self._quirks.known_from(now))
            key = NamedKey(next(self._ids), name, guard.mint("aha_api_key", 40), now, life)
            user.keys.append(key)
            self._audit(user, f"created API key {name}")
            return key

    def delete_key(self, user: User, key: NamedKey) -> None:
        """End one key; it goes from the list at once and works until `linger_s` has passed."""
        with self._lock:
            key.life.end(self._quirks.dead_from(self._clock.now()))
            self._audit(user, f"deleted API key {key.name}")

    def set_enabled(self, user: User, *, is_enabled: bool) -> None:
        """Disable a user, which refuses all keys and tokens at once, or enable the user again."""
        with self._lock:
            user.is_enabled = is_enabled

    def _audit(self, user: User, text: str) -> None:
        self.audits.append({"user": user.email, "description": text, "account": user.account})

    def register_app(self, name: str, redirect_uri: str) -> OAuthApp:
        with self._lock:
            app = OAuthApp(
                id=str(next(self._ids)),
                name=name,
                client_id=guard.mint("aha_client_id", 20),
                client_secret=guard.mint("aha_client_secret", 40),
                redirect_uri=redirect_uri,
            )
            self.apps[app.client_id] = app
            return app

    def grant(self, user: User, app: OAuthApp) -> str:
        """A one-time code for the app, after the user said yes."""
        with self._lock:
            code = guard.mint("aha_code", 24)
            self._codes[code] = _Code(user, app.client_id, app.redirect_uri, self._clock.now() + CODE_LIFE_S)
            return code

    def exchange(self, app: OAuthApp, code: str, redirect_uri: str) -> Token | None:
        """Trade a code, once, for a token; None when it is used, old or another app's."""
        with self._lock:
            found = self._codes.pop(code, None)
            now = self._clock.now()
            if found is None or found.until_at < now:
                return None
            if (found.client_id, found.redirect_uri) != (app.client_id, redirect_uri):
                return None
            return self._issue(found.user, app.client_id)

    def refresh(self, app: OAuthApp, refresh: str) -> Token | None:
        """Trade a refresh token, once, for a fresh pair; the former pair ends."""
        with self._lock:
            for token in self._tokens:
                if refresh and token.refresh == refresh and token.client_id == app.client_id:
                    token.refresh = None
                    token.life.end(self._clock.now())
                    return self._issue(token.user, app.client_id)
            return None

    def _issue(self, user: User, client_id: str) -> Token:
        now, seconds = self._clock.now(), self.settings.oauth_expires_in
        token = Token(
            id=next(self._ids),
            value=guard.mint("aha_oauth_token", 40),
            user=user,
            client_id=client_id,
            life=Lifespan(now, None if seconds is None else now + seconds),
            expires_in=seconds,
            refresh=guard.mint("aha_refresh_token", 40) if self.settings.oauth_refresh else None,
        )
        self._tokens.append(token)
        return token

    def withdraw(self, client_id: str, *, user: User | None = None, value: str | None = None) -> None:
        """End one token of an app by value, or all a user granted it."""
        with self._lock:
            for token in self._tokens:
                if token.client_id == client_id and (
                    token.user is user or value in {token.value, token.refresh}
                ):
                    token.refresh = None
                    token.life.end(self._clock.now())
