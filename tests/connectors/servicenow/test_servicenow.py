"""ServiceNow's two entries against the stand-in: what is looked at before anything is written or deleted."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compliance.lab import StandIn, the_lab
from tests.compliance.rows import ROWS
from tests.operations.test_rows_end_to_end import open_world

from keyturn.catalog import Catalog
from keyturn.connectors.servicenow import client
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import (
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
)
from keyturn.model.credential import Ref
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.operations import runs
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.standin import running
from keyturn_lab.vendors.servicenow import people
from keyturn_lab.vendors.servicenow.server import create_app

ME, OTHER = "integration@acme.example", "admin@acme.example"
CALLBACK = "http://127.0.0.1:8425/oauth/callback"
NETWORK = NetworkPolicy(frozenset({"127.0.0.1"}))
SESSION = {"state": "s" * 20, "code_verifier": "v" * 43, "redirect_uri": CALLBACK}
HUB = {"registry": "hub", "user": ME, "callback": CALLBACK}


@pytest.fixture
def there() -> Iterator[StandIn]:
    with running(create_app()) as url:
        made = StandIn(url)
        made.post("dials", {"latency_s": 0})
        yield made


def access(there: StandIn, acting: Material | None = None, who: str = people.REGISTRAR) -> Access:
    admin = Material({"admin_user": who, "admin_password": DEMO_PASSWORD}, frozenset({"admin_user"}))
    return Access({**HUB, "url": there.url}, acting, admin, 5.0, NETWORK)


def row(**settings: Any) -> Any:
    return (
        Catalog().row("servicenow", "oauth", {**HUB, "url": "https://acme.service-now.com", **settings}).can
    )


def registered(there: StandIn) -> Any:
    """An entry made by the hub."""
    made = row().maker.make(access(there), Ref())
    row().setter.set(access(there), made.ref, made.material)
    return made


def granted(there: StandIn, made: Any, user: str = ME) -> Material:
    can, acting = row(), access(there, made.material)
    back = people.consent(can.authorizer.begin(acting, SESSION), user)
    found = can.authorizer.read(acting, can.authorizer.exchange(acting, SESSION, back), None)
    assert found.ref == Ref(id=made.material["client_id"])
    return found.material


def test_the_hub_needs_an_administrator() -> None:
    """Without one only a person keeps the registry: nothing is offered that would need it."""
    assert row(registry="person").setter is None
    assert row(registry="person").revoker is None
    with pytest.raises(PermissionMissing, match="administrator"):
        client.entries(Access({**HUB, "url": "https://acme.service-now.com"}))


def test_a_second_entry_is_like_the_first(there: StandIn) -> None:
    """Redirect URLs and lives are copied, with the hub's own callback first; the secret is the one made here."""
    first = registered(there)
    entry = client.entry_of(access(there), first.ref.id)
    assert entry is not None
    client.change(
        access(there),
        entry,
        {"redirect_url": f"https://old.example/cb,{CALLBACK}", "access_token_lifespan": "600"},
    )
    made = row().maker.make(access(there), Ref())
    row().setter.set(access(there, first.material), made.ref, made.material)
    second = client.entry_of(access(there), made.ref.id)
    assert second is not None
    assert second.redirect_url == f"{CALLBACK},https://old.example/cb"
    assert second.access_token_lifespan == "600"
    (shown,) = [each for each in there.get("entries") if each["client_id"] == made.ref.id]
    assert shown["client_secret"] == made.material["client_secret"]


def test_a_lost_answer_is_looked_up_by_what_was_sent(there: StandIn) -> None:
    """The same value again finds the entry: there is one, not two."""
    made = row().maker.make(access(there), Ref())
    there.arm("post_oauth_entity", "answer_lost")
    with pytest.raises(OutcomeUnknown):
        row().setter.set(access(there), made.ref, made.material)
    row().setter.set(access(there), made.ref, made.material)
    assert len([each for each in there.get("entries") if each["client_id"] == made.ref.id]) == 1
    assert granted(there, made)["refresh_token"]


def test_an_instance_that_chooses_the_client_id_is_told_apart(there: StandIn) -> None:
    """What it made is taken away again, by the id its own answer gave."""
    there.post("settings", {"chosen_client_id": False})
    before = len(there.get("entries"))
    with pytest.raises(ValueRefused, match="client id of our choice"):
        registered(there)
    assert len(there.get("entries")) == before


def test_a_dropped_filter_deletes_nothing(there: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the filter's column is not known every row comes back: then nobody is written to or deleted."""
    made = registered(there)
    from keyturn_lab.vendors.servicenow import tables

    columns = [each for each in tables.COLUMNS["oauth_entity"] if each != "client_id"]
    monkeypatch.setitem(tables.COLUMNS, "oauth_entity", columns)
    before = len(there.get("entries"))
    for call in (
        lambda: row().revoker.revoke(access(there), made.ref, None),
        lambda: row().setter.set(access(there), made.ref, made.material),
    ):
        with pytest.raises(UnexpectedAnswer, match="filter was dropped"):
            call()
    assert len(there.get("entries")) == before


def test_hidden_rows_are_not_absence(there: StandIn) -> None:
    """An empty registry means that the right is missing: an end is not believed."""
    made = registered(there)
    there.post("settings", {"entries_acl": "hidden"})
    with pytest.raises(PermissionMissing, match="no row at all"):
        row().revoker.revoke(access(there), made.ref, None)
    there.post("settings", {"entries_acl": "closed"})
    with pytest.raises(PermissionMissing):
        row().lister.list(access(there))
    with pytest.raises(PermissionMissing):
        row().lister.list(access(there, who="nobody"))


def test_an_entry_that_others_use_is_left_alone(there: StandIn) -> None:
    """Another user's token is on it: neither the tokens nor the entry are touched."""
    made = registered(there)
    ours = granted(there, made)
    granted(there, made, OTHER)
    with pytest.raises(Conflict, match=r"admin@acme\.example"):
        row().revoker.revoke(access(there, ours), made.ref, ours)
    assert row().verifier.verify(access(there), ours).verdict is Verdict.ACCEPTED


def test_deleting_ends_both_tokens_first(there: StandIn) -> None:
    """On this instance tokens outlive their entry: they are revoked before it goes, and death is told by a refresh."""
    made = registered(there)
    ours = granted(there, made)
    row().revoker.revoke(access(there), made.ref, ours)
    assert not [each for each in there.alive() if each["owner"] == ME]
    assert row().verifier.verify(access(there), ours).verdict is Verdict.REJECTED
    assert row().death.verify(access(there), ours).code == "reauth_required"
    row().revoker.revoke(access(there), made.ref, ours)


def test_without_the_value_its_token_rows_are_deleted(there: StandIn) -> None:
    """An orphan's tokens go by their rows."""
    made = registered(there)
    granted(there, made)
    row().revoker.revoke(access(there), made.ref, None)
    assert not [each for each in there.alive() if each["owner"] == ME]


def test_discover_shows_each_entry_with_its_tokens(there: StandIn) -> None:
    """Who would be cut off is seen before anything is deleted."""
    made = registered(there)
    granted(there, made)
    (found,) = [
        each for each in row().discoverer.discover(access(there)) if each.facts["client_id"] == made.ref.id
    ]
    assert (found.kind, found.facts["tokens"], found.facts["users"]) == ("registry entry", 2, (ME,))


def test_a_refresh_keeps_the_token_and_its_end(there: StandIn) -> None:
    """A hundred days from the consent, whatever the use."""
    made = registered(there)
    can, ours = row(), granted(there, made)
    there.post("clock", {"advance_s": 40 * 86400})
    acting = access(there, ours)
    renewed = can.authorizer.read(acting, can.authorizer.refresh(acting, ours), ours)
    assert renewed.material["refresh_token"] == ours["refresh_token"]
    assert renewed.material["access_token"] != ours["access_token"]
    assert renewed.expires_at == float(ours["grant_ends_at"])


def test_another_callback_than_ours_is_not_begun(there: StandIn) -> None:
    """The instance would send the code to the first registered address."""
    acting = dataclasses.replace(access(there, registered(there).material))
    with pytest.raises(InvalidInput, match="callback"):
        row().authorizer.begin(acting, {**SESSION, "redirect_uri": "https://other.example/cb"})


def test_a_barred_script_says_nothing(there: StandIn) -> None:
    """The filter on the own user is dropped and everybody comes back: unknown, not accepted."""
    ours = granted(there, registered(there))
    there.post("settings", {"script_in_query": False})
    found = row().verifier.verify(access(there), ours)
    assert found.verdict is Verdict.UNKNOWN
    there.post("settings", {"script_in_query": True, "hibernating": True})
    assert row().verifier.verify(access(there), ours).verdict is Verdict.UNKNOWN
    with pytest.raises(UnexpectedAnswer):
        row().lister.list(access(there))


def test_a_sleeping_instance_revokes_nothing(there: StandIn) -> None:
    """A page with status 200 is no answer to a revocation."""
    there.post("settings", {"hibernating": True})
    with pytest.raises(OutcomeUnknown):
        client.end_token(access(there), "ktlab-some-token")


def test_throttling_is_passed_on(there: StandIn) -> None:
    there.arm("get_oauth_entity", "throttle")
    with pytest.raises(VendorThrottled) as told:
        row().lister.list(access(there))
    assert told.value.facts["wait_s"] == 1.0


def test_no_token_is_shown(there: StandIn) -> None:
    """The one call that carries a token in its query tells neither path nor query."""
    there.arm("revoke_token", "answer_lost")
    with pytest.raises(OutcomeUnknown) as lost:
        client.end_token(access(there), "ktlab-some-token")
    assert "ktlab-some-token" not in f"{lost.value!r} {lost.value.facts}"


@pytest.mark.parametrize(
    "name", ["servicenow/oauth entries by a person", "servicenow/oauth entries by the hub"]
)
def test_a_refreshed_grant_rotates_and_rolls_back_like_a_fresh_one(name: str, tmp_path: Path) -> None:
    """`keyturn refresh` keeps refresh token, entry and end; what is ended afterwards is the entry, whichever version."""
    world = open_world(ROWS[name](the_lab()), tmp_path)
    try:
        before = world.enter()
        run = world.run(Goal.REFRESH)
        assert run.state is RunState.COMPLETE, world.why(run)
        renewed = world.serving()
        assert renewed["access_token"] != before["access_token"]
        for part in ("refresh_token", "client_id", "grant_ends_at"):
            assert renewed[part] == before[part]
        run = world.run(Goal.ROTATE, until=lambda r: r.state is RunState.WAITING_HUMAN)
        runs.rollback(world.hub, run.id)
        run = world.follow(run.id)
        assert run.state is RunState.ABORTED_CLEAN, world.why(run)
        assert dict(world.serving()) == dict(renewed)
        run = world.run(Goal.ROTATE)
        assert run.state is RunState.COMPLETE, world.why(run)
        assert world.serving()["client_id"] != before["client_id"]
        assert world.case.alive() == {world.serving()["refresh_token"]}
    finally:
        world.hub.close()


def test_lost_answers_leave_one_entry_and_say_what_they_cost(tmp_path: Path) -> None:
    """The registration is sent again; a lost exchange is owed and asked for anew, with the same second entry."""
    world = open_world(ROWS["servicenow/oauth entries by the hub"](the_lab()), tmp_path)
    instance = the_lab().vendor("servicenow")
    try:
        world.enter()
        before = {each["client_id"] for each in instance.get("entries")}
        instance.arm("post_oauth_entity", "answer_lost")
        instance.arm("exchange", "answer_lost")
        run = world.run(Goal.ROTATE)
        assert run.state is RunState.COMPLETE_WITH_DEBT, world.why(run)
        assert {debt.kind for debt in runs.left_behind(world.hub, run.id)[1]} == {"unknown_grant"}
        after = {each["client_id"] for each in instance.get("entries")}
        assert len(before - after) == len(after - before) == 1
        assert world.serving()["client_id"] in after - before
    finally:
        world.hub.close()
