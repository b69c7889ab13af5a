"""`keyturn --server`: the same commands say the same things; and whichever way a run was started, its journal is the same."""

from __future__ import annotations

import re

import pytest

from keyturn.model.plan import Goal
from keyturn.operations import debts, issued, runs, tasks
from keyturn.storage import journal
from tests.faults import shapes_connector as shapes
from tests.waiting import wait_for

_PARTS = (
    (re.compile(r"\b(run|tsk|ver|con|dbt|lse|trg|api|cns)_[0-9a-z]{26,}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\b\d\d:\d\d:\d\d\b"), "AT"),
    (re.compile(r"\d+\.\d s\b|\d+ s\b|in \d+ \w+|\d+ \w+ ago"), "SPAN"),
)


def plain(text):
    """Output without what differs from one moment to the next."""
    for pattern, word in _PARTS:
        text = pattern.sub(word, text)
    return text


def without(found, *names):
    if isinstance(found, list):
        return [without(each, *names) for each in found]
    return {key: value for key, value in found.items() if key not in names}


@pytest.mark.parametrize(
    "args",
    [
        ("list",),
        ("show", "orders"),
        ("plan", "orders"),
        ("plan", "orders", "disconnect"),
        ("plan", "orders", "contain"),
        ("rotate", "orders", "--dry-run"),
        ("test", "orders"),
        ("runs",),
        ("runs", "orders", "--limit", "1"),
        ("run", "orders"),
        ("tasks",),
        ("debts",),
    ],
)
def test_the_same_words_and_the_same_json(here, there, connect, hub, ended, args):
    """For people and for programs, with the same exit code."""
    connect()
    ended(runs.start(hub, "orders", Goal.ROTATE, reason="first").id)
    connect(method="supplied", name="paste")
    runs.start(hub, "paste", Goal.ROTATE)
    wait_for(lambda: tasks.waiting(hub))
    local, remote = here.run(*args), there.run(*args)
    assert plain(remote.stdout) == plain(local.stdout)
    assert remote.stderr == local.stderr
    assert without(there.json(*args), "seconds", "steps") == without(here.json(*args), "seconds", "steps")


def test_a_rotation_is_followed_from_elsewhere(there, connect, hub):
    """Line by line to the end, with the exit code of the end."""
    connect()
    result = there.run("rotate", "orders", "--reason", "quarterly")
    assert "orders: rotate complete" in plain(result.stdout)
    assert result.stdout.count("done:") == len(runs.recent(hub)[0].plan.steps)
    found = there.json("rotate", "orders")
    assert (found["state"], found["ended"]) == ("complete", True)
    there.run("disconnect", "orders", code=2)
    there.run("disconnect", "orders", "--yes")
    assert there.json("show", "orders")["state"] == "disconnected"


def test_several_at_once(there, connect, hub):
    """One that cannot start is said and does not keep the others back."""
    connect(name="one")
    connect(name="two")
    hub.engine.stop()
    runs.start(hub, "one", Goal.ROTATE)
    result = there.run("rotate", "one", "two", "--no-wait", code=2)
    assert "has a run that has not ended" in result.stderr
    assert len(runs.recent(hub)) == 2


def test_a_task_from_elsewhere(there, connect, hub, vendor):
    """Shown, claimed, handed in from a file, checked: returned first, then done."""
    connect(method="supplied", name="paste")
    run = there.json("rotate", "paste", "--no-wait")["id"]
    wait_for(lambda: tasks.waiting(hub))
    shown = there.run("task", "paste").stdout
    assert "To hand in:" in shown
    assert there.json("task", "paste", "--claim")["claimed_by"] == "admin--robot"
    there.run("task", "paste", "--submit", "nonsense=1", code=2)
    value = shapes.pasted(shapes.person_supplies(vendor.client, connect.logins["paste"]))
    submits = [f"--submit={name}={text}" if name != "secret" else "" for name, text in value.items()]
    (task,) = tasks.waiting(hub)
    secret = next(str(f["name"]) for f in task.fields if f.get("secret"))
    result = there.run(
        "task",
        "paste",
        *[f"--submit={n}={t}" for n, t in value.items() if n != secret],
        f"--submit={secret}=-",
        "--timeout",
        "20",
        code=None,
        typed=value[secret],
    )
    assert result.exit_code in {0, 3}, result.output
    assert "DONE" in result.stdout
    assert value[secret] not in result.output
    assert submits
    assert there.json("run", "paste")["id"] == run


def test_steering_from_elsewhere(there, connect, hub):
    """Cancel, and the refusals with their exit codes."""
    connect()
    hub.engine.stop()
    there.run("rotate", "orders", "--no-wait")
    assert there.json("cancel", "orders")["state"] == "aborted_clean"
    there.run("retry", "orders", code=2)
    there.run("rollback", "orders", code=2)
    there.run("run", "nowhere", code=2)


def test_a_debt_from_elsewhere(there, connect, hub):
    """Looked at, tried, closed with a reason."""
    found = connect()
    hub.store.write(
        lambda tx: tx.run(
            "INSERT INTO debt VALUES ('dbt_x', ?, NULL, '', 'orphan', 'why', '{}', 'kim', 0, 0, 1, NULL, '', '')",
            found.id,
        )
    )
    assert there.json("debt", "dbt_x")["kind"] == "orphan"
    there.run("debt", "dbt_x", "--try", code=4)
    there.run("debt", "dbt_x", "--close", code=2)
    there.run("debt", "dbt_x", "--close", "--reason", "deleted by hand")
    assert debts.get(hub, "dbt_x").closed_by == "admin--robot"


def test_what_works_on_the_hubs_machine_only(there):
    """Said, with what does work."""
    result = there.run("backup", "x", code=2)
    assert "works on the machine of the hub" in result.stderr


def test_no_token_and_a_wrong_one(served, hub):
    """Bad input, without the token in any output."""
    from keyturn.cli.session import Session
    from tests.client.conftest import _line

    result = _line(Session({}), "--server", served).run("list", code=2)
    assert "KEYTURN_TOKEN" in result.stderr
    result = _line(Session({"KEYTURN_TOKEN": "ktnt_wrong8Hq"}), "--server", served).run("list", code=2)
    assert "8Hq" not in result.output
    result = _line(Session({"KEYTURN_TOKEN": "x"}), "--server", "http://127.0.0.1:9").run("list", code=1)
    assert "gives no answer" in result.stderr


def test_the_token_comes_from_the_keyring(monkeypatch):
    """For this address; the variable goes before it."""
    import keyring

    from keyturn.errors import InvalidInput
    from keyturn.settings import token_for

    kept = {("keyturn", "https://hub.example"): "from-the-keyring"}
    monkeypatch.setattr(keyring, "get_password", lambda *key: kept.get(key))
    monkeypatch.delenv("KEYTURN_TOKEN", raising=False)
    assert token_for("https://hub.example") == "from-the-keyring"
    with pytest.raises(InvalidInput):
        token_for("https://other.example")
    monkeypatch.setenv("KEYTURN_TOKEN", "from-the-variable")
    assert token_for("https://hub.example") == "from-the-variable"


# -- one operation, three ways -----------------------------------------------------------------------------------------


def said(hub, connection_id):
    """A connection's journal without what names the moment, the person and the value."""
    drop = {"by", "address", "from", "version", "task", "run", "trigger", "took_s", "at"}

    def cleaned(value):
        if isinstance(value, dict):
            return {k: cleaned(v) for k, v in value.items() if k not in drop}
        if isinstance(value, list | tuple):
            return [cleaned(v) for v in value]
        return (
            re.sub(r"\d+\.\d+|[0-9a-f]{16,}|-\d{3,}|\b\w+_[0-9a-z]{26,}\b", "X", str(value))
            if value
            else value
        )

    lines = hub.store.read(lambda tx: journal.of_connection(tx, connection_id))
    return [(line.step, line.kind.value, cleaned(dict(line.facts))) for line in lines]


@pytest.mark.parametrize("goal", ["rotate", "disconnect"])
def test_the_same_journal_whichever_way(here, there, client, connect, hub, ended, goal):
    """On the machine, from elsewhere, by the API: line for line the same."""
    told = []
    for name, way in (
        ("local", lambda n: here.run(goal, n, "--yes", "--reason", "same")),
        ("remote", lambda n: there.run(goal, n, "--yes", "--reason", "same")),
        ("client", lambda n: client.wait(client.start(n, goal, reason="same")["id"], 30, 0.05)),
    ):
        found = connect(name=name)
        way(name)
        ended(runs.recent(hub, name)[0].id)
        here.run("test", name, code=None) if name == "local" else client.post(f"connections/{name}/test") if (
            goal == "rotate"
        ) else None
        lines = said(hub, found.id)
        told.append([line for line in lines if line[0] != "test"])
    # what is looked at while something settles is looked at as often as it takes
    looks = [{(step, frozenset(facts)) for step, kind, facts in each if kind == "OBSERVED"} for each in told]
    deeds = [[(step, kind, set(facts)) for step, kind, facts in each if kind != "OBSERVED"] for each in told]
    assert len(deeds[0]) > 5
    assert deeds[0] == deeds[1] == deeds[2]
    assert looks[0] == looks[1] == looks[2]
    starts = [next(facts for step, _, facts in each if step == "start") for each in told]
    assert starts[0] == starts[1] == starts[2]


def test_issuing_leaves_the_same_journal(here, client, hub):
    """Issue, reissue and revoke."""
    here.run("issue", "api-key", "--name", "local", "--set", "scopes=read")
    client.post("issued", {"kind": "api-key", "name": "client", "values": {"scopes": "read"}})
    told = []
    for name in ("local", "client"):
        found = issued.get(hub, name).connection
        told.append([(s, k, set(f)) for s, k, f in said(hub, found.id)])
    assert told[0] == told[1]
