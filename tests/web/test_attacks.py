"""What an attacker tries at the pages."""

import re

import pytest
from tests.web.conftest import LOCAL, PASSWORD, Browser

from keyturn.operations import people, sessions
from keyturn.operations.rights import Role
from keyturn.web import words
from keyturn.web.guard import MOST_PER_MINUTE
from keyturn.web.site import local_path

MARKUP = "x<script>alert(1)</script>"


def test_headers_of_every_answer(browser, person):
    """Pages, redirects, errors and files: no inline script can run, nobody may frame them, nothing is kept."""
    it = browser(person())
    for path in ("/", "/sign-in", "/nope", "/connections/none", "/static/keyturn.css"):
        answer = it.get(path)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == (
            "no-store" if "static" not in path else "public, max-age=31536000, immutable"
        )


def test_no_page_has_inline_script_or_style(browser, person, connect):
    """So the policy costs nothing."""
    it, connection = browser(person()), connect()
    for path in (
        "/",
        "/connections",
        f"/connections/{connection.id}",
        f"/connections/{connection.id}/plan/rotate",
        "/tasks",
        "/people",
        "/account",
        "/account/second-factor",
    ):
        page = it.get(path).text
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page), path


def test_names_with_markup_are_text(browser, person, connect, idle):
    """A connection, owner, person, project and reason named like a script."""
    connection = connect()
    idle.store.write(
        lambda tx: tx.run(
            "UPDATE connection SET name = ?, owner = ?, project = ? WHERE id = ?",
            *([MARKUP] * 3),
            connection.id,
        )
    )
    made = people.invite(idle, LOCAL, "mallory", MARKUP, [("admin", "")])
    account = people.accept(idle, made.code.reveal(), PASSWORD)
    it = browser(account)
    for path in (
        "/",
        "/connections",
        f"/connections/{connection.id}",
        f"/connections/{connection.id}/plan/rotate",
        f"/connections/{connection.id}/history",
        "/people",
        f"/people/{account.id}",
        "/account",
        f"/connections?q={MARKUP}&state={MARKUP}&sort={MARKUP}",
    ):
        answer = it.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
    assert "&lt;script&gt;" in it.get("/connections").text


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\\\\evil",
        "",
        "evil",
        "/x\r\nSet-Cookie: a=b",
        "/\t/evil.example",
    ],
)
def test_no_open_redirect(browser, person, wanted):
    """After signing in only paths of this hub are followed."""
    assert local_path(wanted) == "/"
    account = person()
    answer = browser().post("/sign-in", {"login": account.login, "password": PASSWORD, "next": wanted})
    assert answer.headers["location"] == "/"


def test_the_way_back_after_signing_in(browser, person):
    account = person()
    it = browser()
    door = it.get("/connections?q=a%20b")
    assert door.headers["location"] == "/sign-in?next=%2Fconnections%3Fq%3Da%2520b"
    answer = it.post(
        "/sign-in", {"login": account.login, "password": PASSWORD, "next": "/connections?q=a%20b"}
    )
    assert answer.headers["location"] == "/connections?q=a%20b"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8425",
        "evil.example:8425",
        "127.0.0.1@evil.example",
        "[::1",
        "",
    ],
)
def test_a_foreign_host_is_refused(browser, host):
    """DNS rebinding and poisoned links end here; nothing of the name is repeated."""
    answer = browser().get("/sign-in", headers={"host": host})
    assert answer.status_code == 421
    assert "evil" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8425", "localhost:9999", "[::1]:8425", "LOCALHOST"])
def test_loopback_names_of_a_local_hub_are_ours(browser, person, host):
    person()
    assert browser().get("/sign-in", headers={"host": host}).status_code == 200


def test_a_planted_session_is_worth_nothing(browser, person, idle):
    """Whatever cookie there was before, signing in makes a new one."""
    account, it = person(), browser()
    it.client.cookies.set("keyturn", "planted-by-somebody-else")
    it.sign_in(account.login)
    values = [
        c.value
        for c in it.client.cookies.jar
        if c.name == "keyturn" and c.value != "planted-by-somebody-else"
    ]
    assert len(values) == 1
    assert sessions.who(idle, "planted-by-somebody-else") is None
    assert sessions.who(idle, values[0])


def test_the_value_before_the_code_is_not_the_one_after(browser, person, idle):
    """And a session ends in the database when its person signs out."""
    it = browser(person())
    value = it.client.cookies["keyturn"]
    assert it.post("/sign-out", on="/account").status_code == 303
    assert sessions.who(idle, value) is None
    it.client.cookies.set("keyturn", value)
    assert it.get("/account").status_code == 303


def test_cookies_are_closed(browser, person):
    """Not for scripts, not with foreign requests; on a hub behind TLS only over TLS and for this host."""
    account = person()
    answer = browser().post("/sign-in", {"login": account.login, "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie


def test_cookies_over_tls(idle, person):
    from dataclasses import replace

    from keyturn.api.app import create_app

    account = person()
    hub = replace(idle, settings=replace(idle.settings, public_url="https://hub.example"))
    it = Browser(create_app(hub))
    it.client.base_url = "https://hub.example"
    answer = it.post("/sign-in", {"login": account.login, "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-keyturn=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert it.get("/", headers={"host": "127.0.0.1"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null"},
    ],
)
def test_a_form_from_elsewhere_is_refused(browser, person, connect, idle, headers):
    """Even with a right token."""
    it, connection = browser(person()), connect()
    answer = it.post(f"/connections/{connection.id}/test", on="/account", headers=headers)
    assert answer.status_code == 403
    assert "came from elsewhere" in answer.text


@pytest.mark.parametrize("token", ["", "0" * 64, None])
def test_a_form_without_its_token_is_refused(browser, person, token):
    """Also at sign-in, where a foreign page could sign a person in as somebody else."""
    account, it = person(), browser()
    it.get("/sign-in")
    data = {"login": account.login, "password": PASSWORD} | ({"csrf": token} if token is not None else {})
    assert it.client.post("/sign-in", data=data).status_code == 403
    me = browser(account)
    assert me.client.post("/sign-out", data=data).status_code == 403


def test_somebody_elses_token_is_refused(browser, person):
    """A token belongs to its cookie."""
    one, two = browser(person()), browser(person(Role.ADMIN, "two"))
    csrf = re.search(r'name="csrf" value="(\w+)"', one.get("/account").text)[1]
    assert two.client.post("/sign-out", data={"csrf": csrf}).status_code == 403


def test_changes_need_a_post(app, browser, person, connect):
    """No link changes anything: each path that changes answers 404 to a GET."""
    it, connection = browser(person()), connect()
    assert it.get("/sign-out").status_code == 404
    assert it.get(f"/connections/{connection.id}/test").status_code == 404
    assert it.get(f"/connections/{connection.id}/start/rotate").status_code == 404


def test_too_large_a_form_is_refused(browser, person):
    it = browser(person())
    assert it.post("/account/password", {"old": "x" * 2_000_000}, on="/account").status_code == 413
    assert it.post("/account/password", {f"f{n}": "x" for n in range(300)}, on="/account").status_code in {
        400,
        413,
    }


def test_a_flood_is_refused(browser):
    it = browser()
    codes = {it.get("/static/icon.svg").status_code for _ in range(MOST_PER_MINUTE + 5)}
    assert codes <= {200, 429}
    assert 429 in codes or len(codes) == 1  # the minute may have turned over


def test_somebody_elses_things_stay_theirs(browser, person, idle):
    """One's own page ends only one's own sessions; ids of others are not found."""
    other = person(Role.ADMIN, "other")
    browser(other)
    theirs = sessions.of(idle, other.id)[0]
    it = browser(person(Role.VIEWER, "me"))
    assert it.post("/account/sign-out", {"session": theirs.digest[:16]}, on="/account").status_code == 404
    assert len(sessions.of(idle, other.id)) == 1


def test_a_forged_message_is_not_shown(browser, person):
    """What a page says after a redirect is signed."""
    it = browser(person())
    it.client.cookies.set("keyturn-said", "WyJnb29kIiwiUGF5IG1hbGxvcnkiXQ==.00")
    assert "Pay mallory" not in it.get("/").text


def test_a_signed_value_is_for_one_purpose(app):
    """What was signed as a way back is no message, and no other hub's either."""
    site = app.state.pages.site
    signed = site.sign("/tasks", "next")
    assert site.unsign(signed, "next") == "/tasks"
    assert site.unsign(signed, "said") is None
    assert site.unsign(signed) is None
    assert site.unsign("", "next") is None


def test_only_web_addresses_become_links():
    assert words.link("https://vendor.example/x") == "https://vendor.example/x"
    for bad in ("javascript:alert(1)", "data:text/html,x", " javascript:alert(1)", "vbscript:x"):
        assert words.link(bad) == ""


def test_an_error_of_ours_shows_an_incident_and_nothing_else(browser, person, monkeypatch, caplog):
    from keyturn.operations import overview

    it = browser(person())

    def broken(*_args, **_more):
        raise RuntimeError("secret-in-a-message-77")

    monkeypatch.setattr(overview, "today", broken)
    answer = it.get("/")
    assert answer.status_code == 500
    assert "Incident req_" in answer.text
    assert "secret-in-a-message" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text
