"""What leaked is recognised, stopped and replaced, and never shown again."""

import json

import pytest
from tests.api.conftest import SECRET, outside
from tests.api.test_door import is_problem
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for

from keyturn.errors import InvalidInput
from keyturn.issued.book import Code, IssuedBook
from keyturn.keymaking import passwords, webhooks
from keyturn.model.run import RunState
from keyturn.operations import approvals, connections, issued, leaks, register, runs


@pytest.fixture
def hub(tmp_path):
    hub = open_test_hub(tmp_path, outside=outside())
    hub.engine.start()
    yield hub
    hub.close()


@pytest.fixture
def reporter(key):
    return key("leaks:write", "scanner")


def book(hub):
    return IssuedBook(hub.store, hub.roots)


def test_a_dry_run_shows_whom_it_hits_and_does_nothing(hub, key):
    """Name, state, callers, holders, steps; the key works on."""
    value = key()["AccessKey"]
    register.hold(hub, "crm", "Acme", contact="ops@acme.example")
    book(hub).check(value, address="192.0.2.7", agent="etl/1")
    found = leaks.report(hub, f"export KEY={value}\n", dry_run=True)
    assert (found.ours, found.live) == (1, 1)
    seen = found.known[0]
    assert (seen.name, seen.system, seen.what, seen.was_live) == ("crm", "hub-api/access_key", "slot A", True)
    assert any("Acme" in line for line in seen.hit)
    assert any("dead" in step for step in seen.steps)
    assert value not in repr(found)
    assert book(hub).look(value).accepted
    assert leaks.latest(hub) == []


def test_a_leaked_key_is_stopped_at_once_replaced_and_proven_dead(hub, key):
    """Refused on every worker when the call returns; the run makes a new one and ends proven."""
    value = key()["AccessKey"]
    found = leaks.report(
        hub, json.dumps({"deep": [{"token": value}]}), source="gitleaks", url="https://git.example/a"
    )
    assert book(hub).look(value).code is Code.REVOKED
    assert IssuedBook(hub.store, hub.roots).look(value).code is Code.REVOKED
    run = wait_for(lambda: (r := runs.get(hub, found.known[0].run_id)).ended_at and r)
    assert run.state is RunState.COMPLETE
    assert run.reason == "leaked: found by gitleaks"
    live = [s for s in issued.get(hub, "crm").secrets if s.state.value == "live"]
    assert [s.slot for s in live] == ["B"]
    assert [(each.source, each.was_live) for each in leaks.latest(hub)] == [("gitleaks", True)]
    tables = hub.store.read(
        lambda tx: [tx.all(f"SELECT * FROM {t}") for t in ("journal", "leak", "run", "event")]
    )
    assert value not in repr(tables)


def test_the_same_report_again_starts_nothing(hub, key):
    """A scanner comes by every night."""
    value = key()["AccessKey"]
    first = leaks.report(hub, value, source="scan")
    wait_for(lambda: runs.get(hub, first.known[0].run_id).ended_at)
    again = leaks.report(hub, value, source="scan")
    assert (again.live, again.known[0].run_id) == (0, "")
    assert len(leaks.latest(hub)) == 1


def test_what_is_ours_is_known_without_asking(hub, key):
    """Form and checksum: a token with a typing error, or of nobody, is counted or not even that; nothing is stopped."""
    value = key()["AccessKey"]
    stranger, mistyped = passwords.token("k"), value[:-1] + ("0" if value[-1] != "0" else "1")
    found = leaks.report(hub, f"{stranger} {mistyped} ghp_0123456789abcdefghij")
    assert (found.ours, found.known) == (1, ())
    assert book(hub).look(value).accepted


def test_a_signing_secret(hub, publisher):
    """Found by its own form."""
    _, value = publisher()
    found = leaks.report(hub, f'"secret": "{value}"')
    assert [each.name for each in found.known] == ["orders"]
    assert webhooks.pattern().search(value)
    assert issued.get(hub, "orders").secrets[-1].state.value == "revoked"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "password={}",
        "postgresql://app:{}@db.example/x",
        'api_key: "{}",',
        "<key>{}</key>",
        "curl -H 'X-Key: {}' https://x.example",
        "https://x.example/?key={}&b=1",
    ],
)
def test_a_vendors_secret_by_its_fingerprint(hub, text):
    """Wherever it stands; the connection's own containment begins, and the text is nowhere."""
    connections.connect(hub, "outside", "api_key", "warehouse", {"account": "a", "api_key": SECRET})
    said = text.format(SECRET)
    dry = leaks.report(hub, said, dry_run=True)
    assert [(each.name, each.was_live) for each in dry.known] == [("warehouse", True)]
    found = leaks.report(hub, said)
    assert runs.get(hub, found.known[0].run_id).goal.value == "contain"
    assert SECRET not in repr(found)
    assert leaks.report(hub, said.replace(SECRET, "another-secret-000"), dry_run=True).known == ()


def test_a_leak_waits_for_no_approval(hub):
    """Where a second person approves containments, this one begins at once and is looked at afterwards."""
    policy = {"approve": ["contain"]}
    connections.connect(
        hub, "outside", "api_key", "warehouse", {"account": "a", "api_key": SECRET}, policy=policy
    )
    found = leaks.report(hub, f"key={SECRET}")
    assert runs.get(hub, found.known[0].run_id).state is not RunState.WAITING_APPROVAL
    assert [item.run.id for item in approvals.waiting(hub)] == [found.known[0].run_id]


def test_over_http(client, hub, key, reporter):
    """Text or the scanners' list; a true positive is told from a false one; nothing is echoed."""
    value = key()["AccessKey"]
    listed = [
        {"token": value, "type": "x", "url": "https://git.example/1", "source": "scan"},
        {"token": passwords.token("k"), "source": "scan"},
    ]
    answer = client.post("/api/v1/leaks?dry_run=true", json=listed, headers=reporter)
    assert [each["label"] for each in answer.json()["items"]] == ["true_positive", "false_positive"]
    assert client.get("/api/v1/whoami", headers={"AccessKey": value}).status_code == 200
    headers = {**reporter, "Content-Type": "text/plain"}
    answer = client.post("/api/v1/leaks", content=f"log line {value}".encode(), headers=headers)
    assert answer.json()["items"][0]["known"][0]["name"] == "crm"
    assert value not in answer.text
    is_problem(client.get("/api/v1/whoami", headers={"AccessKey": value}), 401, "cred.revoked")


def test_who_may_report(client, key, reporter):
    """A scope of its own; a report of something else is refused in words."""
    is_problem(client.post("/api/v1/leaks", json=[{"token": "x"}]), 401, "cred.missing")
    is_problem(client.post("/api/v1/leaks", json=[{"token": "x"}], headers=key("read")), 403, "cred.scope")
    for body in ({}, [], [1], [{"token": 1}], [{"token": "a", "url": 1}], [{"token": "x"}] * 101):
        is_problem(client.post("/api/v1/leaks", json=body, headers=reporter), 422, "invalid_input")
    is_problem(
        client.post("/api/v1/leaks", content=b"x", headers={**reporter, "Content-Type": "text/csv"}),
        415,
        "leak.kind",
    )


def test_a_report_cannot_smuggle_a_secret_into_the_records(hub, key):
    """Not in its source, not in its address."""
    value = key()["AccessKey"]
    with pytest.raises(InvalidInput):
        leaks.report(hub, value, url=f"https://x.example/?key={value}")
    with pytest.raises(InvalidInput):
        leaks.report(hub, value, source="a\nb")
    assert book(hub).look(value).accepted


def test_odd_characters_are_no_defect(client, hub, reporter):
    """Half a character in a report is a report with nothing in it."""
    headers = {**reporter, "Content-Type": "application/json"}
    raw = b'[{"token":"key=\\ud800abcdefghijklmnop"}]'
    answer = client.post("/api/v1/leaks", content=raw, headers=headers)
    assert answer.json()["items"][0]["label"] == "false_positive"
