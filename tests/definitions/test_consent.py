"""OAuth authorization code: consent, exchange, refresh, and which site is meant. Jira's own definition is the subject."""

import time
import urllib.parse
from pathlib import Path

import pytest

from keyturn.contract.values import Access
from keyturn.definitions.consent import challenge
from keyturn.definitions.interpreter import capabilities
from keyturn.definitions.reader import read_definition
from keyturn.definitions.system import read_system
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict

ADMIN = Material({"client_id": "app", "client_secret": "app-secret"}, frozenset({"client_id"}))
SESSION = {"state": "st", "code_verifier": "v" * 43, "redirect_uri": "https://hub.example/cb"}
SITES = [
    {"id": "cloud-1", "url": "https://one.atlassian.net", "scopes": ["read:jira-work"]},
    {"id": "cloud-1", "url": "https://one.atlassian.net", "scopes": ["read:jira-user"]},
    {"id": "conf", "url": "https://one.atlassian.net", "scopes": ["read:confluence"]},
]


@pytest.fixture(scope="module")
def jira():
    path = Path(__file__).parents[2] / "src/keyturn/connectors/jira/definition.yaml"
    return capabilities(read_system(path.read_text(), "jira").method("oauth").rest)


def _access(server, acting=None, **settings):
    addresses = {"auth_url": server.url, "api_url": server.url}
    return Access({**addresses, **settings}, acting=acting, admin=ADMIN, network=server.network)


def _grant(**more):
    return Material(
        {"access_token": "at", "refresh_token": "rt", "expires_at": "1", "scope": "s", **more},
        frozenset({"scope"}),
    )


def test_the_consent_url_holds_what_the_vendor_wants(server, jira):
    """And never the client secret."""
    url = jira.authorizer.begin(_access(server), SESSION)
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    assert url.startswith(f"{server.url}/authorize?")
    assert query == {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": "https://hub.example/cb",
        "state": "st",
        "scope": "read:jira-user read:jira-work offline_access",
        "audience": "api.atlassian.com",
        "prompt": "consent",
    }
    assert server.seen == []


def test_the_code_is_traded_and_the_answer_read(server, jira):
    """In a JSON body; times count from when the answer came."""
    answer = {
        "access_token": "at1",
        "refresh_token": "rt1",
        "expires_in": "3600",
        "scope": "read:jira-user",
        "token_type": "Bearer",
    }
    server.on("POST", "/oauth/token", answer)
    receipt = jira.authorizer.exchange(_access(server), SESSION, "https://hub.example/cb?code=c1&state=st")
    assert server.seen[-1].json() == {
        "grant_type": "authorization_code",
        "code": "c1",
        "redirect_uri": "https://hub.example/cb",
        "client_id": "app",
        "client_secret": "app-secret",
    }
    candidate = jira.authorizer.read(_access(server), receipt, None)
    assert dict(candidate.material) == {
        "access_token": "at1",
        "refresh_token": "rt1",
        "scope": "read:jira-user",
        "expires_at": candidate.material["expires_at"],
        "grant_ends_at": candidate.material["grant_ends_at"],
    }
    assert abs(int(candidate.material["expires_at"]) - time.time() - 3570) < 5
    assert candidate.material.public == {"scope", "expires_at", "grant_ends_at"}
    assert abs(candidate.expires_at - time.time() - 90 * 86400) < 60


def test_no_refresh_moves_the_absolute_end(server, jira):
    """Idle days count anew with each refresh, the absolute life only from the consent."""
    soon = int(time.time()) + 5 * 86400
    server.on("POST", "/oauth/token", {"access_token": "at2", "refresh_token": "rt2"})
    for held, days in ((_grant(grant_ends_at=str(soon)), 5), (_grant(), 90)):
        receipt = jira.authorizer.refresh(_access(server), held)
        candidate = jira.authorizer.read(_access(server), receipt, held)
        assert abs(candidate.expires_at - time.time() - days * 86400) < 60
        assert candidate.material.get("grant_ends_at") == held.get("grant_ends_at")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("code=c&state=other", "another or an older consent"),
        ("code=c", "another or an older consent"),
        ("code=c&state=st&state=st", "another or an older consent"),
        ("error=access_denied&state=st", "declined"),
        ("error=server_error&state=st", "server_error"),
        ("error=%3Cscript%3E&state=st", "an error"),
        ("state=st", "no code"),
    ],
)
def test_callbacks_that_are_not_ours(server, jira, query, words):
    """Nothing is sent."""
    with pytest.raises(InvalidInput, match=words):
        jira.authorizer.exchange(_access(server), SESSION, f"https://hub.example/cb?{query}")
    assert server.seen == []


def test_a_refresh_keeps_the_old_token_when_none_comes(server, jira):
    """Seen in the wild."""
    server.on("POST", "/oauth/token", {"access_token": "at2"})
    receipt = jira.authorizer.refresh(_access(server), _grant())
    assert server.seen[-1].json()["refresh_token"] == "rt"
    found = jira.authorizer.read(_access(server), receipt, _grant()).material
    assert (found["access_token"], found["refresh_token"], found["scope"]) == ("at2", "rt", "s")
    with pytest.raises(UnexpectedAnswer):
        jira.authorizer.read(_access(server), b"{}", _grant())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            (403, {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}),
            CredentialRejected,
        ),
        (
            (403, {"error": "unauthorized_client", "error_description": "refresh_token is invalid"}),
            CredentialRejected,
        ),
        ((403, {"error": "unauthorized_client", "error_description": "no such app"}), PermissionMissing),
        ((401, {"error": "access_denied", "error_description": "Unauthorized"}), PermissionMissing),
        ((503, {}), OutcomeUnknown),
        (None, OutcomeUnknown),
        ((403, {}), PermissionMissing),
        ((401, {}), UnexpectedAnswer),
    ],
)
def test_only_a_dead_grant_is_rejected(server, jira, answer, error):
    """Both spellings of a dead refresh token; a wrong client secret is not the grant's fault."""
    server.on("POST", "/oauth/token", (lambda seen: None) if answer is None else answer)
    with pytest.raises(error) as caught:
        jira.authorizer.refresh(_access(server), _grant())
    assert "rt" not in caught.value.message.split()


def test_the_site_is_pinned_as_tenant(server, jira):
    """One site in two rows is one site; its scopes are the rights; the access token is used as it is."""
    server.on("GET", "/oauth/token/accessible-resources", SITES)
    server.on("GET", "/ex/jira/cloud-1/rest/api/3/myself", {"accountId": "acc", "displayName": "Ana"})
    probe = jira.verifier.verify(_access(server), _grant())
    assert probe.identity == {"principal": "acc", "tenant": "cloud-1", "principal_label": "Ana"}
    assert probe.rights == {"read:jira-work", "read:jira-user"}
    assert [s.method for s in server.seen] == ["GET", "GET"]
    assert server.seen[-1].headers["authorization"] == "Bearer at"


def test_several_sites_need_a_choice(server, jira):
    """By address or id; a site that is not granted is not guessed."""
    more = [*SITES, {"id": "cloud-2", "url": "https://two.atlassian.net", "scopes": ["read:jira-work"]}]
    server.on("GET", "/oauth/token/accessible-resources", more)
    server.on("GET", "/ex/jira/cloud-2/rest/api/3/myself", {"accountId": "acc"})
    assert jira.verifier.verify(_access(server), _grant()).code == "resource_choice"
    for site in ("cloud-2", "https://two.atlassian.net/"):
        assert jira.verifier.verify(_access(server, site=site), _grant()).identity["tenant"] == "cloud-2"
    assert jira.verifier.verify(_access(server, site="cloud-9"), _grant()).code == "resource_missing"
    server.on("GET", "/oauth/token/accessible-resources", [])
    assert jira.verifier.verify(_access(server), _grant()).code == "resource_missing"


def test_a_scope_that_does_not_match_is_no_death(server, jira):
    """Jira says 401 for both."""
    server.on("GET", "/oauth/token/accessible-resources", SITES)
    server.on(
        "GET",
        "/ex/jira/cloud-1/rest/api/3/myself",
        (401, {"code": 401, "message": "Unauthorized; scope does not match"}),
    )
    assert jira.verifier.verify(_access(server), _grant()).code == "scope_missing"
    server.on("GET", "/oauth/token/accessible-resources", (401, {"code": 401, "message": "Unauthorized"}))
    assert jira.verifier.verify(_access(server), _grant()).verdict is Verdict.REJECTED
    bogus = jira.verifier.bogus(_grant())
    assert bogus["access_token"] != "at"
    assert bogus["scope"] == "s"


def test_the_death_of_a_grant_is_told_by_its_refresh(server, jira):
    """A refused refresh is death; one that works burns the token; the rest is unclear."""
    answers = {
        "rt": (403, {"error": "invalid_grant"}),
        "alive": {"access_token": "x", "refresh_token": "y"},
        "odd": (503, {}),
    }
    server.on(
        "POST",
        "/oauth/token",
        lambda seen: answers.get(seen.json()["refresh_token"], (403, {"error": "invalid_grant"})),
    )
    assert jira.death.verify(_access(server), _grant()).verdict is Verdict.REJECTED
    assert jira.death.verify(_access(server), _grant(refresh_token="alive")).verdict is Verdict.ACCEPTED
    assert jira.death.verify(_access(server), _grant(refresh_token="odd")).verdict is Verdict.UNKNOWN
    assert jira.death.verify(_access(server), _grant(refresh_token="")).code == "no_refresh_token"
    assert jira.death.verify(_access(server), jira.death.bogus(_grant())).verdict is Verdict.REJECTED


PKCE = """\
schema: rest-credential/v1
id: pkce
title: PKCE
inputs: {url: {title: Address}}
hosts: [login.acme.example]
base_url: "${input.url}"
credential: {parts: {client_id: {secret: false}, client_secret: {}}}
auth:
  kind: oauth2_code
  authorize_url: "${input.url}/auth"
  token_url: "${input.url}/token"
  client_id: "${secret.client_id}"
  client_secret: "${secret.client_secret}"
  client_auth: basic_raw
  verify_iss: https://login.acme.example
  response: {expires_in: "$.ttl", expires_unit: ms}
  refresh: {rotates: sometimes}
  revoke: {url: "${input.url}/revoke"}
test:
  request: {method: GET, path: /me}
  identity: {principal: "$.sub"}
"""


def test_pkce_own_client_and_revocation(server):
    """S256, the client as parts of the credential, another unit of time, RFC 7009."""
    own = capabilities(read_definition(PKCE, "x"))
    client = Material({"client_id": "c", "client_secret": "s"}, frozenset({"client_id"}))
    access = Access({"url": server.url}, acting=client, network=server.network)
    assert (
        challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )
    assert f"code_challenge={challenge('v' * 43)}" in own.authorizer.begin(access, SESSION)
    server.on("POST", "/token", {"access_token": "a", "refresh_token": "r", "ttl": 60000})
    with pytest.raises(InvalidInput, match="issuer"):
        own.authorizer.exchange(access, SESSION, "https://h/?code=1&state=st&iss=https://evil.example")
    receipt = own.authorizer.exchange(
        access, SESSION, "https://h/?code=1&state=st&iss=https://login.acme.example"
    )
    assert b"code_verifier=vvv" in server.seen[-1].body
    found = own.authorizer.read(access, receipt, None)
    assert found.material["client_secret"] == "s"
    assert abs(int(found.material["expires_at"]) - time.time() - 60) < 5
    assert found.expires_at is None
    server.on("POST", "/revoke", (200, b""))
    own.revoker.revoke(access, Ref(), found.material)
    assert server.seen[-1].body == b"token=r&token_type_hint=refresh_token"
    with pytest.raises(InvalidInput):
        own.revoker.revoke(access, Ref(), None)
