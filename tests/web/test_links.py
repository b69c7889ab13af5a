"""The page of outside helpers: one task, one browser, one answer, and nothing else of the hub."""

import re
from types import SimpleNamespace

import pytest
from tests.faults import shapes_connector as shapes
from tests.waiting import wait_for
from tests.web.conftest import LOCAL, hidden, text

from keyturn.model.plan import Goal
from keyturn.operations import events, links, runs, tasks
from keyturn.operations.rights import Role
from keyturn.web.pages import helping

WRONG = "made-up-value-4711"


@pytest.fixture
def asked(idle, connect):
    """`asked(method, goal)` makes a run that asks a person; the task and its connection."""

    def make(method="supplied", goal=Goal.ROTATE, name="orders"):
        connection = connect(method, name=name)
        run = runs.start(idle, connection.name, goal)
        idle.engine.start()
        found = wait_for(lambda: next((t for t in tasks.waiting(idle) if t.run_id == run.id), None))
        return found, connection

    return make


def code_for(idle, task):
    return links.make(idle, LOCAL, task.id, "ann").url.reveal().partition("#")[2]


def enter(browser, code):
    """A stranger's browser at the page of its link."""
    it = browser()
    return it, it.post("/help", {"code": code})


def hand_in(it, task, values):
    return it.post(
        "/help/hand-in", {"task": task.id, **{f"field-{k}": v for k, v in values.items()}}, on="/help"
    )


def test_a_key_by_a_link(browser, person, asked, idle, vendor):
    """An operator makes it; the helper opens it, sees this task alone, hands the key in, and the run goes on."""
    task, connection = asked()
    operator = browser(person(Role.OPERATOR))
    shown = operator.post(f"/tasks/{task.id}/link", {"for": "ann of the vendor"}, on=f"/tasks/{task.id}")
    url = re.search(r'value="(http://127\.0\.0\.1:8425/help#[\w-]+)"', shown.text)[1]
    assert url not in operator.get(f"/tasks/{task.id}").text
    helper, answer = enter(browser, url.partition("#")[2])
    assert (answer.status_code, answer.headers["location"]) == (303, "/help")
    page = helper.get("/help")
    assert "Create a key" in page.text
    assert "Hand in" in text(page)
    for elsewhere in ("/connections", "/approvals", "/tasks", "/people"):
        assert f'href="{elsewhere}' not in page.text
        assert helper.get(elsewhere).headers["location"].startswith("/sign-in")
    values = shapes.pasted(shapes.person_supplies(vendor.client, connection.settings["principal"]))
    done = hand_in(helper, task, values)
    assert done.status_code == 200
    assert "Thank you" in done.text
    assert all(value not in done.text for value in values.values())
    assert "Open the task" in helper.get("/help").text
    wait_for(lambda: tasks.get(idle, task.id).state.value == "done" or runs.get(idle, task.run_id).cursor > 2)
    assert any(line.facts.get("verb") == "link" for line in events.latest(idle))
    assert any(
        line.facts.get("decision") == "link_used" and line.facts["from"] == "testclient"
        for line in runs.lines(idle, task.run_id)
    )


def test_only_the_browser_that_opened_it_sees_it(browser, asked, idle):
    """Reloading works there; anybody else, and the link a second time, get the same neutral page."""
    task, _ = asked()
    code = code_for(idle, task)
    helper, _ = enter(browser, code)
    assert task.title in text(helper.get("/help"))
    assert task.title in text(helper.get("/help"))
    other, refused = enter(browser, code)
    unknown = enter(browser, "x" * 43)[1]
    assert refused.status_code == unknown.status_code == 403
    plain = [re.sub(r'value="\w{64}"', "", each.text) for each in (refused, unknown)]
    assert plain[0] == plain[1]
    assert "This link opens nothing" in plain[0]
    assert task.title not in text(other.get("/help"))


def test_the_cookie_is_this_pages_alone(browser, person, asked, idle):
    """Not for scripts, not sent from elsewhere, worth nothing as a session."""
    person()
    task, _ = asked()
    helper, answer = enter(browser, code_for(idle, task))
    (cookie,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith("keyturn-help=")]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    helper.client.cookies.set("keyturn", helper.client.cookies["keyturn-help"])
    assert helper.get("/tasks").headers["location"].startswith("/sign-in")
    over_tls = SimpleNamespace(site=SimpleNamespace(is_tls=True))
    assert helping._cookie(over_tls) == "__Host-keyturn-help"


def test_opening_needs_a_post_with_our_token(browser, asked, idle):
    """A mail scanner that follows the link, or a page elsewhere, uses nothing up."""
    task, _ = asked()
    code = code_for(idle, task)
    stranger = browser()
    for path in (f"/help?code={code}", f"/help/{code}", "/help/hand-in"):
        assert task.title not in stranger.get(path).text
    assert stranger.client.post("/help", data={"code": code}).status_code == 403
    page = stranger.get("/help")
    form = {"csrf": hidden(page, "csrf"), "code": code}
    foreign = stranger.client.post("/help", data=form, headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    helper, answer = enter(browser, code)
    assert answer.status_code == 303
    forged = helper.client.post("/help/hand-in", data={"task": task.id, "field-secret": WRONG})
    assert forged.status_code == 403
    assert tasks.get(idle, task.id).state.value == "claimed"


def test_nothing_typed_comes_back(browser, asked, idle):
    """A missing field is named, may be typed again, and no value is drawn or kept."""
    task, _ = asked()
    helper, _ = enter(browser, code_for(idle, task))
    names = [f["name"] for f in task.fields]
    assert len(names) > 1
    missing = hand_in(helper, task, {names[-1]: WRONG})
    assert missing.status_code == 422
    assert "is missing" in missing.text
    assert WRONG not in missing.text
    assert hand_in(helper, task, dict.fromkeys(names, WRONG)).status_code == 200
    assert hand_in(helper, task, dict.fromkeys(names, WRONG)).status_code == 403
    assert WRONG not in repr(idle.store.read(lambda tx: tx.all("SELECT * FROM journal")))


def test_a_ticket_is_for_its_task(browser, asked, idle, vendor):
    """The form of another task is refused in the same words."""
    task, _ = asked()
    other, _ = asked(name="other")
    helper, _ = enter(browser, code_for(idle, task))
    answer = hand_in(helper, other, {str(f["name"]): WRONG for f in other.fields})
    assert answer.status_code == 403
    assert "This link opens nothing" in answer.text
    assert tasks.get(idle, other.id).state.value == "open"


def test_a_consent_by_a_link(browser, asked, idle):
    """The page has the button to the vendor's page; the callback hands the answer in, and the page shows nothing more."""
    task, _ = asked("grant", Goal.REAUTHORIZE)
    helper, _ = enter(browser, code_for(idle, task))
    page = helper.get("/help")
    url = str(task.instructions[0]["url"])
    if url.startswith("http"):
        assert "Open the consent page" in page.text
        assert 'rel="noopener noreferrer"' in page.text
    back = shapes.person_consents(url).partition("?")[2]
    assert helper.client.get(f"/oauth/callback?{back}").status_code == 200
    assert task.title not in text(helper.get("/help"))


def test_headers_and_no_inline_script(browser, asked, idle):
    """The strictest policy, no cache, no frames; the page works without a script."""
    task, _ = asked()
    helper, _ = enter(browser, code_for(idle, task))
    for page in (browser().get("/help"), helper.get("/help")):
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page.text)


def test_guessing_waits(browser, asked, idle):
    """After five codes that open nothing the address is told to wait."""
    asked()
    it = browser()
    answers = [it.post("/help", {"code": f"guess-{n}"}).status_code for n in range(6)]
    assert answers == [403] * 5 + [429]


def test_who_may_make_one(browser, person, asked):
    """A viewer and an approver may not; the button is not there."""
    task, _ = asked()
    for role in (Role.VIEWER, Role.APPROVER):
        it = browser(person(role))
        assert "do-link" not in it.get(f"/tasks/{task.id}").text
        assert it.post(f"/tasks/{task.id}/link", on="/account").status_code == 403
