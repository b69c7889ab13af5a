"""People, OAuth clients, and what the one let the other do; no HTTP.

A grant belongs to one person and one client. Every consent adds a refresh token to it, a refresh takes none away, and
revoking any token of it ends all of them. Source: https://developers.google.com/identity/protocols/oauth2 and
https://github.com/Significant-Gravitas/AutoGPT/pull/10493 (checked 2026-11-23).
"""

from dataclasses import dataclass, field

from keyturn_lab import guard
from keyturn_lab.clock import Lifespan

DAY_S = 86_400.0


@dataclass
class Person:
    sub: str
    email: str
    name: str
    password: str = guard.DEMO_PASSWORD
    properties: dict[str, str] = field(default_factory=dict)  # Analytics: property id to title
    rights: set[str] = field(default_factory=set)  # BigQuery, in the one project


@dataclass
class ClientSecret:
    """One of at most two secrets of a client; shown in full once."""

    value: str
    created_at: float
    is_on: bool = True


@dataclass
class Client:
    """An entry of the console's list of OAuth clients. `state`: live, disabled or deleted."""

    client_id: str
    name: str
    callbacks: list[str]
    secrets: list[ClientSecret] = field(default_factory=list)
    state: str = "live"
    is_testing: bool = False

    def takes(self, secret: str) -> bool:
        return any(each.is_on and each.value == secret for each in self.secrets)


@dataclass
class RefreshToken:
    value: str
    scopes: frozenset[str]
    life: Lifespan
    born_at: float
    used_at: float


@dataclass
class Grant:
    client_id: str
    person: Person
    scopes: set[str] = field(default_factory=set)
    tokens: list[RefreshToken] = field(default_factory=list)
    is_removed: bool = False


@dataclass
class AccessToken:
    """`holder` is a person's or a service account's e-mail; only a person's belongs to a grant."""

    value: str
    holder: str
    audience: str
    scopes: frozenset[str]
    life: Lifespan
    until_at: float
    grant: Grant | None = None


@dataclass(frozen=True)
class Code:
    grant: Grant
    scopes: frozenset[str]
    redirect_uri: str
    challenge: str
    with_refresh: bool
    until_at: float
