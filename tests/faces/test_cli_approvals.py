"""approvals, approve, refuse, --emergency, task --link, tasks --mine: a second person and an outside one, typed."""

import json
import urllib.parse


def act(keyturn, who):
    keyturn.environment["KEYTURN_ACTOR"] = who


def test_a_hub_of_one_person_asks_nobody_unless_told_to(keyturn, vendor, fresh_name):
    """Without accounts approvals are off; KEYTURN_APPROVALS turns them on."""
    name = fresh_name("g")
    keyturn.connect(vendor, "grant", name)
    assert "approval" not in keyturn("plan", name, "revoke").stdout
    keyturn.environment["KEYTURN_APPROVALS"] = "on"
    assert "waits until a second person approves it" in keyturn("plan", name, "revoke").stdout
    assert keyturn.json("plan", name, "revoke")["approval"]
    assert keyturn.json("approvals") == []
    assert "Nothing waits" in keyturn("approvals").stdout


def test_approved_by_another(keyturn, vendor, fresh_name):
    """The command that asks ends with 3 and says who does what; not by oneself; then the run is carried out."""
    name = fresh_name("k")
    keyturn.connect(vendor, "two_slots", name, "--policy", "approve=rotate,disconnect")
    asked = keyturn("rotate", name, "--reason", "quarterly", code=3)
    assert "keyturn approve" in asked.stdout
    (item,) = keyturn.json("approvals")
    assert (item["connection"], item["goal"], item["kind"], item["asked_by"], item["reason"]) == (
        name,
        "rotate",
        "approval",
        "kim",
        "quarterly",
    )
    run = item["run"]
    for command in ("runs", "run", "approvals"):
        said = keyturn(*((command, run) if command == "run" else (command,))).stdout
        assert "approval" in said, command
    assert keyturn.json("run", run)["state"] == "waiting_approval"
    keyturn("run", run, "--follow", code=3)
    refused = keyturn("approve", run, code=2)
    assert "somebody else decides" in refused.stderr
    act(keyturn, "lee")
    assert "APPROVED" in keyturn("approve", run, "--reason", "change 4711").stdout
    keyturn("run", run, "--follow", "--timeout", "60s", code=0)
    facts = [each["facts"] for each in keyturn.json("history", name)["journal"]]
    approved = next(each for each in facts if each.get("decision") == "approved")
    assert (approved["by"], approved["from"], approved["why"]) == ("lee", "the command line", "change 4711")


def test_refused_with_a_reason(keyturn, vendor, fresh_name):
    """The requester reads it; it is over, and by name works too."""
    name = fresh_name("k")
    keyturn.connect(vendor, "two_slots", name, "--policy", "approve=rotate")
    keyturn("rotate", name, "--no-wait", code=None)
    act(keyturn, "lee")
    assert "Missing option '--reason'" in keyturn("refuse", name, code=2).stderr
    assert "REFUSED" in keyturn("refuse", name, "--reason", "during the audit").stdout
    assert "lee refused: during the audit" in keyturn("run", name).stdout
    assert keyturn.json("approvals") == []
    keyturn("approve", keyturn.json("runs")[0]["id"], code=2)


def test_an_emergency_waits_for_nobody(keyturn, vendor, fresh_name):
    """It is carried out, and is an open item until another looked."""
    keyturn.environment["KEYTURN_APPROVALS"] = "contain"
    name = fresh_name("k")
    keyturn.connect(vendor, "two_slots", name)
    keyturn("contain", name, "--yes", code=3)
    run = keyturn.json("contain", name, "--yes", "--emergency", "in a public log")
    assert run["state"] == "complete"
    (item,) = keyturn.json("approvals")
    assert (item["kind"], item["run"], item["reason"], item["until"]) == (
        "review",
        run["id"],
        "in a public log",
        None,
    )
    act(keyturn, "lee")
    keyturn("approve", run["id"])
    assert keyturn.json("approvals") == []


def test_several_at_once_are_asked_about(keyturn, vendor, fresh_name):
    """One leak is contained at once, two connections wait."""
    keyturn.environment["KEYTURN_APPROVALS"] = "on"
    names = [fresh_name("a"), fresh_name("b")]
    for name in names:
        keyturn.connect(vendor, "two_slots", name)
    keyturn("contain", *names, "--yes", code=3)
    assert sorted(item["connection"] for item in keyturn.json("approvals")) == sorted(names)


def test_a_setting_that_is_none(keyturn):
    """The variable is named."""
    keyturn.environment["KEYTURN_APPROVALS"] = "sometimes"
    assert "KEYTURN_APPROVALS" in keyturn("approvals", code=2).stderr


def test_a_link_for_somebody_outside(keyturn, vendor, fresh_name):
    """The address alone is on stdout; its code is nowhere else; a second one ends the first."""
    name = fresh_name("p")
    keyturn.connect(vendor, "supplied", name)
    keyturn("rotate", name, code=3)
    first = keyturn("task", name, "--link", "--for", "ann")
    parts = urllib.parse.urlsplit(first.stdout.strip())
    assert (parts.path, parts.query, len(parts.fragment)) == ("/help", "", 43)
    made = keyturn.json("task", name, "--link")
    assert made["url"] != first.stdout.strip()
    assert made["until"].endswith("Z")
    for table in ("task_link", "journal"):
        rows = repr(keyturn.rows(f"SELECT * FROM {table}"))
        assert parts.fragment not in rows
        assert made["url"].partition("#")[2] not in rows
    assert [bool(row[0]) for row in keyturn.rows("SELECT ended_at FROM task_link ORDER BY created_at")] == [
        True,
        False,
    ]
    facts = [each["facts"] for each in keyturn.json("history", name)["journal"]]
    said = next(each for each in facts if each.get("decision") == "link_made")
    assert (said["by"], said["from"], said["for"]) == ("kim", "the command line", "ann")
    keyturn("task", name, "--submit", "key_name=x", "--link", code=0)
    assert json.loads(keyturn("tasks", "--json").stdout)[0]["state"] != "submitted"


def test_whose_tasks(keyturn, vendor, fresh_name):
    """Mine, my team's, everybody's, by owner."""
    mine, theirs = fresh_name("m"), fresh_name("t")
    keyturn.connect(vendor, "supplied", mine)
    keyturn.connect(vendor, "supplied", theirs, "--owner", "data team")
    for name in (mine, theirs):
        keyturn("rotate", name, code=3)
    assert [each["owner"] for each in keyturn.json("tasks")] == ["data team", "kim"]
    assert [each["connection"] for each in keyturn.json("tasks", "--mine")] == [mine]
    assert [each["connection"] for each in keyturn.json("tasks", "--team")] == [mine]
    assert len(keyturn.json("tasks", "--all")) == 2
    assert "data team" in keyturn("tasks").stdout
    keyturn("task", theirs, "--claim")
    assert len(keyturn.json("tasks", "--mine")) == 2
