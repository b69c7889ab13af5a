"""What Zuora remembers: tenants by host, users, OAuth clients, bearer tokens and the limit by address; no HTTP."""

import itertools
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

DEFAULT_HOST = "rest.zuora.com"
ONE_ID_HOST = "one.zuora.com"
TOKEN_LIFE_S = 3598.0


@dataclass
class Settings:
    """What a test may change; the defaults are what Zuora documents, or the safer guess where it is silent."""

    error_style: str = "message"  # message | code | reasons | reasons_200
    error_status: int = 401
    forbid_authorization: bool = True
    bearers_die_with_client: bool = False
    envelope_refusals: bool = True  # permission refusals come with HTTP 200 and success: false
    user_info_failures: int = 0  # so many calls fail with a passing 401
    gateway_refusals: int = 0  # so many calls find their bearer refused
    token_per_minute: int = 100
    says_retry_after: bool = False


@dataclass
class Client:
    """One OAuth client of a user; deleted ones are kept, because they may still work for a moment."""

    id: str
    secret: str
    name: str
    is_one_id: bool
    life: Lifespan


@dataclass
class User:
    """A person or API user of one tenant. `may` is what the role allows beyond a login."""

    id: str
    tenant: "Tenant"
    email: str
    may: frozenset[str]
    is_active: bool = True
    clients: list[Client] = field(default_factory=list)

    def listed_clients(self) -> list[Client]:
        return [client for client in self.clients if not client.life.is_doomed()]


@dataclass(frozen=True)
class Tenant:
    """One customer, at home in one data centre."""

    number: int
    name: str
    host: str
    entity: str


@dataclass
class Bearer:
    value: str
    user: User
    client: Client
    life: Lifespan


class Billing:
    """All tenants of the pretended Zuora. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self._numbers = itertools.count(11_001)
            self._users: dict[str, User] = {}
            self._bearers: dict[str, Bearer] = {}
            self._asked: dict[str, deque[float]] = {}
            acme = self._tenant("Acme", DEFAULT_HOST)
            globex = self._tenant("Globex", "rest.eu.zuora.com")
            self._user(acme, "integration@acme.example", "catalog")
            self._user(acme, "reader@acme.example")
            self._user(acme, "admin@acme.example", "catalog", "settings", "users")
            self._user(globex, "admin@globex.example", "catalog", "settings", "users")

    def _tenant(self, name: str, host: str) -> Tenant:
        return Tenant(next(self._numbers), name, host, str(uuid.uuid4()))

    def _user(self, tenant: Tenant, email: str, *may: str) -> None:
        self._users[email] = User(uuid.uuid4().hex, tenant, email, frozenset(may))

    def alive(self) -> list[Live]:
        """Clients and the bearer tokens made from them; a deactivated user's are not in force."""
        with self._lock:
            now = self._clock.now()
            clients = [
                Live(
                    client.id,
                    "oauth_client",
                    user.email,
                    client.secret,
                    {"tenant": user.tenant.number, "name": client.name},
                )
                for user in self._users.values()
                for client in user.clients
                if user.is_active and client.life.holds(now)
            ]
            bearers = [
                Live(bearer.client.id, "bearer", bearer.user.email, bearer.value)
                for bearer in self._bearers.values()
                if bearer.user.is_active and bearer.life.holds(now)
            ]
            return clients + bearers

    def count_token_call(self, address: str) -> float:
        """Count one call of the token endpoint from this address: seconds to wait, 0 when it is within the limit."""
        with self._lock:
            now = self._clock.now()
            asked = self._asked.setdefault(address, deque())
            while asked and asked[0] <= now - 60:
                asked.popleft()
            asked.append(now)
            return 0.0 if len(asked) <= self.settings.token_per_minute else asked[0] + 60 - now

    def authenticate(self, host: str, client_id: str, secret: str) -> tuple[User, Client] | None:
        """The active user and client behind a pair, where the pair is at home."""
        with self._lock:
            now = self._clock.now()
            for user in self._users.values():
                for client in user.clients:
                    if (client.id, client.secret) != (client_id, secret) or not client.life.holds(now):
                        continue
                    home = ONE_ID_HOST if client.is_one_id else user.tenant.host
                    return (user, client) if user.is_active and home == host else None
            return None

    def issue(self, user: User, client: Client) -> Bearer:
        with self._lock:
            now = self._clock.now()
            value = guard.mint("zuora_bearer", 40)
            bearer = Bearer(value, user, client, Lifespan(now, now + TOKEN_LIFE_S))
            self._bearers[value] = bearer
            return bearer

    def bearer(self, host: str, value: str) -> Bearer | None:
        """A bearer token that is in force at this tenant's host."""
        with self._lock:
            found = self._bearers.get(value)
            if found is None or not found.life.holds(self._clock.now()) or not found.user.is_active:
                return None
            return found if found.user.tenant.host == host else None

    def users(self, host: str) -> list[User]:
        with self._lock:
            return [user for user in self._users.values() if user.tenant.host == host]

    def user(self, email: str) -> User | None:
        return self._users.get(email)

    def add_client(self, user: User, name: str, *, is_one_id: bool = False) -> Client:
        """One more client beside the others; its secret is shown this once."""
        with self._lock:
            plain = guard.mint("zuora_client_secret", 32)
            # A secret with these three is the one that a client who does not encode its form breaks on.
            secret = guard.remember("zuora_client_secret", f"{plain[:16]}+{plain[16:30]}/{plain[30:]}=")
            known = self._quirks.known_from(self._clock.now())
            client = Client(str(uuid.uuid4()), secret, name, is_one_id, Lifespan(known))
            user.clients.append(client)
            return client

    def delete_client(self, client: Client) -> None:
        """End one client. What it was traded for lives on until it runs out, unless the switch says otherwise."""
        with self._lock:
            at = self._quirks.dead_from(self._clock.now())
            client.life.end(at)
            if self.settings.bearers_die_with_client:
                for bearer in self._bearers.values():
                    if bearer.client is client:
                        bearer.life.end(at)

    def set_active(self, user: User, *, is_active: bool) -> None:
        """Deactivate a user, which refuses all of its clients and bearers, or reactivate it."""
        with self._lock:
            user.is_active = is_active

    def use_up(self, setting: str) -> bool:
        """Whether a counted mishap is due, which it then is once less."""
        with self._lock:
            left = int(getattr(self.settings, setting))
            if left > 0:
                setattr(self.settings, setting, left - 1)
            return left > 0
