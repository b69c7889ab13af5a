"""Single sign-on with a provider that can lie in every way that matters."""

import base64
import hashlib
import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from tests.web.conftest import LOCAL, Browser, text

from keyturn.api.app import create_app
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput
from keyturn.operations import events, people
from keyturn.operations.rights import Role
from keyturn.settings import Settings, SignOn

ROLES = (("ops", "operator", ""), ("bosses", "admin", ""), ("billing", "viewer", "billing"))


class Provider:
    """Answers discovery, keys and tokens. `claims` and `change` decide what it says of whom."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
        self.claims = {
            "sub": "u-1",
            "email": "ann@example.com",
            "email_verified": True,
            "name": "Ann",
            "groups": ["ops"],
        }
        self.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.key)
        self.issuer_said = ""
        self.asked = {}
        self.codes = {}
        it = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.endswith("openid-configuration"):
                    self.say(
                        {
                            "issuer": it.issuer_said or it.issuer,
                            "authorization_endpoint": f"{it.issuer}/authorize",
                            "token_endpoint": f"{it.issuer}/token",
                            "jwks_uri": f"{it.issuer}/keys",
                        }
                    )
                else:
                    self.say({"keys": [it.key.as_dict(private=False)]})

            def do_POST(self):
                form = {
                    k: v[0]
                    for k, v in parse_qs(
                        self.rfile.read(int(self.headers["content-length"])).decode()
                    ).items()
                }
                it.asked = {**form, "authorization": self.headers["authorization"]}
                wanted = it.codes.pop(form["code"], None)
                digest = (
                    base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
                    .decode()
                    .rstrip("=")
                )
                if wanted is None or wanted["code_challenge"] != digest:
                    self.say({"error": "invalid_grant"}, 400)
                    return
                now = int(time.time())
                claims = {
                    "iss": it.issuer,
                    "aud": "keyturn",
                    "iat": now,
                    "exp": now + 60,
                    "nonce": wanted["nonce"],
                    **it.claims,
                }
                self.say({"access_token": "x", "token_type": "Bearer", "id_token": it.sign(claims)})

            def say(self, data, status=200):
                body = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.issuer = f"http://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def consent(self, url):
        """Somebody signs in there: the way back."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
        assert asked["redirect_uri"] == "http://127.0.0.1:8425/sign-in/sso/back"
        assert asked["code_challenge_method"] == "S256"
        self.codes["c0de"] = asked
        return "/sign-in/sso/back?" + urlencode({"code": "c0de", "state": asked["state"]})


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.close()


@pytest.fixture
def it(idle, provider, person):
    """A browser at a hub that trusts the provider."""
    person(Role.ADMIN, "root")
    sign_on = SignOn(provider.issuer, "keyturn", "its secret", ROLES)
    network = NetworkPolicy(frozenset({provider.host}))
    return Browser(
        create_app(replace(idle, settings=replace(idle.settings, sign_on=sign_on, network=network)))
    )


def go(it, provider, path="/tasks"):
    """The whole way: to the provider and back."""
    away = it.get(f"/sign-in/sso?next={path}")
    assert away.status_code == 303, away.text
    return it.get(provider.consent(away.headers["location"]))


def test_somebody_signs_in(it, provider, idle):
    """An account with the roles of their groups; the second time it is the same one; all of it on record."""
    assert "Sign in with your organization" in it.get("/sign-in").text
    back = go(it, provider)
    assert (back.status_code, back.headers["location"]) == (303, "/tasks")
    assert it.get("/tasks").status_code == 200
    ann = next(p for p in people.every(idle) if p.account.login == "ann@example.com")
    assert ann.held == (("operator", "", "sso"),)
    assert provider.asked["authorization"].startswith("Basic ")
    assert "its secret" not in str(provider.asked)
    said = [line.facts["decision"] for line in reversed(events.latest(idle, 3))]
    assert said == ["account_made", "roles_changed", "signed_in"]
    assert go(it, provider).status_code == 303
    assert len(people.every(idle)) == 2


def test_groups_become_roles_at_each_sign_in(it, provider, idle):
    """Another group gives another role; none of ours ends the sessions and refuses."""
    go(it, provider)
    provider.claims["groups"] = ["billing", "others"]
    go(it, provider)
    ann = next(p for p in people.every(idle) if p.account.login == "ann@example.com")
    assert ann.held == (("viewer", "billing", "sso"),)
    provider.claims["groups"] = ["others"]
    other = Browser(it.client.app)
    refused = go(other, provider)
    assert refused.status_code == 403
    assert "None of your groups" in text(refused)
    assert it.get("/tasks").status_code == 303
    assert people.get(idle, ann.account.id).held == ()


def test_a_local_account_is_not_taken_over(it, provider, idle, person):
    """A provider's user who has, or claims, the name of a local account is refused."""
    person(Role.ADMIN, "ann@example.com")
    assert go(it, provider).status_code == 403
    provider.claims |= {"email_verified": False, "preferred_username": "root"}
    assert go(it, provider).status_code == 403
    assert it.get("/tasks").status_code == 303


def test_somebody_switched_off_stays_out(it, provider, idle):
    go(it, provider)
    ann = next(p for p in people.every(idle) if p.account.login == "ann@example.com")
    people.switch(idle, LOCAL, ann.account.id, on=False)
    assert go(it, provider).status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"sub": None},
        {"iat": None},
        {"nonce": None},
        {"aud": ["keyturn", "other"], "azp": "other"},
    ],
)
def test_a_token_for_something_else_is_refused(it, provider, idle, wrong):
    """Of another sign-in, client or issuer, or too old."""
    plain = provider.sign
    provider.sign = lambda claims: plain({k: v for k, v in {**claims, **wrong}.items() if v is not None})
    assert go(it, provider).status_code == 403
    assert it.get("/tasks").status_code == 303
    assert events.latest(idle, 1)[0].facts["decision"] == "sign_in_refused"


def test_a_token_that_is_not_signed_by_the_provider_is_refused(it, provider):
    """Not at all, with another key, or with a shared one."""
    other = RSAKey.generate_key(2048, {"kid": "k1"})

    def unsigned(claims):
        parts = ({"alg": "none"}, claims)
        return (
            ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
            + "."
        )

    for sign in (
        unsigned,
        lambda claims: jwt.encode({"alg": "RS256", "kid": "k1"}, claims, other),
        lambda _claims: "",
        lambda _claims: "a.b.c",
    ):
        provider.sign = sign
        assert go(it, provider).status_code == 403
    hmac_signed = jwt.encode({"alg": "HS256", "kid": "k1"}, {"sub": "u-1"}, OctKey.import_key("x" * 40))
    provider.sign = lambda _claims: hmac_signed
    assert go(it, provider).status_code == 403


def test_a_way_back_that_was_not_begun_here(it, provider):
    """Another browser's state, none, an old one, the same twice, a refusal, another provider's answer."""
    away = it.get("/sign-in/sso").headers["location"]
    back = provider.consent(away)
    assert Browser(it.client.app).get(back).status_code == 403
    assert it.get("/sign-in/sso/back").status_code == 403
    it.get("/sign-in/sso")
    assert it.get(back).status_code == 403
    back = provider.consent(it.get("/sign-in/sso").headers["location"])
    assert it.get(f"{back}&iss=https%3A%2F%2Fevil.example").status_code == 403
    state = parse_qs(urlsplit(it.get("/sign-in/sso").headers["location"]).query)["state"][0]
    refused = it.get(f"/sign-in/sso/back?error=access_denied&error_description=<b>no&state={state}")
    assert refused.status_code == 403
    assert "<b>no" not in refused.text
    back = provider.consent(it.get("/sign-in/sso").headers["location"])
    assert it.get(back).status_code == 303
    assert Browser(it.client.app).get(back).status_code == 403


def test_the_way_back_goes_nowhere_else(it, provider):
    assert go(it, provider, "//evil.example").headers["location"] == "/"


def test_a_provider_that_speaks_for_another_is_refused(it, provider):
    provider.issuer_said = "https://evil.example"
    answer = it.get("/sign-in/sso")
    assert answer.status_code == 503
    assert "gives no answer" in answer.text


def test_without_a_provider_there_is_none(browser, person):
    person()
    assert "your organization" not in browser().get("/sign-in").text
    assert browser().get("/sign-in/sso").status_code == 503


def test_settings(tmp_path):
    """Groups, roles and projects; a secret from a file; what is missing is named."""
    (tmp_path / "secret").write_text("s3cret\n")
    env = {
        "HOME": "/nowhere",
        "KEYTURN_OIDC_ISSUER": "https://op.example",
        "KEYTURN_OIDC_CLIENT_ID": "keyturn",
    }
    whole = {
        **env,
        "KEYTURN_OIDC_ROLES": "ops=operator, eu team=viewer@billing",
        "KEYTURN_OIDC_CLIENT_SECRET": f"@{tmp_path / 'secret'}",
    }
    found = Settings.read(whole).sign_on
    assert found.roles == (("ops", "operator", ""), ("eu team", "viewer", "billing"))
    assert found.client_secret == "s3cret"
    assert "s3cret" not in repr(Settings.read(whole))
    assert Settings.read({"HOME": "/nowhere"}).sign_on is None
    for bad in ("ops", "ops=king"):
        with pytest.raises(InvalidInput):
            Settings.read({**env, "KEYTURN_OIDC_ROLES": bad})
    with pytest.raises(InvalidInput):
        Settings.read(env)
