"""Idempotency keys: made once, answered the same, refused for another call."""

from __future__ import annotations

import threading
import time

import pytest
from tests.api.managing.conftest import is_problem

from keyturn.operations import connections, issued, people, repeats, rights, runs
from keyturn.storage import sealed


@pytest.fixture
def admin(token):
    return token("admin")


def keyed(headers, key="k-1"):
    return {**headers, "Idempotency-Key": key}


def test_the_same_call_is_made_once(client, admin, connect, idle):
    """The same run, the same bytes; told apart by a header."""
    connect()
    body = {"reason": "quarterly"}
    first = client.post("connections/orders/rotate", json=body, headers=keyed(admin))
    second = client.post("connections/orders/rotate", json=body, headers=keyed(admin))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(runs.recent(idle)) == 1


def test_another_body_is_a_conflict(client, admin, connect):
    connect()
    client.post("connections/orders/rotate", json={"reason": "a"}, headers=keyed(admin))
    other = client.post("connections/orders/rotate", json={"reason": "b"}, headers=keyed(admin))
    is_problem(other, 409, "idempotency.other_body")


def test_a_key_is_of_one_caller_and_one_call(client, admin, token, connect, idle):
    """Somebody else's key, or the same key at another call, is another key."""
    connect()
    connect(name="dwh")
    for path, headers in (
        ("connections/orders/rotate", admin),
        ("connections/dwh/rotate", admin),
    ):
        assert client.post(path, headers=keyed(headers)).status_code == 202
    answer = client.post("connections/orders/rotate", headers=keyed(token("operator")))
    is_problem(answer, 409, "conflict")
    assert len(runs.recent(idle)) == 2


def test_what_made_nothing_frees_the_key(client, admin, connect):
    """A call that was asked for wrongly is corrected under the same key."""
    connect()
    is_problem(client.post("connections/orders/rotate", json={"plan": "0" * 64}, headers=keyed(admin)), 409)
    is_problem(client.post("connections/orders/rotate", json={"x": 1}, headers=keyed(admin)), 422)
    assert client.post("connections/orders/rotate", headers=keyed(admin)).status_code == 202


@pytest.mark.parametrize("key", ["", "ü", "x" * 256, "a\tb"])
def test_a_malformed_key(client, admin, connect, key):
    """It is said, not ignored."""
    connect()
    answer = client.post(
        "connections/orders/rotate", headers=[*admin.items(), ("Idempotency-Key", key.encode())]
    )
    assert is_problem(answer, 422)["field"] == "Idempotency-Key"


def test_at_the_same_moment(client, admin, connect, idle, monkeypatch):
    """The second is told that the first is being made, and gets its answer afterwards."""
    connect()
    entered, go = threading.Event(), threading.Event()
    real = runs.start

    def slow(*args, **more):
        entered.set()
        go.wait(10)
        return real(*args, **more)

    monkeypatch.setattr(runs, "start", slow)
    answers = []
    first = threading.Thread(
        target=lambda: answers.append(client.post("connections/orders/rotate", headers=keyed(admin)))
    )
    first.start()
    assert entered.wait(10)
    busy = client.post("connections/orders/rotate", headers=keyed(admin))
    is_problem(busy, 409, "idempotency.busy")
    assert busy.headers["retry-after"] == "1"
    go.set()
    first.join()
    again = client.post("connections/orders/rotate", headers=keyed(admin))
    assert again.content == answers[0].content
    assert len(runs.recent(idle)) == 1


def test_many_at_the_same_moment_make_one(client, admin, connect, idle):
    """Whoever comes too early asks again; there is one credential at the end."""
    body = {"kind": "api-key", "name": "partner", "values": {"scopes": "read"}}
    values, lock = [], threading.Lock()

    def ask():
        until = time.monotonic() + 20
        while time.monotonic() < until:
            answer = client.post("issued", json=body, headers=keyed(admin))
            if answer.status_code == 201:
                with lock:
                    values.append(answer.json()["value"])
                return
            assert answer.json()["code"] == "idempotency.busy", answer.text
            time.sleep(0.02)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(values) == 8
    assert len(set(values)) == 1
    assert len(issued.every(idle)) == 1


def test_a_process_that_died_lets_go_of_its_key(client, admin, connect, idle, monkeypatch):
    """The claim runs out; the same key then starts the very same run, not a second one."""
    connect()
    real = repeats.keep
    monkeypatch.setattr(repeats, "keep", lambda *_a, **_k: (_ for _ in ()).throw(RuntimeError("power cut")))
    assert client.post("connections/orders/rotate", headers=keyed(admin)).status_code == 500
    monkeypatch.setattr(repeats, "keep", real)
    is_problem(client.post("connections/orders/rotate", headers=keyed(admin)), 409, "idempotency.busy")
    idle.store.write(lambda tx: tx.run("UPDATE repeat SET claimed_until = 1"))
    again = client.post("connections/orders/rotate", headers=keyed(admin))
    assert again.status_code == 202
    assert [r.id for r in runs.recent(idle)] == [again.json()["id"]]


def test_a_secret_is_kept_sealed_and_not_for_long(client, admin, idle):
    """The answer with a value is nowhere in clear, and gone after ten minutes; the key still makes nothing twice."""
    body = {"kind": "api-key", "name": "partner", "values": {"scopes": "read"}}
    first = client.post("issued", json=body, headers=keyed(admin))
    value = first.json()["value"]
    assert client.post("issued", json=body, headers=keyed(admin)).json()["value"] == value
    everything = idle.store.read(
        lambda tx: repr([tx.all(f"SELECT * FROM {t}") for t in ("repeat", "sealed", "journal", "version")])
    )
    assert value not in everything
    assert value.encode().hex() not in everything
    idle.store.write(lambda tx: tx.run("UPDATE sealed SET destroy_at = 1 WHERE id LIKE 'repeat:%'"))
    is_problem(client.post("issued", json=body, headers=keyed(admin)), 409, "idempotency.gone")
    idle.store.write(lambda tx: sealed.destroy_due(tx, 2.0))
    is_problem(client.post("issued", json=body, headers=keyed(admin)), 409, "idempotency.gone")
    assert len(issued.every(idle)) == 1


def test_keys_are_forgotten_after_a_day(client, admin, connect, idle):
    """And nothing of them is left then."""
    connect()
    client.post("connections/orders/test", headers=keyed(admin))
    idle.store.write(lambda tx: tx.run("UPDATE repeat SET ends_at = 1"))
    client.post("connections/orders/test", headers=keyed(admin, "k-2"))
    assert idle.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM repeat"))[0] == 1


def test_who_lost_the_right_gets_no_kept_answer(client, token, idle):
    """Rights are looked at before any answer is given again."""
    people.invite(idle, rights.local("ada"), "root", "", [("admin", "")])
    headers = token("admin", login="leaver")
    body = {"kind": "api-key", "name": "partner"}
    assert client.post("issued", json=body, headers=keyed(headers)).status_code == 201
    leaver = next(p for p in people.every(idle, "service") if p.account.login == "leaver")
    people.set_roles(idle, rights.local("ada"), leaver.account.id, [("viewer", "")])
    is_problem(client.post("issued", json=body, headers=keyed(headers)), 403, "not_permitted")
    assert connections.find(idle, "partner")
