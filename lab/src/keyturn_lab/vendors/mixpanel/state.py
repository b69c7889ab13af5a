"""What Mixpanel remembers: organizations, projects by region, service accounts with their memberships; no HTTP."""

import itertools
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

ROLES = ("owner", "admin", "analyst", "consumer")
RETIRED_AT = datetime(2027, 3, 3, tzinfo=UTC).timestamp()
QUERIES_PER_HOUR = 60
ACME, GLOBEX = 3001234, 3009876
EVENTS, MOBILE, EUROPE, FOREIGN = 2195193, 2195194, 2195195, 2199999
PERMISSIONS = {
    "owner": ["read_data", "create_reports", "import_data", "manage_service_accounts", "manage_project"],
    "admin": ["read_data", "create_reports", "import_data", "manage_service_accounts"],
    "analyst": ["read_data", "create_reports"],
    "consumer": ["read_data"],
}


@dataclass
class Settings:
    """What a test may change; the defaults are what is documented, or was seen."""

    region: str = "us"  # of the bare loopback address; a Host header of the vendor's names its own
    suffix: bool = True  # the login name gets `.{6 hex}.mp-service-account`


@dataclass
class Project:
    id: int
    name: str
    organization: int
    region: str
    token: str
    secret: str
    queries: list[float] = field(default_factory=list)


@dataclass
class Member:
    """A membership in one project. The API makes only individual ones with one of the four roles."""

    role: str
    target_type: str = "individual"
    is_sensitive: bool = False


@dataclass
class ServiceAccount:
    id: int
    username: str
    value: str
    organization: int
    role: str
    creator: int
    created_at: float
    expires_at: float | None
    life: Lifespan
    members: dict[int, Member] = field(default_factory=dict)
    last_used_at: float | None = None
    is_deleted: bool = False


class Analytics:
    """All organizations. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.settings = Settings()
            self._ids = itertools.count(48_001)
            self.organizations = {ACME: "Acme", GLOBEX: "Globex"}
            self.projects: dict[int, Project] = {}
            self.accounts: list[ServiceAccount] = []
            self.audit: list[dict[str, object]] = []
            for number, name, org, region in (
                (EVENTS, "Events", ACME, "us"),
                (MOBILE, "Mobile", ACME, "us"),
                (EUROPE, "Europe", ACME, "eu"),
                (FOREIGN, "Rockets", GLOBEX, "us"),
            ):
                token, secret = guard.mint("mixpanel_token", 27), guard.mint("mixpanel_api_secret", 27)
                self.projects[number] = Project(number, name, org, region, token, secret)

    def alive(self) -> list[Live]:
        with self.lock:
            now = self._clock.now()
            found = [
                Live(str(a.id), "service_account", str(a.organization), a.value, {"username": a.username})
                for a in self.accounts
                if a.life.holds(now)
            ]
            if now < RETIRED_AT:
                found += [Live(str(p.id), "api_secret", p.name, p.secret) for p in self.projects.values()]
            return found

    def sign_in(self, username: str, value: str, region: str) -> ServiceAccount | None:
        """The account, if it may do anything in this region; the API says no more than that it may not."""
        with self.lock:
            now = self._clock.now()
            for account in self.accounts:
                if (account.username, account.value) != (username, value) or not account.life.holds(now):
                    continue
                if not self.projects_of(account, region):
                    return None
                account.last_used_at = now
                return account
            return None

    def projects_of(self, account: ServiceAccount, region: str) -> dict[int, Member]:
        """Memberships, and every project for who has the organization."""
        with self.lock:
            found = dict(account.members)
            if account.role in {"owner", "admin"}:
                for project in self.projects.values():
                    if project.organization == account.organization:
                        found.setdefault(project.id, Member(account.role, "organization"))
            return {number: m for number, m in found.items() if self.projects[number].region == region}

    def listed(self, organization: int) -> list[ServiceAccount]:
        with self.lock:
            return [a for a in self.accounts if a.organization == organization and not a.is_deleted]

    def find(self, organization: int, number: int) -> ServiceAccount | None:
        return next((a for a in self.listed(organization) if a.id == number), None)

    def add(
        self,
        organization: int,
        name: str,
        role: str,
        projects: dict[int, str],
        expires_at: float | None = None,
        creator: int = 1,
    ) -> ServiceAccount:
        with self.lock:
            now = self._clock.now()
            suffix = f".{secrets.token_hex(3)}.mp-service-account" if self.settings.suffix else ""
            account = ServiceAccount(
                id=next(self._ids),
                username=name + suffix,
                value=guard.mint("mixpanel_secret", 27),
                organization=organization,
                role=role,
                creator=creator,
                created_at=now,
                expires_at=expires_at,
                life=Lifespan(self._quirks.known_from(now), expires_at),
                members={number: Member(each) for number, each in projects.items()},
            )
            self.accounts.append(account)
            self._note("service_account.created", account)
            for number in projects:
                self._note("service_account.added_to_project", account, project=number)
            return account

    def delete(self, account: ServiceAccount) -> None:
        """Ends it everywhere; it goes from the list at once and works until `linger_s` has passed."""
        with self.lock:
            account.is_deleted = True
            account.life.end(self._quirks.dead_from(self._clock.now()))
            self._note("service_account.deleted", account)

    def join(self, account: ServiceAccount, project: int, role: str) -> None:
        with self.lock:
            account.members[project] = Member(role)
            self._note("service_account.added_to_project", account, project=project)

    def leave(self, account: ServiceAccount, project: int) -> None:
        """Takes one project away; the account itself lives on."""
        with self.lock:
            if account.members.pop(project, None) is not None:
                self._note("service_account.removed_from_project", account, project=project)

    def reset_secret(self, project: Project) -> str:
        """A new project secret; the old one ends at once."""
        with self.lock:
            project.secret = guard.mint("mixpanel_api_secret", 27)
            return project.secret

    def by_secret(self, value: str) -> Project | None:
        """The project of an API secret, until all of them are retired."""
        with self.lock:
            if self._clock.now() >= RETIRED_AT:
                return None
            return next((p for p in self.projects.values() if p.secret == value), None)

    def count_query(self, project: Project) -> bool:
        """Whether one more query fits into the hour."""
        with self.lock:
            now = self._clock.now()
            project.queries = [at for at in project.queries if at > now - 3600]
            project.queries.append(now)
            return len(project.queries) <= QUERIES_PER_HOUR

    def _note(self, event: str, account: ServiceAccount, **more: object) -> None:
        self.audit.append({"event": event, "id": account.id, "username": account.username, **more})
