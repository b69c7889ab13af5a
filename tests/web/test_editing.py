"""Editing a connection: owner, project, policy, settings after a fresh test, and destroying what is left of a dead one."""

import re

import pytest
from tests.waiting import wait_for
from tests.web.conftest import text
from tests.web.test_work import start

from keyturn.model.policy import Policy
from keyturn.operations import connections, editing, leases, projects
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def send(it, connection, part, values, **more):
    base = f"/connections/{connection.id}/edit"
    return it.post(f"{base}/{part}", values, on=base, **more)


def test_owner_and_project(it, connect, idle):
    connection = connect()
    answer = send(it, connection, "about", {"owner": "Finance  team", "project": "billing"})
    assert answer.status_code == 303
    assert connections.find(idle, connection.id).owner == "Finance team"
    assert projects.of(idle, connection.id) == "billing"
    assert send(it, connection, "about", {"owner": " ", "project": "billing"}).status_code == 422
    assert connections.find(idle, connection.id).owner == "Finance team"


def test_a_policy_in_the_units_of_people(it, connect, idle):
    """Days and hours come back as typed; an empty field is the default again; a box that is off is off."""
    connection = connect()
    typed = {"policy-max_age_days": "30", "policy-drain_max_s": "1,5", "automatic": "yes", "proof": "D1"}
    assert send(it, connection, "policy", typed).status_code == 303
    policy = Policy.read(connections.find(idle, connection.id).policy)
    assert (policy.max_age_days, policy.drain_max_s, policy.automatic, policy.proof) == (30, 5400, True, "D1")
    page = it.get(f"/connections/{connection.id}/edit").text
    assert 'name="policy-drain_max_s" value="1.5"' in page
    assert re.search(r'name="automatic" value="yes" checked', page)
    assert send(it, connection, "policy", {}).status_code == 303
    assert connections.find(idle, connection.id).policy == {}


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "1e99", "inf"])
def test_a_number_that_is_none(it, connect, idle, value):
    """Said at its field; nothing of the rest is kept."""
    connection = connect()
    answer = send(it, connection, "policy", {"policy-task_days": value, "policy-max_age_days": "5"})
    assert answer.status_code == 422
    assert "A number of days" in text(answer)
    assert connections.find(idle, connection.id).policy == connection.policy


def test_settings_are_tested_before_they_are_kept(it, connect, idle, monkeypatch):
    """What serves is tested with them; refused, nothing is kept and what was typed comes back."""
    connection = connect()
    page = it.get(f"/connections/{connection.id}/edit").text
    fields = set(re.findall(r'name="field-(\w+)"', page))
    assert "by" in fields
    typed = {f"field-{n}": str(connection.settings.get(n, "")) for n in fields}
    assert send(it, connection, "settings", {**typed, "field-by": "somebody"}).status_code == 303
    assert connections.find(idle, connection.id).settings["by"] == "somebody"
    assert "Nothing was changed" in text(
        it.get(send(it, connection, "settings", {**typed, "field-by": "somebody"}).headers["location"])
    )
    from keyturn.errors import CredentialRejected

    def refuse(*_args):
        raise CredentialRejected(
            "with these settings shapes refuses the credential (bad)", hint="Nothing was changed."
        )

    monkeypatch.setattr(editing, "_test", refuse)
    answer = send(it, connection, "settings", {**typed, "field-by": "nobody"})
    assert answer.status_code == 502
    assert "refuses the credential" in text(answer)
    assert 'value="nobody"' in answer.text
    assert connections.find(idle, connection.id).settings["by"] == "somebody"


def test_where_a_credential_is_sent_is_not_edited(it, connect, idle):
    """Nobody reads a credential by having the hub send it to a place of their own."""
    connection = connect()
    assert 'name="field-address"' not in it.get(f"/connections/{connection.id}/edit").text
    send(it, connection, "settings", {"field-address": "evil.example:443", "field-by": "hub"})
    assert connections.find(idle, connection.id).settings["address"] == connection.settings["address"]
    from keyturn.catalog import Catalog

    for system in Catalog().systems():
        for method in system.methods:
            if method.direction != "outbound":
                continue
            kept = {f.name for f in method.fields if editing._may_change(method, f)}
            addresses = {
                f.name
                for f in method.fields
                if "://" in f"{f.example} {f.default}" or f.name.endswith(("url", "host"))
            }
            assert not kept & addresses, (system.name, method.name)


def test_an_administrators_credential_is_write_only(it, connect, idle):
    """Never drawn; left empty, it stays."""
    connection = connect("one_slot")
    page = it.get(f"/connections/{connection.id}/edit")
    assert re.search(
        r'id="f-field-admin_secret" name="field-admin_secret" type="password" value=""', page.text
    )
    answer = send(it, connection, "settings", {"field-admin_secret": "", "field-by": "other"})
    assert answer.status_code == 303
    _, access, _ = connections.access_of(idle, connections.find(idle, connection.id))
    assert access.admin is not None


def test_what_is_dead_is_destroyed(it, connect, idle):
    """Only once nothing of it is alive; its history stays."""
    connection = connect()
    assert send(it, connection, "forget", {"sure": "yes"}).status_code == 409
    assert leases.resolve(idle, connection.name)
    start(it, connection, "disconnect", "end", sure="yes")
    idle.engine.start()
    wait_for(lambda: connections.find(idle, connection.id).state.value == "disconnected")
    assert send(it, connection, "forget", {}).status_code == 422
    assert send(it, connection, "forget", {"sure": "yes"}).status_code == 303
    assert (
        idle.store.read(lambda tx: tx.one("SELECT 1 FROM sealed WHERE id LIKE ?", f"%{connection.id}%"))
        is None
    )
    assert "connect" in text(it.get(f"/connections/{connection.id}/history"))


def test_only_administrators_of_its_project_edit(browser, person, connect, idle):
    """An operator is refused; an administrator of another project does not find it; nor is it moved out of reach."""
    connection = connect(project="billing")
    operator = browser(person(Role.OPERATOR))
    assert operator.get(f"/connections/{connection.id}/edit").status_code == 403
    assert "Edit" not in operator.get(f"/connections/{connection.id}").text
    stranger = browser(person(Role.ADMIN, "stranger", "other"))
    assert stranger.get(f"/connections/{connection.id}/edit").status_code == 404
    lead = browser(person(Role.ADMIN, "lead", "billing"))
    assert send(lead, connection, "about", {"owner": "x", "project": ""}).status_code == 422
    assert send(lead, connection, "about", {"owner": "x", "project": "other"}).status_code == 403
    assert projects.of(idle, connection.id) == "billing"
    assert send(lead, connection, "about", {"owner": "x", "project": "billing"}).status_code == 303
