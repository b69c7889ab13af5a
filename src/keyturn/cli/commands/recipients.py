"""recipients: who is told of what by webhook and mail, and whether a message reaches them."""

from __future__ import annotations

import click

from keyturn.cli import terminal
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import NotFound


@click.group(
    "recipients", epilog=terminal.examples("keyturn recipients list", "keyturn recipients test ops-channel")
)
def recipients_command() -> None:
    """Who is told of what by webhook and mail. They are added on the page Settings, or over the API."""


@recipients_command.command("list")
@terminal.json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """Everybody who is told, by name."""
    from keyturn.operations import notices

    with session.hub() as hub:
        found = notices.recipients(hub)
    if as_json:
        terminal.emit([notices.told(each) for each in found])
        return
    terminal.table(
        ("Name", "Kind", "Address", "Topics", "Paused"),
        [(r.name, r.kind, r.address, r.topics, "yes" if r.paused_at else "") for r in found],
        "Nobody is told. The page Settings adds somebody.",
    )


@recipients_command.command("test")
@click.argument("name")
@terminal.json_option
@pass_session
def test(session: Session, name: str, as_json: bool) -> None:
    """Send NAME a message that says it is a test, now and once. Exit code 1 when it was not taken."""
    from keyturn.operations import notices, rights

    with session.hub() as hub:
        found = next((each for each in notices.recipients(hub) if name in {each.name, each.id}), None)
        if found is None:
            raise NotFound(
                f"nobody named {name} is told", hint="`keyturn recipients list` shows all.", field="name"
            )
        sent = notices.test(hub, rights.local(hub.settings.actor), found.id)
    if as_json:
        terminal.emit({"name": found.name, "delivered": sent.is_done, "said": sent.said})
    else:
        terminal.say(f"{found.name} {'took it' if sent.is_done else 'did not take it'}: {sent.said}.")
    if not sent.is_done:
        raise click.exceptions.Exit(Exit.FAILED)
