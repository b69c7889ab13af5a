"""Snowflake's OAuth connector: two client secrets of an integration, one grant; against the lab's stand-in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import snowflake.connector

from keyturn.connectors.snowflake import client, tokens
from keyturn.connectors.snowflake.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.definitions.system import read_system
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
)
from keyturn.model.card import Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn_lab import standin
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.snowflake import people
from keyturn_lab.vendors.snowflake.server import create_app

CAN = capabilities("oauth", {})
USER, ROLE, INTEGRATION = "GRANT_USER", "GAINSIGHT_ROLE", "GAINSIGHT"
CALLBACK = "http://127.0.0.1:8425/oauth/callback"
FIRST, SECOND = client.SECRET_SLOTS


class Lab:
    """The running stand-in, an integration in it, and a grant of one user."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client_id = ""
        self.grant: dict[str, Any] = {}
        self.first = ""

    def post(self, door: str, body: Any) -> Any:
        answer = httpx2.post(f"{self.url}/_lab/{door}", json=body, trust_env=False)
        assert answer.is_success, answer.status_code
        return answer.json() if answer.content else None

    def get(self, door: str) -> Any:
        return httpx2.get(f"{self.url}/_lab/{door}", trust_env=False).json()

    def secrets(self) -> dict[str, str]:
        """The truth: which secret is in which slot."""
        return {
            e["id"].removeprefix(f"{INTEGRATION}/"): e["value"]
            for e in self.get("alive")
            if e["kind"] == "oauth_client_secret" and e["owner"] == INTEGRATION
        }

    def effects(self, name: str) -> int:
        return [str(e) for e in self.get("effects")].count(name)


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with standin.running(create_app()) as url:
        yield Lab(url)


@pytest.fixture
def lab(server: Lab) -> Lab:
    server.post("reset", {})
    server.post("users", {"name": USER, "password": DEMO_PASSWORD, "roles": [ROLE], "default_role": ROLE})
    made = server.post("integrations", {"name": INTEGRATION, "properties": {"OAUTH_REDIRECT_URI": CALLBACK}})
    server.client_id, server.first = made["client_id"], made["secrets"][0]
    server.grant = server.post("consents", {"user": USER, "integration": INTEGRATION, "role": ROLE})
    return server


def material(lab: Lab, **parts: str) -> Material:
    whole = {
        "client_id": lab.client_id,
        "client_secret": lab.first,
        "refresh_token": lab.grant["refresh_token"],
        **parts,
    }
    return Material(whole, frozenset({"client_id"}))


def access(lab: Lab, *, own: bool = False, **settings: Any) -> Access:
    host, port = lab.url.removeprefix("http://").split(":")
    return Access(
        settings={
            "account": "TESTACCT",
            "host": host,
            "port": int(port),
            "protocol": "http",
            "user": USER,
            "role": ROLE,
            "integration": INTEGRATION,
            "client_id": lab.client_id,
            **settings,
        },
        acting=material(lab),
        admin=None if own else Material({"admin_user": "KEYTURN_ADMIN", "admin_password": DEMO_PASSWORD}),
        deadline_s=6.0,
        network=NetworkPolicy(frozenset({f"{host}:{port}"})),
    )


def session() -> dict[str, str]:
    return {"state": "a-state-of-our-own", "code_verifier": "v" * 48, "redirect_uri": CALLBACK}


def sql(lab: Lab, statement: str) -> None:
    with client.acting_session(access(lab)) as open_session:
        open_session.run(statement, changes=True)


def test_the_card_has_both_slots_and_says_why_nothing_can_be_set() -> None:
    """S3: Snowflake makes the secrets. The often-repeated SET OAUTH_CLIENT_SECRET does not exist here."""
    text = (resources.files("keyturn.connectors.snowflake") / "definition.yaml").read_text()
    row = read_system(text, "snowflake").method("oauth")
    assert (row.card.strategy, row.card.slot_names) == (Strategy.NAMED_SLOTS, client.SECRET_SLOTS)
    assert row.card.secret_reviewable
    assert "cannot be set" in row.unsupported["set"]


def test_the_official_driver_takes_the_access_token(lab: Lab) -> None:
    """What the connector gets from the token endpoint opens a session of the unmodified driver."""
    token = tokens.access_token(access(lab), material(lab))
    at = urlsplit(lab.url)
    with (
        snowflake.connector.connect(
            account="TESTACCT",
            host=at.hostname,
            port=at.port,
            protocol="http",
            authenticator="oauth",
            token=token,
            login_timeout=10,
            enable_server_session_keep_alive_auto_detection=False,
            auto_cleanup=False,
        ) as open_session,
        open_session.cursor() as cursor,
    ):
        assert cursor.execute("SELECT CURRENT_USER(), CURRENT_ROLE()").fetchall() == [(USER, ROLE)]


def test_a_good_pair_is_accepted_as_its_user(lab: Lab) -> None:
    """The server itself says who consented, and for which role."""
    found = CAN.verifier.verify(access(lab), material(lab))
    assert found.verdict is Verdict.ACCEPTED
    assert (found.identity, found.rights) == ({"principal": USER, "tenant": "TESTACCT"}, {ROLE})


@pytest.mark.parametrize("status", [400, 401])
def test_the_word_counts_and_not_the_status(lab: Lab, status: int) -> None:
    """The status of invalid_client is not documented."""
    lab.post("settings", {"invalid_client_status": status})
    found = CAN.verifier.verify(access(lab), material(lab, client_secret="ktlab-wrong"))
    assert (found.verdict, found.code) == (Verdict.REJECTED, "invalid_client")


def test_a_switched_off_integration_is_not_a_dead_secret(lab: Lab) -> None:
    """It answers invalid_client as well; the administrator's look tells the two apart, and nothing is made anew."""
    sql(lab, f'ALTER SECURITY INTEGRATION "{INTEGRATION}" SET ENABLED = FALSE')
    found = CAN.verifier.verify(access(lab), material(lab))
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "integration_disabled")
    before = lab.effects("alter_integration")
    with pytest.raises(Conflict, match="switched off"):
        CAN.issuer.issue(access(lab), Ref(slot=SECOND))
    with pytest.raises(Conflict, match="switched off"):
        CAN.authorizer.exchange(access(lab), session(), f"{CALLBACK}?code=x&state=a-state-of-our-own")
    assert lab.effects("alter_integration") == before


def test_a_network_policy_says_nothing_of_the_pair(lab: Lab) -> None:
    """The token endpoint answers and the login does not: unknown, with the vendor's code."""
    sql(lab, "CREATE NETWORK POLICY NOBODY ALLOWED_IP_LIST = ('192.0.2.1')")
    lab.post("users", {"name": USER, "network_policy": "NOBODY"})
    found = CAN.verifier.verify(access(lab), material(lab))
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "390422")


def test_the_slot_in_use_is_found_by_its_value(lab: Lab) -> None:
    """Whichever slot holds the secret; a secret, a client id or an integration that does not fit is named."""
    assert CAN.locator.locate(access(lab), material(lab)).slot == FIRST
    other = material(lab, client_secret=lab.secrets()[SECOND])
    assert CAN.locator.locate(access(lab), other).slot == SECOND
    for wrong, field in ((material(lab, client_secret="x" * 40), "client_secret"),):
        with pytest.raises(InvalidInput) as raised:
            CAN.locator.locate(access(lab), wrong)
        assert raised.value.facts["field"] == field
    with pytest.raises(InvalidInput) as raised:
        CAN.locator.locate(access(lab), material(lab, client_id="somebody-elses"))
    assert raised.value.facts["field"] == "client_id"
    with pytest.raises(NotFound):
        CAN.locator.locate(access(lab, integration="gainsight"), material(lab))


def test_a_new_secret_leaves_the_pair_in_use_and_the_grant_alone(lab: Lab) -> None:
    """REFRESH of the other slot: the old pair works on, the same refresh token works with the new secret."""
    receipt = CAN.issuer.issue(access(lab), Ref(slot=SECOND))
    made = CAN.issuer.read(access(lab), receipt)
    assert (made.ref.slot, made.material["client_secret"]) == (SECOND, lab.secrets()[SECOND])
    assert made.material["refresh_token"] == lab.grant["refresh_token"]
    assert lab.secrets()[FIRST] == lab.first
    for each in (made.material, material(lab)):
        assert CAN.verifier.verify(access(lab), each).verdict is Verdict.ACCEPTED


def test_a_pair_whose_secret_somebody_replaced_is_mended(lab: Lab) -> None:
    """The secret in use is in neither slot any more: the administrator makes another one, the grant goes on."""
    sql(lab, f'ALTER SECURITY INTEGRATION "{INTEGRATION}" REFRESH {FIRST}')
    assert CAN.verifier.verify(access(lab), material(lab)).code == "invalid_client"
    made = CAN.issuer.read(access(lab), CAN.issuer.issue(access(lab), Ref(slot=SECOND)))
    assert CAN.verifier.verify(access(lab), made.material).verdict is Verdict.ACCEPTED


def test_the_secret_in_use_is_never_made_anew(lab: Lab) -> None:
    """Memory may be wrong about slots; the values are not."""
    before = lab.secrets()
    with pytest.raises(Conflict, match="in use"):
        CAN.issuer.issue(access(lab), Ref(slot=FIRST))
    assert lab.secrets() == before


def test_a_secret_that_another_program_uses_is_left_to_it(lab: Lab) -> None:
    """Where the user said that the other secret is taken, nothing is rotated."""
    before = lab.secrets()
    with pytest.raises(Conflict, match="another program"):
        CAN.issuer.issue(access(lab, spare_secret=False), Ref(slot=SECOND))
    assert lab.secrets() == before


def test_a_secret_that_was_made_and_not_read_is_an_unknown_outcome(lab: Lab) -> None:
    """Between REFRESH and reading the line may break: the slot is idle, so it is made anew."""
    lab.post("faults", [{"op": "show_client_secrets", "kind": "throttle", "times": None}])
    with pytest.raises(VendorThrottled):
        CAN.issuer.issue(access(lab), Ref(slot=SECOND))
    assert lab.effects("alter_integration") == 0
    lab.post("faults", [{"op": "alter_integration", "kind": "answer_lost"}])
    httpx2.delete(f"{lab.url}/_lab/faults", trust_env=False)
    lab.post("faults", [{"op": "alter_integration", "kind": "answer_lost"}])
    with pytest.raises(OutcomeUnknown):
        CAN.issuer.issue(access(lab), Ref(slot=SECOND))
    made = CAN.issuer.read(access(lab), CAN.issuer.issue(access(lab), Ref(slot=SECOND)))
    assert CAN.verifier.verify(access(lab), made.material).verdict is Verdict.ACCEPTED


def test_a_receipt_in_which_more_changed_is_not_taken(lab: Lab) -> None:
    """The client id and the secret in use must be what they were, and the slot's value a new one."""
    receipt = CAN.issuer.issue(access(lab), Ref(slot=SECOND))
    for parts in ({"client_id": "another"}, {"client_secret": "gone from both"}):
        acting = dataclasses.replace(access(lab), acting=material(lab, **parts))
        with pytest.raises(UnexpectedAnswer):
            CAN.issuer.read(acting, receipt)
    same = receipt.replace(
        b'"before": "', b'"before": "' + client.fingerprint(lab.secrets()[SECOND]).encode() + b'", "was": "'
    )
    with pytest.raises(UnexpectedAnswer, match="held before"):
        CAN.issuer.read(access(lab), same)


def test_ending_a_pair_takes_the_slot_that_holds_its_secret_and_no_other(lab: Lab) -> None:
    """By value: a slot that was made anew by somebody is not touched again, and twice is once."""
    made = CAN.issuer.read(access(lab), CAN.issuer.issue(access(lab), Ref(slot=SECOND)))
    serving = dataclasses.replace(access(lab), acting=made.material)
    for _ in range(2):
        CAN.revoker.revoke(serving, Ref(slot=FIRST), material(lab))
    assert lab.secrets()[SECOND] == made.material["client_secret"]
    assert lab.effects("alter_integration") == 2
    assert CAN.verifier.verify(serving, material(lab)).code == "invalid_client"
    assert CAN.verifier.verify(serving, made.material).verdict is Verdict.ACCEPTED


def test_two_pairs_with_one_secret_are_not_ended_together(lab: Lab) -> None:
    """A newer grant under the same client secret serves: ending the older one's secret would end it too."""
    serving = dataclasses.replace(access(lab), acting=material(lab, refresh_token="another"))
    with pytest.raises(Conflict, match="same client secret"):
        CAN.revoker.revoke(serving, Ref(slot=FIRST), material(lab))
    assert lab.secrets()[FIRST] == lab.first


def test_without_an_administrator_the_role_of_the_grant_must_own_the_integration(lab: Lab) -> None:
    """The self path asks with the grant's own role, and names the right that is missing."""
    with pytest.raises(PermissionMissing) as raised:
        CAN.issuer.issue(access(lab, own=True), Ref(slot=SECOND))
    assert "OWNERSHIP" in raised.value.facts["right"]


def test_the_consent_page_gets_state_pkce_and_the_role(lab: Lab) -> None:
    """No verifier and no secret in the address; a role in odd letters goes encoded."""
    url = CAN.authorizer.begin(access(lab), session())
    query = parse_qs(urlsplit(url).query)
    assert query["scope"] == [f"refresh_token session:role:{ROLE}"]
    assert query["code_challenge_method"] == ["S256"]
    assert session()["code_verifier"] not in url
    odd = parse_qs(urlsplit(CAN.authorizer.begin(access(lab, role="odd role"), session())).query)
    assert odd["scope"] == ["refresh_token session:role-encoded:odd%20role"]


def test_a_consent_uses_the_other_secret(lab: Lab) -> None:
    """So the new pair can be rolled back, and the old one ended, without touching each other."""
    callback = people.consent(CAN.authorizer.begin(access(lab), session()), USER)
    receipt = CAN.authorizer.exchange(access(lab), session(), callback)
    made = CAN.authorizer.read(access(lab), receipt, None)
    assert (made.ref.slot, made.material["client_secret"]) == (SECOND, lab.secrets()[SECOND])
    assert made.expires_at is not None
    for each in (made.material, material(lab)):
        assert CAN.verifier.verify(access(lab), each).verdict is Verdict.ACCEPTED
    assert lab.effects("alter_integration") == 0


def test_a_person_who_declines_changes_nothing(lab: Lab) -> None:
    """The state is right and the answer is no."""
    callback = people.consent(CAN.authorizer.begin(access(lab), session()), USER, decline=True)
    with pytest.raises(InvalidInput, match="declined"):
        CAN.authorizer.exchange(access(lab), session(), callback)


def test_another_persons_consent_is_seen_as_another_account(lab: Lab) -> None:
    """Whoever signed in on the page, the login says who it was."""
    lab.post("users", {"name": "OTHER", "password": DEMO_PASSWORD, "roles": [ROLE]})
    callback = people.consent(CAN.authorizer.begin(access(lab), session()), "OTHER")
    made = CAN.authorizer.read(access(lab), CAN.authorizer.exchange(access(lab), session(), callback), None)
    pin = CAN.verifier.verify(access(lab), material(lab)).identity
    assert mismatch(pin, CAN.verifier.verify(access(lab), made.material).identity)


def test_single_use_refresh_tokens_are_told_apart(lab: Lab) -> None:
    """An answer that brings another refresh token means that each test uses one up: such a pair is not accepted."""
    sql(
        lab, f'ALTER SECURITY INTEGRATION "{INTEGRATION}" SET OAUTH_SINGLE_USE_REFRESH_TOKENS_REQUIRED = TRUE'
    )
    found = CAN.verifier.verify(access(lab), material(lab))
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "single_use")
    assert CAN.verifier.verify(access(lab), material(lab)).code == "invalid_grant", "the test used it up"


def test_a_refresh_keeps_the_slot_of_a_pair_that_came_from_outside(lab: Lab) -> None:
    """The next rotation must know which slot is in use."""
    made = CAN.authorizer.read(access(lab), CAN.authorizer.refresh(access(lab), material(lab)), material(lab))
    assert made.ref.slot == FIRST
    assert made.material["refresh_token"] == lab.grant["refresh_token"]
    with pytest.raises(CredentialRejected):
        CAN.authorizer.refresh(access(lab), material(lab, refresh_token="ktlab-wrong"))


def test_dropping_takes_back_the_consent_and_is_done_once(lab: Lab) -> None:
    """Consent, off switch, drop, in this order; only an administrator may, and what is gone is done."""
    for _ in range(2):
        CAN.dropper.drop(access(lab))
    assert lab.effects("drop_integration") == 2
    assert not [e for e in lab.get("alive") if e["owner"] in {USER, INTEGRATION} and "oauth" in e["kind"]]
    with pytest.raises(InvalidInput):
        CAN.dropper.drop(access(lab, own=True))
