"""A report of leaked credentials: a text is looked through, what is known in it is shown without showing it, then stopped.

The text is never drawn again: the page asks what it holds without leaving the form, where it stays in the browser.
"""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import InvalidInput
from keyturn.operations import connections, events, leaks
from keyturn.operations.leaks import Report
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_LATEST = 20


def show(it: Visit) -> Response:
    """The form, and what was reported lately."""
    return _show(it)


def _require(it: Visit) -> None:
    """A text is compared with everything the hub holds: for those who may rotate all of it. Raises: NotPermitted."""
    events.require(it.site.hub, it.who, Operation.RUN_ROTATE, "", "a leak report")


def _show(
    it: Visit, found: Report | None = None, status: int = 200, wrong: str = "", *, done: bool = False
) -> Response:
    _require(it)
    latest = leaks.latest(it.hub, _LATEST)
    return it.render(
        "leaks.html",
        status,
        found=found,
        done=done,
        wrong=wrong,
        source=it.text("source"),
        latest=[(each, connections.find(it.hub, each.connection_id).name) for each in latest],
    )


def _report(it: Visit, *, dry_run: bool) -> Response:
    _require(it)
    try:
        text = it.upload("file") or it.text("text")
        if not text.strip():
            raise InvalidInput("there is nothing in it", hint="Paste the text, or choose its file.")
        found = leaks.report(
            it.hub, text, source=it.text("source").strip(), dry_run=dry_run, who=it.who.login
        )
    except InvalidInput as error:
        swaps = it.request.headers.get("hx-request")
        said = f"{words.sentence(error.message)} {words.hint(error.hint)}".strip()
        return _show(it, status=200 if swaps else 422, wrong=said)
    if not dry_run:
        it.done(Operation.RUN_ROTATE, "a leak report", verb="stop leaks", known=len(found.known))
    return _show(it, found, done=not dry_run)


def look(it: Visit) -> Response:
    """What a text holds, and whom stopping it would hit. Nothing is done."""
    return _report(it, dry_run=True)


def stop(it: Visit) -> Response:
    """Stops and replaces what is known in it."""
    return _report(it, dry_run=False)
