"""Aha!'s stand-in behaves as its sheet says."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from keyturn_lab import people
from keyturn_lab.standin import running
from keyturn_lab.vendors.aha import STANDIN

USER, ADMIN = "integration@acme.example", "admin@acme.example"
CALLBACK = "http://127.0.0.1:9/callback"


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        lab(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def lab(url: str, what: str, body: object) -> httpx2.Response:
    return httpx2.post(f"{url}/_lab/{what}", json=body).raise_for_status()


def call(url: str, key: str, path: str = "me", **headers: str) -> httpx2.Response:
    return httpx2.get(f"{url}/api/v1/{path}", headers={"Authorization": f"Bearer {key}"} | headers)


def test_two_keys_work_side_by_side(url: str) -> None:
    """A user's named keys overlap, and deleting one leaves the other alone."""
    old = people.aha_generate_key(url, USER, "sync 1")
    new = people.aha_generate_key(url, USER, "sync 2")
    assert call(url, old).json() == call(url, new).json()
    people.aha_delete_key(url, USER, "sync 1")
    assert (call(url, old).status_code, call(url, new).status_code) == (401, 200)
    alive = httpx2.get(f"{url}/_lab/alive").json()
    assert [(each["value"], each["facts"]["name"]) for each in alive] == [(new, "sync 2")]


def test_wrong_row_kills_the_wrong_key(url: str) -> None:
    """A person who deletes the wrong row ends the new key while the old one lives."""
    old = people.aha_generate_key(url, USER, "old")
    new = people.aha_generate_key(url, USER, "new")
    people.aha_delete_key(url, USER, "new")
    assert (call(url, old).status_code, call(url, new).status_code) == (200, 401)
    with pytest.raises(people.Refused):
        people.aha_delete_key(url, USER, "new")


def test_key_is_shown_once(url: str) -> None:
    """The list shows the name but never the value, and a deletion wants confirming."""
    key = people.aha_generate_key(url, USER, "sync")
    person = people.Browser(url)
    person.post("/login", {"email": USER, "password": people.DEMO_PASSWORD})
    listing = person.get("/settings/api_keys")
    assert "<td>sync</td>" in listing
    assert key not in listing
    person.post(re.findall(r'href="([^"]+/delete)"', listing)[0], {})
    assert call(url, key).status_code == 200


def test_both_edges_lag(url: str) -> None:
    """A new key needs a moment to be known, and a deleted one works a moment longer."""
    lab(url, "dials", {"settle_s": 30})
    key = people.aha_generate_key(url, USER, "sync")
    assert call(url, key).status_code == 401
    lab(url, "clock", {"advance_s": 30})
    assert call(url, key).status_code == 200
    people.aha_delete_key(url, USER, "sync")
    assert call(url, key).status_code == 200
    lab(url, "clock", {"advance_s": 30})
    assert call(url, key).status_code == 401


def test_key_belongs_to_one_account(url: str) -> None:
    """A key is refused on another sub-domain, the shared host serves no API, and unknown accounts are a page."""
    key = people.aha_generate_key(url, USER, "sync")
    assert call(url, key).json()["user"]["accounts"][0]["account"]["domain"] == "acme"
    assert call(url, key, Host="globex.aha.io").status_code == 401
    assert call(url, key, Host="secure.aha.io").status_code == 404
    assert call(url, key, Host="nobody.aha.io").headers["Content-Type"].startswith("text/html")


def test_refusal_is_a_page_unless_switched(url: str) -> None:
    """A 401 comes as HTML; a switch makes it JSON."""
    assert call(url, "nonsense").headers["Content-Type"].startswith("text/html")
    lab(url, "settings", {"json_errors": True})
    assert call(url, "nonsense").json() == {"error": "unauthorized"}


def test_query_credential_is_warned_about(url: str) -> None:
    """A key in the address works and is held against the caller."""
    key = people.aha_generate_key(url, USER, "sync")
    assert httpx2.get(f"{url}/api/v1/me", params={"access_token": key}).status_code == 200
    warnings = httpx2.get(f"{url}/_lab/warnings").json()
    assert len(warnings) == 1
    assert key not in warnings[0]


def test_rights(url: str) -> None:
    """Users are for administrators, a workspace can be forbidden, and records can be missing."""
    key, admin = (people.aha_generate_key(url, who, "sync") for who in (USER, ADMIN))
    assert call(url, key, "users").status_code == 403
    assert [each["email"] for each in call(url, admin, "users").json()["users"]] == [USER, ADMIN]
    assert call(url, key, "products/9").status_code == 404
    lab(url, "settings", {"products_forbidden": True})
    assert call(url, key, "products").status_code == 403


def test_lists_have_pages(url: str) -> None:
    """Lists carry a pagination body, and audits show what happened to keys."""
    key = people.aha_generate_key(url, USER, "sync")
    answer = call(url, key, "products?per_page=1&page=2").json()
    assert [each["name"] for each in answer["products"]] == ["Anvils"]
    assert answer["pagination"] == {"total_records": 2, "total_pages": 2, "current_page": 2}
    assert call(url, key, "audits").json()["audits"][0]["description"] == "created API key sync"
    assert call(url, key, "products?per_page=999").status_code == 400


def test_rate_limits(url: str) -> None:
    """The account's two limits end in 429, and each answer tells what is left."""
    key = people.aha_generate_key(url, USER, "sync")
    lab(url, "settings", {"per_minute": 2})
    first = call(url, key)
    assert (first.headers["X-Ratelimit-Limit"], first.headers["X-Ratelimit-Remaining"]) == ("2", "1")
    call(url, key)
    refused = call(url, key)
    assert refused.status_code == 429
    assert int(refused.headers["X-Ratelimit-Reset"]) > 0
    lab(url, "clock", {"advance_s": 61})
    lab(url, "settings", {"per_minute": 300, "per_second": 0})
    assert call(url, key).status_code == 429


def test_disabled_user_is_cut_off(url: str) -> None:
    """Disabling a user ends all of the user's keys at once."""
    keys = [people.aha_generate_key(url, USER, name) for name in ("a", "b")]
    user_id = call(url, keys[0]).json()["user"]["id"]
    boss = people.Browser(url)
    boss.post("/login", {"email": ADMIN, "password": people.DEMO_PASSWORD})
    boss.post(f"/settings/account/users/{user_id}/disable", {})
    assert [call(url, key).status_code for key in keys] == [401, 401]
    assert httpx2.get(f"{url}/_lab/alive").json() == []


def test_https_is_forced_by_switch(url: str) -> None:
    """Plain HTTP is redirected when the switch is on."""
    lab(url, "settings", {"force_https": True})
    answer = call(url, "any")
    assert answer.status_code == 301
    assert answer.headers["Location"].startswith("https://")


def consent(url: str, app: dict[str, str], *, decline: bool = False) -> dict[str, list[str]]:
    wanted = {
        "client_id": app["client_id"],
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "state": "s&1",
    }
    address = people.aha_consent(f"{url}/oauth/authorize?{urlencode(wanted)}", USER, decline=decline)
    assert address.startswith(CALLBACK)
    return parse_qs(urlsplit(address).query)


def trade(url: str, app: dict[str, str], **more: str) -> httpx2.Response:
    client = {"client_id": app["client_id"], "client_secret": app["client_secret"], "redirect_uri": CALLBACK}
    return httpx2.post(f"{url}/oauth/token", data=client | more)


def test_oauth_token_has_no_expiry(url: str) -> None:
    """Consent gives a one-time code, and the code a token without expiry or refresh."""
    app = lab(url, "apps", {"name": "Sync", "redirect_uri": CALLBACK}).json()
    assert consent(url, app, decline=True) == {"error": ["access_denied"], "state": ["s&1"]}
    answer = consent(url, app)
    assert answer["state"] == ["s&1"]
    made = trade(url, app, grant_type="authorization_code", code=answer["code"][0])
    assert set(made.json()) == {"access_token", "token_type"}
    assert call(url, made.json()["access_token"]).json()["user"]["email"] == USER
    assert trade(url, app, grant_type="authorization_code", code=answer["code"][0]).status_code == 400
    assert httpx2.post(f"{url}/oauth/revoke").status_code == 404


def test_oauth_switches(url: str) -> None:
    """With the switches on, tokens expire, refresh tokens rotate, and revoking ends a token."""
    lab(url, "settings", {"oauth_expires_in": 3600, "oauth_refresh": True, "oauth_revoke": True})
    app = lab(url, "apps", {"name": "Sync", "redirect_uri": CALLBACK}).json()
    code = consent(url, app)["code"][0]
    first = trade(url, app, grant_type="authorization_code", code=code).json()
    lab(url, "clock", {"advance_s": 3601})
    assert call(url, first["access_token"]).status_code == 401
    second = trade(url, app, grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert call(url, second["access_token"]).status_code == 200
    assert (
        trade(url, app, grant_type="refresh_token", refresh_token=first["refresh_token"]).status_code == 400
    )
    client = {"client_id": app["client_id"], "client_secret": app["client_secret"]}
    httpx2.post(f"{url}/oauth/revoke", data=client | {"token": second["access_token"]}).raise_for_status()
    assert call(url, second["access_token"]).status_code == 401
