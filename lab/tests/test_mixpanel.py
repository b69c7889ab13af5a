"""Mixpanel's stand-in behaves as its sheet says."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from keyturn_lab.standin import running
from keyturn_lab.vendors.mixpanel import STANDIN, people
from keyturn_lab.vendors.mixpanel.state import ACME, EUROPE, EVENTS, FOREIGN, GLOBEX, MOBILE, RETIRED_AT

Json = dict[str, Any]


class There:
    """The stand-in with an owner of the organization."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.owner = self.make("keyturn", role="owner")

    def lab(self, what: str, body: object) -> Any:
        answer = httpx2.post(f"{self.url}/_lab/{what}", json=body).raise_for_status()
        return answer.json() if answer.content else None

    def make(self, name: str, organization: int = ACME, **more: Any) -> Json:
        return dict(self.lab("make", {"organization": organization, "name": name, **more}))

    def call(
        self, account: Json | None, method: str, path: str, body: object = None, **headers: str
    ) -> httpx2.Response:
        auth = {} if account is None else {"Authorization": basic(account)}
        return httpx2.request(method, self.url + path, json=body, headers=auth | headers)

    def app(self, account: Json | None, method: str, path: str, body: object = None, **h: str) -> Any:
        return self.call(account, method, f"/api/app{path}", body, **h)

    def world(self) -> Json:
        return dict(httpx2.get(f"{self.url}/_lab/world").json())


def basic(account: Json) -> str:
    pair = f"{account['username']}:{account['secret']}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.fixture
def there() -> Iterator[There]:
    with running(STANDIN.create_app()) as url:
        httpx2.post(f"{url}/_lab/dials", json={"latency_s": 0})
        yield There(url)


def test_create_list_get_delete(there: There) -> None:
    """201 with the secret once; then everywhere without it; deleted, the id is unknown and the login refused."""
    path = f"/organizations/{ACME}/service-accounts"
    body = {"username": "jobs", "role": "consumer", "projects": [{"id": EVENTS, "role": "analyst"}]}
    answer = there.app(there.owner, "POST", path, body)
    assert answer.status_code == 201
    made = answer.json()["results"]
    assert made["username"].startswith("jobs.")
    assert made["username"].endswith(".mp-service-account")
    assert len(made["token"]) == 32
    account = {"username": made["username"], "secret": made["token"]}
    assert there.app(account, "GET", "/me").json()["results"]["projects"].keys() == {str(EVENTS)}
    one = f"{path}/{made['id']}"
    shown = there.app(there.owner, "GET", one).json()["results"]
    assert "token" not in shown
    assert shown["last_used"]
    assert made["id"] in [a["id"] for a in there.app(there.owner, "GET", path).json()["results"]]
    assert there.app(there.owner, "DELETE", one).json() == {"status": "ok"}
    assert there.app(there.owner, "DELETE", one).status_code == 404
    refused = there.app(account, "GET", "/me")
    assert (refused.status_code, refused.json()["status"]) == (401, "error")
    events = [each["event"] for each in there.world()["audit"] if each["id"] == made["id"]]
    assert events == [
        "service_account.created",
        "service_account.added_to_project",
        "service_account.deleted",
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "x", "role": "boss"},
        {"username": "x", "projects": [{"id": FOREIGN, "role": "analyst"}]},
        {"username": "x", "expires": "soon"},
    ],
)
def test_what_a_create_refuses(there: There, body: Json) -> None:
    """400 in the vendor's shape, and nothing is made."""
    before = len(there.world()["audit"])
    answer = there.app(there.owner, "POST", f"/organizations/{ACME}/service-accounts", body)
    assert (answer.status_code, answer.json()["status"]) == (400, "error")
    assert len(there.world()["audit"]) == before


def test_roles(there: There) -> None:
    """Only owners and admins, and only in their own organization."""
    small = there.make("jobs", projects={EVENTS: "analyst"})
    path = f"/organizations/{ACME}/service-accounts"
    assert there.app(small, "GET", path).status_code == 403
    assert there.app(small, "POST", path, {"username": "x"}).status_code == 403
    assert there.app(small, "GET", f"/projects/{EVENTS}/service-accounts").status_code == 403
    assert there.app(small, "GET", f"/projects/{MOBILE}/service-accounts").status_code == 404
    assert there.app(there.owner, "GET", f"/organizations/{GLOBEX}/service-accounts").status_code == 403


def test_members_of_a_project(there: There) -> None:
    """Role and kind of membership; who has the organization is in every project through it."""
    small = there.make("jobs", projects={EVENTS: "analyst"})
    there.lab("members", {"id": small["id"], "project": MOBILE, "role": "analyst", "target_type": "team"})
    for project, kind in ((EVENTS, "individual"), (MOBILE, "team")):
        rows = there.app(there.owner, "GET", f"/projects/{project}/service-accounts").json()["results"]
        kinds = {row["id"]: (row["role"], row["target_type"]) for row in rows}
        assert kinds == {small["id"]: ("analyst", kind), there.owner["id"]: ("owner", "organization")}


def test_in_and_out_of_projects(there: There) -> None:
    """Out of one project the credential lives on."""
    small = there.make("jobs", projects={EVENTS: "analyst"})
    path = f"/organizations/{ACME}/service-accounts"
    body = {"projects": [{"id": MOBILE, "role": "consumer"}], "service_account_ids": [small["id"]]}
    assert there.app(there.owner, "POST", f"{path}/add-to-project", body).json() == {"status": "ok"}
    out = {"projects": [{"id": EVENTS, "service_account_ids": [small["id"]]}]}
    assert there.app(there.owner, "POST", f"{path}/remove-from-project", out).json() == {"status": "ok"}
    assert there.app(small, "GET", "/me").json()["results"]["projects"].keys() == {str(MOBILE)}


def test_regions(there: There) -> None:
    """A project is seen in its own region only; elsewhere the account looks wrong."""
    small = there.make("jobs", projects={EUROPE: "analyst"})
    assert there.app(small, "GET", "/me").status_code == 401
    assert there.app(small, "GET", "/me", Host="eu.mixpanel.com").json()["results"]["projects"]
    assert there.app(small, "GET", "/me", Host="in.mixpanel.com").status_code == 401
    assert there.app(small, "GET", "/me", Host="api-eu.mixpanel.com").status_code == 404


def test_expiry(there: There) -> None:
    """The clock ends an account that has an end."""
    now = httpx2.post(f"{there.url}/_lab/clock", json={}).json()["now"]
    expires = datetime.fromtimestamp(now + 3600, tz=UTC).isoformat()
    body = {"username": "jobs", "expires": expires, "projects": [{"id": EVENTS, "role": "analyst"}]}
    made = there.app(there.owner, "POST", f"/organizations/{ACME}/service-accounts", body).json()["results"]
    account = {"username": made["username"], "secret": made["token"]}
    assert there.app(account, "GET", "/me").status_code == 200
    there.lab("clock", {"advance_s": 3601})
    assert there.app(account, "GET", "/me").status_code == 401


def test_basic_in_plain_text(there: There) -> None:
    """What stands after Basic may be unencoded."""
    plain = f"Basic {there.owner['username']}:{there.owner['secret']}"
    assert there.app(None, "GET", "/me", Authorization=plain).status_code == 200


def test_import_wants_the_project(there: There) -> None:
    """Without project_id a service account is taken for a project secret; /track proves nothing."""
    small = there.make("jobs", projects={EVENTS: "admin"})
    assert there.call(small, "POST", f"/import?strict=1&project_id={EVENTS}", []).status_code == 200
    assert "invalid project secret" in there.call(small, "POST", "/import?strict=1", []).json()["error"]
    wrong = there.call(small, "POST", f"/import?project_id={MOBILE}", [])
    assert wrong.json() == {"code": 401, "error": "Invalid credentials", "status": "Unauthorized"}
    assert there.call({"username": "no", "secret": "no"}, "POST", "/track", []).text == "1"


def test_query_limit(there: There) -> None:
    """Sixty in an hour, then 429 without a header that says how long."""
    small = there.make("jobs", projects={EVENTS: "analyst"})
    path = f"/api/query/events/names?project_id={EVENTS}&type=general&limit=1"
    assert [there.call(small, "GET", path).status_code for _ in range(60)] == [200] * 60
    last = there.call(small, "GET", path)
    assert last.status_code == 429
    assert "retry-after" not in last.headers
    there.lab("clock", {"advance_s": 3601})
    assert there.call(small, "GET", path).status_code == 200


def test_project_secrets_are_retired(there: There) -> None:
    """A person resets one, which ends the old at once; from 3 March 2027 none works."""
    old = {"username": there.world()["projects"][str(EVENTS)]["secret"], "secret": ""}
    assert there.call(old, "GET", "/api/2.0/export").status_code == 200
    new = {"username": people.reset_api_secret(there.url, EVENTS), "secret": ""}
    assert there.call(old, "GET", "/api/2.0/export").status_code == 401
    assert there.call(new, "GET", "/api/2.0/export").status_code == 200
    now = httpx2.post(f"{there.url}/_lab/clock", json={}).json()["now"]
    there.lab("clock", {"advance_s": max(0.0, RETIRED_AT - now)})
    assert there.call(new, "GET", "/api/2.0/export").status_code == 401


def test_a_person_makes_and_deletes(there: There) -> None:
    """The page shows the secret once; removing from a project is not deleting."""
    name, secret = people.add_service_account(there.url, "jobs", "analyst", EVENTS)
    account = {"username": name, "secret": secret}
    number = next(
        each["id"]
        for each in there.app(there.owner, "GET", f"/organizations/{ACME}/service-accounts").json()["results"]
        if each["username"] == name
    )
    people.remove_from_project(there.url, EVENTS, number)
    assert number in [
        int(each["id"])
        for each in httpx2.get(f"{there.url}/_lab/alive").json()
        if each["kind"] == "service_account"
    ]
    people.delete_service_account(there.url, name)
    assert there.app(account, "GET", "/me").status_code == 401
    with pytest.raises(people.Refused):
        people.delete_service_account(there.url, name)


def test_a_lost_create_leaves_an_orphan(there: There) -> None:
    """Made, and the answer with the secret never came."""
    there.lab("faults", [{"op": "create_account", "kind": "answer_lost"}])
    with pytest.raises(httpx2.HTTPError):
        there.app(there.owner, "POST", f"/organizations/{ACME}/service-accounts", {"username": "orphan"})
    rows = there.app(there.owner, "GET", f"/organizations/{ACME}/service-accounts").json()["results"]
    assert [row["username"].split(".")[0] for row in rows] == ["keyturn", "orphan"]
