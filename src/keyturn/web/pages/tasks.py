"""What people do: the list, one task with its instructions and write-only fields, claiming and handing in."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput
from keyturn.model.credential import Connection
from keyturn.model.run import Task
from keyturn.operations import connections, links, overview, progress, runs, tasks
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

STEP = {"text": "", "ui_path": (), "button": "", "url": "", "warning": "", "hint": "", "who": ""}
PAGE = 50
OPEN = frozenset({"open", "claimed", "returned"})


WHOSE = (("mine", "Mine"), ("team", "My team's"), ("all", "All"))


def every(it: Visit) -> Response:
    """The open tasks, most urgent first: one's own, those of one's projects, or all."""
    whose = it.asked("whose") if it.asked("whose") in dict(WHOSE) else "all"
    many, found = tasks.owned_page(
        it.hub, whose, it.who.login, projects=it.projects(), after=it.place("tasks"), limit=PAGE + 1
    )
    last = found[PAGE - 1].task if len(found) > PAGE else None
    return it.render(
        "tasks.html",
        found=found[:PAGE],
        many=many,
        next=it.behind("tasks", [last.due_at, last.id]) if last else "",
        now=time.time(),
        whose=whose,
        choices=WHOSE,
    )


def one(it: Visit, task_id: str) -> Response:
    """One task."""
    task, connection, project = it.task(task_id)
    return _one(it, task, connection, project)


def _one(
    it: Visit,
    task: Task,
    connection: Connection,
    project: str,
    status: int = 200,
    error: str = "",
    field: str = "",
) -> Response:
    run = runs.get(it.hub, task.run_id)
    claimed = task.claimed_by if task.claimed_until > time.time() else ""
    return it.render(
        "task.html",
        status,
        task=task,
        steps=[{**STEP, **each} for each in task.instructions],
        connection=connection,
        pinned=words.account(connection.identity),
        run=run,
        claimed=claimed,
        is_mine=claimed == it.who.login,
        is_open=task.state.value in OPEN,
        has_ended=overview.has_ended(run),
        may_do=it.may(Operation.TASK_DO, project),
        fields=fields_of(it, task),
        may_share=task.kind in links.KINDS and it.may(Operation.TASK_SHARE, project),
        typed={str(f["name"]): it.text(f"field-{f['name']}") for f in task.fields if not f.get("secret")},
        error=error,
        wrong=field,
        waits=progress.waits(run),
    )


def fields_of(it: Visit, task: Task) -> list[dict[str, Any]]:
    """The task's fields; whole files are pasted into an area, where line ends survive."""
    connection = connections.find(it.hub, task.connection_id)
    method = it.hub.catalog.row_of(connection).method
    return [
        {
            "help": "",
            "pattern": "",
            "required": True,
            **each,
            "is_long": getattr(method.field(str(each["name"])), "kind", "") == "file",
        }
        for each in task.fields
    ]


def claim(it: Visit, task_id: str) -> Response:
    """Says that one works on it, for half an hour."""
    task, connection, _ = it.task(task_id)
    tasks.claim(it.hub, task.id)
    it.done(Operation.TASK_DO, connection.name, task=task.id, verb="claim")
    return it.redirect(f"/tasks/{task.id}", "It is yours for half an hour.")


def submit(it: Visit, task_id: str) -> Response:
    """Takes what was typed: sealed at once, then checked with the vendor. Secrets are never drawn again."""
    task, connection, project = it.task(task_id)
    values = {str(f["name"]): it.text(f"field-{f['name']}").strip() for f in task.fields}
    try:
        tasks.submit(it.hub, task.id, {name: value for name, value in values.items() if value})
    except InvalidInput as error:
        text = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}".strip()
        return _one(it, task, connection, project, 422, text, str(error.facts.get("field", "")))
    except Conflict as error:
        now = tasks.get(it.hub, task.id)
        return _one(it, now, connection, project, 409, f"{error.message[:1].upper()}{error.message[1:]}.")
    it.done(Operation.TASK_DO, connection.name, task=task.id, verb="submit")
    return it.redirect(
        f"/runs/{task.run_id}", "Handed in. It is sealed, and is being checked with the vendor now."
    )


def share(it: Visit, task_id: str) -> Response:
    """Makes a link for somebody outside, shown this once."""
    task, connection, _ = it.task(task_id)
    made = links.make(it.site.hub, it.who, task.id, it.text("for"))
    it.done(Operation.TASK_SHARE, connection.name, task=task.id, verb="link")
    return it.render("help_link.html", task=task, url=made.url.reveal())
