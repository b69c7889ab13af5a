"""What one tenant remembers: applications with their credentials, enterprise applications and tokens; no HTTP.

Source: https://learn.microsoft.com/en-us/graph/api/resources/application (checked 2026-11-23).
"""

import base64
import hashlib
import secrets
import string
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid4, uuid5

from cryptography import x509

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

DAY_S = 86_400.0
OWNED, ALL, READ, AUDIT = (
    "Application.ReadWrite.OwnedBy",
    "Application.ReadWrite.All",
    "Application.Read.All",
    "AuditLog.Read.All",
)
PERSONAL = "AzureADandPersonalMicrosoftAccount"
_LETTERS = string.ascii_letters + string.digits
_SEED = uuid5(NAMESPACE_URL, "https://keyturn.example/lab/dynamics")


class Refusal(Exception):
    """An error of Graph on its way to the answer."""

    def __init__(self, status: int, code: str, message: str, target: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.target = status, code, message, target


@dataclass
class Settings:
    """What a test may change. Where Microsoft is silent, the default is the case that is harder to handle."""

    token_life_s: float = 4500.0  # 60 to 90 minutes, at random
    flapping: bool = True  # while a change spreads, every other answer is still the old one
    max_days: float = 730.0  # the tenant's policy for secrets and certificates
    secrets_allowed: bool = True
    hints: bool = True
    show_keys: bool = True  # a GET of one application shows the keys of its certificates
    hidden_reads: int = 0  # so many reads of one application answer 404, as after its creation
    page_size: int = 100
    report_licensed: bool = True
    proves_own_removal: bool = (
        False  # removeKey takes a proof made with the certificate it removes; not documented
    )
    assertion_replay: bool = True  # the same assertion may be sent twice


@dataclass
class Secret:
    """One passwordCredential. The value is known here only to compare."""

    key_id: str
    value: str
    name: str | None
    starts_at: float
    ends_at: float
    life: Lifespan
    hint: str | None = None
    used_at: float | None = None
    answers: int = 0


@dataclass
class Certificate:
    """One keyCredential."""

    key_id: str
    der: bytes
    name: str | None
    starts_at: float
    ends_at: float
    life: Lifespan
    used_at: float | None = None
    answers: int = 0

    @property
    def thumbprint(self) -> bytes:
        return hashlib.sha1(self.der).digest()

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)


@dataclass
class App:
    """An application object; its enterprise application (service principal) is kept beside it."""

    object_id: str
    app_id: str
    principal_id: str
    name: str
    audience: str = "AzureADMyOrg"
    roles: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)  # client ids
    secrets: list[Secret] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    hidden_secrets: list[Secret] = field(default_factory=list)  # on the enterprise application
    enabled: bool = True
    deleted: bool = False
    user_id: str = ""  # in Dataverse; empty: no user there
    user_disabled: bool = False
    privileges: set[str] = field(default_factory=lambda: {"accounts"})
    blocked: bool = False  # by the environment's allow-list


@dataclass(frozen=True)
class Token:
    """An access token. It is looked at when it is used, never ended."""

    app: App
    audience: str
    until_at: float


class Tenant:
    """The pretended tenant with one environment. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self.clock = clock
        self.quirks = quirks
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.settings = Settings()
            self.id = str(uuid5(_SEED, "tenant"))
            self.domain = "acme.example"
            self.organization_id = str(uuid5(_SEED, "organization"))
            self.unit_id = str(uuid5(_SEED, "unit"))
            self.apps: list[App] = []
            self.tokens: dict[str, Token] = {}
            self.seen_jti: set[str] = set()
            app = self.add_app("Gainsight connector")
            rotator = self.add_app("Keyturn rotator", roles={OWNED, READ, AUDIT})
            rotator.user_id = ""
            self.add_secret(rotator, "kept by hand")
            app.owners.add(rotator.app_id)
            self.add_secret(app, "made in the portal")
            self.add_app("Somebody else's integration")
            self.add_secret(self.apps[-1], None)

    # -- applications --------------------------------------------------------------------------------------------

    def add_app(self, name: str, *, roles: set[str] | None = None, audience: str = "AzureADMyOrg") -> App:
        with self.lock:
            app = App(str(uuid4()), str(uuid4()), str(uuid4()), name, audience, set(roles or ()))
            app.user_id = str(uuid4())
            self.apps.append(app)
            return app

    def by_client_id(self, client_id: str, *, deleted: bool = False) -> App | None:
        wanted = client_id.lower()
        return next((a for a in self.apps if a.app_id == wanted and (deleted or not a.deleted)), None)

    def by_object_id(self, object_id: str, *, deleted: bool = False) -> App | None:
        wanted = object_id.lower()
        return next((a for a in self.apps if a.object_id == wanted and a.deleted == deleted), None)

    # -- credentials ---------------------------------------------------------------------------------------------

    def add_secret(
        self, app: App, name: str | None, ends_at: float | None = None, *, hidden: bool = False
    ) -> Secret:
        """Raises: Refusal by the limit of two, or by the tenant's policy."""
        with self.lock:
            now, settings = self.clock.now(), self.settings
            kept = app.hidden_secrets if hidden else app.secrets
            if app.audience == PERSONAL and len(kept) >= 2:
                many = len(kept) + 1
                raise Refusal(
                    400,
                    "TooManyAppPasswords",
                    f"Not allowed to add {many} passwords. You can only add a maximum of 2 passwords.",
                    "passwordCredential",
                )
            ends_at = now + 730 * DAY_S if ends_at is None else ends_at
            if not settings.secrets_allowed:
                raise Refusal(
                    400,
                    "CredentialTypeNotAllowedAsPerAppPolicy",
                    "Credential type not allowed as per assigned policy 'lab'.",
                )
            self._check_life(now, ends_at)
            value = f"{_random(3)}8Q~{guard.MARKER}{_random(29)}"
            guard.remember("dynamics_client_secret", value)
            hint = value[:3] if settings.hints else None
            made = Secret(str(uuid4()), value, name, now, ends_at, self._born(now), hint)
            kept.append(made)
            return made

    def remove_secret(self, app: App, key_id: str) -> None:
        """Raises: Refusal when there is none of this id."""
        with self.lock:
            found = next((s for s in app.secrets if s.key_id == key_id.lower() and _is_listed(s)), None)
            if found is None:
                raise Refusal(400, "Request_BadRequest", "No password credential found with keyId.")
            found.life.end(self.quirks.dead_from(self.clock.now()))

    def add_certificate(
        self, app: App, der: bytes, name: str | None = None, ends_at: float | None = None
    ) -> Certificate:
        """Raises: Refusal when it is no certificate, or by the tenant's policy."""
        with self.lock:
            now = self.clock.now()
            try:
                parsed = x509.load_der_x509_certificate(der)
            except ValueError:
                raise Refusal(400, "Request_BadRequest", "Key credential value is invalid.") from None
            not_after = parsed.not_valid_after_utc.timestamp()
            ends_at = not_after if ends_at is None else min(ends_at, not_after)
            self._check_life(now, ends_at)
            name = name or parsed.subject.rfc4514_string()
            starts_at = parsed.not_valid_before_utc.timestamp()
            made = Certificate(str(uuid4()), der, name, starts_at, ends_at, self._born(now))
            app.certificates.append(made)
            return made

    def remove_certificate(self, app: App, key_id: str) -> bool:
        with self.lock:
            found = next((c for c in app.certificates if c.key_id == key_id.lower() and _is_listed(c)), None)
            if found is not None:
                found.life.end(self.quirks.dead_from(self.clock.now()))
            return found is not None

    def _check_life(self, now: float, ends_at: float) -> None:
        if ends_at > now + (self.settings.max_days + 1) * DAY_S:
            raise Refusal(
                400,
                "Request_BadRequest",
                "Credential lifetime exceeds the max value allowed as per assigned policy 'lab'.",
            )

    def _born(self, now: float) -> Lifespan:
        return Lifespan(self.quirks.known_from(now))

    def listed_secrets(self, app: App) -> list[Secret]:
        return [each for each in app.secrets if _is_listed(each)]

    def listed_certificates(self, app: App) -> list[Certificate]:
        return [each for each in app.certificates if _is_listed(each)]

    # -- logins --------------------------------------------------------------------------------------------------

    def knows(self, credential: Secret | Certificate) -> bool:
        """Whether the server that happens to answer accepts it. While a change spreads, the servers disagree."""
        with self.lock:
            now, life = self.clock.now(), credential.life
            if life.until_at is not None and now >= life.until_at:
                return False
            if now >= life.from_at and life.until_at is None:
                return True
            if not self.settings.flapping:
                return life.until_at is not None
            credential.answers += 1
            return credential.answers % 2 == 0

    def give_token(self, app: App, audience: str) -> str:
        with self.lock:
            value = f"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.{guard.mint('dynamics_access_token', 60)}.{_random(40)}"
            guard.remember("dynamics_access_token", value)
            self.tokens[value] = Token(app, audience, self.clock.now() + self.settings.token_life_s)
            return value

    def token(self, value: str, audience: str) -> Token | None:
        """The token, while it lives and was made for this resource."""
        with self.lock:
            found = self.tokens.get(value)
            if found is None or found.audience != audience or self.clock.now() >= found.until_at:
                return None
            return found

    def alive(self) -> Iterator[Live]:
        """Every secret and certificate that some server still accepts, disabled applications included."""
        with self.lock:
            now = self.clock.now()
            rows = []
            for app in self.apps:
                if app.deleted:
                    continue
                for secret in app.secrets + app.hidden_secrets:
                    if _is_alive(secret, now):
                        facts = {"label": secret.name, "hidden": secret in app.hidden_secrets}
                        rows.append(Live(secret.key_id, "client_secret", app.app_id, secret.value, facts))
                for each in app.certificates:
                    if _is_alive(each, now):
                        thumbprint = each.thumbprint.hex().upper()
                        facts = {"label": each.name, "thumbprint": thumbprint}
                        value = base64.b64encode(each.der).decode()
                        rows.append(Live(each.key_id, "certificate", app.app_id, value, facts))
            return iter(rows)


def _is_listed(credential: Secret | Certificate) -> bool:
    return not credential.life.is_doomed()


def _is_alive(credential: Secret | Certificate, now: float) -> bool:
    ended = credential.life.until_at is not None and now >= credential.life.until_at
    return not ended and now < credential.ends_at


def _random(n: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(n))
