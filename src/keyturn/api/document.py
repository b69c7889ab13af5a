"""The OpenAPI document, finished: what every refusal looks like, said once and pointed to."""

from __future__ import annotations

import json
from typing import Any

from keyturn.api import shapes
from keyturn.issued.endings import EXPIRES, STATE, SUCCESSOR

_FRAMEWORKS = "HTTPValidationError"
_SAYS = {
    "400": "More than one credential, or one in the URL",
    "401": "No credential, or one that opens nothing",
    "403": "The credential lacks the scope, or its holder the role",
    "404": "There is no such thing, or not for this caller's eyes",
    "409": "Not possible now: somebody is busy with it, or it is there already",
    "413": "The body is too large",
    "422": "Asked for wrongly; `field` or `fields` say where",
    "429": "Too many calls, or too many failed attempts; Retry-After says how long to wait",
    "500": "A defect in the hub: `request_id` finds it in the log",
    "502": "The vendor refused, or answered unexpectedly",
    "503": "The database or the vendor gives no answer",
    "504": "The outcome at the vendor is not known yet",
}

_TOLD = {
    "RateLimit-Policy": ("How often the credential may call", '"default";q=600;w=60'),
    "RateLimit": ("How many calls are left, and in how many seconds all are", '"default";r=599;t=1'),
    STATE: ("Only where the credential is on its way out: `retiring`", "retiring"),
    EXPIRES: (
        "Only with a retiring credential whose end is planned: from then on it may be refused at any moment",
        "Sat, 05 Dec 2026 09:00:00 GMT",
    ),
    SUCCESSOR: (
        "Only with a retiring credential: slot and last characters of the one to take instead",
        'B;hint="x7Kq"',
    ),
}  # headers of an answer to whoever presented a credential of this hub


def guarded(operation: dict[str, Any]) -> None:
    """Says of one operation which headers come with its answers."""
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _TOLD}


def described(found: dict[str, Any]) -> None:
    """Replaces the lists of statuses by answers, and takes away what the framework says of its own errors."""
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = shapes.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["headers"] = {
        name: {"description": says, "schema": {"type": "string"}, "example": example}
        for name, (says, example) in _TOLD.items()
    }
    answers = components.setdefault("responses", {})
    for status, says in _SAYS.items():
        answers[f"Problem{status}"] = {
            "description": says,
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(int(status), says),
                }
            },
        }
    for methods in found["paths"].values():
        for operation in methods.values():
            extra = operation.pop("x-problems", None)
            for internal in ("x-hub-wide", "x-secret"):
                operation.pop(internal, None)
            _examples(operation)
            for status in [
                *map(str, extra or ()),
                *(["413"] if "requestBody" in operation and extra else []),
            ]:
                operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}
            if _FRAMEWORKS in repr(operation["responses"].get("422")):  # every error of ours is a problem
                operation["responses"]["422"] = {"$ref": "#/components/responses/Problem422"}
    for name in (_FRAMEWORKS, "ValidationError"):
        schemas.pop(name, None)


def _examples(operation: dict[str, Any]) -> None:
    """Put in last, because the framework drops what is null from everything it is given."""
    sends, gets = operation.pop("x-sends", None), operation.pop("x-example", None)
    if sends is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = json.loads(sends)
    if gets is not None:
        status, media, example = json.loads(gets)
        operation["responses"][status]["content"][media]["example"] = example


def _example(status: int, says: str) -> dict[str, Any]:
    return {
        "type": "urn:keyturn:problem:example",
        "title": says.partition(":")[0].partition(";")[0],
        "status": status,
        "detail": "what is wrong, in plain words",
        "code": "example",
        "request_id": "req_06f0k50a1b2c3d4e5f6g7h8j9k",
    }
