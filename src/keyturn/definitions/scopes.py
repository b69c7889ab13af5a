"""The values behind `${...}` for one call: settings with their defaults, the credential's parts by role, the job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from keyturn.contract.values import Access
from keyturn.definitions.expressions import ValueMissing
from keyturn.definitions.model import Definition
from keyturn.definitions.patterns import fits
from keyturn.errors import InvalidInput
from keyturn.model.credential import Ref
from keyturn.model.secret import Material

Values = dict[str, dict[str, Any]]


def settings_of(definition: Definition, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The connection's settings with defaults filled in. Raises: InvalidInput when one has not its declared shape.

    The check is repeated at every call because a setting may decide which host a secret is sent to.
    """
    found = {i.name: i.default for i in definition.inputs if i.default is not None}
    found.update({k: v for k, v in settings.items() if v is not None and v != ""})
    for item in definition.inputs:
        if item.name not in found and item.default_template is not None:
            found[item.name] = item.default_template.render({"input": found})
        if item.name in found and not fits(item.pattern, str(found[item.name])):
            raise InvalidInput(
                f"{item.title} does not have the expected form",
                hint=f"Example: {item.example}." if item.example else f"Expected: {item.pattern}.",
                field=item.name,
            )
    return found


def values(definition: Definition, access: Access, secret: Material | None) -> Values:
    """The scopes of a call that `secret` signs."""
    return {
        "input": settings_of(definition, access.settings),
        "secret": parts_of(definition, secret),
        "current": parts_of(definition, access.acting),
        "admin": parts_of(definition, access.admin),
        "job": {
            "id": access.marker or "none",
            "marker": access.marker or "none",
            "date": datetime.now(UTC).date().isoformat(),
        },
    }


def parts_of(definition: Definition, material: Material | None) -> dict[str, Any]:
    """A credential's parts, trimmed where the definition says so; empty ones are absent."""
    if material is None:
        return {}
    trimmed = {p.name for p in (*definition.parts, *definition.admin_parts) if p.trim}
    found = {k: (v.strip() if k in trimmed else v) for k, v in material.items()}
    return {k: v for k, v in found.items() if v != ""}


def retiring(definition: Definition, ref: Ref, material: Material | None) -> dict[str, Any]:
    """What is known of a credential that ends: its value where we hold it, its handle in any case."""
    found = {**dict(ref.more), **parts_of(definition, material)}
    if ref.label:
        found["label"] = ref.label
    if ref.id:
        found["handle"] = ref.id
        create = definition.rotation.create
        if create is not None and create.handle:
            found[create.handle] = ref.id
    return found


def signer(access: Access, actor: str) -> Material | None:
    """Whose credential signs. After the cut-over the pending one is the connection's own."""
    return access.admin if actor == "manager" else access.acting


@contextmanager
def complete() -> Iterator[None]:
    """Turns a value that is not there into words: the name of what is missing, never a value."""
    try:
        yield
    except ValueMissing as missing:
        raise InvalidInput(
            f"this call needs {missing.name}, which is not known here",
            hint="Fill in the setting or part of that name, or give it a default in the definition.",
            field=missing.name.partition(".")[2],
        ) from None
