"""definitions: a user's own systems as files."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.cli import terminal
from keyturn.cli.commands.define import new
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit


@click.group(
    "definitions",
    epilog=terminal.examples(
        "keyturn definitions new",
        "keyturn definitions check billing.yaml",
        "keyturn definitions add billing.yaml",
        "keyturn connect custom-rest token --name billing --definition billing.yaml",
    ),
)
def definitions_command() -> None:
    """Your own systems: a YAML file says how to test, make and end their credentials."""


definitions_command.add_command(new)


@definitions_command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@terminal.json_option
@pass_session
def check(session: Session, file: Path, as_json: bool) -> None:
    """Everything wrong with FILE at once, by line, each with its fix. Exit code 2 when it cannot be used."""
    from keyturn.operations import systems

    report = systems.check_definition(file, session.settings().network)
    if as_json:
        terminal.emit(
            {"file": str(file), "usable": report.usable, "findings": [vars(f) for f in report.findings]}
        )
    else:
        for finding in report.findings:
            colour = "red" if finding.level == "refuse" else "yellow"
            terminal.say(f"{terminal.style(finding.level.ljust(6), colour)} {finding.text(report.where)}")
        refused = sum(f.level == "refuse" for f in report.findings)
        terminal.say(
            f"{file} is usable."
            if report.usable
            else f"{file} is refused: {refused} to correct. Nothing was saved."
        )
    if not report.usable:
        raise click.exceptions.Exit(Exit.BAD_INPUT)


@definitions_command.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@terminal.json_option
@pass_session
def add(session: Session, file: Path, as_json: bool) -> None:
    """Check FILE and keep it in the hub, under the hash of its text. The same text again changes nothing."""
    from keyturn.operations import systems

    with session.hub() as hub:
        digest, name, new = systems.add_definition(hub, file)
    if as_json:
        terminal.emit({"hash": digest, "name": name, "new": new})
        return
    terminal.say(f"{'Added' if new else 'Already there:'} {name} ({digest[:12]}).")
    terminal.say(f"Next: keyturn connect custom-rest METHOD --name NAME --definition {file}")


@definitions_command.command("list")
@terminal.json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """The definitions kept here, and which connections use them."""
    from keyturn.operations import systems

    with session.hub() as hub:
        found = systems.own_definitions(hub)
    if as_json:
        terminal.emit(found)
        return
    terminal.table(
        ("Name", "Hash", "Added", "Connections"),
        [(d["name"], d["hash"][:12], d["added_at"], ", ".join(d["connections"])) for d in found],
        "No definitions. `keyturn definitions add FILE` adds one.",
    )
