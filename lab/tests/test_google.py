"""Google's stand-in behaves as its sheets say; Google's own clients, unmodified, are the judges."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from google.api_core import exceptions
from google.auth import credentials as google_credentials
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import bigquery
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials

from keyturn_lab.people import Refused
from keyturn_lab.standin import running
from keyturn_lab.vendors.google import STANDIN, people
from keyturn_lab.vendors.google.grants import DAY_S
from keyturn_lab.vendors.google.state import APP, ITSELF, ME, OTHER, PROJECT, ROTATOR, STRANGER, address
from keyturn_lab.vendors.google.wire import ANALYTICS, BIGQUERY, CLOUD, EMAIL

CALLBACK = "http://127.0.0.1:8080/oauth/callback"
SIGNATURE = "Invalid JWT Signature."
NEW_KEY = {"privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE", "keyAlgorithm": "KEY_ALG_RSA_2048"}


class Google:
    """One running stand-in and the official ways in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files = {each["email"]: json.loads(each["key_file"]) for each in self.look("accounts")}
        client = self.look("clients")[0]
        self.client_id, self.client_secret = client["client_id"], client["client_secret"]

    def look(self, door: str) -> Any:
        return httpx2.get(f"{self.url}/_lab/{door}").raise_for_status().json()

    def lab(self, door: str, body: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}/_lab/{door}", json=body).raise_for_status()

    # -- service accounts

    def robot(self, name: str, scope: str = CLOUD) -> service_account.Credentials:
        return self.robot_of(self.files[address(name)], scope)

    def robot_of(self, file: dict[str, Any], scope: str = CLOUD) -> service_account.Credentials:
        return service_account.Credentials.from_service_account_info(file, scopes=[scope])

    def iam(self, method: str, tail: str, body: Any = None, *, by: str = ROTATOR) -> Any:
        with AuthorizedSession(self.robot(by)) as session:
            return session.request(
                method, f"{self.url}/v1/projects/{PROJECT}/serviceAccounts{tail}", json=body
            )

    def listed(self, name: str = APP) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            self.iam("GET", f"/{address(name)}/keys?keyTypes=USER_MANAGED").json().get("keys", [])
        )
        return found

    def create(self, name: str = APP) -> dict[str, Any]:
        answer = self.iam("POST", f"/{address(name)}/keys", NEW_KEY).json()
        return json.loads(base64.b64decode(answer["privateKeyData"]))

    def said(self, file: dict[str, Any]) -> str:
        """What the token endpoint says to this key; empty when it takes it."""
        try:
            self.robot_of(file).refresh(Request())
        except RefreshError as refused:
            return str(refused.args[1].get("error_description", refused))
        return ""

    def query(self, credentials: Any, text: str = "SELECT SESSION_USER()") -> str:
        with bigquery.Client(
            project=PROJECT, credentials=credentials, client_options={"api_endpoint": self.url}
        ) as client:
            return str(next(iter(client.query_and_wait(text)))[0])

    # -- people

    def address(self, **changes: str) -> str:
        asked = {
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": f"{ANALYTICS} {BIGQUERY} openid email",
            "state": "a b&c",
            "access_type": "offline",
            "prompt": "consent",
        }
        return f"{self.url}/o/oauth2/v2/auth?{urlencode(asked | changes)}"

    def consent(self, email: str = ME, **changes: str) -> str:
        back = parse_qs(urlsplit(people.consent(self.address(**changes), email)).query)
        assert back["state"] == ["a b&c"]
        return back["code"][0]

    def token(self, *, basic: bool = False, **fields: str) -> httpx2.Response:
        client = {"client_id": self.client_id, "client_secret": self.client_secret}
        if basic:
            return httpx2.post(f"{self.url}/token", data=fields, auth=(self.client_id, self.client_secret))
        return httpx2.post(f"{self.url}/token", data=client | fields)

    def exchange(self, code: str, **more: Any) -> httpx2.Response:
        return self.token(grant_type="authorization_code", code=code, redirect_uri=CALLBACK, **more)

    def connect(self, email: str = ME, **changes: str) -> dict[str, Any]:
        pair: dict[str, Any] = self.exchange(self.consent(email, **changes)).raise_for_status().json()
        return pair

    def refresh(self, pair: dict[str, Any]) -> httpx2.Response:
        return self.token(grant_type="refresh_token", refresh_token=pair["refresh_token"])

    def user(self, pair: dict[str, Any], **changes: str) -> Credentials:
        return Credentials(
            None,
            refresh_token=pair["refresh_token"],
            token_uri=f"{self.url}/token",
            client_id=self.client_id,
            client_secret=changes.get("client_secret", self.client_secret),
        )


@pytest.fixture(autouse=True)
def _stay_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth would ask the real iamcredentials.googleapis.com in the background, with the stand-in's token."""
    owner = google_credentials.CredentialsWithRegionalAccessBoundary
    monkeypatch.setattr(owner, "_is_regional_access_boundary_lookup_required", lambda _: False)


@pytest.fixture(scope="module")
def running_google() -> Iterator[str]:
    with running(STANDIN.create_app()) as url:
        yield url


@pytest.fixture
def google(running_google: str) -> Google:
    httpx2.post(f"{running_google}/_lab/reset").raise_for_status()
    httpx2.post(f"{running_google}/_lab/dials", json={"latency_s": 0}).raise_for_status()
    return Google(running_google)


# -- service accounts and their keys -------------------------------------------------------------------------------


def test_the_official_client_logs_in_and_asks_who_it_is(google: Google) -> None:
    """google-auth signs, BigQuery's own client queries, and the answer names the service account."""
    robot = google.robot(APP, BIGQUERY)
    assert google.query(robot) == address(APP)
    assert google.query(robot, "SELECT 1") == "1"
    assert robot.expiry is not None
    with bigquery.Client(
        project=PROJECT, credentials=robot, client_options={"api_endpoint": google.url}
    ) as client:
        assert [each.project_id for each in client.list_projects(max_results=1)] == [PROJECT]
        assert [each.dataset_id for each in client.list_datasets()] == ["usage_data"]
        assert client.get_dataset("usage_data").location == "US"
        with pytest.raises(exceptions.NotFound):
            client.get_dataset("nothing")


def test_a_key_lives_from_create_to_delete(google: Google) -> None:
    """Made, proven, switched off and on and off, deleted: each is seen by the next fresh login and by the list."""
    made = google.create()
    name = made["private_key_id"]
    assert name in {key["name"].rpartition("/")[2] for key in google.listed()}
    assert google.said(made) == ""
    for verb, words in (
        ("disable", SIGNATURE),
        ("disable", SIGNATURE),
        ("enable", ""),
        ("disable", SIGNATURE),
    ):
        assert google.iam("POST", f"/{address(APP)}/keys/{name}:{verb}", {}).json() == {}
        assert google.said(made) == words
    listed = next(key for key in google.listed() if key["name"].endswith(name))
    assert listed["disabled"] is True
    assert google.iam("DELETE", f"/{address(APP)}/keys/{name}").json() == {}
    assert google.iam("DELETE", f"/{address(APP)}/keys/{name}").status_code == 404
    assert google.said(made) == SIGNATURE
    assert name not in {key["name"].rpartition("/")[2] for key in google.listed()}


def test_system_managed_keys_are_listed_unless_filtered_and_cannot_be_touched(google: Google) -> None:
    """Without the filter Google's own keys come too, and deleting one is refused."""
    every = google.iam("GET", f"/{address(APP)}/keys").json()["keys"]
    (system,) = [key for key in every if key["keyType"] == "SYSTEM_MANAGED"]
    name = system["name"].rpartition("/")[2]
    assert (
        google.iam("DELETE", f"/{address(APP)}/keys/{name}").json()["error"]["status"]
        == "FAILED_PRECONDITION"
    )


def test_tokens_outlive_their_key_and_not_their_account(google: Google) -> None:
    """A deleted key's access token works on; a disabled account's stops at once and comes back when it is enabled."""
    made = google.create()
    robot = google.robot_of(made, BIGQUERY)
    robot.refresh(Request())
    google.iam("DELETE", f"/{address(APP)}/keys/{made['private_key_id']}")
    headers = {"Authorization": f"Bearer {robot.token}"}
    projects = f"{google.url}/bigquery/v2/projects"
    assert httpx2.get(projects, headers=headers).status_code == 200
    google.iam("POST", f"/{address(APP)}:disable", {})
    assert httpx2.get(projects, headers=headers).json()["error"]["status"] == "UNAUTHENTICATED"
    assert google.said(google.files[address(APP)]) == "Invalid grant: account not found"
    google.iam("POST", f"/{address(APP)}:enable", {})
    assert httpx2.get(projects, headers=headers).status_code == 200
    google.lab("settings", {"robot_is_disabled": True})
    google.iam("POST", f"/{address(APP)}:disable", {})
    assert google.said(google.files[address(APP)]) == "Robot is disabled."


def test_what_an_assertion_must_be(google: Google) -> None:
    """A wrong key, an unknown id, an unknown account and a wrong scope are refused, each in Google's own words."""
    file, other = google.files[address(APP)], google.files[address(STRANGER)]
    assert google.said(file | {"private_key": other["private_key"]}) == SIGNATURE
    assert google.said(file | {"private_key_id": "0" * 40}) == SIGNATURE
    assert google.said(file | {"client_email": address("nobody")}) == "Invalid grant: account not found"
    with pytest.raises(RefreshError, match="invalid_scope"):
        google.robot(APP, "https://www.googleapis.com/auth/no.such.scope").refresh(Request())
    google.lab("clock", {"advance_s": 7200})
    assert "short-lived token" in google.said(file)


def test_a_change_takes_its_time(google: Google) -> None:
    """A new key is refused at first in the words a dead one is, and a dead one works on for a while."""
    google.lab("dials", {"settle_s": 5})
    made = google.create()
    assert google.said(made) == SIGNATURE
    google.lab("clock", {"advance_s": 6})
    assert google.said(made) == ""
    google.iam("POST", f"/{address(APP)}/keys/{made['private_key_id']}:disable", {})
    assert google.said(made) == ""
    google.lab("clock", {"advance_s": 6})
    assert google.said(made) == SIGNATURE


def test_ten_keys_and_no_more(google: Google) -> None:
    """The eleventh is refused without saying why; until 2023 it was told to wait a day."""
    while len(google.listed()) < 10:
        google.create()
    refused = google.iam("POST", f"/{address(APP)}/keys", NEW_KEY).json()["error"]
    assert (refused["status"], "details" in refused) == ("FAILED_PRECONDITION", False)
    google.lab("settings", {"full_is_429": True})
    refused = google.iam("POST", f"/{address(APP)}/keys", NEW_KEY)
    assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_a_policy_forbids_keys(google: Google) -> None:
    """The organization's policy is named in the details, or, by switch, is not."""
    google.lab("settings", {"keys_forbidden": True})
    told = google.iam("POST", f"/{address(APP)}/keys", NEW_KEY).json()["error"]
    assert told["details"][0]["violations"][0]["type"] == "constraints/iam.disableServiceAccountKeyCreation"
    google.lab("settings", {"policy_is_told": False})
    assert "details" not in google.iam("POST", f"/{address(APP)}/keys", NEW_KEY).json()["error"]


def test_who_may_manage_keys(google: Google) -> None:
    """A plain account may not, one that is key admin of itself may for itself only; what is missing is named."""
    refused = google.iam("GET", f"/{address(APP)}/keys", by=APP).json()["error"]
    assert refused["message"].startswith("Permission 'iam.serviceAccountKeys.list' denied")
    assert google.iam("GET", f"/{address(ITSELF)}/keys", by=ITSELF).status_code == 200
    assert google.iam("GET", f"/{address(APP)}/keys", by=ITSELF).status_code == 403
    with AuthorizedSession(google.robot(ROTATOR, BIGQUERY)) as narrow:
        refused = narrow.get(f"{google.url}/v1/projects/{PROJECT}/serviceAccounts").json()["error"]
    assert refused["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_the_wildcard_project_hides_what_does_not_exist(google: Google) -> None:
    """With `-` a missing account answers 403, with the project's name 404."""
    assert google.iam("GET", f"/{address('nobody')}/keys").status_code == 404
    with AuthorizedSession(google.robot(ROTATOR)) as session:
        hidden = session.get(f"{google.url}/v1/projects/-/serviceAccounts/{address('nobody')}/keys")
        known = session.get(f"{google.url}/v1/projects/-/serviceAccounts/{address(APP)}/keys")
    assert (hidden.status_code, known.status_code) == (403, 200)


def test_accounts_come_in_pages_and_lists_lag(google: Google) -> None:
    """Service accounts are paged, keys are not; a list may be behind what was just made."""
    first = google.iam("GET", "?pageSize=3").json()
    rest = google.iam("GET", f"?pageSize=3&pageToken={first['nextPageToken']}").json()
    assert (len(first["accounts"]), len(rest["accounts"]), "nextPageToken" in rest) == (3, 1, False)
    google.lab("settings", {"list_lag_s": 30})
    made = google.create()
    assert made["private_key_id"] not in json.dumps(google.listed())
    google.lab("clock", {"advance_s": 31})
    assert made["private_key_id"] in json.dumps(google.listed())


def test_a_lost_answer_leaves_a_key(google: Google) -> None:
    """The key is made although the connection was cut; the list shows it and nobody has its private half."""
    before = len(google.listed())
    google.lab("faults", [{"op": "create_key", "kind": "answer_lost"}])
    robot = google.robot(ROTATOR)
    robot.refresh(Request())
    headers = {"Authorization": f"Bearer {robot.token}"}
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.post(
            f"{google.url}/v1/projects/{PROJECT}/serviceAccounts/{address(APP)}/keys",
            json=NEW_KEY,
            headers=headers,
        )
    assert len(google.listed()) == before + 1


def test_bigquery_refuses_in_its_own_ways(google: Google) -> None:
    """No role, another project and a switched-off API are 403 each; the log holds no secret."""
    robot = google.robot(APP, BIGQUERY)
    google.lab("account", {"email": address(APP), "rights": []})
    with pytest.raises(exceptions.Forbidden, match=r"bigquery\.jobs\.create"):
        google.query(robot)
    google.lab("settings", {"api_disabled": True})
    with pytest.raises(exceptions.Forbidden, match="has not been used"):
        google.query(robot)
    calls = google.look("log")
    assert {call["op"] for call in calls} >= {"assert", "query"}
    assert google.files[address(APP)]["private_key_id"] not in json.dumps(calls)


# -- people and their consents -------------------------------------------------------------------------------------


def test_a_consent_gives_a_grant_that_the_official_client_refreshes(google: Google) -> None:
    """google-auth refreshes with it; BigQuery names the person; the refresh token stays the same."""
    pair = google.connect()
    assert set(pair["scope"].split()) == {ANALYTICS, BIGQUERY, EMAIL, "openid"}
    assert "refresh_token" not in google.refresh(pair).json()
    user = google.user(pair)
    assert google.query(user) == ME
    assert user.refresh_token == pair["refresh_token"]


def test_codes_work_once_with_their_callback_and_verifier(google: Google) -> None:
    """Client auth by header or body; a used code, another callback and a wrong verifier are refused."""
    code = google.consent()
    assert google.exchange(code, basic=True).status_code == 200
    assert google.exchange(code).json()["error"] == "invalid_grant"
    other = google.token(
        grant_type="authorization_code", code=google.consent(), redirect_uri="http://127.0.0.1:1/x"
    )
    assert other.json()["error"] == "invalid_grant"
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636 appendix B
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
    assert google.exchange(google.consent(**pkce), code_verifier="wrong" * 10).status_code == 400
    assert google.exchange(google.consent(**pkce), code_verifier=verifier).status_code == 200


def test_a_refresh_token_comes_only_when_asked_for(google: Google) -> None:
    """Online there is none; offline the first consent has one, and a repeat only with prompt=consent."""
    assert "refresh_token" not in google.connect(access_type="online")
    assert "refresh_token" in google.connect(OTHER, prompt="")
    assert "refresh_token" not in google.connect(OTHER, prompt="")
    assert "refresh_token" in google.connect(OTHER)


def test_scopes_can_be_unticked_and_consents_declined(google: Google) -> None:
    """The token says what was really given; a cancelled consent comes back with access_denied."""
    back = people.consent(google.address(), ME, without="bigquery")
    pair = google.exchange(parse_qs(urlsplit(back).query)["code"][0]).json()
    assert BIGQUERY not in pair["scope"].split()
    assert "error=access_denied" in people.consent(google.address(), ME, decline=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "http://127.0.0.1:8080/other"},
        {"client_id": "nobody"},
        {"response_type": "token"},
        {"scope": "x"},
    ],
)
def test_bad_requests_never_return(google: Google, changes: dict[str, str]) -> None:
    """A wrong callback, client, type or scope strands the person on Google's own page."""
    with pytest.raises(Refused):
        people.consent(google.address(**changes), ME)


def test_revoking_one_token_ends_the_whole_grant(google: Google) -> None:
    """Of two consents of one person, revoking the older kills the newer too, and nobody else's."""
    first, second, others = google.connect(), google.connect(), google.connect(OTHER)
    assert google.refresh(first).status_code == google.refresh(second).status_code == 200
    answer = httpx2.post(f"{google.url}/revoke", data={"token": first["refresh_token"]})
    assert (answer.status_code, answer.json()) == (200, {})
    for pair in (first, second):
        assert google.refresh(pair).json()["error_description"] == "Token has been expired or revoked."
        with pytest.raises(RefreshError, match="invalid_grant"):
            google.user(pair).refresh(Request())
        assert (
            httpx2.get(f"{google.url}/tokeninfo", params={"access_token": pair["access_token"]}).status_code
            == 400
        )
    assert google.refresh(others).status_code == 200
    assert httpx2.post(f"{google.url}/revoke", data={"token": "nonsense"}).json()["error"] == "invalid_token"


def test_a_person_removes_the_grant(google: Google) -> None:
    """The account's page of connections does the same, and a fresh consent starts anew."""
    pair = google.connect()
    people.remove_grant(google.url, ME, google.client_id)
    assert google.refresh(pair).status_code == 400
    assert google.refresh(google.connect()).status_code == 200


def test_too_many_refresh_tokens_drop_the_oldest(google: Google) -> None:
    """Beyond the most a person and client may have, the oldest dies silently."""
    google.lab("settings", {"most_refresh_tokens": 3})
    pairs = [google.connect() for _ in range(5)]
    assert [google.refresh(pair).status_code for pair in pairs] == [400, 400, 200, 200, 200]


def test_refresh_tokens_die_unused_and_in_testing(google: Google) -> None:
    """Half a year without use ends one, each use begins it anew; an app in testing has a week."""
    pair = google.connect()
    for _ in range(2):
        google.lab("clock", {"advance_s": 150 * DAY_S})
        assert google.refresh(pair).status_code == 200
    google.lab("clock", {"advance_s": 190 * DAY_S})
    assert google.refresh(pair).status_code == 400
    google.lab("clients", {"client_id": google.client_id, "is_testing": True})
    pair = google.connect()
    google.lab("clock", {"advance_s": 8 * DAY_S})
    assert google.refresh(pair).status_code == 400


def test_two_client_secrets_overlap(google: Google) -> None:
    """A person adds a second secret, both work, the first is disabled and deleted; refresh tokens do not notice."""
    pair = google.connect()
    old, new = google.client_secret, people.add_client_secret(google.url, ME, google.client_id)
    with pytest.raises(Refused):
        people.add_client_secret(google.url, ME, google.client_id)
    for secret in (old, new):
        google.user(pair, client_secret=secret).refresh(Request())
    people.end_client_secret(google.url, ME, google.client_id)
    with pytest.raises(RefreshError, match="invalid_client"):
        google.user(pair, client_secret=old).refresh(Request())
    google.user(pair, client_secret=new).refresh(Request())


def test_a_client_that_is_gone_says_so(google: Google) -> None:
    """Disabled and deleted clients, and one that never was, each refuse with their own word."""
    pair = google.connect()
    for state in ("disabled", "deleted"):
        google.lab("clients", {"client_id": google.client_id, "state": state})
        assert google.refresh(pair).json()["error"] == f"{state}_client"
    google.client_id = "nobody"
    assert google.refresh(pair).json()["error_description"] == "The OAuth client was not found."


def test_a_workspace_may_want_a_fresh_login(google: Google) -> None:
    """invalid_rapt is told apart by its subtype."""
    pair = google.connect()
    google.lab("settings", {"invalid_rapt": True})
    assert google.refresh(pair).json()["error_subtype"] == "invalid_rapt"


def test_tokeninfo_and_userinfo_name_the_person(google: Google) -> None:
    """Values are texts; the e-mail is there only with its scope."""
    pair = google.connect()
    told = httpx2.get(f"{google.url}/tokeninfo", params={"access_token": pair["access_token"]}).json()
    assert (told["aud"], told["email"], told["access_type"]) == (google.client_id, ME, "offline")
    assert all(isinstance(value, str) for value in told.values())
    who = httpx2.get(
        f"{google.url}/oauth2/v2/userinfo", headers={"Authorization": f"Bearer {pair['access_token']}"}
    ).json()
    assert (who["id"], who["email"]) == (told["sub"], ME)


def test_analytics_lists_and_reads_properties(google: Google) -> None:
    """Account summaries come in pages, a report is read, a property of others and a missing scope are refused."""
    pair = google.connect()
    with AuthorizedSession(google.user(pair)) as session:
        every: list[str] = []
        page = ""
        while True:
            found = session.get(f"{google.url}/v1beta/accountSummaries?pageSize=1&pageToken={page}").json()
            every += [
                each["property"] for row in found["accountSummaries"] for each in row["propertySummaries"]
            ]
            page = found.get("nextPageToken", "")
            if not page:
                break
        assert every == ["properties/310001", "properties/310002"]
        body = {
            "dateRanges": [{"startDate": "yesterday", "endDate": "today"}],
            "metrics": [{"name": "activeUsers"}],
        }
        read = session.post(f"{google.url}/v1beta/properties/310001:runReport", json=body).json()
        assert read["rows"] == [{"metricValues": [{"value": "7"}]}]
        assert (
            session.get(
                f"{google.url}/v1beta/properties/310001/metadata?$alt=json;enum-encoding=int"
            ).status_code
            == 200
        )
        assert session.get(f"{google.url}/v1beta/properties/999/metadata").status_code == 403
    narrow = google.connect(OTHER, scope="openid email")
    headers = {"Authorization": f"Bearer {narrow['access_token']}"}
    refused = httpx2.get(f"{google.url}/v1beta/accountSummaries", headers=headers).json()["error"]
    assert refused["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_an_access_token_lasts_an_hour(google: Google) -> None:
    """After it the API answers 401 with a challenge."""
    pair = google.connect()
    google.lab("clock", {"advance_s": 3600})
    refused = httpx2.get(
        f"{google.url}/v1beta/accountSummaries", headers={"Authorization": f"Bearer {pair['access_token']}"}
    )
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
