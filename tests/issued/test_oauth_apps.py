# ruff: noqa: F811 - fixtures are imported
"""OAuth applications: a person's consent, codes that work once, refresh tokens that turn over, and taking it all back."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.issued.oauth_world import (  # noqa: F401 - fixtures
    CALLBACK,
    LOCAL,
    Registered,
    _quick_hashes,
    person,
    register,
    world,
)
from tests.issued.test_oauth_clients import ended, is_error

from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.issued import oauth as core
from keyturn.issued.book import IssuedBook
from keyturn.keymaking import passwords
from keyturn.model.run import RunState
from keyturn.operations import events, grants, issued, leaks, people
from keyturn.operations.rights import Role
from keyturn.storage import journal
from keyturn.storage import oauth as rows


@pytest.fixture
def eve(world):
    return person(world.hub)


@pytest.fixture
def app(world, eve):
    return register(world.hub, "oauth-app", "portal", scopes="read lease")


def sent_back(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def live(world):
    """(access, refresh) tokens that work now, by the rows themselves."""

    def work(tx):
        found = tx.all(
            "SELECT t.kind, t.used_at FROM oauth_token t JOIN oauth_grant g ON g.id = t.grant_id"
            " WHERE t.revoked_at IS NULL AND g.ended_at IS NULL AND t.expires_at > ?",
            time.time(),
        )
        return (
            sum(kind == rows.ACCESS for kind, _ in found),
            sum(kind == rows.REFRESH and used is None for kind, used in found),
        )

    return world.hub.store.read(work)


def test_the_whole_way(world, app, eve):
    """Sign in, consent, code, tokens, a call as that person, a refresh; all of it on record."""
    browser = world.browser()
    url, verifier = world.ask(app)
    found = sent_back(browser.consent(url, "eve"))
    assert set(found) == {"code", "state", "iss"}
    assert (found["state"], found["iss"]) == ("st-1", world.base)
    body = is_ok(world.redeem(app, found["code"], verifier))
    assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert passwords.parse(body["refresh_token"]).kind == "r"
    seen = world.whoami(body["access_token"]).json()
    assert (seen["credential"], seen["scopes"], seen["subject"]) == ("portal", ["read"], eve.id)
    said = [line.facts for line in events.latest(world.hub)]
    allowed = next(facts for facts in said if facts["decision"] == "application_allowed")
    assert (allowed["by"], allowed["application"], allowed["scopes"]) == ("eve", "portal", "read")
    assert found["code"] not in str(said)
    fresh = is_ok(world.refresh(app, body["refresh_token"]))
    assert fresh["refresh_token"] != body["refresh_token"]
    assert world.whoami(fresh["access_token"]).status_code == 200


def is_ok(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


# -- the page ------------------------------------------------------------------------------------------------------------


def test_the_page_says_who_asks_for_what(world, app):
    """Application, owner, scopes in words, callback host, the person; a strict policy that lets the form go to the callback."""
    browser = world.browser()
    browser.sign_in("eve")
    url, _ = world.ask(app, scope="read lease:warehouse")
    page = browser.get(url)
    for text in (
        "portal",
        "ada",
        "eve",
        "see connections",
        "fetch the credential of warehouse",
        "https://portal.example.com",
    ):
        assert text in page.text
    policy = page.headers["content-security-policy"]
    assert "form-action 'self' https://portal.example.com;" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-frame-options"] == "DENY"


def test_hostile_names_are_text(world, eve):
    """What is shown of an application is text, whatever its owner is called."""
    issued.issue(
        world.hub, "oauth-app", "portal", {"callback_urls": CALLBACK}, owner="<script>alert(1)</script>"
    )
    client = Registered(issued.get(world.hub, "portal").client_id, "", "portal")
    browser = world.browser()
    browser.sign_in("eve")
    page = browser.get(world.ask(client)[0])
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text


def test_refusing(world, app):
    """No is an answer that the application gets; nothing can be had for it."""
    url, _ = world.ask(app)
    found = sent_back(world.browser().consent(url, "eve", "refuse"))
    assert (found["error"], found["state"], found["iss"]) == ("access_denied", "st-1", world.base)
    assert "code" not in found
    assert live(world) == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "ktnc_0123456789012345678901"},
        {"client_id": "'; DROP TABLE oauth_grant; --"},
        {"client_id": None},
        {"redirect_uri": "https://evil.example.com/callback"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?x=1"},
        {"redirect_uri": CALLBACK + "#f"},
        {"redirect_uri": CALLBACK.replace("https", "http")},
        {"redirect_uri": CALLBACK.replace("portal.", "PORTAL.")},
        {"redirect_uri": "https://portal.example.com:443/callback"},
        {"redirect_uri": "https://portal.example.com@evil.example.com/callback"},
        {"redirect_uri": "https://portal.example.com/callback/../evil"},
        {"redirect_uri": "https://portal.example.com/callback%2e"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "//evil.example.com"},
    ],
)
def test_a_wrong_client_or_callback_goes_nowhere(world, app, wrong):
    """RFC 6749 4.1.2.1: shown to the person, never redirected, and nothing of it repeated."""
    browser = world.browser()
    browser.sign_in("eve")
    page = browser.get(world.ask(app, **wrong)[0])
    assert page.status_code == 404
    assert "location" not in page.headers
    for value in wrong.values():
        assert value is None or value not in page.text


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "x" * 44}, "invalid_request"),
        ({"client_secret": "ktns_x"}, "invalid_request"),
        ({"scope": "bulk"}, "invalid_scope"),
        ({"scope": "read admin"}, "invalid_scope"),
    ],
)
def test_other_mistakes_go_back_to_the_application(world, app, wrong, error):
    """With the error, the state and the issuer; before anybody is asked to sign in."""
    answer = world.browser().get(world.ask(app, **wrong)[0])
    assert answer.status_code == 303
    url = answer.headers["location"]
    assert url.startswith(CALLBACK + "?")
    found = sent_back(url)
    assert (found["error"], found["state"], found["iss"]) == (error, "st-1", world.base)


def test_repeated_parameters_are_refused(world, app):
    """RFC 6749 3.1; with two callbacks nobody is redirected."""
    url, _ = world.ask(app)
    for more in ("&redirect_uri=https://evil.example.com/", "&state=x", f"&client_id={app.id}"):
        assert world.browser().get(url + more).status_code == 404


def test_a_forged_answer_counts_for_nothing(world, app):
    """Without the token of the form, or with a request that was not signed by the page, nothing is allowed."""
    browser = world.browser()
    browser.sign_in("eve")
    page = browser.get(world.ask(app)[0])
    asked = page.text.split('name="asked" value="')[1].split('"')[0]
    token = page.text.split('name="csrf" value="')[1].split('"')[0]
    assert browser.post("/oauth/authorize", {"asked": asked, "answer": "allow"}).status_code == 403
    other = world.browser()
    other.sign_in("eve")
    forged = other.post("/oauth/authorize", {"csrf": token, "asked": asked, "answer": "allow"})
    assert forged.status_code == 403
    for broken in ("", asked[:-1], "A" + asked, asked.split(".")[0]):
        assert (
            browser.post("/oauth/authorize", {"csrf": token, "asked": broken, "answer": "allow"}).status_code
            == 404
        )
    assert grants.allowed(world.hub) == []
    nobody = world.browser().post("/oauth/authorize", {"csrf": token, "asked": asked, "answer": "allow"})
    assert "code=" not in nobody.headers.get("location", "")


def test_anything_but_allow_is_a_no(world, app):
    """Deny by default."""
    for answer in ("", "yes", "ALLOW"):
        browser = world.browser()
        found = sent_back(browser.consent(world.ask(app)[0], "eve", answer))
        assert found["error"] == "access_denied"


def test_long_requests_survive_the_sign_in_and_huge_ones_do_not(world, app):
    """The request waits in a signed cookie while somebody signs in."""
    state = "s" * 900
    found = sent_back(world.browser().consent(world.ask(app, state=state)[0], "eve"))
    assert found["state"] == state
    assert world.browser().get(world.ask(app, state="s" * 4000)[0]).status_code == 404


# -- callbacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "urls",
    [
        "http://portal.example.com/cb",
        "https://portal.example.com/cb#x",
        "https://*.example.com/cb",
        "https://user@portal.example.com/cb",
        "/cb",
        "javascript:alert(1)",
        "com.example.app:/cb",
        "https://",
        "https://portal.example.com:0/cb",
        "https://portal.example.com:99999/cb",
        "https://a\\@b/cb",
        " ".join(f"https://portal.example.com/{n}" for n in range(11)),
    ],
)
def test_callbacks_that_are_not_taken(world, urls):
    """https, or http on loopback; absolute, no fragment, no user, no wildcard, at most ten."""
    with pytest.raises(InvalidInput) as caught:
        register(world.hub, "oauth-app", "portal", callback_urls=urls)
    assert caught.value.facts["field"] == "callback_urls"


@pytest.mark.parametrize(
    ("registered", "asked", "fits"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:49152/cb", True),
        ("http://[::1]/cb", "http://[::1]:49152/cb", True),
        ("http://localhost/cb", "http://localhost:3000/cb", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:49152/other", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb?x=1", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:x/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1@evil.example.com/cb", False),
        ("http://127.0.0.1/cb", "http://localhost/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.2/cb", False),
        ("http://127.0.0.1/cb", "https://127.0.0.1:1/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example.com/cb", False),
        ("https://portal.example.com/cb", "https://portal.example.com:444/cb", False),
    ],
)
def test_a_loopback_callback_may_have_any_port(registered, asked, fits):
    """RFC 8252 7.3; everything else is compared letter by letter."""
    assert core._same_callback(registered, asked) is fits


def test_several_callbacks_must_be_named(world, eve):
    """With one it may be left out, at both ends; with two nobody guesses."""
    one = register(world.hub, "oauth-app", "one")
    code, verifier = world.code(one, redirect_uri=None)
    data = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, **one.posted}
    is_ok(world.post("/oauth/token", data))
    two = register(world.hub, "oauth-app", "two", callback_urls=f"{CALLBACK} https://portal.example.com/b")
    assert world.browser().get(world.ask(two, redirect_uri=None)[0]).status_code == 404
    is_ok(
        world.redeem(
            two,
            *world.code(two, redirect_uri="https://portal.example.com/b"),
            redirect_uri="https://portal.example.com/b",
        )
    )


# -- codes ---------------------------------------------------------------------------------------------------------------


def test_a_code_works_once_and_a_second_use_ends_what_came_of_it(world, app):
    """RFC 6749 4.1.2."""
    code, verifier = world.code(app)
    body = is_ok(world.redeem(app, code, verifier))
    is_error(world.redeem(app, code, verifier), 400, "invalid_grant")
    assert world.whoami(body["access_token"]).status_code == 401
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")


def test_twenty_at_once_with_one_code(world, app):
    """At most one gets tokens, and since the code was played back, nothing stays alive."""
    code, verifier = world.code(app)
    start = threading.Barrier(20, timeout=60)

    def redeem(_):
        start.wait()
        return world.redeem(app, code, verifier)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(redeem, range(20)))
    good = [a for a in answers if a.status_code == 200]
    assert len(good) <= 1
    assert all(a.json()["error"] == "invalid_grant" for a in answers if a.status_code == 400)
    assert live(world) == (0, 0)


def test_a_code_is_bound(world, app):
    """To its client, its callback and its challenge; a wrong try does not use it up."""
    other = register(world.hub, "oauth-app", "other")
    code, verifier = world.code(app)
    is_error(world.redeem(other, code, verifier), 400, "invalid_grant")
    is_error(world.redeem(app, code, verifier, "https://portal.example.com/other"), 400, "invalid_grant")
    is_error(world.redeem(app, code, "x" * 64), 400, "invalid_grant")
    is_error(world.redeem(app, code, "short"), 400, "invalid_request")
    is_error(world.redeem(app, code, ""), 400, "invalid_request")
    is_error(world.redeem(app, "0" * 64, verifier), 400, "invalid_grant")
    is_error(
        world.redeem(Registered(app.id, passwords.token("s"), ""), code, verifier), 401, "invalid_client"
    )
    is_ok(world.redeem(app, code, verifier))


def test_a_code_lasts_a_minute(world, app, monkeypatch):
    """Then consent is asked for anew."""
    code, verifier = world.code(app)
    world.hub.store.write(lambda tx: tx.run("UPDATE oauth_code SET expires_at = expires_at - ?", core.CODE_S))
    is_error(world.redeem(app, code, verifier), 400, "invalid_grant")


def test_no_token_without_pkce(world, app):
    """A code is never exchanged without its verifier, also by a client with a secret."""
    code, _ = world.code(app)
    data = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, **app.posted}
    is_error(world.post("/oauth/token", data), 400, "invalid_request")


# -- refresh tokens ------------------------------------------------------------------------------------------------------


def test_refresh_tokens_turn_over(world, app):
    """Each is used up by the next; the chain goes on."""
    body = world.signed_up(app)
    seen = {body["refresh_token"]}
    for _ in range(5):
        body = is_ok(world.refresh(app, body["refresh_token"]))
        assert body["refresh_token"] not in seen
        seen.add(body["refresh_token"])
    assert world.whoami(body["access_token"]).status_code == 200
    assert live(world)[1] == 1


@pytest.mark.parametrize("public", [False, True])
def test_a_hundred_at_once_with_one_refresh_token(world, eve, public):
    """Everybody is answered with the very same successors: one family, one living refresh token, one access token more,
    nobody locked out; and it goes on from there."""
    values = {"client_type": "public"} if public else {}
    client = register(world.hub, "oauth-app", "portal", **values)
    body = world.signed_up(client)
    start = threading.Barrier(100, timeout=60)

    def refresh(_):
        start.wait()
        return world.refresh(client, body["refresh_token"])

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(refresh, range(100)))
    assert [a.status_code for a in answers] == [200] * 100
    assert len({(a.json()["access_token"], a.json()["refresh_token"]) for a in answers}) == 1
    assert live(world) == (2, 1)
    families = world.hub.store.read(lambda tx: tx.all("SELECT DISTINCT grant_id FROM oauth_token"))
    assert len(families) == 1
    fresh = answers[0].json()
    assert world.whoami(fresh["access_token"]).status_code == 200
    is_ok(world.refresh(client, fresh["refresh_token"]))


def test_a_lost_answer_is_repeated_within_the_grace(world, app):
    """The same request again gives the same tokens, as long as those were not used to refresh."""
    body = world.signed_up(app)
    first = is_ok(world.refresh(app, body["refresh_token"]))
    again = is_ok(world.refresh(app, body["refresh_token"]))
    assert {**first, "expires_in": 0} == {**again, "expires_in": 0}
    is_ok(world.refresh(app, first["refresh_token"]))
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")
    assert live(world) == (0, 0)


def test_playing_back_after_the_grace_ends_the_family(world, app):
    """RFC 9700 4.14.2: whoever has the newest loses it too, since nobody knows who is the thief."""
    body = world.signed_up(app)
    fresh = is_ok(world.refresh(app, body["refresh_token"]))
    world.hub.store.write(lambda tx: tx.run("UPDATE oauth_token SET used_at = used_at - ?", core.GRACE_S + 1))
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")
    assert world.whoami(fresh["access_token"]).status_code == 401
    is_error(world.refresh(app, fresh["refresh_token"]), 400, "invalid_grant")
    why = "a used refresh token was presented again"
    assert world.hub.store.read(lambda tx: tx.one("SELECT ended_why FROM oauth_grant"))[0] == why
    connection_id = issued.get(world.hub, "portal").connection.id
    lines = world.hub.store.read(lambda tx: journal.of_connection(tx, connection_id))
    assert [line.facts["why"] for line in lines if line.facts.get("what") == "grant_ended"] == [why]


def test_a_clock_set_back_does_not_open_the_grace_again(world, app):
    """A use that seems to be in the future is no retry."""
    body = world.signed_up(app)
    is_ok(world.refresh(app, body["refresh_token"]))
    world.hub.store.write(
        lambda tx: tx.run("UPDATE oauth_token SET used_at = used_at + 3600 WHERE used_at IS NOT NULL")
    )
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")


def test_of_two_at_once_the_later_may_be_first(world, app):
    """Whoever asked a moment earlier and was overtaken is no thief: the order of commits is not the order of clocks."""
    body = world.signed_up(app)
    first = is_ok(world.refresh(app, body["refresh_token"]))
    ahead = "UPDATE oauth_token SET used_at = used_at + 5 WHERE used_at IS NOT NULL"
    world.hub.store.write(lambda tx: tx.run(ahead))
    assert is_ok(world.refresh(app, body["refresh_token"]))["refresh_token"] == first["refresh_token"]


def test_what_successors_were_derived_with_is_forgotten(world, app):
    """Once a successor was used, nothing in the database leads from the old token to it any more."""
    body = world.signed_up(app)
    second = is_ok(world.refresh(app, body["refresh_token"]))
    is_ok(world.refresh(app, second["refresh_token"]))
    salts = world.hub.store.read(lambda tx: tx.all("SELECT salt FROM oauth_token WHERE used_at IS NOT NULL"))
    assert sorted(bool(row[0]) for row in salts) == [False, True]


def test_a_refresh_token_is_its_clients_alone(world, app):
    """Another client, no secret, an access token, a scope that was not allowed."""
    other = register(world.hub, "oauth-app", "other")
    body = world.signed_up(app)
    is_error(world.refresh(other, body["refresh_token"]), 400, "invalid_grant")
    is_error(world.refresh(Registered(app.id, "", ""), body["refresh_token"]), 401, "invalid_client")
    is_error(world.refresh(app, body["access_token"]), 400, "invalid_grant")
    is_error(world.refresh(app, passwords.token("r")), 400, "invalid_grant")
    is_error(world.refresh(app, body["refresh_token"], scope="lease"), 400, "invalid_scope")
    is_error(world.refresh(app, body["refresh_token"], scope="read bulk"), 400, "invalid_scope")
    is_ok(world.refresh(app, body["refresh_token"], scope="read"))


def test_a_narrow_refresh_does_not_narrow_the_grant(world, app):
    """RFC 6749 6: the next refresh token has the scopes of the first."""
    body = world.signed_up(app, scope="read lease:warehouse")
    narrow = is_ok(world.refresh(app, body["refresh_token"], scope="read"))
    assert narrow["scope"] == "read"
    assert is_ok(world.refresh(app, narrow["refresh_token"]))["scope"] == "read lease:warehouse"


def test_who_stays_away_too_long_asks_again(world, eve):
    """A refresh token ends when it was not used for its days."""
    client = register(world.hub, "oauth-app", "portal", refresh_days="1")
    body = world.signed_up(client)
    world.hub.store.write(lambda tx: tx.run("UPDATE oauth_token SET expires_at = expires_at - 86400"))
    is_error(world.refresh(client, body["refresh_token"]), 400, "invalid_grant")


# -- public clients ------------------------------------------------------------------------------------------------------


def test_a_public_client_has_an_id_and_nothing_else(world, eve):
    """It is handed no secret, needs none, cannot pretend to have one, and has none to rotate."""
    client = register(world.hub, "oauth-app", "portal", client_type="public")
    assert client.secret == ""
    body = world.signed_up(client)
    assert world.whoami(body["access_token"]).status_code == 200
    is_ok(world.refresh(client, body["refresh_token"]))
    is_error(world.redeem(Registered(client.id, passwords.token("s"), ""), "x", "y"), 401, "invalid_client")
    is_error(world.introspect(Registered(client.id, passwords.token("s"), ""), "x"), 401, "invalid_client")
    is_error(world.post("/oauth/introspect", {"token": "x", "client_id": client.id}), 401, "invalid_client")
    with pytest.raises(InvalidInput, match="public client"):
        issued.reissue(world.hub, "portal")
    version = issued.get(world.hub, "portal").secrets[0].version_id
    with pytest.raises(Conflict, match="no secret"):
        issued.reveal(world.hub, version)


def test_a_public_client_may_revoke_its_own(world, eve):
    """By its id (RFC 7009 2.1)."""
    client = register(world.hub, "oauth-app", "portal", client_type="public")
    body = world.signed_up(client)
    assert world.revoke(client, body["refresh_token"]).status_code == 200
    assert world.whoami(body["access_token"]).status_code == 401
    is_error(world.refresh(client, body["refresh_token"]), 400, "invalid_grant")


def test_ending_a_public_client(world, eve):
    """Revoking or making it anew ends everything people allowed it."""
    client = register(world.hub, "oauth-app", "portal", client_type="public")
    body = world.signed_up(client)
    handed = issued.recreate(world.hub, "portal")
    assert handed.value.reveal() == ""
    assert ended(world.hub, handed.run).state is RunState.COMPLETE
    assert world.whoami(body["access_token"]).status_code == 401
    is_error(world.refresh(client, body["refresh_token"]), 401, "invalid_client")
    assert world.browser().get(world.ask(client)[0]).status_code == 404
    fresh = Registered(handed.client_id, "", "portal")
    is_ok(world.refresh(fresh, world.signed_up(fresh)["refresh_token"]))


# -- what a token may do, and what ends it -------------------------------------------------------------------------------


def test_a_token_does_no_more_than_its_person(world, app):
    """Scope and role must both allow it; a role that changes counts from the next call on."""
    person(world.hub, "boss", Role.ADMIN)
    viewer = person(world.hub, "vic", Role.VIEWER)
    token = world.signed_up(app, "vic", scope="read lease")["access_token"]

    def lease(value):
        wanted = {"connection": "warehouse", "consumer": "etl"}
        headers = {"Authorization": f"Bearer {value}"}
        return world.http.post("/api/v1/leases", json=wanted, headers=headers).status_code

    def read(value):
        return world.http.get("/api/v1/connections", headers={"Authorization": f"Bearer {value}"}).status_code

    assert (lease(token), read(token)) == (403, 200)
    people.set_roles(world.hub, LOCAL, viewer.id, [("operator", "")])
    assert (lease(token), read(token)) == (404, 200)  # allowed now; there is no such connection
    people.set_roles(world.hub, LOCAL, viewer.id, [("viewer", "")])
    assert lease(token) == 403
    narrow = world.signed_up(app, "boss", scope="read")["access_token"]
    assert (lease(narrow), read(narrow)) == (403, 200)  # an administrator's read token reads


def test_an_administrators_consent_to_read_is_no_consent_to_write(world, app):
    """The scopes bind everybody: a token that an administrator allowed for reading writes nothing."""
    person(world.hub, "boss", Role.ADMIN)
    bearer = {"Authorization": f"Bearer {world.signed_up(app, 'boss', scope='read')['access_token']}"}
    assert world.http.get("/api/v1/connections", headers=bearer).status_code == 200
    for path, body in (
        ("/api/v1/issued", {"kind": "api-key", "name": "x"}),
        ("/api/v1/leases", {"connection": "x", "consumer": "y"}),
        ("/api/v1/issued/portal/revoke", {}),
    ):
        answer = world.http.post(path, json=body, headers=bearer)
        assert (answer.status_code, answer.json()["code"]) == (403, "cred.scope")
    assert [each.connection.name for each in issued.every(world.hub)] == ["portal"]


def test_what_the_application_lost_its_tokens_lost_too(world, app):
    """Scopes that were taken from it count no more, in tokens that live and in those that follow."""
    body = world.signed_up(app, scope="read lease")
    world.hub.store.write(
        lambda tx: tx.run(
            "UPDATE connection SET settings = ? WHERE name = 'portal'",
            json.dumps({"callback_urls": CALLBACK, "scopes": "read"}),
        )
    )
    assert world.whoami(body["access_token"]).json()["scopes"] == ["read"]
    assert world.introspect(app, body["access_token"]).json()["scope"] == "read"
    assert is_ok(world.refresh(app, body["refresh_token"]))["scope"] == "read"


def test_a_person_who_is_switched_off_takes_their_tokens_along(world, app, eve):
    """Refused from the next call on, for access, refresh and introspection."""
    person(world.hub, "boss", Role.ADMIN)
    body = world.signed_up(app)
    people.switch(world.hub, LOCAL, eve.id, on=False)
    assert world.whoami(body["access_token"]).status_code == 401
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")
    assert world.introspect(app, body["access_token"]).json() == {"active": False}


def test_people_see_and_take_back_what_they_allowed(world, app, eve):
    """On a page of their account; nobody else's; refused from then on."""
    browser = world.browser()
    body = world.signed_up(app, browser=browser)
    page = browser.get("/account/apps")
    assert "portal" in page.text
    token = page.text.split('name="csrf" value="')[1].split('"')[0]
    grant = grants.allowed(world.hub)[0]
    assert (grant.application, grant.subject, grant.scopes) == ("portal", "eve", ("read",))
    mallory = person(world.hub, "mallory")
    with pytest.raises(NotFound):
        grants.take_back(world.hub, grant.id, by="mallory", account_id=mallory.id)
    assert world.whoami(body["access_token"]).status_code == 200
    answer = browser.post(f"/account/apps/{grant.id}/end", {"csrf": token})
    assert answer.status_code == 303
    assert world.whoami(body["access_token"]).status_code == 401
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")
    assert grants.allowed(world.hub) == []
    assert "No application acts for you" in browser.get("/account/apps").text


def test_revoking_a_refresh_token_ends_its_family_and_an_access_token_only_itself(world, app):
    """RFC 7009 2.1."""
    body = world.signed_up(app)
    world.revoke(app, body["access_token"])
    assert world.whoami(body["access_token"]).status_code == 401
    fresh = is_ok(world.refresh(app, body["refresh_token"]))
    world.revoke(app, fresh["refresh_token"])
    assert world.whoami(fresh["access_token"]).status_code == 401
    is_error(world.refresh(app, fresh["refresh_token"]), 400, "invalid_grant")
    assert world.introspect(app, fresh["refresh_token"]).json() == {"active": False}


def test_a_leaked_refresh_token_ends_its_family(world, app):
    """Everything that came of that consent, at once; another person's goes on, and so does the application."""
    body, other = world.signed_up(app), world.signed_up(app, person(world.hub, "kim").login)
    found = leaks.report(world.hub, f'"refresh_token": "{body["refresh_token"]}"')
    assert [(each.name, each.what, each.was_live) for each in found.known] == [
        ("portal", "refresh token", True)
    ]
    assert world.whoami(body["access_token"]).status_code == 401
    is_error(world.refresh(app, body["refresh_token"]), 400, "invalid_grant")
    assert world.whoami(other["access_token"]).status_code == 200
    is_ok(world.refresh(app, other["refresh_token"]))


def test_a_used_refresh_token_is_not_active(world, app):
    """Introspection speaks of what would be taken now."""
    body = world.signed_up(app)
    live_one = world.introspect(app, body["refresh_token"]).json()
    assert live_one["active"] is True
    assert "token_type" not in live_one
    world.refresh(app, body["refresh_token"])
    assert world.introspect(app, body["refresh_token"]).json() == {"active": False}


def test_the_secret_of_an_application_is_rotated_without_asking_anybody_again(world, app):
    """The id and the people's consent stay; access tokens die with the secret they were made with; nobody consents twice."""
    hub, body = world.hub, world.signed_up(app)
    handed = issued.reissue(hub, "portal", 0.3)
    assert handed.client_id == app.id
    fresh = Registered(app.id, handed.value.reveal(), "portal")
    second = is_ok(world.refresh(fresh, body["refresh_token"]))
    run = ended(hub, handed.run)
    assert (run.state, run.proof) == (RunState.COMPLETE, "D2")
    is_error(world.refresh(app, second["refresh_token"]), 401, "invalid_client")
    assert world.whoami(body["access_token"]).status_code == 401
    assert world.whoami(second["access_token"]).status_code == 200
    assert len(grants.allowed(hub)) == 1
    is_ok(world.refresh(fresh, second["refresh_token"]))


def test_an_administrator_takes_back_what_somebody_allowed(world, app, eve):
    """On the application's page, by name; viewers see it and end nothing."""
    body = world.signed_up(app)
    person(world.hub, "boss", Role.ADMIN)
    there = f"/issued/{issued.get(world.hub, 'portal').connection.id}"
    grant = grants.allowed(world.hub)[0]
    looking, browser = world.browser(), world.browser()
    looking.sign_in("eve")
    assert "Who allowed it what" in looking.get(there).text
    assert f"{there}/take-back" not in looking.get(there).text
    browser.sign_in("boss")
    page = browser.get(there).text
    token = page.split('name="csrf" value="')[1].split('"')[0]
    assert browser.post(f"{there}/take-back", {"csrf": token, "grant": "none"}).status_code == 404
    assert browser.post(f"{there}/take-back", {"csrf": token, "grant": grant.id}).status_code == 303
    assert world.whoami(body["access_token"]).status_code == 401
    assert "Who allowed it what" not in browser.get(there).text
    line = events.latest(world.hub, 1)[0].facts
    assert (line["decision"], line["by"]) == ("application_taken_back", "boss")


def test_ending_an_application_ends_what_people_allowed(world, app):
    """Also when it is issued anew later: what was allowed before does not come back."""
    body = world.signed_up(app)
    run = issued.revoke(world.hub, "portal", reason="leaked")
    assert world.whoami(body["access_token"]).status_code == 401
    ended(world.hub, run)
    assert grants.allowed(world.hub) == []
    again = issued.reissue(world.hub, "portal", 0)
    fresh = Registered(app.id, again.value.reveal(), "portal")
    is_error(world.refresh(fresh, body["refresh_token"]), 400, "invalid_grant")


def test_old_rows_are_cleared_and_live_ones_kept(world, app):
    """A day after their end tokens, codes and consents that came to nothing are deleted; what lives stays."""
    body = world.signed_up(app)
    world.code(app)
    store = world.hub.store
    later = time.time() + 2 * 86400
    store.write(lambda tx: rows.prune(tx, later))
    left = store.read(lambda tx: tx.all("SELECT kind FROM oauth_token"))
    assert [row[0] for row in left] == [rows.REFRESH]
    assert store.read(lambda tx: tx.one("SELECT COUNT(*) FROM oauth_code"))[0] == 0
    assert store.read(lambda tx: tx.one("SELECT COUNT(*) FROM oauth_grant"))[0] == 1
    is_ok(world.refresh(app, body["refresh_token"]))


def test_nothing_of_it_is_kept_in_clear(world, app, tmp_path):
    """Neither codes nor tokens nor verifiers are in the database."""
    code, verifier = world.code(app)
    body = is_ok(world.redeem(app, code, verifier))
    fresh = is_ok(world.refresh(app, body["refresh_token"]))
    tables = ("oauth_code", "oauth_grant", "oauth_token", "journal", "issued_secret", "run")
    text = str([world.hub.store.read(lambda tx, t=t: tx.all(f"SELECT * FROM {t}")) for t in tables])
    for value in (
        code,
        verifier,
        body["refresh_token"],
        fresh["refresh_token"],
        fresh["access_token"],
        app.secret,
    ):
        assert value not in text
    assert IssuedBook(world.hub.store, world.hub.roots).look(fresh["refresh_token"]).code.value == "unknown"
