"""The same thing done by command, by the API and by clicks: its connection's journal has the same lines."""

import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from tests.waiting import wait_for
from tests.web import furnished
from tests.web.conftest import LOCAL, URL, hidden

from keyturn.cli.main import cli
from keyturn.cli.session import Session
from keyturn.model.plan import Goal
from keyturn.operations import events, issued, jobs, notices, people, rights, runs, tasks
from keyturn.storage import journal

_UNLIKE = re.compile(r"\d+\.\d+|[0-9a-f]{16,}|\b[a-z]{2,4}_[0-9a-z]{20,}\b|\borders-(line|call|page)\S*")


def plain(value):
    """Without ids, times, measures, and the one word that says which way it was."""
    if isinstance(value, dict):
        return {
            k: plain(v) for k, v in sorted(value.items()) if k not in {"seconds", "at", "trigger", "address"}
        }
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    text = _UNLIKE.sub("X", str(value))
    return {"robot": "WHO", "root": "WHO", "ada": "WHO"}.get(text, text)


def lines(hub, connection):
    """What its journal holds; looks that wait for something are there as often as it took, so each counts once."""
    found = []
    for line in hub.store.read(lambda tx: journal.of_connection(tx, connection.id)):
        said = (line.step, line.kind.value, plain(dict(line.facts)))
        if line.kind.value != "OBSERVED" or said not in found:
            found.append(said)
    return found


@pytest.fixture
def ways(idle, app, browser, person, monkeypatch):
    """A command line, a program with a token, and an administrator's browser, at one hub."""
    monkeypatch.setattr(Session, "hub", lambda _session, **_: nullcontext(idle))
    person(rights.Role.ADMIN, "root")
    robot = people.add_service(idle, LOCAL, "robot", "", [("admin", "")])
    _, value = people.make_token(idle, LOCAL, robot.id, "x", rights.SCOPES)
    api = TestClient(app, base_url=URL, headers={"Authorization": f"Bearer {value.reveal()}"})

    def line(*args, code=0):
        result = CliRunner().invoke(cli, args, obj=Session({}, idle.catalog), prog_name="keyturn")
        assert result.exit_code == code, result.output
        return result

    def call(method, path, body=None):
        answer = api.request(method, f"/api/v1{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer

    page = browser().sign_in("root")

    def click(path, form=None, on=None):
        answer = page.post(path, form, on=on)
        assert answer.status_code in {200, 303}, answer.text
        return answer

    return SimpleNamespace(line=line, call=call, click=click, page=page)


def same(idle, connect, ways, kinds, method="two_slots"):
    """Each way on a connection of its own; the lines that it left, once and three times the same."""
    left = []
    for name, do in zip(("line", "call", "page"), kinds, strict=True):
        connection = connect(method, name=f"orders-{name}")
        before = len(lines(idle, connection))
        do(connection)
        left.append(lines(idle, connection)[before:])
    assert left[0]
    assert left[1] == left[0]
    assert left[2] == left[0]
    return left[0]


def ended(idle, connection):
    run = wait_for(lambda: next(iter(runs.recent(idle, connection.id, 1)), None))
    wait_for(lambda: runs.settled(runs.get(idle, run.id)))


def test_a_rotation(idle, connect, ways):
    """From its start, with the reason, to the proof of death."""
    idle.engine.start()

    def by_line(c):
        ways.line("rotate", c.name, "--yes", "--reason", "same")
        ended(idle, c)

    def by_call(c):
        ways.call("POST", f"/connections/{c.id}/rotate", {"reason": "same"})
        ended(idle, c)

    def by_page(c):
        form = ways.page.get(f"/connections/{c.id}/plan/rotate")
        given = {name: hidden(form, name) for name in ("digest", "trigger")}
        ways.click(f"/connections/{c.id}/start/rotate", {**given, "reason": "same"}, on="/account")
        ended(idle, c)

    found = same(idle, connect, ways, (by_line, by_call, by_page))
    assert found[-1][2]["decision"] == "ended"


def test_a_run_that_is_cancelled(idle, connect, ways):
    def start(c):
        return runs.start(idle, c.name, Goal.ROTATE, reason="same", who="root")

    same(
        idle,
        connect,
        ways,
        (
            lambda c: ways.line("cancel", start(c).id),
            lambda c: ways.call("POST", f"/runs/{start(c).id}/cancel"),
            lambda c: ways.click(f"/runs/{start(c).id}/cancel", on="/account"),
        ),
    )


def test_a_test(idle, connect, ways):
    same(
        idle,
        connect,
        ways,
        (
            lambda c: ways.line("test", c.name),
            lambda c: ways.call("POST", f"/connections/{c.id}/test"),
            lambda c: ways.click(f"/connections/{c.id}/test", on="/account"),
        ),
    )


def test_who_uses_it(idle, connect, ways):
    same(
        idle,
        connect,
        ways,
        (
            lambda c: ways.line("use", c.name, "billing", "--kind", "cached", "--ttl", "5m"),
            lambda c: ways.call(
                "POST", f"/connections/{c.id}/consumers", {"name": "billing", "kind": "cached", "ttl_s": 300}
            ),
            lambda c: ways.click(
                f"/connections/{c.id}/users",
                {"user": "billing", "kind": "cached", "minutes": "5", "waited": "yes"},
                on="/account",
            ),
        ),
    )


def test_the_life_of_a_job(idle, connect, ways):
    """Added, run, paused, let go on, removed."""

    def by_line(c):
        ways.line("job", "add", c.name, "nightly", "--reads", "orders", "--every", "2h")
        for verb in ("run", "pause", "resume"):
            ways.line("job", verb, "nightly")
        ways.line("job", "remove", "nightly", "--yes")

    def by_call(c):
        body = {"connection": c.id, "name": "nightly", "reads": "orders", "schedule": "every 2h"}
        ways.call("POST", "/jobs", body)
        ways.call("POST", "/jobs/nightly/run")
        ways.call("PATCH", "/jobs/nightly", {"paused": True})
        ways.call("PATCH", "/jobs/nightly", {"paused": False})
        ways.call("DELETE", "/jobs/nightly")

    def by_page(c):
        form = {"connection": c.name, "name": "nightly", "reads": "orders", "schedule": "every 2h"}
        ways.click("/jobs", {**form, "most": "10", "after_rotation": "yes"}, on="/account")
        path = f"/jobs/{jobs.get(idle, 'nightly').id}"
        ways.click(f"{path}/run", on="/account")
        ways.click(f"{path}/switch", {"paused": "yes"}, on="/account")
        ways.click(f"{path}/switch", {"paused": "no"}, on="/account")
        ways.click(f"{path}/remove", on="/account")

    found = same(idle, connect, ways, (by_line, by_call, by_page))
    assert [facts.get("decision") or facts["what"] for _, _, facts in found] == [
        "job_added",
        "job",
        "job_paused",
        "job_resumed",
        "job_removed",
    ]


def test_a_task(idle, connect, ways):
    """Claimed by whoever does it."""
    idle.engine.start()

    def task(c):
        run = runs.start(idle, c.name, Goal.ROTATE, reason="same", who="root")
        return wait_for(lambda: next((t for t in tasks.waiting(idle) if t.run_id == run.id), None)).id

    same(
        idle,
        connect,
        ways,
        (
            lambda c: ways.line("task", task(c), "--claim"),
            lambda c: ways.call("POST", f"/tasks/{task(c)}/claim"),
            lambda c: ways.click(f"/tasks/{task(c)}/claim", on="/account"),
        ),
        "supplied",
    )


def said(idle, *decisions):
    """What the hub's own record holds of these, without where from; newest first."""
    return [
        plain({name: value for name, value in line.facts.items() if name not in {"from", "key"}})
        for line in events.latest(idle)
        if line.facts["decision"] in decisions
    ]


def test_a_dataset_that_is_taken_away_and_deleted(idle, ways):
    """Whose hands it went into, and who deleted it."""
    for way in ("line", "call", "page"):
        furnished.load(idle, f"orders-{way}")
    ways.line("datasets", "orders-line", "--export", "csv")
    ways.line("datasets", "orders-line", "--drop", "--yes")
    ways.call("GET", "/datasets/orders-call/export?format=csv")
    ways.call("DELETE", "/datasets/orders-call")
    ways.click("/datasets/orders-page/export", {"format": "csv"}, on="/datasets/orders-page")
    ways.click("/datasets/orders-page/drop", {"name": "orders-page"}, on="/datasets/orders-page")
    left = said(idle, "dataset_exported", "dataset_dropped")
    assert left[0:2] == left[2:4] == left[4:6]
    assert (left[1]["form"], left[1]["records"], left[0]["decision"]) == ("csv", "3", "dataset_dropped")


def test_a_newer_master_key(idle, ways):
    ways.line("vault", "rotate-kek")
    ways.call("POST", "/vault/rotate")
    ways.click("/vault/rotate", {"sure": "yes"}, on="/vault")
    left = said(idle, "master_key_made")
    assert len(left) == 3
    assert {each["decision"] for each in left} == {"master_key_made"}
    assert left[0]["by"] == left[1]["by"] == left[2]["by"]


def test_a_test_message(idle, ways):
    """On the hub's own record, with what came of it."""
    topics, address = ["run.done"], "https://127.0.0.1:1/"
    to, _ = notices.add_recipient(idle, LOCAL, "webhook", "ops", address, topics)
    assert "leads to a loopback address" in ways.line("recipients", "test", "ops", code=1).output
    assert not ways.call("POST", f"/recipients/{to.id}/test").json()["delivered"]
    ways.click(f"/settings/told/{to.id}/test", on=f"/settings/told/{to.id}")
    left = said(idle, "recipient_tested")
    assert len(left) == 3
    assert left[0] == left[1] == left[2]


def test_issuing(idle, ways):
    """A key, by its own journal."""
    ways.line("issue", "api-key", "--name", "orders-line", "--set", "scopes=read")
    ways.call("POST", "/issued", {"kind": "api-key", "name": "orders-call", "values": {"scopes": "read"}})
    ways.click("/issued/new/api-key", {"name": "orders-page", "owner": "ada", "field-scopes": "read"})
    left = [lines(idle, issued.get(idle, f"orders-{way}").connection) for way in ("line", "call", "page")]
    assert len(left[0]) == 2
    assert left[0] == left[1] == left[2]
