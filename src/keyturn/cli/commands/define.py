"""definitions new: the questions of a capability card in plain words, asked or answered by options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keyturn.cli import terminal
from keyturn.cli.session import Session, pass_session
from keyturn.errors import InvalidInput

C = TypeVar("C", bound=Callable[..., Any])


def _options(command: C) -> C:
    """An option for each question."""
    from keyturn.operations.drafting import QUESTIONS

    for question in reversed(QUESTIONS):
        said = f"{question.asks} {question.help}".strip()
        command = click.option(
            f"--{question.name.replace('_', '-')}",
            question.name,
            default=None,
            metavar="|".join(question.choices) or "TEXT",
            help=said + (f" For example {question.example}." if question.example else ""),
        )(command)
    return command


@click.command(
    "new",
    epilog=terminal.examples(
        "keyturn definitions new",
        "keyturn definitions new notes.yaml --title 'Acme Notes' --address 'https://{subdomain}.acme.example/api' \\",
        "    --test-path /me --who '$.user.id' --together yes --how-made 'Settings > API: New key' \\",
        "    --how-ended 'Settings > API: Delete the old key'",
    ),
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@_options
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@terminal.json_option
@pass_session
def new(session: Session, /, file: Path | None, force: bool, as_json: bool, **options: str | None) -> None:
    """Ask what there is to know about a system and write FILE, a definition that passes the check.

    What an option answers is not asked. Without a terminal nothing is asked: the options must answer all of it. FILE is
    the short name with .yaml when left out; - writes to the output. No secret is asked for, and nothing is called.
    """
    from keyturn.operations import drafting

    given = {name: value for name, value in options.items() if value is not None}
    if terminal.is_interactive() and not as_json:
        _ask(given)
    text, report = drafting.draft(given, session.settings().network)
    name = report.definition.id if report.definition else "definition"
    path = file or Path(f"{name}.yaml")
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    drafting.write(path, text, force=force)
    if as_json:
        terminal.emit({"file": str(path), "id": name, "findings": [vars(f) for f in report.findings]})
        return
    terminal.say(f"Wrote {path}; it passes the check.")
    for finding in report.findings:
        terminal.say(f"  {terminal.style(finding.level, 'yellow')} {finding.text(report.where)}")
    row = _row(report.definition)
    terminal.say(f"Next: read it, then keyturn connect custom-rest {row} --name {name} --definition {path}")


def _row(definition: Any) -> str:
    from keyturn.definitions.derive import row_of

    return row_of(definition)


def _ask(given: dict[str, str]) -> None:
    """Asks a person what the options left open; a wrong answer is said at once and asked again."""
    from keyturn.operations.drafting import QUESTIONS, asked, checked

    said: dict[str, str] = {}
    for question in QUESTIONS:
        if question.name in given:
            said[question.name] = checked(question, given[question.name], said)
            continue
        if not asked(question, said):
            continue
        if question.help:
            terminal.note(terminal.style(f"  {question.help}", dim=True))
        example = f" (e.g. {question.example})" if question.example else ""
        choices = f" [{'/'.join(question.choices)}]" if question.choices else ""
        while True:
            default = question.default(said)
            raw = str(
                click.prompt(
                    f"{question.asks}{choices}{example}",
                    default="" if default is None else default,
                    show_default=bool(default),
                    err=True,
                )
            )
            try:
                said[question.name] = given[question.name] = checked(question, raw, said)
            except InvalidInput as error:
                terminal.note(f"  {error.message}. {error.hint}")
                continue
            break
