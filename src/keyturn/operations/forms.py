"""Reading a filled form: every problem is named by field, with the fix, before anything is started."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import re2

from keyturn.contract.manifest import Field, Method
from keyturn.errors import InvalidInput
from keyturn.model.secret import Material

_MOST = 64 * 1024


def read_form(
    row: str, method: Method, values: Mapping[str, str]
) -> tuple[dict[str, Any], Material, Material | None]:
    """Splits what was typed into settings, the credential's parts and the administrator's parts.

    Raises: InvalidInput naming the first wrong field and the fix.
    """
    known = {field.name: field for field in method.fields}
    for name in values:
        if name not in known:
            raise InvalidInput(f"{row} has no field {name}", hint=f"Fields: {', '.join(known)}.", field=name)
    settings: dict[str, Any] = {}
    parts: dict[str, str] = {}
    admin: dict[str, str] = {}
    for field in method.fields:
        raw = values.get(field.name)
        if raw is None or raw == "":
            if field.required and field.default is None:
                raise InvalidInput(
                    f"{field.name} is missing: {field.label}", hint=_help(field), field=field.name
                )
            if field.default is None:
                continue
            raw = str(field.default)
        value = checked(field, raw)
        if field.group == "admin":
            admin[field.name.removeprefix("admin_")] = admin[field.name] = str(value)
        elif field.secret or field.part:
            parts[field.name] = str(value)
        if not field.secret:
            settings[field.name] = value
    public = frozenset(f.name for f in method.fields if f.part and not f.secret)
    return settings, Material(parts, public), Material(admin) if admin else None


def whole_admin(method: Method, values: Mapping[str, str]) -> None:
    """An administrator is given with name and secret, or not at all. Raises: InvalidInput naming what is missing."""
    fields = [field for field in method.fields if field.group == "admin"]
    typed = [field for field in fields if values.get(field.name)]
    named, secret = [f for f in fields if not f.secret], [f for f in fields if f.secret]
    for lacking in (named[:1], secret):
        if typed and lacking and not any(field in typed for field in lacking):
            wanted = " or ".join(field.name for field in lacking)
            raise InvalidInput(
                f"{typed[0].name} is given and {wanted} is missing",
                hint=f"{_help(lacking[0])} Give both, or neither.",
                field=lacking[0].name,
            )


def checked(field: Field, raw: str) -> Any:
    """One value, in its type. Raises: InvalidInput."""
    if len(raw) > _MOST:
        raise InvalidInput(f"{field.name} is longer than {_MOST} characters", field=field.name)
    if field.kind == "file":
        return raw
    if raw != raw.strip() or any(unicodedata.category(c) == "Cc" for c in raw):
        raise InvalidInput(
            f"{field.name} has spaces at its ends or control characters in it",
            hint="Paste it again without the line break.",
            field=field.name,
        )
    if field.kind in {"integer", "port"}:
        if not re2.fullmatch("[0-9]{1,9}", raw):
            raise InvalidInput(f"{field.name} must be a whole number", hint=_help(field), field=field.name)
        if field.kind == "port" and not 1 <= int(raw) <= 65535:
            raise InvalidInput(
                f"{field.name} must be a port: 1 to 65535", hint=_help(field), field=field.name
            )
        return int(raw)
    if field.kind == "boolean":
        if raw.lower() not in {"true", "false", "yes", "no"}:
            raise InvalidInput(f"{field.name} must be true or false", field=field.name)
        return raw.lower() in {"true", "yes"}
    if field.kind == "choice" and raw not in field.choices:
        raise InvalidInput(f"{field.name} must be one of {', '.join(field.choices)}", field=field.name)
    if field.pattern and not re2.fullmatch(field.pattern, raw):
        raise InvalidInput(
            f"{field.name} does not have the form of {field.label}", hint=_help(field), field=field.name
        )
    return raw


def _help(field: Field) -> str:
    said = field.help or f"{field.label}."
    return f"{said} Example: {field.example}" if field.example and not field.secret else said


def read_parts(method: Method, fields: tuple[Mapping[str, Any], ...], values: Mapping[str, str]) -> bytes:
    """What a person typed into a task, checked field by field, as bytes for the vault."""
    known = {str(each["name"]): each for each in fields}
    for name in values:
        if name not in known:
            raise InvalidInput(
                f"this task has no field {name}", hint=f"Fields: {', '.join(known)}.", field=name
            )
    found: dict[str, str] = {}
    for name, each in known.items():
        raw = values.get(name, "")
        if not raw:
            if each.get("required", True):
                raise InvalidInput(f"{name} is missing: {each.get('label', name)}", field=name)
            continue
        field = method.field(name) or Field(name=name, label=str(each.get("label", name)))
        found[name] = str(checked(field, raw.strip() if field.kind != "file" else raw))
    return json.dumps(found).encode()
