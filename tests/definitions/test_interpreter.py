"""The interpreter against a local server: what is declared happens, what is unclear stays unclear."""

import base64
import json
import time
import urllib.parse
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from keyturn.contract.values import Access
from keyturn.definitions.check import accept
from keyturn.definitions.classify import LONGEST_WAIT_S
from keyturn.definitions.interpreter import capabilities
from keyturn.definitions.reader import read_definition
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict

GOOD = Material({"key_id": "k1", "api_key": "ak_goodgood1234"}, frozenset({"key_id"}))
OLD = Material({"key_id": "k0", "api_key": "ak_oldoldold123"}, frozenset({"key_id"}))
ME = {
    "ok": True,
    "user": {"id": 7, "email": "a@b"},
    "account": {"id": "acc"},
    "roles": [{"name": "r1"}, {"name": "r2"}],
}


def _access(server, acting=GOOD, **more):
    settings = {"base_url": server.url, **more.pop("settings", {})}
    return Access(settings, acting=acting, network=server.network, marker="kt-m1", deadline_s=30, **more)


@pytest.fixture
def acme(sample):
    return capabilities(accept(sample("acme.yaml"), "acme.yaml"))


def test_a_working_key_is_accepted_as_whom(server, acme):
    """Identity, tenant and rights come from the declared places; the key travels in its header."""
    server.on("GET", "/api/v2/me", ME)
    probe = acme.verifier.verify(_access(server), GOOD)
    assert probe.verdict is Verdict.ACCEPTED
    assert probe.identity == {"principal": "7", "tenant": "acc", "principal_label": "a@b"}
    assert probe.rights == {"r1", "r2"}
    assert server.seen[-1].headers["x-api-key"] == "ak_goodgood1234"
    assert server.seen[-1].headers["user-agent"] == "keyturn/1"


@pytest.mark.parametrize(
    ("answer", "verdict", "code"),
    [
        ((401, {}), "rejected", "credential_invalid"),
        ((403, {"code": "require_feature"}), "unknown", "plan"),
        ((403, {}), "unknown", "permission"),
        ((429, {}, {"Retry-After": "7"}), "unknown", "rate_limited"),
        ((503, {}), "unknown", "transient"),
        ((200, b"<html>login</html>", {"Content-Type": "text/html"}), "unknown", "unexpected_page"),
        ((200, {"ok": False}), "unknown", "unknown"),
        ((302, {}, {"Location": "https://evil.example/"}), "unknown", "unexpected_page"),
        ((404, {}), "unknown", "not_found"),
        ((200, {"ok": True}), "unknown", "unexpected_answer"),
        ((200, {**ME, "user": {"id": {"a": 1}}}), "unknown", "unexpected_answer"),
        (None, "unknown", "unavailable"),
    ],
)
def test_only_the_documented_no_is_a_rejection(server, acme, answer, verdict, code):
    """Outages, pages, limits and missing rights say nothing about the key."""
    server.on("GET", "/api/v2/me", (lambda seen: None) if answer is None else answer)
    probe = acme.verifier.verify(_access(server), GOOD)
    assert (probe.verdict.value, probe.code) == (verdict, code)
    assert probe.wait_s == (7 if code == "rate_limited" else 0)
    assert "ak_" not in repr(probe)


@pytest.mark.parametrize(
    ("wait", "answer", "seconds"),
    [
        ("header: Retry-After, as: seconds", lambda _: ({}, {"Retry-After": "7"}), 7),
        (
            "header: Retry-After, as: seconds",
            lambda at: ({}, {"Retry-After": formatdate(at, usegmt=True)}),
            20,
        ),
        (
            "header: Retry-After, as: http_date",
            lambda at: ({}, {"Retry-After": formatdate(at, usegmt=True)}),
            20,
        ),
        ("header: X-Wait-Ms, as: ms", lambda _: ({}, {"X-Wait-Ms": "2500"}), 2.5),
        ("header: X-RateLimit-Reset, as: unix", lambda at: ({}, {"X-RateLimit-Reset": str(int(at))}), 20),
        ('json: "$.error.until", as: iso', lambda at: ({"error": {"until": _iso(at)}}, {}), 20),
        ("header: Retry-After, as: seconds", lambda _: ({}, {"Retry-After": "soon"}), 0),
        ("header: X-RateLimit-Reset, as: unix", lambda _: ({}, {"X-RateLimit-Reset": "1"}), 0),
        ("header: Retry-After, as: seconds", lambda _: ({}, {"Retry-After": "1e300"}), LONGEST_WAIT_S),
    ],
)
def test_how_long_to_wait_is_read_in_every_dialect(server, sample, wait, answer, seconds):
    """What is no time, or is over, is none; nobody is made to wait for ever."""
    text = sample("acme.yaml").replace("wait: {header: Retry-After, as: seconds}", f"wait: {{{wait}}}")
    can = capabilities(accept(text, "acme.yaml"))
    body, headers = answer(time.time() + 20)
    server.on("GET", "/api/v2/me", (429, body, headers))
    probe = can.verifier.verify(_access(server), GOOD)
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "rate_limited")
    assert probe.wait_s == pytest.approx(seconds, abs=1.5)


def _iso(at):
    return datetime.fromtimestamp(at, UTC).isoformat()


def test_a_bogus_key_has_the_same_shape_and_another_middle(acme):
    """Only the secret part changes; its pattern holds."""
    for _ in range(20):
        bogus = acme.verifier.bogus(GOOD)
        assert bogus["key_id"] == "k1"
        assert bogus["api_key"] != GOOD["api_key"]
        assert bogus["api_key"].startswith("ak_")
        assert len(bogus["api_key"]) == len(GOOD["api_key"])


def test_settings_must_have_their_shape_at_every_call(server, acme):
    """A setting decides the host."""
    access = Access({"subdomain": "evil.example/x?"}, acting=GOOD, network=server.network)
    with pytest.raises(InvalidInput) as caught:
        acme.verifier.verify(access, GOOD)
    assert caught.value.facts["field"] == "subdomain"


def test_the_inventory_follows_every_page(server, acme):
    """Cursor by cursor, with times read."""

    def page(seen):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(seen.path).query)
        assert query["limit"] == ["100"]
        if "cursor" in query:
            return {"keys": [{"id": "k2", "name": "kt-m1", "created_at": 1700000000000}], "next": None}
        return {
            "keys": [{"id": "k1", "name": "n", "created_at": "2026-01-01T00:00:00Z", "last_used_at": None}],
            "next": "c/2&x",
        }

    server.on("GET", "/api/v2/api-keys", page)
    found = acme.lister.list(_access(server))
    assert [(r.ref.id, r.ref.label) for r in found] == [("k1", "n"), ("k2", "kt-m1")]
    assert [r.created_at for r in found] == [1767225600.0, 1700000000.0]
    assert found[0].last_used_at is None


def test_an_endless_inventory_is_an_error_and_not_a_short_list(server, acme):
    """Absent must mean absent."""
    server.on("GET", "/api/v2/api-keys", {"keys": [{"id": "k1"}], "next": "again"})
    with pytest.raises(UnexpectedAnswer, match="goes on"):
        acme.lister.list(_access(server))


@pytest.mark.parametrize("kind", ["link_header", "next_url_in_body", "page"])
def test_other_paginations(server, sample, kind):
    """A next page on another host is refused: the credential would go along."""
    extra = {"next_url_in_body": 'response_path: "$.next"', "page": "param: page"}.get(kind, "max_pages: 5")
    text = sample("acme.yaml").replace(
        'pagination: {kind: cursor, response_path: "$.next", param: cursor, max_pages: 20}',
        f"pagination: {{kind: {kind}, {extra}}}",
    )
    lister = capabilities(accept(text, "x")).lister
    link = "/api/v2/api-keys?p=2"

    def page(seen):
        last = "p=2" in seen.path or "page=3" in seen.path
        number = 2 if last or "page=2" in seen.path else 1
        body = {
            "keys": [] if "page=3" in seen.path else [{"id": f"k{number}"}],
            "next": None if last else link,
        }
        return 200, body, {} if last else {"Link": f'<{link}>; rel="next"'}

    server.on("GET", "/api/v2/api-keys", page)
    assert [r.ref.id for r in lister.list(_access(server))] == ["k1", "k2"]
    if kind != "page":
        link = "https://evil.example/steal"
        with pytest.raises(UnexpectedAnswer, match="another host"):
            lister.list(_access(server))


def test_a_created_key_is_read_from_its_sealed_answer(server, acme):
    """The marker is in the name and the idempotency key; the handle becomes the reference."""
    server.on("POST", "/api/v2/api-keys", (201, {"id": "k9", "secret": "ak_newnewnew123"}))
    receipt = acme.issuer.issue(_access(server), Ref())
    sent = server.seen[-1]
    assert sent.headers["idempotency-key"] == "kt-m1"
    assert sent.json()["name"].endswith(" kt-m1")
    candidate = acme.issuer.read(_access(server), receipt)
    assert candidate.ref == Ref(id="k9", label="kt-m1")
    assert dict(candidate.material) == {"key_id": "k9", "api_key": "ak_newnewnew123"}
    assert candidate.material.public == {"key_id"}
    with pytest.raises(UnexpectedAnswer):
        acme.issuer.read(_access(server), b'{"id": "k9"}')


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((409, {}), CapReached),
        ((401, {}), CredentialRejected),
        ((403, {}), PermissionMissing),
        ((422, {}), ValueRefused),
        ((429, {}), VendorThrottled),
        ((503, {}), OutcomeUnknown),
        ((418, {}), UnexpectedAnswer),
        (None, OutcomeUnknown),
    ],
)
def test_refusals_of_a_change(server, acme, answer, error):
    """Definite where documented, unknown where the change may have happened."""
    server.on("POST", "/api/v2/api-keys", (lambda seen: None) if answer is None else answer)
    with pytest.raises(error):
        acme.issuer.issue(_access(server), Ref())


@pytest.mark.parametrize("status", [200, 204, 404, 410])
def test_revoking_twice_is_done_once(server, acme, status):
    """By handle, signed by the new key; gone already is done."""
    server.on("DELETE", "/api/v2/api-keys/k%2F0", (status, {}))
    acme.revoker.revoke(_access(server), Ref(id="k/0"), OLD)
    assert server.seen[-1].headers["x-api-key"] == "ak_goodgood1234"
    acme.revoker.revoke(_access(server), Ref(id="k/0"), None)


def test_a_pasted_key_is_located_by_its_own_id(server, acme):
    """No call is made."""
    assert acme.locator.locate(_access(server), GOOD) == Ref(id="k1")
    assert server.seen == []


def test_a_handle_cannot_climb_out_of_the_path(server, acme):
    """`..` is refused, not encoded."""
    with pytest.raises(InvalidInput, match="climb"):
        acme.revoker.revoke(_access(server), Ref(id=".."), None)
    with pytest.raises(InvalidInput, match=r"retiring\.key_id"):
        acme.revoker.revoke(_access(server), Ref(), None)


def test_a_password_is_made_here_and_set_by_an_administrator(server, sample):
    """The request is signed by the administrator, the test by the new password."""
    legacy = capabilities(accept(sample("legacy-password.json"), "x"))
    admin = Material({"admin_user": "root", "admin_password": "adm-secret"}, frozenset({"admin_user"}))
    acting = Material({"username": "ana", "password": "old-password"}, frozenset({"username"}))
    access = _access(server, acting, admin=admin)
    candidate = legacy.maker.make(access, Ref(slot="main"))
    assert candidate.ref.slot == "main"
    assert len(candidate.material["password"]) == 24
    assert candidate.material["username"] == "ana"
    server.on("PUT", "/users/ana/password", (204, b""))
    legacy.setter.set(access, candidate.ref, candidate.material)
    legacy.setter.set(access, candidate.ref, candidate.material)
    sent = server.seen[-1]
    assert sent.headers["authorization"] == "Basic " + base64.b64encode(b"root:adm-secret").decode()
    assert urllib.parse.parse_qs(sent.body.decode()) == {"new": [candidate.material["password"]]}
    server.on("GET", "/whoami", (200, b"user=ana;"))
    assert legacy.verifier.verify(access, candidate.material).identity["principal"] == "ana"
    bogus = legacy.verifier.bogus(acting)
    assert bogus["username"] != "ana"  # the real user pays no failed login


PLACES = """\
schema: rest-credential/v1
id: places
title: Places
inputs: {{base_url: {{title: Address}}}}
hosts: [api.acme.example]
base_url: "${{input.base_url}}"
auth: {auth}
test:
  request: {request}
  identity: {{principal: {{status: true}}}}
manual: {{effect: overlap, paste_fields: [], create_steps: [x], revoke_steps: [y]}}
"""


@pytest.mark.parametrize(
    ("auth", "request_", "check"),
    [
        ("{kind: none}", "{method: GET, path: /t}", lambda s: "authorization" not in s.headers),
        ('{kind: bearer, token: "${secret.k}"}', "{method: GET, path: /t}", lambda s: s.headers["authorization"] == "Bearer a b&c"),
        ('{kind: bearer, prefix: Token, token: "${secret.k}"}', "{method: GET, path: /t}", lambda s: s.headers["authorization"] == "Token a b&c"),
        ('{kind: basic, username: "${secret.k}", password: X}', "{method: GET, path: /t}", lambda s: s.headers["authorization"] == "Basic " + base64.b64encode(b"a b&c:X").decode()),
        ('{kind: api_key, allow_secret_in_url: true, place: [{in: query, name: key, format: "${secret.k}"}]}', "{method: GET, path: /t, query: {a: b}}", lambda s: s.path == "/t?a=b&key=a%20b%26c"),
        ('{kind: api_key, place: [{in: cookie, name: sid, format: "${secret.k}"}]}', "{method: GET, path: /t}", lambda s: s.headers["cookie"] == "sid=a%20b&c"),
        ('{kind: api_key, place: [{in: form, name: key, format: "${secret.k}"}]}', "{method: POST, safe: true, path: /t, form: {a: b}}", lambda s: s.body == b"a=b&key=a+b%26c"),
        ('{kind: api_key, place: [{in: json, path: auth.key, format: "${secret.k}"}]}', "{method: POST, safe: true, path: /t, json: {a: 1}}", lambda s: s.json() == {"a": 1, "auth": {"key": "a b&c"}}),
        ('{kind: api_key, place: [{in: header, name: X-Id, format: "id-${secret.i}"}, {in: header, name: X-Key, format: "${secret.k}"}]}', "{method: GET, path: /t}", lambda s: (s.headers["x-id"], s.headers["x-key"]) == ("id-7", "a b&c")),
    ],
)  # fmt: skip
def test_the_credential_travels_where_the_definition_says(server, auth, request_, check):
    """Header, query, cookie, form, JSON, two parts, Basic."""
    definition = read_definition(PLACES.format(auth=auth, request=request_), "x")
    server.on("GET", "/t", {})
    server.on("POST", "/t", {})
    probe = capabilities(definition).verifier.verify(_access(server), Material({"k": "a b&c", "i": "7"}))
    assert probe.verdict is Verdict.ACCEPTED, probe
    assert check(server.seen[-1])


def test_a_line_break_in_a_pasted_key_never_becomes_a_header(server):
    """Refused before anything is sent."""
    auth = '{kind: bearer, token: "${secret.k}"}'
    definition = read_definition(PLACES.format(auth=auth, request="{method: GET, path: /t}"), "x")
    with pytest.raises(InvalidInput):
        capabilities(definition).verifier.verify(_access(server), Material({"k": "a\r\nX-Evil: 1"}))
    assert server.seen == []


def test_a_login_trades_the_password_for_a_session(server):
    """Two fresh calls each time; a refused login is a refused credential."""
    auth = """
  kind: login
  request: {method: POST, path: /login, json: {user: "${secret.user}", password: "${secret.password}"}}
  extract: {token: "$.session"}
  place: [{in: header, name: X-Session, format: "${step.login.token}"}]"""
    text = PLACES.format(auth=auth, request="{method: GET, path: /t}")
    text += "errors: [{when: {status: [401]}, class: credential_invalid}]\n"
    verifier = capabilities(read_definition(text, "x")).verifier
    server.on(
        "POST", "/login", lambda seen: {"session": "s1"} if seen.json()["password"] == "pw" else (401, {})
    )
    server.on("GET", "/t", lambda seen: {} if seen.headers.get("x-session") == "s1" else (401, {}))
    assert (
        verifier.verify(_access(server), Material({"user": "u", "password": "pw"})).verdict
        is Verdict.ACCEPTED
    )
    assert (
        verifier.verify(_access(server), Material({"user": "u", "password": "no"})).verdict
        is Verdict.REJECTED
    )
    assert [s.path for s in server.seen] == ["/login", "/t", "/login"]


def test_a_private_address_is_not_opened_by_a_definition(server, acme):
    """Only the operator opens it."""
    access = Access({"base_url": server.url}, acting=GOOD)
    with pytest.raises(InvalidInput):
        acme.verifier.verify(access, GOOD)
    assert server.seen == []


def test_an_exhausted_deadline_is_an_outage(server, acme):
    """No call is started when its time is over."""
    access = Access({"base_url": server.url}, acting=GOOD, network=server.network, deadline_s=0)
    assert acme.verifier.verify(access, GOOD).verdict is Verdict.UNKNOWN
    with pytest.raises(VendorUnavailable):
        acme.issuer.issue(access, Ref())


def test_client_credentials(server, sample):
    """A fresh token for each test; a dead client is a dead credential, a lost token endpoint is not."""
    oidc = capabilities(accept(sample("oidc-client.yaml"), "x"))
    material = Material({"client_id": "c1", "client_secret": "s/1"}, frozenset({"client_id"}))
    access = Access({"issuer": server.url}, acting=material, network=server.network)
    good = "Basic " + base64.b64encode(b"c1:s%2F1").decode()
    server.on(
        "POST",
        "/token",
        lambda s: (
            {"access_token": "t1"}
            if s.headers["authorization"] == good
            else (401, {"error": "invalid_client"})
        ),
    )
    server.on(
        "GET",
        "/me-api",
        lambda s: (
            {"tenant": "lab", "scope": "a b"} if s.headers["authorization"] == "Bearer t1" else (401, {})
        ),
    )
    probe = oidc.verifier.verify(access, material)
    assert probe.identity == {"principal": "not told", "tenant": "lab"}
    assert probe.rights == {"a", "b"}
    dead = oidc.verifier.verify(access, oidc.verifier.bogus(material))
    assert (dead.verdict, dead.code) == (Verdict.REJECTED, "client_invalid")
    server.on("POST", "/token", (503, {"error": "temporarily_unavailable"}))
    assert oidc.verifier.verify(access, material).code == "transient"
    server.on("POST", "/token", (200, json.dumps({"token": "elsewhere"}).encode()))
    assert oidc.verifier.verify(access, material).code == "unexpected_answer"
