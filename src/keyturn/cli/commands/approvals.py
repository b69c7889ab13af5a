"""approvals, approve, refuse: a second person's word about runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyturn.cli import follow, terminal, words
from keyturn.cli.commands.runs import find
from keyturn.cli.session import Session, pass_session
from keyturn.model.run import Run, RunState

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn

_ENDED = frozenset({RunState.ABORTED_CLEAN})


@click.command("approvals", epilog=terminal.examples("keyturn approvals", "keyturn approvals --json"))
@terminal.json_option
@pass_session
def approvals_command(session: Session, as_json: bool) -> None:
    """What waits for a second person, oldest first: runs to approve, and emergencies that somebody should look at."""
    from keyturn.operations import approvals

    with session.hub() as hub:
        found = approvals.waiting(hub)
    if as_json:
        terminal.emit([approvals.page(item) for item in found])
        return
    terminal.table(
        ("Run", "Connection", "Goal", "Kind", "Asked by", "Because", "Reason", "Until"),
        [
            (
                p["run"],
                p["connection"],
                p["goal"],
                p["kind"],
                p["asked_by"],
                p["rule"],
                p["reason"],
                words.since(item.asked.ends_at),
            )
            for item, p in ((item, approvals.page(item)) for item in found)
        ],
        "Nothing waits for a second person.",
    )


@click.command(
    "approve",
    epilog=terminal.examples("keyturn run run_01...", "keyturn approve run_01... --reason 'change 4711'"),
)
@click.argument("run_id", metavar="RUN")
@click.option("--reason", default="", help="Why, for the audit trail.")
@terminal.json_option
@pass_session
def approve_command(session: Session, run_id: str, reason: str, as_json: bool) -> None:
    """Let a run begin exactly as it was frozen, or say of an emergency that you looked at it.

    Nobody approves what they asked for: KEYTURN_ACTOR says who you are. The run then begins in the next `keyturn serve`,
    `keyturn worker` or `keyturn run RUN --follow`.
    """
    from keyturn.operations import approvals

    with session.hub() as hub:
        who = approvals.at_machine(hub)
        run = approvals.approve(hub, who, _waiting(hub, run_id).id, reason)
        if not as_json:
            terminal.say(f"{run.id}: {terminal.style('APPROVED', 'green', bold=True)} by {who.login}")
        follow.conclude(hub, [run], as_json=as_json)


@click.command("refuse", epilog=terminal.examples("keyturn refuse run_01... --reason 'not during the audit'"))
@click.argument("run_id", metavar="RUN")
@click.option("--reason", required=True, help="Why; the requester reads it.")
@terminal.json_option
@pass_session
def refuse_command(session: Session, run_id: str, reason: str, as_json: bool) -> None:
    """End a run that waits for approval; nothing was done yet. Of an emergency: say that it should not have been one."""
    from keyturn.operations import approvals

    with session.hub() as hub:
        who = approvals.at_machine(hub)
        run = approvals.refuse(hub, who, _waiting(hub, run_id).id, reason)
        if not as_json:
            terminal.say(f"{run.id}: {terminal.style('REFUSED', 'yellow', bold=True)} by {who.login}")
        follow.conclude(hub, [run], as_json=as_json, wanted=_ENDED)


def _waiting(hub: Keyturn, named: str) -> Run:
    """A run by id, or by its connection's name when only one of it waits. Raises: NotFound."""
    from keyturn.operations import approvals

    mine = [item.run for item in approvals.waiting(hub) if named == item.connection.name]
    return mine[0] if len(mine) == 1 else find(hub, named)
