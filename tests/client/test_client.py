"""The Python client against a served hub, and against servers that misbehave."""

from __future__ import annotations

import json
from typing import get_type_hints

import httpx2
import pytest

from keyturn import client as package
from keyturn.api import shapes
from keyturn.client import Client
from keyturn.client.client import _CLASSES
from keyturn.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    StoreUnavailable,
    UnexpectedAnswer,
)
from keyturn.operations import issued, runs

PAIRS = {
    "Connection": "ConnectionLine",
    "ConnectionPage": "ConnectionPage",
    "Debt": "Debt",
    "Lease": "Lease",
    "Plan": "Plan",
    "Run": "Run",
    "RunLine": "RunLine",
    "Started": "Started",
    "Task": "Task",
    "Tested": "Tested",
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_types_are_those_of_the_api(name):
    """The same names; a field that the API answers with is one the client knows."""
    mine, theirs = getattr(package, name), getattr(shapes, PAIRS[name])
    assert set(get_type_hints(mine)) == set(theirs.model_fields)


def test_a_rotation_from_the_plan_to_the_end(client, connect, hub):
    """Plan, start exactly that, wait, look."""
    connect()
    assert [c["name"] for c in client.connections()] == ["orders"]
    assert client.test("orders")["verdict"] == "accepted"
    plan = client.plan("orders")
    run = client.start("orders", reason="quarterly", plan=plan["digest"])
    done = client.wait(run["id"], 30, 0.05)
    assert (done["state"], done["reason"]) == ("complete", "quarterly")
    assert next(client.runs("orders"))["id"] == run["id"]
    assert client.connection("orders")["version"] == 2
    lease = client.lease("orders", "etl", 60)
    assert lease["version"] == 2
    client.give_back(lease["id"])
    assert list(client.tasks()) == list(client.debts()) == []


def test_pages_are_followed(client, connect):
    """However short they are."""
    for name in ("a", "b", "c"):
        connect(name=name)
    assert [c["name"] for c in client.pages("connections", limit=1)] == ["a", "b", "c"]


def test_a_name_with_a_slash(client, connect, idle):
    """Is looked up and called by its id."""
    made = connect(name="x")
    idle.store.write(lambda tx: tx.run("UPDATE connection SET name = 'team/db' WHERE id = ?", made.id))
    assert client.connection("team/db")["id"] == made.id
    assert client.plan("team/db")["connection"] == "team/db"
    with pytest.raises(NotFound):
        client.connection("team/none")


def test_errors_are_the_hubs_own(client, served, secret, connect, hub):
    """The same classes, messages and facts as on the hub's machine."""
    connect()
    with pytest.raises(NotFound, match="no such connection"):
        client.connection("nowhere")
    with pytest.raises(InvalidInput) as caught:
        client.post("connections", {"name": "x"})
    assert {each["field"] for each in caught.value.facts["fields"]} == {"system", "method", "values"}
    hub.engine.stop()
    first = client.start("orders")
    with pytest.raises(Conflict) as busy:
        client.start("orders")
    assert busy.value.facts["run"] == first["id"]
    with Client(served, secret("viewer")) as viewer, pytest.raises(NotPermitted):
        viewer.start("orders")
    with Client(served, "ktnt_nonsense") as nobody, pytest.raises(NotPermitted):
        next(nobody.connections())


def test_every_error_class_is_known_by_its_code():
    from keyturn.api.problems import slug

    for code, kind in _CLASSES.items():
        assert slug(kind) == code


class Server(httpx2.BaseTransport):
    """Answers in turn; an exception among the answers is a broken connection."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def handle_request(self, request):
        self.asked.append(request)
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def problem(status, code="x", **headers):
    body = {"detail": "what is wrong", "code": code, "status": status}
    more = {"content-type": "application/problem+json", **headers}
    return httpx2.Response(status, content=json.dumps(body), headers=more)


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    monkeypatch.setattr("keyturn.client.client.time.sleep", lambda _s: None)


def test_a_lost_answer_is_asked_for_again_under_the_same_key():
    """So the hub makes it once."""
    lost = httpx2.ReadTimeout("token ktnt_secret")
    server = Server(
        lost, problem(409, "idempotency.busy"), problem(503), httpx2.Response(200, json={"id": "run_1"})
    )
    with Client("https://hub.example", "ktnt_secret", transport=server) as client:
        assert client.post("runs/rotate", {})["id"] == "run_1"
    assert len({each.headers["idempotency-key"] for each in server.asked}) == 1
    assert len(server.asked) == 4


def test_it_gives_up_and_says_no_secret():
    """The library's exception, which carries the request, does not leave."""
    server = Server(*[httpx2.ReadTimeout("token ktnt_secret")] * 9)
    with Client("https://hub.example", "ktnt_secret", transport=server) as client:
        with pytest.raises(StoreUnavailable) as caught:
            client.post("runs/rotate", {})
        assert "ktnt" not in repr(client)
    assert "ktnt_secret" not in str(caught.value) + repr(caught.value.__cause__)
    assert caught.value.__suppress_context__
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(302, headers={"location": "https://evil.example/"}), UnexpectedAnswer),
        (httpx2.Response(200, content=b"<html>"), UnexpectedAnswer),
        (httpx2.Response(404, content=b"<html>"), UnexpectedAnswer),
        (problem(409, "conflict"), Conflict),
        (problem(502, "credential_rejected"), _CLASSES["credential_rejected"]),
    ],
)
def test_what_is_not_asked_again(answer, error):
    """Redirects are not followed: the token is for this hub alone. A vendor's refusal is an answer."""
    server = Server(answer)
    with Client("https://hub.example", "ktnt_secret", transport=server) as client, pytest.raises(error):
        client.post("x")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hub.example",
        "http://10.0.0.1:8425",
        "ftp://hub.example",
        "hub.example",
        "https://user:x@hub.example",
        "https://hub.example?x=1",
        "https://",
        "http://[::1",
    ],
)
def test_addresses_to_which_no_token_is_sent(url):
    with pytest.raises(InvalidInput):
        Client(url, "ktnt_secret")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://hub.example/keyturn/"]
)
def test_addresses_that_are_fine(url):
    Client(url, "ktnt_secret").close()


@pytest.mark.parametrize("token", ["", " ", "a\nb", "ü"])
def test_tokens_that_are_none(token):
    with pytest.raises(InvalidInput):
        Client("https://hub.example", token)


def test_an_issued_key_is_a_token_too(served, hub):
    """Within its scopes."""
    key = issued.issue(hub, "api-key", "partner", {"scopes": "read"}).value.reveal()
    with Client(served, key) as client:
        assert [c["name"] for c in client.connections()] == ["partner"]
        with pytest.raises(NotPermitted):
            client.test("partner")
    assert not runs.recent(hub)


def test_the_client_is_small_and_stands_alone():
    """It imports nothing of the hub but its errors and the masked secret."""
    import subprocess
    import sys

    code = "import sys, keyturn.client; print(sorted(m for m in sys.modules if m.startswith('keyturn')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(found) == [
        "keyturn",
        "keyturn.client",
        "keyturn.client.client",
        "keyturn.client.shapes",
        "keyturn.errors",
        "keyturn.model",
        "keyturn.model.secret",
    ]
