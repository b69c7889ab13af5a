"""project, source: what is built from what a connection reads."""

from __future__ import annotations

from shlex import quote

import click

from keyturn.cli import follow, inputs, terminal
from keyturn.cli.session import Session, pass_session

_LABEL = "PROJECT/OBJECT/SOURCE"


@click.group(
    "project",
    epilog=terminal.examples(
        "keyturn project add adoption",
        "keyturn project add-object adoption usage",
        "keyturn source add adoption/usage/orders --connection orders-db --reads sales.orders",
        "keyturn project show adoption",
    ),
)
def project_command() -> None:
    """Projects have objects, objects have sources, and a source reads through a connection.

    A connection's credential is stored once, whatever number of sources reads through it, and rotated once.
    """


@project_command.command("add")
@click.argument("name")
@terminal.json_option
@pass_session
def add(session: Session, name: str, as_json: bool) -> None:
    """Make a project."""
    from keyturn.operations import projects

    with session.hub() as hub:
        made = projects.add(hub, name)
    _say({"project": made, "done": "added"}, f"Added project {made}.", as_json=as_json)


@project_command.command("remove")
@click.argument("name")
@terminal.json_option
@pass_session
def remove(session: Session, name: str, as_json: bool) -> None:
    """Delete a project and its objects. Refused while it has sources."""
    from keyturn.operations import projects

    with session.hub() as hub:
        projects.remove(hub, name)
    _say({"project": name, "done": "removed"}, f"Removed project {name}.", as_json=as_json)


@project_command.command("add-object")
@click.argument("project")
@click.argument("name")
@terminal.json_option
@pass_session
def add_object(session: Session, project: str, name: str, as_json: bool) -> None:
    """Make an object in PROJECT."""
    from keyturn.operations import projects

    with session.hub() as hub:
        made = projects.add_object(hub, project, name)
    _say(
        {"project": project, "object": made, "done": "added"},
        f"Added object {project}/{made}.",
        as_json=as_json,
    )


@project_command.command("remove-object")
@click.argument("project")
@click.argument("name")
@terminal.json_option
@pass_session
def remove_object(session: Session, project: str, name: str, as_json: bool) -> None:
    """Delete an object. Refused while it has sources."""
    from keyturn.operations import projects

    with session.hub() as hub:
        projects.remove_object(hub, project, name)
    _say(
        {"project": project, "object": name, "done": "removed"},
        f"Removed object {project}/{name}.",
        as_json=as_json,
    )


@project_command.command("list")
@terminal.json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """All projects, with how many objects and sources each has."""
    from keyturn.operations import projects

    with session.hub() as hub:
        found = projects.pages(hub)
    if as_json:
        terminal.emit(found)
        return
    terminal.table(
        ("Project", "Objects", "Sources", "Made", "By"),
        [
            (
                p["name"],
                len(p["objects"]),
                sum(len(o["sources"]) for o in p["objects"]),
                p["created"],
                p["created_by"],
            )
            for p in found
        ],
        "No projects. `keyturn project add NAME` makes one.",
    )


@project_command.command("show")
@click.argument("name")
@terminal.json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """One project: its objects, and through which connection each of their sources reads."""
    from keyturn.operations import projects

    with session.hub() as hub:
        page = projects.page(hub, name)
    if as_json:
        terminal.emit(page)
        return
    terminal.table(
        ("Object", "Source", "Connection", "Reads", "Changed"),
        [
            (o["name"], s.get("name", ""), s.get("connection", ""), s.get("reads", ""), s.get("changed", ""))
            for o in page["objects"]
            for s in o["sources"] or [{}]
        ],
        f"{name} has no objects. `keyturn project add-object {quote(name)} NAME` makes one.",
    )


@click.group(
    "source",
    epilog=terminal.examples(
        "keyturn source add adoption/usage/orders --connection orders-db --reads sales.orders",
        "keyturn source edit adoption/usage/orders --connection orders-replica",
        "keyturn source reauthorize adoption/web/visits",
        "keyturn source list --connection orders-db",
    ),
)
def source_command() -> None:
    """Sources: which object of which project reads what through which connection."""


@source_command.command("add")
@click.argument("source", metavar=_LABEL)
@click.option("--connection", required=True, help="The connection it reads through.")
@click.option("--reads", default="", metavar="WHAT", help="A table, a prefix, or a list that the row names.")
@click.option("--untested", is_flag=True, help="Save it without reading once first.")
@terminal.json_option
@pass_session
def add_source(
    session: Session, source: str, connection: str, reads: str, untested: bool, as_json: bool
) -> None:
    """Let an object read through a connection. Where the connection can, it reads once before anything is saved."""
    from keyturn.operations import projects

    with session.hub() as hub:
        name = inputs.connection(hub, connection).name
        made = projects.add_source(hub, source, name, reads=reads, untested=untested)
    _say(projects.source_page(made), f"{made.label} reads through {made.connection}.", as_json=as_json)


@source_command.command("edit")
@click.argument("source", metavar=_LABEL)
@click.option("--connection", default="", help="Another connection to read through.")
@click.option("--reads", default=None, metavar="WHAT", help="Something else to read.")
@click.option("--untested", is_flag=True, help="Save it without reading once first.")
@terminal.json_option
@pass_session
def edit_source(
    session: Session, source: str, connection: str, reads: str | None, untested: bool, as_json: bool
) -> None:
    """Choose another connection for a source, or what it reads. The one it had is not touched."""
    from keyturn.operations import projects

    with session.hub() as hub:
        name = inputs.connection(hub, connection).name if connection else ""
        made = projects.edit_source(hub, source, connection=name, reads=reads, untested=untested)
    _say(projects.source_page(made), f"{made.label} reads through {made.connection}.", as_json=as_json)


@source_command.command("reauthorize")
@click.argument("source", metavar=_LABEL)
@click.option("--reason", default="", help="Why, for the audit trail.")
@terminal.json_option
@pass_session
def reauthorize(session: Session, source: str, reason: str, as_json: bool) -> None:
    """Ask a person for a fresh consent for the connection this source reads through, and with it for all its sources."""
    from keyturn.model.plan import Goal
    from keyturn.operations import projects, runs

    with session.hub() as hub:
        found = projects.source(hub, source)
        shared = [s.label for s in projects.sources(hub, found.connection) if s.label != found.label]
        if shared and not as_json:
            terminal.note(
                f"{found.connection} serves as well: {', '.join(shared)}. It is authorized once for all."
            )
        run = runs.start(hub, found.connection, Goal.REAUTHORIZE, reason=reason)
        hub.engine.start()
        ended = follow.follow(hub, [run.id], as_json=as_json, new=True)
        code = follow.conclude(hub, ended, as_json=as_json)
    raise click.exceptions.Exit(code)


@source_command.command("remove")
@click.argument("source", metavar=_LABEL)
@terminal.json_option
@pass_session
def remove_source(session: Session, source: str, as_json: bool) -> None:
    """Delete a source. The connection and its credential stay."""
    from keyturn.operations import projects

    with session.hub() as hub:
        projects.remove_source(hub, source)
    _say({"source": source, "done": "removed"}, f"Removed source {source}.", as_json=as_json)


@source_command.command("list")
@click.option("--connection", default="", help="Only those that read through this connection.")
@terminal.json_option
@pass_session
def list_sources(session: Session, connection: str, as_json: bool) -> None:
    """All sources, or those of one connection: what a rotation of it touches."""
    from keyturn.operations import projects

    with session.hub() as hub:
        name = inputs.connection(hub, connection).name if connection else ""
        found = [projects.source_page(s) for s in projects.sources(hub, name)]
    if as_json:
        terminal.emit(found)
        return
    terminal.table(
        ("Source", "Connection", "Reads", "Changed"),
        [(s["label"], s["connection"], s["reads"], s["changed"]) for s in found],
        f"No sources. `keyturn source add {_LABEL} --connection NAME` makes one.",
    )


def _say(data: dict[str, object], text: str, *, as_json: bool) -> None:
    if as_json:
        terminal.emit(data)
    else:
        terminal.say(text)
