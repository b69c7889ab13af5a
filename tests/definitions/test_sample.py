"""What jobs read by a definition: one bounded GET with the credential, counted; anything unclear stays unclear."""

from __future__ import annotations

import urllib.parse

import pytest

from keyturn.contract.values import Access
from keyturn.definitions.check import accept, check
from keyturn.definitions.interpreter import capabilities
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material

GOOD = Material({"key_id": "k1", "api_key": "ak_goodgood1234"}, frozenset({"key_id"}))
ADMIN = Material({"api_key": "ak_adminadmin12"})
ITEMS = """
sample:
  orders:
    title: orders
    request: {method: GET, path: /orders, query: {state: open}}
    items: "$.orders"
    limit_param: per_page
    most: 50
  names:
    request: {method: GET, path: /names}
    items: "$.names[*].name"
"""


def _access(server):
    return Access(
        {"base_url": server.url}, acting=GOOD, admin=ADMIN, network=server.network, marker="m", deadline_s=5
    )


@pytest.fixture
def text(sample):
    return sample("acme.yaml") + ITEMS


@pytest.fixture
def read(server, text):
    reader = capabilities(accept(text, "acme.yaml")).reader
    return lambda what, limit=10: reader.read_sample(_access(server), GOOD, what, limit)


def test_a_page_is_bounded_and_counted(server, read):
    """The vendor's own parameter bounds it, never above its largest page; the credential itself signs."""
    server.on("GET", "/api/v2/orders", {"orders": [{"id": n} for n in range(30)]})
    found = read("orders", 7)
    assert (found.count, found.detail) == (7, "orders")
    asked = urllib.parse.parse_qs(server.seen[-1].path.partition("?")[2])
    assert asked == {"state": ["open"], "per_page": ["7"]}
    assert server.seen[-1].headers["x-api-key"] == "ak_goodgood1234"
    read("orders", 1000)
    assert "per_page=50" in server.seen[-1].path
    assert len(server.seen) == 2


def test_a_path_to_many_counts_what_it_leads_to(server, read):
    """None is a count as well."""
    server.on("GET", "/api/v2/names", {"names": [{"name": "a"}, {"name": "b"}]})
    assert read("names").count == 2
    server.on("GET", "/api/v2/names", {"names": []})
    assert read("names").count == 0


@pytest.mark.parametrize("what", ["", "everything", "../orders"])
def test_only_what_is_declared_is_read(server, read, what):
    with pytest.raises(InvalidInput) as refused:
        read(what)
    assert "orders, names" in refused.value.hint
    assert server.seen == []


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        ((401, {}), CredentialRejected),
        ((403, {}), PermissionMissing),
        ((429, {}, {"Retry-After": "7"}), VendorThrottled),
        ((503, {}), VendorUnavailable),
        ((200, b"<html>login</html>", {"Content-Type": "text/html"}), KeyturnError),
        ((200, {"orders": {"id": 1}}), UnexpectedAnswer),
        ((200, {"other": []}), UnexpectedAnswer),
        ((200, {"orders": None}), UnexpectedAnswer),
        ((302, {}, {"Location": "https://evil.example/"}), KeyturnError),
        (None, KeyturnError),
    ],
)
def test_no_answer_is_taken_for_a_count(server, read, answer, raised):
    """No message says anything of the body."""
    server.on("GET", "/api/v2/orders", answer)
    with pytest.raises(raised) as refused:
        read("orders")
    assert "evil" not in str(refused.value)
    assert "login" not in str(refused.value.message)


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        (
            "request: {method: GET, path: /orders",
            "request: {method: POST, path: /orders",
            "sample.orders.request.method",
            "GET",
        ),
        ("path: /names}", "path: /names, auth: none}", "sample.names.request.auth", "without the credential"),
        ("    most: 50\n", "    most: 5000\n", "sample.orders", "most is at most"),
        ("  orders:\n", "  Bad-Name:\n", "sample.Bad-Name", "is not a name"),
        ('    items: "$.orders"\n', "", "sample.orders.items", "is missing"),
        (
            "query: {state: open}",
            'query: {key: "${secret.api_key}"}',
            "sample.orders.request.query.key",
            "in a URL",
        ),
        ("    limit_param: per_page\n", "    pages: 3\n", "sample.orders.pages", "not a known key"),
        (
            "path: /names}",
            'url: "https://evil.example/names"}',
            "sample.names.request.url",
            "not among hosts",
        ),
    ],
)
def test_a_sample_that_could_do_harm_is_refused(text, old, new, field, words):
    assert old in text
    found = [(f.field, f.message) for f in check(text.replace(old, new), "x").findings if f.level == "refuse"]
    assert any(field == at and words in said for at, said in found), found


def test_an_unbounded_page_is_remarked(text):
    remarks = [f.field for f in check(text, "x").findings if f.level != "refuse"]
    assert "sample.names.limit_param" in remarks
    assert "sample.orders.limit_param" not in remarks


def test_a_definition_without_a_sample_reads_none(sample):
    assert capabilities(accept(sample("acme.yaml"), "acme.yaml")).reader is None
