"""Reads a `rest-credential/v1` document, alone or embedded in a system's definition."""

from __future__ import annotations

import hashlib
import json
import re

from keyturn.definitions.auth import Basic, NoAuth, OAuth, Placed
from keyturn.definitions.cards import read_lockout
from keyturn.definitions.cursor import EMPTY, Cursor
from keyturn.definitions.document import Malformed, parse
from keyturn.definitions.expressions import ExpressionRefused, Template, compile_template
from keyturn.definitions.findings import Log
from keyturn.definitions.model import Definition, Input, Part
from keyturn.definitions.patterns import compiled
from keyturn.definitions.read_auth import read_auth
from keyturn.definitions.read_request import read_errors
from keyturn.definitions.read_rotation import (
    read_discover,
    read_manual,
    read_rotation,
    read_samples,
    read_test,
)

SCHEMA = "rest-credential/v1"
_BLOCK = (
    "revision",
    "docs",
    "inputs",
    "hosts",
    "base_url",
    "credential",
    "admin",
    "auth",
    "http",
    "test",
    "discover",
    "sample",
    "errors",
    "rotation",
    "manual",
    "disconnect",
    "reconnect",
    "env",
    "principal",
)
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
_ID = re.compile(r"^[a-z0-9]+(?:[-_/][a-z0-9]+)*$")
_VARIABLE = re.compile(r"^[A-Z][A-Z0-9_]{0,63}$")


def read_definition(text: str, where: str) -> Definition:
    """The definition in `text`, which may still deserve lint findings (`check`).

    Raises: InvalidInput naming `where`, line, field and fix.
    """
    log = Log(where)
    definition = collect_definition(text, log)
    log.stop_if_refused()
    if definition is None:  # unreachable: whatever leaves no definition has left a finding
        raise AssertionError(where)
    return definition


def collect_definition(text: str, log: Log) -> Definition | None:
    """Reads as far as it can; what is wrong is in `log`."""
    try:
        top = Cursor(parse(text), "", log)
    except Malformed as error:
        log.refuse(error.line, "", error.message, error.fix)
        return None
    top = top.keys(
        "schema", "id", "title", *_BLOCK, required=("schema", "id", "title", "base_url", "auth", "test")
    )
    top.choice("schema", [SCHEMA])
    name = top.text("id")
    inner = top.get("id")
    if inner is not None and not _ID.match(name):
        inner.refuse(f"{name!r} is not an id", "Use lower-case words joined by '-'.")
    return _definition(top, name, top.text("title"))


def read_block(at: Cursor, row: str, title: str) -> Definition:
    """An embedded document: the same keys without schema, id and title."""
    return _definition(at.keys(*_BLOCK, required=("base_url", "auth", "test")), row, title)


def _definition(at: Cursor, name: str, title: str) -> Definition:
    auth_at, credential, http = at.get("auth"), at.get("credential"), at.get("http")
    auth = read_auth(auth_at) if auth_at is not None else NoAuth()
    if credential is not None:
        if auth_at is not None and auth_at.text("kind") == "none":
            credential.refuse(
                "auth `none` sends no credential", "Say in `auth` how it travels, or leave it out."
            )
        credential = credential.keys("parts", "overlap", "expiry", "lockout", "reviewable")
    if http is not None:
        http = http.keys("headers", "timeout_s", "max_response_bytes", "redirects")
        http.choice("redirects", ("none",))
    admin = at.get("admin")
    admin = admin.keys("parts", required=("parts",)) if admin is not None else None
    expiry = credential.get("expiry") if credential is not None else None
    if expiry is not None:
        expiry = expiry.keys("policy_days", "warn_days", "known_at", "none")
    overlap = credential.get("overlap") if credential is not None else None
    overlap = overlap.keys("supported", "max_active") if overlap is not None else None
    lockout = credential.get("lockout") if credential is not None else None
    _ignored(at)
    _once(at)
    return Definition(
        id=name,
        title=title,
        revision=at.integer("revision", 1, least=1),
        docs=at.text("docs"),
        inputs=_inputs(at),
        hosts=at.texts("hosts"),
        base_url=at.template("base_url") or EMPTY,
        parts=_parts(credential) if credential is not None else _implied(auth),
        admin_parts=_parts(admin) if admin is not None else (),
        auth=auth,
        test=read_test(at.get("test"), at),
        errors=read_errors(at),
        discover=read_discover(at.get("discover")),
        samples=read_samples(at),
        rotation=read_rotation(at.get("rotation"), _default_mode(auth)),
        manual=read_manual(at.get("manual")),
        max_active=overlap.integer("max_active") if overlap is not None else 0,
        overlap=overlap.flag("supported", True) if overlap is not None else True,
        policy_days=expiry.integer("policy_days") if expiry is not None else 0,
        expiry_told=expiry is not None,
        lockout=read_lockout(lockout) if lockout is not None else None,
        old_counts=lockout.flag("old_counts") if lockout is not None else False,
        reviewable=credential.flag("reviewable") if credential is not None else False,
        headers=http.templates("headers") if http is not None else (),
        timeout_s=http.number("timeout_s", 15.0, least=0.05) if http is not None else 15.0,
        max_bytes=http.integer("max_response_bytes", 262_144, least=1) if http is not None else 262_144,
        env=_env(at),
        principal=at.texts("principal"),
        hash=_hash(at),
        where=at.log.where,
        lines={key: item.line for key, item in at.value.items()},
    )


def _once(at: Cursor) -> None:
    """A name must mean one field: inputs, parts and the administrator's parts share one form."""
    seen: set[str] = set()
    for block in ("inputs", "credential", "admin"):
        inner = at.get(block)
        named = [] if inner is None else inner.pairs() if block == "inputs" else inner.entries("parts")
        for name, item in named:
            if name in seen:
                item.refuse(
                    f"{name!r} is used twice",
                    "Give the administrator's parts other names, such as admin_user.",
                )
            seen.add(name)


def _default_mode(auth: object) -> str:
    return "reconsent" if isinstance(auth, OAuth) and auth.kind == "oauth2_code" else "manual"


def _inputs(at: Cursor) -> tuple[Input, ...]:
    found = []
    for name, inner in at.entries("inputs"):
        item = inner.keys(
            "type", "title", "help", "example", "pattern", "enum", "default", "required", "source"
        )
        _named(name, item)
        kinds = {"string": "text", "integer": "integer", "boolean": "boolean"}
        kind = kinds[item.choice("type", kinds, "string")]
        choices = item.texts("enum")
        default, template = _default(item)
        found.append(
            Input(
                name=name,
                title=item.text("title", name),
                help=item.text("help"),
                example=item.text("example"),
                pattern=_pattern(item),
                kind="choice" if choices else kind,
                choices=choices,
                default=default,
                default_template=template,
                required=item.flag("required", default is None and template is None),
                source=item.text("source"),
            )
        )
    return tuple(found)


def _default(at: Cursor) -> tuple[object, Template | None]:
    inner = at.get("default")
    if inner is None:
        return None, None
    if not isinstance(inner.value, str) or "${" not in inner.value:
        return inner.value if isinstance(inner.value, str | int | float | bool) else inner.as_text(), None
    try:
        template = compile_template(inner.value)
    except ExpressionRefused as error:
        inner.refuse(error.message, error.fix)
        return None, None
    if any(r.scope != "input" for r in template.references()):
        inner.refuse("a default may only use other inputs", "Use ${input.name}.")
    return None, template


def _parts(at: Cursor) -> tuple[Part, ...]:
    found = []
    for name, inner in at.entries("parts"):
        item = inner.keys("secret", "title", "help", "example", "pattern", "required", "trim", "source")
        _named(name, item)
        found.append(
            Part(
                name=name,
                title=item.text("title", name),
                help=item.text("help"),
                example=item.text("example"),
                pattern=_pattern(item),
                secret=item.flag("secret", True),
                required=item.flag("required", True),
                trim=item.flag("trim"),
                source=item.text("source"),
            )
        )
    return tuple(found)


def _implied(auth: object) -> tuple[Part, ...]:
    """Client credentials need no `credential` block when the standard names are used."""
    if isinstance(auth, OAuth) and auth.kind == "oauth2_cc":
        return (Part("client_id", "Client id", secret=False), Part("client_secret", "Client secret"))
    templates = []
    if isinstance(auth, Placed):
        templates = [p.format for p in auth.place]
    elif isinstance(auth, Basic):
        templates = [auth.username, auth.password]
    names = dict.fromkeys(r.path for t in templates for r in t.references() if r.scope == "secret")
    return tuple(
        Part(n, n.replace("_", " ").capitalize(), secret=n not in {"username", "user"}) for n in names
    )


def _pattern(at: Cursor) -> str:
    pattern = at.text("pattern")
    if pattern and compiled(pattern) is None:
        at.refuse("the pattern is not a valid regular expression", "Use RE2 syntax, without look-around.")
    return pattern


def _named(name: str, at: Cursor) -> None:
    if not _NAME.match(name):
        at.refuse(f"{name!r} is not a name", "Use letters, digits and '_', starting with a letter.")


def _env(at: Cursor) -> tuple[tuple[str, str], ...]:
    found = []
    for name, inner in at.entries("env"):
        inner.as_template()
        if not _VARIABLE.match(name):
            inner.refuse("is not a variable name", "Use capitals, digits and '_'.")
        found.append((name, inner.as_text()))
    return tuple(found)


def _ignored(at: Cursor) -> None:
    """Blocks whose content the plan already implies: their keys are checked, so that a misspelling is found."""
    disconnect, reconnect = at.get("disconnect"), at.get("reconnect")
    if disconnect is not None:
        disconnect = disconnect.keys("requests", "then", "order", "manual", "final_check")
        for name in disconnect.texts("requests"):
            if name != "revoke":
                disconnect.refuse(f"the request {name!r} is not declared", "Use revoke.")
    if reconnect is not None:
        reconnect.keys("compare_with_last").flag("compare_with_last")


def _hash(at: Cursor) -> str:
    content = json.dumps(at.item.plain(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
