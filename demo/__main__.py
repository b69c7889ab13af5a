"""`make demo`: starts the lab, connects every row, rotates them all under load, and leaves a hub to click on."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from demo import given, page
from demo.callers import Caller
from demo.consumers import Consumer
from demo.given import Given
from demo.person import Person
from demo.row import Row
from demo.rows import rows
from keyturn.bootstrap import Keyturn, open_hub
from keyturn.operations import people, rights
from keyturn.settings import Settings
from keyturn_lab.parts.child import free_port

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
BIN = ROOT / ".venv" / "bin"
OVERLAP = "3s"


def main() -> int:
    """Exit status 0 only when every row is COMPLETE, or owes what its vendor leaves it no way to end, and the audit trail
    verifies."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--no-serve", action="store_true", help="end when the table is printed")
    parser.add_argument("--report", type=Path, help="write the result as JSON")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="WORD",
        help="only rows with one of these in name or system",
    )
    parser.add_argument("--port", type=int, default=8425, help="where the hub listens afterwards")
    options = parser.parse_args()
    began = time.monotonic()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o700)
    port = options.port if _is_free(options.port) else free_port()
    with ExitStack() as stack:
        world = _lab(stack)
        environment = _environment(world, port)
        _say("init", "keyturn init")
        _keyturn(["init"], environment)
        serve = _serve(stack, environment, port)
        hub = open_hub(Settings.read(environment))
        stack.callback(hub.close)
        here = f"http://127.0.0.1:{port}"
        every = [
            row for row in rows(world, f"{here}/oauth/callback") if _has(options.only, row.name, row.system)
        ]
        ours = [each for each in given.every(world) if _has(options.only, each.name, each.kind)]
        systems = {row.name: row.system for row in every}
        person = Person(BIN / "keyturn", environment, world["parts"], systems)
        person.start()
        stack.callback(person.stop)
        callers: dict[str, Caller] = {}
        with ThreadPoolExecutor(4) as pool:
            handed = pool.map(lambda each: (each, _issue(each, environment)), ours)
            list(pool.map(lambda row: _connect(row, environment), every))
            for each, values in handed:
                callers[each.name] = each.caller(here, values)
                person.handovers[each.name] = (each.holder, callers[each.name])
        consumers: dict[str, Consumer | Caller] = {
            row.name: Consumer(hub, row.name, row.every_s) for row in every
        }
        consumers |= callers
        for name, consumer in consumers.items():
            if name != given.PORTAL:
                consumer.start()
        time.sleep(1.5)
        names = [row.name for row in every]
        turning = [row.name for row in every if not row.is_public]
        if turning:
            _say("rotate", "keyturn rotate " + " ".join(f'"{name}"' for name in turning))
            subprocess.run(
                [BIN / "keyturn", "rotate", *turning, "--yes", "--reason", "demo"],
                env=environment,
                check=False,
            )
        if given.PORTAL in callers:
            # Only now: with a first account, so many rotations at once would wait for a second person.
            _say("allow", f"somebody lets {given.PORTAL} act for them")
            given.allow(here, _setup_link().partition("#")[2], callers[given.PORTAL])
            callers[given.PORTAL].start()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda each: _reissue(each, environment, callers[each.name]), ours))
        notes = {
            row.name: _leave_and_return(row.name, environment, consumers[row.name])
            for row in every
            if row.is_public
        }
        names += callers
        _wait_for(hub, names, 90.0)
        time.sleep(0.5)
        for consumer in consumers.values():
            consumer.stop()
        person.stop()
        report = _report(environment, names, consumers, notes, began)
        report["audit_ok"] = _audit(environment)
        report["seconds"] = round(time.monotonic() - began, 1)
        for trouble in person.trouble:
            print("the scripted person had trouble:", trouble)
        with ThreadPoolExecutor(2) as pool:
            told = pool.map(lambda name: _keyturn(["history", name, "--json"], environment), consumers)
            journals = {name: json.loads(said)["journal"] for name, said in zip(consumers, told, strict=True)}
        page.write(HOME / "report.html", report, journals)
        if options.report:
            options.report.write_text(json.dumps(report, indent=1))
        _print(report, world)
        owing = {row.name for row in every if row.owes}
        good = report["audit_ok"] and all(
            row["state"] == ("complete_with_debt" if row["name"] in owing else "complete")
            for row in report["rows"]
        )
        if not options.no_serve and good:
            print(f"\nThe hub keeps running at http://127.0.0.1:{port}/ (Ctrl-C ends it and the lab).")
            print(f"Choose a password as its administrator, then click: {_invitation(hub)}")
            print(f"Click through what happened: {(HOME / 'report.html').as_uri()}")
            print("Use it: . .demo/env.sh; .venv/bin/keyturn list")
            try:
                serve.wait()
            except KeyboardInterrupt:
                print()
        return 0 if good else 1


def _lab(stack: ExitStack) -> dict[str, Any]:
    _say("lab", "keyturn-lab up")
    log = stack.enter_context((HOME / "lab.log").open("w"))
    child = subprocess.Popen(
        [BIN / "keyturn-lab", "up", "--json", "--state", str(HOME / "lab.json")],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    stack.callback(_end, child)
    assert child.stdout
    line = child.stdout.readline()
    if not line:
        sys.exit(f"the lab did not start; see {HOME / 'lab.log'}")
    world: dict[str, Any] = json.loads(line)
    for part, why in world["missing"].items():
        print(f"  MISSING {part}: {why}")
        if os.environ.get("CI"):
            sys.exit("in CI every part must be there")
    return world


def _environment(world: Mapping[str, Any], port: int) -> dict[str, str]:
    """A hub of its own: home, key and allowed hosts below .demo; nothing of the caller's hub is touched."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("KEYTURN_")},
        "KEYTURN_HOME": str(HOME / "home"),
        "KEYTURN_KEK": f"file:{HOME / 'key' / 'kek'}",
        "KEYTURN_ALLOWED_HOSTS": "127.0.0.1,localhost",
        "KEYTURN_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "KEYTURN_WORKERS": "12",
        "KEYTURN_PATIENCE": "0.2",
        "KEYTURN_ACTOR": "demo",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    del world
    lines = [f"export {name}='{value}'" for name, value in environment.items() if name.startswith("KEYTURN_")]
    (HOME / "env.sh").write_text("\n".join(lines) + "\n")
    return environment


def _serve(stack: ExitStack, environment: Mapping[str, str], port: int) -> subprocess.Popen[bytes]:
    log = stack.enter_context((HOME / "serve.log").open("wb"))
    child = subprocess.Popen(
        [BIN / "keyturn", "serve", "--port", str(port)],
        env=dict(environment),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    stack.callback(_end, child)
    until = time.monotonic() + 20
    while time.monotonic() < until and _is_free(port):
        if child.poll() is not None:
            sys.exit(f"the hub did not start; see {HOME / 'serve.log'}")
        time.sleep(0.05)
    return child


def _connect(row: Row, environment: Mapping[str, str]) -> None:
    arguments = ["connect", row.system, row.method, "--name", row.name]
    extra = dict(environment)
    for name, value in row.settings.items():
        arguments += ["--set", f"{name}={value}"]
    for number, (name, value) in enumerate(row.secrets.items()):
        extra[f"SECRET_{number}"] = value
        arguments += ["--secret", f"{name}=env:SECRET_{number}"]
    for name, value in row.policy.items():
        arguments += ["--policy", f"{name}={value}"]
    if row.definition:
        arguments += ["--definition", str(row.definition)]
    said = json.loads(_keyturn([*arguments, "--json"], extra))
    state = said["state"]
    _say("connect", f"{row.system}/{row.method}  {row.name}: {state}")
    if state == "revoked":  # an OAuth row: a person consents
        _keyturn(["reauthorize", row.name, "--yes", "--no-wait", "--json"], environment, allowed=(0, 3))
        until = time.monotonic() + 30
        while time.monotonic() < until:
            shown = json.loads(_keyturn(["show", row.name, "--json"], environment))
            if shown["state"] == "active":
                _say("authorize", f"{row.name}: active")
                return
            time.sleep(0.3)
        print(f"  {row.name} was not authorized in time")


def _has(words: list[str], *texts: str) -> bool:
    return any(word in text for word in words for text in texts)


def _issue(each: Given, environment: Mapping[str, str]) -> dict[str, str]:
    arguments = ["issue", each.kind, "--name", each.name]
    for option, pairs in (("--set", each.settings), ("--policy", each.policy)):
        arguments += [word for name, value in pairs.items() for word in (option, f"{name}={value}")]
    for name in each.secrets:
        arguments += ["--secret", f"{name}=env:SECRET_{name}"]
    extra = {f"SECRET_{name}": value for name, value in each.secrets.items()}
    said = json.loads(_keyturn([*arguments, "--json"], {**environment, **extra}))
    _say("issue", f"{each.kind}  {each.name}")
    return each.values(said)


def _reissue(each: Given, environment: Mapping[str, str], caller: Caller) -> None:
    """A second one beside the first; unless another party gets it through a link, it is put in place from here."""
    _say("reissue", f'keyturn reissue "{each.name}" --overlap {OVERLAP}')
    said = json.loads(_keyturn(["reissue", each.name, "--overlap", OVERLAP, "--json"], environment))
    if not each.holder:
        time.sleep(0.5)  # the hand-over takes its time; both work meanwhile
        caller.take(each.values(said))


def _leave_and_return(name: str, environment: Mapping[str, str], consumer: Consumer | Caller) -> str:
    """Where there is no credential: tested, its plan refused in words, left, connected again and tested. What to say of it."""
    _say("test", f'keyturn test "{name}"')
    _keyturn(["test", name], environment)
    refused = _keyturn(["plan", name], environment, allowed=(2,))
    consumer.stop()  # it is left on purpose: no gap to count
    for verb, *options in (("disconnect", "--yes"), ("reconnect",), ("test",)):
        _say(verb, f'keyturn {verb} "{name}"')
        _keyturn([verb, name, *options], environment)
    why = refused.splitlines()[0].removeprefix("Error: ").removesuffix(" (goal)")
    return f"tested, disconnected, reconnected; its plan: {why}"


def _invitation(hub: Keyturn) -> str:
    """A one-time link by which whoever looks at the demo becomes an administrator of its hub."""
    invited = people.invite(hub, rights.local("demo"), "you", "You", [(rights.Role.ADMIN.value, "")])
    return f"{hub.settings.public_url}/join#{invited.code.reveal()}"


def _wait_for(hub: Keyturn, names: list[str], timeout_s: float) -> None:
    """Until no run of these has anything left to do by itself."""
    from keyturn.model.run import TERMINAL
    from keyturn.operations import runs

    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        latest = [runs.recent(hub, name, 1) for name in names]
        if all(found and found[0].state in TERMINAL for found in latest):
            return
        time.sleep(0.2)


def _report(
    environment: Mapping[str, str],
    names: list[str],
    consumers: Mapping[str, Consumer | Caller],
    notes: Mapping[str, str],
    began: float,
) -> dict[str, Any]:
    found = []
    latest: dict[str, dict[str, Any]] = {}
    for run in reversed(json.loads(_keyturn(["runs", "--limit", "1000", "--json"], environment))):
        latest[run["connection"]] = run
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda name: _keyturn(["show", name, "--json"], environment), names))
    for name, said in zip(names, told, strict=True):
        shown = json.loads(said)
        last = latest.get(name, {})
        seen = consumers[name].seen
        found.append(
            {
                "name": name,
                "system": shown["system"],
                "method": shown["method"],
                "strategy": last.get("strategy", ""),
                "state": last.get("state", "never ran"),
                "gap_class": seen.gap_class,
                "declared_class": last.get("gap_class", ""),
                "consumer_logins": seen.logins,
                "consumer_failures": seen.refused,
                "consumer_retries": seen.retried,
                "paused_s": round(seen.paused_s, 1),
                "proof": last.get("proof", ""),
                "seconds": round(last.get("seconds") or 0.0, 1),
                "waiting_for": last.get("waiting_for", ""),
                "note": notes.get(name, ""),
            }
        )
    return {"rows": found, "seconds": round(time.monotonic() - began, 1)}


def _setup_link() -> str:
    """The one-time link that the hub said when it started."""
    said = (HOME / "serve.log").read_text()
    return next((word for word in said.split() if "/setup#" in word), "see .demo/serve.log")


def _audit(environment: Mapping[str, str]) -> bool:
    path = HOME / "audit.jsonl"
    _say("audit", f"keyturn audit export {path.name}; keyturn audit verify {path.name}")
    _keyturn(["audit", "export", str(path)], environment)
    done = subprocess.run([BIN / "keyturn", "audit", "verify", str(path)], env=dict(environment), check=False)
    return done.returncode == 0


_STATES = {"complete_with_debt": "complete*"}


def _print(report: Mapping[str, Any], world: Mapping[str, Any]) -> None:
    print()
    head = f"{'row':<26} {'connection':<25} {'by':<3} {'state':<10} {'gap':<4} {'logins':>7} {'refused':>8} {'proof':<6} {'time':>7}"
    print(head)
    print("-" * len(head))
    for row in report["rows"]:
        print(
            f"{row['system'] + '/' + row['method']:<26} {row['name']:<25} {row['strategy']:<3} {_STATES.get(row['state'], row['state']):<10}"
            f" {row['gap_class']:<4} {row['consumer_logins']:>7} {row['consumer_failures']:>8} {row['proof']:<6}"
            f" {row['seconds']:>6.1f}s"
            + (f"  {row['waiting_for']}" if not row["state"].startswith("complete") else "")
            + (f"\n  {row['note']}" if row["note"] else "")
        )
    print("-" * len(head))
    done = sum(row["state"].startswith("complete") for row in report["rows"])
    owed = [row["name"] for row in report["rows"] if row["state"] == "complete_with_debt"]
    if owed:
        print(f"* {', '.join(owed)}: the vendor cannot end the old one alone. It is owed: keyturn debts")
    print(
        f"{done} of {len(report['rows'])} complete, audit trail {'verified' if report['audit_ok'] else 'BROKEN'},"
        f" {report['seconds']:.0f} s"
        + (f", missing parts: {', '.join(world['missing'])}" if world["missing"] else "")
    )


def _keyturn(arguments: list[str], environment: Mapping[str, str], allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [BIN / "keyturn", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode not in allowed:
        sys.exit(f"keyturn {' '.join(arguments[:4])}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout or done.stderr


def _end(child: subprocess.Popen[Any]) -> None:
    child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _say(what: str, words: str) -> None:
    print(f"{what:>10}  {words}\n", end="", flush=True)  # one write: several threads say something


if __name__ == "__main__":
    sys.exit(main())
