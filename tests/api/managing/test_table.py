"""Every call of the API as every role, with too few scopes, and as nobody; and what the document says of them."""

from __future__ import annotations

import re

import jsonschema
import pytest
from fastapi.routing import APIRoute
from tests.api.managing.conftest import LOCAL, is_problem

from keyturn.api import managing, shapes
from keyturn.api.calls import Call
from keyturn.model.run import LineKind
from keyturn.operations import events, issued, people, rights
from keyturn.operations.rights import TABLE, Operation, Role
from keyturn.storage import journal

ROUTES = [route for calls in managing.CALLS for route in calls.router.routes]
BODIES = {  # whole enough to be read, about what is not there
    "/connections": {"system": "none", "method": "none", "name": "none", "values": {}},
    "/connections/test": {"system": "none", "method": "none", "name": "none", "values": {}},
    "/connections/{connection}/consumers": {"name": "x", "kind": "live"},
    "/connections/{connection}/plan/migrate": {"to": "none"},
    "/connections/{connection}/migrate": {"to": "none"},
    "/debts/{debt}/close": {"reason": "seen"},
    "/definitions": {"text": "schema: none"},
    "/definitions/check": {"text": "schema: none"},
    "/leases": {"connection": "none", "consumer": "x"},
    "/issued": {"kind": "none", "name": "x"},
    "/issued/revoke": {"kind": "none"},
    "/issued/{credential}/reveal": {"version": "none"},
    "/audit/verify": {"export": "x"},
    "/people": {"login": "!", "roles": [{"role": "viewer"}]},
    "/services": {"login": "!", "roles": [{"role": "viewer"}]},
    "/people/{account}/tokens": {"name": "x", "scopes": ["none"]},
    "/jobs": {"connection": "none", "name": "x"},
    "/jobs/{job}": {"paused": True},
    "/projects": {"name": "a/b"},
    "/sources": {"label": "a/b/c", "connection": "none"},
    "/sources/reauthorize": {"label": "a/b/c"},
    "/recipients": {
        "kind": "webhook",
        "name": "!",
        "address": "https://none.invalid/",
        "topics": ["run.done"],
    },
}


def told(route):
    path = route.path.removeprefix("/api/v1")
    body = BODIES.get(path, {})
    if path == "/sources" and route.methods == {"DELETE"}:
        path += "?label=none/none/none"
    if path.startswith("/runs/") and "{" not in path:
        body = {"connections": ["none"]}
    return next(iter(route.methods)), re.sub(r"\{\w+\}", "none_00", path).lstrip("/"), body


def ask(client, route, headers):
    method, path, body = told(route)
    if path.endswith("plan/none_00"):
        path = path.replace("plan/none_00", "plan/rotate")
    return client.request(method, path, json=body if method in {"POST", "PATCH"} else None, headers=headers)


def ids(route):
    return f"{next(iter(route.methods))} {route.path}"


def test_no_call_without_an_operation():
    """Each call of this part is of the class that asks the table; one without an operation cannot be made."""
    assert len(ROUTES) > 60
    assert all(type(route) is Call for route in ROUTES)
    with pytest.raises(KeyError):
        Call("/x", lambda: None, methods=["GET"], openapi_extra=None).get_route_handler()


@pytest.mark.parametrize("role", [None, *Role])
def test_every_call(app, client, token, role):
    """Nobody: 401. A role that may not: 403, before anything is looked up. One that may: anything else."""
    headers = token(role.value) if role else {}
    for route in ROUTES:
        if "/stream" in route.path and role is not None:
            continue  # does not end; test_stream.py
        operation = Operation(route.openapi_extra["x-operation"])
        answer = ask(client, route, headers)
        if role is None:
            is_problem(answer, 401, "cred.missing")
        elif role in TABLE[operation].roles:
            assert answer.status_code not in {401, 403}, (ids(route), answer.text)
            assert answer.status_code < 500, (ids(route), answer.text)
        else:
            is_problem(answer, 403, "not_permitted")


def test_every_call_needs_its_scope(client, token):
    """An administrator's token without the scope is refused, with the scope's name; the refusal is on record."""
    for route in ROUTES:
        scope = route.openapi_extra["x-scope"]
        headers = token("admin", scopes=[each for each in rights.SCOPES if each != scope])
        answer = ask(client, route, headers)
        is_problem(answer, 403, "cred.scope")
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]


def test_refusals_are_on_record(client, token, idle):
    """Who, what, from where and why."""
    is_problem(client.get("people", headers=token("viewer")), 403)
    line = events.latest(idle)[0].facts
    assert (line["decision"], line["by"], line["operation"], line["from"]) == (
        "refused",
        "viewer--robot",
        "people.read",
        "testclient",
    )


def test_an_issued_key_does_what_its_scopes_say_and_no_administrators_work(client, idle):
    """Scope `connect` on a key gives nothing: a key is at most an operator."""
    scopes = " ".join(each for each in rights.SCOPES)
    handed = issued.issue(idle, "api-key", "partner", {"scopes": scopes})
    headers = {"AccessKey": handed.value.reveal()}
    for route in ROUTES:
        if "/stream" in route.path:
            continue
        operation = Operation(route.openapi_extra["x-operation"])
        answer = ask(client, route, headers)
        assert (answer.status_code == 403) is (Role.OPERATOR not in TABLE[operation].roles), ids(route)


def test_a_read_key_held_by_an_administrator_cannot_write(client, idle, app):
    """Acceptance 4: the scopes bind, whoever owns the key: every call that needs another scope is refused, bulk loads,
    events and leak reports too, and nothing is changed."""
    boss = people.accept(
        idle,
        people.invite(idle, LOCAL, "boss", "Boss", [("admin", "")]).code.reveal(),
        "correct horse battery 9",
    )
    handed = issued.issue(idle, "api-key", "partner", {"scopes": "read"}, owner=boss.login, who=boss.login)
    headers = {"AccessKey": handed.value.reveal()}
    assert client.get("whoami", headers=headers).json()["scopes"] == ["read"]
    writing = [route for route in ROUTES if route.openapi_extra["x-scope"] != "read"]
    assert len(writing) > 30
    for route in writing:
        is_problem(ask(client, route, headers), 403, "cred.scope")
    for path in ("bulk/orders", "events", "events/batch", "segment", "leaks"):
        is_problem(client.post(path, json={}, headers=headers), 403, "cred.scope")
    assert issued.get(idle, "partner").connection.settings["scopes"] == "read"
    assert len(issued.every(idle)) == 1


def test_a_scope_with_a_name_is_no_scope(client, idle):
    """`read:orders` is not `read`."""
    handed = issued.issue(idle, "api-key", "partner", {"scopes": "read:orders"})
    is_problem(client.get("connections", headers={"AccessKey": handed.value.reveal()}), 403, "cred.scope")


def test_who_is_judged_before_what_they_sent(client, token):
    """A body that nobody could read is not looked at for somebody who may not."""
    for headers, status in (({}, 401), (token("viewer"), 403), (token("admin"), 422)):
        answer = client.post(
            "connections", content=b"{not json", headers={**headers, "Content-Type": "application/json"}
        )
        is_problem(answer, status)


def test_a_role_in_a_project_is_that_alone(client, token, connect, idle):
    """What is in other projects is not there, in lists and by name; hub-wide work is refused."""
    connect(name="mine", project="billing")
    other = connect(name="other")
    headers = token("admin", "billing")
    assert [c["name"] for c in client.get("connections", headers=headers).json()["items"]] == ["mine"]
    assert client.get("connections/mine", headers=headers).status_code == 200
    missing = is_problem(client.get(f"connections/{other.id}", headers=headers), 404)
    nowhere = is_problem(client.get("connections/nowhere", headers=headers), 404)
    assert missing["detail"] == nowhere["detail"]
    is_problem(client.post("connections/other/rotate", headers=headers), 404)
    assert client.get("runs", headers=headers).json() == {"items": []}
    for path in ("people", "audit", "audit/export", "doctor"):
        is_problem(client.get(path, headers=headers), 403, "not_permitted")


def test_a_viewer_of_one_project_who_operates_another(client, token, connect, idle):
    """Seen but not for them: 403; not seen: 404."""
    connect(name="seen", project="a")
    connect(name="done", project="b")
    from keyturn.operations import people

    robot = people.add_service(idle, LOCAL, "both", "", [("viewer", "a"), ("operator", "b")])
    _, value = people.make_token(idle, LOCAL, robot.id, "x", rights.SCOPES)
    headers = {"Authorization": f"Bearer {value.reveal()}"}
    is_problem(client.post("connections/seen/rotate", headers=headers), 403, "not_permitted")
    assert client.post("connections/done/rotate", json={"dry_run": True}, headers=headers).status_code == 200


def test_what_was_done_is_on_record(client, token, connect, idle):
    """The connection's own chain names the identity; the hub's own says from where."""
    found = connect()
    client.post("connections/orders/test", headers=token("operator"))
    lines = idle.store.read(lambda tx: journal.of_connection(tx, found.id))
    assert (lines[-1].kind, lines[-1].facts["by"]) == (LineKind.OBSERVED, "operator--robot")
    did = events.latest(idle)[0].facts
    assert (did["decision"], did["by"], did["from"], did["on"]) == (
        "did",
        "operator--robot",
        "testclient",
        "orders",
    )


# -- the document ------------------------------------------------------------------------------------------------------


@pytest.fixture
def document(client):
    return client.get("openapi.json").json()


def ours(document):
    paths = {route.path for route in ROUTES}
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path in paths and "x-operation" in operation
    ]


def fits(example, document, schema):
    """Whether an example is as its schema says; that the schemas are ones, test_the_document_is_openapi asks once."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(example)


def test_every_call_is_described(document):
    """Summary, words, examples that fit their schema, who may, and what each refusal looks like."""
    found = ours(document)
    assert len(found) == len(ROUTES)
    for path, method, operation in found:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["x-scope"], where
        assert {"400", "401", "403", "422", "429", "500", "503"} <= set(operation["responses"]), where
        good = {s: a for s, a in operation["responses"].items() if s.startswith("2")}
        assert good, where
        for status, answer in good.items():
            if status == "204" or "dry run" in answer["description"]:
                continue
            (media,) = answer["content"].values()
            assert "example" in media, where
            fits(media["example"], document, media["schema"])
        if "requestBody" in operation:
            media = operation["requestBody"]["content"]["application/json"]
            if "example" in media:
                fits(media["example"], document, media["schema"])
            else:
                assert "anyOf" in media["schema"], where
        if method == "post":
            assert "Idempotency-Key" in {p["name"] for p in operation["parameters"]}, where
        for answer in operation["responses"].values():
            if "$ref" in answer:
                problem = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                example = problem["content"]["application/problem+json"]["example"]
                fits(example, document, document["components"]["schemas"]["Problem"])


def test_the_document_is_openapi(document):
    """By the standard's own schema."""
    from openapi_spec_validator import validate

    validate(document)
    names = [operation["operationId"] for _, _, operation in ours(document)]
    assert len(names) == len(set(names))


def test_every_shape_says_what_it_is():
    for name, shape in vars(shapes).items():
        if isinstance(shape, type) and shape.__module__ == shapes.__name__ and "[" not in name:
            assert shape.__doc__, name


def test_routes_are_found_by_the_framework(app):
    """No route of the management part is hidden by another one."""
    seen = set()
    for calls in managing.CALLS:
        for route in calls.router.routes:
            assert isinstance(route, APIRoute)
            key = (next(iter(route.methods)), re.sub(r"\{\w+\}", "{}", route.path))
            assert key not in seen, key
            seen.add(key)
