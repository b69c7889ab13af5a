"""The `keyturn-lab` command: starts the lab, shows what is alive in it and makes it misbehave; no vendor facts."""

import json
import os
import signal
import sys
import threading
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

DEFAULT_STATE = Path(".lab/state.json")
PARTS = ("postgres", "aws", "oidc", "mariadb", "redshift")

state_option = click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_STATE,
    show_default=True,
    help="Where `up` writes addresses and credentials (mode 0600, removed at the end).",
)


@click.group()
def main() -> None:
    """Keyturn's world without the internet: loopback only, memory only."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, credentials included.")
@click.option("--port-base", type=int, help="Fixed ports from here on, in the order of the table.")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="What the stand-ins draw their moods from."
)
@click.option("--only", multiple=True, help="Start just these; may be repeated.")
@state_option
def up(as_json: bool, port_base: int | None, seed: int, only: tuple[str, ...], state: Path) -> None:
    """Start everything and run until interrupted."""
    names = [*PARTS, *vendors()]
    if unknown := set(only) - set(names):
        raise click.UsageError(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    ports = {name: port_base + offset if port_base else None for offset, name in enumerate(names)}
    wanted = [name for name in names if not only or name in only]
    stopped = _catch_signals()
    with ExitStack() as stack:
        world = _start(stack, wanted, ports, seed)
        if stopped.is_set():
            return
        _write_private(state, json.dumps(world, indent=1))
        stack.callback(state.unlink, missing_ok=True)
        click.echo(json.dumps(world) if as_json else _table(world, state))
        sys.stdout.flush()
        for name, reason in world["missing"].items():
            click.echo(f"{name} is missing: {reason}", err=True)
        stopped.wait()


@main.command()
@click.argument("vendor")
@click.option("--port", type=int, default=0, help="0 takes a free one.")
@click.option("--seed", type=int, default=1, show_default=True)
def run(vendor: str, port: int, seed: int) -> None:
    """Start one stand-in and run until interrupted."""
    if vendor not in vendors():
        raise click.UsageError(f"no such stand-in: {vendor}; there are {', '.join(vendors())}")
    stopped = _catch_signals()
    with ExitStack() as stack:
        click.echo(_start_stand_in(stack, vendor, port or None, seed)["url"])
        sys.stdout.flush()
        stopped.wait()


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, values included.")
@state_option
def oracle(as_json: bool, state: Path) -> None:
    """Print every credential that would be accepted right now, everywhere."""
    from .parts.child import call_json
    from .parts.mariadb import list_users
    from .parts.postgres import list_roles

    alive = {}
    for name, part in _read_state(state).items():
        if "url" in part:
            alive[name] = call_json(f"{part['url']}/_lab/alive")
        elif "socket" in part:
            alive[name] = list_users(part["socket"], part["root_password"])
        else:
            alive[name] = list_roles(part["dsn"])
    if as_json:
        click.echo(json.dumps(alive))
        return
    for name, credentials in alive.items():
        for each in credentials:
            facts = " ".join(f"{key}={value}" for key, value in each["facts"].items() if key != "verifier")
            click.echo(
                f"{name:10} {each['kind']:18} {each['owner']:32} {each['sha256'][:12] or '-':12} {facts}"
            )


@main.command()
@click.argument("vendor")
@click.argument("op")
@click.argument("kind")
@click.option("--times", type=int, default=1, show_default=True)
@click.option("--seconds", type=float, default=0.0, help="For the kinds that take time.")
@state_option
def fault(vendor: str, op: str, kind: str, times: int, seconds: float, state: Path) -> None:
    """Make the next call of OP at VENDOR go wrong, for example: fault aws CreateAccessKey answer_lost."""
    from .parts.child import call_json

    part = _read_state(state).get(vendor, {})
    if "url" not in part:
        raise click.UsageError(f"{vendor} is not running or takes no faults")
    try:
        call_json(
            f"{part['url']}/_lab/faults", [{"op": op, "kind": kind, "times": times, "seconds": seconds}]
        )
    except urllib.error.HTTPError:
        raise click.UsageError(f"{vendor} knows no fault {kind!r} for {op!r}") from None
    click.echo(f"armed: {vendor} {op} {kind}, {times} time(s)")


def vendors() -> list[str]:
    """The stand-ins there are: every folder below `vendors` that says so; the matrix's own vendor does not."""
    folder = Path(__file__).parent / "vendors"
    return sorted(p.parent.name for p in folder.glob("*/__init__.py") if "STANDIN" in p.read_text())


def _start(stack: ExitStack, names: list[str], ports: dict[str, int | None], seed: int) -> dict[str, Any]:
    """Starts the parts side by side, the stand-ins in this process; what cannot start is named under `missing`."""
    from .parts import PartMissing

    world: dict[str, Any] = {"pid": os.getpid(), "parts": {}, "missing": {}}
    starters: dict[str, Callable[..., dict[str, Any]]] = {
        "postgres": _start_postgres,
        "aws": _start_aws,
        "oidc": _start_oidc,
        "mariadb": _start_mariadb,
        "redshift": _start_redshift,
    }
    with ThreadPoolExecutor(len(PARTS)) as pool:
        begun = {name: pool.submit(starters[name], stack, ports[name]) for name in names if name in starters}
        for name in names:
            try:
                world["parts"][name] = (
                    begun[name].result() if name in begun else _start_stand_in(stack, name, ports[name], seed)
                )
            except PartMissing as missing:
                world["missing"][name] = str(missing)
    return world


def _start_postgres(stack: ExitStack, port: int | None) -> dict[str, Any]:
    from .parts.postgres import PostgresCluster

    cluster = stack.enter_context(PostgresCluster(port=port))
    rotator, single, pair = cluster.create_rotator(), cluster.create_role(), cluster.two_role_setup()
    alone = cluster.create_role("app_self")
    cluster.create_database("keyturn")
    return {
        "host": cluster.host,
        "port": cluster.port,
        "database": "postgres",
        "dsn": cluster.dsn(),
        "store_dsn": cluster.dsn("keyturn"),
        "superuser": {"name": cluster.superuser, "password": cluster.password},
        "rotator": asdict(rotator),
        "single": asdict(single),
        "self": asdict(alone),
        "pair": asdict(pair),
    }


def _start_aws(stack: ExitStack, port: int | None) -> dict[str, Any]:
    from .parts.aws import AwsServer

    aws = stack.enter_context(AwsServer(port=port, create_lag_s=1.0, dead_lag_s=1.0))
    return {"url": aws.url, **asdict(aws.account)}


def _start_oidc(stack: ExitStack, port: int | None) -> dict[str, Any]:
    from .parts.oidc import OidcServer

    server = stack.enter_context(OidcServer(port=port))
    clients = {name: asdict(getattr(server, name)) for name in ("web", "service", "machine")}
    return {"url": server.url, "initial_access_token": server.initial_access_token, "clients": clients}


def _start_mariadb(stack: ExitStack, port: int | None) -> dict[str, Any]:
    from .parts.mariadb import MariaDBServer

    server = stack.enter_context(MariaDBServer(port=port))
    rotator, pair = server.create_rotator(), server.two_user_setup()
    users = {name: server.create_user(f"app_{name}") for name in ("single", "self", "overlap")}
    server.run(*(f"GRANT SELECT ON mysql_app.* TO {user.account}" for user in users.values()))
    return {
        "host": server.host,
        "port": server.port,
        "database": "mysql_app",
        "socket": str(server.socket),
        "root_password": server.root.password,
        "rotator": asdict(rotator),
        **{name: asdict(user) for name, user in users.items()},
        "pair": asdict(pair),
    }


def _start_redshift(stack: ExitStack, port: int | None) -> dict[str, Any]:
    from .parts.redshift import RedshiftServer

    server = stack.enter_context(RedshiftServer(port=port))
    rotator, pair = server.create_user("rotator", superuser=True), server.two_user_setup()
    return {
        "host": server.host,
        "port": server.port,
        "database": "postgres",
        "dsn": server.dsn,
        "rotator": asdict(rotator),
        "single": asdict(server.create_user("etl_single")),
        "self": asdict(server.create_user("etl_self")),
        "pair": asdict(pair),
    }


def _start_stand_in(stack: ExitStack, vendor: str, port: int | None, seed: int) -> dict[str, Any]:
    """A stand-in in this process; what it accepts at the start is what a customer would hand over."""
    from .parts.child import call_json
    from .standin import running

    app = import_module(f"keyturn_lab.vendors.{vendor}.server").create_app(seed=seed)
    url = stack.enter_context(running(app, port or 0))
    return {"url": url, "alive": call_json(f"{url}/_lab/alive")}


def _catch_signals() -> threading.Event:
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: stopped.set())
    return stopped


def _table(world: dict[str, Any], state: Path) -> str:
    lines = [
        f"{name:10} {part.get('url') or part['host'] + ':' + str(part['port'])}"
        for name, part in world["parts"].items()
    ]
    return "\n".join([*lines, f"\naddresses and credentials: {state}\nCtrl-C ends the lab"])


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    os.replace(fresh, path)


def _read_state(path: Path) -> dict[str, Any]:
    hint = "start one with `keyturn-lab up`"
    try:
        world = json.loads(path.read_text())
        os.kill(world["pid"], 0)
    except FileNotFoundError:
        raise click.UsageError(f"no lab is running: {path} does not exist ({hint})") from None
    except ProcessLookupError:
        raise click.UsageError(f"the lab of {path} has ended without cleaning up ({hint})") from None
    return world["parts"]


if __name__ == "__main__":
    main()
