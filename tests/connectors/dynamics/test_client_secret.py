"""Client secrets against the stand-in: found by their hint, made with an end, removed by id, strangers' left alone."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from tests.connectors.dynamics.conftest import NETWORK, OWNED, There

from keyturn.connectors.dynamics import client
from keyturn.connectors.dynamics.client import CLOUDS, Session
from keyturn.connectors.dynamics.connector import capabilities
from keyturn.contract.values import Access
from keyturn.errors import (
    CapReached,
    Conflict,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.transport.http import Answer

CAN = capabilities("client_secret", {})
DAY_S = 86_400.0


def test_there_are_two_methods() -> None:
    """And no third."""
    assert capabilities("certificate", {}).maker is not None
    with pytest.raises(NotFound):
        capabilities("password", {})


# -- the test --------------------------------------------------------------------------------------------------------


def test_dataverse_says_who_it_sees(there: There) -> None:
    """User and organization are the identity; one row of the table is the right."""
    good = there.add_secret()
    found = CAN.verifier.verify(there.access(good), good)
    assert found.verdict is Verdict.ACCEPTED
    assert found.identity["principal"] == there.app["user_id"]
    assert found.identity["tenant"]
    assert found.rights == frozenset({"read:accounts"})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"enabled": False}, "AADSTS7000112"),
        ({"deleted": True}, "AADSTS700016"),
        ({"user_disabled": True}, "0x80072560"),
        ({"blocked": True}, "0x80095ffc"),
    ],
)
def test_what_is_reversible_is_no_refusal(there: There, change: dict[str, Any], code: str) -> None:
    """A disabled or deleted application and everything Dataverse says are unknown: the credential was not judged."""
    good = there.add_secret()
    there.change(**change)
    found = CAN.verifier.verify(there.access(good), good)
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, code)


def test_a_missing_right_is_shown_and_not_a_refusal(there: There) -> None:
    """Accepted without the right, with Dataverse's code."""
    good = there.add_secret()
    there.change(privileges=[])
    found = CAN.verifier.verify(there.access(good), good)
    assert (found.verdict, found.code, found.rights) == (Verdict.ACCEPTED, "0x80040220", frozenset())
    unread = CAN.verifier.verify(there.access(good, table=""), good)
    assert (unread.verdict, unread.code) == (Verdict.ACCEPTED, "")


def test_an_expired_secret_is_refused_with_its_own_code(there: There) -> None:
    """7000222; a wrong one has 7000215."""
    good = there.add_secret()
    there.lab("clock", {"advance_s": 731 * DAY_S})
    assert CAN.verifier.verify(there.access(good), good).code == "AADSTS7000222"
    bogus = CAN.verifier.bogus(good)
    assert CAN.verifier.verify(there.access(good), bogus).code == "AADSTS7000215"


def test_the_id_in_the_place_of_the_value_is_told_apart(there: There) -> None:
    """People paste the secret's id: that is said before anything is sent."""
    pasted = Material({"client_secret": there.app["secrets"][0]["key_id"]})
    with pytest.raises(InvalidInput, match="not its value"):
        CAN.verifier.verify(there.access(pasted), pasted)
    assert there.ops() == []


def _answer(status: int, body: str = "", **headers: str) -> Answer:
    return Answer(status, {"content-type": "application/json", **headers}, body.encode(), "login.example")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_answer(401, '{"error":"invalid_client","error_codes":[7000215]}'), "CredentialRejected"),
        (_answer(401, '{"error":"invalid_client","error_codes":[7000218]}'), "UnexpectedAnswer"),
        (_answer(401, '{"error":"invalid_client","error_codes":["7000215"]}'), "UnexpectedAnswer"),
        (_answer(401, '{"error":"server_error","error_codes":[7000215]}'), "UnexpectedAnswer"),
        (_answer(403, '{"error":"invalid_client","error_codes":[7000215]}'), "UnexpectedAnswer"),
        (_answer(401, '{"error":"invalid_client"}'), "UnexpectedAnswer"),
        (_answer(401, "<html>AADSTS7000215"), "UnexpectedAnswer"),
        (_answer(401, '{"error":"invalid_client","error_codes":[700024]}'), "VendorUnavailable"),
        (_answer(400, '{"error":"temporarily_unavailable","error_codes":[90033]}'), "VendorUnavailable"),
        (_answer(400, '{"error":"x","error_codes":[90055]}'), "VendorThrottled"),
        (_answer(503, "<html>"), "VendorUnavailable"),
        (_answer(400, '{"error":"invalid_request","error_codes":[90002]}'), "NotFound"),
    ],
)
def test_only_documented_codes_are_a_no(answer: Answer, kind: str) -> None:
    """Error, code and status must all fit; a page that quotes the code is none."""
    error = client._no_token(answer)
    assert type(error).__name__ == kind
    assert "html" not in f"{error} {error.hint} {dict(error.facts)}"


@pytest.mark.parametrize(
    ("status", "code", "message", "changes", "kind"),
    [
        (403, "Authorization_RequestDenied", "Insufficient privileges.", True, PermissionMissing),
        (403, "Directory_QuotaExceeded", "", True, CapReached),
        (400, "TooManyAppPasswords", "", True, CapReached),
        (400, "Directory_ResourceSizeExceeded", "", True, CapReached),
        (400, "CredentialTypeNotAllowedAsPerAppPolicy", "", True, ValueRefused),
        (409, "Directory_ConcurrencyViolation", "", True, VendorThrottled),
        (404, "Request_ResourceNotFound", "", True, NotFound),
        (401, "InvalidAuthenticationToken", "", True, VendorUnavailable),
        (401, "Authentication_MissingOrMalformed", "", True, VendorUnavailable),
        (400, "Request_BadRequest", "", True, UnexpectedAnswer),
        (503, "ServiceUnavailable", "", False, VendorUnavailable),
    ],
)
def test_each_error_of_graph_has_its_meaning(
    status: int, code: str, message: str, changes: bool, kind: type[KeyturnError]
) -> None:
    """By status and code; a failing server during a change is an unknown outcome."""
    body = f'{{"error":{{"code":"{code}","message":"{message}"}}}}'
    assert type(client._refusal(_answer(status, body), OWNED, changes)) is kind
    assert type(client._refusal(_answer(502, "<html>"), OWNED, True)).__name__ == "OutcomeUnknown"
    assert type(client._refusal(_answer(403, "<html>"), OWNED, True)) is UnexpectedAnswer


# -- making and finding ----------------------------------------------------------------------------------------------


def test_a_secret_ends_when_graph_says(there: There) -> None:
    """The end is asked for in days, read from the answer, and seen again when the secret is located."""
    good = there.add_secret()
    access = there.access(good, secret_days=30)
    assert CAN.issuer is not None
    assert CAN.locator is not None
    made = CAN.issuer.read(access, CAN.issuer.issue(replace(access, marker="keyturn-x-1"), Ref()))
    assert made.expires_at == pytest.approx(time.time() + 30 * DAY_S, abs=5)
    found = CAN.locator.locate(access, made.material)
    assert (found.id, found.label) == (made.ref.id, "keyturn-x-1")
    assert found.ends_at == pytest.approx(made.expires_at)


def test_refusals_while_making_are_definite(there: There) -> None:
    """Too long for the tenant's policy, too many, no right: nothing was made."""
    good = there.add_secret()
    assert CAN.issuer is not None
    with pytest.raises(ValueRefused, match="policy"):
        CAN.issuer.issue(there.access(good, secret_days=9000), Ref())
    there.change(audience="AzureADandPersonalMicrosoftAccount")
    with pytest.raises(CapReached, match="no more"):
        CAN.issuer.issue(there.access(good), Ref())
    there.change(audience="AzureADMyOrg", owners=[])
    with pytest.raises(PermissionMissing) as caught:
        CAN.issuer.issue(there.access(good), Ref())
    assert caught.value.facts["right"] == OWNED
    assert len(there.now()["secrets"]) == 2


def test_a_secret_without_a_hint_is_found_by_its_id(there: There) -> None:
    """Secrets older than Graph have no hint: with several of them the id decides, and only then."""
    there.lab("settings", {"hints": False})
    good, other = there.add_secret(), there.add_secret()
    ids = {each["value"]: each["key_id"] for each in there.now()["secrets"]}
    assert CAN.locator is not None
    with pytest.raises(InvalidInput, match="cannot be told"):
        CAN.locator.locate(there.access(good), good)
    named = good.replacing(secret_id=ids[good["client_secret"]].upper())
    assert CAN.locator.locate(there.access(good), named).id == ids[good["client_secret"]]
    there.lab("settings", {"hints": True})
    hinted = there.add_secret().replacing(secret_id=ids[other["client_secret"]])
    assert CAN.locator.locate(there.access(good), hinted).id not in ids.values(), "a stale id was believed"


def test_a_secret_on_the_enterprise_application_is_not_ours_to_rotate(there: There) -> None:
    """It works, but the application does not list it; discovery shows where it is."""
    value = there.change(hidden_secret="by a script")["secret"]
    hidden = Material({"client_secret": value})
    access = there.access(hidden)
    assert CAN.verifier.verify(access, hidden).verdict is Verdict.ACCEPTED
    assert CAN.locator is not None
    with pytest.raises(InvalidInput, match="cannot be told") as caught:
        CAN.locator.locate(access, hidden)
    assert "enterprise application" in caught.value.hint
    assert CAN.discoverer is not None
    found = [each for each in CAN.discoverer.discover(access) if each.facts.get("label") == "by a script"]
    assert "kept on the enterprise application" in found[0].facts["flags"]


def test_without_the_right_to_look_the_id_is_believed(there: There) -> None:
    """An application that may not read itself can be connected when its secret's id is given."""
    good = there.add_secret()
    access = there.access(good, admin=False)
    assert CAN.locator is not None
    with pytest.raises(PermissionMissing):
        CAN.locator.locate(access, good)
    key_id = there.now()["secrets"][-1]["key_id"]
    assert CAN.locator.locate(access, good.replacing(secret_id=key_id)).id == key_id


# -- removing --------------------------------------------------------------------------------------------------------


def test_only_the_named_secret_goes(there: There) -> None:
    """Strangers' secrets on the same application stay; a second removal finds nothing and is done."""
    good, other = there.add_secret(), there.add_secret()
    access = there.access(good)
    assert CAN.locator is not None
    assert CAN.revoker is not None
    ref = CAN.locator.locate(access, other)
    before = {each["value"] for each in there.now()["secrets"]}
    for _ in range(2):
        CAN.revoker.revoke(access, ref, other)
    assert {each["value"] for each in there.now()["secrets"]} == before - {other["client_secret"]}
    with pytest.raises(InvalidInput, match="not known"):
        CAN.revoker.revoke(access, Ref(), other)


def test_the_last_one_signs_its_own_end(there: There) -> None:
    """Without an administrator the secret removes itself; asked again, Entra knows it no more, and that is done."""
    there.change(owners=[there.app["app_id"]], roles=[OWNED])
    good = there.add_secret()
    access = there.access(good, admin=False)
    assert CAN.locator is not None
    assert CAN.revoker is not None
    ref = CAN.locator.locate(access, good)
    for _ in range(2):
        CAN.revoker.revoke(access, ref, good)
    assert CAN.verifier.verify(access, good).verdict is Verdict.REJECTED


def test_an_application_others_use_is_not_deleted(there: There) -> None:
    """Drop refuses while a stranger's secret works, deletes when none does, and twice is once."""
    access = there.access(None)
    assert CAN.dropper is not None
    with pytest.raises(Conflict, match="1 working credential"):
        CAN.dropper.drop(access)
    assert CAN.revoker is not None
    CAN.revoker.revoke(access, Ref(id=there.app["secrets"][0]["key_id"]), None)
    for _ in range(2):
        CAN.dropper.drop(access)
    assert there.now()["deleted"]
    with pytest.raises(InvalidInput, match="administrator"):
        CAN.dropper.drop(replace(access, admin=None))


# -- looking around --------------------------------------------------------------------------------------------------


def test_discovery_shows_strangers_and_touches_nobody(there: There) -> None:
    """All pages, every kind, ends and last use; whose they are is told, their values are not."""
    there.lab("settings", {"page_size": 1})
    good = there.add_secret()
    before = there.lab("alive")
    assert CAN.discoverer is not None
    assert CAN.verifier.verify(there.access(good), good).verdict is Verdict.ACCEPTED
    found = CAN.discoverer.discover(there.access(good))
    secrets = [each for each in found if each.kind == "client_secret"]
    assert {each.facts["application"] for each in secrets} == {
        "Gainsight connector",
        "Keyturn rotator",
        "Somebody else's integration",
    }
    own = [each for each in secrets if each.facts["this_connection"]]
    assert [bool(each.facts["last_used_at"]) for each in own] == [False, True]
    assert all("one of 2 that work" in each.facts["flags"] for each in own)
    stranger = next(each for each in secrets if each.facts["application"].startswith("Somebody"))
    assert stranger.facts["flags"] == ["has no name"]
    assert {"enterprise_application", "application_user"} <= {each.kind for each in found}
    assert not any(live["value"] in repr(found) for live in before)
    assert there.lab("alive") == before


def test_discovery_without_the_right_to_read_all_shows_its_own(there: There) -> None:
    """OwnedBy alone: this application only, without the report."""
    there.lab("apps", {"app_id": there.rotator["app_id"], "roles": [OWNED]})
    assert CAN.discoverer is not None
    found = CAN.discoverer.discover(there.access(None))
    assert {each.facts.get("application", "Gainsight connector") for each in found} == {"Gainsight connector"}


def test_a_list_does_not_lead_elsewhere(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """A next link to another host is not followed: the token would go with it."""
    session = Session(there.access(None))
    asked = []

    def read(token: str, path: str, *, right: str) -> dict[str, Any]:
        asked.append(path)
        return {"value": [], "@odata.nextLink": "https://graph.evil.example/v1.0/applications?$skiptoken=1"}

    monkeypatch.setattr(session, "read", read)
    with pytest.raises(UnexpectedAnswer, match="somewhere else"):
        list(session.pages("token", "/v1.0/applications", right=OWNED))
    assert len(asked) == 1


# -- clouds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cloud", "environment"),
    [
        ("public", "https://acme.crm4.dynamics.com"),
        ("us-government", "https://acme.crm.microsoftdynamics.us"),
        ("us-dod", "https://acme.crm.appsplatform.us"),
        ("china", "https://acme.crm.dynamics.cn"),
    ],
)
def test_a_cloud_is_a_choice_of_addresses(
    cloud: str, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entra, Graph and the environments of one cloud; a token goes to no environment of another."""
    settings = {"cloud": cloud, "tenant_id": "t", "client_id": "c", "org_url": environment}
    session = Session(Access(settings, network=NETWORK))
    assert (session.login, session.graph) == (CLOUDS[cloud].login, CLOUDS[cloud].graph)
    monkeypatch.setattr("keyturn.transport.ssrf.socket.getaddrinfo", lambda *_a, **_k: [])
    with pytest.raises(VendorUnavailable):  # the address is allowed; nobody is there
        session.dataverse("token", "WhoAmI")
    foreign = {**settings, "org_url": "https://acme.crm.dynamics.example"}
    with pytest.raises(NotPermitted):
        Session(Access(foreign, network=NETWORK)).dataverse("token", "WhoAmI")
