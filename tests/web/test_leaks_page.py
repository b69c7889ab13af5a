"""A leak reported by clicks: looked at first, then stopped; the text is on no page."""

import pytest
from tests.waiting import wait_for
from tests.web.conftest import text

from keyturn.operations import events, issued, leaks, runs
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    """An operator's browser."""
    return browser(person(Role.OPERATOR))


@pytest.fixture
def leaked(idle):
    """A key of this hub, and a log that shows it."""
    handed = issued.issue(idle, "api-key", "partner", {"scopes": "read"})
    return f"2026-11-29 GET /x\nAccessKey: {handed.value.reveal()}\n", handed.value.reveal()


def test_it_is_looked_at_then_stopped(it, idle, leaked):
    """What is in it and whom stopping it hits; nothing is done before the second button; then it is refused."""
    log, value = leaked
    assert "/leaks" in it.get("/connections").text
    seen = it.post("/leaks/look", {"text": log, "source": "scanner"}, on="/leaks")
    assert seen.status_code == 200
    assert "1 found" in text(seen)
    assert "Stop it now" in text(seen)
    assert value not in seen.text
    assert issued.book(idle).check(value).accepted
    assert leaks.latest(idle) == []
    done = it.post("/leaks", {"text": log, "source": "scanner"}, on="/leaks")
    assert "Stopped" in text(done)
    assert value not in done.text
    assert not issued.book(idle).check(value).accepted
    assert "found by scanner, reported by operator" in text(it.get("/leaks"))
    assert value not in it.get("/leaks").text
    connection = issued.get(idle, "partner").connection
    assert wait_for(lambda: runs.recent(idle, connection.id, 1))[0].goal.value == "contain"
    assert any(line.facts.get("verb") == "stop leaks" for line in events.latest(idle))


def test_a_file_and_a_text_without_anything(it, idle, leaked):
    """A file is looked through as well; what is unknown is said to be; an empty form is told."""
    log, _ = leaked
    csrf = it.get("/leaks").text.split('name="csrf" value="')[1][:64]
    sent = it.client.post("/leaks/look", data={"csrf": csrf}, files={"file": ("x.log", log.encode())})
    assert "1 found" in text(sent)
    assert "No credential that this hub knows" in text(it.post("/leaks/look", {"text": "hello"}, on="/leaks"))
    empty = it.post("/leaks/look", {"text": " "}, on="/leaks")
    assert empty.status_code == 422
    assert "There is nothing in it" in text(empty)
    quiet = it.post("/leaks/look", {"text": " "}, on="/leaks", headers={"hx-request": "true"})
    assert quiet.status_code == 200


def test_a_report_compares_with_everything(browser, person, leaked):
    """So it is for those who may rotate all of it: not for an operator of one project, nor a viewer."""
    for role, project in ((Role.OPERATOR, "billing"), (Role.VIEWER, "")):
        it = browser(person(role, project=project))
        assert it.get("/leaks").status_code == 403
        assert it.post("/leaks/look", {"text": leaked[0]}, on="/account").status_code == 403
        assert "Report a leak" not in it.get("/connections").text
