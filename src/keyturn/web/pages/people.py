"""People and service identities, for administrators."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput
from keyturn.operations import people, projects, rights, sessions
from keyturn.operations.rights import SAYS, Operation, Role
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Everybody, and every program that has an identity."""
    return _show(it)


def _show(it: Visit, status: int = 200, kind: str = "", **wrong: str) -> Response:
    return it.render(
        "people.html",
        status,
        persons=people.every(it.hub),
        services=people.every(it.hub, "service"),
        projects=projects.every(it.hub),
        roles=[(role.value, SAYS[role]) for role in Role],
        kind=kind,
        typed={name: it.text(name) for name in ("login", "name", "role", "project")},
        errors={"login": "", "name": "", "roles": "", "project": "", **wrong},
    )


def invite(it: Visit) -> Response:
    """A new person; the answer shows their link, this once."""
    held = [(it.text("role"), it.text("project"))]
    try:
        if it.text("kind") == "service":
            made = people.add_service(it.hub, it.who, it.text("login"), it.text("name"), held)
            return it.redirect(
                f"/people/{made.id}", "The service identity is there. Make a token for it next."
            )
        invited = people.invite(it.hub, it.who, it.text("login"), it.text("name"), held)
    except (InvalidInput, Conflict) as error:
        text = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}".strip()
        return _show(it, 422, it.text("kind"), **{str(error.facts.get("field", "login")): text})
    return _link(it, invited)


def _link(it: Visit, invited: people.Invited) -> Response:
    link = f"{it.hub.settings.public_url}/join#{invited.code.reveal()}"
    return it.render("invited.html", link=link, account=invited.account)


def invite_again(it: Visit, account_id: str) -> Response:
    """A new link."""
    return _link(it, people.invite_again(it.hub, it.who, account_id))


def one(it: Visit, account_id: str) -> Response:
    """One account: roles, sessions, tokens."""
    return _one(it, account_id)


def _one(it: Visit, account_id: str, status: int = 200, **wrong: str) -> Response:
    person = people.get(it.hub, account_id)
    return it.render(
        "person.html",
        status,
        person=person,
        sessions=sessions.of(it.hub, account_id),
        held=[(role, project) for role, project, _ in person.held],
        projects=projects.every(it.hub),
        roles=[(role.value, SAYS[role]) for role in Role],
        scopes=[
            (scope, ", ".join(r.says for r in rights.TABLE.values() if r.scope == scope))
            for scope in rights.SCOPES
        ],
        can_change=it.may(Operation.PEOPLE_CHANGE),
        errors={"roles": "", "name": "", "scopes": "", "days": "", **wrong},
    )


def set_roles(it: Visit, account_id: str) -> Response:
    """Roles for the whole hub, and one for each project that is named."""
    held = [(role, "") for role in map(str, it.form.getlist("role"))]
    for role, project in zip(it.form.getlist("project_role"), it.form.getlist("project"), strict=False):
        if str(role) and str(project).strip():
            held.append((str(role), str(project)))
    try:
        people.set_roles(it.hub, it.who, account_id, held)
    except (InvalidInput, Conflict) as error:
        return _one(
            it, account_id, 422, roles=f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}"
        )
    return it.redirect(f"/people/{account_id}", "The roles are changed. They count from the next click on.")


def switch(it: Visit, account_id: str) -> Response:
    """Off or on."""
    is_on = it.text("on") == "yes"
    people.switch(it.hub, it.who, account_id, on=is_on)
    said = (
        "The account is on again."
        if is_on
        else "The account is off: its sessions are ended and its tokens refused."
    )
    return it.redirect(f"/people/{account_id}", said)


def sign_out(it: Visit, account_id: str) -> Response:
    """Ends all sessions of somebody."""
    ended = sessions.sign_out_everywhere(it.hub, account_id, by=it.who.login, address=it.address)
    return it.redirect(
        f"/people/{account_id}", f"{ended} {'session was' if ended == 1 else 'sessions were'} ended."
    )


def make_token(it: Visit, account_id: str) -> Response:
    """A token; the answer shows it, this once."""
    days = it.text("days", "90")
    try:
        made, value = people.make_token(
            it.hub,
            it.who,
            account_id,
            it.text("name"),
            map(str, it.form.getlist("scope")),
            None if days == "never" else float(days) if days.isdigit() else -1.0,
        )
    except InvalidInput as error:
        text = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}".strip()
        return _one(it, account_id, 422, **{str(error.facts.get("field", "name")): text})
    return it.render("token.html", token=made, value=value.reveal(), account_id=account_id)


def end_token(it: Visit, account_id: str, token_id: str) -> Response:
    """Ends one."""
    people.end_token(it.hub, it.who, account_id, token_id)
    return it.redirect(f"/people/{account_id}", "The token is ended. Whoever uses it is refused from now on.")
