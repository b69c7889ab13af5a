# ruff: noqa: F811 - fixtures are imported
"""Ten thousand tokens that were never issued, or were changed after: none is accepted anywhere."""

import random
import statistics
import string
import time

from tests.issued.oauth_world import Registered, _quick_hashes, person, register, world  # noqa: F401 - fixtures

from keyturn.issued.oauth import OauthBook
from keyturn.keymaking import passwords
from keyturn.operations import issued

SEED = 20261123
COUNT = 10_000


def mutated(rng, value):
    """One of the ways in which a token arrives wrong or is guessed at; never the value itself."""
    letters = passwords.BASE62
    way = rng.randrange(9)
    at = rng.randrange(5, len(value))
    if way == 0:
        return value[:at] + rng.choice(letters) + value[at + 1 :]
    if way == 1:
        return resembling(rng, value)
    if way == 2:
        return value[:at] + value[at + 1 :]
    if way == 3:
        return value[:at] + rng.choice(letters) + value[at:]
    if way == 4:  # another kind, with its checksum put right
        body = f"ktn{rng.choice('kbwestr')}{value[4:-6]}"
        return body + passwords.checksum(body)
    if way == 5:
        swap = list(value)
        other = rng.randrange(5, len(value))
        swap[at], swap[other] = swap[other], swap[at]
        return "".join(swap)
    if way == 6:
        return passwords.token(rng.choice("kbwestr"))
    if way == 7:
        return "".join(rng.choice(string.printable) for _ in range(rng.randrange(80)))
    return rng.choice(
        [value.upper(), value.lower(), value + value, value[::-1], f" {value} x", value[:-1], "", value + "="]
    )


def resembling(rng, value):
    """The value with one letter changed and the checksum put right."""
    at = rng.randrange(5, len(value) - 6)
    body = value[:at] + rng.choice(passwords.BASE62.replace(value[at], "")) + value[at + 1 : -6]
    return body + passwords.checksum(body)


def test_ten_thousand_guesses(world):
    """Books, client authentication, refresh, revocation and introspection accept none; the real ones work afterwards."""
    hub = world.hub
    person(hub)
    program, app = register(hub), register(hub, "oauth-app", "portal")
    key = issued.issue(hub, "api-key", "k", {}).value.reveal()
    access = world.token(program).json()["access_token"]
    body = world.signed_up(app)
    real = {key, access, program.secret, app.secret, body["access_token"], body["refresh_token"]}
    rng = random.Random(SEED)
    book = issued.book(hub)
    oauth = OauthBook(book)
    client = oauth.by_secret(app.id, app.secret)[0]
    assert client is not None
    tried = 0
    while tried < COUNT:
        value = mutated(rng, rng.choice(sorted(real)))
        if value in real:
            continue
        tried += 1
        assert not book.look(value).accepted, tried
        assert oauth.by_secret(app.id, value)[0] is None, tried
        assert oauth.by_secret(program.id, value)[0] is None, tried
        assert oauth.refresh_token(value, client) is None, tried
        assert oauth.find(value) is None, tried
        assert oauth.find_code(value, client) is None, tried
    for value in (key, access, body["access_token"]):
        assert book.look(value).accepted
    for value in (program.secret, app.secret, body["refresh_token"]):
        assert not book.look(value).accepted  # each kind opens its own door only
    assert world.token(program).status_code == 200
    assert world.refresh(app, body["refresh_token"]).status_code == 200
    book.close()


def test_unknown_and_wrong_take_the_same_time(world):
    """Of a client's secret and of a key: whether what is presented resembles one that exists shows in no clock. Turn by
    turn, and by the faster half, so that other work on the machine falls on all alike."""
    hub = world.hub
    program = register(hub)
    key = issued.issue(hub, "api-key", "k", {}).value.reveal()
    rng = random.Random(SEED)
    book = issued.book(hub)
    oauth = OauthBook(book)
    nobody = passwords.client_id()
    ways = {
        "key unknown": (book.look, lambda: (passwords.token("k"),)),
        "key wrong": (book.look, lambda: (resembling(rng, key),)),
        "client unknown": (oauth.by_secret, lambda: (nobody, passwords.token("s"))),
        "client's secret wrong": (oauth.by_secret, lambda: (program.id, resembling(rng, program.secret))),
    }
    took = {name: [] for name in ways}
    for _ in range(1500):
        for name, (way, presented) in ways.items():
            said = presented()
            began = time.thread_time_ns()
            way(*said)
            took[name].append(time.thread_time_ns() - began)
    usual = {name: statistics.quantiles(each, n=4)[0] for name, each in took.items()}
    assert 0.75 < usual["key unknown"] / usual["key wrong"] < 1.33, usual
    assert 0.75 < usual["client unknown"] / usual["client's secret wrong"] < 1.33, usual
    book.close()


def test_guesses_over_http(world):
    """The same at the doors: never anything but a refusal, and never an error of ours."""
    hub = world.hub
    program = register(hub)
    access = world.token(program).json()["access_token"]
    rng = random.Random(SEED)
    for _ in range(300):
        value = mutated(rng, rng.choice([access, program.secret]))
        if value in {access, program.secret}:
            continue
        clean = "".join(c for c in value if c in string.ascii_letters + string.digits + "_=")
        seen = world.whoami(clean)
        assert seen.status_code in {401, 429}, clean
        asked = world.introspect(program, value)
        assert (asked.status_code, asked.json()) in (
            (200, {"active": False}),
            (400, {"error": "invalid_request", "error_description": asked.json().get("error_description")}),
        )
        answer = world.token(Registered(program.id, value, ""))
        assert answer.status_code in {400, 401, 429}, answer.text
        assert "access_token" not in answer.text
    assert world.whoami(access).status_code == 200
