"""rotate, reauthorize, refresh, revoke, disconnect, reconnect, migrate, contain: starting runs and following them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keyturn.cli import follow, inputs, terminal
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import Conflict, InvalidInput
from keyturn.model.plan import Goal
from keyturn.model.run import Run

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.model.plan import Plan

C = TypeVar("C", bound=Callable[..., Any])
_FINAL = {Goal.DISCONNECT, Goal.REVOKE, Goal.CONTAIN}


def _options(command: C) -> C:
    for option in (
        terminal.json_option,
        click.option(
            "--timeout", type=inputs.length, metavar="LENGTH", help="Follow no longer than this, e.g. 10m."
        ),
        click.option("--reason", default="", help="Why, for the audit trail."),
        click.option(
            "--emergency",
            default="",
            metavar="REASON",
            help="Do not wait for a second person's approval; somebody looks at it afterwards.",
        ),
        click.option(
            "--accept",
            multiple=True,
            metavar="WORDS",
            help="Accept a plan's risk in the words that it asks for; --yes does not.",
        ),
        click.option("--dry-run", is_flag=True, help="Show the plan and start nothing."),
        click.option("--no-wait", is_flag=True, help="Start and return; serve or worker does the rest."),
        click.option("--yes", is_flag=True, help="Do not ask."),
    ):
        command = option(command)
    return command


@click.command(
    "rotate",
    epilog=terminal.examples(
        "keyturn rotate orders-db",
        "keyturn rotate orders-db dwh --reason 'quarterly'",
        "keyturn rotate dwh --json",
    ),
)
@click.argument("names", nargs=-1, required=True)
@_options
@pass_session
def rotate_command(session: Session, /, names: tuple[str, ...], **options: Any) -> None:
    """Replace the credentials of NAMES, switch consumers over, and prove the old ones dead.

    Several run at once. Nothing is switched before the new one was accepted as the same account, and the old one is
    not ended while somebody uses it.
    """
    _start(session, names, Goal.ROTATE, **options)


@click.command("reauthorize", epilog=terminal.examples("keyturn reauthorize jira"))
@click.argument("name")
@_options
@pass_session
def reauthorize_command(session: Session, /, name: str, **options: Any) -> None:
    """Ask a person for a fresh consent in the browser. The old grant serves until the new one is proven.

    A consent from another account is refused.
    """
    _start(session, [name], Goal.REAUTHORIZE, **options)


@click.command("refresh", epilog=terminal.examples("keyturn refresh jira"))
@click.argument("name")
@_options
@pass_session
def refresh_command(session: Session, /, name: str, **options: Any) -> None:
    """Use a grant's refresh token now, and keep the answer before reading it."""
    _start(session, [name], Goal.REFRESH, **options)


@click.command("revoke", epilog=terminal.examples("keyturn plan jira revoke", "keyturn revoke jira"))
@click.argument("name")
@_options
@pass_session
def revoke_command(session: Session, /, name: str, **options: Any) -> None:
    """End the authorization at the vendor and keep the connection, to be authorized again later.

    Cannot be undone: the name is asked for, or give --yes. Jobs on it fail until `keyturn reconnect`.
    """
    _start(session, [name], Goal.REVOKE, **options)


@click.command(
    "disconnect",
    epilog=terminal.examples("keyturn plan orders-db disconnect", "keyturn disconnect orders-db"),
)
@click.argument("name")
@click.option(
    "--drop", is_flag=True, help="Also delete the remote user or client, where the vendor has that."
)
@_options
@pass_session
def disconnect_command(session: Session, /, name: str, drop: bool, **options: Any) -> None:
    """End every credential of a connection at the vendor and prove it. Its history stays.

    Cannot be undone: the name is asked for, or give --yes.
    """
    _start(session, [name], Goal.DISCONNECT, drop=drop, **options)


@click.command("reconnect", epilog=terminal.examples("keyturn reconnect orders-db"))
@click.argument("name")
@_options
@pass_session
def reconnect_command(session: Session, /, name: str, **options: Any) -> None:
    """Bring a new credential to a connection that was disconnected or revoked."""
    _start(session, [name], Goal.RECONNECT, **options)


@click.command(
    "migrate",
    epilog=terminal.examples(
        "keyturn plan dwh migrate --to key_pair",
        "keyturn migrate dwh --to key_pair",
        "keyturn migrate dwh --to oauth --set integration=KEYTURN_OAUTH --yes",
    ),
)
@click.argument("name")
@click.option(
    "--to",
    required=True,
    metavar="METHOD",
    help="The method to move to; `keyturn systems SYSTEM` lists them.",
)
@click.option(
    "--set", "plain", multiple=True, metavar="K=V", help="A field of that method that is not secret."
)
@click.option("--secret", multiple=True, metavar="K=WAY", help=f"A secret field; WAY is {inputs.WAYS}.")
@_options
@pass_session
def migrate_command(
    session: Session, /, name: str, to: str, plain: tuple[str, ...], secret: tuple[str, ...], **options: Any
) -> None:
    """Move a connection to another method of its system, for example from a password to a key pair.

    The new way in is proven to be the same account before programs are switched to it, under the same name. Then the old
    one is ended and proven dead; before that, `keyturn rollback` undoes it.
    """
    from keyturn.operations import migrating

    with session.hub() as hub:
        connection = inputs.connection(hub, name)
        values = inputs.values_of(hub, connection.system, to, plain, secret)
        made = {connection.name: migrating.plan(hub, connection.name, to, values)}
        if options["dry_run"]:
            _only_show(hub, made, options["as_json"])
            return
        _ask(made, Goal.MIGRATE, options["yes"])
        run = migrating.start(
            hub, connection.name, to, values, reason=options["reason"], emergency=options["emergency"]
        )
        if options["no_wait"]:
            code = follow.conclude(hub, [run], as_json=options["as_json"])
        else:
            hub.engine.start()
            found = follow.follow(
                hub, [run.id], as_json=options["as_json"], timeout_s=options["timeout"], new=True
            )
            code = follow.conclude(hub, found, as_json=options["as_json"])
    raise click.exceptions.Exit(code)


@click.command(
    "contain",
    epilog=terminal.examples(
        "keyturn plan orders-db contain", "keyturn contain orders-db --reason 'in a log'"
    ),
)
@click.argument("names", nargs=-1, required=True)
@_options
@pass_session
def contain_command(session: Session, /, names: tuple[str, ...], **options: Any) -> None:
    """A credential leaked: replace it now, do not wait for its users, end every other live one as well.

    Cannot be undone: each name is asked for, or give --yes.
    """
    _start(session, names, Goal.CONTAIN, **options)


def _start(
    session: Session,
    names: Sequence[str],
    goal: Goal,
    *,
    yes: bool,
    dry_run: bool,
    no_wait: bool,
    reason: str,
    timeout: float | None,
    as_json: bool,
    emergency: str,
    accept: Sequence[str],
    drop: bool = False,
) -> None:
    """Plans everything before anything is started; a run that cannot start does not keep the others back."""
    from keyturn.operations import runs

    with session.hub() as hub:
        chosen = list(dict.fromkeys(inputs.connection(hub, name).name for name in names))
        plans = {name: runs.plan(hub, name, goal, drop=drop) for name in chosen}
        if dry_run:
            _only_show(hub, plans, as_json)
            return
        if goal in _FINAL:
            _ask(plans, goal, yes)
        for made in plans.values():
            accept = terminal.accept(made.risk, made.accept, accept)
        started, codes = _begin(hub, chosen, goal, reason, drop, emergency, accept)
        if no_wait:
            found = [runs.get(hub, run.id) for run in started]
            follow.conclude(hub, found, as_json=as_json)
        else:
            hub.engine.start()
            found = follow.follow(
                hub, [run.id for run in started], as_json=as_json, timeout_s=timeout, new=True
            )
            codes.append(follow.conclude(hub, found, as_json=as_json))
    raise click.exceptions.Exit(terminal.worst(codes))


def _begin(
    hub: Keyturn,
    names: Sequence[str],
    goal: Goal,
    reason: str,
    drop: bool,
    emergency: str,
    accept: Sequence[str],
) -> tuple[list[Run], list[Exit]]:
    from keyturn.operations import runs

    def begin(name: str) -> Run | Conflict | InvalidInput:
        try:
            return runs.start(
                hub, name, goal, reason=reason, drop=drop, emergency=emergency, many=len(names), accept=accept
            )
        except (Conflict, InvalidInput) as error:
            return error

    with ThreadPoolExecutor(min(8, len(names))) as several:  # their commits share a disk's time
        made = list(several.map(begin, names))
    failed = [each for each in made if isinstance(each, Conflict | InvalidInput)]
    if failed and len(names) == 1:
        raise failed[0]
    for error in failed:
        terminal.failed(error)
    return [each for each in made if isinstance(each, Run)], [Exit.BAD_INPUT] * len(failed)


def _only_show(hub: Keyturn, plans: Mapping[str, Plan], as_json: bool) -> None:
    """What would be started, one after another; each JSON object is what `keyturn plan --json` prints."""
    from keyturn.cli.commands.plan import told
    from keyturn.operations import approvals, connections

    for name, made in plans.items():
        second = approvals.needed(hub, connections.find(hub, name), made, len(plans))
        told(name, made, second, as_json)


def _ask(plans: dict[str, Any], goal: Goal, yes: bool) -> None:
    if not yes and terminal.is_interactive():
        from keyturn.cli.commands.plan import show

        for name, made in plans.items():
            show(name, made)
            terminal.say()
    terminal.confirm(list(plans), f"{goal.value.capitalize()} {', '.join(plans)}", yes=yes)
