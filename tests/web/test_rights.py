"""The table of operation and role, walked whole: in itself, over every page, every call of the API and every command."""

import re
from collections import Counter

import pytest
from starlette.routing import Route
from tests.web.conftest import LOCAL

from keyturn.cli.main import COMMANDS
from keyturn.errors import NotPermitted
from keyturn.operations import events, people, rights, sessions
from keyturn.operations.rights import TABLE, Operation, Role, Who

VI, OP, AP, AD = Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.ADMIN
# written out once more, so that a change of the table is a decision
EXPECTED = {
    "account.own": {VI, OP, AP, AD},
    "hub.read": {VI, OP, AP, AD},
    "system.read": {VI, OP, AP, AD},
    "connection.read": {VI, OP, AP, AD},
    "connection.test": {OP, AD},
    "connection.change": {AD},
    "credential.lease": set(),
    "plan.read": {VI, OP, AP, AD},
    "run.read": {VI, OP, AP, AD},
    "run.rotate": {OP, AD},
    "run.end": {AD},
    "run.steer": {OP, AD},
    "approval.read": {VI, OP, AP, AD},
    "run.approve": {AP, AD},
    "task.read": {VI, OP, AP, AD},
    "task.do": {OP, AD},
    "task.share": {OP, AD},
    "debt.read": {VI, OP, AP, AD},
    "debt.try": {OP, AD},
    "debt.close": {AP, AD},
    "issued.read": {VI, OP, AP, AD},
    "issued.change": {AD},
    "dataset.read": {OP, AD},
    "dataset.drop": {AD},
    "audit.read": {AP, AD},
    "people.read": {AD},
    "people.change": {AD},
    "notice.read": {AD},
    "notice.change": {AD},
    "notice.test": {AD},
    "hub.check": {AD},
    "hub.backup": {AD},
    "vault.rotate": {AD},
    "hub.run": set(),
}


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("role", list(Role))
def test_every_cell(operation, role):
    """A person with the role may do exactly what is written here; without it, in no project and as nobody, nothing."""
    wanted = role in EXPECTED[operation.value]
    assert rights.may(Who("x", held=((role, ""),)), operation) is wanted
    assert rights.may(Who("x", held=((role, ""),)), operation, "billing") is wanted
    in_project = wanted and not TABLE[operation].hub_wide
    assert rights.may(Who("x", held=((role, "billing"),)), operation, "billing") is in_project
    assert rights.may_somewhere(Who("x", held=((role, "billing"),)), operation) is in_project
    assert not rights.may(Who("x", held=((role, "billing"),)), operation)
    assert not rights.may(Who("x", held=((role, "billing"),)), operation, "other")
    assert not rights.may(Who("x"), operation)
    assert not rights.may(Who("x", held=((role, ""),), scopes=frozenset()), operation)


def test_every_operation_has_its_line():
    assert set(TABLE) == set(Operation)
    assert set(EXPECTED) == {each.value for each in Operation}


def test_what_is_about_the_whole_hub():
    """People, notices, the audit trail and the hub itself: an administrator of one project has no say in them."""
    wide = {each.value for each, right in TABLE.items() if right.hub_wide}
    assert wide == {
        "dataset.read",
        "dataset.drop",
        "audit.read",
        "people.read",
        "people.change",
        "notice.read",
        "notice.change",
        "notice.test",
        "hub.check",
        "hub.backup",
        "vault.rotate",
        "hub.run",
    }


def test_an_administrator_of_a_project_makes_no_administrators(browser, person, idle):
    """Neither looks at people nor invites, nor gives themselves a role."""
    person(Role.ADMIN, "root")
    me = person(Role.ADMIN, "me", "billing")
    it = browser(me)
    assert "/people" not in it.get("/").text
    assert it.get("/people").status_code == 403
    assert it.post(f"/people/{me.id}/roles", {"role": "admin"}, on="/account").status_code == 403
    invited = {"kind": "person", "login": "x", "role": "admin"}
    assert it.post("/people", invited, on="/account").status_code == 403
    assert people.get(idle, me.id).held == (("admin", "billing", "local"),)


def test_an_operation_that_is_not_in_the_table_is_refused(monkeypatch):
    """Also to an administrator, and to whoever is at the machine."""
    monkeypatch.delitem(rights.TABLE, Operation.HUB_READ)
    assert not rights.may(Who("x", held=((AD, ""),)), Operation.HUB_READ)
    assert not rights.may(LOCAL, Operation.HUB_READ)


def filled(path):
    """A path with ids of things that are not there: who may do it gets 404, who may not 403."""
    known = {"goal": "rotate" if "/start/" in path else "disconnect" if "/end/" in path else "rotate"}
    return re.sub(r"\{(\w+)\}", lambda m: known.get(m[1], "none_00"), path)


@pytest.mark.parametrize("role", [None, *Role])
def test_every_page(app, browser, person, role):
    """Nobody is sent to the door; a role that may not is refused, before anything is looked up."""
    person(Role.ADMIN, "root")
    it = browser(person(role, "me")) if role else browser()
    csrf = re.search(r'name="csrf" value="(\w+)"', it.get("/account" if role else "/sign-in").text)[1]
    pages = [
        p for p in app.state.pages.map if p.operation is not None and p.path not in {"/live", "/sign-out"}
    ]
    assert len(pages) > 30
    for page in pages:
        answer = it.client.request(
            page.method, filled(page.path), data={"csrf": csrf} if page.method == "POST" else None
        )
        if role is None:
            assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in"), page
        elif role in EXPECTED[page.operation.value]:
            assert "Ask an administrator" not in answer.text, page
        else:
            assert answer.status_code == 403, page
            assert "Ask an administrator" in answer.text


def test_only_the_door_is_open(app):
    """Pages without an operation are those for which nobody can be signed in yet."""
    opened = {page.path for page in app.state.pages.map if page.operation is None}
    door = {
        "/setup",
        "/join",
        "/sign-in",
        "/sign-in/code",
        "/sign-in/passkey",
        "/sign-in/sso",
        "/sign-in/sso/back",
        "/help",
        "/help/hand-in",
    }
    assert opened - {"/oauth/authorize"} == door  # that one sends nobody in particular on to the door
    routes = [r for r in app.state.pages.app._app.routes if isinstance(r, Route)]
    assert {r.path for r in routes} == {page.path for page in app.state.pages.map} | {"/static/{name}"}


def test_every_call_of_the_api(app, browser, idle):
    """Without a credential 401; with a token that has another scope 403, and the refusal is on record."""
    robot = people.add_service(idle, LOCAL, "robot", "", [("admin", "")])
    _, value = people.make_token(idle, LOCAL, robot.id, "x", ["lease:nothing"])
    headers = {"Authorization": f"Bearer {value.reveal()}"}
    calls = [
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if path.startswith("/api/") and path != "/api/v1/whoami"
    ]
    assert len(calls) >= 6
    client = browser().client
    body, seen = {"connection": "x", "consumer": "y"}, Counter()
    for method, path in calls:
        json = (body if path.endswith("leases") else {}) if method == "POST" else None
        assert client.request(method, filled(path), json=json).status_code == 401, path
        refused = client.request(method, filled(path), json=json, headers=headers)
        assert refused.status_code in {401, 403}, path  # calls for issued credentials alone know no tokens
        seen[refused.status_code] += 1
    assert seen[403] >= 6
    assert client.get("/api/v1/whoami").status_code == 401
    assert client.get("/api/v1/whoami", headers=headers).json()["credential"] == "robot"
    assert {line.facts["by"] for line in events.latest(idle) if line.facts["decision"] == "refused"} == {
        "robot"
    }


def test_a_token_needs_the_role_as_well(app, browser, idle, connect):
    """Scope `lease` with a role in another project leases nothing; in its own project it does."""
    connect(name="orders", project="billing")
    client = browser().client
    answers = []
    for project in ("billing", "other"):
        robot = people.add_service(idle, LOCAL, f"robot-{project}", "", [("operator", project)])
        _, value = people.make_token(idle, LOCAL, robot.id, "x", ["lease"])
        headers = {"Authorization": f"Bearer {value.reveal()}"}
        body = {"connection": "orders", "consumer": "etl"}
        answers.append(client.post("/api/v1/leases", json=body, headers=headers).status_code)
    assert answers == [201, 403]


def test_every_command():
    """Each command is in the table; one that is not could not be started."""
    names = {name for section in COMMANDS.values() for name in section}
    assert names == {name for right in TABLE.values() for name in right.commands}
    for name in names:
        rights.check_command(name, LOCAL)
        with pytest.raises(NotPermitted):
            rights.check_command(name, Who("nobody"))
    with pytest.raises(NotPermitted):
        rights.check_command("explode", LOCAL)


def test_a_role_in_a_project_is_that_alone(browser, person, connect, idle):
    """Others' connections are not there; in lists, by address, by their runs; and what is seen is not more than read."""
    mine, other = connect(name="mine", project="billing"), connect(name="other")
    person(Role.ADMIN, "root")
    it = browser(person(OP, "op", "billing"))
    shown = it.get("/connections").text
    assert mine.id in shown
    assert other.id not in shown
    assert other.id not in it.get("/").text
    assert it.get(f"/connections/{mine.id}").status_code == 200
    assert it.get(f"/connections/{other.id}").status_code == 404
    assert it.post(f"/connections/{other.id}/test", on="/account").status_code == 404
    assert it.post(f"/connections/{mine.id}/test", on="/account").status_code == 303
    people.set_roles(
        idle,
        LOCAL,
        sessions.who(idle, it.client.cookies["keyturn"])[0].id,
        [("viewer", ""), ("operator", "billing")],
    )
    assert it.get(f"/connections/{other.id}").status_code == 200
    assert it.post(f"/connections/{other.id}/test", on="/account").status_code == 403
    line = events.latest(idle)[0].facts
    assert (line["decision"], line["on"], line["by"], line["from"]) == (
        "refused",
        "other",
        "op",
        "testclient",
    )
