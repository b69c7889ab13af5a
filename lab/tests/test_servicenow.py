"""ServiceNow's stand-in, seen by requests-oauthlib and plain HTTP: the traps that a client must survive."""

import base64
import hashlib
import warnings
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from requests_oauthlib import OAuth2Session

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.standin import running
from keyturn_lab.vendors.servicenow import STANDIN, people

ME, ADMIN = "integration@acme.example", "admin@acme.example"
CALLBACK = "http://127.0.0.1:8425/oauth/callback"
JSON = {"Accept": "application/json"}


class Instance:
    """A running instance with one entry registered by a person."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pair = people.register(url, "first", CALLBACK)

    def lab(self, door: str, body: object) -> httpx2.Response:
        return httpx2.post(f"{self.url}/_lab/{door}", json=body).raise_for_status()

    def address(self, **changes: str) -> str:
        asked = {
            "response_type": "code",
            "client_id": self.pair["client_id"],
            "redirect_uri": CALLBACK,
            "state": "s",
        }
        return f"{self.url}/oauth_auth.do?{httpx2.QueryParams({**asked, **changes})}"

    def code(self, user: str = ME) -> str:
        return parse_qs(urlsplit(people.consent(self.address(), user)).query)["code"][0]

    def token(self, **form: str) -> httpx2.Response:
        return httpx2.post(f"{self.url}/oauth_token.do", data={**self.pair, **form})

    def connect(self, user: str = ME) -> dict[str, str]:
        form = {"grant_type": "authorization_code", "code": self.code(user), "redirect_uri": CALLBACK}
        return self.token(**form).raise_for_status().json()

    def refresh(self, value: str) -> httpx2.Response:
        return self.token(grant_type="refresh_token", refresh_token=value)

    def rows(self, table: str, token: str = "", **asked: str) -> httpx2.Response:
        headers = {**JSON, **({"Authorization": f"Bearer {token}"} if token else {})}
        auth = None if token else (people.REGISTRAR, DEMO_PASSWORD)
        return httpx2.get(f"{self.url}/api/now/table/{table}", params=asked, headers=headers, auth=auth)

    def me(self, token: str) -> httpx2.Response:
        return self.rows("sys_user", token, sysparm_query="user_name=javascript:gs.getUserName()")


@pytest.fixture
def there() -> Iterator[Instance]:
    with running(STANDIN.create_app()) as url:
        httpx2.post(f"{url}/_lab/dials", json={"latency_s": 0}).raise_for_status()
        yield Instance(url)


def test_an_official_client_works_unchanged(there: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """requests-oauthlib consents, exchanges, refreshes and reads."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = OAuth2Session(there.pair["client_id"], redirect_uri=CALLBACK)
        url, _ = session.authorization_url(f"{there.url}/oauth_auth.do")
        answer = people.consent(url, ME)
        secret = {"client_secret": there.pair["client_secret"], "include_client_id": True}
        session.fetch_token(f"{there.url}/oauth_token.do", authorization_response=answer, **secret)
        session.refresh_token(f"{there.url}/oauth_token.do", **there.pair)
        found = session.get(f"{there.url}/api/now/table/sys_user", headers=JSON, params={"sysparm_limit": 1})
        assert found.json()["result"]
        session.close()


def test_tokens_come_back_unchanged(there: Instance) -> None:
    """A second consent to one entry gives the same tokens; a refresh a new access token and the same refresh token."""
    first, second = there.connect(), there.connect()
    assert (first["access_token"], first["refresh_token"]) == (
        second["access_token"],
        second["refresh_token"],
    )
    renewed = there.refresh(first["refresh_token"]).json()
    assert renewed["refresh_token"] == first["refresh_token"]
    assert renewed["access_token"] != first["access_token"]
    assert first["expires_in"] == 1799


def test_no_refresh_prolongs_a_grant(there: Instance) -> None:
    """A hundred days after the consent the refresh token is dead, although it was used every month."""
    pair = there.connect()
    for _ in range(3):
        there.lab("clock", {"advance_s": 30 * 86400})
        assert there.refresh(pair["refresh_token"]).status_code == 200
    there.lab("clock", {"advance_s": 11 * 86400})
    refused = there.refresh(pair["refresh_token"])
    assert (refused.status_code, refused.json()["error"]) == (401, "server_error")


def test_every_refusal_of_the_token_endpoint_is_the_same(there: Instance) -> None:
    """Wrong secret, used code, made-up token, disabled grant: one answer."""
    code = there.code()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
    assert there.token(**form).status_code == 200
    answers = [
        there.token(**form),
        there.token(**{**form, "client_secret": "wrong"}),
        there.refresh("made-up"),
        there.token(grant_type="password", username=ME, password=DEMO_PASSWORD),
        there.token(grant_type="client_credentials"),
        there.token(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion="a.b.c"),
    ]
    assert {(each.status_code, each.text) for each in answers} == {(401, answers[0].text)}
    assert answers[0].json() == {"error_description": "access_denied", "error": "server_error"}


def test_switched_on_grants_work(there: Instance) -> None:
    """Client credentials act as the application user and give no refresh token; a password gives both."""
    there.lab("settings", {"client_credentials_enabled": True, "ropc_disabled": False})
    there.lab("entries", {"client_id": there.pair["client_id"], "application_user": ME})
    machine = there.token(grant_type="client_credentials").json()
    assert "refresh_token" not in machine
    assert there.me(machine["access_token"]).json()["result"][0]["user_name"] == ME
    assert there.token(grant_type="password", username=ADMIN, password=DEMO_PASSWORD).json()["refresh_token"]


def test_parameters_belong_in_a_form_body(there: Instance) -> None:
    """JSON is a page with status 400; a query is not looked at, unless the property says so."""
    code = there.code()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, **there.pair}
    json_body = httpx2.post(f"{there.url}/oauth_token.do", json=form)
    assert (json_body.status_code, "html" in json_body.headers["content-type"]) == (400, True)
    ours = {"content-type": "application/x-www-form-urlencoded"}
    assert httpx2.post(f"{there.url}/oauth_token.do", params=form, headers=ours).status_code == 401
    there.lab("settings", {"body_only": False})
    assert httpx2.post(f"{there.url}/oauth_token.do", params=form, headers=ours).status_code == 200


def test_consent_pages(there: Instance) -> None:
    """Deny comes back; an address that is not registered loses the code to the first one; state is wanted."""
    assert "error=access_denied" in people.consent(there.address(), ME, decline=True)
    elsewhere = people.consent(there.address(redirect_uri="http://127.0.0.1:1/other"), ME)
    assert elsewhere.startswith(CALLBACK)
    browser = people.signed_in(there.url, ME)
    with pytest.raises(people.Refused, match="400"):
        browser.get(there.address(state=""))


def test_public_clients_need_s256_and_get_no_refresh_token(there: Instance) -> None:
    """Without a challenge there is no page; with one there is an access token only."""
    there.lab("entries", {"client_id": there.pair["client_id"], "is_public": True})
    with pytest.raises(people.Refused):
        people.consent(there.address(), ME)
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    back = people.consent(there.address(code_challenge=challenge, code_challenge_method="S256"), ME)
    code = parse_qs(urlsplit(back).query)["code"][0]
    pair = there.token(
        grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier
    ).json()
    assert set(pair) == {"access_token", "scope", "token_type", "expires_in"}


def test_anybody_who_holds_a_token_may_end_it(there: Instance) -> None:
    """Without signing in; the other token of the pair lives on, unless the instance cascades."""
    pair = there.connect()
    assert (
        httpx2.get(f"{there.url}/oauth_revoke_token.do", params={"token": pair["refresh_token"]}).status_code
        == 200
    )
    assert there.refresh(pair["refresh_token"]).status_code == 401
    assert there.me(pair["access_token"]).status_code == 200
    httpx2.get(f"{there.url}/oauth_revoke_token.do", params={"token": pair["access_token"]})
    refused = there.me(pair["access_token"])
    assert (refused.status_code, refused.json()["error"]["message"]) == (401, "User Not Authenticated")
    there.lab("settings", {"revoke_cascade": True})
    again = there.connect()
    httpx2.get(f"{there.url}/oauth_revoke_token.do", params={"token": again["refresh_token"]})
    assert there.me(again["access_token"]).status_code == 401


@pytest.mark.parametrize(
    ("switch", "values", "method"),
    [
        ("secret_change_ends_tokens", {"client_secret": "ktlab-another-secret"}, "PATCH"),
        ("deactivate_ends_tokens", {"active": "false"}, "PATCH"),
        ("delete_ends_tokens", None, "DELETE"),
    ],
)
def test_what_is_not_documented_is_a_switch(
    there: Instance, switch: str, values: dict[str, str] | None, method: str
) -> None:
    """By default an access token outlives a changed secret, an entry that is off, and even a deleted one."""
    for ends in (False, True):
        there.lab("reset", {})
        there.pair = people.register(there.url, "first", CALLBACK)
        there.lab("settings", {switch: ends})
        pair = there.connect()
        asked = {"sysparm_query": f"client_id={there.pair['client_id']}"}
        sys_id = there.rows("oauth_entity", **asked).json()["result"][0]["sys_id"]
        httpx2.request(
            method,
            f"{there.url}/api/now/table/oauth_entity/{sys_id}",
            json=values,
            headers=JSON,
            auth=(people.REGISTRAR, DEMO_PASSWORD),
        ).raise_for_status()
        assert there.me(pair["access_token"]).status_code == (401 if ends else 200)


def test_the_registry_hides_rather_than_refuses(there: Instance) -> None:
    """A plain user sees no rows at all; a closed table is 403; secrets are never shown; writing needs the role."""
    pair = there.connect()
    plain = there.rows("oauth_entity", pair["access_token"])
    assert (plain.status_code, plain.json()) == (200, {"result": []})
    there.lab("settings", {"plain_user_sees": "forbidden"})
    assert there.rows("oauth_entity", pair["access_token"]).status_code == 403
    shown = there.rows("oauth_entity").json()["result"]
    assert there.pair["client_secret"] not in str(shown)
    sys_id = shown[0]["sys_id"]
    bearer = {**JSON, "Authorization": f"Bearer {pair['access_token']}"}
    refused = httpx2.delete(f"{there.url}/api/now/table/oauth_entity/{sys_id}", headers=bearer)
    assert refused.status_code == 404
    assert "No Record found" in refused.text
    there.lab("settings", {"entries_acl": "closed"})
    assert there.rows("oauth_entity").json()["error"]["message"] == "Insufficient rights to query records"
    assert there.rows("no_such_table").json()["error"]["message"] == "Invalid table no_such_table"


def test_an_unknown_field_matches_every_row(there: Instance) -> None:
    """The wrong-row trap, and the property that closes it."""
    everything = there.rows("oauth_entity").json()["result"]
    assert (
        len(there.rows("oauth_entity", sysparm_query="clientid=nobody").json()["result"])
        == len(everything)
        > 2
    )
    there.lab("settings", {"invalid_query_returns_no_rows": True})
    assert there.rows("oauth_entity", sysparm_query="clientid=nobody").json()["result"] == []


def test_pages_of_rows_are_counted_and_linked(there: Instance) -> None:
    answer = there.rows("oauth_entity", sysparm_limit="1", sysparm_fields="sys_id,nonsense")
    assert answer.headers["X-Total-Count"] == "3"
    assert 'rel="next"' in answer.headers["Link"]
    assert [set(each) for each in answer.json()["result"]] == [{"sys_id"}]


def test_tokens_name_their_entry_and_user(there: Instance) -> None:
    there.connect()
    asked = {"sysparm_fields": "peer,user.user_name,type,expires"}
    rows = there.rows("oauth_credential", **asked).json()["result"]
    assert {(each["type"], each["user.user_name"]) for each in rows} == {
        ("access_token", ME),
        ("refresh_token", ME),
    }
    assert all(len(each["peer"]["value"]) == 32 for each in rows)


def test_a_cookie_outlives_its_token(there: Instance) -> None:
    """Who keeps cookies is let in with a dead token; who does not is refused."""
    pair = there.connect()
    with httpx2.Client() as keeper:
        headers = {**JSON, "Authorization": f"Bearer {pair['access_token']}"}
        keeper.get(f"{there.url}/api/now/table/sys_user", headers=headers).raise_for_status()
        there.lab("clock", {"advance_s": 1801})
        assert keeper.get(f"{there.url}/api/now/table/sys_user", headers=headers).status_code == 200
    assert there.me(pair["access_token"]).status_code == 401


def test_odd_answers(there: Instance) -> None:
    """XML without Accept, 429 with the vendor's headers, a page while the instance sleeps."""
    pair = there.connect()
    bearer = {"Authorization": f"Bearer {pair['access_token']}"}
    assert "xml" in httpx2.get(f"{there.url}/api/now/table/sys_user", headers=bearer).headers["content-type"]
    there.lab("faults", [{"op": "get_sys_user", "kind": "throttle"}])
    told = there.me(pair["access_token"])
    assert (told.status_code, told.headers["Retry-After"]) == (429, "1")
    assert all(f"X-RateLimit-{name}" in told.headers for name in ("Limit", "Reset", "Rule"))
    there.lab("settings", {"hibernating": True})
    asleep = there.me(pair["access_token"])
    assert (asleep.status_code, "html" in asleep.headers["content-type"]) == (200, True)


def test_people_look_before_they_delete(there: Instance) -> None:
    """Somebody else's token on the entry stops the person."""
    there.connect()
    there.connect(ADMIN)
    with pytest.raises(people.Refused, match=r"admin@acme\.example"):
        people.delete(there.url, there.pair["client_id"], ME)
    alone = people.register(there.url, "second", CALLBACK)
    people.delete(there.url, alone["client_id"], ME)
    assert alone["client_id"] not in people.client_ids(there.url)


def test_changes_take_their_time(there: Instance) -> None:
    """With the dial a new entry is unknown at first, and a deleted one still refreshes for a while."""
    pair = there.connect()
    there.lab("dials", {"settle_s": 60})
    fresh = people.register(there.url, "fresh", CALLBACK)
    refused = there.token(**{**fresh, "grant_type": "refresh_token", "refresh_token": pair["refresh_token"]})
    assert refused.status_code == 401
    people.delete(there.url, there.pair["client_id"], ME)
    assert there.me(pair["access_token"]).status_code == 200
    there.lab("clock", {"advance_s": 61})
    assert there.me(pair["access_token"]).status_code == 401
