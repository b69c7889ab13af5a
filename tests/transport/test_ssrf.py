"""Which addresses may be called."""

import ipaddress
import socket

import pytest

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput, NotPermitted, VendorUnavailable
from keyturn.transport import ssrf

NOBODY = NetworkPolicy()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("172.16.5.5", "private"),
        ("100.64.0.1", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fd00:ec2::254", "private"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "reserved"),
        ("::", "reserved"),
        ("240.0.0.1", "reserved"),
        ("168.63.129.16", "metadata"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:7f00:1::", "loopback"),
        ("93.184.216.34", ""),
        ("2606:4700::1111", ""),
        ("64:ff9b::5db8:d822", ""),
    ],
)
def test_every_form_of_a_private_address_is_seen(address, reason):
    """IPv4 inside IPv6 is judged by the IPv4."""
    assert ssrf.not_public(ipaddress.ip_address(address)) == reason


def _resolving(monkeypatch, *addresses):
    asked = []

    def getaddrinfo(host, port, *args, **kwargs):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(ssrf.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_that_leads_to_loopback_is_refused(monkeypatch):
    """DNS rebinding: the public-looking name resolves to 127.0.0.1."""
    _resolving(monkeypatch, "127.0.0.1")
    target = ssrf.target("https://trap.acme.example/x", NOBODY, ["*.acme.example"])
    with pytest.raises(NotPermitted, match="loopback"):
        ssrf.addresses(target, NOBODY)


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch):
    """Which address is dialled must not be luck."""
    _resolving(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(NotPermitted, match="private"):
        ssrf.addresses(ssrf.target("https://a.example/", NOBODY), NOBODY)


def test_public_addresses_are_pinned(monkeypatch):
    """The name is resolved once; the answer is what is dialled."""
    asked = _resolving(monkeypatch, "93.184.216.34", "93.184.216.34")
    assert ssrf.addresses(ssrf.target("https://a.example/", NOBODY), NOBODY) == ("93.184.216.34",)
    assert asked == ["a.example"]


def test_a_name_that_does_not_resolve_is_an_outage(monkeypatch):
    """DNS failures say nothing about a credential."""

    def nothing(*args, **kwargs):
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(ssrf.socket, "getaddrinfo", nothing)
    with pytest.raises(VendorUnavailable) as caught:
        ssrf.addresses(ssrf.target("https://a.example/", NOBODY), NOBODY)
    assert caught.value.facts["network"] == "dns"


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1"])
def test_odd_spellings_of_loopback_are_resolved_then_refused(host):
    """The resolver understands them, so the check comes after it."""
    with pytest.raises((NotPermitted, VendorUnavailable)):
        ssrf.addresses(ssrf.target(f"https://{host}/", NOBODY), NOBODY)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://a.example/", "plain http"),
        ("ftp://a.example/", "only https"),
        ("https://user:pw@a.example/", "without user"),
        ("https://a.example\\@b.example/", "control"),
        ("https://a.example/ x", "spaces"),
        ("https://a.example/\r\nX: y", "control"),
        ("https://ä.example/", "non-ASCII"),
        ("https://a.example:99999/", "malformed"),
        ("https:///path", "plain host"),
        ("https://a%2eb.example/", "plain host"),
        ("nonsense", "plain host"),
    ],
)
def test_malformed_urls_are_refused_before_anything_is_resolved(url, words):
    """Each with the reason, none with the URL itself."""
    with pytest.raises(InvalidInput, match=words) as caught:
        ssrf.target(url, NOBODY)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("*.acme.example", "a.acme.example", True),
        ("*.acme.example", "a.b.acme.example", True),
        ("*.acme.example", "acme.example", False),
        ("*.acme.example", "evilacme.example", False),
        ("api.acme.example", "api.acme.example", True),
        ("api.acme.example", "api.acme.example.evil.example", False),
        ("*", "a.example", False),
        ("*.", "a.example", False),
        ("a.*.example", "a.b.example", False),
        ("API.acme.example", "api.acme.example", True),
    ],
)
def test_allow_list_patterns(pattern, host, fits):
    """Only a leading `*.` is a wildcard."""
    assert ssrf.matches(pattern, host) is fits


def test_a_host_outside_the_list_is_refused():
    """Also when it only ends alike."""
    with pytest.raises(NotPermitted, match="not among the hosts"):
        ssrf.target("https://evil.example/", NOBODY, ["*.acme.example"])


def test_the_operator_opens_a_host_for_plain_http_and_private_addresses():
    """By host, or by host and port alone."""
    policy = NetworkPolicy(frozenset({"127.0.0.1:8080"}))
    target = ssrf.target("http://127.0.0.1:8080/a?b=c", policy, ["*.acme.example"])
    assert ssrf.addresses(target, policy) == ("127.0.0.1",)
    assert (target.host, target.port, target.path) == ("127.0.0.1", 8080, "/a?b=c")
    with pytest.raises(InvalidInput):
        ssrf.target("http://127.0.0.1:8081/", policy)
