"""Snowflake's password connector against the lab's stand-in, through the official driver."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import resources
from typing import Any

import httpx2
import pytest

from keyturn.connectors.snowflake.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.definitions.system import read_system
from keyturn.errors import InvalidInput, OutcomeUnknown, PermissionMissing, ValueRefused, VendorUnavailable
from keyturn.model.card import Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab import standin
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.snowflake.server import create_app

CAN = capabilities("password", {})
USER, ROLE = "BASIC_USER", "GAINSIGHT_ROLE"
FIRST = "ktlab-First-password-1"
PLACE = Ref(id="PASSWORD", slot="PASSWORD")


class Lab:
    """The running stand-in and its admin doors."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, door: str, body: Any) -> None:
        assert httpx2.post(f"{self.url}/_lab/{door}", json=body, trust_env=False).is_success

    def get(self, door: str) -> Any:
        return httpx2.get(f"{self.url}/_lab/{door}", trust_env=False).json()

    def alive(self, kind: str = "password") -> list[str]:
        return [e["value"] for e in self.get("alive") if e["owner"] == USER and e["kind"] == kind]

    def effects(self) -> list[str]:
        return list(self.get("effects"))


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    with standin.running(create_app()) as url:
        yield Lab(url)


@pytest.fixture
def lab(server: Lab) -> Lab:
    server.post("reset", {})
    server.post("users", {"name": USER, "password": FIRST, "roles": [ROLE], "default_role": ROLE})
    return server


def material(password: str = FIRST) -> Material:
    return Material({"user": USER, "password": password}, frozenset({"user"}))


def access(lab: Lab, *, own: bool = False, **settings: Any) -> Access:
    host, port = lab.url.removeprefix("http://").split(":")
    place = {"account": "TESTACCT", "host": host, "port": int(port), "protocol": "http", "user": USER}
    return Access(
        settings={**place, **settings},
        acting=material(),
        admin=None if own else Material({"admin_user": "KEYTURN_ADMIN", "admin_password": DEMO_PASSWORD}),
        deadline_s=6.0,
        network=NetworkPolicy(frozenset({f"{host}:{port}"})),
    )


def test_the_card_names_the_date_and_the_lock_out() -> None:
    """S4: the set itself ends the old one; five refused passwords lock the user; the vendor withdraws the method."""
    text = (resources.files("keyturn.connectors.snowflake") / "definition.yaml").read_text()
    card = read_system(text, "snowflake").method("password").card
    assert card.strategy is Strategy.SET_ONE
    assert card.new_kills_old
    assert card.lockout is not None
    assert (card.lockout.max_failures, card.lockout.window_s, card.old_counts) == (5, 900, True)
    assert card.dies_on == "2026-10-31"


def test_a_new_password_fits_the_strictest_default_policy(lab: Lab) -> None:
    """The stand-in judges length and classes like the vendor's default policy, and takes it at once."""
    made = CAN.maker.make(access(lab), Ref())
    assert made.material["user"] == USER
    assert not set(made.material["password"]) & set("'\\\"$ ")
    CAN.setter.set(access(lab), made.ref, made.material)
    assert lab.alive() == [made.material["password"]]


def test_a_lost_answer_is_settled_although_history_refuses_the_same_again(lab: Lab) -> None:
    """The default policy refuses the present password as PRIOR_USE: a login then shows that it is the one."""
    made = CAN.maker.make(access(lab), Ref())
    lab.post("faults", [{"op": "alter_user_set", "kind": "answer_lost"}])
    with pytest.raises(OutcomeUnknown):
        CAN.setter.set(access(lab), made.ref, made.material)
    CAN.setter.set(access(lab), made.ref, made.material)
    assert lab.alive() == [made.material["password"]]
    assert lab.effects().count("alter_user_set") == 1


def test_a_password_used_before_and_not_present_is_refused(lab: Lab) -> None:
    """PRIOR_USE of a value that does not open the user is a definite no, and nothing was changed."""
    made = CAN.maker.make(access(lab), Ref())
    CAN.setter.set(access(lab), made.ref, made.material)
    with pytest.raises(ValueRefused) as raised:
        CAN.setter.set(access(lab), PLACE, material(FIRST))
    assert raised.value.facts["reason"] == "PRIOR_USE"
    assert lab.alive() == [made.material["password"]]


@pytest.mark.parametrize(
    "password", ["ktlab-o'b\\r\"x%-Aa1", "ktlab-${x}--;/*\\'-Aa1", "ktlab-日本-pässwörd-A1"]
)
def test_every_character_arrives_as_it_is(lab: Lab, password: str) -> None:
    """Quotes and backslashes are special in Snowflake's literals; none of them may change the value."""
    CAN.setter.set(access(lab), PLACE, material(password))
    assert lab.alive() == [password]
    assert CAN.verifier.verify(access(lab), material(password)).verdict is Verdict.ACCEPTED


def test_a_user_whose_type_knows_no_passwords_is_told_before_anything_is_sent(lab: Lab) -> None:
    """Service users refuse a password; the field is named and nothing was changed."""
    lab.post("users", {"name": USER, "type": "SERVICE"})
    with pytest.raises(InvalidInput) as raised:
        CAN.setter.set(access(lab), PLACE, material("ktlab-Another-password-2"))
    assert raised.value.facts["field"] == "user"
    assert "alter_user_set" not in lab.effects()


def test_the_user_itself_needs_ownership_of_itself(lab: Lab) -> None:
    """Snowflake lets nobody set his own password by ALTER USER; a role that owns the user may."""
    new = material("ktlab-Another-password-2")
    with pytest.raises(PermissionMissing) as raised:
        CAN.setter.set(access(lab, own=True), PLACE, new)
    assert "OWNERSHIP" in raised.value.facts["right"]
    lab.post("users", {"name": USER, "owner": ROLE})
    CAN.setter.set(access(lab, own=True), PLACE, new)
    assert lab.alive() == [new["password"]]


def test_the_inventory_tells_since_when_and_when_last_used(lab: Lab) -> None:
    """LOGIN_HISTORY is the evidence of last use: only logins by password count, and only successful ones."""
    (fresh,) = CAN.lister.list(access(lab))
    assert (fresh.ref, fresh.active, fresh.last_used_at) == (PLACE, True, None)
    assert fresh.created_at is not None
    assert CAN.verifier.verify(access(lab), material("ktlab-wrong-Password-1")).verdict is Verdict.REJECTED
    assert CAN.lister.list(access(lab))[0].last_used_at is None
    assert CAN.verifier.verify(access(lab), material()).verdict is Verdict.ACCEPTED
    (used,) = CAN.lister.list(access(lab))
    assert used.last_used_at is not None
    assert used.last_used_at >= fresh.created_at


def test_a_role_that_may_not_see_history_still_lists(lab: Lab) -> None:
    """Evidence is extra: without the right to see it the password is listed without a last use."""
    lab.post("users", {"name": USER, "owner": ROLE})
    lab.post("users", {"name": "OWNER", "password": DEMO_PASSWORD, "roles": [ROLE], "default_role": ROLE})
    admin = Material({"admin_user": "OWNER", "admin_password": DEMO_PASSWORD})
    CAN.verifier.verify(access(lab), material())
    with_owner = Access(**{**vars(access(lab)), "admin": admin})
    assert [r.last_used_at for r in CAN.lister.list(with_owner)] == [None]


def test_discovery_shows_where_the_user_logs_in_from(lab: Lab) -> None:
    """The guide's two SHOW statements with the user's own pattern, and the logins of this connection's user."""
    CAN.verifier.verify(access(lab), material())
    lab.post("integrations", {"name": "BASIC_INTEGRATION"})
    found = CAN.discoverer.discover(access(lab, discover_like="%basic%"))
    assert {(f.kind, f.name) for f in found if f.kind != "logins"} == {
        ("user", USER),
        ("security_integration", "BASIC_INTEGRATION"),
    }
    logins = [f.facts for f in found if f.kind == "logins"]
    assert [(f["factor"], f["address"], f["count"]) for f in logins] == [("PASSWORD", "127.0.0.1", 1)]


def test_revoking_leaves_the_users_keys_and_name_alone(lab: Lab) -> None:
    """UNSET PASSWORD ends this credential and nothing else; a second time finds nothing."""
    from keyturn.keymaking import rsa

    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": rsa.generate().public_key})
    for _ in range(2):
        CAN.revoker.revoke(access(lab), PLACE, material())
    assert lab.alive() == []
    assert len(lab.alive("public_key")) == 1
    assert CAN.lister.list(access(lab)) == ()
    assert CAN.verifier.verify(access(lab), material()).code == "390100"


def test_a_password_somebody_else_has_set_meanwhile_stays(lab: Lab) -> None:
    """Revoking an old value does not take the one that followed it."""
    lab.post("users", {"name": USER, "password": "ktlab-Somebody-elses-3"})
    CAN.revoker.revoke(access(lab), PLACE, material())
    assert lab.alive() == ["ktlab-Somebody-elses-3"]


def test_a_locked_user_is_not_touched(lab: Lab) -> None:
    """While the user is locked it cannot be told whose password it has: nothing is ended by guess."""
    for _ in range(5):
        CAN.verifier.verify(access(lab), material("ktlab-wrong-Password-1"))
    locked = CAN.verifier.verify(access(lab), material())
    assert (locked.verdict, locked.code, locked.locked) == (Verdict.UNKNOWN, "390102", True)
    with pytest.raises(VendorUnavailable):
        CAN.revoker.revoke(access(lab), PLACE, material())
    assert lab.alive() == [FIRST]


def test_a_disabled_user_can_still_lose_its_password(lab: Lab) -> None:
    """Disabled says nothing against the password, so it is unknown; ending it works all the same."""
    lab.post("users", {"name": USER, "disabled": True})
    assert CAN.verifier.verify(access(lab), material()).code == "390101"
    CAN.revoker.revoke(access(lab), PLACE, material())
    lab.post("users", {"name": USER, "disabled": False})
    assert lab.alive() == []


def test_dropping_disables_first_and_twice_is_once(lab: Lab) -> None:
    """Disabled ends running queries, dropped ends sessions; a user that is gone is done."""
    for _ in range(2):
        CAN.dropper.drop(access(lab))
    assert [e for e in lab.effects() if e in {"alter_user_set", "drop_user"}] == [
        "alter_user_set",
        "drop_user",
    ]
    assert lab.alive() == []
    with pytest.raises(InvalidInput):
        CAN.dropper.drop(access(lab, own=True))


def test_a_user_that_is_given_up_may_be_kept(lab: Lab) -> None:
    """Somebody else may still need it: it is disabled, and stays to be enabled again."""
    reach = access(lab)
    kept = dataclasses.replace(reach, settings={**reach.settings, "given_up": "disable"})
    for _ in range(2):
        CAN.dropper.drop(kept)
    assert {e for e in lab.effects() if e in {"alter_user_set", "drop_user"}} == {"alter_user_set"}
    (user,) = [u for u in CAN.discoverer.discover(reach) if u.kind == "user" and u.name == USER]
    assert "disabled" in user.facts["flags"]


@pytest.mark.parametrize(
    ("how", "code", "words"), [("mfa", "390197", "key pair"), ("policy", "390202", "policy")]
)
def test_a_withdrawn_login_says_nothing_of_the_password(lab: Lab, how: str, code: str, words: str) -> None:
    """Where passwords alone are let in no more the right one is no dead one: unknown, with the way out, and no lock-out."""
    lab.post("users", {"name": USER, "password_alone": how})
    for _ in range(6):
        probe = CAN.verifier.verify(access(lab), material())
        assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, code)
        assert words in probe.detail
    lab.post("users", {"name": USER, "password_alone": None})
    assert CAN.verifier.verify(access(lab), material()).verdict is Verdict.ACCEPTED
