"""Zuora's stand-in behaves as its sheet says."""

import os
from collections.abc import Iterator

import httpx2
import pytest
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session

from keyturn_lab.people import Refused
from keyturn_lab.standin import running
from keyturn_lab.vendors.zuora import STANDIN, people

USER, READER, ADMIN = "integration@acme.example", "reader@acme.example", "admin@acme.example"
EU = "rest.eu.zuora.com"
READ = "/v1/catalog/products"


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        lab(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def lab(url: str, what: str, body: object) -> httpx2.Response:
    return httpx2.post(f"{url}/_lab/{what}", json=body).raise_for_status()


def ask(url: str, made: dict[str, str], path: str = "/oauth/token", **headers: str) -> httpx2.Response:
    form = {"grant_type": "client_credentials", **made}
    return httpx2.post(url + path, data=form, headers=headers)


def bearer(url: str, made: dict[str, str], **headers: str) -> str:
    return str(ask(url, made, **headers).raise_for_status().json()["access_token"])


def read(url: str, token: str, path: str = READ, **headers: str) -> httpx2.Response:
    return httpx2.get(url + path, headers={"Authorization": f"Bearer {token}"} | headers)


def test_two_clients_work_side_by_side(url: str) -> None:
    """Clients of one user overlap as the same user of the same tenant; deleting one leaves the other alone."""
    old, new = (people.create_client(url, USER, name) for name in ("sync 1", "sync 2"))
    scopes = [ask(url, each).json()["scope"] for each in (old, new)]
    assert scopes[0] == scopes[1]
    assert {each.partition(".")[0] for each in scopes[0].split()} == {"user", "entity", "service", "tenant"}
    people.delete_client(url, USER, old["client_id"])
    assert (ask(url, old).status_code, ask(url, new).status_code) == (401, 200)
    assert people.client_ids(url, USER) == [new["client_id"]]
    alive = [each["id"] for each in httpx2.get(f"{url}/_lab/alive").json() if each["kind"] == "oauth_client"]
    assert alive == [new["client_id"]]
    with pytest.raises(Refused):
        people.delete_client(url, USER, old["client_id"])


def test_another_oauth_client_library_is_served(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """requests-oauthlib, unmodified, gets a token with the id and secret in the form, and reads with it."""
    monkeypatch.setitem(os.environ, "OAUTHLIB_INSECURE_TRANSPORT", "1")
    made = people.create_client(url, USER, "sync")
    session = OAuth2Session(client=BackendApplicationClient(client_id=made["client_id"]))
    session.trust_env = False
    token = session.fetch_token(
        f"{url}/oauth/token", client_secret=made["client_secret"], include_client_id=True
    )
    assert 3590 < token["expires_in"] < 3600
    assert session.get(url + READ).json()["success"] is True
    session.close()


def test_form_must_be_encoded(url: str) -> None:
    """A secret holds `+`, `/` and `=`: sent without encoding it is another one; JSON is not taken."""
    made = people.create_client(url, USER, "sync")
    assert len(made["client_secret"]) <= 42
    assert set("+/=") <= set(made["client_secret"])
    raw = f"grant_type=client_credentials&client_id={made['client_id']}&client_secret={made['client_secret']}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert httpx2.post(f"{url}/oauth/token", content=raw, headers=form).status_code == 401
    assert httpx2.post(f"{url}/oauth/token", json=made).status_code == 415
    assert httpx2.post(f"{url}/oauth/token", data=made).json()["code"] % 100 == 20


def test_authorization_header_is_not_wanted(url: str) -> None:
    """A token call with an Authorization header is refused, unless switched."""
    made = people.create_client(url, USER, "sync")
    assert ask(url, made, Authorization="Basic eDp5").status_code == 400
    lab(url, "settings", {"forbid_authorization": False})
    assert ask(url, made, Authorization="Basic eDp5").status_code == 200


def test_wrong_data_centre_looks_like_a_wrong_secret(url: str) -> None:
    """A client is known at its own tenant's host only, and so is its bearer."""
    made = people.create_client(url, USER, "sync")
    wrong = ask(url, made, Host=EU)
    assert (wrong.status_code, wrong.json()) == (401, {"message": "Invalid client id or client secret"})
    assert read(url, bearer(url, made), Host=EU).status_code == 401
    other = people.create_client(
        url, "admin@globex.example", "sync", admin="admin@globex.example", host="eu.zuora.com"
    )
    assert read(url, bearer(url, other, Host=EU), Host=EU).status_code == 200


@pytest.mark.parametrize(
    ("style", "status", "keys"),
    [
        ("message", 401, {"message"}),
        ("code", 401, {"code", "message"}),
        ("reasons", 401, {"success", "processId", "reasons"}),
        ("reasons_200", 200, {"success", "processId", "reasons"}),
    ],
)
def test_refusals_have_several_shapes(url: str, style: str, status: int, keys: set[str]) -> None:
    """What a refused token call looks like is not documented; one of the shapes comes with HTTP 200."""
    made = people.create_client(url, USER, "sync") | {"client_secret": "wrong"}
    lab(url, "settings", {"error_style": style})
    answer = ask(url, made)
    assert (answer.status_code, set(answer.json())) == (status, keys)


def test_bearers_outlive_their_client(url: str) -> None:
    """A bearer runs out after 3598 s; deleting its client ends it only with the switch."""
    made = people.create_client(url, USER, "sync")
    token = bearer(url, made)
    people.delete_client(url, USER, made["client_id"])
    assert read(url, token).status_code == 200
    lab(url, "clock", {"advance_s": 3599})
    assert read(url, token).json() == {"message": "Authentication error"}
    lab(url, "settings", {"bearers_die_with_client": True})
    again = people.create_client(url, USER, "sync")
    token = bearer(url, again)
    people.delete_client(url, USER, again["client_id"])
    assert read(url, token).status_code == 401


def test_a_deleted_client_and_a_new_one_lag(url: str) -> None:
    """Both edges of a client's life lag by the dial."""
    lab(url, "dials", {"settle_s": 30})
    made = people.create_client(url, USER, "sync")
    assert ask(url, made).status_code == 401
    lab(url, "clock", {"advance_s": 30})
    assert ask(url, made).status_code == 200
    people.delete_client(url, USER, made["client_id"])
    assert ask(url, made).status_code == 200
    lab(url, "clock", {"advance_s": 30})
    assert ask(url, made).status_code == 401


def test_a_deactivated_user_loses_everything_until_reactivated(url: str) -> None:
    """Deactivating refuses clients and bearers at once; reactivating restores them."""
    made = people.create_client(url, USER, "sync")
    token = bearer(url, made)
    people.switch_user(url, USER)
    assert (ask(url, made).status_code, read(url, token).status_code) == (401, 401)
    with pytest.raises(Refused):
        people.create_client(url, USER, "another")
    people.switch_user(url, USER)
    assert (ask(url, made).status_code, read(url, token).status_code) == (200, 200)


def test_pages_are_for_administrators(url: str) -> None:
    """Only who may manage users makes clients, and only of the own tenant."""
    for admin in (USER, "admin@globex.example"):
        with pytest.raises(Refused):
            people.create_client(url, USER, "sync", admin=admin)


def test_narrow_role_is_told_with_http_200(url: str) -> None:
    """A user without the catalogue's permission gets success: false in a 200, or a 403 by switch."""
    token = bearer(url, people.create_client(url, READER, "sync"))
    answer = read(url, token)
    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert answer.json()["reasons"][0]["code"] % 100 == 10
    lab(url, "settings", {"envelope_refusals": False})
    assert read(url, token).status_code == 403
    assert read(url, token, "/settings/listing").status_code == 403
    assert "xml" in read(url, token, "/v1/describe/Account").headers["Content-Type"]


def test_lists_have_pages(url: str) -> None:
    """A catalogue page names the next one whole; a silly size is refused in a 200."""
    token = bearer(url, people.create_client(url, USER, "sync"))
    first = read(url, token, f"{READ}?pageSize=2").json()
    assert [each["name"] for each in first["products"]] == ["Anvil", "Rocket"]
    following = read("", token, first["nextPage"]).json()
    assert [each["name"] for each in following["products"]] == ["Spring"]
    assert "nextPage" not in following
    assert read(url, token, f"{READ}?pageSize=41").json()["success"] is False


def test_token_calls_are_limited_by_address(url: str) -> None:
    """The limit answers 429 with `ratelimit-reset`, and `Retry-After` by switch; a minute later it is over."""
    made = people.create_client(url, USER, "sync")
    lab(url, "settings", {"token_per_minute": 1})
    assert ask(url, made).status_code == 200
    refused = ask(url, made)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["ratelimit-reset"]) <= 60
    assert "Retry-After" not in refused.headers
    lab(url, "settings", {"says_retry_after": True})
    assert int(ask(url, made).headers["Retry-After"]) >= 1
    lab(url, "clock", {"advance_s": 61})
    assert ask(url, made).status_code == 200


def test_passing_mishaps_at_the_gateway(url: str) -> None:
    """A 401 may be passing: the user could not be looked up."""
    token = bearer(url, people.create_client(url, USER, "sync"))
    lab(url, "settings", {"user_info_failures": 1})
    assert [read(url, token).json().get("message") for _ in range(2)] == ["Failed to get user info", None]


def test_one_id_clients_are_apart(url: str) -> None:
    """A OneID client gets its token at OneID only, and its bearer works at the tenant."""
    made = people.create_client(url, USER, "sync", one_id=True)
    assert people.client_ids(url, USER) == []
    assert ask(url, made).status_code == 401
    answer = ask(url, made, "/oauth2/token")
    assert read(url, answer.json()["access_token"]).status_code == 200


def test_track_id_is_echoed_and_entities_are_checked(url: str) -> None:
    """`Zuora-Track-Id` comes back; an entity that is not the tenant's is a matter of permission."""
    made = people.create_client(url, USER, "sync")
    answer = ask(url, made, **{"Zuora-Track-Id": "t-1"})
    assert answer.headers["Zuora-Track-Id"] == "t-1"
    token, scope = answer.json()["access_token"], answer.json()["scope"]
    (entity,) = [each.removeprefix("entity.") for each in scope.split() if each.startswith("entity.")]
    assert read(url, token, **{"Zuora-Entity-Ids": entity}).json()["success"] is True
    assert read(url, token, **{"Zuora-Entity-Ids": "elsewhere"}).json()["success"] is False
