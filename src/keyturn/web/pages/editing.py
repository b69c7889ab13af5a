"""Editing a connection: owner and project, policy, settings; and taking away what the hub still holds of a dead one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from keyturn.errors import CredentialRejected, InvalidInput, KeyturnError, WrongAccount
from keyturn.model.card import Proof
from keyturn.model.credential import Connection
from keyturn.model.policy import Policy
from keyturn.operations import connections, editing, events, projects, rights, systems
from keyturn.operations.rights import Operation
from keyturn.web import fields, words
from keyturn.web.site import Visit

_HOUR_S, _DAY_S = 3600.0, 86400.0


@dataclass(frozen=True)
class Asked:
    """One line of a policy, in the unit people think in. `size` is that unit in the policy's own."""

    name: str
    label: str
    unit: str
    size: float
    help: str


MAIN = (
    Asked("max_age_days", "Rotate after", "days", 1.0, "From this age on a rotation is due."),
    Asked(
        "drain_max_s",
        "Wait for its users at most",
        "hours",
        _HOUR_S,
        "Programs that still use the old one are waited for. After that the run says so, and waits on.",
    ),
    Asked(
        "soak_s",
        "Switched off before it is ended",
        "hours",
        _HOUR_S,
        "Where the vendor has an off switch: time in which the old one can be switched on again.",
    ),
    Asked(
        "retention_s",
        "Keep a dead value's ciphertext",
        "days",
        _DAY_S,
        "In case somebody must prove what it was. Then it is destroyed.",
    ),
    Asked("task_days", "Time for a task", "days", 1.0, "A person has this long; then the run is undone."),
)
MORE = (
    Asked(
        "drain_min_s",
        "Wait after the switch at least",
        "seconds",
        1.0,
        "Whoever took the old one just before gets to use it.",
    ),
    Asked(
        "settle_create_s",
        "A new one may be refused for",
        "seconds",
        1.0,
        "Where this account is slower than the vendor says.",
    ),
    Asked(
        "settle_revoke_s",
        "A dead one may be accepted for",
        "seconds",
        1.0,
        "A refusal is believed only after this.",
    ),
    Asked(
        "unused_days",
        "End it when nobody used it for",
        "days",
        1.0,
        "Only what this hub issued, and a month after a warning; 0 for never.",
    ),
    Asked("apply_lag_s", "An unanswered call may still take effect for", "seconds", 1.0, ""),
    Asked("call_deadline_s", "One call may take", "seconds", 1.0, ""),
)
_YES = ("automatic", "drop_principal")


def show(it: Visit, connection_id: str) -> Response:
    """The forms."""
    connection, project = it.connection(connection_id)
    return _show(it, connection, project)


def _show(
    it: Visit,
    connection: Connection,
    project: str,
    status: int = 200,
    wrong: dict[str, str] | None = None,
    problem: str = "",
    hint: str = "",
) -> Response:
    row = it.hub.catalog.row_of(connection)
    policy, defaults, wrong = Policy.read(connection.policy), Policy(), wrong or {}
    may_change = editing.fields(it.hub, connection)
    settings = {
        f.name: it.text(f"field-{f.name}", fields.said(connection.settings.get(f.name))) for f in may_change
    }
    mine = rights.projects(it.who, Operation.CONNECTION_CHANGE)
    return it.render(
        "edit.html",
        status,
        connection=connection,
        project=it.text("project", project),
        owner=it.text("owner", connection.owner),
        mine=sorted(mine) if mine is not None else None,
        projects=projects.every(it.hub),
        main=[_line(it, each, policy, defaults, wrong) for each in MAIN],
        more=[_line(it, each, policy, defaults, wrong) for each in MORE],
        policy=policy,
        proof=it.text("proof", str(connection.policy.get("proof", ""))),
        proofs=[(grade.value, systems.PROOFS[grade]) for grade in Proof],
        card=row.card,
        is_outbound=row.method.direction == "outbound",
        plain=fields.draw([f for f in may_change if f.group != "admin"], settings, wrong),
        admin=fields.draw([f for f in may_change if f.group == "admin"], settings, wrong),
        fixed=[f.label for f in row.method.fields if f not in may_change],
        errors={"owner": "", "project": "", "proof": "", **wrong},
        problem=problem,
        hint=hint,
        is_gone=connection.state.value in {"disconnected", "revoked"},
    )


def _line(it: Visit, each: Asked, policy: Policy, defaults: Policy, wrong: dict[str, str]) -> dict[str, Any]:
    value, default = getattr(policy, each.name), getattr(defaults, each.name)
    own = "" if value == default else f"{value / each.size:g}"
    return {
        "asked": each,
        "typed": it.text(f"policy-{each.name}", own),
        "default": "vendor's" if default is None else f"{default / each.size:g}",
        "error": wrong.get(each.name, ""),
    }


def about(it: Visit, connection_id: str) -> Response:
    """Owner and project."""
    connection, project = it.connection(connection_id)
    wanted = " ".join(it.text("project").split())
    if wanted != project and not it.may(Operation.CONNECTION_CHANGE, wanted):
        if not wanted:
            return _show(it, connection, project, 422, {"project": "Choose one of your projects."})
        events.refuse(it.site.hub, it.who, Operation.CONNECTION_CHANGE, wanted)
    try:
        editing.edit(it.hub, connection.id, owner=it.text("owner"))
        if wanted != project:
            projects.move(it.hub, connection.id, wanted)
    except InvalidInput as error:
        field = str(error.facts.get("field", "owner"))
        return _show(it, connection, project, 422, {field: words.sentence(error.message)})
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="edit")
    return it.redirect(f"/connections/{connection.id}", "Owner and project are kept.")


def set_policy(it: Visit, connection_id: str) -> Response:
    """The policy; an empty field is the default."""
    connection, project = it.connection(connection_id)
    wanted: dict[str, Any] = {name: True if it.text(name) == "yes" else None for name in _YES}
    wanted["proof"] = it.text("proof") or None
    wrong = {}
    for each in (*MAIN, *MORE):
        text = it.text(f"policy-{each.name}").strip().replace(",", ".")
        try:
            wanted[each.name] = _number(text) * each.size if text else None
        except ValueError:
            wrong[each.name] = f"A number of {each.unit}, 0 or more."
    if wrong:
        return _show(it, connection, project, 422, wrong)
    try:
        editing.edit(it.hub, connection.id, policy=wanted)
    except InvalidInput as error:
        field = str(error.facts.get("field", "proof"))
        return _show(it, connection, project, 422, {field: words.sentence(error.message)})
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="policy")
    return it.redirect(f"/connections/{connection.id}", "The policy is kept. It counts from the next run on.")


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e7:  # also refuses what is no number
        raise ValueError
    return value


def set_settings(it: Visit, connection_id: str) -> Response:
    """The settings, after what serves was tested with them."""
    connection, project = it.connection(connection_id)
    may_change = editing.fields(it.hub, connection)
    try:
        typed = fields.sent(it, may_change)
        changed = {
            f.name: typed.get(f.name, "")
            for f in may_change
            if typed.get(f.name, "") != fields.said(connection.settings.get(f.name))
            and (f.name in typed or not f.secret)
        }
        editing.edit(it.hub, connection.id, values=changed)
    except KeyturnError as error:
        name = str(error.facts.get("field", "")).removeprefix("file-")
        field = next((f for f in may_change if f.name == name), None)
        text, hint = words.sentence(error.message), words.hint(error.hint)
        if field is not None:
            said = f"{words.at_field(error.message, name, field.label)} {hint}".strip()
            return _show(it, connection, project, 422, {name: said})
        status = (
            502 if isinstance(error, CredentialRejected) else 409 if isinstance(error, WrongAccount) else 503
        )
        return _show(it, connection, project, status, problem=text, hint=hint)
    if not changed:
        return it.redirect(f"/connections/{connection.id}", "Nothing was changed.", "warn")
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="settings")
    return it.redirect(f"/connections/{connection.id}", "Tested with the new settings, and kept.")


def forget(it: Visit, connection_id: str) -> Response:
    """Destroys what the hub still holds of a connection of which nothing is alive. Its history stays."""
    connection, project = it.connection(connection_id)
    if it.text("sure") != "yes":
        return _show(it, connection, project, 422, {"sure": "Say that you are sure."})
    connections.forget(it.hub, connection.id)
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="forget")
    return it.redirect(
        f"/connections/{connection.id}",
        f"What the hub held of {connection.name} is destroyed. Its history stays.",
    )
