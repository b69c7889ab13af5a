# ruff: noqa: F811 - fixtures are imported
"""Unmodified clients of others complete every flow against the running server: requests-oauthlib, Authlib's client,
oauth4webapi and openid-client."""

import json
import shutil
import subprocess
from pathlib import Path

import oauthlib.oauth2
import pytest
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session
from tests.compliance.lab import or_skip
from tests.issued.oauth_world import CALLBACK, Registered, _quick_hashes, person, register, served  # noqa: F401

from keyturn.operations import issued
from keyturn_lab.parts import PartMissing

HERE = Path(__file__).parent / "node"


@pytest.fixture
def insecure(monkeypatch):
    """These libraries refuse plain http unless told; the test's server is on loopback."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "")


class Judge:
    """The Node program: a line of JSON in, a line out."""

    def __init__(self):
        self._run = subprocess.Popen(
            ["node", "judge.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, do, **more):
        self._run.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._run.stdin.flush()
        return json.loads(self._run.stdout.readline())

    def ok(self, do, **more):
        found = self(do, **more)
        assert "ok" in found, found
        return found["ok"]

    def close(self):
        self._run.stdin.close()
        self._run.stdout.close()
        self._run.wait(timeout=10)


def _start():
    if not shutil.which("node") or not (HERE / "node_modules").is_dir():
        raise PartMissing("the Node clients are missing: tools/setup.sh installs them")
    return Judge()


@pytest.fixture
def judge():
    made = or_skip(_start)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["m2m", "bulk", "events"])
def test_requests_oauthlib_client_credentials(served, insecure, kind):
    """Token by Basic, a call with it, the rotation of the secret in place, and the end of the old one."""
    client = register(served.hub, kind)

    def token(secret):
        session = OAuth2Session(client=BackendApplicationClient(client_id=client.id))
        session.fetch_token(f"{served.base}/oauth/token", client_id=client.id, client_secret=secret)
        return session

    session = token(client.secret)
    assert session.get(f"{served.base}/api/v1/whoami").json()["client_id"] == client.id
    handed = issued.reissue(served.hub, client.name, 3600)
    fresh = token(handed.value.reveal())
    issued.revoke(served.hub, client.name, "A")
    with pytest.raises(oauthlib.oauth2.InvalidClientError):
        token(client.secret)
    assert session.get(f"{served.base}/api/v1/whoami").status_code == 401
    assert fresh.get(f"{served.base}/api/v1/whoami").status_code == 200


def test_requests_oauthlib_authorization_code(served, insecure):
    """PKCE, consent in a browser, tokens, refresh, a call."""
    person(served.hub)
    client = register(served.hub, "oauth-app", "portal")
    session = OAuth2Session(client.id, redirect_uri=CALLBACK, scope=["read"], pkce="S256")
    url, _ = session.authorization_url(f"{served.base}/oauth/authorize")
    back = served.browser().consent(url, "eve")
    session.fetch_token(
        f"{served.base}/oauth/token", authorization_response=back, client_secret=client.secret
    )
    assert session.get(f"{served.base}/api/v1/whoami").json()["credential"] == "portal"
    first = session.token["refresh_token"]
    session.refresh_token(f"{served.base}/oauth/token", client_id=client.id, client_secret=client.secret)
    assert session.token["refresh_token"] != first
    assert session.get(f"{served.base}/api/v1/connections").status_code == 200


def test_authlib_client(served):
    """Credentials, code with PKCE, refresh, introspection and revocation."""
    person(served.hub)
    program = register(served.hub)
    with AuthlibSession(program.id, program.secret) as session:
        token = session.fetch_token(f"{served.base}/oauth/token", grant_type="client_credentials")
        assert session.introspect_token(f"{served.base}/oauth/introspect", token["access_token"]).json()[
            "active"
        ]
        answer = session.revoke_token(f"{served.base}/oauth/revoke", token["access_token"], "access_token")
        assert answer.status_code == 200
        assert session.introspect_token(f"{served.base}/oauth/introspect", token["access_token"]).json() == {
            "active": False
        }
    client = register(served.hub, "oauth-app", "portal")
    with AuthlibSession(
        client.id, client.secret, redirect_uri=CALLBACK, scope="read", code_challenge_method="S256"
    ) as session:
        verifier = "v" * 64
        url, _ = session.create_authorization_url(f"{served.base}/oauth/authorize", code_verifier=verifier)
        back = served.browser().consent(url, "eve")
        session.fetch_token(f"{served.base}/oauth/token", authorization_response=back, code_verifier=verifier)
        assert session.get(f"{served.base}/api/v1/whoami").status_code == 200
        session.refresh_token(f"{served.base}/oauth/token")
        assert session.get(f"{served.base}/api/v1/whoami").status_code == 200


@pytest.mark.node
@pytest.mark.parametrize("post", [False, True])
def test_oauth4webapi_client_credentials(served, judge, post):
    """The strictest client there is: discovery, credentials by both methods, introspection, revocation."""
    client = register(served.hub, scopes="read lease")
    it = {"client_id": client.id, "secret": client.secret, "post": post}
    assert judge.ok("discover", issuer=served.base)["issuer"] == served.base
    token = judge.ok("credentials", scope="read", **it)["access_token"]
    assert served.whoami(token).json()["scopes"] == ["read"]
    assert judge.ok("introspect", token=token, **it)["active"] is True
    judge.ok("revoke", token=token, **it)
    assert judge.ok("introspect", token=token, **it) == {"active": False}
    wrong = judge("credentials", **{**it, "secret": register(served.hub, name="other").secret})
    # a client that tried Basic is told so by the challenge
    assert wrong.get("status") == 401, wrong
    assert judge("credentials", scope="bulk", **it)["error"] == "invalid_scope"


@pytest.mark.node
@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("prefix", ["", "oidc_"])
def test_node_clients_authorization_code(served, judge, public, prefix):
    """oauth4webapi and openid-client: code with PKCE, state and issuer checked, refresh, revocation; with a secret or
    without."""
    person(served.hub)
    values = {"client_type": "public"} if public else {}
    client = register(served.hub, "oauth-app", "portal", **values)
    it = {"issuer": served.base, "client_id": client.id, "redirect_uri": CALLBACK, "scope": "read"}
    if not public:
        it["secret"] = client.secret
    judge.ok("discover", **it)
    url = judge.ok(f"{prefix}begin", **it)["url"]
    back = served.browser().consent(url, "eve")
    body = judge.ok(f"{prefix}finish", callback=back, **it)
    assert served.whoami(body["access_token"]).json()["credential"] == "portal"
    fresh = judge.ok(f"{prefix}refresh", token=body["refresh_token"], **it)
    assert fresh["refresh_token"] != body["refresh_token"]
    if not public:
        assert judge.ok(f"{prefix}introspect", token=fresh["refresh_token"], **it)["active"] is True
    judge.ok(f"{prefix}revoke", token=fresh["refresh_token"], **it)
    assert served.whoami(fresh["access_token"]).status_code == 401
    assert judge(f"{prefix}refresh", token=fresh["refresh_token"], **it)["error"] == "invalid_grant"


@pytest.mark.node
def test_openid_client_client_credentials(served, judge):
    """Credentials, introspection and revocation, found by discovery."""
    client = register(served.hub, "bulk", "loader")
    it = {"issuer": served.base, "client_id": client.id, "secret": client.secret}
    token = judge.ok("oidc_credentials", **it)["access_token"]
    assert judge.ok("oidc_introspect", token=token, **it)["scope"] == "bulk"
    judge.ok("oidc_revoke", token=token, **it)
    assert judge.ok("oidc_introspect", token=token, **it) == {"active": False}


@pytest.mark.node
def test_a_refusal_reaches_the_client(served, judge):
    """Node's client reads the error, with state and issuer checked."""
    person(served.hub)
    client = register(served.hub, "oauth-app", "portal")
    it = {
        "issuer": served.base,
        "client_id": client.id,
        "redirect_uri": CALLBACK,
        "scope": "read",
        "secret": client.secret,
    }
    judge.ok("discover", **it)
    url = judge.ok("begin", **it)["url"]
    back = served.browser().consent(url, "eve", "refuse")
    assert judge("finish", callback=back, **it)["error"] == "access_denied"
    assert isinstance(client, Registered)
