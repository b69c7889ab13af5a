"""Jira's stand-in behaves as its sheet says."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from keyturn_lab import people
from keyturn_lab.standin import running
from keyturn_lab.vendors.jira import STANDIN

USER, ADMIN = "integration@acme.example", "admin@acme.example"
SCOPE = "read:jira-work read:jira-user offline_access"
DAY_S = 86_400


@dataclass
class Jira:
    """A running stand-in as an app sees it."""

    url: str
    client_id: str
    client_secret: str
    callback: str

    def lab(self, what: str, body: object) -> httpx2.Response:
        return httpx2.post(f"{self.url}/_lab/{what}", json=body).raise_for_status()

    def look(self, what: str) -> list[dict]:
        return httpx2.get(f"{self.url}/_lab/{what}").json()

    def address(self, **changes: str) -> str:
        asked = {
            "audience": "api.atlassian.com",
            "client_id": self.client_id,
            "scope": SCOPE,
            "redirect_uri": self.callback,
            "state": "a b&c",
            "response_type": "code",
            "prompt": "consent",
        }
        return f"{self.url}/authorize?{urlencode(asked | changes)}"

    def consent(self, account: str = USER, site: str = "acme", **changes: str) -> dict[str, str]:
        back = people.jira_consent(self.address(**changes), account, site)
        assert back.startswith(self.callback)
        return {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}

    def token(self, *, as_form: bool = False, **body: str) -> httpx2.Response:
        fields = {"client_id": self.client_id, "client_secret": self.client_secret} | body
        sent = {"data": fields} if as_form else {"json": fields}
        return httpx2.post(f"{self.url}/oauth/token", **sent)

    def exchange(self, code: str, **more: object) -> httpx2.Response:
        return self.token(grant_type="authorization_code", code=code, redirect_uri=self.callback, **more)

    def refresh(self, value: str) -> httpx2.Response:
        return self.token(grant_type="refresh_token", refresh_token=value)

    def connect(self, **how: str) -> dict[str, str]:
        return self.exchange(self.consent(**how)["code"]).raise_for_status().json()

    def get(self, path: str, pair: dict[str, str]) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {pair['access_token']}"})

    def sites(self, pair: dict[str, str]) -> httpx2.Response:
        return self.get("/oauth/token/accessible-resources", pair)

    def myself(self, pair: dict[str, str], cloud_id: str | None = None) -> httpx2.Response:
        cloud_id = cloud_id or self.sites(pair).json()[0]["id"]
        return self.get(f"/ex/jira/{cloud_id}/rest/api/3/myself", pair)


@pytest.fixture
def jira() -> Iterator[Jira]:
    with running(STANDIN.create_app()) as url:
        app = httpx2.get(f"{url}/_lab/apps").json()[0]
        httpx2.post(f"{url}/_lab/dials", json={"latency_s": 0}).raise_for_status()
        yield Jira(url, app["client_id"], app["client_secret"], app["callback"])


def test_consent_leads_to_an_identity(jira: Jira) -> None:
    """Consent echoes the state, the code gives a pair, and the pair proves account and site."""
    answer = jira.consent(site="acme-sandbox")
    assert answer["state"] == "a b&c"
    pair = jira.exchange(answer["code"]).json()
    assert (pair["expires_in"], pair["token_type"], set(pair["scope"].split())) == (
        3600,
        "Bearer",
        set(SCOPE.split()),
    )
    assert [site["name"] for site in jira.sites(pair).json()] == ["acme-sandbox"]
    assert jira.myself(pair).json()["emailAddress"] == USER


def test_code_is_for_one_use_and_one_callback(jira: Jira) -> None:
    """A code works once, for a short time, and only with the callback it was asked for."""
    code = jira.consent()["code"]
    assert jira.exchange(code).status_code == 200
    assert jira.exchange(code).json()["error"] == "invalid_grant"
    other = jira.consent()["code"]
    wrong = jira.token(grant_type="authorization_code", code=other, redirect_uri="http://127.0.0.1:1/other")
    assert wrong.json()["error"] == "invalid_grant"
    late = jira.consent()["code"]
    jira.lab("clock", {"advance_s": 301})
    assert jira.exchange(late).status_code == 403


def test_form_bodies_are_taken_too(jira: Jira) -> None:
    """The token endpoint takes forms as well as JSON."""
    assert jira.exchange(jira.consent()["code"], as_form=True).status_code == 200


def test_decline_comes_back(jira: Jira) -> None:
    """Cancel returns to the callback with `access_denied` and the state."""
    back = parse_qs(urlsplit(people.jira_consent(jira.address(), USER, decline=True)).query)
    assert (back["error"], back["state"]) == (["access_denied"], ["a b&c"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"redirect_uri": "http://127.0.0.1:8080/oauth/callback/"}, "Callback URL mismatch"),
        ({"client_id": "nobody"}, "client is unknown"),
        ({"audience": "elsewhere"}, "audience"),
        ({"response_type": "token"}, "response type"),
        ({"scope": "manage:everything"}, "scope"),
    ],
)
def test_bad_requests_never_return(jira: Jira, changes: dict[str, str], reason: str) -> None:
    """A wrong callback, client, audience, type or scope strands the person on Atlassian's own page."""
    with pytest.raises(people.Refused, match=reason):
        people.jira_consent(jira.address(**changes), USER)


def test_only_prompt_asks_again(jira: Jira) -> None:
    """Without `prompt=consent` an earlier grant answers by itself; with it the person is asked."""
    jira.connect()
    back = people.jira_consent(jira.address(prompt=""), USER, decline=True)
    assert "code=" in back
    assert "error=access_denied" in people.jira_consent(jira.address(), USER, decline=True)


def test_unshared_app_is_its_creators(jira: Jira) -> None:
    """An app that is not shared accepts nobody's consent but its creator's."""
    jira.lab("apps", {"client_id": jira.client_id, "is_shared": False})
    with pytest.raises(people.Refused, match="don't have access"):
        jira.consent()
    assert "code" in jira.consent(account=ADMIN)


def test_refresh_token_needs_its_scope(jira: Jira) -> None:
    """Without `offline_access` there is no refresh token."""
    assert "refresh_token" not in jira.connect(scope="read:jira-work")


def test_refresh_rotates_with_leeway(jira: Jira) -> None:
    """A used refresh token forgives a lost answer for ten minutes, counted from its first use, then is dead."""
    first = jira.connect()
    second = jira.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    jira.lab("clock", {"advance_s": 590})
    third = jira.refresh(first["refresh_token"])
    assert third.status_code == 200
    jira.lab("clock", {"advance_s": 30})
    assert jira.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    for pair in (second, third.json()):
        assert jira.refresh(pair["refresh_token"]).status_code == 200


def test_refresh_token_dies_unused_and_of_age(jira: Jira) -> None:
    """Ninety idle days end a refresh token, and a year ends the family however busy."""
    idle, busy = jira.connect(), jira.connect(account=ADMIN)
    for _ in range(4):
        jira.lab("clock", {"advance_s": 80 * DAY_S})
        busy = jira.refresh(busy["refresh_token"]).raise_for_status().json()
    assert jira.refresh(idle["refresh_token"]).status_code == 403
    jira.lab("clock", {"advance_s": 50 * DAY_S})
    assert jira.refresh(busy["refresh_token"]).status_code == 403


def test_both_refusals_of_a_dead_token(jira: Jira) -> None:
    """The same dead refresh token is refused in two ways, by switch."""
    assert jira.refresh("nonsense").status_code == 403
    jira.lab("settings", {"refusal": "unauthorized_client"})
    assert jira.refresh("nonsense").json() == {
        "error": "unauthorized_client",
        "error_description": "refresh_token is invalid",
    }


def test_secret_is_replaced_in_place(jira: Jira) -> None:
    """A replaced client secret is refused at once as `access_denied`, while access tokens run on."""
    pair = jira.connect()
    new = jira.lab("apps", {"client_id": jira.client_id, "replace_secret": True}).json()
    refused = jira.refresh(pair["refresh_token"])
    assert (refused.status_code, refused.json()["error"]) == (401, "access_denied")
    assert jira.sites(pair).status_code == 200
    jira.client_secret = new["client_secret"]
    assert jira.refresh(pair["refresh_token"]).status_code == 200


def test_console_replaces_secret(jira: Jira) -> None:
    """The developer console lets the creator, and nobody else, replace the secret."""
    for who in (USER, ADMIN):
        person = people.Browser(jira.url)
        person.post("/login", {"email": who, "password": people.DEMO_PASSWORD})
        form = {"client_id": jira.client_id, "replace_secret": "yes"}
        if who == USER:
            with pytest.raises(people.Refused):
                person.post("/console/myapps", form)
        else:
            assert jira.client_secret not in person.post("/console/myapps", form)


def test_second_app_stands_apart(jira: Jira) -> None:
    """Another app has its own grant and can't use the first one's refresh token."""
    pair = jira.connect()
    made = jira.lab("apps", {"name": "Blue", "callback": "http://127.0.0.1:8080/blue"}).json()
    other = Jira(jira.url, made["client_id"], made["client_secret"], made["callback"])
    assert other.refresh(pair["refresh_token"]).status_code == 403
    theirs = other.connect()
    people.jira_remove_grant(jira.url, USER, jira.client_id)
    assert (jira.sites(pair).status_code, jira.sites(theirs).status_code) == (401, 200)


def test_lost_refresh_answer(jira: Jira) -> None:
    """A refresh whose answer is lost has rotated; the retired token is good for another try."""
    pair = jira.connect()
    jira.lab("faults", [{"op": "refresh", "kind": "answer_lost"}])
    with pytest.raises(httpx2.RemoteProtocolError):
        jira.refresh(pair["refresh_token"])
    alive = [each for each in jira.look("alive") if each["kind"] == "refresh_token"]
    assert len(alive) == 2
    assert jira.refresh(pair["refresh_token"]).status_code == 200


def test_odd_refresh_answers(jira: Jira) -> None:
    """A refresh can be unavailable, and can answer without a refresh token, whose predecessor then stays."""
    pair = jira.connect()
    jira.lab("settings", {"refresh_unavailable": 1, "omit_refresh_token": True})
    assert jira.refresh(pair["refresh_token"]).headers["Retry-After"] == "1"
    assert "refresh_token" not in jira.refresh(pair["refresh_token"]).json()
    jira.lab("clock", {"advance_s": 1000})
    assert jira.refresh(pair["refresh_token"]).status_code == 200


def test_sites_add_up(jira: Jira) -> None:
    """A further consent adds its site to the one grant; a site taken away leaves none."""
    first = jira.connect(site="acme")
    jira.connect(site="acme-sandbox")
    assert {site["name"] for site in jira.sites(first).json()} == {"acme", "acme-sandbox"}
    jira.lab("access", {"account": USER, "sites": []})
    assert jira.sites(first).json() == []


def test_one_site_two_products(jira: Jira) -> None:
    """A site with two products appears twice under one id, each row with its own scopes."""
    pair = jira.connect(scope="read:jira-work read:confluence-content.summary")
    rows = jira.sites(pair).json()
    assert len({row["id"] for row in rows}) == 1
    assert [row["scopes"] for row in rows] == [["read:jira-work"], ["read:confluence-content.summary"]]


def test_account_level_app_gets_all_sites(jira: Jira) -> None:
    """An app with account-level access is granted every site without a choice."""
    jira.lab("apps", {"client_id": jira.client_id, "one_site": False})
    back = people.jira_consent(jira.address(), USER)
    pair = jira.exchange(parse_qs(urlsplit(back).query)["code"][0]).json()
    assert len(jira.sites(pair).json()) == 2


def test_api_refusals_differ(jira: Jira) -> None:
    """Dead token, missing scope, wrong site, missing permission and blocked app each refuse in their own way."""
    pair = jira.connect()
    cloud_id = jira.sites(pair).json()[0]["id"]
    assert jira.myself({"access_token": "nonsense"}, cloud_id).json()["message"] == "Unauthorized"
    assert jira.get("/me", pair).json()["message"] == "Unauthorized; scope does not match"
    assert jira.myself(pair, "00000000-0000-0000-0000-000000000000").status_code == 404
    jira.lab("settings", {"permission_denied": True})
    assert jira.myself(pair, cloud_id).status_code == 403
    jira.lab("settings", {"permission_denied": False, "app_access_blocked": True})
    assert "Atlassian-DataSecurityPolicy" in jira.myself(pair, cloud_id).headers


def test_me_and_a_hidden_address(jira: Jira) -> None:
    """`/me` names the account with its own scope; `myself` may hide the email address."""
    pair = jira.connect(scope="read:me read:jira-user")
    assert jira.get("/me", pair).json()["email"] == USER
    jira.lab("settings", {"hide_email": True})
    assert "emailAddress" not in jira.myself(pair).json()


def test_removed_grant_kills_every_family(jira: Jira) -> None:
    """Removing access ends all families of the app and the account, the newest included, and no other account's."""
    pairs = [jira.connect(), jira.connect()]
    others = jira.connect(account=ADMIN)
    people.jira_remove_grant(jira.url, USER, jira.client_id)
    assert [jira.sites(pair).status_code for pair in pairs] == [401, 401]
    assert [jira.refresh(pair["refresh_token"]).status_code for pair in pairs] == [403, 403]
    assert [family["account"] for family in jira.look("families")] == [ADMIN]
    assert jira.sites(others).status_code == 200


def test_admin_uninstalls(jira: Jira) -> None:
    """A site admin ends the app for everybody; a plain user may not."""
    jira.connect()
    jira.connect(account=ADMIN)
    form = {"client_id": jira.client_id}
    user, admin = people.Browser(jira.url), people.Browser(jira.url)
    for person, email in ((user, USER), (admin, ADMIN)):
        person.post("/login", {"email": email, "password": people.DEMO_PASSWORD})
    with pytest.raises(people.Refused):
        user.post("/admin/connected-apps", form)
    admin.post("/admin/connected-apps", form)
    assert jira.look("families") == []


def test_new_password_kills_refresh_tokens_only(jira: Jira) -> None:
    """After a password change refreshing fails while the access token runs on."""
    pair = jira.connect()
    people.jira_change_password(jira.url, USER, "another-password")
    assert jira.refresh(pair["refresh_token"]).status_code == 403
    assert jira.sites(pair).status_code == 200
    again = people.jira_consent(jira.address(), USER, password="another-password")
    assert "code=" in again


@pytest.mark.parametrize(
    ("effect", "statuses"), [("none", (200, 200)), ("family", (401, 200)), ("grant", (401, 401))]
)
def test_revoke_says_yes_whatever_it_does(jira: Jira, effect: str, statuses: tuple[int, int]) -> None:
    """The undocumented revocation answers 200 and does nothing, unless switched."""
    jira.lab("settings", {"revoke_effect": effect})
    pairs = [jira.connect(), jira.connect()]
    body = {
        "token": pairs[0]["refresh_token"],
        "client_id": jira.client_id,
        "client_secret": jira.client_secret,
    }
    assert httpx2.post(f"{jira.url}/oauth/revoke", json=body).status_code == 200
    assert tuple(jira.sites(pair).status_code for pair in pairs) == statuses


def test_access_token_expires_by_the_clock(jira: Jira) -> None:
    """An hour on, the access token is refused and the refresh token is not."""
    pair = jira.connect()
    jira.lab("clock", {"advance_s": 3601})
    assert jira.sites(pair).status_code == 401
    assert jira.sites(jira.refresh(pair["refresh_token"]).json()).status_code == 200


def test_unconfirmed_cases_are_switches(jira: Jira) -> None:
    """A consent may end the earlier family, and a reuse after the leeway may end its own."""
    jira.lab("settings", {"consent_ends_earlier": True, "reuse_kills_family": True})
    first, second = jira.connect(), jira.connect()
    assert jira.refresh(first["refresh_token"]).status_code == 403
    third = jira.refresh(second["refresh_token"]).json()
    jira.lab("clock", {"advance_s": 601})
    jira.refresh(second["refresh_token"])
    assert jira.refresh(third["refresh_token"]).status_code == 403


def test_throttle_has_the_vendors_headers(jira: Jira) -> None:
    """A throttled call carries all six headers."""
    pair = jira.connect()
    jira.lab("faults", [{"op": "accessible_resources", "kind": "throttle"}])
    refused = jira.sites(pair)
    assert refused.status_code == 429
    names = "Retry-After X-RateLimit-Limit X-RateLimit-Remaining X-RateLimit-Reset X-RateLimit-NearLimit"
    assert all(name in refused.headers for name in [*names.split(), "RateLimit-Reason"])
    assert refused.headers["X-RateLimit-Reset"].endswith("Z")


def test_another_identity_on_demand(jira: Jira) -> None:
    """The wrong-identity fault makes a good token answer for another account or site."""
    pair = jira.connect()
    jira.lab("faults", [{"op": op, "kind": "wrong_identity"} for op in ("myself", "accessible_resources")])
    assert jira.sites(pair).json()[0]["name"] == "acme-sandbox"
    assert jira.myself(pair).json()["emailAddress"] == ADMIN
