"""vault: the master key."""

from __future__ import annotations

import click

from keyturn.cli import terminal
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit


@click.group("vault", epilog=terminal.examples("keyturn vault status", "keyturn vault rotate-kek"))
def vault_command() -> None:
    """The master key (KEK) that wraps every sealed value."""


@vault_command.command("status")
@terminal.json_option
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Which master keys are loaded and how many rows each wraps. Exit code 4 when rows do not open."""
    from keyturn.operations import vault

    with session.hub() as hub:
        found = vault.status(hub)
    if as_json:
        terminal.emit(
            {
                "source": found.source,
                "keys": [{"id": key, "rows": n, "newest": i == 0} for i, (key, n) in enumerate(found.keys)],
                "lost": dict(found.lost),
            }
        )
    else:
        terminal.say(f"Keys come from {found.source}")
        rows = [(key, n, "seals and opens" if i == 0 else "opens") for i, (key, n) in enumerate(found.keys)]
        terminal.table(
            ("Key", "Rows", "Use"), [*rows, *((key, n, "NOT LOADED") for key, n in found.lost.items())]
        )
        if found.lost:
            terminal.say(
                "Rows under a key that is not loaded do not open: add it to the source, after the newest."
            )
    if found.lost:
        raise click.exceptions.Exit(Exit.ATTENTION)


@vault_command.command(
    "rotate-kek",
    epilog=terminal.examples("keyturn vault rotate-kek", "keyturn vault rotate-kek --rewrap-only"),
)
@click.option(
    "--rewrap-only", is_flag=True, help="Make no key: rewrap under the newest that is in the source."
)
@terminal.json_option
@pass_session
def rotate_kek(session: Session, rewrap_only: bool, as_json: bool) -> None:
    """Add a newer master key and rewrap every row under it, in batches. No value is touched, no run stops.

    Older keys stay in the source, because backups need them. After an interruption use --rewrap-only. A source that
    cannot be written (env:) says how to add the key by hand; then use --rewrap-only.
    """
    from keyturn.operations import vault

    shown = terminal.is_terminal() and not as_json

    def progress(done: int, total: int) -> None:
        if shown:
            click.echo(f"\r  {done} of {total} rows", nl=False, err=True)

    with session.hub() as hub:
        newest, done = vault.rotate_kek(hub, new_key=not rewrap_only, progress=progress)
        source = vault.status(hub).source
    if shown and done:
        click.echo(err=True)
    if as_json:
        terminal.emit({"key": newest, "rewrapped": done, "source": source})
        return
    terminal.say(f"{done} rows are now under {newest}.")
    terminal.say(
        f"Back up {source} again, and restart serve and worker: they loaded their keys when they started."
    )
