"""What an issued credential may do and from where: its connection's settings, parsed once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from keyturn.errors import InvalidInput
from keyturn.storage.rows import load

_SPLIT = re.compile(r"[\s,]+")


@dataclass(frozen=True)
class Grants:
    """No network listed means every address."""

    scopes: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]
    rate: int | None = None  # calls a minute of its own; 0 for no limit, None for the hub's

    def covers(self, scope: str) -> bool:
        """Whether a call that needs `scope` is allowed. `lease` covers `lease:warehouse`, never the other way round;
        a call that needs `lease:` is content with any of them."""
        if not scope or scope in self.scopes or scope.partition(":")[0] in self.scopes:
            return True
        return scope.endswith(":") and any(each.startswith(scope) for each in self.scopes)

    def admits(self, address: str) -> bool:
        """Whether a caller's address is in one of the networks. An address nobody knows is in none."""
        if not self.networks:
            return True
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)


def of(settings: Mapping[str, Any]) -> Grants:
    """Reads `scopes` and `allowed_cidrs`. Raises: InvalidInput naming the field."""
    try:
        networks = tuple(ip_network(each, strict=False) for each in _words(settings, "allowed_cidrs"))
    except ValueError:
        raise InvalidInput(
            "allowed_cidrs must be networks such as 192.0.2.0/24 or 2001:db8::/32",
            hint="Separate several by commas; leave it empty to allow every address.",
            field="allowed_cidrs",
        ) from None
    rate = settings.get("rate_per_minute")
    own = None if rate in {None, ""} else int(str(rate))
    return Grants(frozenset(_words(settings, "scopes")), networks, own)


@lru_cache(maxsize=1024)
def of_text(settings: str) -> Grants:
    """The same from the stored text; a pure function of it, so a change is seen at once."""
    return of(load(settings))


def _words(settings: Mapping[str, Any], name: str) -> list[str]:
    return [word for word in _SPLIT.split(str(settings.get(name, ""))) if word]
