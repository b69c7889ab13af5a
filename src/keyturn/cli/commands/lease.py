"""lease: a program with the credential in its environment, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from shlex import quote
from types import FrameType
from typing import TYPE_CHECKING

import click

from keyturn.cli import inputs, terminal
from keyturn.cli.session import Session, pass_session
from keyturn.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.operations.leases import Held

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH)
_FROM_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)  # a terminal sends these to the program by itself


@click.command(
    "lease",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=terminal.examples(
        "keyturn lease orders-db -- psql", "keyturn lease dwh --as nightly --ttl 10m -- python load.py --full"
    ),
)
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--as", "consumer", default="", help="Who holds it (default: you).")
@click.option(
    "--ttl",
    type=inputs.length,
    metavar="LENGTH",
    default="5m",
    show_default=True,
    help="Prolonged while it runs.",
)
@pass_session
def lease_command(session: Session, name: str, command: tuple[str, ...], consumer: str, ttl: float) -> None:
    """Run COMMAND with the credential in its environment, and only there.

    While it runs the lease is prolonged, so the credential it holds is not ended under it. Signals are passed on, its
    exit code is ours, and the lease is given back at its end. `keyturn systems SYSTEM` lists the variables. The
    program does not get the hub's own master key.
    """
    from keyturn.operations import leases

    given = [*command]
    consumer, ttl, given = _late_options(given, consumer, ttl)
    if not given:
        raise InvalidInput(
            "there is no command to run", hint=f"keyturn lease {quote(name)} -- COMMAND", field="command"
        )
    with session.hub() as hub:
        found = inputs.connection(hub, name)
        held = leases.take(hub, found.name, consumer or hub.settings.actor, ttl_s=ttl)
        try:
            code = _run(hub, held, given, ttl)
        finally:
            with contextlib.suppress(StoreUnavailable):  # it runs out by itself
                leases.give_back(hub, held.lease_id)
    raise click.exceptions.Exit(code)


def _late_options(given: list[str], consumer: str, ttl: float) -> tuple[str, float, list[str]]:
    """`lease N --as X -- CMD`: our options may stand behind the name, up to `--`."""
    while given and given[0] in {"--as", "--ttl"} and len(given) > 1:
        option, value, *given = given
        if option == "--as":
            consumer = value
        else:
            ttl = inputs.length(value)
    return consumer, ttl, given[1:] if given and given[0] == "--" else given


def _run(hub: Keyturn, held: Held, command: list[str], ttl: float) -> int:
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(hub, held, ttl, ended), name="keyturn-lease", daemon=True)
    with _signals() as child:
        try:
            child.append(subprocess.Popen(command, env=_environment(hub, held)))
        except FileNotFoundError:
            terminal.note(f"Error: there is no program {command[0]}")
            return 127
        except PermissionError:
            terminal.note(f"Error: {command[0]} may not be executed")
            return 126
        keeper.start()
        code = _outlived(child[0])
        ended.set()
        keeper.join(timeout=5)
    return code if code >= 0 else 128 - code


def _outlived(child: subprocess.Popen[bytes]) -> int:
    """The program's exit code. Waited for in short turns: the kernel may hand a signal that is to be passed on to another
    thread, and Python acts on it in this one."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=0.5)


def _environment(hub: Keyturn, held: Held) -> dict[str, str]:
    """Ours, without what is the hub's own (its settings, and the variable its master key is in), and with the
    credential."""
    from keyturn.operations import leases

    kek = hub.settings.kek
    own = kek.removeprefix("env:") if kek.startswith("env:") else ""
    inherited = {
        name: value
        for name, value in hub.settings.environment.items()
        if name != own and not name.upper().startswith("KEYTURN_")
    }
    return {**inherited, **leases.environment(hub, held)}


def _keep(hub: Keyturn, held: Held, ttl: float, ended: threading.Event) -> None:
    """Prolongs the lease three times within its length; a store that is ill is tried again, the program goes on."""
    from keyturn.operations import leases

    while not ended.wait(timeout=max(0.2, ttl / 3)):
        with contextlib.suppress(StoreUnavailable):
            if not leases.extend(hub, held.lease_id, ttl):
                terminal.note("keyturn: the lease was ended by somebody; the credential may stop working.")
                return


@contextlib.contextmanager
def _signals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Passes signals on to the program while it runs. Handlers, not SIG_IGN, which the program would inherit."""
    child: list[subprocess.Popen[bytes]] = []
    typed = sys.stdin.isatty() and os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno())

    def forward(number: int, _frame: FrameType | None) -> None:
        if child and not (typed and number in _FROM_KEYBOARD):
            child[0].send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield child
        return
    before = {number: signal.signal(number, forward) for number in (*_FORWARDED, *_FROM_KEYBOARD)}
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
