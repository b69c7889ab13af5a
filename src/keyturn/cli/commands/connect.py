"""connect: a credential is tested before it is kept."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from keyturn.cli import inputs, terminal
from keyturn.cli.session import Session, pass_session
from keyturn.errors import InvalidInput, KeyturnError, NotFound

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.contract.manifest import Method
    from keyturn.operations.connections import Connected


@click.command(
    "connect",
    epilog=terminal.examples(
        "keyturn connect postgresql password --name orders-db",
        "keyturn connect postgresql password --name orders-db --set host=db.example.com --set database=orders \\",
        "    --set user=orders_app --secret password=env:ORDERS_PASSWORD",
        "pass show aha | keyturn connect aha api_key --name roadmap --set domain=acme --secret api_key=-",
        "keyturn connect snowflake key_pair --name dwh --secret private_key=@rsa.pem --policy max_age_days=30",
    ),
)
@click.argument("system")
@click.argument("method")
@click.option("--name", help="What the connection is called.")
@click.option(
    "--set",
    "plain",
    multiple=True,
    metavar="K=V",
    help="A field that is not secret. K=@FILE for file fields.",
)
@click.option("--secret", multiple=True, metavar="K=WAY", help=f"A secret field; WAY is {inputs.WAYS}.")
@click.option("--owner", default="", help="Who is responsible for it (default: you).")
@click.option(
    "--policy",
    multiple=True,
    metavar="K=V",
    help="E.g. max_age_days=30, drain_max_s=24h, proof=D2, retention_s=7d.",
)
@click.option("--definition", type=click.Path(path_type=Path), help="Your own definition, for custom-rest.")
@terminal.json_option
@pass_session
def connect_command(
    session: Session,
    system: str,
    method: str,
    name: str | None,
    plain: tuple[str, ...],
    secret: tuple[str, ...],
    owner: str,
    policy: tuple[str, ...],
    definition: Path | None,
    as_json: bool,
) -> None:
    """Test a credential of SYSTEM by METHOD, then keep it.

    Nothing is saved unless the vendor accepts the credential and refuses a made-up one. `keyturn systems SYSTEM` lists
    the fields; on a terminal, missing ones are asked for.

    Secrets are never typed on the command line, where the shell keeps them: give a file (@FILE), an environment
    variable (env:NAME) or stdin (-).
    """
    if sum(pair.endswith("=-") for pair in secret) > 1:
        raise InvalidInput(
            "only one secret can come from stdin", hint="Use @FILE or env:NAME.", field="--secret"
        )
    with session.hub() as hub:
        _known(hub, system, method)
        digest, new = _definition(hub, definition)
        try:
            made = _connect(hub, system, method, name, plain, secret, owner, policy, digest)
        except BaseException:
            if new:
                _take_back(hub, digest)
            raise
        _say(hub, made, as_json)


def _known(hub: Keyturn, system: str, method: str) -> None:
    """Raises: NotFound with the nearest names."""
    names = hub.catalog.names()
    if system not in names:
        hint = inputs.did_you_mean(system, names) or f"Known: {', '.join(names)}."
        raise NotFound(f"there is no system {system}", hint=hint, field="system")
    methods = [m.name for m in hub.catalog.system(system).methods]
    if method not in methods:
        hint = inputs.did_you_mean(method, methods) or f"It has: {', '.join(methods)}."
        raise NotFound(f"{system} has no method {method}", hint=hint, field="method")


def _definition(hub: Keyturn, path: Path | None) -> tuple[str, bool]:
    from keyturn.operations import systems

    if path is None:
        return "", False
    digest, _, new = systems.add_definition(hub, path)
    return digest, new


def _take_back(hub: Keyturn, digest: str) -> None:
    """Nothing half-saved: a definition that came with a refused connection goes again."""
    from contextlib import suppress

    from keyturn.operations import systems

    with suppress(KeyturnError):
        systems.drop_definition(hub, digest)


def _connect(
    hub: Keyturn,
    system: str,
    method: str,
    name: str | None,
    plain: tuple[str, ...],
    secret: tuple[str, ...],
    owner: str,
    policy: tuple[str, ...],
    digest: str,
) -> Connected:
    from keyturn.operations import connections, systems

    form: Method = systems.form(hub.catalog, system, method, digest)
    fields = {f.name: f for f in form.fields}
    wanted = inputs.read_policy(policy)
    for pair in (*plain, *secret):
        given = pair.partition("=")[0].strip()
        if given and given not in fields:
            hint = inputs.did_you_mean(given, fields) or f"Fields: {', '.join(fields)}."
            raise InvalidInput(f"{system}/{method} has no field {given}", hint=hint, field=given)
    if not name:
        if not terminal.is_interactive():
            raise InvalidInput("--name is missing", hint="For example --name orders-db.", field="name")
        name = str(click.prompt("Name of the connection", err=True))
    connections.check_name(hub, name)  # before any secret is asked for
    values = inputs.read_values(plain, secret, fields, hub.settings.environment)
    if terminal.is_interactive():
        inputs.ask_missing(form.fields, values)
    return connections.connect(
        hub, system, method, name, values, owner=owner, policy=wanted, definition=digest
    )


def _say(hub: Keyturn, made: Connected, as_json: bool) -> None:
    from keyturn.operations import connections, systems

    connection = made.connection
    others = connections.sharing(hub, connection)
    if as_json:
        page = systems.connection_page(hub, connection.name)
        terminal.emit(
            {
                **page,
                "verdict": made.probe.verdict.value,
                "negative_control": made.negative_control,
                "same_account": others,
            }
        )
        return
    if connection.current_version_id is None:
        terminal.say(f"Saved {connection.name}. It has no credential yet: a person must consent.")
        terminal.say(f"Next: keyturn reauthorize {quote(connection.name)}")
        return
    who = made.probe.identity.get("principal_label") or made.probe.identity.get("principal", "")
    terminal.say(terminal.style(f"Connected {connection.name}.", "green", bold=True))
    terminal.pairs(
        [
            ("Signed in as", who),
            ("A made-up one is", made.negative_control),
            ("Rights", " ".join(sorted(made.probe.rights))),
        ],
        "  ",
    )
    if made.negative_control == "unclear":
        terminal.say(
            "  It is not clear that a wrong credential is refused, so a proof of death will be weaker."
        )
    if others:
        terminal.say(
            f"  {', '.join(others)} has this account too: one connection for all programs is rotated more easily."
        )
    terminal.say(f"Next: keyturn plan {quote(connection.name)}")
