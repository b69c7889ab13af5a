"""The settings, read from the environment once. Only this module reads the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput


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
        )


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
