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
    NotFound,
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
    ("answer", "why"),
    [
        ((200, {"success": False}), "an error behind a 200 counts as none"),
        ((200, {"names": None}), "nothing is no list"),
        ((200, {"names": [{"name": "a"}, {"name": {"b": 1}}]}), "things of several kinds are no list"),
        ((200, b'{"names": [{"name": "a"}]}', {"Content-Type": "text/plain"}), "it does not say it is JSON"),
    ],
)
def test_a_path_to_many_needs_its_list(server, read, answer, why):
    server.on("GET", "/api/v2/names", answer)
    with pytest.raises(UnexpectedAnswer):
        read("names")


# -- what a job names ----------------------------------------------------------------------------------------------------

NAMED = """
sample:
  rows:
    title: rows of a table
    named: {form: SCHEMA.TABLE, pattern: '^(?P<schema>[a-z]{1,20})[.](?P<table>[a-z ]{1,20})$', example: shop.orders}
    request: {method: GET, path: "/schemas/${sample.schema}/tables/${sample.table}/rows"}
    success:
      - {json: {path: "$.kind", equals: rows}}
    items: "$.rows"
    absent_is_empty: true
    limit_param: n
  report:
    request: {method: POST, path: /report, json: {most: "${sample.limit}", by: day}, safe: true}
    items: "$.rows"
"""


@pytest.fixture
def read_named(server, sample):
    reader = capabilities(accept(sample("acme.yaml") + NAMED, "acme.yaml")).reader
    return lambda what, limit=10: reader.read_sample(_access(server), GOOD, what, limit)


def test_a_name_is_taken_apart_and_its_pieces_are_encoded(server, read_named):
    server.on(
        "GET", "/api/v2/schemas/shop/tables/big%20orders/rows", {"kind": "rows", "rows": [{"v": 1}, {"v": 2}]}
    )
    found = read_named("shop.big orders", 3)
    assert (found.count, found.detail) == (2, "shop.big orders")
    assert server.seen[-1].path.endswith("/schemas/shop/tables/big%20orders/rows?n=3")


@pytest.mark.parametrize(
    "what",
    [
        "shop",
        "shop.",
        "../x",
        "shop.or/ders",
        "shop.${secret.api_key}",
        "a.b.c",
        "shop.x\n",
        "shop.x?y=1",
        "rows",
    ],
)
def test_a_name_of_another_form_is_never_sent(server, read_named, what):
    """The refusal says what there is to read; a named sample cannot be read by its own name."""
    with pytest.raises(InvalidInput) as refused:
        read_named(what)
    assert "SCHEMA.TABLE (such as shop.orders), report" in refused.value.hint
    assert server.seen == []


def test_the_one_sample_without_a_name_is_what_is_read_when_nothing_is_named(server, read_named):
    """How many are asked for stands where the definition puts it; a POST that is declared safe only reads."""
    server.on("POST", "/api/v2/report", {"rows": [{"day": 1}]})
    assert read_named("", 4).count == 1
    assert server.seen[-1].json() == {"most": "4", "by": "day"}


def test_what_is_not_there_is_said_by_its_name(server, read_named):
    server.on("GET", "/api/v2/schemas/shop/tables/nowhere/rows", (404, {"error": "no such table"}))
    with pytest.raises(NotFound) as refused:
        read_named("shop.nowhere")
    assert "shop.nowhere" in refused.value.message
    server.on("POST", "/api/v2/report", (404, {"error": "no such route"}))
    # Nothing was named: the address is wrong, or the vendor withdrew it.
    with pytest.raises(UnexpectedAnswer):
        read_named("report")


@pytest.mark.parametrize(
    ("answer", "count"),
    [({"kind": "rows"}, 0), ({"kind": "rows", "rows": []}, 0), ({"kind": "rows", "rows": [{"v": 1}]}, 1)],
)
def test_an_empty_list_may_be_left_out(server, read_named, answer, count):
    server.on("GET", "/api/v2/schemas/shop/tables/orders/rows", answer)
    assert read_named("shop.orders").count == count


@pytest.mark.parametrize("answer", [{}, {"kind": "error"}, {"kind": "rows", "rows": {"v": 1}}, [], "rows"])
def test_an_answer_of_another_kind_is_no_empty_list(server, read_named, answer):
    server.on("GET", "/api/v2/schemas/shop/tables/orders/rows", (200, answer))
    with pytest.raises(KeyturnError) as refused:
        read_named("shop.orders")
    assert isinstance(refused.value, UnexpectedAnswer | VendorUnavailable)


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        (", safe: true}", "}", "sample.report.request.method", "read with GET"),
        ("${sample.schema}", "${sample.owner}", "sample.rows", "sample.owner is not defined"),
        (
            "/schemas/${sample.schema}/tables/${sample.table}/rows",
            "/rows",
            "sample.rows.named",
            "is not used",
        ),
        ("[a-z ]{1,20}", "[a-z ]+", "sample.rows.named.pattern", "no upper bound"),
        ("[a-z ]{1,20}", "[a-z{1,20}", "sample.rows.named", "not a valid regular expression"),
        ("example: shop.orders", "example: Orders", "sample.rows.named", "does not fit"),
        (
            '    success:\n      - {json: {path: "$.kind", equals: rows}}\n',
            "",
            "sample.rows.absent_is_empty",
            "any other answer",
        ),
        ("by: day", 'by: "${sample.schema}"', "sample.report", "sample.schema is not defined"),
    ],
)
def test_a_named_sample_that_could_do_harm_is_refused(sample, old, new, field, words):
    assert old in NAMED
    text = sample("acme.yaml") + NAMED.replace(old, new)
    found = [(f.field, f.message) for f in check(text, "x").findings if f.level == "refuse"]
    assert any(field == at and words in said for at, said in found), found


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
