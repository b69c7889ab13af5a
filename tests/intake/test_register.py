"""Who holds what was issued, who uses it, and how it gets to them."""

import json
import time

import pytest
from tests.api.test_door import is_problem
from tests.waiting import wait_for

from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import issued, register, runs, tasks
from keyturn.storage import register as rows


def used(client, headers, agent):
    assert client.get("/api/v1/whoami", headers={**headers, "User-Agent": agent}).status_code == 200


def test_where_a_key_is_used(client, key, hub):
    """By slot, address and agent; written within a second or two, whatever happens to the callers."""
    headers = key()
    for agent in ("etl/1", "etl/1", "report/2"):
        used(client, headers, agent)
    found = wait_for(lambda: (w := register.where_used(hub, "crm")).callers and len(w.callers) == 2 and w)
    assert {(c.agent, c.uses, c.address) for c in found.callers} == {
        ("etl/1", 2, "testclient"),
        ("report/2", 1, "testclient"),
    }
    assert {found.slot(c.version_id) for c in found.callers} == {"A"}
    assert any("etl/1" in line and "slot A" in line for line in register.affected(hub, "crm"))
    assert register.affected(hub, "crm", "B") == []


def test_callers_are_bounded(hub, key):
    """Whoever changes their agent at every call fills one row, not the table."""
    key()
    version = issued.get(hub, "crm").secrets[0].version_id

    def work(tx):
        for n in range(rows.MOST_SEEN + 50):
            rows.seen(tx, rows.Use(version, 1, time.time(), "192.0.2.1", f"agent-{n}"))
        return rows.callers(tx, [version], 0)

    found = hub.store.write(work)
    assert len(found) == rows.MOST_SEEN + 1
    assert sum(c.uses for c in found) == rows.MOST_SEEN + 50


def test_holders(hub, key):
    """Declared with a contact and a place; confirmed for one secret, owed again for the next."""
    key()
    register.hold(hub, "crm", "Acme", contact="ops@acme.example", place="their vault")
    register.hold(hub, "crm", "Acme", contact="new@acme.example", place="their vault")
    found = register.where_used(hub, "crm")
    assert [(h.name, h.contact, h.state) for h in found.holders] == [("Acme", "new@acme.example", "told")]
    assert [h.name for h in found.owed()] == ["Acme"]
    register.confirm(hub, "crm", "Acme")
    assert register.where_used(hub, "crm").owed() == ()
    issued.reissue(hub, "crm", 60)
    assert [h.name for h in register.where_used(hub, "crm").owed()] == ["Acme"]
    register.let_go(hub, "crm", "Acme")
    with pytest.raises(NotFound):
        register.let_go(hub, "crm", "Acme")
    with pytest.raises(NotFound):
        register.confirm(hub, "crm", "Acme")
    with pytest.raises(InvalidInput):
        register.hold(hub, "crm", "a\x1bb")


def test_old_and_unused_keys_are_reported(hub, key):
    """By days, with the policy's own limit; a key in order is not."""
    key(contact="ops@example.com")
    now = time.time()
    assert register.findings(hub, now) == {}
    assert register.findings(hub, now + 8 * 86400) == {"crm": ("slot A was never used",)}
    old = register.findings(hub, now + 91 * 86400)["crm"]
    assert old == ("slot A is 91 days old", "slot A was never used")
    key(name="nobody")
    assert register.findings(hub, now)["nobody"] == ("nobody to tell: it has no contact",)


# -- one-time links ------------------------------------------------------------------------------------------------


def test_a_link_opens_once(client, hub, key):
    """Then the value is nowhere in the hub; who opened it from where is on record, the code is not."""
    key()
    made = register.link(hub, "crm", "Acme")
    assert made.url.reveal().endswith("/handover#" + made.code.reveal())
    assert made.code.reveal() not in repr(made)
    page = client.get("/handover")
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    answer = client.post("/handover", data={"code": made.code.reveal()})
    value = answer.text.partition("<code>")[2].partition("</code>")[0]
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/api/v1/whoami", headers={"AccessKey": value}).status_code == 200
    again = client.post("/handover", data={"code": made.code.reveal()})
    assert again.status_code == 404
    assert value not in again.text
    done = client.post("/handover/done", data={"code": made.code.reveal()})
    assert done.status_code == 200
    assert [h.state for h in register.where_used(hub, "crm").holders] == ["confirmed"]
    sql = "SELECT * FROM {}"
    tables = repr(
        hub.store.read(lambda tx: [tx.all(sql.format(t)) for t in ("journal", "pickup", "holder", "sealed")])
    )
    assert "link_opened" in tables
    assert made.code.reveal() not in tables
    assert value not in tables


def test_a_link_for_programs(client, hub, key):
    """JSON in, JSON out."""
    key()
    made = register.link(hub, "crm")
    answer = client.post("/handover", json={"code": made.code.reveal()})
    assert answer.json()["name"] == "crm"
    assert (
        client.get("/api/v1/whoami", headers={"AccessKey": answer.json()["values"]["value"]}).status_code
        == 200
    )
    is_problem(client.post("/handover", json={"code": made.code.reveal()}), 404, "not_found")


@pytest.mark.parametrize("body", [{}, {"code": 1}, {"code": ""}, {"code": "x" * 43}, [], {"code": "é" * 30}])
def test_a_wrong_code_is_nothing(client, hub, key, body):
    """Wrong, used and ended look alike; guesses are limited."""
    key()
    register.link(hub, "crm")
    codes = [client.post("/handover", json=body).status_code for _ in range(21)]
    assert codes == [404] * 20 + [429]


def test_of_two_who_open_at_once_one_gets_it(client, hub, key):
    """The commit decides."""
    from concurrent.futures import ThreadPoolExecutor

    key()
    made = register.link(hub, "crm")

    def take(_):
        try:
            return register.open_link(hub, made.code.reveal()).values["value"]
        except NotFound:
            return None

    with ThreadPoolExecutor(8) as pool:
        got = [value for value in pool.map(take, range(16)) if value]
    assert len(got) == 1


def test_a_new_link_ends_the_one_before(hub, key, monkeypatch):
    """And can be made after the ten minutes as long as the one before was not opened; then only a new secret helps."""
    key()
    first = register.link(hub, "crm", "Acme")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    second = register.link(hub, "crm", "Acme")
    with pytest.raises(NotFound):
        register.open_link(hub, first.code.reveal())
    assert register.open_link(hub, second.code.reveal()).name == "crm"
    with pytest.raises(Conflict, match="nowhere"):
        register.link(hub, "crm", "Acme")


def test_a_link_ends(hub, key, monkeypatch):
    """After its day the value is gone, whether or not a sweep came by."""
    key()
    made = register.link(hub, "crm")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86401)
    with pytest.raises(NotFound):
        register.open_link(hub, made.code.reveal())


# -- Segment's side ------------------------------------------------------------------------------------------------


@pytest.fixture
def segment(hub):
    handed = issued.issue(
        hub, "hub-segment", "segment", {"contact": "owner@example.com", "workspace": "acme"}
    )
    return {"accessKey": handed.value.reveal()}


def send(client, headers, message):
    call = {"type": "track", "messageId": message, "event": "x", "userId": "u"}
    return client.post("/clickstream/segmentio/event", json=call, headers=headers)


def rotation(hub, overlap=0.3):
    handed = issued.reissue(hub, "segment", overlap)
    task = wait_for(lambda: next((t for t in tasks.waiting(hub) if t.kind == "handover"), None))
    return handed, task


def test_the_plan_says_that_another_party_is_told(hub, segment):
    """Before the old one is waited for; in an emergency afterwards."""
    kinds = [s.kind.value for s in runs.plan(hub, "segment", Goal.ROTATE).steps]
    assert kinds.index("cutover") < kinds.index("handover") < kinds.index("drain") < kinds.index("revoke")
    kinds = [s.kind.value for s in runs.plan(hub, "segment", Goal.CONTAIN).steps]
    assert kinds.index("revoke") < kinds.index("handover")


def test_row_21_closed_by_use_and_silence(client, hub, segment):
    """Told by a link, confirmed by the first event with the new key; the old one works until it is silent."""
    assert send(client, segment, "1").status_code == 202
    handed, task = rotation(hub)
    words = json.dumps([dict(each) for each in task.instructions])
    assert "owner@example.com" in words
    assert handed.value.reveal() not in words
    assert send(client, segment, "2").status_code == 202
    made = register.link(hub, "segment", "Segment team")
    value = client.post("/handover", json={"code": made.code.reveal()}).json()["values"]["value"]
    assert value == handed.value.reveal()
    time.sleep(0.4)
    assert runs.get(hub, handed.run.id).state is RunState.WAITING_HUMAN
    assert send(client, segment, "3").status_code == 202
    assert send(client, {"accessKey": value}, "4").status_code == 202
    run = wait_for(lambda: (r := runs.get(hub, handed.run.id)).ended_at and r)
    assert (run.state, run.proof) == (RunState.COMPLETE, "D2")
    assert tasks.get(hub, task.id).why == "seen in use"
    is_problem(send(client, segment, "5"), 401, "cred.revoked")
    assert send(client, {"accessKey": value}, "6").status_code == 202


def test_row_21_their_word_goes_on_but_ends_nothing(client, hub, segment):
    """The acknowledgement answers the task; the old key still waits for the first use of the new one."""
    handed, task = rotation(hub)
    made = register.link(hub, "segment", "Segment team")
    client.post("/handover", json={"code": made.code.reveal()})
    assert client.post("/handover/done", json={"code": made.code.reveal()}).json()["acknowledged"]
    wait_for(lambda: tasks.get(hub, task.id).state.value == "done")
    wait_for(lambda: runs.get(hub, handed.run.id).waiting_for.startswith("the new one was never used"))
    assert send(client, segment, "1").status_code == 202
    assert send(client, {"accessKey": handed.value.reveal()}, "2").status_code == 202
    wait_for(lambda: runs.get(hub, handed.run.id).ended_at)
    is_problem(send(client, segment, "3"), 401, "cred.revoked")
