"""Reads `connectors/<system>/definition.yaml`: everything a person or program must know about a system's methods."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from keyturn.contract.manifest import PROVEN, Field, Guide, Method, System, Variant
from keyturn.definitions.cards import read_card
from keyturn.definitions.cursor import EMPTY, Cursor
from keyturn.definitions.derive import calls_of, card, fields, principal_of, readables
from keyturn.definitions.document import Malformed, parse
from keyturn.definitions.findings import Log, did_you_mean
from keyturn.definitions.guide import read_permissions, read_readables, read_sources, read_steps
from keyturn.definitions.model import Definition
from keyturn.definitions.patterns import compiled
from keyturn.definitions.reader import read_block
from keyturn.model.card import Card

SCHEMA = "keyturn-system/v1"
_TOP = ("schema", "system", "title", "category", "summary", "docs", "sources", "methods", "single")
_METHOD = (
    "title",
    "direction",
    "summary",
    "fields",
    "principal",
    "card",
    "variants",
    "guide",
    "permissions",
    "reads",
    "sources",
    "unsupported",
    "env",
    "calls",
    "rest",
)
_FIELD = (
    "label",
    "help",
    "example",
    "pattern",
    "kind",
    "choices",
    "default",
    "required",
    "secret",
    "part",
    "group",
    "source",
)
_KINDS = ("text", "integer", "port", "boolean", "choice", "file")
_GUIDE = ("create", "revoke", "recovery", "paste_fields", "requires_pause", "handover")
_CAPABILITIES = (
    "verify",
    "list",
    "read",
    "make",
    "set",
    "issue",
    "disable",
    "revoke",
    "drop",
    "authorize",
    "discover",
    "rotate",
    "reauthorize",
    "disconnect",
    "reconnect",
    "migrate",
    "refresh",
    "contain",
)
_SLUG = re.compile(r"^[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*$")
_VARIABLE = re.compile(r"^[A-Z][A-Z0-9_]{0,63}$")


def read_system(text: str, where: str) -> System:
    """The system in `text`. Raises: InvalidInput naming `where`, line, field and fix."""
    log = Log(where)
    system = collect_system(text, log)
    log.stop_if_refused()
    return system


def collect_system(text: str, log: Log) -> System:
    """Reads as far as it can; what is wrong is in `log`."""
    try:
        top = Cursor(parse(text), "", log)
    except Malformed as error:
        log.refuse(error.line, "", error.message, error.fix)
        return System("", "", "", (), ())
    top = top.keys(*_TOP, required=("schema", "system", "title", "summary", "methods"))
    top.choice("schema", [SCHEMA])
    name = _slug(top, "system")
    shared = read_sources(top.items("sources"))
    methods = []
    for key, at in top.entries("methods"):
        if not _SLUG.match(key):
            at.refuse(f"{key!r} is not a method name", "Use lower-case words joined by '_'.")
        method = _method(key, at, name)
        methods.append(dataclasses.replace(method, sources=(*method.sources, *shared)))
    return System(
        name,
        top.text("title"),
        top.text("summary"),
        top.texts("docs"),
        tuple(methods),
        top.text("category"),
        top.flag("single"),
    )


def as_method(definition: Definition, method: Method) -> Method:
    """The row as the user's own definition makes it: its fields, card and guide take the placeholders' place."""
    names = {f.name for f in fields(definition)}
    kept = tuple(f for f in method.fields if f.name not in names)
    manual = definition.manual
    return dataclasses.replace(
        method,
        fields=(*kept, *fields(definition)),
        card=card(definition),
        principal=principal_of(definition) or method.principal or ("definition",),
        variants=(),
        create_steps=manual.create_steps if manual else (),
        revoke_steps=manual.revoke_steps if manual else (),
        recovery_steps=manual.recovery_steps if manual else (),
        paste_fields=manual.paste_fields if manual else (),
        requires_pause=bool(manual and manual.requires_pause),
        env=dict(definition.env),
        reads=readables(definition),
        calls=calls_of(definition),
        rest=definition,
    )


def _method(name: str, at: Cursor, system: str) -> Method:
    at = at.keys(*_METHOD, required=("title", "direction", "summary"))
    rest = _rest(at, f"{system}/{name}")
    definition = rest if isinstance(rest, Definition) else None
    listed = _fields(at, fields(definition) if definition else ())
    row_card = _card(at, definition)
    guide = at.get("guide")
    guide = guide.keys(*_GUIDE) if guide is not None else None
    manual = definition.manual if definition else None
    env = {k: c.as_text() for k, c in at.entries("env")} or (dict(definition.env) if definition else {})
    _check_env(at, env)
    method = Method(
        name=name,
        title=at.text("title"),
        direction=at.choice("direction", ("outbound", "inbound"), "outbound"),
        summary=at.text("summary"),
        fields=listed,
        card=row_card,
        principal=at.texts("principal") or (definition.principal if definition else ()),
        variants=_variants(at, row_card),
        create_steps=(read_steps(guide.items("create")) if guide else ())
        or (manual.create_steps if manual else ()),
        revoke_steps=(read_steps(guide.items("revoke")) if guide else ())
        or (manual.revoke_steps if manual else ()),
        recovery_steps=(read_steps(guide.items("recovery")) if guide else ())
        or (manual.recovery_steps if manual else ()),
        paste_fields=(guide.texts("paste_fields") if guide else ())
        or (manual.paste_fields if manual else ()),
        handover=guide.flag("handover") if guide is not None else False,
        requires_pause=guide.flag("requires_pause", bool(manual and manual.requires_pause))
        if guide
        else bool(manual and manual.requires_pause),
        permissions=read_permissions(at.items("permissions")),
        reads=read_readables(at.items("reads")) or (readables(definition) if definition else ()),
        sources=read_sources(at.items("sources")),
        unsupported={k: c.as_text() for k, c in at.entries("unsupported")},
        env=env,
        calls={
            **(calls_of(definition) if definition else {}),
            **{k: c.as_text() for k, c in at.entries("calls")},
        },
        rest=rest,
    )
    _check_names(at, method)
    return method


def _rest(at: Cursor, row: str) -> Any:
    inner = at.get("rest")
    if inner is None:
        return None
    if inner.value == "user":
        return "user"
    return read_block(inner, row=row, title=at.text("title"))


def _card(at: Cursor, definition: Definition | None) -> Card:
    base = card(definition) if definition is not None else None
    written = at.get("card")
    if written is None:
        if base is None:
            at.refuse("has no card", "Add `card:` with strategy, hands, gap_class and proof.")
        return base or _placeholder()
    return read_card(written, base) or base or _placeholder()


def _placeholder() -> Card:
    """Stands in while the remaining findings are collected; a refused document never gets out."""
    from keyturn.model.card import GapClass, Hands, Proof, Strategy

    return Card(Strategy.SUPPLIED, Hands.GUIDED, GapClass.Z3, Proof.DA)


def _variants(at: Cursor, base: Card) -> tuple[Variant, ...]:
    found = []
    for item in at.items("variants"):
        required = ("name", "field", "equals", "card")
        item.keys(*required, "needs", "guide", required=required)
        equals = item.get("equals")
        text = (
            "" if equals is None else str(equals.value)
        )  # settings are compared as Python writes them: True, 2
        inner = item.get("card")
        merged = read_card(inner, base) if inner is not None else base
        found.append(
            Variant(
                item.text("name"),
                item.text("field"),
                text,
                merged or base,
                item.texts("needs"),
                _guide(item.get("guide")),
            )
        )
    return tuple(found)


def _guide(at: Cursor | None) -> Guide | None:
    if at is None:
        return None
    guide = at.keys(*_GUIDE)
    return Guide(
        create=read_steps(guide.items("create")),
        revoke=read_steps(guide.items("revoke")),
        recovery=read_steps(guide.items("recovery")),
        paste_fields=guide.texts("paste_fields"),
        requires_pause=guide.flag("requires_pause"),
    )


def _fields(at: Cursor, derived: Iterable[Field]) -> tuple[Field, ...]:
    """Derived fields first, each overridden by what is written under its name; then the written ones."""
    written = dict(at.entries("fields"))
    found = [_field(f.name, written.pop(f.name), f) if f.name in written else f for f in derived]
    found += [_field(name, inner, None) for name, inner in written.items()]
    return tuple(found)


def _field(name: str, at: Cursor, onto: Field | None) -> Field:
    at = at.keys(*_FIELD, required=() if onto else ("label",))
    base = onto or Field(name, name)
    pattern = at.text("pattern", base.pattern)
    if pattern and compiled(pattern) is None:
        at.refuse("the pattern is not a valid regular expression", "Use RE2 syntax, without look-around.")
    kind = at.choice("kind", _KINDS, base.kind)
    choices = at.texts("choices") or base.choices
    if kind == "choice" and not choices:
        at.refuse("a choice needs `choices`", "List them.")
    default = at.get("default")
    if default is not None and not isinstance(default.value, str | int | float | bool):
        default.refuse("must be a single value", "Write one text, number, true or false.")
    secret = at.flag("secret", base.secret)
    return Field(
        name=name,
        label=at.text("label", base.label),
        help=at.text("help", base.help),
        example=at.text("example", base.example),
        pattern=pattern,
        kind=kind,
        choices=choices,
        default=base.default if default is None else default.value,
        required=at.flag("required", base.required),
        secret=secret,
        part=at.flag("part", base.part or secret),
        group=at.text("group", base.group),
        source=at.text("source", base.source),
    )


def _check_names(at: Cursor, method: Method) -> None:
    names = [f.name for f in method.fields]
    wanted = [("principal", n) for n in method.principal if n != PROVEN] + [
        ("guide.paste_fields", n) for n in method.paste_fields
    ]
    wanted += [("variants", v.field) for v in method.variants]
    wanted += [("variants.needs", n) for v in method.variants for n in v.needs]
    wanted += [
        ("variants.guide.paste_fields", n) for v in method.variants if v.guide for n in v.guide.paste_fields
    ]
    for key, name in wanted:
        if name not in names and method.rest != "user":
            at.log.refuse(
                at.line,
                f"{at.path}.{key}",
                f"{name!r} is not a field of this method",
                did_you_mean(name, names),
            )
    for name in method.unsupported:
        if name not in _CAPABILITIES:
            inner = at.get("unsupported")
            line = inner.line if inner else at.line
            at.log.refuse(
                line,
                f"{at.path}.unsupported.{name}",
                "is not a capability",
                did_you_mean(name, _CAPABILITIES),
            )
    if not method.principal and method.rest != "user" and method.direction == "outbound":
        at.log.refuse(
            at.line, f"{at.path}.principal", "is missing", "Name the fields that together name the account."
        )


def _check_env(at: Cursor, env: dict[str, str]) -> None:
    for name in env:
        if not _VARIABLE.match(name):
            at.log.refuse(
                at.line, f"{at.path}.env.{name}", "is not a variable name", "Use capitals, digits and '_'."
            )
    for _name, inner in at.entries("env"):
        if inner.as_template() is EMPTY:
            inner.refuse("is empty", "Give an expression such as ${secret.api_key}.")


def _slug(at: Cursor, key: str) -> str:
    text = at.text(key)
    inner = at.get(key)
    if inner is not None and not _SLUG.match(text):
        inner.refuse(f"{text!r} is not a name", "Use lower-case words joined by '-'.")
    return text
