"""For outside helpers: a link that works once opens one task, without an account.

The code comes behind the # of the link, which browsers send to nobody, and is posted. Whoever opened it holds a ticket
in a cookie of their browser; the page shows the task's instructions and its fields, and nothing else of the hub.
"""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import InvalidInput, NotPermitted
from keyturn.model.run import Task
from keyturn.operations import links
from keyturn.web.pages.tasks import STEP, fields_of
from keyturn.web.site import Visit

_NOTHING = "This link opens nothing."
_HINT = "It works once, for a day. Ask whoever sent it for a new one."


def show(it: Visit) -> Response:
    """The task of the browser that opened a link; to anybody else a field for the code."""
    found = links.task_of(it.site.hub, _ticket(it))
    return _door(it) if found is None else _task(it, *found)


def open_(it: Visit) -> Response:
    """Uses a link up, and shows its task from now on to this browser alone."""
    try:
        ticket = links.open_(it.site.hub, it.text("code"), address=it.address, agent=it.agent)
    except NotPermitted as error:
        return _refused(it, error)
    it.cookies[_cookie(it)] = (ticket.reveal(), int(links.LAST_S))
    return it.redirect(links.PATH)


def hand_in(it: Visit) -> Response:
    """Takes the answer, once. What does not fit the task's fields may be typed again."""
    ticket, wanted = _ticket(it), it.text("task")
    found = links.task_of(it.site.hub, ticket)
    fields = found[0].fields if found else ()
    values = {str(f["name"]): it.text(f"field-{f['name']}").strip() for f in fields}
    given = {name: value for name, value in values.items() if value}
    try:
        links.hand_in(it.site.hub, ticket, wanted, given, address=it.address, agent=it.agent)
    except InvalidInput as error:
        assert found is not None
        text = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}".strip()
        return _task(it, *found, 422, text, str(error.facts.get("field", "")))
    except NotPermitted as error:
        return _refused(it, error)
    it.cookies[_cookie(it)] = ("", 0)
    return it.render("help_done.html")


def _task(
    it: Visit, task: Task, ends_at: float, status: int = 200, error: str = "", field: str = ""
) -> Response:
    return it.render(
        "help.html",
        status,
        task=task,
        ends_at=ends_at,
        steps=[{**STEP, **each} for each in task.instructions],
        fields=fields_of(it, task),
        error=error,
        wrong=field,
    )


def _door(it: Visit, status: int = 200, error: str = "", hint: str = "") -> Response:
    return it.render("help_door.html", status, error=error, hint=hint)


def _refused(it: Visit, error: NotPermitted) -> Response:
    """The same words whatever was wrong."""
    if "wait_s" in error.facts:
        return _door(it, 429, "Too many links were refused.", error.hint)
    it.cookies[_cookie(it)] = ("", 0)
    return _door(it, 403, _NOTHING, _HINT)


def _cookie(it: Visit) -> str:
    return "__Host-keyturn-help" if it.site.is_tls else "keyturn-help"


def _ticket(it: Visit) -> str:
    return it.request.cookies.get(_cookie(it), "")
