"""What a Databricks account and its one workspace remember: principals, secrets, tokens; no HTTP."""

import hashlib
import itertools
import secrets
import threading
import uuid
from dataclasses import dataclass, field

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

DAY_S = 86_400
MOST_SECRETS = 5
LONGEST_S = 730 * DAY_S
TOKEN_LIFE_S = 3600
INTEGRATION, ROTATOR, MANAGER, OTHER = "gainsight", "rotator", "manager", "other"
ME, ADMIN = "integration@acme.example", "admin@acme.example"


@dataclass
class Settings:
    """What a test may change; the defaults are what is documented or was seen, or the safer guess."""

    metadata: bool = True
    page_size: int = 2
    sixth_status: int = 400
    sixth_code: str = "INVALID_PARAMETER_VALUE"
    too_long_status: int = 400
    dead_token_status: int = 403
    hash_is_sha256: bool = False
    token_id_is_sha256: bool = True
    most_tokens: int = 600
    most_token_days: int = 730
    ip_blocked: bool = False
    warehouse_sleeps: bool = False


@dataclass
class Principal:
    """A user or service principal. `name` is what a person types: an e-mail address, or the display name."""

    id: str
    name: str
    application_id: str = ""
    is_account_admin: bool = False
    is_workspace_admin: bool = False
    manages: set[str] = field(default_factory=set)
    in_workspace: bool = True
    is_active: bool = True

    @property
    def user_name(self) -> str:
        return self.application_id or self.name


@dataclass
class Secret:
    id: str
    owner: Principal
    value: str
    created_at: float
    expires_at: float
    scopes: list[str]
    life: Lifespan


@dataclass
class Pat:
    id: str
    owner: Principal
    maker: Principal
    value: str
    comment: str
    created_at: float
    expires_at: float | None
    scopes: list[str]
    life: Lifespan


@dataclass
class Bearer:
    """An access token; `place` is the workspace or the account it was asked from."""

    owner: Principal
    place: str
    until_at: float


class Refusal(Exception):
    """An error in the vendor's own words."""

    def __init__(self, status: int, code: str | int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Account:
    """All of it. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self.lock = threading.RLock()
        self.account_id = str(uuid.uuid4())
        self.workspace_id = "4711471147114711"
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.settings = Settings()
            self._ids = itertools.count(8_100_000_000_000_001)
            self.principals: list[Principal] = []
            self.secrets: list[Secret] = []
            self.pats: list[Pat] = []
            self._bearers: dict[str, Bearer] = {}
            integration = self.add(INTEGRATION, is_service=True)
            rotator = self.add(ROTATOR, is_service=True)
            rotator.is_account_admin = rotator.is_workspace_admin = True
            self.add(MANAGER, is_service=True).manages.add(integration.id)
            self.add(OTHER, is_service=True)
            self.add(ME)
            self.add(ADMIN).is_workspace_admin = True

    def add(self, name: str, *, is_service: bool = False) -> Principal:
        with self.lock:
            made = Principal(str(next(self._ids)), name, str(uuid.uuid4()) if is_service else "")
            self.principals.append(made)
            return made

    def remove(self, principal: Principal) -> None:
        """Deletes the principal with all that signs in as it."""
        with self.lock:
            now = self._clock.now()
            principal.is_active = False
            self.principals.remove(principal)
            for each in (*self.secrets, *self.pats):
                if each.owner is principal:
                    each.life.end(now)

    def find(self, name: str) -> Principal | None:
        """By number, e-mail address, display name or application id."""
        with self.lock:
            return next((p for p in self.principals if name in {p.id, p.name, p.application_id} - {""}), None)

    def alive(self) -> list[Live]:
        with self.lock:
            now = self._clock.now()
            found = [
                Live(s.id, "oauth_secret", s.owner.user_name, s.value, {"scopes": s.scopes})
                for s in self.secrets
                if s.life.holds(now)
            ]
            return found + [
                Live(p.id, "token", p.owner.user_name, p.value, {"comment": p.comment})
                for p in self.pats
                if p.life.holds(now)
            ]

    def log_in(self, application_id: str, value: str, place: str) -> str | None:
        """A fresh access token; None for everything that is wrong, without saying what."""
        with self.lock:
            now = self._clock.now()
            for secret in self.secrets:
                owner = secret.owner
                if (owner.application_id, secret.value) != (application_id, value):
                    continue
                if not secret.life.holds(now) or not owner.is_active:
                    return None
                if place == "workspace" and not owner.in_workspace:
                    return None
                token = guard.remember("databricks_access_token", f"eyJ{guard.mint('databricks_jwt', 60)}")
                self._bearers[token] = Bearer(owner, place, now + TOKEN_LIFE_S)
                return token
            return None

    def bearer(self, token: str, place: str) -> Principal | None:
        """Whose access token this is, while it works here. It outlives the secret that it came from."""
        with self.lock:
            found = self._bearers.get(token)
            if found is None or found.place != place or self._clock.now() >= found.until_at:
                return None
            return found.owner

    def pat(self, token: str) -> Principal | None:
        with self.lock:
            now = self._clock.now()
            return next((p.owner for p in self.pats if p.value == token and p.life.holds(now)), None)

    def secrets_of(self, owner: Principal) -> list[Secret]:
        with self.lock:
            now = self._clock.now()
            mine = [s for s in self.secrets if s.owner is owner and s.expires_at > now]
            return [s for s in mine if s.life.until_at is None or s.life.until_at == s.expires_at]

    def add_secret(self, owner: Principal, lifetime: object = None, scopes: object = None) -> Secret:
        """A further secret, shown once.

        Raises: Refusal.
        """
        with self.lock:
            seconds = LONGEST_S if lifetime is None else _seconds(lifetime)
            if seconds is None:
                raise Refusal(400, "INVALID_PARAMETER_VALUE", "Invalid value for lifetime.")
            if seconds > LONGEST_S:
                raise Refusal(
                    self.settings.too_long_status,
                    "INVALID_PARAMETER_VALUE",
                    "Lifetime must not exceed 730 days.",
                )
            if len(self.secrets_of(owner)) >= MOST_SECRETS:
                raise Refusal(
                    self.settings.sixth_status,
                    self.settings.sixth_code,
                    "The service principal has reached the maximum number of secrets.",
                )
            now = self._clock.now()
            secret = Secret(
                id=str(uuid.uuid4()),
                owner=owner,
                value=guard.remember("databricks_secret", "dose" + secrets.token_hex(16)),
                created_at=now,
                expires_at=now + seconds,
                scopes=[str(each) for each in scopes] if isinstance(scopes, list) else [],
                life=Lifespan(self._quirks.known_from(now), now + seconds),
            )
            self.secrets.append(secret)
            return secret

    def delete_secret(self, owner: Principal, secret_id: str) -> bool:
        with self.lock:
            found = next((s for s in self.secrets_of(owner) if s.id == secret_id), None)
            if found is not None:
                found.life.end(self._quirks.dead_from(self._clock.now()))
            return found is not None

    def pats_of(self, owner: Principal) -> list[Pat]:
        return [p for p in self.every_pat() if p.owner is owner]

    def every_pat(self) -> list[Pat]:
        """All tokens that are listed: neither deleted nor run out."""
        with self.lock:
            now = self._clock.now()
            mine = [p for p in self.pats if p.expires_at is None or p.expires_at > now]
            return [p for p in mine if p.life.until_at == p.expires_at]

    def add_pat(
        self,
        owner: Principal,
        maker: Principal,
        comment: str = "",
        seconds: int | None = None,
        scopes: object = None,
    ) -> Pat:
        """A further token, shown once.

        Raises: Refusal.
        """
        with self.lock:
            if len(self.pats_of(owner)) >= self.settings.most_tokens:
                raise Refusal(400, "QUOTA_EXCEEDED", "The quota of tokens for this user is exceeded.")
            longest = self.settings.most_token_days * DAY_S
            seconds = longest if seconds is None else seconds
            if not 0 < seconds <= longest:
                raise Refusal(400, "INVALID_PARAMETER_VALUE", "The lifetime is longer than is allowed here.")
            now = self._clock.now()
            value = guard.remember("databricks_token", "dapi" + secrets.token_hex(16))
            hashed = hashlib.sha256(value.encode()).hexdigest()
            made = Pat(
                id=hashed if self.settings.token_id_is_sha256 else secrets.token_hex(32),
                owner=owner,
                maker=maker,
                value=value,
                comment=comment,
                created_at=now,
                expires_at=now + seconds,
                scopes=[str(each) for each in scopes] if isinstance(scopes, list) else [],
                life=Lifespan(self._quirks.known_from(now), now + seconds),
            )
            self.pats.append(made)
            return made

    def delete_pat(self, token_id: str, owner: Principal | None = None) -> bool:
        """`owner` limits it to one user's own tokens."""
        with self.lock:
            pats = self.every_pat() if owner is None else self.pats_of(owner)
            found = next((p for p in pats if p.id == token_id), None)
            if found is not None:
                found.life.end(self._quirks.dead_from(self._clock.now()))
            return found is not None


def _seconds(text: object) -> int | None:
    """`7776000s`; what the vendor does with a bare number is not known, so it is refused."""
    if not isinstance(text, str) or not text.endswith("s") or not text[:-1].isdigit():
        return None
    return int(text[:-1])
