"""Datasphere's database users against the stand-in: what is found out before a reset, and what a login may say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compliance.lab import StandIn

from keyturn.connectors.sap_datasphere import client
from keyturn.connectors.sap_datasphere.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import (
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict
from keyturn_lab.standin import running
from keyturn_lab.vendors.sap_datasphere.server import create_app

USER, SECOND = "SALES#GAINSIGHT", "SALES#GAINSIGHT_B"
ONE, TWO = {"users": "one by the hub"}, {"users": "two", "user_a": USER, "user_b": SECOND}
NETWORK = NetworkPolicy(frozenset({"127.0.0.1", "localhost"}))


@pytest.fixture
def there() -> Iterator[StandIn]:
    with running(create_app()) as url:
        made = StandIn(url)
        made.post("dials", {"latency_s": 0})
        yield made


def fresh(there: StandIn, user: str = USER) -> Material:
    password = there.post("users", {"name": user, "password": True})["password"]
    return Material({"user": user, "password": password}, frozenset({"user"}))


def access(there: StandIn, acting: Material | None = None, *, role: bool = True, **more: Any) -> Access:
    where = there.get("sql")
    found = next(each for each in there.get("clients") if bool(each["spaces"]) is role)
    admin = {"admin_client_id": found["client_id"], "admin_client_secret": found["client_secret"]}
    place = {
        **where,
        "tls": False,
        "user": USER,
        "tenant": there.url,
        "token_url": f"{there.url}/oauth/token",
    }
    return Access({**place, **more}, acting, Material(admin), 5.0, NETWORK)


def issued(there: StandIn, settings: dict[str, str], slot: str = "", acting: Material | None = None) -> Any:
    can, using = capabilities("password", settings), access(there, acting, **settings)
    assert can.issuer is not None
    return can.issuer.read(using, can.issuer.issue(using, Ref(id=slot, slot=slot)))


def look(there: StandIn, material: Material, **more: Any) -> Probe:
    return capabilities("password", ONE).verifier.verify(access(there, **more), material)


def test_a_reset_is_found_in_the_discovery_document(there: StandIn) -> None:
    """Another path, another spelling of the field, no CSRF: all of it comes from the tenant."""
    old = fresh(there)
    for settings in (
        {},
        {"reset_path": "/dwaas-core/api/v2/{space}/users/{databaseuser}/reset", "password_field": "Password"},
        {"csrf": False},
    ):
        there.post("settings", settings)
        made = issued(there, ONE)
        assert look(there, made.material).verdict is Verdict.ACCEPTED
        assert look(there, old).code == "10"
        old = made.material


def test_a_token_that_ran_out_is_asked_for_once_more(there: StandIn) -> None:
    """Refused once, the same call is made again; refused twice, the client lacks the right."""
    there.post("settings", {"refuse_next_tokens": 1})
    assert issued(there, ONE).material["password"]
    there.post("settings", {"refuse_next_tokens": 2})
    with pytest.raises(PermissionMissing):
        issued(there, ONE)


def test_refusals_of_the_administration(there: StandIn) -> None:
    """No role, no such user, a wrong secret, too fast: each says what it is, and nothing was reset."""
    held = fresh(there)
    tenant = client.Tenant(access(there))
    with pytest.raises(NotFound):
        tenant.reset("SALES#NOBODY")
    with pytest.raises(NotFound):
        tenant.reset("NOSPACE#USER")
    with pytest.raises(PermissionMissing, match="may not reset"):
        client.Tenant(access(there, role=False)).reset(USER)
    with pytest.raises(PermissionMissing, match="OAuth client"):
        bad = access(there)
        wrong = Material({**(bad.admin or {}), "admin_client_secret": "ktlab-wrong"})
        client.Tenant(Access(bad.settings, None, wrong, 5.0, NETWORK)).reset(USER)
    with pytest.raises(PermissionMissing, match="needs an OAuth client"):
        client.Tenant(Access(bad.settings, None, None, 5.0, NETWORK))
    there.arm("reset", "throttle")
    with pytest.raises(VendorThrottled):
        tenant.reset(USER)
    assert look(there, held).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("kind", ["answer_lost", "error_not_applied", "redirect_foreign"])
def test_a_reset_without_a_clear_answer_is_unknown(there: StandIn, kind: str) -> None:
    """It may have been made; a second one settles it."""
    there.arm("reset", kind)
    with pytest.raises(OutcomeUnknown):
        client.Tenant(access(there)).reset(USER)
    assert look(there, issued(there, ONE).material).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"paths": {"/x": {"post": {"operationId": "dbusers create"}}}},
        {"paths": {"/x/{other}": {"post": {"operationId": client.OPERATION}}}},
        {"paths": {"//evil.example/x": {"post": {"operationId": client.OPERATION}}}},
        {"paths": {"https://evil.example/x": {"post": {"operationId": client.OPERATION}}}},
        {"paths": {"/x": {"delete": {"operationId": client.OPERATION}}}},
        {
            "paths": {
                "/x": {
                    "post": {
                        "operationId": client.OPERATION,
                        "parameters": [{"name": "confirm", "in": "query", "required": True}],
                    }
                }
            }
        },
    ],
)
def test_a_document_that_describes_something_else_calls_nothing(document: object) -> None:
    """Another host, a delete, a parameter nobody knows: no call is guessed."""
    with pytest.raises(UnexpectedAnswer):
        client._filled(client._operation(document), {"space": "S", "databaseuser": "S#U"})


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"password": "one"}, "one"),
        ({"result": [{"Password": "one", "username": "u"}]}, "one"),
        ({"password": "one", "copy": {"PASSWORD": "one"}}, "one"),
        ({"password": "one", "old": {"password": "two"}}, ""),
        ({"passwordPolicy": "x"}, ""),
        ({"password": 7}, ""),
        ([], ""),
    ],
)
def test_the_password_is_searched_for_and_never_guessed(answer: object, found: str) -> None:
    """Exactly one text under that name, in any case and depth."""
    raw = json.dumps(answer).encode()
    if found:
        assert client.password_in(raw) == found
    else:
        with pytest.raises(UnexpectedAnswer):
            client.password_in(raw)


def test_two_users_take_turns(there: StandIn) -> None:
    """The idle one is reset and the other lives on; retired, it is reset and nobody knows to what."""
    first = fresh(there)
    can, made = capabilities("password", TWO), issued(there, TWO, "user_b", first)
    assert (made.ref.slot, made.material["user"]) == ("user_b", SECOND)
    using = access(there, made.material, **TWO)
    seen = [can.verifier.verify(using, each).identity for each in (first, made.material)]
    assert seen[0]["principal"] == seen[1]["principal"] == f"{USER} or {SECOND}"
    assert can.revoker is not None
    can.revoker.revoke(using, Ref(id="user_a", slot="user_a"), first)
    assert can.verifier.verify(using, first).code == "10"
    assert can.verifier.verify(using, made.material).verdict is Verdict.ACCEPTED


def test_the_user_in_use_is_never_reset_for_a_new_one(there: StandIn) -> None:
    """Also when the plan named the wrong slot."""
    first = fresh(there)
    with pytest.raises(InvalidInput, match="in use"):
        issued(there, TWO, "user_a", first)
    assert look(there, first).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "more",
    [{"user_b": ""}, {"user_b": USER}, {"user_b": "FINANCE#OTHER"}, {"write_table": f"{USER}.TARGETS"}],
)
def test_users_that_cannot_take_turns_are_refused(there: StandIn, more: dict[str, str]) -> None:
    """One missing, twice the same, two spaces, or data in the schema of one of them."""
    settings = {**TWO, **more}
    with pytest.raises(InvalidInput):
        capabilities("password", settings).locator.locate(access(there, **settings), fresh(there))  # type: ignore[union-attr]


def test_reading_and_writing_are_part_of_the_test(there: StandIn) -> None:
    """A user that logs in and may not do its work is not good enough; HANA's number says why."""
    held = fresh(there)
    assert look(there, held, read_table="SALES.REVENUE").rights == {"CONNECT", "read_table"}
    for more, code in (
        ({"read_table": "FINANCE.LEDGER"}, "258"),
        ({"read_table": "SALES.NO_SUCH"}, "259"),
        ({"write_table": "SALES.REVENUE"}, "258"),
    ):
        found = look(there, held, **more)
        assert (found.verdict, found.code) == (Verdict.UNKNOWN, code)
    there.post("users", {"name": USER, "can_write": True})
    assert look(there, held, write_table="SALES.REVENUE").rights == {"CONNECT", "write_table"}
    with pytest.raises(InvalidInput):
        look(there, held, read_table='SALES"."X')


def test_a_lock_is_no_refusal_of_the_value(there: StandIn) -> None:
    """Six wrong logins lock the user: from then on the right password says nothing either, until a reset."""
    held = fresh(there)
    wrong = held.replacing(password="ktlab-wrong-password")
    assert [look(there, wrong).code for _ in range(6)] == ["10"] * 6
    found = look(there, held)
    assert (found.verdict, found.code, found.locked) == (Verdict.UNKNOWN, "416", True)
    assert look(there, issued(there, ONE).material).verdict is Verdict.ACCEPTED


def test_a_forced_change_and_a_lapsed_password_are_told(there: StandIn) -> None:
    """With Enable Password Lifetime a fresh password opens nothing yet."""
    there.post("users", {"name": USER, "has_lifetime": True})
    found = look(there, fresh(there))
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "414")
    assert "Enable Password Lifetime" in found.detail
    later = fresh(there)
    there.post("clock", {"advance_s": 90_000})
    assert look(there, later).code == "415"


def test_tls_takes_only_a_certificate_it_trusts(
    there: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown authority says nothing about the password, and the password does not leave."""
    held, where = fresh(there), there.get("sql")
    secure = {"port": where["tls_port"], "tls": True}
    assert (look(there, held, **secure).verdict, look(there, held, **secure).code) == (Verdict.UNKNOWN, "tls")
    authority = tmp_path / "authority.pem"
    authority.write_text(where["authority"])
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert look(there, held, **secure).verdict is Verdict.ACCEPTED
    assert look(there, held, **secure, host="localhost").verdict is Verdict.ACCEPTED


def test_no_answer_from_the_database_says_nothing(there: StandIn) -> None:
    """An address that is not allowed, a dropped login, TLS where there is none."""
    held = fresh(there)
    there.arm("sql_login", "answer_lost")
    assert look(there, held).code == "reset"
    there.post("settings", {"is_address_allowed": False})
    assert look(there, held).code == "reset"
    there.post("settings", {"is_address_allowed": True})
    assert look(there, held, tls=True).verdict is Verdict.UNKNOWN
    assert look(there, held).verdict is Verdict.ACCEPTED
