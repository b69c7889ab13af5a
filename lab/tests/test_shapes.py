"""The vendor of every shape behaves as the fault matrix needs it: the shapes, the faults, the oracle."""

import hashlib
import os
import signal
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from keyturn_lab.vendors.shapes import Client, Refused, Shapes, Unanswered, faults_for

LAG_S = 0.03
VERIFIER = "verifier-of-a-test"
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def shapes() -> Iterator[Shapes]:
    with Shapes.in_thread() as running:
        yield running


class Case:
    """One principal: `hub` calls as the product does, `lab` is the oracle and the person."""

    def __init__(self, shapes: Shapes, shape: str, **options: Any) -> None:
        self.shapes = shapes
        self.name = f"p{time.monotonic_ns()}"
        self.said = shapes.client.call("create", principal=self.name, shape=shape, options=options)
        self.first = self.said["credential"]
        self.value = self.first["value"] if "value" in self.first else self.first["access_token"]

    def hub(self, op: str, auth: str = "", **params: Any) -> Any:
        client = Client(self.shapes.address, by="hub", keep=False, deadline_s=1.0)
        return client.call(op, principal=self.name, auth=auth or self.value, **params)

    def lab(self, op: str, **params: Any) -> Any:
        return self.shapes.client.call(op, principal=self.name, **params)

    def person(self, op: str, **params: Any) -> Any:
        return self.lab(op, by="person", **params)

    def arm(self, kind: str, op: str = "*", **params: Any) -> Any:
        return self.shapes.client.arm(self.name, kind, op, **params)

    def verdict(self, value: str, **params: Any) -> str:
        return str(self.hub("login", value=value, **params)["verdict"])

    def usable(self) -> set[str]:
        return {each["value"] for each in self.lab("alive") if each["usable"]}

    def changes(self) -> list[str]:
        return [each["op"] for each in self.lab("history") if each["changed"]]

    def consent(self, **more: Any) -> str:
        asked = {"redirect_uri": "http://hub/cb", "challenge": CHALLENGE, **more}
        return str(self.person("consent", **asked)["code"])

    def exchange(self, code: str) -> Any:
        return self.hub("exchange", code=code, verifier=VERIFIER, redirect_uri="http://hub/cb")


def refused(case: Case, op: str, **params: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        case.hub(op, **params)
    return caught.value


# -- shapes --------------------------------------------------------------------------------------------------------


def test_two_slots(shapes: Shapes) -> None:
    """Both slots work at once, each shows its fingerprint, and a cleared one is dead."""
    case = Case(shapes, "two_slots")
    made = case.hub("set", slot="b", value="new-value")
    assert case.verdict(case.value) == case.verdict("new-value") == "accepted"
    assert {each["slot"]: each["fingerprint"] for each in case.hub("list")}["b"] == made["fingerprint"]
    case.hub("clear", auth="new-value", slot="a")
    assert case.usable() == {"new-value"}


def test_set_is_absolute(shapes: Shapes) -> None:
    """The same value again changes nothing."""
    case = Case(shapes, "two_slots")
    first = case.hub("set", slot="b", value="new-value")
    assert case.hub("set", slot="b", value="new-value")["id"] == first["id"]
    assert case.changes() == ["set"]


def test_clear_spares_another_value(shapes: Shapes) -> None:
    """A clear that names a fingerprint leaves a slot alone that holds another value by now."""
    case = Case(shapes, "two_slots")
    assert case.hub("clear", slot="a", fingerprint="of-another")["gone"]
    assert case.usable() == {case.value}


def test_many_ids(shapes: Shapes) -> None:
    """Values are shown once, labels and last use are listed, off is reversible, a delete is final, the cap holds."""
    case = Case(shapes, "many_ids", cap=3)
    made = case.hub("issue", label="mine")
    assert refused(case, "issue").error == "cap"
    assert case.verdict(made["value"]) == "accepted"
    listed = {each["id"]: each for each in case.hub("list")}[made["id"]]
    assert (listed["label"], listed["last_used_at"] is None, "value" in listed) == ("mine", False, False)
    case.hub("disable", id=made["id"])
    assert case.hub("login", value=made["value"])["code"] == "disabled"
    case.hub("enable", id=made["id"])
    assert case.verdict(made["value"]) == "accepted"
    case.hub("delete", id=made["id"])
    assert case.hub("login", value=made["value"])["code"] == "invalid_credentials"
    assert refused(case, "delete", id=made["id"]).error == "not_found"


def test_stranger_is_listed_and_told_apart(shapes: Shapes) -> None:
    """Somebody else's credential counts in the inventory, and the oracle knows whose it is."""
    case = Case(shapes, "many_ids")
    [stranger] = case.said["strangers"]
    assert stranger in {each["id"] for each in case.hub("list")}
    assert {each["by"] for each in case.lab("alive") if each["id"] == stranger} == {"stranger"}


@pytest.mark.parametrize("reviewable", [False, True])
def test_named_slots(shapes: Shapes, reviewable: bool) -> None:
    """The vendor fills the idle slot without harm to the other; only a reviewable value can be read again."""
    case = Case(shapes, "named_slots", reviewable=reviewable)
    made = case.hub("regenerate", slot="k2")
    assert case.usable() == {case.value, made["value"]}
    if reviewable:
        assert case.hub("review", slot="k2")["value"] == made["value"]
    else:
        assert refused(case, "review", slot="k2").error == "unsupported"


def test_one_slot_with_administrator(shapes: Shapes) -> None:
    """The administrator sets it whatever the old value is, and the old dies at that moment."""
    case = Case(shapes, "one_slot")
    case.hub("set", auth=case.said["admin"], slot="password", value="new-value")
    assert (case.verdict(case.value), case.verdict("new-value")) == ("rejected", "accepted")


def test_one_slot_self(shapes: Shapes) -> None:
    """Without an administrator only the value that works can set another."""
    case = Case(shapes, "one_slot", admin=False)
    assert case.said["admin"] == ""
    case.hub("set", slot="password", value="new-value")
    assert refused(case, "set", slot="password", value="third").error == "unauthorized"
    assert case.usable() == {"new-value"}


def test_password_history(shapes: Shapes) -> None:
    """A vendor that remembers refuses a value used before, but not the present one."""
    case = Case(shapes, "one_slot", remembers=True)
    admin = case.said["admin"]
    for value in ("new-value", "new-value"):
        case.hub("set", auth=admin, slot="password", value=value)
    assert refused(case, "set", auth=admin, slot="password", value=case.value).facts["why"] == "history"


def test_regenerate(shapes: Shapes) -> None:
    """The new value kills the old."""
    case = Case(shapes, "regenerate")
    made = case.hub("regenerate")
    assert (case.verdict(case.value), case.verdict(made["value"])) == ("rejected", "accepted")


def test_supplied_is_for_people(shapes: Shapes) -> None:
    """Only a person makes and deletes; the id can be told from the value."""
    case = Case(shapes, "supplied")
    assert refused(case, "issue").error == "forbidden"
    made = case.person("issue")
    assert made["value"].partition("/")[0] == made["id"]
    assert case.verdict(made["value"]) == "accepted"
    assert refused(case, "delete", id=made["id"]).error == "forbidden"
    case.person("delete", id=made["id"])
    assert case.verdict(made["value"]) == "rejected"


def test_grant(shapes: Shapes) -> None:
    """Consent gives a code, the code works once and with its verifier only, and both grants live side by side."""
    case = Case(shapes, "grant")
    assert refused(case, "consent").error == "forbidden"
    code = case.consent()
    assert refused(case, "exchange", code=code, verifier="wrong").error == "invalid_grant"
    tokens = case.exchange(code)
    assert case.verdict(tokens["access_token"]) == case.verdict(case.value) == "accepted"
    assert case.verdict(tokens["refresh_token"]) == "rejected"
    with pytest.raises(Refused):
        case.exchange(code)


def test_fewer_rights_and_no_refresh_token(shapes: Shapes) -> None:
    """A person may grant less than asked."""
    case = Case(shapes, "grant")
    tokens = case.exchange(case.consent(rights=["read"], offline=False))
    assert "refresh_token" not in tokens
    assert case.hub("login", value=tokens["access_token"])["rights"] == ["read"]


def test_two_refreshes_in_a_row(shapes: Shapes) -> None:
    """Refresh tokens rotate; a spent one works within its leeway and not after."""
    case = Case(shapes, "grant", leeway_s=LAG_S)
    first = case.first["refresh_token"]
    second = case.hub("refresh", value=first)["refresh_token"]
    again = case.hub("refresh", value=first)["refresh_token"]
    assert again == second != first
    third = case.hub("refresh", value=second)
    assert case.verdict(third["access_token"]) == "accepted"
    time.sleep(LAG_S)
    assert refused(case, "refresh", value=first).error == "invalid_grant"
    assert case.verdict(case.hub("refresh", value=third["refresh_token"])["access_token"]) == "accepted"


@pytest.mark.parametrize(("scope", "left"), [("credential", "accepted"), ("grant", "rejected")])
def test_revoke_scope(shapes: Shapes, scope: str, left: str) -> None:
    """A revoke ends one grant or all of the principal's, as the vendor has it; an unknown token is fine."""
    case = Case(shapes, "grant", revoke_scope=scope)
    tokens = case.exchange(case.consent())
    case.hub("revoke", value=case.first["refresh_token"])
    assert (case.verdict(case.value), case.verdict(tokens["access_token"])) == ("rejected", left)
    assert case.hub("revoke", value="never-seen")["gone"]


def test_drop(shapes: Shapes) -> None:
    """A dropped principal has nothing left."""
    case = Case(shapes, "two_slots")
    case.hub("drop")
    assert case.lab("alive") == []
    assert case.verdict(case.value) == "rejected"
    assert refused(case, "drop").error == "not_found"


# -- faults --------------------------------------------------------------------------------------------------------


def test_answer_lost(shapes: Shapes) -> None:
    """The effect happened, the caller hears nothing, and the next call is well again."""
    case = Case(shapes, "two_slots")
    case.arm("answer_lost", "set")
    with pytest.raises(Unanswered) as caught:
        case.hub("set", slot="b", value="new-value")
    assert caught.value.sent
    assert "new-value" in case.usable()


def test_applied_late(shapes: Shapes) -> None:
    """The effect comes after the caller gave up, at the time it was due."""
    case = Case(shapes, "many_ids")
    case.arm("applied_late", "issue", seconds=LAG_S)
    with pytest.raises(Unanswered):
        case.hub("issue")
    sent_at = case.lab("inspect")["now"]
    assert case.lab("history") == []
    time.sleep(LAG_S)
    [made] = case.lab("history")
    assert made["late"]
    assert 0 < made["at"] - sent_at <= LAG_S


def test_error_not_applied(shapes: Shapes) -> None:
    """A plain error changed nothing."""
    case = Case(shapes, "many_ids")
    case.arm("error_not_applied", "issue")
    assert refused(case, "issue").facts["status"] == 503
    assert case.lab("history") == []


def test_timeout_not_applied(shapes: Shapes) -> None:
    """Silence, then a closed connection, and nothing changed; others are served meanwhile."""
    case = Case(shapes, "regenerate")
    case.arm("timeout_not_applied", "regenerate", seconds=2 * LAG_S)
    started = time.monotonic()

    def call() -> None:
        with pytest.raises(Unanswered):
            case.hub("regenerate")

    waiting = threading.Thread(target=call)
    waiting.start()
    case.lab("ping")
    assert time.monotonic() - started < 2 * LAG_S
    waiting.join()
    assert time.monotonic() - started >= 2 * LAG_S
    assert case.lab("history") == []


def test_throttle_storm(shapes: Shapes) -> None:
    """Just so many calls are told to wait."""
    case = Case(shapes, "two_slots")
    case.arm("throttle_storm", times=2, seconds=0.5)
    for _ in range(2):
        assert refused(case, "list").facts["wait_s"] == 0.5
    assert case.hub("list")


def test_lag(shapes: Shapes) -> None:
    """For a while the new one is refused, the deleted one accepted, and the inventory stale."""
    case = Case(shapes, "many_ids")
    case.arm("lag", times=2, seconds=LAG_S)
    made = case.hub("issue")
    case.hub("delete", id=case.first["id"])
    assert (case.verdict(made["value"]), case.verdict(case.value)) == ("rejected", "accepted")
    listed = {each["id"] for each in case.hub("list")}
    assert (made["id"] in listed, case.first["id"] in listed) == (False, True)
    assert {each["id"] for each in case.lab("alive") if each["ended"]} == {case.first["id"]}
    time.sleep(LAG_S)
    assert (case.verdict(made["value"]), case.verdict(case.value)) == ("accepted", "rejected")
    listed = {each["id"] for each in case.hub("list", auth=made["value"])}
    assert (made["id"] in listed, case.first["id"] in listed) == (True, False)


@pytest.mark.parametrize("op", ["issue", "login"])
def test_wrong_identity(shapes: Shapes, op: str) -> None:
    """What was made belongs to another account, is not in our inventory, and only its holder can end it."""
    case = Case(shapes, "many_ids")
    case.arm("wrong_identity", op)
    if op == "login":
        assert case.hub("login", value=case.value)["tenant"] == "globex"
        return
    made = case.hub("issue")
    assert case.hub("login", value=made["value"])["principal"] != case.name
    assert made["id"] not in {each["id"] for each in case.hub("list")}
    assert case.hub("list", auth=made["value"]) == []
    assert refused(case, "delete", id=made["id"]).error == "not_found"
    assert refused(case, "delete", id=case.first["id"], auth=made["value"]).error == "forbidden"
    case.hub("delete", id=made["id"], value=made["value"])
    assert made["value"] not in case.usable()


def test_wrong_person_consents_or_pastes(shapes: Shapes) -> None:
    """A consent and a pasted key can belong to another account too."""
    grant = Case(shapes, "grant")
    grant.arm("wrong_identity", "exchange")
    tokens = grant.exchange(grant.consent())
    assert grant.hub("login", value=tokens["access_token"])["tenant"] == "globex"
    supplied = Case(shapes, "supplied")
    supplied.arm("wrong_identity", "issue")
    assert supplied.hub("login", value=supplied.person("issue")["value"])["tenant"] == "globex"


def test_value_refused(shapes: Shapes) -> None:
    """Policy refuses so many values and then takes one."""
    case = Case(shapes, "one_slot")
    case.arm("value_refused", "set", times=2)
    call = {"auth": case.said["admin"], "slot": "password"}
    for _ in range(2):
        assert refused(case, "set", value="weak", **call).error == "refused"
    case.hub("set", value="strong", **call)
    assert case.usable() == {"strong"}


def test_cap_reached(shapes: Shapes) -> None:
    """Strangers fill every place, and leave by themselves where told so."""
    case = Case(shapes, "many_ids", cap=4)
    came = case.arm("cap_reached", seconds=LAG_S)["strangers"]
    assert len(came) == 2
    assert refused(case, "issue").error == "cap"
    time.sleep(LAG_S)
    case.hub("issue")
    assert {each["by"] for each in case.lab("history") if each["id"] in came} == {"stranger"}


def test_occupied_slot(shapes: Shapes) -> None:
    """Where there are slots, the free one is taken."""
    case = Case(shapes, "two_slots")
    [came] = case.arm("cap_reached")["strangers"]
    assert {each["slot"]: each["id"] for each in case.hub("list")}["b"] == came


def test_revoke_takes_siblings(shapes: Shapes) -> None:
    """Ending one ends all, and the oracle tells what was not asked for."""
    case = Case(shapes, "many_ids")
    made = case.hub("issue")
    case.arm("revoke_takes_siblings", "delete")
    case.hub("delete", id=case.first["id"], auth=made["value"])
    assert case.usable() == set()
    collateral = {each["id"] for each in case.lab("history") if each.get("collateral")}
    assert collateral == {made["id"], *case.said["strangers"]}


def test_lockout(shapes: Shapes) -> None:
    """Wrong logins lock the account for its right password too, but not for its administrator; nobody's do not count."""
    case = Case(shapes, "one_slot")
    case.arm("lockout", max_failures=2, seconds=LAG_S)
    for _ in range(3):
        assert case.verdict("wrong", user="nobody") == "rejected"
    assert [case.verdict("wrong") for _ in range(2)] == ["rejected", "rejected"]
    assert (case.verdict(case.value), case.verdict(case.said["admin"])) == ("locked", "accepted")
    assert (case.usable(), case.lab("inspect")["locked"]) == (set(), True)
    assert sum(each["counted"] for each in case.lab("logins")) == 2
    time.sleep(LAG_S)
    assert case.verdict(case.value) == "accepted"


def test_self_path_meets_the_lock(shapes: Shapes) -> None:
    """A call signed with a dead value is a failed login like any other."""
    case = Case(shapes, "one_slot", admin=False, lockout={"max_failures": 1, "window_s": 60})
    assert refused(case, "set", auth="wrong", slot="password", value="new").error == "unauthorized"
    assert refused(case, "set", slot="password", value="new").error == "locked"
    case.lab("unlock")
    case.hub("set", slot="password", value="new")


@pytest.mark.parametrize("is_second", [False, True])
def test_second_change_in_grace(shapes: Shapes, is_second: bool) -> None:
    """The old value lives on for the grace, unless it is changed again within it."""
    case = Case(shapes, "regenerate")
    case.arm("second_change_in_grace", seconds=LAG_S)
    made = case.hub("regenerate")
    if is_second:
        assert case.usable() == {case.value, made["value"]}
        last = case.hub("regenerate", auth=made["value"])
        assert case.usable() == {last["value"]}
    else:
        time.sleep(LAG_S)
        assert case.usable() == {made["value"]}


def test_accept_everything(shapes: Shapes) -> None:
    """A login that proves nothing deceives the caller, never the oracle."""
    case = Case(shapes, "two_slots")
    case.arm("accept_everything", "login")
    assert case.verdict("made-up") == case.verdict("made-up", user="nobody") == "accepted"
    assert case.usable() == {case.value}


def test_unknown_arms_are_refused(shapes: Shapes) -> None:
    """A fault that can never strike is a mistake in the test, and is said so."""
    case = Case(shapes, "regenerate")
    for kind, op in (
        ("lag", "login"),
        ("value_refused", "issue"),
        ("lag", "delete"),
        ("nonsense", "*"),
        ("cap_reached", "*"),
    ):
        with pytest.raises(Refused) as caught:
            case.arm(kind, op)
        assert caught.value.error == "bad_request"


@pytest.mark.parametrize(
    "shape", ["two_slots", "many_ids", "named_slots", "one_slot", "regenerate", "supplied", "grant"]
)
def test_every_listed_fault_can_be_armed(shapes: Shapes, shape: str) -> None:
    """What `faults_for` lists is what `arm` takes."""
    for op, kind in faults_for(shape):
        Case(shapes, shape).arm(kind, op, seconds=0.01)


def test_fault_for_one_caller(shapes: Shapes) -> None:
    """A fault can be kept for the hub, so that the person is served."""
    case = Case(shapes, "supplied")
    case.arm("error_not_applied", "*", only_by="hub")
    case.person("issue")
    assert refused(case, "list").error == "unavailable"


# -- the server ----------------------------------------------------------------------------------------------------


def test_reset_and_advance() -> None:
    """Time can be pushed forward, which lands what was due, and a reset forgets all."""
    with Shapes.in_thread() as shapes:
        case = Case(shapes, "many_ids")
        case.arm("applied_late", "issue", seconds=3600)
        with pytest.raises(Unanswered):
            case.hub("issue")
        shapes.client.call("advance", seconds=3600)
        assert case.changes() == ["issue"]
        assert case.value in shapes.client.call("minted")
        shapes.client.call("reset")
        with pytest.raises(Refused):
            case.lab("alive")


def test_survives_its_caller() -> None:
    """In its own process the late effect lands although the caller was killed, and a fork may share the client."""
    with Shapes.in_process() as shapes:
        case = Case(shapes, "two_slots")
        case.arm("applied_late", "set", seconds=LAG_S)
        child = os.fork()
        if child == 0:
            try:
                case.hub("set", slot="b", value="new-value")
            except Unanswered:
                case.lab("ping")
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        case.lab("ping")
        time.sleep(LAG_S)
        assert "new-value" in case.usable()


def test_unreachable() -> None:
    """Where nobody listens, nothing was sent."""
    with pytest.raises(Unanswered) as caught:
        Client("/nonexistent/shapes").call("ping")
    assert not caught.value.sent
