"""Form fields as their definition describes them: how they are drawn, and what came back. Secrets are never drawn again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.contract.manifest import Field, Method
from keyturn.web.site import Visit

_TYPED, _FILE = "field-", "file-"


@dataclass(frozen=True)
class Drawn:
    """One field as drawn. `typed` is what stands in it: never a secret."""

    name: str
    label: str
    help: str
    example: str
    kind: str
    choices: tuple[str, ...]
    required: bool
    secret: bool
    source: str
    typed: str
    error: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it may be uploaded or pasted whole."""
        return self.kind == "file"


def draw(
    fields: Iterable[Field],
    typed: Mapping[str, Any],
    wrong: Mapping[str, str] | None = None,
    *,
    always: Sequence[str] = (),
) -> list[Drawn]:
    """Fields with what was typed, or their default; `wrong` are errors by field, `always` are required besides."""
    return [
        Drawn(
            name=f.name,
            label=f.label,
            help=f.help,
            example="" if f.secret else f.example,
            kind=f.kind,
            choices=f.choices,
            required=(f.required and f.default is None) or f.name in always,
            secret=f.secret,
            source=f.source,
            typed="" if f.secret else said(typed.get(f.name, f.default)),
            error=(wrong or {}).get(f.name, ""),
        )
        for f in fields
    ]


def said(value: Any) -> str:
    """A setting as it is typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def sent(it: Visit, fields: Iterable[Field]) -> dict[str, str]:
    """What came back, by field: a file's text where one was uploaded; spaces around what is pasted do not count.

    Raises: InvalidInput, the field named, for a file that is not text.
    """
    found = {}
    for field in fields:
        uploaded = it.upload(_FILE + field.name) if field.kind == "file" else None
        raw = it.text(_TYPED + field.name) if uploaded is None else uploaded
        if raw.strip():
            found[field.name] = raw.replace("\r\n", "\n") if field.kind == "file" else raw.strip()
    return found


@dataclass(frozen=True)
class Sections:
    """The fields of a method in the order in which somebody needs them."""

    main: tuple[Field, ...]
    admin: tuple[Field, ...]
    more: tuple[Field, ...]


def sections(method: Method) -> Sections:
    """What must be filled in, what the administrator's credential is, and what has a good default already."""
    chosen = {v.field for v in method.variants} | {name for v in method.variants for name in v.needs}
    main, admin, more = [], [], []
    for field in method.fields:
        if field.group == "admin":
            admin.append(field)
        elif field.name in chosen or field.secret or field.part or (field.required and field.default is None):
            main.append(field)
        else:
            more.append(field)
    return Sections(tuple(main), tuple(admin), tuple(more))


def plain(values: Mapping[str, str], fields: Iterable[Field]) -> dict[str, str]:
    """What may be drawn again after an error."""
    secret = {field.name for field in fields if field.secret}
    return {name: value for name, value in values.items() if name not in secret}
