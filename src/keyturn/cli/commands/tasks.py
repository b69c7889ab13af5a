"""tasks, task: what people do, and the machine check of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from keyturn.cli import follow, inputs, terminal, words
from keyturn.cli.commands.systems import step_lines
from keyturn.cli.session import Session, pass_session
from keyturn.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.model.run import Task


@click.command(
    "tasks", epilog=terminal.examples("keyturn tasks", "keyturn tasks --mine", "keyturn tasks --json")
)
@click.option("--mine", "whose", flag_value="mine", help="Of connections you own, or that you work on.")
@click.option("--team", "whose", flag_value="team", help="Also of the projects you are in.")
@click.option("--all", "whose", flag_value="all", default="all", help="Everybody's (default).")
@terminal.json_option
@pass_session
def tasks_command(session: Session, whose: str, as_json: bool) -> None:
    """What people should do now, by the owner of the connection, most urgent first. KEYTURN_ACTOR says who you are."""
    from keyturn.operations import systems, tasks

    with session.hub() as hub:
        found = tasks.owned(hub, whose or "all")
        pages = [
            {**systems.task_page(hub, each.task), "owner": each.owner, "project": each.project}
            for each in found
        ]
    listed(pages, [each.task.due_at for each in found], as_json)


def listed(pages: Sequence[Mapping[str, Any]], due: Sequence[float], as_json: bool) -> None:
    """Tasks, one a line; `due` are the instants at which they are."""
    if as_json:
        terminal.emit(pages)
        return
    terminal.table(
        ("Owner", "Project", "Task", "What", "State", "Claimed by", "Due"),
        [
            (
                p["owner"],
                p["project"],
                p["id"],
                p["title"],
                p["state"],
                p["claimed_by"],
                words.since(at),
            )
            for p, at in zip(pages, due, strict=True)
        ],
        "Nothing to do.",
    )


@click.command(
    "task",
    epilog=terminal.examples(
        "keyturn task tsk_01...",
        "keyturn task tsk_01... --claim",
        "keyturn task tsk_01... --submit key_name=keyturn-b --submit api_key=@/dev/shm/key",
        "pass show aha/new | keyturn task roadmap --submit api_key=-",
        "keyturn task tsk_01... --done",
        "keyturn task tsk_01... --link --for 'ann of the vendor'",
    ),
)
@click.argument("task_id", metavar="ID")
@click.option("--claim", is_flag=True, help="Say that you work on it, for half an hour.")
@click.option(
    "--submit",
    multiple=True,
    metavar="K=WAY",
    help=f"Hand in a field; WAY is {inputs.WAYS}. Names may be plain: K=V.",
)
@click.option(
    "--done", is_flag=True, help="Hand in a task without fields; on a terminal, fields are asked for."
)
@click.option(
    "--link", is_flag=True, help="Print a link for somebody outside: it opens this task once, for a day."
)
@click.option(
    "--for", "made_for", default="", metavar="NAME", help="Whom you give the link to, for the journal."
)
@click.option("--no-wait", is_flag=True, help="Hand in and return; serve or worker checks it.")
@click.option("--timeout", type=inputs.length, metavar="LENGTH", help="Follow no longer than this, e.g. 10m.")
@terminal.json_option
@pass_session
def task_command(
    session: Session,
    task_id: str,
    claim: bool,
    submit: tuple[str, ...],
    done: bool,
    link: bool,
    made_for: str,
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """One task: what to do, where, and what to hand in. ID is a task's, or a connection's name: its open one.

    What is handed in is sealed, then tested with the vendor: DONE, or RETURNED with the reason while the old one keeps
    serving.
    """
    from keyturn.operations import systems, tasks

    with session.hub() as hub:
        task = _find(hub, task_id)
        if link:
            _link(hub, task, made_for, as_json)
            return
        if claim:
            task = tasks.claim(hub, task.id)
        if not submit and not done:
            page = systems.task_page(hub, task)
            if as_json:
                terminal.emit(page)
            else:
                show(page)
            return
        values = values_of(task.fields, submit, hub.settings.environment, ask=done)
        if not no_wait:
            hub.engine.start()
        task = tasks.submit(hub, task.id, values)
        if no_wait:
            say(task.id, "SUBMITTED", "It is sealed and will be checked.", as_json)
            return
        found = follow.follow(hub, [task.run_id], as_json=as_json, timeout_s=timeout)
        verdict, why = tasks.verdict(hub, task.id)
        if not as_json:
            say(task.id, verdict, why, as_json)
            code = follow.conclude(hub, found, as_json=False)
        else:
            page = systems.run_page(hub, found[0])
            terminal.emit({"task": task.id, "result": verdict, "why": why, "run": page})
            code = follow.exit_of(found[0])
    raise click.exceptions.Exit(code)


def _link(hub: Keyturn, task: Task, made_for: str, as_json: bool) -> None:
    """The link alone goes to stdout, so that it can be piped into a message."""
    from keyturn.model.moment import iso
    from keyturn.operations import approvals, links
    from keyturn.operations.rights import Who

    who = Who(hub.settings.actor, address=approvals.MACHINE, is_local=True)
    made = links.make(hub, who, task.id, made_for)
    if as_json:
        terminal.emit({"task": task.id, "url": made.url.reveal(), "until": iso(made.ends_at)})
        return
    terminal.say(made.url.reveal())
    terminal.note("It opens this task once, in one browser, for a day. It is shown only now.")


def _find(hub: Keyturn, task_id: str) -> Task:
    """A task by id, or the one open task of a connection. Raises: NotFound, Conflict."""
    from keyturn.operations import connections, tasks

    try:
        return tasks.get(hub, task_id)
    except NotFound as missing:
        try:
            connection = connections.find(hub, task_id)
        except NotFound:
            raise missing from None
        mine = [task for task in tasks.waiting(hub) if task.connection_id == connection.id]
        if len(mine) == 1:
            return mine[0]
        if mine:
            raise Conflict(
                f"{connection.name} has {len(mine)} open tasks",
                hint=f"Name one: {', '.join(task.id for task in mine)}.",
                field="task",
            ) from None
        raise NotFound(
            f"{connection.name} has no open task", hint="`keyturn tasks` shows all.", field="task"
        ) from None


def values_of(
    asked: Sequence[Mapping[str, Any]], submit: tuple[str, ...], environment: Mapping[str, str], *, ask: bool
) -> dict[str, str]:
    """What is handed in, for the fields a task asks for. Raises: InvalidInput naming the field."""
    fields = {str(f["name"]): f for f in asked}
    found: dict[str, str] = {}
    for pair in submit:
        name, way = inputs.split(pair, "--submit")
        field = fields.get(name)
        if field is None:
            hint = inputs.did_you_mean(name, fields) or (
                f"Fields: {', '.join(fields)}." if fields else "Use --done."
            )
            raise InvalidInput(f"this task has no field {name}", hint=hint, field=name)
        plain = not field.get("secret") and way != "-" and not way.startswith(("@", "env:"))
        found[name] = way if plain else inputs.read_source(name, way, environment).strip()
    for name, field in fields.items():
        if name not in found and field.get("required", True) and ask and terminal.is_interactive():
            label = str(field.get("label") or name)
            found[name] = str(click.prompt(label, hide_input=bool(field.get("secret")), err=True)).strip()
    return found


def say(task_id: str, verdict: str, why: str, as_json: bool) -> None:
    """What became of a submission."""
    if as_json:
        terminal.emit({"task": task_id, "result": verdict, "why": why})
        return
    colour = {"DONE": "green", "RETURNED": "yellow"}.get(verdict)
    terminal.say(f"{terminal.style(verdict, colour, bold=True)} {why}")


def show(page: Mapping[str, Any]) -> None:
    """One task."""
    terminal.say(terminal.style(page["title"], bold=True) + f"  {page['id']}")
    terminal.pairs(
        [
            ("State", words.state(page["state"])),
            ("Claimed by", page["claimed_by"]),
            ("Due", page["due"]),
            ("Returned because", page["why"]),
        ],
        "  ",
    )
    terminal.say()
    for number, step in enumerate(page["instructions"], 1):
        for line in step_lines(number, step):
            terminal.say(f"  {line}")
    handed = page["state"] not in {"open", "claimed", "returned"}
    if page["fields"]:
        terminal.say()
        terminal.say("  To hand in:")
        for field in page["fields"]:
            tags = [
                tag
                for tag, on in (
                    ("secret", field.get("secret")),
                    ("optional", not field.get("required", True)),
                )
                if on
            ]
            terminal.say(
                f"    {field['name']}: {field.get('label', '')}" + (f" ({', '.join(tags)})" if tags else "")
            )
            if field.get("help"):
                terminal.say(f"      {field['help']}")
    if handed:
        return
    terminal.say()
    parts = " ".join(f"--submit {f['name']}={'@FILE' if f.get('secret') else '...'}" for f in page["fields"])
    terminal.say(f"  Then: keyturn task {page['id']} {parts or '--done'}")
    if page["fields"]:
        terminal.say(f"  Or, asked field by field: keyturn task {page['id']} --done")
