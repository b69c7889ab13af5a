"""Approvals by clicks: the list, the banner on the run, both buttons, and who has them."""

import pytest
from tests.web.conftest import hidden, text

from keyturn.model.run import RunState
from keyturn.operations import approvals, events, runs
from keyturn.operations.rights import Role


@pytest.fixture
def ask(browser, person):
    """`ask(connection)`: an administrator asks to revoke it; the run's path."""

    def make(connection, goal="revoke", verb="end", **more):
        root = browser(person(Role.ADMIN, "root"))
        plan = root.get(f"/connections/{connection.id}/plan/{goal}")
        assert "second person" in text(plan)
        form = {"trigger": hidden(plan, "trigger"), "digest": hidden(plan, "digest"), "sure": "yes", **more}
        path = f"/connections/{connection.id}"
        return root, root.post(f"{path}/{verb}/{goal}", form, on=f"{path}/plan/{goal}").headers["location"]

    return make


def run_of(idle, path):
    return runs.get(idle, path.rpartition("/")[2])


def test_a_second_person_approves(browser, person, connect, idle, ask):
    """It is on the run, the list and home; the requester has no buttons, the approver has; then it begins."""
    connection = connect("grant", name="jira")
    root, path = ask(connection, reason="offboarding")
    assert run_of(idle, path).state is RunState.WAITING_APPROVAL
    mine = root.get(path)
    assert "Waiting for approval" in text(mine)
    assert "somebody else decides" in text(mine)
    assert "do-approve" not in mine.text
    assert root.post(f"{path}/approve", on="/account").status_code == 403
    it = browser(person(Role.APPROVER))
    for page in ("/approvals", "/", "/connections"):
        assert path in it.get(page).text, page
    shown = text(it.get(path))
    assert "root asked" in shown
    assert "offboarding" in shown
    answer = it.post(f"{path}/approve", {"reason": "agreed with HR"}, on=path)
    assert answer.headers["location"] == path
    assert "Approved" in text(it.get(path))
    assert run_of(idle, path).state is RunState.QUEUED
    line = next(
        each for each in runs.lines(idle, run_of(idle, path).id) if each.facts["decision"] == "approved"
    )
    assert (line.facts["by"], line.facts["from"], line.facts["why"]) == (
        "approver",
        "testclient",
        "agreed with HR",
    )
    assert events.latest(idle, 1)[0].facts["operation"] == "run.approve"
    assert "Nothing waits" in it.get("/approvals").text


def test_a_refusal_needs_a_reason_and_ends_it(browser, person, connect, idle, ask):
    """Both buttons are of one form."""
    _, path = ask(connect("grant"))
    it = browser(person(Role.APPROVER))
    it.post(f"{path}/refuse", {"reason": ""}, on=path)
    assert "needs a reason" in text(it.get(path))
    assert run_of(idle, path).state is RunState.WAITING_APPROVAL
    it.post(f"{path}/refuse", {"reason": "<b>not now</b>"}, on=path)
    assert run_of(idle, path).outcome == "approver refused: <b>not now</b>"
    assert "<b>not now" not in it.get(path).text


def test_who_has_the_buttons(browser, person, connect, ask):
    """Approver and administrator of its project; a viewer, an operator and an approver elsewhere have not."""
    _, path = ask(connect("grant", project="billing"))
    for role, project, may in (
        (Role.VIEWER, "", False),
        (Role.OPERATOR, "billing", False),
        (Role.APPROVER, "billing", True),
        (Role.ADMIN, "billing", True),
    ):
        it = browser(person(role, f"{role.value}-me", project))
        assert ("do-approve" in it.get(path).text) is may, role
        if not may:
            assert it.post(f"{path}/approve", on="/account").status_code == 403
    other = browser(person(Role.APPROVER, "elsewhere", "other"))
    assert other.get(path).status_code == 404
    assert other.post(f"{path}/approve", on="/account").status_code == 404
    assert path not in other.get("/approvals").text


def test_an_emergency_begins_at_once_and_stays_on_the_list(browser, person, connect, idle, ask):
    """Until somebody else has looked at it."""
    _, path = ask(connect("grant"), emergency="leaked in a ticket")
    assert run_of(idle, path).state is RunState.QUEUED
    it = browser(person(Role.APPROVER))
    assert "Emergency to look at" in text(it.get("/approvals"))
    assert "leaked in a ticket" in text(it.get(path))
    it.post(f"{path}/approve", {"reason": "right so"}, on=path)
    assert "Nothing waits" in it.get("/approvals").text
    assert approvals.of_run(idle, run_of(idle, path).id).decided_by == "approver"


def test_what_waits_keeps_no_rotation_back(connect, idle, ask):
    """The plan of another goal can be started; the same goal says that it was asked for."""
    connection = connect("grant")
    root, path = ask(connection)
    assert 'id="start"' in root.get(f"/connections/{connection.id}/plan/rotate").text
    assert path in root.get(f"/connections/{connection.id}/plan/revoke").text
