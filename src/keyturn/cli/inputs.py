"""What is typed: k=v pairs, secrets from files, variables or stdin, lengths of time, names with a nearest guess."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from keyturn.cli import terminal
from keyturn.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.contract.manifest import Field
    from keyturn.model.credential import Connection

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?")
_SIZES = {"s": 1, "": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
WAYS = "@FILE, env:NAME or - (stdin)"


def length(text: str) -> float:
    """Seconds of a length of time: 90, 90s, 5m, 24h or 7d. Raises: click.BadParameter."""
    found = _LENGTH.fullmatch(str(text).strip().lower())
    if not found:
        raise click.BadParameter(f"{text!r} is not a length of time: use 90s, 5m, 24h or 7d.")
    return float(found[1]) * _SIZES[found[2] or ""]


def read_values(
    plain: Sequence[str], secret: Sequence[str], fields: Mapping[str, Field], environment: Mapping[str, str]
) -> dict[str, str]:
    """`--set` and `--secret` together. Raises: InvalidInput naming the field and the fix."""
    found: dict[str, str] = {}
    for pair in plain:
        name, value = split(pair, "--set")
        field = fields.get(name)
        if field is not None and field.secret:
            raise InvalidInput(
                f"{name} is secret: on the command line it would stay in the shell's history and the process list",
                hint=f"Use --secret {name}={WAYS}. If what you typed is real, replace it soon.",
                field=name,
            )
        if field is not None and field.kind == "file" and value.startswith("@"):
            value = read_source(name, value, environment, whole=True)
        _put(found, name, value)
    for pair in secret:
        name, value = split(pair, "--secret")
        field = fields.get(name)
        _put(found, name, read_source(name, value, environment, whole=bool(field and field.kind == "file")))
    return found


def values_of(
    hub: Keyturn, system: str, method: str, plain: Sequence[str], secret: Sequence[str] = ()
) -> dict[str, str]:
    """What was typed for a method's fields. Raises: NotFound naming the methods there are, InvalidInput."""
    fields = {field.name: field for field in hub.catalog.method(system, method).fields}
    for pair in (*plain, *secret):
        given = pair.partition("=")[0].strip()
        if given and given not in fields:
            hint = did_you_mean(given, fields) or f"Fields: {', '.join(fields)}."
            raise InvalidInput(f"{system}/{method} has no field {given}", hint=hint, field=given)
    return read_values(plain, secret, fields, hub.settings.environment)


def _put(found: dict[str, str], name: str, value: str) -> None:
    if name in found:
        raise InvalidInput(f"{name} is given twice", hint="Give each field once.", field=name)
    found[name] = value


def split(pair: str, option: str) -> tuple[str, str]:
    """`k=v`. Raises: InvalidInput; what was typed is not repeated, it may be a secret."""
    name, equals, value = pair.partition("=")
    if not equals or not name.strip():
        raise InvalidInput(
            f"{option} wants name=value", hint=f"For example {option} host=db.example.com", field=option
        )
    return name.strip(), value


def read_source(name: str, way: str, environment: Mapping[str, str], *, whole: bool = False) -> str:
    """A value from `@FILE`, `env:NAME` or `-`. One line break at its end is dropped unless `whole`.

    Raises: InvalidInput naming the field; never repeats the value.
    """
    if way == "-":
        if sys.stdin.isatty():
            return str(click.prompt(f"{name} (hidden)", hide_input=True, err=True))
        text = sys.stdin.read()
    elif way.startswith("@"):
        text = _read_file(name, os.path.expanduser(way[1:]))
    elif way.startswith("env:"):
        variable = way.removeprefix("env:")
        if variable not in environment:
            raise InvalidInput(
                f"{name}: the environment variable {variable} is not set",
                hint="Export it first, or use @FILE.",
                field=name,
            )
        text = environment[variable]
    else:
        raise InvalidInput(
            f"{name}: a secret is not typed on the command line: it would stay in the shell's history",
            hint=f"Use --secret {name}={WAYS}. If what you typed is real, replace it soon.",
            field=name,
        )
    if not text:
        raise InvalidInput(f"{name}: {way} is empty", hint=f"Use {WAYS} with the value in it.", field=name)
    return text if whole else text.removesuffix("\n").removesuffix("\r")


def _read_file(name: str, path: str) -> str:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1 << 20).decode()
    except OSError as error:
        raise InvalidInput(
            f"{name}: cannot read {path} ({error.strerror})", hint="Check the path and its mode.", field=name
        ) from None
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{name}: {path} is not text", hint="Convert it to PEM or plain text first.", field=name
        ) from None
    if stat.S_ISREG(mode) and mode & 0o004:
        terminal.note(f"Note: everybody on this machine can read {path}.")
    return text


def read_policy(given: Sequence[str]) -> dict[str, Any]:
    """`--policy k=v` with numbers and yes/no in their type; `Policy` checks the names."""
    found: dict[str, Any] = {}
    for pair in given:
        name, value = split(pair, "--policy")
        if value.lower() in {"yes", "true", "no", "false"}:
            found[name] = value.lower() in {"yes", "true"}
        elif name == "proof":
            found[name] = value.upper()
        elif name == "approve":
            found[name] = [each.strip() for each in value.split(",") if each.strip()]
        else:
            length = _LENGTH.fullmatch(value.strip().lower())
            found[name] = float(length[1]) * _SIZES[length[2] or ""] if length else value
            if length and name.endswith("_days"):
                found[name] /= 86400 if length[2] else 1
    return found


def ask_missing(fields: Iterable[Field], values: dict[str, str]) -> None:
    """Asks the person at the terminal for every required field that is missing; secrets are not shown."""
    from keyturn.operations.forms import checked

    for field in fields:
        if field.name in values or not field.required or field.default is not None:
            continue
        if field.help:
            terminal.note(terminal.style(f"  {field.help}", dim=True))
        while True:
            raw = _prompt(field)
            try:
                checked(field, raw)
            except InvalidInput as error:
                terminal.note(f"  {error.message}. {error.hint}")
                continue
            values[field.name] = raw
            break


def _prompt(field: Field) -> str:
    if field.kind == "file":
        path = click.prompt(f"{field.label} (path of a file)", err=True)
        return _read_file(field.name, os.path.expanduser(path))
    label = f"{field.label} (e.g. {field.example})" if field.example and not field.secret else field.label
    if field.kind == "choice":
        return str(click.prompt(label, type=click.Choice(field.choices), err=True))
    return str(click.prompt(label, hide_input=field.secret, err=True))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known words as a question; empty when nothing is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 3, 0.5)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def connection(hub: Keyturn, name: str) -> Connection:
    """A connection by name or id. Raises: NotFound with the nearest names."""
    from keyturn.operations import connections

    try:
        return connections.find(hub, name)
    except NotFound as error:
        guess = did_you_mean(name, (c.name for c in connections.every(hub)))
        raise NotFound(error.message, hint=guess or error.hint, field="name") from None
