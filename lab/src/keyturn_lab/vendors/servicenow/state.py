"""What an instance remembers: users, registry entries and their tokens; no HTTP.

A token that is asked for again while it is good is returned again, and a refresh never prolongs the grant.
Source: https://support.servicenow.com/kb?id=kb_article_view&sysparm_article=KB0791140 (checked 2026-11-23).
"""

import base64
import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

ACCESS_LIFE_S, REFRESH_LIFE_S = 1800, 8_640_000
_SEED_IDS = UUID("0b0c2b44-5f4a-4a6b-9c55-6b1e3f3a9d02")


@dataclass
class Settings:
    """What a test may change. Where the vendor is silent, the default is the case that is harder to handle."""

    code_life_s: float = 60.0
    state_required: bool = True  # glide.oauth.state.parameter.required
    body_only: bool = True  # glide.oauth.allow.parameters.in.post.body.only
    client_credentials_enabled: bool = False  # glide.oauth.inbound.client.credential.grant_type.enabled
    ropc_disabled: bool = True  # glide.oauth.inbound.ropc.grant_type.disabled
    invalid_query_returns_no_rows: bool = False  # glide.invalid_query.returns_no_rows
    script_in_query: bool = True
    entries_acl: str = "admin"  # or closed (403 for all), hidden (no rows for all)
    plain_user_sees: str = "empty"  # or forbidden: what oauth_entity answers to somebody without the role
    secret_change_ends_tokens: bool = False
    deactivate_ends_tokens: bool = False
    delete_ends_tokens: bool = False
    revoke_cascade: bool = False
    chosen_client_id: bool = True  # whether a POST may bring its own client id
    cookie_outlives_token: bool = True
    hibernating: bool = False


@dataclass
class User:
    sys_id: str
    user_name: str
    name: str
    roles: tuple[str, ...] = ()
    password: str = guard.DEMO_PASSWORD

    @property
    def is_admin(self) -> bool:
        return bool({"admin", "oauth_admin"} & set(self.roles))


@dataclass
class Entry:
    """A record of `oauth_entity`. `life` is when the token endpoint knows it."""

    sys_id: str
    name: str
    client_id: str
    client_secret: str
    redirect_url: str
    life: Lifespan
    type: str = "client"
    active: bool = True
    is_public: bool = False
    application_user: str = ""
    access_token_lifespan: int = ACCESS_LIFE_S
    refresh_token_lifespan: int = REFRESH_LIFE_S
    created_by: str = "admin"
    updated_at: float = 0.0

    @property
    def callbacks(self) -> list[str]:
        return [each.strip() for each in self.redirect_url.split(",") if each.strip()]


@dataclass
class Token:
    """A record of `oauth_credential`; it stays listed after its end until it is cleaned up."""

    sys_id: str
    entry: Entry
    user: User
    type: str
    value: str
    life: Lifespan
    created_at: float


@dataclass(frozen=True)
class Pair:
    access: str
    refresh: str | None
    seconds: int


@dataclass(frozen=True)
class _Code:
    entry: Entry
    user: User
    redirect_uri: str
    challenge: str
    until_at: float


@dataclass
class Instance:
    """The pretended instance. Safe to share between threads."""

    clock: Clock
    quirks: Quirks
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self._codes: dict[str, _Code] = {}
            self.tokens: list[Token] = []
            rows = (
                ("integration@acme.example", "Integration User", ()),
                ("admin@acme.example", "Ada Admin", ("admin",)),
                ("registrar", "Registrar", ("oauth_admin",)),
            )
            self.users = {name: User(_id(name), name, shown, roles) for name, shown, roles in rows}
            self.entries: dict[str, Entry] = {}
            # An instance comes with entries of its own.
            self.add("ServiceNow Agent", redirect_url="https://agent.acme.example/callback")
            self.add("Keyturn", redirect_url="http://127.0.0.1:8425/oauth/callback")

    def add(self, name: str, *, redirect_url: str, client_id: str = "", secret: str = "") -> Entry:
        with self._lock:
            now = self.clock.now()
            entry = Entry(
                sys_id=uuid4().hex,
                name=name,
                client_id=client_id if client_id and self.settings.chosen_client_id else uuid4().hex,
                client_secret=guard.remember("servicenow_client_secret", secret)
                if secret
                else guard.mint("servicenow_client_secret", 32),
                redirect_url=redirect_url,
                life=Lifespan(self.quirks.known_from(now)),
                updated_at=now,
            )
            self.entries[entry.sys_id] = entry
            return entry

    def client(self, client_id: str) -> Entry | None:
        """The entry the OAuth side knows by this id, while it lingers or is there."""
        with self._lock:
            now = self.clock.now()
            found = [each for each in self.entries.values() if each.client_id == client_id]
            return next((each for each in found if each.active and each.life.holds(now)), None)

    def listed(self) -> list[Entry]:
        """The registry as its table shows it."""
        with self._lock:
            return [each for each in self.entries.values() if not each.life.is_doomed()]

    def change(self, entry: Entry, values: dict[str, str]) -> None:
        with self._lock:
            if "client_secret" in values:
                entry.client_secret = guard.remember("servicenow_client_secret", values["client_secret"])
                if self.settings.secret_change_ends_tokens:
                    self._end(each for each in self.tokens if each.entry is entry)
            if "active" in values:
                entry.active = values["active"].lower() in {"true", "1"}
                if not entry.active and self.settings.deactivate_ends_tokens:
                    self._end(each for each in self.tokens if each.entry is entry)
            for name in ("name", "redirect_url"):
                if name in values:
                    setattr(entry, name, values[name])
            for name in ("access_token_lifespan", "refresh_token_lifespan"):
                if name in values:
                    setattr(entry, name, int(values[name]))
            entry.updated_at = self.clock.now()

    def delete(self, entry: Entry) -> None:
        with self._lock:
            entry.life.end(self.quirks.dead_from(self.clock.now()))
            if self.settings.delete_ends_tokens:
                self._end(each for each in self.tokens if each.entry is entry)

    def consent(self, entry: Entry, user: User, redirect_uri: str, challenge: str) -> str:
        with self._lock:
            code = guard.mint("servicenow_code", 48)
            until_at = self.clock.now() + self.settings.code_life_s
            self._codes[code] = _Code(entry, user, redirect_uri, challenge, until_at)
            return code

    def exchange(self, entry: Entry, code: str, redirect_uri: str, verifier: str) -> Pair | None:
        with self._lock:
            found = self._codes.pop(code, None)
            if found is None or found.entry is not entry or found.until_at < self.clock.now():
                return None
            if found.redirect_uri != redirect_uri:
                return None
            if found.challenge:
                digest = hashlib.sha256(verifier.encode()).digest()
                if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != found.challenge:
                    return None
            return self.grant(entry, found.user, with_refresh=not entry.is_public)

    def grant(self, entry: Entry, user: User, *, with_refresh: bool) -> Pair:
        """A token that is still good is returned again; its end and that of the refresh token move forward."""
        with self._lock:
            now = self.clock.now()
            access = self._prolonged(entry, user, "access_token", now + entry.access_token_lifespan)
            refresh = None
            if with_refresh:
                refresh = self._prolonged(entry, user, "refresh_token", now + entry.refresh_token_lifespan)
            return Pair(access.value, refresh and refresh.value, entry.access_token_lifespan - 1)

    def refresh(self, entry: Entry, value: str) -> Pair | None:
        """A new access token and the same refresh token, whose end stays where it was."""
        with self._lock:
            for token in self.tokens:
                if token.value == value and token.type == "refresh_token" and token.entry is entry:
                    if not token.life.holds(self.clock.now()):
                        return None
                    until = self.clock.now() + entry.access_token_lifespan
                    access = self._new(entry, token.user, "access_token", until)
                    return Pair(access.value, token.value, entry.access_token_lifespan - 1)
            return None

    def revoke(self, value: str) -> None:
        with self._lock:
            for token in self.tokens:
                if token.value == value:
                    self.end_token(token)

    def end_token(self, token: Token) -> None:
        with self._lock:
            self._end([token])
            if self.settings.revoke_cascade and token.type == "refresh_token":
                same = (token.entry.sys_id, token.user.sys_id)
                self._end(t for t in self.tokens if (t.entry.sys_id, t.user.sys_id) == same)

    def remove_token(self, token: Token) -> None:
        with self._lock:
            self._end([token])
            self.tokens = [
                each for each in self.tokens if each is not token or each.life.holds(self.clock.now())
            ]

    def who(self, value: str) -> User | None:
        """Whose access token this is, while it works."""
        with self._lock:
            now = self.clock.now()
            for token in self.tokens:
                if token.type == "access_token" and token.value == value and token.life.holds(now):
                    return token.user
            return None

    def alive(self) -> list[Live]:
        """Every access token the API accepts and every refresh token that would still be traded."""
        with self._lock:
            now = self.clock.now()
            return [
                Live(
                    each.sys_id,
                    each.type,
                    each.user.user_name,
                    each.value,
                    {"client_id": each.entry.client_id, "until": int(each.life.until_at or 0)},
                )
                for each in self.tokens
                if each.life.holds(now)
                and (each.type == "access_token" or self.client(each.entry.client_id) is each.entry)
            ]

    def _prolonged(self, entry: Entry, user: User, kind: str, until: float) -> Token:
        now = self.clock.now()
        for token in self.tokens:
            if token.entry is entry and token.user is user and token.type == kind and token.life.holds(now):
                token.life.until_at = until
                return token
        return self._new(entry, user, kind, until)

    def _new(self, entry: Entry, user: User, kind: str, until: float) -> Token:
        now = self.clock.now()
        life = Lifespan(self.quirks.known_from(now), until)
        token = Token(uuid4().hex, entry, user, kind, guard.mint(f"servicenow_{kind}", 80), life, now)
        self.tokens.append(token)
        return token

    def _end(self, tokens: Iterable[Token]) -> None:
        at = self.quirks.dead_from(self.clock.now())
        for token in tokens:
            token.life.end(at)


def stamp(at: float | None) -> str:
    """A time as the tables write it."""
    return "" if at is None else datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def _id(name: str) -> str:
    return uuid5(_SEED_IDS, name).hex
