"""Projects by clicks: objects, sources, the connection behind each, and who may see and change them."""

import re

import pytest
from tests.web.conftest import text

from keyturn.operations import projects
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def change(it, project, verb, **more):
    path = f"/projects/{project}"
    return it.post(path, {"verb": verb, **more}, on=path)


def sources(idle):
    return {s.label: (s.connection, s.what) for s in projects.sources(idle)}


def test_a_project_by_clicks(it, connect, idle):
    """Made, given an object and two sources through one connection; one is given another; nothing is removed by it."""
    connect(name="orders")
    connect(name="tickets")
    assert it.post("/projects", {"name": "adoption"}).headers["location"] == "/projects/adoption"
    assert change(it, "adoption", "add-object", name="usage").status_code == 303
    for name in ("daily", "weekly"):
        answer = change(
            it, "adoption", "add-source", object="usage", name=name, connection="orders", reads="t"
        )
        assert answer.status_code == 303, text(answer)
    assert sources(idle) == {f"adoption/usage/{n}": ("orders", "t") for n in ("daily", "weekly")}
    page = it.get("/projects/adoption")
    assert text(page).count("reads through orders") == 2
    assert "2 sources" in text(it.get("/projects"))
    edit = {"object": "usage", "name": "daily", "connection": "tickets", "reads": "u"}
    assert change(it, "adoption", "edit-source", **edit).status_code == 303
    assert sources(idle)["adoption/usage/daily"] == ("tickets", "u")
    assert change(it, "adoption", "remove-object", object="usage").status_code == 409
    assert change(it, "adoption", "remove").status_code == 409
    for name in ("daily", "weekly"):
        form = {"object": "usage", "name": name, "remove": "yes"}
        assert change(it, "adoption", "edit-source", **form).status_code == 303
    assert sources(idle) == {}
    assert change(it, "adoption", "remove-object", object="usage").status_code == 303
    assert change(it, "adoption", "remove").headers["location"] == "/projects"
    assert projects.pages(idle) == []


def test_projects_asked_wrongly(it, connect, idle):
    connect(name="orders")
    assert it.post("/projects", {"name": "a/b"}).status_code == 422
    it.post("/projects", {"name": "adoption"})
    assert it.post("/projects", {"name": "adoption"}).status_code == 422
    assert it.get("/projects/none").status_code == 404
    assert change(it, "adoption", "explode").status_code == 422
    change(it, "adoption", "add-object", name="usage")
    form = {"object": "usage", "name": "daily"}
    assert change(it, "adoption", "add-source", **form, connection="none").status_code == 409
    assert (
        change(it, "adoption", "add-source", **{**form, "object": "x"}, connection="orders").status_code
        == 404
    )
    assert sources(idle) == {}


def test_names_with_markup_and_spaces(it, idle):
    """Are text, and their addresses work."""
    name = "A <b> & C?"
    answer = it.post("/projects", {"name": name})
    assert answer.status_code == 303
    link = re.search(r'class="name" href="(/projects/[^"]+)"', it.get("/projects").text)[1]
    page = it.get(link)
    assert page.status_code == 200
    assert "<b> &" not in page.text
    assert it.get(answer.headers["location"]).status_code == 200


def test_who_may_change_projects(browser, person, connect, idle, it):
    """A project's administrator changes it, through connections they see; others do not find it; viewers look."""
    connect(name="mine", project="billing")
    connect(name="other")
    it.post("/projects", {"name": "billing"})
    it.post("/projects", {"name": "secret"})
    change(it, "billing", "add-object", name="usage")
    change(it, "billing", "add-source", object="usage", name="far", connection="other")
    lead = browser(person(Role.ADMIN, "lead", "billing"))
    listed = lead.get("/projects").text
    assert "billing" in listed
    assert "secret" not in listed
    assert lead.get("/projects/secret").status_code == 404
    assert change(lead, "secret", "remove").status_code in {403, 404}
    page = lead.get("/projects/billing")
    assert "other" not in re.findall(r"<option[^>]*>([^<]*)<", page.text)
    assert "a connection you may not see" in page.text
    form = {"object": "usage", "name": "near"}
    assert change(lead, "billing", "add-source", **form, connection="other").status_code == 409
    assert change(lead, "billing", "add-source", **form, connection="mine").status_code == 303
    assert lead.post("/projects", {"name": "mine too"}, on="/account").status_code == 403
    viewer = browser(person(Role.VIEWER))
    assert "Add an object" not in viewer.get("/projects/billing").text
    assert viewer.post("/projects/billing", {"verb": "remove"}, on="/account").status_code == 403
