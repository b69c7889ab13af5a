"""Productboard's stand-in behaves as its sheet says."""

import base64
import hashlib
import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from keyturn_lab.people import Refused
from keyturn_lab.standin import running
from keyturn_lab.vendors.productboard import STANDIN, people

MEMBER, ADMIN, MAKER = "integration@acme.example", "admin@acme.example", "maker@acme.example"
ELSEWHERE = "integration@globex.example"
CALLBACK = "http://127.0.0.1:9/callback"


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        lab(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def lab(url: str, what: str, body: object) -> httpx2.Response:
    return httpx2.post(f"{url}/_lab/{what}", json=body).raise_for_status()


def call(url: str, token: str, path: str = "/v2/members", **headers: str) -> httpx2.Response:
    return httpx2.get(url + path, headers={"Authorization": f"Bearer {token}"} | headers)


def code_of(answer: httpx2.Response) -> str:
    return str(answer.json()["errors"][0]["code"])


def test_two_tokens_work_side_by_side(url: str) -> None:
    """A workspace's tokens overlap, and deleting one leaves the other alone."""
    old, new = (people.create_token(url, MEMBER, name) for name in ("sync 1", "sync 2"))
    assert call(url, old).json() == call(url, new).json()
    people.delete_token(url, MEMBER, "sync 1")
    assert (call(url, old).status_code, call(url, new).status_code) == (401, 200)
    assert code_of(call(url, old)) == "auth.invalid"
    assert people.token_names(url, MEMBER) == ["sync 2"]
    alive = httpx2.get(f"{url}/_lab/alive").json()
    assert [(each["value"], each["facts"]["name"]) for each in alive] == [(new, "sync 2")]


def test_token_is_a_jwt_without_an_end(url: str) -> None:
    """A token has three pieces, no `exp`, and works ten years later."""
    token = people.create_token(url, MEMBER, "sync")
    payload = token.split(".")[1]
    assert "exp" not in json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    lab(url, "clock", {"advance_s": 10 * 365 * 86_400})
    assert call(url, token).status_code == 200


def test_token_is_shown_once_and_deletion_is_confirmed(url: str) -> None:
    """The list shows names but no values, and wants a deletion confirmed."""
    token = people.create_token(url, MEMBER, "sync")
    person = people.Browser(url)
    person.post("/login", {"email": MEMBER, "password": people.DEMO_PASSWORD})
    assert token not in person.get(people.TOKENS)
    person.post(f"{people.TOKENS}/501/delete", {})
    assert call(url, token).status_code == 200
    with pytest.raises(Refused):
        people.delete_token(url, MEMBER, "another")


def test_tokens_are_for_administrators(url: str) -> None:
    """A maker without admin access gets no token."""
    with pytest.raises(Refused):
        people.create_token(url, MAKER, "sync")


def test_both_edges_lag(url: str) -> None:
    """A new token needs a moment to be known, and a deleted one works a moment longer."""
    lab(url, "dials", {"settle_s": 30})
    token = people.create_token(url, MEMBER, "sync")
    assert call(url, token).status_code == 401
    lab(url, "clock", {"advance_s": 30})
    assert call(url, token).status_code == 200
    people.delete_token(url, MEMBER, "sync")
    assert call(url, token).status_code == 200
    lab(url, "clock", {"advance_s": 30})
    assert call(url, token).status_code == 401


def test_one_host_serves_all_workspaces(url: str) -> None:
    """The token decides the workspace; the members' html links name it, unless switched off."""
    for member, workspace in ((MEMBER, "acme"), (ELSEWHERE, "globex")):
        row = call(url, people.create_token(url, member, "sync")).json()["data"][0]
        assert row["links"]["html"].startswith(f"https://{workspace}.productboard.com/")
        assert row["links"]["self"].startswith("https://api.productboard.com/")
    lab(url, "settings", {"html_links": False})
    assert "html" not in call(url, people.create_token(url, MEMBER, "sync")).json()["data"][0]["links"]


def test_gateway_refuses_in_its_own_shape(url: str) -> None:
    """What is no token at all is refused by a gateway whose body is another."""
    for answer in (call(url, "nonsense"), httpx2.get(f"{url}/v2/members")):
        assert answer.status_code == 401
        assert "errors" not in answer.json()
    assert code_of(call(url, "not.a.token")) == "auth.invalid"


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"plan_too_small": True}, "planUpgrade.required"), ({"api_enabled": False}, "system.apiNotEnabled")],
)
def test_plan_and_switch_are_no_matter_of_the_token(url: str, settings: dict[str, bool], code: str) -> None:
    """A workspace without the plan or the API says 403 to a good token."""
    token = people.create_token(url, MEMBER, "sync")
    lab(url, "settings", settings)
    answer = call(url, token)
    assert (answer.status_code, code_of(answer)) == (403, code)


def test_versions_differ_by_a_header(url: str) -> None:
    """v1 wants X-Version, v2 refuses it, and v1 can be gone."""
    token = people.create_token(url, MEMBER, "sync")
    assert call(url, token, **{"X-Version": "1"}).status_code == 400
    assert call(url, token, "/features?pageLimit=1").status_code == 400
    assert call(url, token, "/features?pageLimit=1", **{"X-Version": "1"}).json()["data"]
    for status in (404, 410):
        lab(url, "settings", {"v1_gone": status})
        assert call(url, token, "/features", **{"X-Version": "1"}).status_code == status
    assert code_of(call(url, token, "/v2/nothing")) == "route.notFound"


def test_lists_have_pages(url: str) -> None:
    """`links.next` leads on until it is null."""
    token = people.create_token(url, MEMBER, "sync")
    lab(url, "settings", {"page_size": 2})
    first = call(url, token, "/v2/notes").json()
    rest = httpx2.get(first["links"]["next"], headers={"Authorization": f"Bearer {token}"}).json()
    assert [each["id"] for each in first["data"] + rest["data"]] == ["n-1", "n-2", "n-3"]
    assert rest["links"]["next"] is None
    kinds = [each["type"] for each in call(url, token, "/v2/entities?type[]=product").json()["data"]]
    assert kinds == ["product"]


def test_rate_limit_is_by_token(url: str) -> None:
    """A token over its calls a second gets 429 with the time to wait; another token is not affected."""
    first, second = (people.create_token(url, MEMBER, name) for name in ("a", "b"))
    lab(url, "settings", {"per_second": 1})
    answer = call(url, first)
    assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("1", "0")
    refused = call(url, first)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert call(url, second).status_code == 200
    lab(url, "clock", {"advance_s": 1.1})
    assert call(url, first).status_code == 200


@pytest.mark.parametrize("change", ["maker", "disabled"])
def test_a_member_who_leaves_or_is_demoted(url: str, change: str) -> None:
    """A token ends with its member's rights, unless the switch says that it lives on."""
    token = people.create_token(url, MEMBER, "sync")
    (member_id,) = [
        each["id"] for each in call(url, token).json()["data"] if each["fields"]["email"] == MEMBER
    ]
    people.change_member(url, ADMIN, member_id, change)
    assert call(url, token).status_code == 401
    lab(url, "settings", {"tokens_end_with_member": False})
    assert call(url, token).status_code == 200


def ask(url: str, app: dict[str, str], member: str = MEMBER, **more: str) -> str:
    query = {
        "client_id": app["client_id"],
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "notes:read",
        "state": "s&1",
    }
    return people.consent(f"{url}/oauth2/authorize?{urlencode(query | more)}", member)


def trade(url: str, app: dict[str, str], **more: str) -> httpx2.Response:
    client = {"client_id": app["client_id"], "client_secret": app["client_secret"], "redirect_uri": CALLBACK}
    return httpx2.post(f"{url}/oauth2/token", data=client | more)


def granted(url: str, app: dict[str, str]) -> dict[str, str]:
    (code,) = parse_qs(urlsplit(ask(url, app)).query)["code"]
    made: dict[str, str] = (
        trade(url, app, grant_type="authorization_code", code=code).raise_for_status().json()
    )
    return made


def test_oauth_pair_lives_a_day_and_rotates(url: str) -> None:
    """Access ends after a day; a used refresh token can be used again for an hour and no longer."""
    app = lab(url, "apps", {"redirect_uri": CALLBACK}).json()
    first = granted(url, app)
    assert call(url, first["access_token"], "/v2/notes").status_code == 200
    assert call(url, first["access_token"], "/v2/entities").status_code == 403
    lab(url, "clock", {"advance_s": 86_401})
    assert call(url, first["access_token"], "/v2/notes").status_code == 401
    again = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second, third = trade(url, app, **again).json(), trade(url, app, **again).json()
    assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3
    lab(url, "clock", {"advance_s": 3601})
    refused = trade(url, app, **again)
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


def test_oauth_revoke_and_info(url: str) -> None:
    """Each token of a pair is revoked by itself; token info speaks of living ones only."""
    app = lab(url, "apps", {"redirect_uri": CALLBACK}).json()
    pair = granted(url, app)
    client = {"client_id": app["client_id"], "client_secret": app["client_secret"]}
    info = {"params": {"access_token": pair["access_token"]}}
    assert httpx2.get(f"{url}/oauth2/token/info", **info).json()["scope"] == ["notes:read"]
    for name in ("access_token", "refresh_token"):
        httpx2.post(f"{url}/oauth2/revoke", data=client | {"token": pair[name]}).raise_for_status()
    assert httpx2.get(f"{url}/oauth2/token/info", **info).status_code == 401
    gone = trade(url, app, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert gone.json() == {"error": "invalid_grant"}
    wrong = trade(url, app | {"client_secret": "wrong"}, grant_type="refresh_token", refresh_token="x")
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})


def test_oauth_asks_what_it_should(url: str) -> None:
    """Unknown scopes go back as errors, a non-admin is refused, a code is good once and for ten minutes."""
    app = lab(url, "apps", {"redirect_uri": CALLBACK}).json()
    assert parse_qs(urlsplit(ask(url, app, scope="everything")).query) == {
        "error": ["invalid_scope"],
        "state": ["s&1"],
    }
    with pytest.raises(Refused):
        ask(url, app, MAKER)
    for wait_s in (0, 601):
        (code,) = parse_qs(urlsplit(ask(url, app)).query)["code"]
        if not wait_s:
            assert trade(url, app, grant_type="authorization_code", code=code).status_code == 200
        lab(url, "clock", {"advance_s": wait_s})
        assert trade(url, app, grant_type="authorization_code", code=code).status_code == 400


def test_public_client_needs_s256(url: str) -> None:
    """A client without a secret must bring a challenge, S256 only, and its verifier."""
    app = lab(url, "apps", {"redirect_uri": CALLBACK, "is_public": True}).json()
    assert "error=invalid_request" in ask(url, app)
    assert "error=invalid_request" in ask(url, app, code_challenge="x", code_challenge_method="plain")
    verifier = "v" * 43
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    for tried, status in (("w" * 43, 400), (verifier, 200)):
        address = ask(url, app, code_challenge=digest, code_challenge_method="S256")
        (code,) = parse_qs(urlsplit(address).query)["code"]
        answer = trade(url, app, grant_type="authorization_code", code=code, code_verifier=tried)
        assert answer.status_code == status
