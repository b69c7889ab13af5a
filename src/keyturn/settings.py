"""The settings, read from the environment once. Only this module reads the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput
from keyturn.model.approval import Rules
from keyturn.model.post import Post


@dataclass(frozen=True)
class SignOn:
    """A provider of single sign-on (OpenID Connect), and which of its groups has which role, in which project."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    roles: tuple[tuple[str, str, str], ...]
    claim: str = "groups"
    scope: str = "openid profile email"


@dataclass(frozen=True)
class Settings:
    """Where things are and how patient the hub is."""

    home: Path
    database: str
    kek: str
    network: NetworkPolicy
    workers: int = 8
    patience: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    public_url: str = "http://127.0.0.1:8425"
    actor: str = "local"
    egress: tuple[str, ...] = ()
    sign_on: SignOn | None = None
    approvals: Rules = field(default_factory=Rules)
    post: Post | None = None
    leak_keys: str = ""

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Reads `KEYTURN_*`. Raises: InvalidInput naming the variable.

        KEYTURN_HOME           folder of the database and the spool (default ~/.local/share/keyturn)
        KEYTURN_DATABASE       sqlite:///path (default: keyturn.db in the home) or postgresql://...
        KEYTURN_KEK            where master keys come from (default: a file in ~/.config/keyturn)
        KEYTURN_ALLOWED_HOSTS  host or host:port, comma separated: private or plain-http hosts connectors may reach
        KEYTURN_WORKERS        runs in flight at once (default 8)
        KEYTURN_PATIENCE       scales every wait of the retry ladders (default 1; tests use less)
        KEYTURN_PUBLIC_URL     how a browser reaches this hub, for OAuth callbacks
        KEYTURN_ACTOR          who the audit trail names for commands (default: the login name)
        KEYTURN_EGRESS_ADDRESSES  addresses or networks this hub's calls come from, comma separated: shown where a vendor must let them in
        KEYTURN_OIDC_ISSUER    address of a provider of single sign-on (OpenID Connect); empty for none
        KEYTURN_OIDC_CLIENT_ID this hub's client id there; its redirect address is the public URL and /sign-in/sso/back
        KEYTURN_OIDC_CLIENT_SECRET  the client's secret, or @ and the path of a file that holds it
        KEYTURN_OIDC_ROLES     group=role or group=role@project, comma separated; who is in none of them is refused
        KEYTURN_OIDC_CLAIM     the claim that lists groups (default groups)
        KEYTURN_OIDC_SCOPE     what is asked for (default "openid profile email")
        KEYTURN_APPROVALS      goals that need a second person, comma separated; on or off (default: the usual ones once somebody has an account)
        KEYTURN_SMTP_URL       server for mails: smtp://user@host:587 (STARTTLS) or smtps://user@host:465; empty for none
        KEYTURN_SMTP_PASSWORD  the password there, or @ and the path of a file that holds it
        KEYTURN_MAIL_FROM      whom mails come from (default: keyturn at this hub's host)
        KEYTURN_LEAK_KEYS_URL  https address of the public keys with which a scanning service signs its leak reports, as https://api.github.com/meta/public_keys/secret_scanning; empty: no signed report is believed
        KEYTURN_TOKEN          token for `keyturn --server`, or @ and the path of a file that holds it (default: the OS keyring)
        """
        env = os.environ if environment is None else environment
        home = Path(
            env.get("KEYTURN_HOME")
            or Path(env.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "keyturn"
        )
        config = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "keyturn"
        hosts = frozenset(
            host.strip() for host in env.get("KEYTURN_ALLOWED_HOSTS", "").split(",") if host.strip()
        )
        return cls(
            home=home,
            database=env.get("KEYTURN_DATABASE") or f"sqlite:///{home / 'keyturn.db'}",
            kek=env.get("KEYTURN_KEK") or f"file:{config / 'kek'}",
            network=NetworkPolicy(hosts),
            environment=env,
            workers=int(_number(env, "KEYTURN_WORKERS", 8, 1)),
            patience=_number(env, "KEYTURN_PATIENCE", 1.0, 0.0),
            public_url=env.get("KEYTURN_PUBLIC_URL", "http://127.0.0.1:8425").rstrip("/"),
            actor=env.get("KEYTURN_ACTOR") or env.get("USER") or env.get("LOGNAME") or "local",
            egress=_addresses(env, "KEYTURN_EGRESS_ADDRESSES"),
            sign_on=_sign_on(env),
            approvals=Rules.read(env.get("KEYTURN_APPROVALS", "")),
            post=_post(env),
            leak_keys=_leak_keys(env),
        )


def token_for(server: str, environment: Mapping[str, str] | None = None) -> str:
    """The token for a hub's API: KEYTURN_TOKEN, else the OS keyring's entry `keyturn` for this address.

    Raises: InvalidInput when there is none.
    """
    env = os.environ if environment is None else environment
    token = env.get("KEYTURN_TOKEN", "").strip()
    if token.startswith("@"):
        try:
            token = Path(token[1:]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(
                f"the file of KEYTURN_TOKEN cannot be read ({error.strerror})", field="KEYTURN_TOKEN"
            ) from None
    if not token and environment is None:
        with suppress(Exception):  # no keyring here, or a locked one: then there is no token in it
            import keyring

            token = keyring.get_password("keyturn", server) or ""
    if not token:
        raise InvalidInput(
            "there is no token for this server",
            hint=f"Set KEYTURN_TOKEN, or keep it in the keyring: `keyring set keyturn {server}`.",
            field="KEYTURN_TOKEN",
        )
    return token


def _sign_on(env: Mapping[str, str]) -> SignOn | None:
    issuer = env.get("KEYTURN_OIDC_ISSUER", "").strip()
    if not issuer:
        return None
    roles = []
    for each in env.get("KEYTURN_OIDC_ROLES", "").split(","):
        if not each.strip():
            continue
        group, equals, held = each.strip().rpartition("=")
        role, _, project = held.partition("@")
        if not equals or role not in {"viewer", "operator", "approver", "admin"}:
            raise InvalidInput(
                "KEYTURN_OIDC_ROLES must be group=role or group=role@project, comma separated",
                hint="Roles: viewer, operator, approver, admin.",
                field="KEYTURN_OIDC_ROLES",
            )
        roles.append((group.strip(), role, project.strip()))
    secret = env.get("KEYTURN_OIDC_CLIENT_SECRET", "")
    if secret.startswith("@"):
        try:
            secret = Path(secret[1:]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(
                f"the file of KEYTURN_OIDC_CLIENT_SECRET cannot be read ({error.strerror})",
                field="KEYTURN_OIDC_CLIENT_SECRET",
            ) from None
    client_id = env.get("KEYTURN_OIDC_CLIENT_ID", "").strip()
    if not client_id or not roles:
        missing = "KEYTURN_OIDC_ROLES" if client_id else "KEYTURN_OIDC_CLIENT_ID"
        raise InvalidInput(f"KEYTURN_OIDC_ISSUER needs {missing} as well", field=missing)
    return SignOn(
        issuer,
        client_id,
        secret,
        tuple(roles),
        env.get("KEYTURN_OIDC_CLAIM") or "groups",
        env.get("KEYTURN_OIDC_SCOPE") or "openid profile email",
    )


def _post(env: Mapping[str, str]) -> Post | None:
    """Where mails are handed in. `smtp+plain://` is for a server on this machine: nothing is encrypted, no login."""
    text = env.get("KEYTURN_SMTP_URL", "").strip()
    if not text:
        return None
    kinds = {"smtp": ("starttls", 587), "smtps": ("tls", 465), "smtp+plain": ("none", 25)}
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in kinds or not parts.hostname or parts.password is not None:
        raise InvalidInput(
            "KEYTURN_SMTP_URL must be smtp://user@host:587 or smtps://user@host:465",
            hint="The password goes into KEYTURN_SMTP_PASSWORD.",
            field="KEYTURN_SMTP_URL",
        )
    tls, usual = kinds[parts.scheme]
    password = env.get("KEYTURN_SMTP_PASSWORD", "")
    if password.startswith("@"):
        try:
            password = Path(password[1:]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(
                f"the file of KEYTURN_SMTP_PASSWORD cannot be read ({error.strerror})",
                field="KEYTURN_SMTP_PASSWORD",
            ) from None
    host = urlsplit(env.get("KEYTURN_PUBLIC_URL", "")).hostname or "localhost"
    sender = env.get("KEYTURN_MAIL_FROM") or f"keyturn@{host}"
    return Post(parts.hostname, port or usual, sender, tls, unquote(parts.username or ""), password)


def _leak_keys(env: Mapping[str, str]) -> str:
    """Plain http is let pass here: the transport refuses it, unless the operator opened that host."""
    text = env.get("KEYTURN_LEAK_KEYS_URL", "").strip()
    try:
        parts = urlsplit(text)
        is_fit = parts.scheme in {"https", "http"} and bool(parts.hostname) and not parts.username
    except ValueError:
        is_fit = False
    if text and not is_fit:
        raise InvalidInput(
            "KEYTURN_LEAK_KEYS_URL must be an https address",
            hint="GitHub's: https://api.github.com/meta/public_keys/secret_scanning",
            field="KEYTURN_LEAK_KEYS_URL",
        )
    return text


def _addresses(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    found = tuple(each.strip() for each in env.get(name, "").split(",") if each.strip())
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise InvalidInput(
                f"{name} must be addresses or networks, comma separated: {each} is neither",
                hint="Example: 203.0.113.7, 198.51.100.0/28",
                field=name,
            ) from None
    return found


def _number(env: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise InvalidInput(f"{name} must be a number of at least {least:g}", field=name)
    return value
