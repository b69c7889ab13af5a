"""Connecting: a system is chosen, then a method; its form comes from the definition and is tested before it is kept."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from keyturn.contract.manifest import EGRESS, Method, System
from keyturn.errors import Conflict, CredentialRejected, InvalidInput, KeyturnError, NotFound
from keyturn.model.card import Hands, Strategy
from keyturn.operations import connections, events, projects, rights, systems
from keyturn.operations.rights import Operation
from keyturn.web import fields, words
from keyturn.web.site import Visit

_OWN = "definition"  # the field in which a user's own definition stands


def choose(it: Visit) -> Response:
    """The systems there are, by category, searched while typing."""
    text = it.asked("q")
    found: dict[str, list[dict[str, Any]]] = {}
    count = 0
    for system in it.hub.catalog.systems():
        rows = outbound(system)
        said = f"{system.title} {system.name} {words.category(system)} {' '.join(m.title for m in rows)}".casefold()
        if rows and all(word in said for word in text.casefold().split()):
            count += 1
            found.setdefault(words.category(system), []).append(
                {"system": system, "methods": [m.title for m in rows], **words.badge(system.title)}
            )
    return it.render("connect.html", groups=sorted(found.items()), asked=text, count=count)


def outbound(system: System) -> list[Method]:
    """The methods by which one connects to it."""
    return [method for method in system.methods if method.direction == "outbound"]


def methods(it: Visit, system: str) -> Response:
    """The ways to sign in to a system; with one only, its form."""
    found = _system(it, system)
    rows = outbound(found)
    if len(rows) == 1:
        return it.redirect(f"/connect/{found.name}/{rows[0].name}")
    return it.render(
        "connect_methods.html",
        system=found,
        methods=rows,
        badge=words.badge(found.title),
        strategies=systems.STRATEGIES,
        nothing=Strategy.NOTHING,
        gaps=systems.GAPS,
        automatic=Hands.AUTOMATIC,
    )


def _system(it: Visit, name: str) -> System:
    found = it.hub.catalog.system(name) if name in it.hub.catalog.names() else None
    if found is None or not outbound(found):
        raise NotFound("there is no such system")
    return found


def _row(it: Visit, system: str, method: str) -> tuple[System, Method]:
    found = _system(it, system)
    row = next((each for each in outbound(found) if each.name == method), None)
    if row is None:
        raise NotFound("there is no such method")
    return found, row


def form(it: Visit, system: str, method: str) -> Response:
    """The form of a method."""
    return _form(it, system, method, it.asked(_OWN))


def _form(
    it: Visit,
    system: str,
    method: str,
    definition: str,
    status: int = 200,
    wrong: dict[str, str] | None = None,
    problem: str = "",
    hint: str = "",
) -> Response:
    found, row = _row(it, system, method)
    if row.field(_OWN) is not None and not definition:
        return _definitions(it, found, row)
    if definition:
        row = systems.form(it.hub.catalog, system, method, definition)
    parts = fields.sections(row)
    mine = rights.projects(it.who, Operation.CONNECTION_CHANGE)
    fits = [f for f in row.fields if f.name != _OWN]
    typed = {f.name: it.text(f"field-{f.name}") for f in fits if f"field-{f.name}" in it.form}
    wrong = wrong or {}
    return it.render(
        "connect_form.html",
        status,
        system=found,
        method=row,
        definition=definition,
        badge=words.badge(found.title),
        several=len(outbound(found)) > 1,
        main=fields.draw([f for f in parts.main if f.name != _OWN], typed, wrong),
        admin=fields.draw(parts.admin, typed, wrong),
        more=fields.draw([f for f in parts.more if f.name != _OWN], typed, wrong),
        variants=row.variants,
        errors={"name": "", "owner": "", "project": "", **wrong},
        typed={
            "name": it.text("name"),
            "owner": it.text("owner") or it.who.login,
            "project": it.text("project") or (min(mine) if mine and len(mine) == 1 else ""),
        },
        mine=sorted(mine) if mine is not None else None,
        projects=projects.every(it.hub),
        problem=problem,
        hint=hint,
        is_consent=row.card.strategy is Strategy.CONSENT,
        redirect_uri=it.hub.hub.redirect_uri,
        permissions=row.permissions,
        EGRESS=EGRESS,
        egress=it.hub.settings.egress,
        steps=row.create_steps,
        says=systems.card_page(row.card),
        gaps=systems.GAPS,
        rotates=row.card.strategy is not Strategy.NOTHING,
        strategies=systems.STRATEGIES,
    )


def save(it: Visit, system: str, method: str) -> Response:
    """Tests what was typed, then keeps it. When the vendor refuses it nothing is kept, and the form comes back."""
    _row(it, system, method)
    definition = it.text(_OWN)
    project = " ".join(it.text("project").split())
    if len(project) > 80 or not project.isprintable():
        return _form(it, system, method, definition, 422, {"project": "At most 80 characters."})
    if not it.may(Operation.CONNECTION_CHANGE, project):
        if not project:
            return _form(it, system, method, definition, 422, {"project": "Choose one of your projects."})
        events.refuse(it.site.hub, it.who, Operation.CONNECTION_CHANGE, project)
    row = systems.form(it.hub.catalog, system, method, definition)
    try:
        values = fields.sent(it, [f for f in row.fields if f.name != _OWN])
        made = connections.connect(
            it.hub,
            system,
            method,
            it.text("name"),
            values,
            owner=" ".join(it.text("owner").split())[:120],
            definition=definition,
        )
    except KeyturnError as error:
        return _refused(it, system, method, definition, error)
    connection = made.connection
    if project:
        projects.move(it.hub, connection.id, project)
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="connect")
    if connection.current_version_id is None:
        return it.redirect(
            f"/connections/{connection.id}/plan/reauthorize",
            f"{connection.name} is saved. It has no credential yet: authorize it next.",
            "warn",
        )
    account = made.probe.identity.get("principal_label") or made.probe.identity.get("principal", "")
    said = f"{connection.name} is connected" + (f", as {account}." if account else ".")
    if made.negative_control == "refused":
        return it.redirect(
            f"/connections/{connection.id}", f"{said} A made-up credential was refused, as it must be."
        )
    if made.negative_control == "unclear":
        said += " It is not clear that a wrong credential is refused, so a proof of death will be weaker."
        return it.redirect(f"/connections/{connection.id}", said, "warn")
    return it.redirect(f"/connections/{connection.id}", said)


def _refused(it: Visit, system: str, method: str, definition: str, error: KeyturnError) -> Response:
    """The form again, with the error where it belongs: at its field, else on top."""
    text = words.sentence(error.message)
    field = str(error.facts.get("field", "")).removeprefix("file-")
    hint = words.hint(error.hint)
    status = 502 if isinstance(error, CredentialRejected) else 422
    if not isinstance(error, InvalidInput | Conflict | CredentialRejected):
        status = 503
    row = systems.form(it.hub.catalog, system, method, definition)
    known = row.field(field)
    if known is not None:
        text = words.at_field(error.message, field, known.label)
    if field in {"name", "owner", "project"} or known is not None:
        return _form(it, system, method, definition, status, {field: f"{text} {hint}".strip()})
    return _form(it, system, method, definition, status, problem=text, hint=hint)


# -- a user's own definitions --------------------------------------------------------------------------------------------


def _definitions(
    it: Visit, system: System, method: Method, status: int = 200, wrong: str = "", typed: str = ""
) -> Response:
    return it.render(
        "connect_definition.html",
        status,
        system=system,
        method=method,
        badge=words.badge(system.title),
        found=systems.own_definitions(it.hub),
        wrong=wrong,
        typed=typed,
    )


def keep_definition(it: Visit, system: str, method: str) -> Response:
    """Reads a definition, and goes on to its form."""
    found, row = _row(it, system, method)
    if row.field(_OWN) is None:
        raise NotFound("there is no such page")
    typed = it.text("text")
    try:
        text = it.upload("file") or typed
        if not text.strip():
            raise InvalidInput("there is no definition in it", hint="Paste one, or choose its file.")
        digest, _, _ = systems.add_text(it.hub, text.replace("\r\n", "\n"), "definition")
        systems.form(it.hub.catalog, system, method, digest)
    except InvalidInput as error:
        return _definitions(
            it, found, row, 422, f"{words.sentence(error.message)} {words.hint(error.hint)}".strip(), typed
        )
    it.done(Operation.CONNECTION_CHANGE, digest[:12], verb="definition")
    return it.redirect(f"/connect/{found.name}/{row.name}?definition={digest}")
