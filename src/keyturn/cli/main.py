"""The entry point: the list of commands, each imported when it is called, so that `--help` stays fast."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from keyturn.cli import terminal
from keyturn.cli.session import Session

_MODULES = "keyturn.cli.commands"

# name -> (module, what it does); in the order in which a hub is used
COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "The hub": {
        "init": ("hub", "Create the home, the master key and the database"),
        "serve": ("serving", "Run the pages, the API and the engine"),
        "worker": ("serving", "Run the engine alone"),
        "doctor": ("hub", "Check database, keys, packages and clock"),
        "backup": ("hub", "Copy the database while it is in use"),
        "restore": ("hub", "Put a backup in the database's place"),
        "vault": ("vault", "Look at and rotate the master key"),
        "recipients": ("recipients", "Who is told of what; send a test message"),
        "audit": ("audit", "Export and verify the audit trail"),
    },
    "Connections": {
        "systems": ("systems", "What can be connected, and what it can do"),
        "definitions": ("definitions", "Your own systems, as definition files"),
        "connect": ("connect", "Test a credential, then keep it"),
        "list": ("connections", "All connections"),
        "show": ("connections", "One connection: versions, consumers, identity"),
        "test": ("connections", "Test what serves now"),
        "discover": ("connections", "What the credential can see at the vendor"),
        "history": ("connections", "Journal of a connection, and its versions"),
        "use": ("connections", "Declare who uses a connection"),
        "project": ("projects", "Projects and their objects"),
        "source": ("projects", "Which object reads what through which connection"),
        "job": ("jobs", "Small reads through a connection, on a schedule or now"),
        "lease": ("lease", "Run a program with the credential in its environment"),
    },
    "Runs": {
        "plan": ("plan", "Show what would happen, step by step"),
        "rotate": ("start", "Replace credentials and prove the old ones dead"),
        "reauthorize": ("start", "Ask a person for a fresh consent"),
        "refresh": ("start", "Use a grant's refresh token now"),
        "revoke": ("start", "End the authorization, keep the connection"),
        "disconnect": ("start", "End every credential of a connection"),
        "reconnect": ("start", "Bring a new credential to a disconnected one"),
        "migrate": ("start", "Move to another method of the same system, without a gap"),
        "contain": ("start", "A credential leaked: replace it now, end all others"),
        "runs": ("runs", "The latest runs"),
        "run": ("runs", "One run: its plan as a checklist"),
        "retry": ("runs", "Look at a waiting or blocked run now"),
        "cancel": ("runs", "End a run that changed nothing yet"),
        "rollback": ("runs", "Undo a run before its point of no return"),
    },
    "People": {
        "tasks": ("tasks", "What people should do now"),
        "task": ("tasks", "One task: instructions, claim, submit"),
        "approvals": ("approvals", "What waits for a second person"),
        "approve": ("approvals", "Let a run begin that waits for approval"),
        "refuse": ("approvals", "End a run that waits for approval"),
        "debts": ("debts", "What is still alive or unproven"),
        "debt": ("debts", "One debt: look, try again, close"),
    },
    "Issued by this hub": {
        "issue": ("issued", "Issue a credential of this hub"),
        "issued": ("issued", "What this hub issued"),
        "reissue": ("issued", "Issue a second one beside the first"),
        "revoke-issued": ("issued", "End an issued credential"),
        "grants": ("issued", "What people allowed OAuth applications"),
        "holders": ("intake", "Where an issued credential is, and who uses it"),
        "handover": ("intake", "A link that shows an issued credential once"),
        "leaked": ("intake", "Find leaked credentials in a text and stop them"),
        "datasets": ("intake", "What was loaded by bulk"),
        "events": ("intake", "Events that others sent; replay refused ones"),
    },
}
_ALL = {name: said for section in COMMANDS.values() for name, said in section.items()}


class LazyGroup(click.Group):
    """The root command. It knows names and one-liners; a command's code is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command."""
        return list(_ALL)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command; with `--server` the one that asks a hub elsewhere."""
        if cmd_name not in _ALL:
            return None
        from keyturn.operations import rights

        rights.check_command(cmd_name, rights.local("whoever is at this machine"))
        module = import_module(f"{_MODULES}.{_ALL[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        if server := ctx.params.get("server"):
            from keyturn.cli import remote

            return remote.command(found, cmd_name, str(server))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the nearest command when there is no such one."""
        name = args[0]
        if name not in _ALL and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, _ALL, 3)
            ctx.fail(f"There is no command {name!r}." + (f" Did you mean {', '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Notes that JSON is wanted before anything is wrong."""
        terminal.expect_json(ctx, args)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The commands in their sections, without importing any."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, said) for name, (_, said) in section.items()], col_spacing=4)

    def invoke(self, ctx: click.Context) -> Any:
        """Turns every error into its message and exit code: the one place where that happens."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            code = terminal.failed(error)
            if code is None:
                raise
            ctx.exit(code)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=terminal.examples(
        "keyturn init",
        "keyturn systems",
        "keyturn connect postgresql password --name orders-db",
        "keyturn plan orders-db",
        "keyturn rotate orders-db",
    )
    + "\n\nExit codes: 0 done, 1 failed, 2 bad input, 3 waiting for a person, 4 needs attention.",
)
@click.version_option(package_name="keyturn", message="keyturn %(version)s")
@click.option(
    "--server",
    metavar="URL",
    help="Ask the hub at this address instead of the one on this machine; the token is KEYTURN_TOKEN, or in the keyring.",
)
@click.pass_context
def cli(ctx: click.Context, server: str | None) -> None:
    """Rotates the credentials of your integrations, and proves it."""
    del server  # looked at where the command is found
    if ctx.obj is None:
        ctx.obj = Session()


def main() -> None:
    """`keyturn`, as installed."""
    cli(prog_name="keyturn")
