"""What Freshdesk remembers: tenants, agents, their keys, failed logins and the shared rate counter; no HTTP."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

DEFAULT_TENANT = "acme"
CAPTCHA = "KEYTURN"


@dataclass
class Settings:
    """What a test may change: the account's plan limit and the lock-out."""

    rate_per_minute: int = 700
    lockout_after: int = 10
    lockout_s: float = 300.0


@dataclass
class Key:
    value: str
    life: Lifespan


@dataclass
class Agent:
    """A person at the helpdesk. `keys` is the history, newest last; only lag lets two of them work at once."""

    id: int
    tenant: str
    email: str
    name: str
    role: str = "agent"
    occasional: bool = False
    ticket_scope: int = 1
    is_verified: bool = True
    is_active: bool = True
    is_deleted: bool = False
    password: str = guard.DEMO_PASSWORD
    created_at: float = 0.0
    keys: list[Key] = field(default_factory=list)
    failures: int = 0
    locked_until: float = 0.0

    def may_log_in(self) -> bool:
        return self.is_verified and self.is_active and not self.is_deleted


class Refusal(Enum):
    """Why a key was not accepted."""

    UNKNOWN = auto()
    LOCKED_OUT = auto()


class Desk:
    """All tenants of the pretended Freshdesk. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self._ids = itertools.count(48_000_000_001)
            self._agents: dict[int, Agent] = {}
            self._minutes: dict[str, tuple[int, int]] = {}
            self.tenants = {DEFAULT_TENANT: "Acme Support", "globex": "Globex Helpdesk"}
            self._seed(DEFAULT_TENANT, "integration@acme.example", "Integration Agent", "agent")
            self._seed(DEFAULT_TENANT, "admin@acme.example", "Ada Admin", "admin")
            self._seed(DEFAULT_TENANT, "standby@acme.example", "Standby Agent", "agent")
            self._seed("globex", "integration@globex.example", "Globex Integration", "agent")
            self._seed("globex", "standby@globex.example", "Globex Standby", "agent")

    def _seed(self, tenant: str, email: str, name: str, role: str) -> None:
        agent = self.add_agent(tenant, email, name, role=role)
        self._verify(agent, guard.DEMO_PASSWORD)

    def alive(self) -> list[Live]:
        return [
            Live(
                id=f"{agent.id}/{number}",
                kind="api_key",
                owner=agent.email,
                value=key.value,
                facts={"tenant": agent.tenant, "agent_id": agent.id, "role": agent.role},
            )
            for agent, number, key in self._keys()
            if agent.may_log_in() and key.life.holds(self._clock.now())
        ]

    def _keys(self) -> Iterator[tuple[Agent, int, Key]]:
        with self._lock:
            return iter([(a, n, k) for a in self._agents.values() for n, k in enumerate(a.keys)])

    def authenticate(self, tenant: str, value: str) -> Agent | Refusal:
        """The agent behind a key; failures with a dead key count against its former owner, who gets locked out."""
        with self._lock:
            now = self._clock.now()
            for agent, _, key in self._keys():
                if key.value != value or agent.tenant != tenant:
                    continue
                if agent.locked_until > now:
                    return Refusal.LOCKED_OUT
                if agent.may_log_in() and key.life.holds(now):
                    agent.failures = 0
                    return agent
                agent.failures += 1
                if agent.failures >= self.settings.lockout_after:
                    agent.failures, agent.locked_until = 0, now + self.settings.lockout_s
                return Refusal.UNKNOWN
            return Refusal.UNKNOWN

    def count_call(self, tenant: str) -> tuple[int, int, int]:
        """Count one call of the account: its limit, what remains (below zero when over) and seconds to wait."""
        with self._lock:
            now = self._clock.now()
            minute = int(now // 60)
            seen_minute, calls = self._minutes.get(tenant, (minute, 0))
            calls = calls + 1 if seen_minute == minute else 1
            self._minutes[tenant] = (minute, calls)
            limit = self.settings.rate_per_minute
            return limit, limit - calls, max(1, int((minute + 1) * 60 - now))

    def agents(self, tenant: str) -> list[Agent]:
        with self._lock:
            return [a for a in self._agents.values() if a.tenant == tenant and not a.is_deleted]

    def agent(self, tenant: str, agent_id: int) -> Agent | None:
        return next((a for a in self.agents(tenant) if a.id == agent_id), None)

    def agent_by_email(self, tenant: str, email: str) -> Agent | None:
        return next((a for a in self.agents(tenant) if a.email == email), None)

    def add_agent(self, tenant: str, email: str, name: str, *, role: str = "agent") -> Agent:
        """A new agent: unverified, therefore without a key, until the activation page was used."""
        with self._lock:
            agent = Agent(
                next(self._ids), tenant, email, name, role, is_verified=False, created_at=self._clock.now()
            )
            self._agents[agent.id] = agent
            return agent

    def activate(self, agent: Agent, password: str) -> None:
        """Finish the activation mail: the agent chooses a password and has a first key from now on."""
        with self._lock:
            if not agent.is_verified:
                self._verify(agent, guard.remember("password", password))

    def _verify(self, agent: Agent, password: str) -> None:
        agent.is_verified, agent.password = True, password
        agent.keys.append(self._new_key(self._clock.now()))

    def reset_key(self, agent: Agent) -> Key:
        """Replace the agent's key. The old one ends at once unless the `linger_s` dial says otherwise."""
        with self._lock:
            now = self._clock.now()
            for old in agent.keys:
                old.life.end(self._quirks.dead_from(now))
            agent.keys.append(self._new_key(self._quirks.known_from(now)))
            return agent.keys[-1]

    def _new_key(self, from_at: float) -> Key:
        return Key(guard.mint("freshdesk_api_key", 20), Lifespan(from_at))

    def set_active(self, agent: Agent, *, is_active: bool) -> None:
        with self._lock:
            agent.is_active = is_active

    def delete_agent(self, agent: Agent) -> None:
        """Turn the agent into a mere contact; its key ends with it."""
        with self._lock:
            agent.is_deleted = True
            for key in agent.keys:
                key.life.end(self._clock.now())
