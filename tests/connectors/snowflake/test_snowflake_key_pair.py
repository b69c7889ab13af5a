"""Snowflake's key-pair connector against the lab's stand-in, through the official driver."""

import dataclasses
import functools
import logging
import traceback
from collections.abc import Iterator
from importlib import resources
from typing import Any

import httpx2
import pytest

from keyturn import boundary
from keyturn.connectors.snowflake import client
from keyturn.connectors.snowflake.connector import capabilities, check
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.definitions.system import read_system
from keyturn.errors import (
    CallInsideTransaction,
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.keymaking import rsa
from keyturn.model.card import Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn_lab import standin
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.snowflake.server import create_app

CAN = capabilities("key_pair", {})
USER, ROLE = "GS_GAINSIGHT_USER", "GAINSIGHT_ROLE"
FIRST, SECOND = client.SLOTS


class Lab:
    """The running stand-in and its admin doors."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, door: str, body: Any) -> None:
        assert httpx2.post(f"{self.url}/_lab/{door}", json=body, trust_env=False).is_success

    def get(self, door: str) -> Any:
        return httpx2.get(f"{self.url}/_lab/{door}", trust_env=False).json()

    def arm(self, op: str, kind: str, **more: Any) -> None:
        self.post("faults", [{"op": op, "kind": kind, **more}])

    def slots(self) -> dict[str, str]:
        """The truth: which fingerprint is in which slot of the user."""
        return {
            live["id"].removeprefix(f"{USER}/"): live["facts"]["fingerprint"]
            for live in self.get("alive")
            if live["owner"] == USER and live["kind"] == "public_key"
        }


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with standin.running(create_app()) as url:
        yield Lab(url)


@pytest.fixture
def lab(server: Lab) -> Lab:
    """The service user with one key of ours in the first slot."""
    server.post("reset", {})
    server.post("users", {"name": USER, FIRST: pair(0).public_key})
    return server


@functools.cache
def pair(number: int) -> rsa.KeyPair:
    return rsa.generate()


def material(number: int) -> Material:
    return Material({"private_key": pair(number).private_pem.reveal()})


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
            **settings,
        },
        acting=material(0),
        admin=None
        if own
        else Material(
            {"admin_user": "KEYTURN_ADMIN", "admin_password": DEMO_PASSWORD}, frozenset({"admin_user"})
        ),
        deadline_s=6.0,
        network=NetworkPolicy(frozenset({f"{host}:{port}"})),
    )


def ref(number: int, slot: str) -> Ref:
    return Ref(id=slot, slot=slot, fingerprint=pair(number).fingerprint)


def test_the_definition_reads_and_names_both_slots():
    """The card is S1 with two named slots and an absolute set."""
    text = (resources.files("keyturn.connectors.snowflake") / "definition.yaml").read_text()
    row = read_system(text, "snowflake").method("key_pair")
    assert (row.card.strategy, row.card.slots, row.card.slot_names) == (Strategy.TWO_SLOTS, 2, client.SLOTS)
    assert row.card.set_is_absolute
    assert row.card.lockout is None
    assert row.field("private_key").kind == "file"
    assert {f.name for f in row.fields if f.secret and not f.group} == {"private_key", "passphrase"}


def test_a_good_key_is_accepted_with_its_identity(lab):
    """The server itself says user, account and role."""
    probe = CAN.verifier.verify(access(lab), material(0))
    assert probe.verdict is Verdict.ACCEPTED
    assert probe.identity == {"principal": USER, "tenant": "TESTACCT"}
    assert probe.rights == {ROLE}


def test_an_encrypted_key_works_with_its_passphrase(lab):
    """An uploaded key keeps its passphrase; without it the field is named before anything is sent."""
    locked = Material(
        {"private_key": pair(0).encrypted_pem("pass phrase").reveal(), "passphrase": "pass phrase"}
    )
    assert CAN.verifier.verify(access(lab), locked).verdict is Verdict.ACCEPTED
    with pytest.raises(InvalidInput) as raised:
        CAN.verifier.verify(access(lab), Material({"private_key": locked["private_key"]}))
    assert raised.value.facts["field"] == "passphrase"


@pytest.mark.parametrize(("bits", "form"), [("3072", "encrypted"), ("4096", "plain"), ("2048", "plain")])
def test_new_keys_have_the_size_and_form_that_was_asked_for(lab, bits, form):
    """An encrypted one gets a passphrase of its own, new each time, and logs in like any other."""
    there = access(lab, key_bits=bits, key_file=form)
    made = CAN.maker.make(there, Ref(slot=SECOND))
    assert client.pair_of(made.material).bits == int(bits)
    assert (
        ("ENCRYPTED" in made.material["private_key"]) == ("passphrase" in made.material) == (form != "plain")
    )
    CAN.setter.set(there, made.ref, made.material)
    assert CAN.verifier.verify(there, made.material).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "private_key"),
        ("hello", "private_key"),
        ("-----BEGIN PUBLIC KEY-----", "private_key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "private_key"),
    ],
)
def test_a_text_that_is_no_key_names_its_field(text, field):
    """The check made before a key is saved tells which field is at fault, for the user and the administrator."""
    with pytest.raises(InvalidInput) as raised:
        check(Material({"private_key": text}))
    assert raised.value.facts["field"] == field
    if text:
        with pytest.raises(InvalidInput) as raised:
            check(Material({"admin_user": "A", "admin_private_key": text}))
        assert raised.value.facts["field"] == f"admin_{field}"


def test_another_key_and_the_bogus_one_are_rejected_alike(lab):
    """A key that is in no slot and the negative control get the same code, and nobody is locked out."""
    for _ in range(6):
        probe = CAN.verifier.verify(access(lab), material(1))
        assert (probe.verdict, probe.code) == (Verdict.REJECTED, "390144")
    bogus = CAN.verifier.verify(access(lab), CAN.verifier.bogus(material(0)))
    assert (bogus.verdict, bogus.code) == (Verdict.REJECTED, "390144")
    assert CAN.verifier.verify(access(lab), material(0)).verdict is Verdict.ACCEPTED


def test_a_disabled_user_is_not_a_dead_key(lab):
    """390101 is about the user: its key works again as soon as it is enabled."""
    lab.post("users", {"name": USER, "disabled": True})
    probe = CAN.verifier.verify(access(lab), material(0))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "390101")
    lab.post("users", {"name": USER, "disabled": False})
    assert CAN.verifier.verify(access(lab), material(0)).verdict is Verdict.ACCEPTED


def test_a_role_the_user_may_not_use_is_unknown(lab):
    """A wrong role says nothing about the key; the code and a hint do."""
    probe = CAN.verifier.verify(access(lab, role="NOPE"), material(0))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "390189")
    assert "role" in probe.detail


def test_a_locked_administrator_is_told_as_locked(lab):
    """A lock-out is no refusal; it carries a flag of its own."""
    wrong = Material({"admin_user": "KEYTURN_ADMIN", "admin_password": "not-it"})
    by = dataclasses.replace(access(lab), admin=wrong)
    for _ in range(5):
        with pytest.raises(CredentialRejected):
            CAN.lister.list(by)
    with pytest.raises(VendorUnavailable) as raised:
        CAN.lister.list(access(lab))
    assert raised.value.facts["locked"] is True


@pytest.mark.parametrize("op", ["login", "select"])
@pytest.mark.parametrize(
    "kind", ["answer_lost", "error_not_applied", "throttle", "html_page", "truncated", "redirect_foreign"]
)
def test_trouble_is_unknown(lab, op, kind):
    """Whatever is not the documented refusal of the key leaves the verdict open."""
    lab.arm(op, kind)
    assert CAN.verifier.verify(access(lab), material(0)).verdict is Verdict.UNKNOWN
    assert CAN.verifier.verify(access(lab), material(0)).verdict is Verdict.ACCEPTED


def test_a_slow_login_ends_within_the_deadline(lab):
    """A server that does not answer is given up in time."""
    lab.arm("login", "slow", seconds=4)
    by = dataclasses.replace(access(lab), deadline_s=3.0)
    probe = CAN.verifier.verify(by, material(0))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "timeout")


def test_a_closed_port_is_unknown(lab):
    """Nobody listening is no verdict."""
    by = dataclasses.replace(access(lab, port=9), network=NetworkPolicy(frozenset({"127.0.0.1"})))
    probe = CAN.verifier.verify(by, material(0))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "refused")


def test_the_wrong_identity_shows(lab):
    """A login that comes out as somebody else contradicts the pin."""
    pin = CAN.verifier.verify(access(lab), material(0)).identity
    lab.arm("select", "wrong_identity")
    assert mismatch(pin, CAN.verifier.verify(access(lab), material(0)).identity) == ("principal",)


def test_the_live_slot_is_found_by_fingerprint(lab):
    """A supplied key tells its fingerprint; the slot that shows it is the live one, whichever it is."""
    lab.post("users", {"name": USER, FIRST: None, SECOND: pair(0).public_key})
    assert CAN.locator.locate(access(lab), material(0)) == ref(0, SECOND)
    with pytest.raises(InvalidInput):
        CAN.locator.locate(access(lab), material(1))
    listed = CAN.lister.list(access(lab))
    assert len(listed) == 1
    assert listed[0].created_at is not None


@pytest.mark.parametrize("own", [False, True])
def test_a_whole_rotation(lab, own):
    """Administrator or self: make, set, prove, unset, prove dead; each change may be repeated."""
    lab.post("settings", {"self_keys": True})
    by = access(lab, own=own)
    candidate = CAN.maker.make(by, Ref(slot=SECOND))
    assert (candidate.ref.id, candidate.ref.slot) == (SECOND, SECOND)
    assert candidate.ref.fingerprint == rsa.load(candidate.material["private_key"]).fingerprint
    assert CAN.verifier.verify(by, candidate.material).verdict is Verdict.REJECTED
    for _ in range(2):
        CAN.setter.set(by, candidate.ref, candidate.material)
    assert lab.slots() == {FIRST: pair(0).fingerprint, SECOND: candidate.ref.fingerprint}
    assert candidate.ref in [r.ref for r in CAN.lister.list(by)]
    for key in (material(0), candidate.material):
        assert CAN.verifier.verify(by, key).verdict is Verdict.ACCEPTED
    after = dataclasses.replace(by, acting=candidate.material)
    for _ in range(2):
        CAN.revoker.revoke(after, ref(0, FIRST), material(0))
    assert lab.slots() == {SECOND: candidate.ref.fingerprint}
    assert CAN.verifier.verify(by, material(0)).verdict is Verdict.REJECTED
    assert CAN.verifier.verify(by, candidate.material).verdict is Verdict.ACCEPTED


def test_a_key_is_made_for_a_named_slot_only(lab):
    """The candidate says where it will be; a place that is no slot is refused."""
    with pytest.raises(InvalidInput):
        CAN.maker.make(access(lab), Ref())


def test_a_strangers_key_is_never_overwritten(lab):
    """Setting into a slot that holds another key changes nothing and names that key's fingerprint."""
    lab.post("users", {"name": USER, SECOND: pair(2).public_key})
    with pytest.raises(Conflict) as raised:
        CAN.setter.set(access(lab), ref(1, SECOND), material(1))
    assert raised.value.facts["fingerprint"] == pair(2).fingerprint
    assert lab.slots()[SECOND] == pair(2).fingerprint


def test_a_strangers_key_is_never_unset(lab):
    """When our key's slot holds another one by now, a person has to look; it stays."""
    lab.post("users", {"name": USER, SECOND: pair(2).public_key})
    with pytest.raises(UnexpectedAnswer):
        CAN.revoker.revoke(access(lab), ref(1, SECOND), None)
    assert lab.slots() == {FIRST: pair(0).fingerprint, SECOND: pair(2).fingerprint}


def test_a_key_copied_to_the_other_slot_is_unset_there_too(lab):
    """Some teams copy the new key into slot 1: revoking ends the key, not just a place."""
    lab.post("users", {"name": USER, FIRST: pair(1).public_key, SECOND: pair(1).public_key})
    CAN.revoker.revoke(access(lab), ref(1, SECOND), None)
    assert lab.slots() == {}


def test_an_empty_slot_counts_as_revoked(lab):
    """Already gone is done, and no statement is sent."""
    CAN.revoker.revoke(access(lab), ref(1, SECOND), None)
    assert "alter_user_unset" not in lab.get("effects")


def test_a_key_without_fingerprint_is_not_revoked_by_place(lab):
    """A slot alone names nobody; with the key at hand its fingerprint is computed."""
    with pytest.raises(InvalidInput):
        CAN.revoker.revoke(access(lab), Ref(id=FIRST, slot=FIRST), None)
    CAN.revoker.revoke(access(lab), Ref(id=FIRST, slot=FIRST), material(0))
    assert lab.slots() == {}


@pytest.mark.parametrize("kind", ["answer_lost", "truncated", "error_not_applied"])
def test_an_unclear_answer_to_set_is_unknown_and_the_list_tells(lab, kind):
    """The statement is sent once; the fingerprint then says whether it happened; the same set again is safe."""
    lab.arm("alter_user_set", kind)
    with pytest.raises(OutcomeUnknown):
        CAN.setter.set(access(lab), ref(1, SECOND), material(1))
    happened = any(r.ref == ref(1, SECOND) for r in CAN.lister.list(access(lab)))
    assert happened == (kind != "error_not_applied")
    assert sum(call["op"] == "alter_user_set" for call in lab.get("log")) == 1
    CAN.setter.set(access(lab), ref(1, SECOND), material(1))
    assert lab.slots()[SECOND] == pair(1).fingerprint


def test_a_lost_answer_to_unset_is_unknown(lab):
    """Unsetting may be repeated after a look."""
    lab.arm("alter_user_unset", "answer_lost")
    with pytest.raises(OutcomeUnknown):
        CAN.revoker.revoke(access(lab), ref(0, FIRST), None)
    CAN.revoker.revoke(access(lab), ref(0, FIRST), None)
    assert lab.get("effects").count("alter_user_unset") == 1


def test_a_throttled_set_changed_nothing(lab):
    """A throttle is definite, for the statement as for the login."""
    for op in ("alter_user_set", "login"):
        lab.arm(op, "throttle")
        with pytest.raises(VendorThrottled):
            CAN.setter.set(access(lab), ref(1, SECOND), material(1))
    assert SECOND not in lab.slots()


def test_a_refused_key_is_a_refused_value(lab):
    """The account's policy says no to this key: nothing changed, another may pass."""
    lab.arm("alter_user_set", "refuse_value")
    with pytest.raises(ValueRefused):
        CAN.setter.set(access(lab), ref(1, SECOND), material(1))
    assert SECOND not in lab.slots()


def test_a_missing_privilege_is_named(lab):
    """The user may not set its own keys unless it was granted; Snowflake's name for it is told."""
    with pytest.raises(PermissionMissing) as raised:
        CAN.setter.set(access(lab, own=True), ref(1, SECOND), material(1))
    assert "PROGRAMMATIC AUTHENTICATION" in raised.value.facts["right"]


def test_a_session_that_was_killed_is_an_outage(lab, monkeypatch):
    """The statement did not run, so the same call may be made again."""
    run = client.Session.run

    def kill_first(self, sql, **more):
        if sql.startswith("ALTER"):
            lab.post("sessions", {"user": "KEYTURN_ADMIN", "state": "killed"})
        return run(self, sql, **more)

    monkeypatch.setattr(client.Session, "run", kill_first)
    with pytest.raises(VendorUnavailable):
        CAN.setter.set(access(lab), ref(1, SECOND), material(1))
    assert SECOND not in lab.slots()


def test_a_login_name_that_differs_is_translated(lab):
    """SQL gets the exact NAME, found by the login name, although another user is named like the login."""
    lab.post("users", {"name": 'odd "name"', "login_name": "SERVICE_LOGIN", FIRST: pair(3).public_key})
    lab.post("users", {"name": "SERVICE_LOGIN", "login_name": "OTHER"})
    by = access(lab, user="service_login", role="")
    assert [r.ref.fingerprint for r in CAN.lister.list(by)] == [pair(3).fingerprint]
    assert CAN.verifier.verify(by, material(3)).identity["principal"] == 'odd "name"'


def test_an_unknown_user_is_not_found(lab):
    """A mistyped user is told as such when an administrator looks."""
    with pytest.raises(NotFound):
        CAN.lister.list(access(lab, user="NOBODY"))


def test_an_administrator_may_use_a_key_pair(lab):
    """With a key the administrator's password is not used at all."""
    lab.post("users", {"name": "KEYTURN_ADMIN", FIRST: pair(3).public_key})
    admin = Material({"admin_user": "KEYTURN_ADMIN", "admin_private_key": pair(3).private_pem.reveal()})
    assert CAN.lister.list(dataclasses.replace(access(lab), admin=admin))


def test_dropping_the_user_ends_it(lab):
    """The user is gone, twice is harmless, and a user does not drop itself."""
    with pytest.raises(InvalidInput):
        CAN.dropper.drop(access(lab, own=True))
    for _ in range(2):
        CAN.dropper.drop(access(lab))
    assert USER not in {f.name for f in CAN.discoverer.discover(access(lab))}
    probe = CAN.verifier.verify(access(lab), material(0))
    assert (probe.verdict, probe.code) == (Verdict.REJECTED, "390144")


def test_discovery_shows_users_and_integrations(lab):
    """What is like the pattern is shown, with how it logs in; with fewer rights less is shown."""
    lab.post("integrations", {"name": "GS_OAUTH"})
    found = {f.name: f for f in CAN.discoverer.discover(access(lab, discover_like="GS%"))}
    assert set(found) == {USER, "GS_LEGACY_USER", "GS_OAUTH"}
    assert found["GS_OAUTH"].kind == "security_integration"
    assert found[USER].facts["has_key_pair"] is True
    assert found["GS_LEGACY_USER"].facts["flags"] == ["password and no key pair"]
    assert USER in {f.name for f in CAN.discoverer.discover(access(lab, own=True))}


def test_no_call_is_made_inside_a_transaction(lab):
    """The door refuses before anything is sent; making a key needs no network."""
    by = access(lab)
    before = len(lab.get("log"))
    with boundary.transaction():
        for call in (
            lambda: CAN.verifier.verify(by, material(0)),
            lambda: CAN.lister.list(by),
            lambda: CAN.setter.set(by, ref(1, SECOND), material(1)),
            lambda: CAN.revoker.revoke(by, ref(0, FIRST), None),
            lambda: CAN.dropper.drop(by),
            lambda: CAN.discoverer.discover(by),
        ):
            with pytest.raises(CallInsideTransaction):
                call()
        CAN.maker.make(by, Ref(slot=SECOND))
    assert len(lab.get("log")) == before


@pytest.mark.parametrize("policy", [NetworkPolicy(), NetworkPolicy(frozenset({"example.com"}))])
def test_plain_http_needs_the_operators_word(lab, policy):
    """Without the host in the network policy nothing is sent."""
    with pytest.raises(InvalidInput):
        CAN.lister.list(dataclasses.replace(access(lab), network=policy))


def test_a_private_address_needs_the_operators_word(lab):
    """With https as well: a name that leads to loopback is not called."""
    with pytest.raises(NotPermitted):
        CAN.lister.list(dataclasses.replace(access(lab, protocol="https"), network=NetworkPolicy()))


def test_an_old_driver_is_refused(lab, monkeypatch):
    """Before version 5 the driver repeats statements by itself, so it is not used."""
    monkeypatch.setattr("snowflake.connector.__version__", "4.8.1")
    with pytest.raises(InvalidInput):
        CAN.lister.list(access(lab))


def test_every_session_is_closed(lab):
    """Each login ends with a log-out, after success and after failure."""
    CAN.lister.list(access(lab))
    lab.arm("desc_user", "error_not_applied")
    with pytest.raises(VendorUnavailable):
        CAN.lister.list(access(lab))
    ops = [call["op"] for call in lab.get("log")]
    assert ops.count("login") == ops.count("logout") == 2


def test_secrets_stay_out_of_errors_and_logs(lab, caplog):
    """With every logger at DEBUG neither key nor password nor statement is in a record, a message or a traceback."""
    caplog.set_level(logging.DEBUG)
    texts = []
    for op, kind in (
        ("alter_user_set", "answer_lost"),
        ("alter_user_set", "refuse_value"),
        ("login", "html_page"),
    ):
        lab.arm(op, kind)
        try:
            CAN.setter.set(access(lab), ref(1, SECOND), material(1))
        except KeyturnError as error:
            texts.append(f"{error} {error.hint} {error.facts} {''.join(traceback.format_exception(error))}")
        lab.post("users", {"name": USER, SECOND: None})
    seen = "".join(texts) + caplog.text
    assert len(texts) == 3
    bodies = [line for n in (0, 1) for line in material(n)["private_key"].splitlines()[1:-1]]
    for secret in (DEMO_PASSWORD, pair(1).public_key, *bodies):
        assert secret not in seen
