"""The stream of changes, over a real connection."""

from __future__ import annotations

import json
import threading

import httpx2
import pytest
from tests.api.managing.conftest import is_problem
from tests.waiting import wait_for

from keyturn.api import stream
from keyturn.model.plan import Goal
from keyturn.operations import notices, people, rights, runs


class Listener:
    """Reads a stream in a thread of its own."""

    def __init__(self, base, headers, last=""):
        self.events, self.status, self.over = [], 0, False
        more = {"Last-Event-ID": last} if last else {}
        self._client = httpx2.Client(base_url=base, headers={**headers, **more}, timeout=30, trust_env=False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_for(lambda: self.status)

    def _read(self):
        try:
            with self._client.stream("GET", "/api/v1/stream") as answer:
                self.status, self.type = answer.status_code, answer.headers["content-type"]
                found = {}
                for line in answer.iter_lines():
                    if line and not line.startswith(":"):
                        name, _, value = line.partition(": ")
                        found[name] = value
                    elif not line:
                        if "event" in found:
                            self.events.append(
                                (found["event"], found.get("id", ""), json.loads(found["data"]))
                            )
                        found = {}
        except httpx2.HTTPError:
            pass
        finally:
            self.over = True

    def topics(self):
        return [event for event, _, _ in self.events]

    def close(self):
        self._client.close()
        self._thread.join(5)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stream, "LOOK_S", 0.05)
    monkeypatch.setattr(stream, "CHECK_S", 0.3)
    monkeypatch.setattr(notices, "LOOK_S", 0.05)
    real = notices.Herald.__init__
    monkeypatch.setattr(notices.Herald, "__init__", lambda self, hub, often_s=0.05: real(self, hub, often_s))


def test_a_rotation_is_told_to_its_end_and_resumed(served, token, connect, hub, ended):
    """Each change once, numbered; what came while nobody listened comes first when somebody listens again."""
    connect()
    wait_for(lambda: hub.store.read(lambda tx: tx.one("SELECT looked_at FROM notice_head"))[0])
    headers = token("viewer")
    one = Listener(served, headers)
    assert (one.status, one.type.partition(";")[0]) == (200, "text/event-stream")
    run = runs.start(hub, "orders", Goal.ROTATE)
    ended(run.id)
    wait_for(lambda: "run.done" in one.topics())
    event, number, data = next(e for e in one.events if e[0] == "run.done")
    assert data["type"] == event
    assert data["data"]["run"] == run.id
    assert (data["data"]["connection"], data["data"]["state"]) == ("orders", "complete")
    numbers = [int(n) for _, n, _ in one.events]
    assert numbers == sorted(set(numbers))
    one.close()
    second = runs.start(hub, "orders", Goal.ROTATE)
    ended(second.id)
    wait_for(lambda: notices.latest(hub) > int(number))
    again = Listener(served, headers, last=number)
    wait_for(lambda: any(d["data"].get("run") == second.id and e == "run.done" for e, _, d in again.events))
    assert all(int(n) > int(number) for _, n, _ in again.events)
    assert all(d["data"]["run"] != run.id for _, _, d in again.events)
    again.close()


def test_a_number_that_is_not_kept_says_so(served, token, hub):
    """Whoever listens must read everything anew."""
    for last in ("999999", "x", "-1"):
        one = Listener(served, token("viewer"), last=last)
        wait_for(lambda one=one: one.events)
        assert one.events[0][0] == "reset"
        one.close()


def test_a_role_in_a_project_hears_of_that_alone(served, token, connect, hub, ended):
    """Others' runs are not told."""
    connect(name="mine", project="billing")
    connect(name="other")
    wait_for(lambda: hub.store.read(lambda tx: tx.one("SELECT looked_at FROM notice_head"))[0])
    one = Listener(served, token("viewer", "billing"))
    for name in ("other", "mine"):
        ended(runs.start(hub, name, Goal.ROTATE).id)
    wait_for(lambda: "run.done" in one.topics())
    assert {data["data"]["connection"] for _, _, data in one.events} == {"mine"}
    one.close()


def test_a_stream_ends_with_its_token(served, token, hub):
    """Within seconds of the end of what opened it."""
    headers = token("viewer", login="leaver")
    one = Listener(served, headers)
    found = next(p for p in people.every(hub, "service") if p.account.login == "leaver")
    people.end_token(hub, rights.local("ada"), found.account.id, found.tokens[0].id)
    wait_for(lambda: one.over)
    assert one.topics()[-1] == "over"
    one.close()


def test_not_too_many_streams(served, token, monkeypatch):
    """A dozen for each caller."""
    monkeypatch.setattr(stream, "_MOST_EACH", 1)
    headers = token("viewer")
    one = Listener(served, headers)
    answer = httpx2.get(f"{served}/api/v1/stream", headers=headers, trust_env=False)
    is_problem(answer, 409, "conflict")
    one.close()


def test_nobody_and_the_wrong_scope(client, token):
    is_problem(client.get("stream"), 401)
    is_problem(client.get("stream", headers=token("viewer", scopes=["audit"])), 403)
