"""Setup, invitations, signing in with a code, one's account, people: as somebody clicks through them."""

import re
import time

import pyotp
import pytest
from tests.web.conftest import PASSWORD, text

from keyturn.operations import events, people, sessions
from keyturn.operations.rights import Role


def decisions(hub):
    return [line.facts["decision"] for line in reversed(events.latest(hub))]


def test_a_fresh_hub(browser, idle):
    """Every address leads to setup; the code of the link makes the administrator, who sees useful empty pages."""
    it = browser()
    assert it.get("/connections").headers["location"] == "/setup"
    assert it.get("/sign-in").headers["location"] == "/setup"
    code = people.setup_code(idle).reveal()
    form = {"login": "ada@example.com", "name": "Ada", "password": PASSWORD, "again": PASSWORD}
    assert it.post("/setup", {**form, "code": "wrong"}).status_code == 403
    wrong = it.post("/setup", {**form, "code": code, "again": "x"})
    assert wrong.status_code == 422
    assert PASSWORD not in wrong.text
    weak = it.post("/setup", {**form, "code": code, "password": "short", "again": "short"})
    assert "12 characters" in weak.text
    assert 'value="ada@example.com"' in weak.text
    done = it.post("/setup", {**form, "code": code})
    assert done.headers["location"] == "/account/second-factor"
    assert "Nothing is connected yet" in it.get("/").text
    assert "Nothing is connected yet" in it.get("/connections").text
    assert "Nothing to do" in it.get("/tasks").text
    assert "No service identities" in it.get("/people").text
    assert it.get("/setup").headers["location"] == "/sign-in"
    assert decisions(idle)[-2:] == ["hub_set_up", "signed_in"]


def test_links_cannot_be_guessed_on(browser, idle):
    """After five wrong codes even the right one waits."""
    it, code = browser(), people.setup_code(idle).reveal()
    form = {"login": "ada", "name": "", "password": PASSWORD, "again": PASSWORD}
    codes = [it.post("/setup", {**form, "code": f"guess{n}"}).status_code for n in range(5)]
    assert codes == [403] * 5
    assert it.post("/setup", {**form, "code": code}).status_code == 429
    assert people.is_fresh(idle)


def test_signing_in_is_refused_in_the_same_words(browser, person, idle):
    """And what was typed is not shown again, the password least of all."""
    account, it = person(), browser()
    answers = [
        it.post("/sign-in", {"login": name, "password": "wrong-wrong-wrong"})
        for name in (account.login, "nobody")
    ]
    assert {a.status_code for a in answers} == {403}
    said = [re.sub(r'value="[^"]*"', "", a.text) for a in answers]
    assert said[0] == said[1]
    assert "wrong-wrong" not in answers[0].text
    for _ in range(5):
        last = it.post("/sign-in", {"login": account.login, "password": "wrong-wrong-wrong"})
    assert last.status_code == 429
    assert "Wait" in last.text


def factor(it):
    """Sets up an authenticator by the pages: its secret, the recovery codes."""
    page = it.get("/account/second-factor")
    secret = re.search(r'id="totp-key">(\w+)<', page.text)[1]
    assert "<svg" in page.text
    done = it.post("/account/second-factor", {"code": pyotp.TOTP(secret).now()})
    return secret, re.findall(r"<li>(\w{4}-\w{4}-\w{4})</li>", done.text)


def test_an_authenticator_from_end_to_end(browser, person, idle):
    """Set up with a picture, asked for at the next sign-in, recovery codes shown once, removed with the password."""
    account = person()
    it = browser(account)
    assert "password only" in it.get("/").text
    assert it.post("/account/second-factor", {"code": "000000"}).status_code == 422
    secret, codes = factor(it)
    assert len(codes) == 10
    assert "password only" not in it.get("/").text
    assert codes[0] not in it.get("/account").text
    assert secret not in it.get("/account").text
    other = browser()
    half = other.post("/sign-in", {"login": account.login, "password": PASSWORD, "next": "/tasks"})
    assert half.headers["location"] == "/sign-in/code"
    assert other.get("/").headers["location"] == "/sign-in"
    assert other.post("/sign-in/code", {"code": "000000"}).status_code == 403
    page = other.get("/sign-in/code")
    assert 'name="next" value="/tasks"' in page.text
    whole = other.post("/sign-in/code", {"code": pyotp.TOTP(secret).at(time.time() + 30), "next": "/tasks"})
    assert whole.headers["location"] == "/tasks"
    assert other.get("/tasks").status_code == 200
    assert it.post("/account/second-factor/remove", {"confirm": "wrong"}, on="/account").status_code == 422
    assert it.post("/account/second-factor/remove", {"confirm": PASSWORD}, on="/account").status_code == 303
    assert people.get(idle, account.id).account.totp_at is None


def test_a_recovery_code_lets_in_once(browser, person):
    account = person()
    _, codes = factor(browser(account))
    for code, wanted in ((codes[3], 303), (codes[3], 403)):
        it = browser()
        it.post("/sign-in", {"login": account.login, "password": PASSWORD})
        assert it.post("/sign-in/code", {"code": code}).status_code == wanted


def test_a_password_is_changed(browser, person, idle):
    """Other browsers are out; wrong answers are said at their field."""
    account = person()
    it, other = browser(account), browser(account)
    new = "another-long-one-77"
    assert (
        "not right"
        in it.post("/account/password", {"old": "x", "password": new, "again": new}, on="/account").text
    )
    assert (
        "not the same"
        in it.post("/account/password", {"old": PASSWORD, "password": new, "again": "y"}, on="/account").text
    )
    assert (
        it.post(
            "/account/password", {"old": PASSWORD, "password": new, "again": new}, on="/account"
        ).status_code
        == 303
    )
    assert it.get("/account").status_code == 200
    assert other.get("/account").status_code == 303
    browser().sign_in(account.login, new)


def test_sessions_are_seen_and_ended(browser, person):
    account = person()
    it, other = browser(account), browser(account)
    assert "This browser" in it.get("/account").text
    assert it.post("/account/sign-out", {}, on="/account").status_code == 303
    assert other.get("/account").status_code == 303
    assert it.get("/account").status_code == 200


def test_colours_are_ones_own_choice(browser, person):
    it = browser(person())
    assert it.post("/account/appearance", {"theme": "dark"}, on="/account").status_code == 303
    assert 'data-theme="dark"' in it.get("/").text
    it.post("/account/appearance", {"theme": '"><script>'}, on="/account")
    assert "data-theme" not in it.get("/").text


def test_an_invitation(browser, person, idle):
    """The link is shown once, with its code behind the #; a password is chosen with it, and it works once."""
    it = browser(person())
    made = it.post(
        "/people",
        {"kind": "person", "login": "Ben@Example.com", "name": "Ben", "role": "operator", "project": ""},
    )
    link = re.search(r'value="(http://127.0.0.1:8425/join#([\w-]+))"', made.text)
    assert link[2] not in it.get("/people").text
    ben = browser()
    form = {"code": link[2], "password": PASSWORD, "again": PASSWORD}
    assert ben.post("/join", form).status_code == 303
    assert ben.get("/connections").status_code == 200
    assert ben.get("/people").status_code == 403
    assert "People" not in ben.get("/").text
    assert browser().post("/join", form).status_code == 403
    assert (
        "already" in it.post("/people", {"kind": "person", "login": "ben@example.com", "role": "viewer"}).text
    )
    assert "invited" in decisions(idle)


def test_a_link_is_never_in_an_address(browser, person, idle):
    """Neither the browser's requests nor our redirects carry it."""
    it = browser(person())
    made = it.post("/people", {"kind": "person", "login": "ben", "role": "viewer"})
    code = re.search(r"/join#([\w-]+)", made.text)[1]
    answer = browser().post("/join", {"code": code, "password": PASSWORD, "again": PASSWORD})
    assert code not in str(answer.headers)
    assert code not in str(answer.request.url)


def test_roles_are_given(browser, person, idle):
    """For the hub and for a project; the last administrator stays one."""
    root = person()
    it, ben = browser(root), person(Role.VIEWER, "ben")
    path = f"/people/{ben.id}"
    assert (
        it.post(
            f"{path}/roles",
            {"role": ["viewer", "approver"], "project_role": "operator", "project": "billing"},
            on=path,
        ).status_code
        == 303
    )
    assert people.get(idle, ben.id).held == (
        ("approver", "", "local"),
        ("viewer", "", "local"),
        ("operator", "billing", "local"),
    )
    page = it.post(f"/people/{root.id}/roles", {"role": "viewer"}, on=path)
    assert page.status_code == 422
    assert "last administrator" in page.text
    assert it.post(f"{path}/roles", {"role": "emperor"}, on=path).status_code == 422


def test_an_account_is_switched_off(browser, person):
    it, ben = browser(person()), person(Role.OPERATOR, "ben")
    theirs = browser(ben)
    assert it.post(f"/people/{ben.id}/switch", {"on": "no"}, on=f"/people/{ben.id}").status_code == 303
    assert theirs.get("/").status_code == 303
    assert "Switch on again" in it.get(f"/people/{ben.id}").text


def test_a_token_is_shown_once(browser, person, idle):
    """And opens what its scopes say."""
    it = browser(person())
    made = it.post("/people", {"kind": "service", "login": "nightly", "name": "Nightly", "role": "operator"})
    path = made.headers["location"]
    assert "choose one" in it.post(f"{path}/tokens", {"name": "cron"}, on=path).text
    shown = it.post(f"{path}/tokens", {"name": "cron", "scope": ["read"], "days": "30"}, on=path)
    value = re.search(r'value="(ktnt_\w+)"', shown.text)[1]
    assert value not in it.get(path).text
    headers = {"Authorization": f"Bearer {value}"}
    client = browser().client
    assert client.get("/api/v1/connections", headers=headers).status_code == 200
    token = people.get(idle, path.rpartition("/")[2]).tokens[0].id
    assert it.post(f"{path}/tokens/{token}/end", on=path).status_code == 303
    assert client.get("/api/v1/connections", headers=headers).status_code == 401


def test_a_session_that_ended_leads_back(browser, person, idle):
    """A page goes to sign-in and comes back; a live fragment tells the browser to go there."""
    it = browser(person())
    sessions.sign_out(idle, it.client.cookies["keyturn"], by="x")
    assert it.get("/tasks").headers["location"] == "/sign-in?next=%2Ftasks"
    live = it.get("/tasks", headers={"hx-request": "true"})
    assert (live.status_code, live.headers["hx-redirect"]) == (401, "/sign-in?next=%2Ftasks")


@pytest.mark.parametrize(
    "zone", ["Europe%2FBerlin", "Asia/Tokyo", "../../etc/passwd", "Nowhere/Land", "x" * 300]
)
def test_dates_are_in_the_viewers_zone(browser, person, zone):
    """With the exact time on hover; a zone that is none means UTC."""
    it = browser(person())
    it.client.cookies.set("keyturn-zone", zone)
    page = it.get("/account").text
    wanted = {"Europe%2FBerlin": "CE", "Asia/Tokyo": "JST"}.get(zone, "UTC")
    assert re.search(rf'title="\d+ \w+ \d{{4}}, \d\d:\d\d:\d\d {wanted}', page)


def test_signing_in_is_on_record(browser, person, idle):
    """Who, from where, by what; refusals too."""
    account = person()
    it = browser()
    it.post("/sign-in", {"login": account.login, "password": "wrong-wrong-wrong"})
    it.sign_in(account.login)
    lines = [line.facts for line in reversed(events.latest(idle, 2))]
    assert [line["decision"] for line in lines] == ["sign_in_refused", "signed_in"]
    assert lines[0]["why"] == "wrong password"
    assert (lines[1]["by"], lines[1]["from"], lines[1]["how"]) == (account.login, "testclient", "password")


def test_the_error_page_is_a_page(browser, person):
    it = browser(person())
    answer = it.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page." in text(answer)
    assert it.get("/people/acc_none").status_code == 404
    assert browser().get("/api/v1/nowhere").headers["content-type"] == "application/problem+json"
