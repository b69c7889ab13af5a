"""Schemathesis over the OpenAPI document: whatever it thinks of, no 5xx and no answer that the document does not describe."""

from __future__ import annotations

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.api.managing.conftest import LOCAL
from tests.api.managing.test_table import ROUTES
from tests.faults import world
from tests.issued.conftest import open_test_hub

from keyturn.api.app import create_app
from keyturn.model.plan import Goal
from keyturn.operations import issued, people, rights, runs

EXAMPLES, MOST_S = 8, 40.0
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
BUSY = frozenset({503, 504})  # documented: a vendor that gives no answer is no defect of the hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory, vendor):
    """A hub with something of everything in it, and nobody who works on it."""
    made = open_test_hub(tmp_path_factory.mktemp("schemathesis"), shapes=world.external())
    world.connect(made, vendor.client, "two_slots", "schema-orders")
    issued.issue(made, "api-key", "schema-partner", {"scopes": "read"})
    runs.start(made, "schema-orders", Goal.ROTATE)
    yield made
    made.close()


def test_the_document_holds_what_it_says(hub):
    """Every call with valid, odd and wrong input, as an administrator and as nobody."""
    app = create_app(hub)
    robot = people.add_service(hub, LOCAL, "robot", "", [("admin", "")])
    _, value = people.make_token(hub, LOCAL, robot.id, "x", rights.SCOPES, None)
    admin = {"Authorization": f"Bearer {value.reveal()}"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    ours = {(next(iter(route.methods)), route.path) for route in ROUTES if "/stream" not in route.path}
    known = {
        "connection": "schema-orders",
        "credential": "schema-partner",
        "run": runs.recent(hub)[0].id,
        "account": robot.id,
        "goal": "rotate",
        "system": "hub-api",
    }
    seen: set[tuple[str, str]] = set()
    statuses: dict[int, int] = {}
    until = time.monotonic() + MOST_S
    wrong: list[str] = []

    def exercise(operation, examples):
        @given(data=st.data())
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def once(data):
            case = data.draw(operation.as_strategy())
            if data.draw(st.booleans()):
                for name in set(case.path_parameters or {}) & set(known):
                    case.path_parameters[name] = known[name]
            case.headers = {  # it would invent credentials of its own beside ours
                name: text
                for name, text in (case.headers or {}).items()
                if name.lower() not in {"authorization", "accesskey"}
            }
            headers = admin if data.draw(st.integers(0, 9)) else {}
            if time.monotonic() > until and (operation.method.upper(), operation.path) in seen:
                return  # after all is drawn: what hypothesis draws must not hang on the clock
            answer = case.call(headers=headers)
            seen.add((operation.method.upper(), operation.path))
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            if answer.status_code in BUSY:
                return
            try:
                case.validate_response(answer, checks=CHECKS)
            except (AssertionError, schemathesis.errors.SchemathesisError, BaseExceptionGroup) as error:
                wrong.append(f"{operation.method} {operation.path}: {error}"[:1500])

        once()

    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) in ours:
            exercise(operation, EXAMPLES if time.monotonic() < until else 1)
    assert not wrong, "\n\n".join(wrong[:5])
    assert seen == ours, f"not reached: {sorted(ours - seen)[:10]}"
    assert {200, 401, 404, 422} <= set(statuses), statuses
    assert statuses[200] > statuses.get(400, 0), statuses
