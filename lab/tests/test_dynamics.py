"""Microsoft's stand-in behaves as its sheet says; MSAL, unmodified, is the judge of its token endpoint."""

import base64
import datetime as dt
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx2
import msal
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from keyturn_lab import guard
from keyturn_lab.standin import running
from keyturn_lab.vendors.dynamics import STANDIN, people

DAY_S = 86_400


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as openssl would make it."""

    key: str
    certificate: str
    der: bytes
    thumbprint: str


def make_pair(name: str, days: float = 30.0) -> Pair:
    key = generate_private_key(65537, 2048)
    certificate = _certificate(key, name, days)
    return Pair(
        _pem(key),
        certificate.public_bytes(Encoding.PEM).decode(),
        certificate.public_bytes(Encoding.DER),
        _sha1(certificate),
    )


def _sha1(certificate: x509.Certificate) -> str:
    import hashlib

    return hashlib.sha1(certificate.public_bytes(Encoding.DER)).hexdigest()


def _pem(key: RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _certificate(key: RSAPrivateKey, name: str, days: float) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
    return (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )


@dataclass
class World:
    """A running stand-in, as the integration and the rotator see it."""

    url: str
    app: dict[str, Any]
    rotator: dict[str, Any]
    tenant: str

    def lab(self, door: str, body: Any) -> Any:
        answer = httpx2.post(f"{self.url}/_lab/{door}", json=body).raise_for_status()
        return answer.json() if answer.content else None

    def again(self) -> dict[str, Any]:
        there = httpx2.get(f"{self.url}/_lab/apps").json()
        return next(each for each in there if each["app_id"] == self.app["app_id"])

    def token(self, secret: str, client_id: str = "", resource: str = "", **more: str) -> httpx2.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id or self.app["app_id"],
            "client_secret": secret,
            "scope": f"{resource or self.url}/.default",
        }
        return httpx2.post(f"{self.url}/{self.tenant}/oauth2/v2.0/token", data=form | more)

    def bearer(self, resource: str = "") -> dict[str, str]:
        """The rotator's token for Graph."""
        got = self.token(
            self.rotator["secrets"][0]["value"], self.rotator["app_id"], resource or f"{self.url}/graph"
        )
        return {"Authorization": f"Bearer {got.json()['access_token']}"}

    def graph(self, method: str, path: str, body: Any = None, **how: Any) -> httpx2.Response:
        headers = how.pop("headers", None) or self.bearer()
        return httpx2.request(method, f"{self.url}/graph{path}", json=body, headers=headers, **how)

    @property
    def path(self) -> str:
        return f"/v1.0/applications(appId='{self.app['app_id']}')"

    def add(self, **asked: Any) -> httpx2.Response:
        return self.graph("POST", f"{self.path}/addPassword", {"passwordCredential": asked})


@pytest.fixture
def world() -> Iterator[World]:
    with running(STANDIN.create_app()) as url:
        httpx2.post(f"{url}/_lab/dials", json={"latency_s": 0}).raise_for_status()
        apps = httpx2.get(f"{url}/_lab/apps").json()
        named = {each["name"]: each for each in apps}
        tenant = httpx2.get(f"{url}/_lab/tenant").json()["id"]
        yield World(url, named["Gainsight connector"], named["Keyturn rotator"], tenant)


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_once_and_opens_dataverse(world: World) -> None:
    """One call to addPassword tells the value and a hint of three characters; later reads tell the hint only."""
    made = world.add(displayName="hub 2026-11", endDateTime="2027-02-21T00:00:00Z").json()
    assert made["secretText"].startswith(made["hint"])
    assert guard.MARKER in made["secretText"]
    assert made["endDateTime"].startswith("2027-02-21T00:00:00")
    listed = world.graph("GET", f"{world.path}?$select=passwordCredentials").json()["passwordCredentials"]
    kept = next(each for each in listed if each["keyId"] == made["keyId"])
    assert (kept["secretText"], kept["hint"], kept["displayName"]) == (None, made["hint"], "hub 2026-11")
    token = world.token(made["secretText"]).json()
    assert (token["token_type"], set(token)) == (
        "Bearer",
        {"token_type", "expires_in", "ext_expires_in", "access_token"},
    )
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    who = httpx2.get(f"{world.url}/api/data/v9.2/WhoAmI", headers=bearer).json()
    assert who["UserId"] == world.app["user_id"]
    assert {"BusinessUnitId", "OrganizationId"} < set(who)


def test_a_removed_secret_is_refused_and_its_tokens_live_on(world: World) -> None:
    """The first removePassword answers 204, the second 400; a token made before still opens Dataverse until it runs out."""
    made = world.add(displayName="x").json()
    before = {"Authorization": f"Bearer {world.token(made['secretText']).json()['access_token']}"}
    removal = {"keyId": made["keyId"]}
    assert world.graph("POST", f"{world.path}/removePassword", removal).status_code == 204
    again = world.graph("POST", f"{world.path}/removePassword", removal)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "Request_BadRequest")
    no = world.token(made["secretText"])
    assert (no.status_code, no.json()["error"], no.json()["error_codes"]) == (
        401,
        "invalid_client",
        [7000215],
    )
    assert made["secretText"] not in no.text
    whoami = f"{world.url}/api/data/v9.2/WhoAmI"
    assert httpx2.get(whoami, headers=before).status_code == 200
    world.lab("clock", {"advance_s": 4600})
    late = httpx2.get(whoami, headers=before)
    assert (late.status_code, late.content) == (401, b"")
    assert "resource_id=" in late.headers["WWW-Authenticate"]


def test_servers_disagree_while_a_change_spreads(world: World) -> None:
    """A new secret is refused by every other server at first, a removed one accepted by every other."""
    world.lab("dials", {"settle_s": 30})
    made = world.add(displayName="x").json()
    assert [world.token(made["secretText"]).status_code for _ in range(4)] == [401, 200, 401, 200]
    world.lab("clock", {"advance_s": 31})
    assert [world.token(made["secretText"]).status_code for _ in range(3)] == [200] * 3
    world.graph("POST", f"{world.path}/removePassword", {"keyId": made["keyId"]})
    assert {world.token(made["secretText"]).status_code for _ in range(4)} == {200, 401}
    world.lab("clock", {"advance_s": 31})
    assert [world.token(made["secretText"]).status_code for _ in range(3)] == [401] * 3


def test_an_expired_secret_has_its_own_code(world: World) -> None:
    """7000222 and not 7000215, once the end is past."""
    ends = dt.datetime.fromtimestamp(time.time() + 60, dt.UTC).isoformat()
    made = world.add(displayName="x", endDateTime=ends).json()
    assert world.token(made["secretText"]).status_code == 200
    world.lab("clock", {"advance_s": 61})
    assert world.token(made["secretText"]).json()["error_codes"] == [7000222]


@pytest.mark.parametrize(
    ("change", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_id": "11111111-1111-1111-1111-111111111111"}, 400, "unauthorized_client", 700016),
        ({"scope": "openid"}, 400, "invalid_scope", 70011),
        ({"scope": "https://other.crm.dynamics.com/.default"}, 400, "invalid_resource", 500011),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
)
def test_each_mistake_has_its_code(
    world: World, change: dict[str, str], status: int, error: str, code: int
) -> None:
    """The whole error body, with the codes a client decides by."""
    no = world.token(world.app["secrets"][0]["value"], **change)
    assert (no.status_code, no.json()["error"], no.json()["error_codes"]) == (status, error, [code])
    assert set(no.json()) == {
        "error",
        "error_description",
        "error_codes",
        "timestamp",
        "trace_id",
        "correlation_id",
        "error_uri",
    }


def test_tenant_credential_and_application_may_be_missing(world: World) -> None:
    """Unknown tenant 90002, no credential 7000218, disabled 7000112, deleted 700016, restored again."""
    form = {
        "grant_type": "client_credentials",
        "client_id": world.app["app_id"],
        "scope": f"{world.url}/.default",
    }
    nowhere = httpx2.post(f"{world.url}/nowhere.example/oauth2/v2.0/token", data=form)
    assert nowhere.json()["error_codes"] == [90002]
    bare = httpx2.post(f"{world.url}/{world.tenant}/oauth2/v2.0/token", data=form)
    assert bare.json()["error_codes"] == [7000218]
    value = world.app["secrets"][0]["value"]
    off = world.graph(
        "PATCH", f"/v1.0/servicePrincipals/{world.app['principal_id']}", {"accountEnabled": False}
    )
    assert off.status_code == 204
    assert world.token(value).json()["error_codes"] == [7000112]
    world.lab("apps", {"app_id": world.app["app_id"], "enabled": True})
    assert world.graph("DELETE", world.path).status_code == 204
    assert world.token(value).json()["error_codes"] == [700016]
    restore = f"/v1.0/directory/deletedItems/{world.app['object_id']}/restore"
    assert world.graph("POST", restore).status_code == 200
    assert world.token(value).status_code == 200


# -- Graph -----------------------------------------------------------------------------------------------------------


def test_an_application_has_two_ids(world: World) -> None:
    """The object id and `appId='…'` lead to it; the client id in the place of the object id is nobody."""
    by_object = world.graph("GET", f"/v1.0/applications/{world.app['object_id']}?$select=id,appId").json()
    assert (by_object["id"], by_object["appId"]) == (world.app["object_id"], world.app["app_id"])
    assert world.graph("GET", world.path).json()["id"] == world.app["object_id"]
    wrong = world.graph("GET", f"/v1.0/applications/{world.app['app_id']}")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "Request_ResourceNotFound")
    found = world.graph("GET", "/v1.0/applications", params={"$filter": f"appId eq '{world.app['app_id']}'"})
    assert [each["displayName"] for each in found.json()["value"]] == ["Gainsight connector"]


def test_lists_go_on(world: World) -> None:
    """`$top` cuts pages, `@odata.nextLink` is a whole URL, 1000 is too many."""
    page = world.graph("GET", "/v1.0/applications?$top=2&$select=appId").json()
    seen = page["value"]
    while following := page.get("@odata.nextLink"):
        page = httpx2.get(following, headers=world.bearer()).json()
        seen += page["value"]
    assert len(seen) == 3
    assert all(set(each) == {"appId"} for each in seen)
    assert world.graph("GET", "/v1.0/applications?$top=1000").status_code == 400


def test_tokens_open_only_what_they_were_made_for(world: World) -> None:
    """A token for Dataverse is refused by Graph and the other way round."""
    for_dataverse, for_graph = world.bearer(world.url), world.bearer()
    no = world.graph("GET", world.path, headers=for_dataverse)
    assert (no.status_code, no.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")
    assert no.headers["WWW-Authenticate"].startswith("Bearer")
    assert httpx2.get(f"{world.url}/api/data/v9.2/WhoAmI", headers=for_graph).status_code == 401


def test_owners_manage_their_own_applications_only(world: World) -> None:
    """OwnedBy needs ownership: somebody else's application is read and not changed."""
    stranger = next(
        a for a in httpx2.get(f"{world.url}/_lab/apps").json() if a["name"].startswith("Somebody")
    )
    path = f"/v1.0/applications/{stranger['object_id']}"
    assert world.graph("GET", path).status_code == 200
    no = world.graph("POST", f"{path}/addPassword", {"passwordCredential": {}})
    assert (no.status_code, no.json()["error"]["code"]) == (403, "Authorization_RequestDenied")
    world.lab("apps", {"app_id": world.rotator["app_id"], "roles": []})
    assert world.graph("GET", world.path).status_code == 403


def test_limits_and_policies_say_no(world: World) -> None:
    """Two secrets where personal accounts are admitted; no longer than the policy allows; or none at all."""
    world.lab("apps", {"app_id": world.app["app_id"], "audience": "AzureADandPersonalMicrosoftAccount"})
    assert world.add(displayName="second").status_code == 200
    third = world.add(displayName="third").json()["error"]
    assert (third["code"], third["details"][0]["target"]) == ("TooManyAppPasswords", "passwordCredential")
    assert "only add a maximum of 2" in third["message"]
    world.lab("apps", {"app_id": world.app["app_id"], "audience": "AzureADMyOrg"})
    long = world.add(displayName="x", endDateTime="2099-01-01T00:00:00Z")
    assert (long.status_code, "as per assigned policy" in long.json()["error"]["message"]) == (400, True)
    world.lab("settings", {"secrets_allowed": False})
    assert world.add(displayName="x").json()["error"]["code"] == "CredentialTypeNotAllowedAsPerAppPolicy"


def test_each_service_throttles_in_its_own_words(world: World) -> None:
    """429 with Retry-After everywhere; the codes differ."""
    bearer = world.bearer()
    world.lab("faults", [{"op": "*", "kind": "throttle", "times": None}])
    graph = world.graph("GET", world.path, headers=bearer)
    entra = world.token("x")
    dataverse = httpx2.get(f"{world.url}/api/data/v9.2/WhoAmI", headers=bearer)
    assert [each.status_code for each in (graph, entra, dataverse)] == [429] * 3
    assert all(each.headers["Retry-After"] == "1" for each in (graph, entra, dataverse))
    assert graph.json()["error"]["code"] == "TooManyRequests"
    assert entra.json()["error_codes"] == [90055]
    assert dataverse.json()["error"]["code"] == "0x80072322"


def test_the_report_tells_when_a_secret_was_used(world: World) -> None:
    """Only with the right and the licence; a secret nobody used is not in it."""
    value, path = world.app["secrets"][0]["value"], "/beta/reports/appCredentialSignInActivities"
    query = {"$filter": f"appId eq '{world.app['app_id']}'"}
    assert world.graph("GET", path, params=query).json()["value"] == []
    world.token(value).raise_for_status()
    (row,) = world.graph("GET", path, params=query).json()["value"]
    assert row["keyId"] == world.app["secrets"][0]["key_id"]
    assert row["signInActivity"]["lastSignInDateTime"]
    world.lab("settings", {"report_licensed": False})
    assert world.graph("GET", path, params=query).status_code == 403


# -- certificates ----------------------------------------------------------------------------------------------------


def test_a_patch_replaces_the_whole_list(world: World) -> None:
    """Entries sent back by their id stay, with or without their key; what is left out is deleted."""
    one, two = make_pair("one"), make_pair("two")
    people.upload_certificate(world.url, world.app["app_id"], one.der)
    kept = world.graph("GET", f"{world.path}?$select=keyCredentials").json()["keyCredentials"]
    assert base64.b64decode(kept[0]["key"]) == one.der
    assert base64.b64decode(kept[0]["customKeyIdentifier"]).hex() == one.thumbprint
    listed = world.graph("GET", "/v1.0/applications").json()["value"]
    assert [each["key"] for app in listed for each in app["keyCredentials"]] == [None]
    new = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.b64encode(two.der).decode()}
    both = [{**kept[0], "key": None}, new]
    assert world.graph("PATCH", world.path, {"keyCredentials": both}).status_code == 204
    assert [c["thumbprint"].lower() for c in world.again()["certificates"]] == [
        one.thumbprint,
        two.thumbprint,
    ]
    assert world.graph("PATCH", world.path, {"keyCredentials": [{**new, "usage": "Sing"}]}).status_code == 400
    assert len(world.again()["certificates"]) == 2, "a refused list changed something"
    assert world.graph("PATCH", world.path, {"keyCredentials": [kept[0]]}).status_code == 204
    assert [c["thumbprint"].lower() for c in world.again()["certificates"]] == [one.thumbprint]


def test_add_key_wants_a_proof(world: World) -> None:
    """Without one, or with one that somebody else made, nothing is added."""
    pair = make_pair("one")
    people.upload_certificate(world.url, world.app["app_id"], pair.der)
    body = {
        "keyCredential": {"type": "AsymmetricX509Cert", "usage": "Verify", "key": "AA=="},
        "proof": "a.b.c",
    }
    no = world.graph("POST", f"{world.path}/addKey", body)
    assert (no.status_code, no.json()["error"]["code"]) == (401, "Authentication_MissingOrMalformed")
    assert len(world.again()["certificates"]) == 1


# -- MSAL ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, requests.Session]]:
    """The same stand-in over TLS, which MSAL insists on, and a session that trusts its certificate."""
    key = generate_private_key(65537, 2048)
    pem, chain = tmp_path / "key.pem", tmp_path / "ca.pem"
    pem.write_text(_pem(key))
    chain.write_bytes(_certificate(key, "localhost", 1).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, pem)
    listener = guard.Listener(STANDIN.create_app())
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    listener.ssl_context = context
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(chain)
        yield f"https://localhost:{listener.port}", session
    listener.shutdown()
    listener.server_close()
    thread.join(timeout=5)


Ask = Callable[[Any], dict[str, Any]]


@pytest.fixture
def ask(secure: tuple[str, requests.Session]) -> Ask:
    """A fresh MSAL application each time: it keeps tokens in itself."""
    url, session = secure
    app_id, tenant = _app(secure)["app_id"], session.get(f"{url}/_lab/tenant").json()["id"]

    def inner(credential: Any) -> dict[str, Any]:
        application = msal.ConfidentialClientApplication(
            app_id,
            authority=f"{url}/{tenant}",
            client_credential=credential,
            instance_discovery=False,
            http_client=session,
        )
        return application.acquire_token_for_client([f"{url}/.default"])

    return inner


def _app(secure: tuple[str, requests.Session]) -> dict[str, Any]:
    url, session = secure
    return session.get(f"{url}/_lab/apps").json()[0]


def test_msal_signs_in_with_a_secret(secure: tuple[str, requests.Session], ask: Ask) -> None:
    """And is told the documented code for a wrong one; its token opens the environment."""
    url, session = secure
    got = ask(_app(secure)["secrets"][0]["value"])
    who = session.get(
        f"{url}/api/data/v9.2/WhoAmI", headers={"Authorization": f"Bearer {got['access_token']}"}
    )
    assert who.json()["UserId"] == _app(secure)["user_id"]
    wrong = ask("kt08Q~wrong")
    assert (wrong["error"], wrong["error_codes"]) == ("invalid_client", [7000215])


def test_msal_signs_in_with_a_certificate(secure: tuple[str, requests.Session], ask: Ask) -> None:
    """All three forms MSAL makes: RS256 with a padded x5t, PS256 with x5t#S256 and x5c, and both."""
    url, session = secure
    pair, stranger = make_pair("integration"), make_pair("stranger")
    session.post(
        f"{url}/_lab/apps",
        json={"app_id": _app(secure)["app_id"], "certificate": base64.b64encode(pair.der).decode()},
    ).raise_for_status()
    forms = (
        {"private_key": pair.key, "thumbprint": pair.thumbprint},
        {"private_key": pair.key, "public_certificate": pair.certificate},
        {"private_key": pair.key, "public_certificate": pair.certificate, "thumbprint": pair.thumbprint},
    )
    for form in forms:
        assert "access_token" in ask(form), form.keys()
    wrong = ask({"private_key": stranger.key, "thumbprint": stranger.thumbprint})
    assert (wrong["error"], wrong["error_codes"]) == ("invalid_client", [700027])
    forged = ask({"private_key": stranger.key, "thumbprint": pair.thumbprint})
    assert forged["error_codes"] == [700027]
