"""What others sent: events, refused ones that are taken after all, and loads; of credentials that one may see."""

import json

import pytest
from fastapi.testclient import TestClient
from tests.waiting import wait_for
from tests.web.conftest import URL, hidden, text

from keyturn.issued.book import IssuedBook
from keyturn.operations import events, intake, issued, projects
from keyturn.operations.rights import Role

LATE = "it came with a key that had ended"


@pytest.fixture
def refused(idle, app):
    """An event that was taken, and one that came with a key which had ended."""
    idle.engine.start()
    api = TestClient(app, base_url=URL)
    old = issued.issue(idle, "api-key", "crm", {"scopes": "events:write"}).value.reveal()
    new = issued.reissue(idle, "crm", 0.0).value.reveal()

    def send(key, name):
        body = json.dumps({"id": name, "type": "order.paid", "data": {"total": 4711}})
        headers = {"AccessKey": key, "Content-Type": "application/json"}
        return api.post("/api/v1/events", content=body, headers=headers)

    assert send(new, "in-time").status_code == 202
    book = IssuedBook(idle.store, idle.roots)
    wait_for(lambda: not book.look(old).accepted)
    assert send(old, "too-late").status_code == 401
    return old, new


def test_a_refused_event_is_taken_after_all(idle, browser, person, refused):
    """Listed with the reason, taken by one button, once, on record; no key and no body is on the page."""
    it = browser(person())
    page = it.get("/received")
    assert "in-time" in page.text
    assert LATE in page.text
    assert not [value for value in (*refused, "4711") if value in page.text]
    it.post("/received/replay", {"event": hidden(page, "event")}, on="/received")
    assert {e.id for e in intake.latest(idle)} == {"in-time", "too-late"}
    assert "Nothing was refused" in it.get("/received").text
    assert events.latest(idle, 1)[0].facts["verb"] == "replay"
    again = it.post("/received/replay", {"event": hidden(page, "event")}, on="/received")
    assert "already" in text(it.get(again.headers["location"]))


def test_who_sees_what_was_sent(idle, browser, person, refused):
    """Those who see the credential; taking it after all is for those who issue."""
    viewer = browser(person(Role.VIEWER))
    assert LATE in viewer.get("/received").text
    assert "Take it after all" not in viewer.get("/received").text
    other = browser(person(Role.ADMIN, "other", "elsewhere"))
    assert LATE not in other.get("/received").text
    row = intake.refusals(idle)[0]
    assert other.post("/received/replay", {"event": row.id}, on="/account").status_code == 404
    projects.move(idle, issued.get(idle, "crm").connection.id, "elsewhere")
    assert LATE in other.get("/received").text
