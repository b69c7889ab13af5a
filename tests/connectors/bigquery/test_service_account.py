"""The service account's connector against Google's stand-in: what each refusal means, and what is sent."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.compliance.lab import StandIn

from keyturn.connectors.bigquery.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import (
    CapReached,
    InvalidInput,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab.standin import running
from keyturn_lab.vendors.google import STANDIN
from keyturn_lab.vendors.google.state import APP, PROJECT, ROTATOR, STRANGER, address

CAN = capabilities("service_account", {})


@pytest.fixture(scope="module")
def served() -> Iterator[StandIn]:
    with running(STANDIN.create_app()) as url:
        yield StandIn(url)


@pytest.fixture
def there(served: StandIn) -> StandIn:
    served.post("reset", {})
    served.post("dials", {"latency_s": 0})
    return served


@pytest.fixture
def access(there: StandIn) -> Access:
    """With the rotator; `acting` is the application's own key."""
    files = {each["email"]: each["key_file"] for each in there.get("accounts")}
    settings = {
        "project_id": PROJECT,
        "service_account": address(APP),
        "token_url": f"{there.url}/token",
        "iam_url": there.url,
        "bigquery_url": there.url,
    }
    admin = Material({"key_file": files[address(ROTATOR)], "admin_key_file": files[address(ROTATOR)]})
    acting = Material({"key_file": files[address(APP)]})
    return Access(settings, acting, admin, 10.0, NetworkPolicy(frozenset({"127.0.0.1"})))


def _good(access: Access) -> Material:
    assert access.acting is not None
    return access.acting


def _issued(access: Access) -> tuple[Ref, Material]:
    made = CAN.issuer.read(access, CAN.issuer.issue(access, Ref()))
    return made.ref, made.material


def test_the_test_names_the_account_the_project_and_the_rights(access: Access) -> None:
    """Read back from BigQuery; the dataset is looked at where one is named."""
    found = CAN.verifier.verify(access, _good(access))
    assert found.identity == {"principal": address(APP), "tenant": PROJECT}
    assert found.rights == {"bigquery.jobs.create"}
    named = replace(access, settings={**access.settings, "dataset": "usage_data", "location": "EU"})
    assert CAN.verifier.verify(named, _good(access)).rights == {
        "bigquery.jobs.create",
        "bigquery.datasets.get",
    }


def test_a_missing_role_is_not_a_dead_key(there: StandIn, access: Access) -> None:
    """Google knows the key and refuses the query: accepted, with the code and without the right."""
    there.post("account", {"email": address(APP), "rights": []})
    found = CAN.verifier.verify(access, _good(access))
    assert (found.verdict, found.code, found.rights) == (Verdict.ACCEPTED, "PERMISSION_DENIED", frozenset())
    assert found.identity["principal"] == address(APP)


@pytest.mark.parametrize("robot", [False, True])
def test_a_disabled_account_says_nothing_about_its_key(there: StandIn, access: Access, robot: bool) -> None:
    """It works again when the account is enabled, so it is unknown and never rejected."""
    there.post("settings", {"robot_is_disabled": robot})
    there.post("account", {"email": address(APP), "is_off": True})
    assert CAN.verifier.verify(access, _good(access)).verdict is Verdict.UNKNOWN
    there.post("account", {"email": address(APP), "is_off": False})
    assert CAN.verifier.verify(access, _good(access)).verdict is Verdict.ACCEPTED


def test_a_wrong_clock_says_nothing_about_the_key(there: StandIn, access: Access) -> None:
    """Google's words for it are documented, and they are not a no to the key."""
    there.post("clock", {"advance_s": 7200})
    found = CAN.verifier.verify(access, _good(access))
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "clock")


def test_a_slow_job_and_a_switched_off_api_are_unknown_or_named(there: StandIn, access: Access) -> None:
    """A query that is not finished tells nobody; an API that is off is told to somebody known."""
    there.post("settings", {"job_is_slow": True})
    assert CAN.verifier.verify(access, _good(access)).verdict is Verdict.UNKNOWN
    there.post("settings", {"job_is_slow": False, "api_disabled": True})
    assert CAN.verifier.verify(access, _good(access)).code == "PERMISSION_DENIED"


def test_somebody_else_behind_the_query_is_somebody_else(there: StandIn, access: Access) -> None:
    """The identity is what BigQuery says, not what the file says."""
    there.arm("query", "wrong_identity")
    assert CAN.verifier.verify(access, _good(access)).identity["principal"] != address(APP)


@pytest.mark.parametrize("as_429", [False, True])
def test_the_eleventh_key_is_a_full_account(there: StandIn, access: Access, as_429: bool) -> None:
    """Whichever of the two ways Google says it, and it is told before and after as the same thing."""
    there.post("settings", {"full_is_429": as_429})
    while len(CAN.lister.list(access)) < 10:
        _issued(access)
    with pytest.raises(CapReached, match="10 keys"):
        CAN.issuer.issue(access, Ref())


@pytest.mark.parametrize("told", [False, True])
def test_a_policy_against_keys_is_named(there: StandIn, access: Access, told: bool) -> None:
    """Told apart from a full account by its details, or by counting."""
    there.post("settings", {"keys_forbidden": True, "policy_is_told": told})
    with pytest.raises(PermissionMissing) as caught:
        CAN.issuer.issue(access, Ref())
    assert caught.value.facts["right"] == "constraints/iam.disableServiceAccountKeyCreation"


def test_the_missing_permission_has_googles_name(there: StandIn, access: Access) -> None:
    """Of the call that was made."""
    there.post("account", {"email": address(ROTATOR), "rights": ["iam.serviceAccountKeys.list"]})
    assert CAN.lister.list(access)
    with pytest.raises(PermissionMissing) as caught:
        CAN.issuer.issue(access, Ref())
    assert caught.value.facts["right"] == "iam.serviceAccountKeys.create"


def test_an_api_quota_is_told_with_its_time(there: StandIn, access: Access) -> None:
    """RetryInfo becomes the wait."""
    there.arm("list_keys", "throttle")
    with pytest.raises(VendorThrottled) as caught:
        CAN.lister.list(access)
    assert caught.value.facts["wait_s"] == 1.0


def test_only_keys_that_people_made_are_listed(access: Access) -> None:
    """Google's own keys are nobody's to rotate."""
    assert [remote.ref for remote in CAN.lister.list(access)] == [CAN.locator.locate(access, _good(access))]


def test_a_key_of_another_account_is_refused_at_the_door(there: StandIn, access: Access) -> None:
    """Else somebody else's keys would be rotated."""
    files = {each["email"]: each["key_file"] for each in there.get("accounts")}
    with pytest.raises(InvalidInput) as caught:
        CAN.locator.locate(access, Material({"key_file": files[address(STRANGER)]}))
    assert caught.value.facts["field"] == "service_account"
    unknown = json.dumps({**json.loads(files[address(APP)]), "private_key_id": "0" * 40})
    with pytest.raises(InvalidInput) as caught:
        CAN.locator.locate(access, Material({"key_file": unknown}))
    assert caught.value.facts["field"] == "key_file"


def test_an_answer_about_another_account_is_not_taken(access: Access) -> None:
    """The sealed answer must be about this service account."""
    receipt = CAN.issuer.issue(access, Ref())
    other = replace(access, settings={**access.settings, "service_account": address(STRANGER)})
    with pytest.raises(UnexpectedAnswer):
        CAN.issuer.read(other, receipt)


def test_gone_is_done_and_cannot_be_switched_on(access: Access) -> None:
    """Deleting twice is fine; switching a deleted key on is not."""
    ref, _ = _issued(access)
    for _ in range(2):
        CAN.revoker.revoke(access, ref, None)
    CAN.disabler.disable(access, ref)
    with pytest.raises(NotFound):
        CAN.disabler.enable(access, ref)
    with pytest.raises(InvalidInput):
        CAN.revoker.revoke(access, Ref(), None)


def test_a_drop_switches_the_account_off_and_deletes_nothing(there: StandIn, access: Access) -> None:
    """It can be undone; without an administrator it is not done at all."""
    CAN.dropper.drop(access)
    CAN.dropper.drop(access)
    assert address(APP) not in {each["owner"] for each in there.get("alive")}
    there.post("account", {"email": address(APP), "is_off": False})
    assert CAN.verifier.verify(access, _good(access)).verdict is Verdict.ACCEPTED
    with pytest.raises(InvalidInput, match="administrator"):
        CAN.dropper.drop(replace(access, admin=None))


def test_discovery_shows_every_key_with_what_is_wrong(access: Access) -> None:
    """Of the whole project with a rotator, of itself without; switched-off keys and pairs of keys are flagged."""
    ref, _ = _issued(access)
    CAN.disabler.disable(access, ref)
    found = {each.name: each.facts for each in CAN.discoverer.discover(access)}
    assert {facts["service_account"] for facts in found.values()} >= {address(APP), address(STRANGER)}
    assert "disabled and never deleted" in found[f"{address(APP)}/{ref.id}"]["flags"]
    CAN.disabler.enable(access, ref)
    found = {each.name: each.facts for each in CAN.discoverer.discover(access)}
    assert "one of several keys that are on" in found[f"{address(APP)}/{ref.id}"]["flags"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"type": "authorized_user"}',
        '{"type": "service_account", "client_email": "a@b"}',
    ],
)
def test_what_is_no_key_file_is_refused_by_field(access: Access, text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput) as caught:
        CAN.verifier.verify(access, Material({"key_file": text}))
    assert caught.value.facts["field"] == "key_file"


def test_the_addresses_inside_a_key_file_are_not_believed(access: Access) -> None:
    """A file with a foreign token_uri is signed in where the connection says, and nowhere else."""
    text = json.dumps({**json.loads(_good(access)["key_file"]), "token_uri": "http://127.0.0.1:9/steal"})
    assert CAN.verifier.verify(access, Material({"key_file": text})).verdict is Verdict.ACCEPTED
    other = json.dumps({**json.loads(text), "universe_domain": "elsewhere.example"})
    with pytest.raises(InvalidInput, match="another cloud"):
        CAN.verifier.verify(access, Material({"key_file": other}))


def test_a_view_cannot_be_listed(access: Access) -> None:
    """It has no rows of its own; Google says so with 400, which is no refusal of the key."""
    assert CAN.reader.read_sample(access, _good(access), "usage_data.orders", 2).count == 2
    with pytest.raises(InvalidInput, match="cannot be listed"):
        CAN.reader.read_sample(access, _good(access), "usage_data.orders_view", 2)


def test_a_missing_right_to_read_is_not_a_dead_key(there: StandIn, access: Access) -> None:
    """The account may run queries and not read the table: the right is named, the key is not blamed."""
    there.post("account", {"email": address(APP), "rights": ["bigquery.jobs.create"]})
    with pytest.raises(PermissionMissing) as refused:
        CAN.reader.read_sample(access, _good(access), "usage_data.orders", 2)
    assert refused.value.facts["right"] == "bigquery.tables.getData"
