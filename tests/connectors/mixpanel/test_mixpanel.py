"""Mixpanel's connector against the lab's stand-in: the new account has the roles of the old, or it is not made."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from keyturn.connectors.mixpanel import client
from keyturn.connectors.mixpanel.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab.standin import running
from keyturn_lab.vendors.mixpanel import STANDIN
from keyturn_lab.vendors.mixpanel.state import ACME, EUROPE, EVENTS, GLOBEX, MOBILE

NETWORK = NetworkPolicy(frozenset({"127.0.0.1", "localhost"}))
CAN = capabilities("service_account", {})
SA = {"id", "username", "last_used", "expires", "creator", "created", "user"}

# What openapi/service-accounts.openapi.yaml of mixpanel/docs documents (version 1.0.0, commit 12e8c38, checked
# 2026-11-23), and `/me`, which third-party code calls: method, path, body fields, query, fields of a result row.
DOCUMENTED: list[tuple[str, str, set[str], set[str], set[str]]] = [
    ("GET", "/organizations/{n}/service-accounts", set(), set(), SA),
    (
        "POST",
        "/organizations/{n}/service-accounts",
        {"username", "role", "expires", "projects"},
        set(),
        SA | {"token"},
    ),
    ("DELETE", "/organizations/{n}/service-accounts/{n}", set(), set(), set()),
    (
        "GET",
        "/projects/{n}/service-accounts",
        set(),
        set(),
        SA | {"role", "role_order", "hasSensitiveAccess", "target_type", "email"},
    ),
    ("GET", "/me", set(), {"include_workspace_users"}, set()),
]


class There:
    """The stand-in with an owner of the organization."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.manager = self.make("keyturn", role="owner")

    def lab(self, what: str, body: object) -> Any:
        answer = httpx2.post(f"{self.url}/_lab/{what}", json=body).raise_for_status()
        return answer.json() if answer.content else None

    def make(self, name: str, organization: int = ACME, **more: Any) -> Material:
        made = self.lab("make", {"organization": organization, "name": name, **more})
        parts = {
            "username": made["username"],
            "secret": made["secret"],
            "service_account_id": str(made["id"]),
        }
        return Material(parts, frozenset({"username", "service_account_id"}))

    def access(self, acting: Material | None, *, managed: bool = True, **settings: Any) -> Access:
        values = {
            "base_url": self.url,
            "organization_id": str(ACME),
            "project_id": str(EVENTS),
            "name": "gainsight",
            **settings,
        }
        return Access(values, acting, self.manager if managed else None, 10.0, NETWORK, "keyturn-test-1")

    def names(self) -> set[str]:
        found = httpx2.get(f"{self.url}/_lab/alive").json()
        return {e["facts"]["username"] for e in found if e["kind"] == "service_account"}

    def members(self, project: int) -> dict[str, str]:
        auth = (self.manager["username"], self.manager["secret"])
        rows = httpx2.get(f"{self.url}/api/app/projects/{project}/service-accounts", auth=auth).json()
        return {row["username"]: row["role"] for row in rows["results"]}


@pytest.fixture
def there() -> Iterator[There]:
    with running(STANDIN.create_app()) as url:
        httpx2.post(f"{url}/_lab/dials", json={"latency_s": 0})
        yield There(url)


def issue(access: Access) -> Any:
    assert CAN.issuer
    return CAN.issuer.read(access, CAN.issuer.issue(access, Ref()))


def test_roles_are_copied_project_by_project(there: There) -> None:
    """The same projects, the same role in each, the same rights; the name carries our mark and Mixpanel's suffix."""
    old = there.make("gainsight", projects={EVENTS: "analyst", MOBILE: "consumer"})
    access = there.access(old)
    made = issue(access)
    name = made.material["username"]
    assert name.startswith("gainsight-keyturn-test-1.")
    assert name.endswith(".mp-service-account")
    assert made.ref.label == name
    assert there.members(EVENTS)[name] == "analyst"
    assert there.members(MOBILE)[name] == "consumer"
    before, after = (CAN.verifier.verify(access, each) for each in (old, made.material))
    assert before.rights == after.rights
    assert before.identity["principal"] == after.identity["principal"] == f"organization {ACME}"


@pytest.mark.parametrize(
    ("membership", "words"),
    [
        ({"role": "analyst", "target_type": "team"}, "through a team"),
        ({"role": "Campaign manager"}, "the role Campaign manager"),
        ({"role": "analyst", "is_sensitive": True}, "access to classified data"),
    ],
)
def test_what_cannot_be_copied_is_named_and_nothing_is_made(
    there: There, membership: Any, words: str
) -> None:
    """Better no rotation than an account with less."""
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    there.lab("members", {"id": int(old["service_account_id"]), "project": MOBILE, **membership})
    before = there.names()
    with pytest.raises(Conflict, match=f"project {MOBILE}: {words}"):
        issue(there.access(old))
    assert there.names() == before


def test_projects_that_come_with_the_organization_are_not_listed_one_by_one(there: There) -> None:
    """An admin of the organization gets the role; its own memberships are copied beside it."""
    old = there.make("gainsight", role="admin", projects={EVENTS: "owner"})
    access = there.access(old, managed=False)
    made = issue(access)
    assert there.members(EVENTS)[made.material["username"]] == "owner"
    assert there.members(MOBILE)[made.material["username"]] == "admin"
    assert CAN.verifier.verify(access, made.material).rights == CAN.verifier.verify(access, old).rights


def test_an_account_that_ran_out_is_still_copied_from(there: There) -> None:
    """It cannot say which projects it has, so the manager's projects are gone through."""
    old = there.make("gainsight", projects={EVENTS: "analyst"}, expires_at=1.0)
    with pytest.raises(CredentialRejected):
        issue(there.access(old, managed=False))
    made = issue(there.access(old))
    assert there.members(EVENTS)[made.material["username"]] == "analyst"
    assert made.material["username"] not in there.members(MOBILE)


def test_without_a_predecessor_the_settings_say_the_roles(there: There) -> None:
    """To come back after a disconnect; nothing is made up."""
    before = there.names()
    with pytest.raises(InvalidInput) as caught:
        issue(there.access(None))
    assert caught.value.facts["field"] == "memberships"
    for wrong in ("2195193:boss", "x:analyst"):
        with pytest.raises(InvalidInput):
            issue(there.access(None, memberships=wrong))
    assert there.names() == before
    made = issue(there.access(None, memberships=f"{EVENTS}:analyst,{MOBILE}:consumer"))
    assert there.members(MOBILE)[made.material["username"]] == "consumer"


def test_an_end_is_asked_for_where_the_connection_wants_one(there: There) -> None:
    """Mixpanel's own date comes back with the answer."""
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    assert issue(there.access(old)).expires_at is None
    made = issue(there.access(old, expires_days=30))
    assert made.expires_at is not None
    assert made.expires_at - datetime.now().timestamp() == pytest.approx(30 * 86_400, abs=120)


def test_regions(there: There) -> None:
    """Each region has its host; a wrong one looks like a wrong secret, and the refusal says so."""
    hosts = [client._base(Access({"region": each})) for each in ("US", "EU", "IN")]
    assert [urlsplit(each).hostname for each in hosts] == list(client.HOSTS)
    with pytest.raises(InvalidInput):
        client._base(Access({"region": "APAC"}))
    old = there.make("gainsight", projects={EUROPE: "analyst"})
    found = CAN.verifier.verify(there.access(old), old)
    assert (found.verdict, found.code) == (Verdict.REJECTED, "401")
    assert "region" in found.detail
    there.lab("settings", {"region": "eu"})
    assert CAN.verifier.verify(there.access(old), old).verdict is Verdict.ACCEPTED


def test_a_secret_goes_to_mixpanel_only() -> None:
    """Another address than the region's must be one the operator opened."""
    material = Material({"username": "a", "secret": "b" * 32})
    access = Access({"base_url": "https://mixpanel.com.evil.example"}, material, None, 2.0)
    with pytest.raises(NotPermitted):
        CAN.verifier.verify(access, material)


def test_the_old_one_is_found_by_its_name(there: There) -> None:
    """Exactly its name, in this organization; another's is not taken."""
    assert CAN.locator
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    bare = Material({"username": old["username"], "secret": old["secret"]})
    assert CAN.locator.locate(there.access(old), bare).id == old["service_account_id"]
    theirs = there.make("theirs", GLOBEX)
    for wrong in (
        Material({"username": theirs["username"], "secret": theirs["secret"]}),
        old.replacing(service_account_id="1"),
        old.replacing(username="gainsight", service_account_id=""),
    ):
        with pytest.raises(InvalidInput):
            CAN.locator.locate(there.access(old), wrong)


def test_who_may_not_list_is_believed_where_the_number_is_given(there: There) -> None:
    """Such a connection serves and is tested; the missing right is named when it is to be rotated."""
    assert CAN.locator
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    access = there.access(old, managed=False)
    assert CAN.locator.locate(access, old).id == old["service_account_id"]
    with pytest.raises(PermissionMissing):
        CAN.locator.locate(access, old.replacing(service_account_id=""))


def test_a_small_role_may_not_and_is_told_which(there: There) -> None:
    """Without a manager the account must be owner or admin itself."""
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    assert CAN.lister
    with pytest.raises(PermissionMissing) as caught:
        CAN.lister.list(there.access(old, managed=False))
    assert "owner or admin" in str(caught.value.facts["right"])


def test_what_a_failed_create_means(there: There) -> None:
    """A refusal and a wait changed nothing; an error and a lost answer are not known."""
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    before = there.names()
    for kind, error in (
        ("refuse_value", ValueRefused),
        ("throttle", VendorThrottled),
        ("error_not_applied", OutcomeUnknown),
        ("html_page", UnexpectedAnswer),
    ):
        there.lab("faults", [{"op": "create_account", "kind": kind}])
        with pytest.raises(error):
            issue(there.access(old))
    assert there.names() == before


def test_gone_is_what_mixpanel_says_is_gone(there: There) -> None:
    """Twice is once; a page or an odd yes is neither."""
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    access, ref = there.access(old), Ref(id=old["service_account_id"])
    assert CAN.revoker
    for kind in ("html_page", "redirect_foreign"):
        there.lab("faults", [{"op": "delete_account", "kind": kind}])
        with pytest.raises(UnexpectedAnswer):
            CAN.revoker.revoke(access, ref, old)
    assert old["username"] in there.names()
    for _ in range(2):
        CAN.revoker.revoke(access, ref, old)
    assert there.names() == {there.manager["username"]}
    for odd in ("", "../1", "1/../2"):
        with pytest.raises(InvalidInput):
            CAN.revoker.revoke(access, Ref(id=odd), None)


def test_who_ends_itself_is_refused_afterwards(there: There) -> None:
    """The second time it cannot sign, which is what was wanted; for another account it is a refusal."""
    old = there.make("gainsight", role="admin")
    access = there.access(old, managed=False)
    assert CAN.revoker
    for _ in range(2):
        CAN.revoker.revoke(access, Ref(id=old["service_account_id"]), old)
    assert old["username"] not in there.names()
    with pytest.raises(CredentialRejected):
        CAN.revoker.revoke(access, Ref(id="1"), there.make("another"))


def test_every_call_is_documented(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method, path, body and query of each call are in the published description; secrets are in none of the addresses."""
    sent: list[Any] = []
    real = client.send
    monkeypatch.setattr(
        client, "send", lambda request, network: (sent.append(request), real(request, network))[1]
    )
    old = there.make("gainsight", projects={EVENTS: "analyst"})
    access = there.access(old, expires_days=30)
    made = issue(access)
    assert CAN.lister
    assert CAN.revoker
    assert CAN.locator
    CAN.lister.list(access)
    CAN.locator.locate(access, old)
    CAN.verifier.verify(access, made.material)
    CAN.revoker.revoke(access, made.ref, made.material)
    used = set()
    for request in sent:
        url = urlsplit(request.url)
        path = re.sub(r"/[0-9]+", "/{n}", url.path.removeprefix("/api/app"))
        known = next((d for d in DOCUMENTED if d[:2] == (request.method, path)), None)
        assert known is not None, f"{request.method} {path} is not documented"
        body = set(json.loads(request.body)) if request.body else set()
        assert body <= known[2]
        assert {pair.partition("=")[0] for pair in filter(None, url.query.split("&"))} <= known[3]
        assert old["secret"] not in request.url
        assert made.material["secret"] not in request.url
        used.add(known[:2])
    assert used == {d[:2] for d in DOCUMENTED}, "the table holds calls that are not made"


def test_the_standin_answers_as_documented(there: There) -> None:
    """Rows have the documented fields and no others."""
    auth = (there.manager["username"], there.manager["secret"])
    for method, path, _, _, fields in DOCUMENTED:
        if method != "GET" or not fields:
            continue
        number = ACME if "organizations" in path else EVENTS
        address = there.url + "/api/app" + path.replace("{n}", str(number))
        rows = httpx2.get(address, auth=auth).json()["results"]
        assert rows
        assert all(set(row) == fields for row in rows)


def test_other_methods_are_not_known() -> None:
    """A project's secret is not one of them: it is retired on 3 March 2027."""
    with pytest.raises(NotFound):
        capabilities("project_secret", {})
