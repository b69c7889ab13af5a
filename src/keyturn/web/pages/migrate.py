"""Moving a connection to another method of its system: the method, its fields, the plan, and starting exactly that.

The plan needs what is typed, and a secret is never drawn again: so the page asks for the plan without leaving the form,
and the fields stay as they are in the browser. Without script the secrets are typed once more.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from keyturn.contract.manifest import Field, Method
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.model.card import Hands, Strategy
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.plan import Plan
from keyturn.operations import approvals, migrating, systems
from keyturn.operations.rights import Operation
from keyturn.web import fields, words
from keyturn.web.pages.plans import digest
from keyturn.web.site import Visit


def ways(it: Visit, connection: Connection) -> list[Method]:
    """The methods it can move to; none for a definition of its own or what this hub issued."""
    if connection.definition_hash:
        return []
    found = it.hub.catalog.system(connection.system).methods
    if any(m.name == connection.method and m.direction != "outbound" for m in found):
        return []
    return [m for m in found if m.direction == "outbound" and m.name != connection.method]


def choose(it: Visit, connection_id: str) -> Response:
    """The methods there are; with one only, its form."""
    connection, _ = it.connection(connection_id)
    found = ways(it, connection)
    if len(found) == 1:
        return it.redirect(f"/connections/{connection.id}/migrate/{found[0].name}")
    return it.render(
        "migrate_methods.html",
        connection=connection,
        methods=found,
        strategies=systems.STRATEGIES,
        automatic=Hands.AUTOMATIC,
        now=it.hub.catalog.row_of(connection).method,
    )


def form(it: Visit, connection_id: str, method: str) -> Response:
    """Its fields, and the plan where nothing has to be typed first."""
    return _show(it, connection_id, method)


def look(it: Visit, connection_id: str, method: str) -> Response:
    """The plan for what was typed; nothing is started."""
    answer = _show(it, connection_id, method)
    if it.request.headers.get("hx-request"):
        answer.status_code = 200  # the script puts no error pages into a page
    return answer


def _way(it: Visit, connection_id: str, name: str) -> tuple[Connection, str, Method]:
    connection, project = it.connection(connection_id)
    found = next((m for m in ways(it, connection) if m.name == name), None)
    if found is None:
        raise NotFound("there is no such method")
    return connection, project, found


_GRANTED = frozenset({"access_token", "refresh_token"})


def _asked(method: Method) -> list[Field]:
    """What a person may type. The credential itself comes from the run; a consent needs its client's id and secret."""
    is_consent = method.card.strategy is Strategy.CONSENT

    def is_asked(field: Field) -> bool:
        is_credential = field.group != "admin" and (field.secret or field.part)
        return not is_credential or (is_consent and field.name not in _GRANTED)

    return [field for field in method.fields if is_asked(field)]


def _show(it: Visit, connection_id: str, name: str, status: int = 200, wrong: str = "") -> Response:
    connection, _, method = _way(it, connection_id, name)
    is_sent = it.request.method == "POST"
    made: Plan | None = None
    errors: dict[str, str] = {}
    why, hint = "", ""
    try:
        made = migrating.plan(it.hub, connection.id, name, _typed(it, method))
    except KeyturnError as error:
        field = str(error.facts.get("field", ""))
        known = method.field(field)
        if known is not None and known in _asked(method):
            errors[field] = words.at_field(error.message, field, known.label) if is_sent else ""
            why = "" if is_sent else f"It needs {known.label} first."
            status = 422 if is_sent else status
        else:
            why, hint = words.sentence(error.message), words.hint(error.hint)
            status = 409 if is_sent else status
    settings = {f.name: fields.said(connection.settings.get(f.name)) for f in method.fields if not f.secret}
    typed = {f.name: it.text(f"field-{f.name}", settings.get(f.name, "")) for f in _asked(method)}
    typed = {key: value for key, value in typed.items() if value}
    asked = _asked(method)
    return it.render(
        "migrate.html",
        status,
        connection=connection,
        now=it.hub.catalog.row_of(connection).method,
        method=method,
        several=len(ways(it, connection)) > 1,
        open_fields=fields.draw([f for f in asked if _is_open(f, settings)], typed, errors),
        known_fields=fields.draw(
            [f for f in asked if f.group != "admin" and not _is_open(f, settings)], typed, errors
        ),
        admin=fields.draw([f for f in asked if f.group == "admin"], typed, errors),
        plan=made,
        why=why,
        hint=hint,
        wrong=wrong,
        is_sent=is_sent,
        has_errors=any(errors.values()),
        no_return=made.point_of_no_return() if made else 0,
        digest=digest(made) if made else "",
        second=approvals.needed(it.hub, connection, made) if made else "",
        trigger=it.text("trigger") or new_id("web"),
        reason=it.text("reason"),
        emergency=it.text("emergency"),
        gaps=systems.GAPS,
        proofs=systems.PROOFS,
    )


def _is_open(field: Field, settings: dict[str, str]) -> bool:
    """Whether somebody has to look at it: nothing is known of it, and the method does not go without."""
    return (
        field.group != "admin"
        and field.default is None
        and (field.required or field.secret)
        and not settings.get(field.name)
    )


def _typed(it: Visit, method: Method) -> dict[str, str]:
    return fields.sent(it, _asked(method))


def start(it: Visit, connection_id: str, method: str) -> Response:
    """Freezes the plan that was shown; when it is another one by now, nothing starts and the new one is shown."""
    connection, _, row = _way(it, connection_id, method)
    try:
        values = _typed(it, row)
        made = migrating.plan(it.hub, connection.id, method, values)
        if digest(made) != it.text("digest"):
            return _show(it, connection_id, method, 409, _AGAIN)
        run = migrating.start(it.hub, connection.id, method, values, **_said(it))
    except (InvalidInput, Conflict):
        return _show(it, connection_id, method, 409)
    it.done(Operation.RUN_END, connection.name, run=run.id, verb=f"migrate to {method}")
    return it.redirect(f"/runs/{run.id}")


_AGAIN = "What was typed, or the connection, has changed since the plan was shown. Look at the plan, then start it."


def _said(it: Visit) -> dict[str, Any]:
    return {
        "reason": " ".join(it.text("reason").split())[:300],
        "trigger": it.text("trigger")[:60],
        "emergency": " ".join(it.text("emergency").split())[:300],
        "address": it.address,
    }
