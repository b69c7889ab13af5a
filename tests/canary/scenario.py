"""A compact life of a hub, with every log at DEBUG: each row connected, rotated, refused, broken, left; then the CLI."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from keyturn.api.app import create_app
from keyturn.bootstrap import Keyturn, open_hub
from keyturn.catalog import Catalog
from keyturn.errors import KeyturnError
from keyturn.issued.kinds import Kind
from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, RunState, TaskState
from keyturn.operations import (
    audit,
    connections,
    issued,
    leases,
    notices,
    register,
    rights,
    runs,
    tasks,
)
from keyturn.operations.issued import Handed
from keyturn.settings import Settings
from keyturn.transport import sql
from keyturn_lab.parts.child import PartMissing
from tests.canary.looked_at import look
from tests.canary.secrets import Named, of_hub, of_key, of_lab
from tests.canary.told import listening
from tests.compliance.case import Case
from tests.compliance.kinds import OURS, needed
from tests.compliance.lab import Lab
from tests.compliance.rows import ROWS
from tests.faults import world

BIN = Path(sys.executable).parent
STORED_IN_POSTGRESQL = ("postgresql/password two roles", "shapes/many_ids")
SETTLED = {RunState.BLOCKED, RunState.LOST}
ROTATED = {RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT}  # Google ends no single old grant: it is owed


@dataclass
class Told:
    """What the scenario leaves: folders to scan, secrets to look for, and what did not go as it should."""

    folder: Path
    secrets: list[Named] = field(default_factory=list)
    rotated: int = 0
    trouble: list[str] = field(default_factory=list)


# Without the row that has no secret; and Ecosystems has one connection, so one of its two shapes.
ALL = tuple(name for name in ROWS if name not in {"custom-rest/none", "ecosystem/access_key several keys"})


def play(lab: Lab, folder: Path, *, only: tuple[str, ...] = (), brief: bool = False) -> Told:
    """Everything once; what a part of the lab that is missing would have shown is left out and named.

    `brief` types fewer commands.
    """
    told = Told(folder)
    out = folder / "out"
    out.mkdir()
    cases: dict[str, Case] = {}
    stored = dict(_cases(lab, told, STORED_IN_POSTGRESQL))
    with _loud(out / "debug.log"), _captured(out / "stdout.txt"), listening(out) as (hook, post):
        hub = _open(folder, cases, KEYTURN_SMTP_URL=post)
        try:
            told.secrets += _tell(hub, hook)
            for name, case in _cases(lab, told, only or ALL):
                cases[name] = case
                _live(told, hub, name, case)
            _issue(told, hub)
            while notices.look(hub) or notices.deliver(hub):
                pass
            told.secrets += look(hub, out)
            audit.export(hub, folder / "audit.jsonl")
        finally:
            hub.close()
            sql.close_idle()
        _in_postgresql(told, lab, stored)
        _command_line(told, lab, folder, cases, brief=brief)
        again = _open(folder, cases, start=False)
        told.secrets += of_hub(again)
        again.close()
    told.secrets += of_lab(lab)
    told.secrets += of_key(folder / "key" / "kek")
    for name, case in cases.items():
        told.secrets += ((f"typed for {name}", v) for v in _typed_secrets(case))
    if "postgres" in vars(lab):
        (folder / "out" / "postgresql.log").write_text(lab.postgres.read_log())
    return told


def _cases(lab: Lab, told: Told, names: tuple[str, ...]) -> Iterator[tuple[str, Case]]:
    """Each made when its turn comes, as a row may begin with its vendor anew. What the lab's own clients log meanwhile is
    not the hub's doing."""
    for name in names:
        logging.disable(logging.CRITICAL)
        try:
            case = ROWS[name](lab)
        except PartMissing as missing:
            if os.environ.get("CI"):
                raise
            told.trouble.append(f"{name} left out: {missing}")
            continue
        finally:
            logging.disable(logging.NOTSET)
        yield name, case


def _typed_secrets(case: Case) -> Iterator[str]:
    method = case.catalog().row(case.system, case.method, case.values, case.definition_hash).method
    for values in (case.values, case.wrong_values):
        for name, value in values.items():
            typed = method.field(name)
            if typed is not None and typed.secret:
                yield value


def _tell(hub: Keyturn, hook: str) -> Iterator[Named]:
    """Everything that happens from now on goes out by webhook and by mail."""
    notices.look(hub)
    me = rights.local("canary")
    _, secret = notices.add_recipient(hub, me, "webhook", "hook", hook, notices.TOPICS)
    notices.add_recipient(hub, me, "mail", "post", "ops@example.com", notices.TOPICS)
    if secret is not None:
        yield "a webhook's secret", secret.reveal()


def environment(folder: Path, database: str = "") -> dict[str, str]:
    """The environment of a hub that lives in one folder."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "KEYTURN_HOME": str(folder / "home"),
        "KEYTURN_KEK": f"file:{folder / 'key' / 'kek'}",
        "KEYTURN_ALLOWED_HOSTS": "127.0.0.1,localhost",
        "KEYTURN_PUBLIC_URL": "http://127.0.0.1:8425",
        "KEYTURN_WORKERS": "3",
        "KEYTURN_PATIENCE": "0.02",
        "KEYTURN_ACTOR": "canary",
        "AWS_EC2_METADATA_DISABLED": "true",
        **({"KEYTURN_DATABASE": database} if database else {}),
    }


def _open(
    folder: Path, cases: dict[str, Case], database: str = "", *, start: bool = True, **more: str
) -> Keyturn:
    def definition(wanted: str) -> str | None:
        return next((each.definition for each in cases.values() if each.definition_hash == wanted), None)

    catalog = Catalog(definition, extra={"shapes": world.external()})
    settings = Settings.read({**environment(folder, database), **more})
    hub = open_hub(settings, create=True, catalog=catalog)
    if start:
        hub.engine.start()
    return hub


def _live(told: Told, hub: Keyturn, name: str, case: Case) -> None:
    """Refused first, then connected, broken, rotated under a lease, rolled back, left."""
    label = name.replace("/", " ")
    try:
        for values in (case.wrong_values, {**case.values, "no_such_field": "ktlab-into-the-wrong-field"}):
            with contextlib.suppress(KeyturnError):
                _connect(hub, case, f"{label} wrong", values)
        _connect(hub, case, label, case.values)
        if connections.find(hub, label).state is ConnectionState.REVOKED:
            _run(hub, case, label, Goal.REAUTHORIZE)
        connections.test(hub, label)
        with contextlib.suppress(KeyturnError):
            connections.discover(hub, label)
        if hub.catalog.method(case.system, case.method).direction == "outbound":
            held = leases.take(hub, label, "canary", ttl_s=60)
            leases.environment(hub, held)
            leases.give_back(hub, held.lease_id)
        with contextlib.ExitStack() as stack:
            stack.enter_context(case.throttled())
            done = _run(hub, case, label, Goal.ROTATE, give_up=6.0)
        if done not in TERMINAL:
            # a locked account is let alone for the whole of its window
            done = _follow(hub, case, runs.recent(hub, label, 1)[0].id, give_up=60.0)
        told.rotated += done in ROTATED
        if done not in ROTATED:
            told.trouble.append(f"{name}: {done.value}")
    except Exception as error:
        told.trouble.append(f"{name}: {type(error).__name__}: {error}")
        traceback.print_exc()


def _connect(hub: Keyturn, case: Case, name: str, values: Any) -> None:
    connections.connect(
        hub,
        case.system,
        case.method,
        name,
        values,
        policy={**case.policy, "accept": f"{name} may be lost"},
        definition=case.definition_hash,
    )


def _run(hub: Keyturn, case: Case, name: str, goal: Goal, give_up: float = 20.0) -> RunState:
    return _follow(hub, case, runs.start(hub, name, goal, reason="canary").id, give_up)


def _follow(hub: Keyturn, case: Case, run_id: str, give_up: float = 20.0) -> RunState:
    until = time.monotonic() + give_up
    while time.monotonic() < until:
        run = runs.get(hub, run_id)
        if run.state in TERMINAL or run.state in SETTLED:
            return run.state
        if run.state is RunState.WAITING_HUMAN:
            for task in tasks.waiting(hub):
                if task.run_id == run.id and task.state in {TaskState.OPEN, TaskState.RETURNED}:
                    tasks.submit(hub, task.id, case.person(task))
        time.sleep(0.02)
    return runs.get(hub, run_id).state


def _in_postgresql(told: Told, lab: Lab, cases: dict[str, Case]) -> None:
    """The same in a PostgreSQL store; its tables, all columns, all schemas, are dumped raw."""
    if "postgres" not in vars(lab) or not cases:
        return
    import psycopg

    folder = told.folder / "second"
    folder.mkdir()
    name = f"canary_{lab.number()}"
    database = lab.postgres.create_database(name)
    hub = _open(folder, cases, database)
    try:
        for row, case in cases.items():
            _live(told, hub, row, case)
        told.secrets += of_hub(hub)
    finally:
        hub.close()
        sql.close_idle()
    told.secrets += of_key(folder / "key" / "kek")
    with (
        psycopg.connect(database, autocommit=True) as session,
        (told.folder / "out" / "tables.bin").open("wb") as out,
    ):
        tables = session.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        ).fetchall()
        for schema, table in tables:
            out.write(f"\n-- {schema}.{table}\n".encode())
            for values in session.execute(f'SELECT * FROM "{schema}"."{table}"'):
                out.write(b"\t".join(v if isinstance(v, bytes) else str(v).encode() for v in values) + b"\n")


def _issue(told: Told, hub: Keyturn) -> None:
    """Each kind of the hub's own, and its successor: seen by whoever asked or by whoever opened their link, and shown to
    the wrong doors; nowhere else."""
    for kind in OURS:
        try:
            for made in _handed(told, hub, kind):
                told.secrets.append((f"an issued {kind.name}", made.value.reveal()))
                _misuse(hub, kind.name, made.value.reveal(), made.client_id)
        except Exception as error:
            told.trouble.append(f"{kind.name}: {type(error).__name__}: {error}")


def _handed(told: Told, hub: Keyturn, kind: Kind) -> Iterator[Handed]:
    name = f"canary {kind.name}"
    yield issued.issue(hub, kind.name, name, needed(hub, kind))
    yield issued.recreate(hub, name) if kind.name == "m2m" else issued.reissue(hub, name, 0.1, force=True)
    link = register.link(hub, name, "their team")
    told.secrets.append(("a one-time link", link.code.reveal()))
    register.open_link(hub, link.code.reveal())
    register.acknowledge(hub, link.code.reveal())


def _misuse(hub: Keyturn, kind: str, value: str, client_id: str) -> None:
    """Shown where it does not belong, or with a typing error, or inside what is sent."""
    with TestClient(create_app(hub), raise_server_exceptions=False) as client:
        for shown in (value, f"{value[:-1]}x", f"{value} {value}"):
            client.get("/api/v1/whoami", headers={"AccessKey": shown})
        headers = {"Authorization": f"Bearer {value}", "User-Agent": f"program/1 {value}"}
        client.post("/api/v1/events", json={"id": "1", "type": "x", "data": value}, headers=headers)
        client.post(
            "/api/v1/bulk/customers",
            content=f"id\n{value}\n",
            headers={**headers, "Content-Type": "text/csv"},
        )
        form = {"grant_type": "client_credentials", "client_id": client_id or kind, "client_secret": value}
        client.post("/oauth/token", data=form)
        client.post("/oauth/revoke", data={"token": value, **form})


def _command_line(told: Told, lab: Lab, folder: Path, cases: dict[str, Case], *, brief: bool) -> None:
    """The programs people type, mistakes included; everything they print is kept."""
    env = environment(folder)
    case = cases.get("postgresql/password by an administrator")
    commands: list[list[str]] = [
        ["list", "--json"],
        ["systems"],
        ["runs"],
        ["tasks"],
        ["debts", "--json"],
        ["doctor"],
        ["vault", "status"],
        ["audit", "export", str(folder / "trail.jsonl")],
        ["audit", "verify", str(folder / "trail.jsonl")],
        ["backup", str(folder / "backup.db")],
        ["issue", "api-key", "--name", "canary api key", "--no-such-option"],
    ]
    if case is not None:
        fresh = ROWS["postgresql/password by an administrator"](lab)
        told.secrets += (("typed into the CLI", value) for value in _typed_secrets(fresh))
        env |= {
            "TYPED": fresh.values["password"],
            "ADMIN": fresh.values["admin_password"],
            "BAD": "ktlab-bad\nvalue",
        }
        settings = [f"--set={k}={v}" for k, v in fresh.values.items() if "password" not in k]
        policy = [f"--policy={k}={v}" for k, v in fresh.policy.items()]
        connect = ["connect", "postgresql", "password", "--name", "cli", *settings, *policy]
        secrets = ["--secret", "password=env:TYPED", "--secret", "admin_password=env:ADMIN"]
        commands += [
            [*connect, "--secret", "password=env:BAD"],
            [*connect, "--secret", "password=env:TYPED", "--set", "admin_user=nobody"],
            [*connect, *secrets, "--json"],
            ["plan", "cli"],
            ["test", "cli", "--json"],
            ["rotate", "cli", "--yes", "--json"],
            ["show", "cli"],
            ["history", "cli", "--json"],
            ["lease", "cli", "--", "/bin/true"],
            ["disconnect", "cli", "--yes"],
            ["test", "cli"],
        ]
    if brief:
        commands = [each for each in commands if each[0] in {"connect", "rotate", "show", "audit"}]
    with (folder / "out" / "cli.txt").open("ab") as out:
        for command in commands:
            out.write(f"\n$ keyturn {' '.join(command)}\n".encode())
            out.flush()
            done = subprocess.run(
                [str(BIN / "keyturn"), *command], env=env, stdout=out, stderr=out, check=False, timeout=60
            )
            out.write(f"exit {done.returncode}\n".encode())


@contextlib.contextmanager
def _loud(path: Path) -> Iterator[None]:
    """Every logger at DEBUG into a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def _captured(path: Path) -> Iterator[None]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield
    path.write_text(text.getvalue())
