"""What a tenant remembers: spaces, their database users, OAuth clients and tables; no HTTP and no sockets.

Source: SAP-docs/sap-datasphere and SAP's command line client 2026.19.0, checked 2026-11-23.
"""

import secrets
import string
import threading
from dataclasses import dataclass, field

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

LOCK_MINUTES = 1440
RESET = "/dwaas-core/api/v1/SIMPATH/spaces/{space}/dbusers/{databaseuser}/password"
USERS = "/dwaas-core/api/v1/SIMPATH/spaces/{space}/dbusers"
USER = "/dwaas-core/api/v1/SIMPATH/spaces/{space}/dbusers/{databaseuser}"


@dataclass
class Settings:
    """What a test may change. Where SAP is silent, the default is the case that is harder to handle."""

    reset_path: str = RESET  # the real one is only in the tenant's own discovery document
    password_field: str = "password"
    csrf: bool = True
    refuse_next_tokens: int = 0  # how many more calls find their token expired
    activation_s: float = 0.0  # how long a new user is not Active yet
    max_failures: int = 6
    self_service: bool = True  # whether a user may change its own password over SQL
    history: int = 5
    initial_life_s: float = 86_400.0  # a fresh password under the policy that is not used for so long lapses
    password_life_s: float = 90 * 86_400.0
    min_length: int = 15
    sessions_survive: bool = True
    is_address_allowed: bool = True


class Refused(Exception):
    """A HANA error, by number."""

    def __init__(self, code: int, text: str, state: str = "HY000") -> None:
        super().__init__(text)
        self.code, self.text, self.state = code, text, state


@dataclass
class Value:
    password: str
    life: Lifespan
    born_at: float
    was_used: bool = False


@dataclass
class DbUser:
    """`values` are the passwords that may still work, newest last."""

    name: str
    active_at: float
    has_lifetime: bool = False
    must_change: bool = False
    failures: int = 0
    locked_until: float = 0.0
    can_write: bool = False
    values: list[Value] = field(default_factory=list)
    epoch: int = 0

    @property
    def space(self) -> str:
        return self.name.partition("#")[0]


@dataclass
class Client:
    """An OAuth client of purpose Technical User. `spaces` are those whose administrator it is."""

    client_id: str
    client_secret: str
    spaces: tuple[str, ...]


@dataclass
class Tenant:
    """The pretended tenant. Safe to share between threads."""

    clock: Clock
    quirks: Quirks
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self.tokens: dict[str, Client] = {}
            self.csrf: set[str] = set()
            self.spaces = {"SALES", "FINANCE"}
            self.tables = {"SALES.REVENUE": "SALES", "SALES.EMPTY": "SALES", "FINANCE.LEDGER": "FINANCE"}
            self.rows = {"SALES.REVENUE": 3, "FINANCE.LEDGER": 5}
            self.users: dict[str, DbUser] = {}
            self.clients: dict[str, Client] = {}
            for spaces in (("SALES", "FINANCE"), ()):
                made = Client(
                    f"sb-{secrets.token_hex(6)}!b1", guard.mint("datasphere_client_secret", 40), spaces
                )
                self.clients[made.client_id] = made
            for name in ("SALES#GAINSIGHT", "SALES#GAINSIGHT_B", "FINANCE#OTHER"):
                self.create(name)

    def create(self, name: str, *, has_lifetime: bool = False, can_write: bool = False) -> DbUser:
        with self._lock:
            active_at = self.clock.now() + self.settings.activation_s
            self.users[name] = DbUser(name, active_at, has_lifetime=has_lifetime, can_write=can_write)
            return self.users[name]

    def delete(self, name: str) -> None:
        """The user and its schema, with every table in it, are gone for good."""
        with self._lock:
            self.users.pop(name, None)
            for table in [each for each in self.tables if each.startswith(f"{name}.")]:
                del self.tables[table]

    def request_password(self, user: DbUser) -> str:
        """A password of the server's choice, shown once; the one before dies."""
        with self._lock:
            value = self._fresh()
            self._replace(user, guard.remember("datasphere_password", value))
            user.must_change = user.has_lifetime
            user.failures, user.locked_until = 0, 0.0
            return value

    def change_own(self, user: DbUser, new: str) -> None:
        """ALTER USER ... PASSWORD by the user itself. Raises: Refused."""
        with self._lock:
            if not self.settings.self_service and not user.must_change:
                raise Refused(258, "insufficient privilege: Not authorized")
            classes = (str.isupper, str.islower, str.isdigit)
            if len(new) < self.settings.min_length or not all(any(map(each, new)) for each in classes):
                raise Refused(412, "invalid password layout")
            if self.settings.history and new in [v.password for v in user.values[-self.settings.history :]]:
                raise Refused(413, f"last {self.settings.history} passwords can not be reused")
            self._replace(user, guard.remember("datasphere_password", new))
            user.must_change = False

    def _replace(self, user: DbUser, password: str) -> None:
        now = self.clock.now()
        for old in user.values:
            old.life.end(self.quirks.dead_from(now))
        user.values.append(Value(password, Lifespan(self.quirks.known_from(now)), now))
        user.epoch += 1

    def _fresh(self) -> str:
        letters = string.ascii_letters + string.digits + "-_!%"
        return guard.MARKER + "Aa1" + "".join(secrets.choice(letters) for _ in range(24))

    def known(self, name: str) -> DbUser | None:
        with self._lock:
            return self.users.get(name)

    def candidates(self, user: DbUser) -> list[str]:
        """The passwords a login may prove, newest first."""
        with self._lock:
            now = self.clock.now()
            return [each.password for each in reversed(user.values) if each.life.holds(now)]

    def enter(self, name: str, proven: str | None) -> DbUser:
        """What a login leads to; `proven` is the password whose proof it brought. Raises: Refused."""
        with self._lock:
            now = self.clock.now()
            user = self.users.get(name)
            if user is None or user.active_at > now:
                raise Refused(10, "authentication failed", "28000")
            if user.locked_until > now:
                raise Refused(416, f"user is locked; try again later: lock time is {LOCK_MINUTES} minutes")
            if proven is None:
                user.failures += 1
                if user.failures >= self.settings.max_failures:
                    user.locked_until, user.failures = now + LOCK_MINUTES * 60, 0
                raise Refused(10, "authentication failed", "28000")
            value = next(each for each in reversed(user.values) if each.password == proven)
            if user.must_change and not value.was_used and now > value.born_at + self.settings.initial_life_s:
                raise Refused(415, "user is deactivated")
            user.failures, value.was_used = 0, True
            if user.has_lifetime and now > value.born_at + self.settings.password_life_s:
                user.must_change = True
            return user

    def alive(self) -> list[Live]:
        """Every password the SQL side accepts right now, even while its user is locked.

        `used` tells whether anybody ever logged in with it: what a retired user was reset to, nobody knows.
        """
        with self._lock:
            now = self.clock.now()
            return [
                Live(f"{user.name}/{number}", "password", user.name, each.password, {"used": each.was_used})
                for user in self.users.values()
                for number, each in enumerate(user.values)
                if each.life.holds(now)
            ]
