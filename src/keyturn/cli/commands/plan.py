"""plan: what would happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyturn.cli import inputs, terminal
from keyturn.cli.session import Session, pass_session

if TYPE_CHECKING:
    from keyturn.model.plan import Plan, Step

GOALS = ("rotate", "reauthorize", "refresh", "revoke", "disconnect", "reconnect", "contain", "migrate")


@click.command(
    "plan",
    epilog=terminal.examples(
        "keyturn plan orders-db",
        "keyturn plan orders-db disconnect",
        "keyturn plan dwh migrate --to key_pair",
        "keyturn plan dwh --json",
    ),
)
@click.argument("name")
@click.argument("goal", metavar="[GOAL]", type=click.Choice(GOALS), default="rotate")
@click.option(
    "--to", default="", metavar="METHOD", help="Where migrate goes; --set as for `keyturn migrate`."
)
@click.option("--set", "plain", multiple=True, metavar="K=V", help="A field of that method.")
@terminal.json_option
@pass_session
def plan_command(
    session: Session, name: str, goal: str, to: str, plain: tuple[str, ...], as_json: bool
) -> None:
    """Show what would happen, step by step, without doing any of it and without calling anybody.

    GOAL is rotate when left out, or reauthorize, refresh, revoke, disconnect, reconnect, contain or migrate. A run
    freezes exactly this plan.
    """
    from keyturn.model.plan import Goal
    from keyturn.operations import approvals, migrating, runs

    with session.hub() as hub:
        connection = inputs.connection(hub, name)
        if Goal(goal) is Goal.MIGRATE and to:
            values = inputs.values_of(hub, connection.system, to, plain)
            made = migrating.plan(hub, connection.name, to, values)
        else:
            made = runs.plan(hub, connection.name, Goal(goal))
        second = approvals.needed(hub, connection, made)
    told(name, made, second, as_json)


def told(name: str, made: Plan, second: str, as_json: bool) -> None:
    """A plan that nobody starts now: for people or as JSON, with the rule that asks a second person."""
    if as_json:
        terminal.emit(
            {
                "connection": name,
                **made.as_json(),
                "point_of_no_return": made.point_of_no_return(),
                "approval": second,
            }
        )
        return
    show(name, made)
    waits(second)


def waits(second: str) -> None:
    """Which rule asks a second person first, if one does."""
    if second:
        terminal.say()
        terminal.say(terminal.style(f"  It waits until a second person approves it: {second}.", "yellow"))


def show(name: str, plan: Plan) -> None:
    """A plan for people: who does what, where it cannot be undone any more, how it is undone before that."""
    from keyturn.operations import systems

    ends = plan.goal.value in {"revoke", "disconnect"}
    head = f"{plan.goal.value} {name}"
    terminal.say(
        terminal.style(head, bold=True) + f"  ({plan.system}/{plan.method}, strategy {plan.strategy.value})"
    )
    terminal.pairs(
        [
            (
                "Consumers notice",
                "" if ends else f"{plan.gap_class.value}: {systems.GAPS[plan.gap_class]}",
            ),
            ("Proof of death", f"{plan.proof.value}: {systems.PROOFS[plan.proof]}"),
            ("Used by", ", ".join(plan.used_by)),
        ],
        "  ",
    )
    terminal.say()
    last = plan.point_of_no_return()
    for index, step in enumerate(plan.steps):
        if index == last:
            terminal.say(
                terminal.style("  ---- point of no return: from here on it only rolls forward ----", "red")
            )
        _step(index + 1, step)
    if plan.rollback:
        terminal.say()
        terminal.say("  Undone before that by:")
        for index, step in enumerate(plan.rollback):
            _step(index + 1, step)
    elif last < len(plan.steps):
        terminal.say()
        terminal.say("  There is no rollback: it is carried on until it works.")
    if plan.risk:
        terminal.say()
        terminal.say(terminal.style(f"  Risk: {plan.risk}", "red"))
        if plan.accept:
            terminal.say(f"  To start it, accept that: --accept '{plan.accept}'")
    for warning in plan.warnings:
        terminal.say()
        terminal.say(terminal.style(f"  Careful: {warning}", "yellow"))


def _step(number: int, step: Step) -> None:
    who = {"hub": "", "person": "  [a person]", "consumer": "  [consumers]"}.get(step.who, f"  [{step.who}]")
    terminal.say(f"  {number:2}. {step.title}{terminal.style(who, 'yellow')}")
    if step.call:
        terminal.say(terminal.style(f"        calls: {step.call}", dim=True))
