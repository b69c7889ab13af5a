"""Connections, runs, tasks, leases: the daily commands against the vendor of every shape."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.cli import terminal
from keyturn_lab.vendors.shapes.running import Shapes
from tests.faces.conftest import Line
from tests.faults import shapes_connector as shapes
from tests.programs import running

PROGRAM = Path(sys.executable).with_name("keyturn")
Name = Callable[[str], str]


def test_connect_rotate_disconnect_reconnect(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """The whole life of a connection; what is printed names what serves."""
    name = fresh_name("life")
    keyturn.connect(vendor, "many_ids", name, "--owner", "ana", "--policy", "retention_s=1h")
    assert keyturn.json("show", name)["policy"] == {"retention_s": 3600.0}
    assert keyturn.json("test", name)["verdict"] == "accepted"
    assert any(f["kind"] == "credential" for f in keyturn.json("discover", name))
    said = keyturn("plan", name, "disconnect").stdout
    assert "point of no return" in said
    run = keyturn.json("rotate", name, "--reason", "test")
    assert (run["state"], run["proof"], run["strategy"], run["gap_class"]) == ("complete", "D2", "S2", "Z0")
    assert run["serving"] == "v2 serves"
    assert run["seconds"] > 0
    assert keyturn.json("disconnect", name, "--yes")["state"] == "complete"
    assert keyturn.json("list")[0]["state"] == "disconnected"
    assert "keyturn reconnect" in keyturn("rotate", name, code=2).stderr
    history = keyturn.json("history", name)
    assert [v["state"] for v in history["versions"]] == ["dead", "dead"]
    assert history["journal"][0]["number"] == 1


def test_several_rotate_at_once_and_every_change_is_a_line(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """Piped output is a line per change; the last lines say how each ended."""
    names = [fresh_name(word) for word in ("x", "y")]
    for name in names:
        keyturn.connect(vendor, "one_slot", name)
    said = keyturn("rotate", *names).stdout
    for name in names:
        assert f"{name} rotate: done: Check before anything changes" in said
        assert f"{name}: rotate complete" in said
    assert "\x1b" not in said
    assert {r["state"] for r in keyturn.json("runs")} == {"complete"}


def test_an_unknown_name_among_several_starts_nothing(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """All names are looked up first; the nearest is offered."""
    name = fresh_name("many")
    keyturn.connect(vendor, "one_slot", name)
    said = keyturn("rotate", name, name + "x", code=2).stderr
    assert f"Did you mean {name}" in said
    assert keyturn.json("runs") == []


def test_no_wait_returns_at_once_and_follow_finishes_it(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """A run that nobody works on goes on with the next --follow."""
    name = fresh_name("later")
    keyturn.connect(vendor, "one_slot", name)
    run = keyturn.json("rotate", name, "--no-wait")
    assert run["state"] == "queued"
    assert "has not ended" in keyturn("rotate", name, code=2).stderr
    assert keyturn.json("run", run["id"])["steps"][0]["state"] == "open"
    assert keyturn.json("run", name, "--follow")["state"] == "complete"
    shown = keyturn.json("run", run["id"])
    assert {s["state"] for s in shown["steps"]} == {"done"}
    assert all(s["from"] for s in shown["steps"])


def test_cancel_ends_a_run_that_changed_nothing(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """Nothing is left behind and that counts as done."""
    name = fresh_name("cancel")
    keyturn.connect(vendor, "one_slot", name)
    run = keyturn.json("rotate", name, "--no-wait")
    assert keyturn.json("cancel", run["id"])["state"] == "aborted_clean"
    assert "has ended already" in keyturn("rollback", run["id"], code=2).stderr
    assert "there is no run" in keyturn("retry", "run_nothing", code=2).stderr


def test_rollback_undoes_a_run_that_waits_for_a_consumer(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """Before the point of no return the old one serves again and the new one is proven dead: exit code 0."""
    name = fresh_name("undo")
    keyturn.connect(vendor, "many_ids", name)
    keyturn("use", name, "slow", "--kind", "live")
    run = keyturn.json("rotate", name, "--timeout", "3s", code=3)
    assert run["state"] == "waiting"
    assert "consumers" in run["waiting_for"] or "slow" in run["waiting_for"]
    assert run["alive"] == sorted(run["alive"], reverse=True)
    said = keyturn("rollback", run["id"]).stdout
    assert "done: Point consumers back at the old one" in said
    end = keyturn.json("run", name)
    assert (end["state"], end["serving"]) == ("aborted_clean", "v1 serves")
    assert "undone" in {s["state"] for s in end["steps"]}


def test_irreversible_goals_ask(
    keyturn: Line, vendor: Shapes, fresh_name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal --yes is needed; on one the name is typed, and a wrong name starts nothing."""
    name = fresh_name("ask")
    keyturn.connect(vendor, "many_ids", name)
    for goal in ("disconnect", "revoke", "contain"):
        assert "--yes" in keyturn(goal, name, code=2).stderr
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    keyturn("disconnect", name, typed="something else\n", code=1)
    assert keyturn.json("runs") == []
    keyturn("contain", name, typed=f"{name}\n")
    assert keyturn.json("runs")[0]["goal"] == "contain"


def test_a_dry_run_shows_the_plan_and_starts_nothing(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """Of every goal, without being asked for a name; with what `plan` has no option for."""
    name = fresh_name("dry")
    keyturn.connect(vendor, "one_slot", name)
    before = keyturn.counts()
    for goal in ("rotate", "disconnect", "contain"):
        assert keyturn.json(goal, name, "--dry-run") == keyturn.json("plan", name, goal)
    assert "Consumers notice" in keyturn("rotate", name, "--dry-run").stdout
    dropped = keyturn("disconnect", name, "--drop", "--dry-run").stdout
    assert "Give the remote identity up" in dropped
    assert "Consumers notice" not in dropped  # it ends: nobody is switched over
    assert keyturn.counts() == before


def test_what_one_is_told_to_type_can_be_typed(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """A name with a space in it is quoted for the shell."""
    name = f"{fresh_name('two')} words"
    made = keyturn.connect(vendor, "many_ids", name)
    keyturn("disconnect", name, "--yes")
    said = keyturn("rotate", name, code=2).stderr
    command = said.split("`")[1]
    assert shlex.split(command) == ["keyturn", "reconnect", name]
    assert made.material["secret"] not in said


def test_a_second_connection_to_one_account_is_told_when_it_is_made(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """Neither can be rotated alone, and how to get out of that is said."""
    first, second = fresh_name("first"), fresh_name("second")
    _, args = keyturn.arguments(vendor, "one_slot", first)
    keyturn("connect", "shapes", "one_slot", "--name", first, *args)
    assert first in keyturn("connect", "shapes", "one_slot", "--name", second, *args).stdout
    said = keyturn("rotate", second, code=2).stderr
    assert first in said
    assert "reconnect" in said


def test_a_person_is_asked_checked_returned_and_thanked(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """Waiting is exit code 3; a wrong value comes back with the reason while the old one serves."""
    name = fresh_name("person")
    keyturn.connect(vendor, "supplied", name)
    run = keyturn.json("rotate", name, code=3)
    assert run["state"] == "waiting_human"
    assert run["serving"] == "v1 serves"
    task = run["tasks"][0]["id"]
    assert task in run["next"]
    said = keyturn("task", task).stdout
    assert f"Create a key for {name}" in said
    assert "--submit secret=@FILE" in said
    assert keyturn.json("task", task, "--claim")["claimed_by"] == "kim"
    assert [t["id"] for t in keyturn.json("tasks")] == [task]
    assert "no field sekret" in keyturn("task", task, "--submit", "sekret=-", code=2).stderr
    assert "Did you mean secret" in keyturn("task", task, "--submit", "sekret=-", code=2).stderr
    assert (
        "history" in keyturn("task", task, "--submit", "key_id=x", "--submit", "secret=plain", code=2).stderr
    )
    said = keyturn(
        "task", task, "--submit", "key_id=x", "--submit", "secret=-", typed="wrong\n", code=3
    ).stdout
    assert "RETURNED the new credential is refused" in said
    value = shapes.person_supplies(vendor.client, name)
    pasted = shapes.pasted(value)
    file = keyturn.folder / "pasted"
    file.write_text(value + "\n")
    file.chmod(0o600)
    done = keyturn(
        "task",
        name,
        "--submit",
        f"key_id={pasted['key_id']}",
        "--submit",
        f"secret=@{file}",
        "--json",
        code=3,
    )
    said = json.loads(done.stdout)
    assert said["result"] == "DONE"
    end = said["run"]["tasks"][0]["id"]
    text = keyturn("task", end).stdout
    which = text.split("Delete the key ")[1].split(" of ")[0]
    shapes.person_deletes(vendor.client, name, which)
    keyturn("task", end, "--done", code=None)
    assert keyturn.json("run", name)["state"] in {"complete", "complete_with_debt"}


def test_a_consent_shows_where_to_go(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """The page to open is printed; the callback finishes it."""
    name = fresh_name("grant")
    keyturn.connect(vendor, "grant", name)
    run = keyturn.json("reauthorize", name, code=3)
    url = run["tasks"][0]["url"]
    assert url.startswith(shapes.AUTHORIZE_URL)
    back = shapes.person_consents(url)
    said = keyturn("task", name, "--submit", "callback_url=-", typed=back + "\n", code=None).stdout
    assert "DONE" in said


def test_a_blocked_run_says_what_serves_and_what_to_do(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """Exit code 4, the reason, what is alive remotely and the next command."""
    name = fresh_name("blocked")
    made = keyturn.connect(vendor, "many_ids", name)
    shapes.person_deletes(vendor.client, name, made.ref.id)
    done = keyturn("rotate", name, code=4)
    for word in ("blocked", "Why", "Serving", "Alive remotely", "Next", "keyturn retry run_"):
        assert word in done.stdout
    assert keyturn.json("retry", name, "--timeout", "2s", code=4)["state"] == "blocked"


def test_a_consumer_is_declared_and_a_lease_runs_a_program(
    keyturn: Line, vendor: Shapes, fresh_name: Name, capfd: pytest.CaptureFixture[str]
) -> None:
    """The credential is in the program's environment only, its exit code is ours, the lease is given back."""
    name = fresh_name("lease")
    made = keyturn.connect(vendor, "many_ids", name)
    assert "--ttl" in keyturn("use", name, "job", "--kind", "cached", code=2).stderr
    assert keyturn.json("use", name, "job", "--kind", "live")[0]["name"] == "job"
    out = keyturn.folder / "out"
    script = f'printf %s "$KEYTURN_SECRET" > {out}; exit 7'
    keyturn("lease", name, "--as", "job", "--ttl", "1m", "--", "sh", "-c", script, code=7)
    assert out.read_text() == made.material["secret"]
    assert "KEYTURN_SECRET" not in os.environ
    assert keyturn.rows("SELECT COUNT(*) FROM lease WHERE ended_at IS NULL") == [(0,)]
    keyturn("lease", name, "--", "no-such-program", code=127)
    assert "no command" in keyturn("lease", name, code=2).stderr
    capfd.readouterr()


def test_a_leased_program_gets_signals_and_no_master_key(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """SIGTERM goes to the program; the variable that holds the master key does not."""
    name = fresh_name("signals")
    keyturn.connect(vendor, "many_ids", name)
    child = (
        "import os,signal,sys,time;signal.signal(15,lambda *a: sys.exit(9));"
        "print('MASTER' in os.environ, flush=True);time.sleep(20)"
    )
    driver = (
        "import sys\nfrom keyturn.cli.main import cli\nfrom keyturn.cli.session import Session\n"
        "from keyturn.catalog import Catalog\nfrom tests.faults import world\n"
        "cli(sys.argv[1:], obj=Session(None, Catalog(lambda _: None, extra={'shapes': world.external()})))"
    )
    lines = keyturn.kek.read_text().splitlines()
    env = {
        **keyturn.environment,
        "KEYTURN_KEK": "env:MASTER",
        "MASTER": lines[-1].split()[-1],
        "PYTHONPATH": ".",
    }
    argv = [sys.executable, "-c", driver, "lease", name, "--", sys.executable, "-c", child]
    with running(argv, env=env, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as lease:
        assert lease.stdout
        assert lease.stdout.readline() == "False\n"
        lease.send_signal(signal.SIGTERM)
        assert lease.wait(timeout=15) == 9
    assert keyturn.rows("SELECT COUNT(*) FROM lease WHERE ended_at IS NULL") == [(0,)]


def test_a_leased_program_inherits_nothing_of_the_hub(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """Where the hub and its key are is not the program's business; the rest of the environment and the credential are."""
    name = fresh_name("inherits")
    made = keyturn.connect(vendor, "many_ids", name)
    keyturn.environment["OTHER"] = "kept"
    out = keyturn.folder / "out"
    keyturn("lease", name, "--", "sh", "-c", f"env > {out}")
    found = dict(line.split("=", 1) for line in out.read_text().splitlines())
    assert found["OTHER"] == "kept"
    ours = {key: value for key, value in found.items() if key.startswith("KEYTURN_")}
    assert ours == {f"KEYTURN_{key.upper()}": value for key, value in made.material.items()}


def test_drop_is_for_one_disconnect(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """The plan that runs deletes the remote identity; the policy is never changed for it."""
    name = fresh_name("drop")
    keyturn.connect(vendor, "one_slot", name)
    before = keyturn.json("show", name)["policy"]
    run = keyturn.json("disconnect", name, "--drop", "--yes", code=3)  # a person ends the one slot first
    assert "drop" in {step["key"] for step in keyturn.json("run", run["id"])["steps"]}
    assert keyturn.json("show", name)["policy"] == before
    assert "policy_changed" not in keyturn("history", name, "--json").stdout


def test_a_worker_ends_on_sigterm(keyturn: Line) -> None:
    """Gracefully, with exit code 0."""
    with running([PROGRAM, "worker"], env=keyturn.environment, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr
        assert "Working" in worker.stderr.readline()
        time.sleep(0.3)
        worker.terminate()
        assert worker.wait(timeout=15) == 0


def test_issued_keys_are_shown_once(keyturn: Line) -> None:
    """stdout is the value alone; nothing else ever prints it."""
    first = keyturn("issue", "api-key", "--name", "partner", "--set", "scopes=read").stdout.strip()
    second = keyturn("reissue", "partner", "--overlap", "1h").stdout.strip()
    assert first != second
    rest = keyturn("issued").stdout + keyturn("show", "partner").stdout + keyturn("history", "partner").stdout
    assert first not in rest
    assert second not in rest
    assert {s["state"] for s in keyturn.json("issued")[0]["secrets"]} == {"live"}
    assert "--yes" in keyturn("revoke-issued", "partner", code=2).stderr
    keyturn("revoke-issued", "partner", "--yes")
    assert "live" not in {s["state"] for s in keyturn.json("issued")[0]["secrets"]}
    assert "field=" not in keyturn("issue", "passport", "--name", "x", code=2).stderr


def test_debts_are_listed_tried_and_closed_with_a_reason(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """A value that was turned down is owed until a person says why it is settled."""
    name = fresh_name("debts")
    keyturn.connect(vendor, "supplied", name)
    keyturn("rotate", name, code=3)
    keyturn("task", name, "--submit", "key_id=x", "--submit", "secret=-", typed="wrong\n", code=3)
    found = keyturn.json("debts")
    assert [d["connection"] for d in found] == [name]
    debt = found[0]["id"]
    assert "reason" in keyturn("debt", debt, "--close", code=2).stderr
    keyturn("debt", debt)
    closed = keyturn.json("debt", debt, "--close", "--reason", "it never existed")
    assert closed["closed_by"] == "kim"
    assert keyturn.json("debts") == []


def test_the_live_view_draws_every_step(
    keyturn: Line, vendor: Shapes, fresh_name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the plan is a checklist that changes in place."""
    name = fresh_name("live")
    keyturn.connect(vendor, "one_slot", name)
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    said = keyturn("rotate", name).stdout
    assert "Prove that the old one is dead" in said
    assert f"{name}: rotate complete" in said


def test_no_secret_was_printed(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """Whatever is shown of a connection, its values are not in it."""
    name = fresh_name("quiet")
    made = keyturn.connect(vendor, "one_slot", name)
    keyturn("rotate", name)
    for command in ("show", "history", "plan", "test", "run"):
        keyturn(command, name)
        keyturn(command, name, "--json")
    keyturn("runs")
    said = "".join(keyturn.said)
    for secret in (*made.material.secrets(), *(made.admin or {}).values()):
        assert secret not in said


def test_a_risk_is_accepted_in_words_before_anything_starts(
    keyturn: Line, vendor: Shapes, fresh_name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan says which words; --yes is not enough, other words are not, and the journal keeps who said them."""
    name = fresh_name("risk")
    keyturn.connect(vendor, "regenerate", name)
    plan = keyturn("plan", name).stdout
    assert "Risk: " in plan
    assert f"--accept '{name} may be lost'" in plan
    for more in ((), ("--accept", "go on")):
        said = keyturn("rotate", name, "--yes", *more, code=2).stderr
        assert f"Say: {name} may be lost" in said
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    keyturn("rotate", name, "--yes", typed="yes\n", code=1)
    assert keyturn.json("runs") == []
    keyturn("rotate", name, typed=f"{name} may be lost\n")
    (run,) = keyturn.json("runs")
    assert run["state"] == "complete"
    start = next(line for line in keyturn.json("history", name)["journal"] if line["step"] == "start")
    assert start["facts"]["accepted"] == f"{name} may be lost"
    assert start["facts"]["by"] == "kim"
    assert "answer is lost" in start["facts"]["risk"]
