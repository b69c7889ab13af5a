"""Reads requests, conditions, error rules and extractions."""

from __future__ import annotations

from typing import Any

from keyturn.definitions.cursor import Cursor
from keyturn.definitions.jsonpath import JsonPath, PathRefused, compile_path
from keyturn.definitions.model import (
    ABSENT,
    CLASSES,
    PHASES,
    Condition,
    ErrorRule,
    Extract,
    JsonTest,
    RequestSpec,
    Wait,
)
from keyturn.definitions.patterns import compiled

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_REQUEST = (
    "method",
    "path",
    "url",
    "query",
    "headers",
    "json",
    "form",
    "auth",
    "safe",
    "allow_secret_in_url",
)
_WHEN = (
    "status",
    "status_from",
    "status_to",
    "json",
    "header",
    "content_type_contains",
    "text_contains",
    "phase",
    "network",
)


def read_request(at: Cursor) -> RequestSpec:
    """A request: `path` joins the base URL, `url` stands alone."""
    at = at.keys(*_REQUEST, required=("method",))
    path, url = at.template("path"), at.template("url")
    if (path is None) == (url is None):
        at.refuse("needs exactly one of path and url", "Write `path: /...` for a path below base_url.")
    if path is not None and "?" in "".join(p for p in path.pieces if isinstance(p, str)):
        at.refuse("the path holds a query", "Move it to `query:`.")
    json, form, signed_as = at.get("json"), at.get("form"), _own_auth(at)
    if json is not None and form is not None:
        at.refuse("has both json and form", "A body is one or the other.")
    return RequestSpec(
        method=at.choice("method", METHODS, "GET"),
        path=path,
        url=url,
        query=at.templates("query"),
        headers=at.templates("headers"),
        json=ABSENT if json is None else _body(json),
        form=None if form is None else at.templates("form"),
        auth=signed_as is not None or at.choice("auth", ("definition", "none"), "definition") == "definition",
        signed_as=signed_as,
        safe=at.flag("safe"),
        allow_secret_in_url=at.flag("allow_secret_in_url"),
        line=at.line,
        at=at.path,
    )


def _own_auth(at: Cursor) -> Any:
    """An auth block inside the request, for an administrator who signs differently. Only kinds without a first call."""
    inner = at.get("auth")
    if inner is None or not inner.is_mapping():
        return None
    from keyturn.definitions.read_auth import read_auth

    kind = inner.text("kind")
    if kind not in {"api_key", "basic", "bearer"}:
        inner.refuse(
            "a request's own auth is api_key, basic or bearer", "Or write auth: none and set a header."
        )
        return None
    return read_auth(inner)


def _body(at: Cursor) -> Any:
    if isinstance(at.value, dict):
        return {key: _body(inner) for key, inner in at.pairs()}
    if isinstance(at.value, list):
        return [_body(Cursor(v, f"{at.path}[{i}]", at.log)) for i, v in enumerate(at.value)]
    return at.as_template() if isinstance(at.value, str) else at.value


def read_path(at: Cursor, key: str) -> JsonPath | None:
    """The JSON path under `key`."""
    inner = at.get(key)
    if inner is None:
        return None
    try:
        return compile_path(inner.as_text())
    except PathRefused as error:
        inner.refuse(str(error), "Write it like $.items[*].id or $.keys[?@.name=='x'].id.")
        return None


def need_path(at: Cursor, key: str) -> JsonPath:
    """The JSON path under `key`, which must be there."""
    if at.get(key) is None:
        at.log.refuse(at.line, f"{at.path}.{key}", "is missing", f"Add a line `{key}: $...`.")
    return read_path(at, key) or compile_path("$")


def read_success(at: Cursor, key: str = "success") -> tuple[Condition, ...]:
    """The rules that must all hold; without any, a 2xx status is enough."""
    found = []
    for item in at.items(key):
        item.keys("status", "header", "json")
        inner = item.get("status")
        status: tuple[int, ...] = ()
        if inner is not None:
            status = (
                item.integers("status") if isinstance(inner.value, list) else inner.keys("in").integers("in")
            )
        found.append(Condition(status=status, json=_json(item), header=_header(item)))
    return tuple(found) or (Condition(status_from=200, status_to=299),)


def read_conditions(at: Cursor, key: str) -> tuple[Condition, ...]:
    """A list of conditions as in error rules."""
    return tuple(read_condition(item) for item in at.items(key))


def read_condition(at: Cursor) -> Condition:
    """What stands under `when`."""
    at = at.keys(*_WHEN)
    if at.value == {}:
        at.refuse("matches everything", "Give at least one key, such as status: [401].")
    return Condition(
        status=at.integers("status"),
        status_from=at.integer("status_from"),
        status_to=at.integer("status_to", 599 if at.get("status_from") else 0),
        json=_json(at),
        header=_header(at),
        content_type_contains=at.text("content_type_contains").lower(),
        text_contains=at.text("text_contains"),
        phase=at.choice("phase", PHASES),
        network=at.choice("network", ("timeout", "dns", "tls", "refused")),
    )


def _json(at: Cursor) -> JsonTest | None:
    inner = at.get("json")
    if inner is None:
        return None
    inner = inner.keys("path", "equals", "not_equals", "contains", "exists", required=("path",))
    if len(inner.value) < 2:
        inner.refuse("tests nothing", "Add equals, not_equals, contains or exists.")
    raw = inner.value
    return JsonTest(
        path=need_path(inner, "path"),
        equals=raw["equals"].plain() if "equals" in raw else ABSENT,
        not_equals=raw["not_equals"].plain() if "not_equals" in raw else ABSENT,
        contains=inner.text("contains"),
        exists=inner.flag("exists") if inner.get("exists") else None,
    )


def _header(at: Cursor) -> tuple[str, str] | None:
    inner = at.get("header")
    if inner is None:
        return None
    inner = inner.keys("name", "contains", required=("name",))
    return (inner.text("name"), inner.text("contains"))


def read_errors(at: Cursor, key: str = "errors") -> tuple[ErrorRule, ...]:
    """The ordered rules under `key`."""
    found = []
    for item in at.items(key):
        item.keys("when", "class", "wait", "message", "hint", required=("when", "class"))
        when = item.get("when")
        condition = read_condition(when) if when is not None else Condition()
        kind = item.choice("class", CLASSES, "unknown")
        if condition.network and kind not in {"transient", "unknown"}:
            item.refuse("a network failure says nothing about a credential", "Use class: transient.")
        found.append(
            ErrorRule(condition, kind, _wait(item), item.text("message"), item.text("hint"), item.line)
        )
    return tuple(found)


def _wait(at: Cursor) -> Wait | None:
    inner = at.get("wait")
    if inner is None:
        return None
    inner = inner.keys("header", "json", "as", required=("as",))
    return Wait(
        unit=inner.choice("as", ("seconds", "ms", "unix", "iso", "http_date"), "seconds"),
        header=inner.text("header"),
        json=read_path(inner, "json"),
    )


def read_extract(at: Cursor | None, cardinality: str = "one") -> Extract | None:
    """One extraction; a bare text is a JSON path."""
    if at is None:
        return None
    if not at.is_mapping():
        try:
            return Extract(json=compile_path(at.as_text()), cardinality=cardinality)
        except PathRefused as error:
            at.refuse(str(error), "Write {json: $.x, cardinality: one}.")
            return None
    at = at.keys("json", "header", "status", "text_regex", "value", "cardinality", "type", "split")
    given = [k for k in ("json", "header", "status", "text_regex", "value") if at.get(k) is not None]
    if len(given) != 1:
        at.refuse("needs exactly one source", "Give one of json, header, status, text_regex, value.")
    regex = at.text("text_regex")
    if regex:
        pattern = compiled(regex)
        if pattern is None or pattern.groups != 1:
            at.refuse(
                "text_regex must be a valid RE2 expression with one group", "Write it like id=([0-9]{1,20})."
            )
    return Extract(
        json=read_path(at, "json"),
        header=at.text("header"),
        status=at.flag("status"),
        text_regex=regex,
        value=at.template("value"),
        cardinality=at.choice("cardinality", ("one", "optional", "many"), cardinality),
        type=at.choice("type", ("string", "int")),
        split=at.text("split"),
    )
