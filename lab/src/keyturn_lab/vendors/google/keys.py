"""Service accounts and their keys as IAM remembers them; no HTTP.

Source: IAM API v1, published description; docs.cloud.google.com/iam/docs/keys-disable-enable (checked 2026-11-23).
"""

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyturn_lab import guard
from keyturn_lab.clock import Lifespan

MOST_KEYS = 10
KEY_ADMIN = frozenset(
    f"iam.serviceAccountKeys.{verb}" for verb in ("list", "get", "create", "disable", "enable", "delete")
)
ACCOUNT_ADMIN = frozenset(
    f"iam.serviceAccounts.{verb}"
    for verb in ("list", "get", "create", "disable", "enable", "delete", "undelete")
)
JOB_USER = frozenset({"bigquery.jobs.create"})
DATA_VIEWER = frozenset({"bigquery.datasets.get", "bigquery.tables.get", "bigquery.tables.getData"})


@dataclass
class Switch:
    """On or off from a moment on; the console shows it at once, logins follow when it has spread."""

    is_on: bool
    set_at: float
    bites_at: float


@dataclass
class Key:
    """One key of a service account. `file` is what was handed out, kept for the oracle only; Google keeps the public half."""

    id: str
    email: str
    public: RSAPublicKey | None
    created_at: float
    life: Lifespan
    file: str = ""
    type: str = "USER_MANAGED"
    origin: str = "GOOGLE_PROVIDED"
    deleted_at: float | None = None
    reason: str = ""
    switches: list[Switch] = field(default_factory=list)

    def works(self, now: float) -> bool:
        """Whether an assertion signed by it is taken."""
        bitten = [each.is_on for each in self.switches if each.bites_at <= now]
        return self.life.holds(now) and (not bitten or bitten[-1])

    def is_listed(self, at: float) -> bool:
        return self.created_at <= at and (self.deleted_at is None or at < self.deleted_at)

    def is_off(self, at: float) -> bool:
        seen = [each.is_on for each in self.switches if each.set_at <= at]
        return bool(seen) and not seen[-1]

    def has_signed(self, signature: bytes, data: bytes) -> bool:
        if self.public is None:
            return False
        try:
            self.public.verify(signature, data, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


@dataclass
class Account:
    """A service account. `rights` are permissions, by the e-mail they are held on; the empty one is the project."""

    email: str
    project: str
    unique_id: str
    title: str
    is_off: bool = False
    rights: dict[str, set[str]] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)

    def may(self, permission: str, on: str = "") -> bool:
        return any(permission in self.rights.get(place, ()) for place in {on, ""})

    def own_keys(self) -> Iterator[Key]:
        return (key for key in self.keys.values() if key.type == "USER_MANAGED" and key.deleted_at is None)


def new_pair() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def first_pair(email: str) -> RSAPrivateKey:
    """The one that an account begins with, in whichever stand-in of this process: making one takes a while."""
    return new_pair()


def make_key(
    account: Account, now: float, known_from: float, token_uri: str, pair: RSAPrivateKey | None = None
) -> tuple[Key, str]:
    """A new pair and the file with its private half, which is handed out once."""
    private = pair or new_pair()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    guard.remember("google_private_key", pem)
    key_id = secrets.token_hex(20)
    text = json.dumps(
        {
            "type": "service_account",
            "project_id": account.project,
            "private_key_id": key_id,
            "private_key": pem,
            "client_email": account.email,
            "client_id": account.unique_id,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{account.email}",
            "universe_domain": "googleapis.com",
        },
        indent=2,
    )
    key = Key(key_id, account.email, private.public_key(), now, Lifespan(known_from), text)
    account.keys[key_id] = key
    return key, base64.b64encode(text.encode()).decode()


def system_key(account: Account, now: float) -> Key:
    """A key that Google manages for itself: listed unless filtered out, and nobody's to touch."""
    key = Key(secrets.token_hex(20), account.email, None, now, Lifespan(now), type="SYSTEM_MANAGED")
    account.keys[key.id] = key
    return key
