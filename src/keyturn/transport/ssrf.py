"""Decides which URL may be called and at which address: https, allowed hosts, public addresses, resolved once.

The operator's `NetworkPolicy` is the only way around: a host opened there may be private and may speak plain http.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput, NotPermitted, VendorUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = tuple(ipaddress.IPv6Network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # the deprecated IPv4-compatible form
_AZURE_WIRE_SERVER = ipaddress.IPv4Address(
    "168.63.129.16"
)  # public by number, yet the host's own metadata service
_HOST = re.compile(r"^[A-Za-z0-9._-]{1,253}$|^[0-9A-Fa-f:.]{2,45}$")


@dataclass(frozen=True)
class Target:
    """A URL that may be called. `path` is the origin-form target, query included: never put it into a message."""

    scheme: str
    host: str
    port: int
    path: str


def target(url: str, network: NetworkPolicy, hosts: Iterable[str] = ()) -> Target:
    """Takes `url` apart and refuses what must not be called. No network.

    `hosts` are allow-list patterns (`api.acme.example`, `*.acme.example`); none means that the caller wrote the host.
    Raises: InvalidInput (malformed, plain http), NotPermitted (host outside the allow-list).
    """
    if not url.isascii() or any(c <= " " or c in "\\\x7f" for c in url):
        raise InvalidInput("the URL holds spaces, control or non-ASCII characters", field="url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("the URL is malformed", field="url") from None
    host = (parts.hostname or "").rstrip(".").lower()
    if not _HOST.match(host) or parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "the URL needs a plain host name, without user or password",
            hint="Write it as https://host.example/path.",
            field="url",
        )
    if parts.scheme not in {"https", "http"}:
        raise InvalidInput("only https URLs are called", hint="Start the URL with https://.", field="url")
    port = port or (443 if parts.scheme == "https" else 80)
    opened = network.allows(host, port)
    if parts.scheme == "http" and not opened:
        raise InvalidInput(
            f"plain http to {host} is refused",
            hint="Use https, or let the operator open this host in the network policy.",
            field="url",
            host=host,
        )
    patterns = tuple(hosts)
    if patterns and not opened and not any(matches(p, host) for p in patterns):
        raise NotPermitted(
            f"{host} is not among the hosts this definition may call",
            hint=f"Allowed: {', '.join(patterns)}.",
            host=host,
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def matches(pattern: str, host: str) -> bool:
    """Whether `host` falls under an allow-list pattern; `*.x` means any name below x, never x itself."""
    pattern = pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        return len(pattern) > 2 and host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return "*" not in pattern and host == pattern


def addresses(wanted: Target, network: NetworkPolicy) -> tuple[str, ...]:
    """Resolves the host once and returns the addresses to pin.

    A single private address among public ones refuses the whole name: which one is dialled must not be luck.
    Raises: NotPermitted (not a public address), VendorUnavailable (the name does not resolve).
    """
    try:
        answers = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise VendorUnavailable(
            f"the name {wanted.host} does not resolve",
            hint="Check the host name and this machine's DNS.",
            host=wanted.host,
            network="dns",
        ) from None
    found = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if not network.allows(wanted.host, wanted.port):
        for text in found:
            reason = not_public(ipaddress.ip_address(text.partition("%")[0]))
            if reason:
                raise NotPermitted(
                    f"{wanted.host} leads to a {reason} address",
                    hint="Only the operator can open such a host, in the network policy.",
                    host=wanted.host,
                )
    return found


def not_public(address: Address) -> str:
    """Why an address is not on the public internet; empty when it is. Looks inside IPv6 forms that carry an IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = _carried(address)
        if carried is not None:
            return not_public(carried)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address == _AZURE_WIRE_SERVER:
        return "metadata"
    if address.is_reserved or address.is_unspecified:
        return "reserved"
    if address.is_private or not address.is_global:
        return "private"
    return ""


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    low = int(address) & 0xFFFFFFFF
    if any(address in net for net in _NAT64) or (address in _COMPATIBLE and low > 0xFFFF):
        return ipaddress.IPv4Address(low)
    return None
