"""People and service identities: roles, one-time links, tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response

from keyturn.api import examples, shapes
from keyturn.api.calls import NO_STORE, Body, Caller, Calls, Visit
from keyturn.api.paging import After, Limit, page
from keyturn.errors import NotFound
from keyturn.model.moment import iso
from keyturn.operations import people, sessions
from keyturn.operations.people import Invited
from keyturn.operations.rights import Operation
from keyturn.storage.people import Token

calls = Calls("people")
_LONG = Annotated[str, Field(max_length=80)]


class Role(Body):
    """A role; an empty project is the whole hub."""

    role: Literal["viewer", "operator", "approver", "admin"]
    project: _LONG = ""


Held = Annotated[list[Role], Field(min_length=1, max_length=100)]


class Account(Body):
    """A new account. A person gets a one-time link; a service identity gets tokens."""

    login: Annotated[str, Field(min_length=1, max_length=80)]
    name: _LONG = ""
    roles: Held


class Change(Body):
    """What is not named stays."""

    roles: Held | None = None
    on: bool | None = None


class NewToken(Body):
    """`scopes` limit it further than its identity's roles; `days` null never ends."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    scopes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=120)]], Field(min_length=1, max_length=50)
    ]
    days: Annotated[float, Field(gt=0, le=3650)] | None = 90


def _page(each: people.Person) -> dict[str, Any]:
    account = each.account
    return {
        "id": account.id,
        "kind": account.kind,
        "login": account.login,
        "name": account.name,
        "roles": [{"role": role, "project": project} for role, project, _ in each.held],
        "created": iso(account.created_at),
        "disabled": iso(account.disabled_at),
        "seen": iso(account.seen_at),
        "sessions": each.sessions,
        "tokens": [_token(token) for token in each.tokens],
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": token.scopes.split(),
        "hint": token.hint,
        "created": iso(token.created_at),
        "created_by": token.created_by,
        "ends": iso(token.ends_at),
        "ended": iso(token.ended_at),
        "used": iso(token.used_at),
        "used_from": token.used_from,
    }


def _held(roles: list[Role]) -> list[tuple[str, str]]:
    return [(each.role, each.project) for each in roles]


def _link(it: Visit, invited: Invited) -> Response:
    body = {
        "id": invited.account.id,
        "login": invited.account.login,
        "link": f"{it.hub.settings.public_url}/join#{invited.code.reveal()}",
    }
    return JSONResponse(body, 201, NO_STORE)


@calls.get(
    "/people",
    Operation.PEOPLE_READ,
    "People or service identities",
    answer=shapes.Page[shapes.Person],
    example=examples.page(examples.PERSON),
    hub_wide=True,
)
def every(
    it: Caller, kind: Literal["person", "service"] = "person", after: After = "", limit: Limit = 100
) -> dict[str, Any]:
    """By login."""
    found = people.every(it.hub, kind)
    return page(it.hub, ["people", kind], found, lambda p: (p.account.login,), after, limit, _page)


@calls.get(
    "/people/{account}",
    Operation.PEOPLE_READ,
    "One account",
    answer=shapes.Person,
    example=examples.PERSON,
    problems=(404,),
    hub_wide=True,
)
def one(it: Caller, account: str) -> dict[str, Any]:
    """With its roles, and a service identity with its tokens."""
    return _page(people.get(it.hub, account))


@calls.post(
    "/people",
    Operation.PEOPLE_CHANGE,
    "Invite a person",
    answer=shapes.Invited,
    status=201,
    example={"id": examples.PERSON["id"], "login": "sam", "link": "https://keyturn.example.com/join#..."},
    sends={"login": "sam@example.com", "name": "Sam", "roles": examples.ROLES},
    hub_wide=True,
    secret=True,
)
def invite(it: Caller, body: Account) -> Response:
    """`link` lets them choose a password, once, within a week."""
    return _link(it, people.invite(it.hub, it.who, body.login, body.name, _held(body.roles)))


@calls.post(
    "/people/{account}/link",
    Operation.PEOPLE_CHANGE,
    "A new link for somebody who lost theirs",
    answer=shapes.Invited,
    status=201,
    example={"id": examples.PERSON["id"], "login": "sam", "link": "https://keyturn.example.com/join#..."},
    problems=(404,),
    hub_wide=True,
    secret=True,
)
def invite_again(it: Caller, account: str) -> Response:
    """When it is used, sessions and second factors from before end."""
    return _link(it, people.invite_again(it.hub, it.who, account))


@calls.patch(
    "/people/{account}",
    Operation.PEOPLE_CHANGE,
    "Give other roles, or switch off and on",
    answer=shapes.Person,
    example=examples.PERSON,
    sends={"roles": examples.ROLES},
    problems=(404, 409),
    hub_wide=True,
)
def change(it: Caller, account: str, body: Change) -> dict[str, Any]:
    """Off: sessions end, tokens are refused. 409 for the last administrator."""
    people.get(it.hub, account)
    if body.roles is not None:
        people.set_roles(it.hub, it.who, account, _held(body.roles))
    if body.on is not None:
        people.switch(it.hub, it.who, account, on=body.on)
    return _page(people.get(it.hub, account))


@calls.post(
    "/people/{account}/sign-out",
    Operation.PEOPLE_CHANGE,
    "End all sessions of somebody",
    answer=shapes.Person,
    example=examples.PERSON,
    problems=(404,),
    hub_wide=True,
)
def sign_out(it: Caller, account: str) -> dict[str, Any]:
    """They may sign in again."""
    found = people.get(it.hub, account)
    sessions.sign_out_everywhere(it.hub, found.account.id, by=it.who.login, address=it.who.address)
    return _page(people.get(it.hub, account))


@calls.post(
    "/services",
    Operation.PEOPLE_CHANGE,
    "Add a service identity",
    answer=shapes.Person,
    status=201,
    example={**examples.PERSON, "tokens": []},
    sends={"login": "deployer", "roles": examples.ROLES},
    hub_wide=True,
)
def add_service(it: Caller, body: Account) -> dict[str, Any]:
    """For a program: roles like a person, no password, tokens instead."""
    made = people.add_service(it.hub, it.who, body.login, body.name, _held(body.roles))
    return _page(people.get(it.hub, made.id))


@calls.post(
    "/people/{account}/tokens",
    Operation.PEOPLE_CHANGE,
    "Make a token for a service identity",
    answer=shapes.NewToken,
    status=201,
    example={
        "id": examples.TOKEN["id"],
        "name": "ci",
        "scopes": ["read"],
        "ends": None,
        "value": "shown once",
    },
    sends={"name": "ci", "scopes": ["read", "operate"], "days": 90},
    problems=(404,),
    hub_wide=True,
    secret=True,
)
def make_token(it: Caller, account: str, body: NewToken) -> Response:
    """Its value is in this answer and nowhere else."""
    people.get(it.hub, account)
    made, value = people.make_token(it.hub, it.who, account, body.name, body.scopes, body.days)
    answer = {
        "id": made.id,
        "name": made.name,
        "scopes": made.scopes.split(),
        "ends": iso(made.ends_at),
        "value": value.reveal(),
    }
    return JSONResponse(answer, 201, NO_STORE)


@calls.delete(
    "/people/{account}/tokens/{token}",
    Operation.PEOPLE_CHANGE,
    "End a token",
    status=204,
    problems=(404,),
    hub_wide=True,
)
def end_token(it: Caller, account: str, token: str) -> None:
    """Refused from this call on. 404 when it has ended already."""
    if token not in {each.id for each in people.get(it.hub, account).tokens}:
        raise NotFound("there is no such token", field="token")
    people.end_token(it.hub, it.who, account, token)
