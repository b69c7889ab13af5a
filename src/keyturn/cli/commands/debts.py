"""debts, debt: what is left alive or unproven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from keyturn.cli import terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import InvalidInput


@click.command("debts", epilog=terminal.examples("keyturn debts", "keyturn debts --json"))
@terminal.json_option
@pass_session
def debts_command(session: Session, as_json: bool) -> None:
    """What is still alive or unproven, oldest first."""
    from keyturn.operations import debts, systems

    with session.hub() as hub:
        found = debts.every(hub)
        pages = [systems.debt_page(hub, debt) for debt in found]
    listed(pages, [debt.created_at for debt in found], as_json)


def listed(pages: Sequence[Mapping[str, Any]], since: Sequence[float], as_json: bool) -> None:
    """Debts, one a line; `since` are the instants at which they were made."""
    if as_json:
        terminal.emit(pages)
    else:
        terminal.table(
            ("Debt", "Connection", "Kind", "Why", "Owner", "Age", "Tries"),
            [
                (
                    p["id"],
                    p["connection"],
                    p["kind"],
                    p["why"],
                    p["owner"],
                    words.since(at),
                    p["tries"],
                )
                for p, at in zip(pages, since, strict=True)
            ],
            "No debts: nothing is alive that should not be.",
        )


@click.command(
    "debt",
    epilog=terminal.examples(
        "keyturn debt dbt_01...",
        "keyturn debt dbt_01... --try",
        "keyturn debt dbt_01... --close --reason 'deleted by Kim'",
    ),
)
@click.argument("debt_id", metavar="ID")
@click.option("--try", "again", is_flag=True, help="Try to end and prove it once more.")
@click.option(
    "--close", is_flag=True, help="Close it on your word; your name and --reason go into the audit trail."
)
@click.option("--reason", default="", help="How you know.")
@terminal.json_option
@pass_session
def debt_command(
    session: Session, debt_id: str, again: bool, close: bool, reason: str, as_json: bool
) -> None:
    """One debt: what is owed, why, and what was tried. Exit code 4 when --try did not settle it."""
    from keyturn.operations import debts, systems

    if again and close:
        raise InvalidInput("--try and --close are two different things", hint="Give one.", field="--close")
    with session.hub() as hub:
        debt = debts.get(hub, debt_id)
        if close:
            debt = debts.close(hub, debt.id, reason)
        elif again and debt.closed_at is None:
            debts.try_again(hub, debt)
            debt = debts.get(hub, debt.id)
        page = systems.debt_page(hub, debt)
    show(page, as_json, tried=again)


def show(page: Mapping[str, Any], as_json: bool, *, tried: bool = False) -> None:
    """One debt. Raises: click.exceptions.Exit when it was tried and is open still."""
    if as_json:
        terminal.emit(page)
    else:
        _show(page)
    if tried and not page["closed"]:
        raise click.exceptions.Exit(Exit.ATTENTION)


def _show(page: Mapping[str, Any]) -> None:
    terminal.say(terminal.style(page["kind"], bold=True) + f"  {page['id']}")
    terminal.pairs(
        [
            ("Connection", page["connection"]),
            ("Why", page["why"]),
            ("Run", page["run"]),
            ("Owner", page["owner"]),
            ("Since", page["created"]),
            ("Tries", page["tries"]),
            ("Next try", page["next_try"] if not page["closed"] else ""),
            (
                "Closed",
                f"{page['closed']} by {page['closed_by']}: {page['closed_why']}" if page["closed"] else "",
            ),
        ],
        "  ",
    )
    terminal.pairs({k: v for k, v in page["facts"].items() if isinstance(v, str | int | float)}, "  ")
    if not page["closed"]:
        terminal.say(
            f"  Next: `keyturn debt {page['id']} --try`, or end it at the vendor and close it with a reason."
        )
