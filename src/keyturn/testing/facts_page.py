"""Facts about the definition: what a person or program is told before anything is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date

from keyturn import catalog
from keyturn.contract.manifest import PROVEN, Method
from keyturn.model.card import Hands, Strategy
from keyturn.testing.row import RowUnderTest

Told = tuple[str, Callable[[RowUnderTest], None], tuple[str, ...], Callable[[RowUnderTest], bool]]


def facts() -> Iterator[Told]:
    """(name, check, capabilities needed, whether it applies)."""
    for check in (agrees, fields, sources, permissions, guide, env):
        yield f"page: {check.__name__}", check, (), lambda _row: True
    yield "page: reasons", reasons, (), lambda row: not row.is_public  # none is made, none is ended


def agrees(row: RowUnderTest) -> None:
    """Card, method and code agree: the catalogue would load the row."""
    catalog.check(row.name, row.method, row.card, row.can)
    for variant in row.method.variants:
        chosen = row.method.field(variant.field)
        assert chosen is not None, (
            f"variant {variant.name} hangs on a field that does not exist: {variant.field}"
        )
        assert not chosen.choices or variant.equals in chosen.choices, f"{variant.name} can never be chosen"


def fields(row: RowUnderTest) -> None:
    """Every field has a label; required ones say how to find their value, and examples fit their own pattern."""
    names = [field.name for field in row.method.fields]
    assert len(set(names)) == len(names), "a field name occurs twice"
    for field in row.method.fields:
        assert field.label, f"{field.name} has no label"
        assert field.help or not field.required or field.kind == "choice", (
            f"{field.name} does not say how to fill it"
        )
        assert not (field.secret and field.default), f"the secret field {field.name} has a default"
        assert field.kind != "choice" or field.choices, f"{field.name} offers nothing to choose"
        if field.pattern and field.example:
            assert re.fullmatch(field.pattern, field.example), (
                f"the example of {field.name} is refused by its pattern"
            )
    for name in row.method.principal:
        assert name == PROVEN or row.method.field(name), (
            f"the principal is named by a field that does not exist: {name}"
        )
    for name in row.method.paste_fields:
        assert row.method.field(name), f"a task asks for a field that does not exist: {name}"
    held = {field.name for field in row.method.fields if field.secret or field.part}
    stray = set(row.good) - held
    typed = row.can.authorizer is None and row.card.strategy is not Strategy.ISSUED  # else nobody types it
    assert not (typed and stray), f"the credential has parts without a field: {sorted(stray)}"


def sources(row: RowUnderTest) -> None:
    """Vendor facts have a source with the date on which it was checked."""
    assert row.method.sources, "no source is given"
    for source in row.method.sources:
        assert source.title, "a source has no title"
        assert date.fromisoformat(source.checked) <= date.today(), f"{source.title} was checked in the future"
        assert source.url.startswith("https://") or not source.url, (
            f"{source.title} is not reachable by https"
        )


def permissions(row: RowUnderTest) -> None:
    """Every right that is needed is named as the vendor names it, with who needs it and what for."""
    for each in row.method.permissions:
        assert each.right, "a permission has no name"
        assert each.who, f"{each.right}: who needs it?"
        assert each.why, f"{each.right}: what for?"


def reasons(row: RowUnderTest) -> None:
    """What the row cannot do is written down with its reason, and what it can do is not called unsupported."""
    said, can = row.method.unsupported, row.can
    for name, reason in said.items():
        assert len(reason) > 10, f"unsupported {name} gives no reason"
    made = can.issuer or can.setter or can.authorizer or row.card.hands is Hands.GUIDED
    assert made or "issue" in said, "nothing says why no credential can be made"
    # A person ends it where the code cannot; then the page says how.
    ended = (
        can.revoker or row.method.revoke_steps or row.card.strategy in {Strategy.SET_ONE, Strategy.REGENERATE}
    )
    assert ended or "revoke" in said, "nothing says how a credential is ended"
    assert can.revoker is None or "revoke" not in said, "revoke is called unsupported and is offered"
    assert can.lister is None or "list" not in said, "list is called unsupported and is offered"


def guide(row: RowUnderTest) -> None:
    """A row that a person takes part in has steps for creating, and for ending what the code cannot end."""
    method: Method = row.method
    if row.card.hands is Hands.GUIDED and row.card.strategy is not Strategy.CONSENT:
        assert method.create_steps, "no steps for creating"
        assert method.revoke_steps or row.can.revoker, "no steps for ending"
    for step in (*method.create_steps, *method.revoke_steps, *method.recovery_steps):
        assert step.text, "a step says nothing"
        assert "${secret." not in f"{step}", "a step would show a secret"


def env(row: RowUnderTest) -> None:
    """The variables a leased program gets are named for it and take their values from what there is."""
    known = {field.name for field in row.method.fields} | set(row.good)
    for name, text in row.method.env.items():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", name), f"{name} is no name for a variable"
        for scope, field in re.findall(r"\$\{(\w+)\.(\w+)", text):
            assert scope in {"input", "secret", "current"}, f"{name} reads from {scope}"
            assert field in known, f"{name} reads {field}, which does not exist"
