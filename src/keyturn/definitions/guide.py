"""Reads what people are shown: guided steps, permissions, sources. Texts are checked, never filled, here."""

from __future__ import annotations

from collections.abc import Iterable

from keyturn.contract.manifest import GuideStep, Permission, Readable, Source
from keyturn.definitions.cursor import Cursor
from keyturn.definitions.expressions import ExpressionRefused, compile_template

GUIDE_SCOPES = frozenset({"input", "current", "pending", "retiring", "admin", "job"})
_STEP = ("text", "ui_path", "button", "url", "warning", "hint", "who", "reads_current")


def read_steps(items: Iterable[Cursor]) -> tuple[GuideStep, ...]:
    """A list of steps; a bare text is a step with nothing but its text."""
    return tuple(_step(item) for item in items)


def _step(item: Cursor) -> GuideStep:
    if not item.is_mapping():
        text = item.as_text()
        _checked(item, text)
        return GuideStep(text)
    item.keys(*_STEP, required=("text",))
    item.flag("reads_current")
    for key in ("text", "button", "url", "warning", "hint"):
        inner = item.get(key)
        if inner is not None:
            _checked(inner, item.text(key))
    return GuideStep(
        text=item.text("text"),
        ui_path=item.texts("ui_path"),
        button=item.text("button"),
        url=item.text("url"),
        warning=item.text("warning"),
        hint=item.text("hint"),
        who=item.text("who"),
    )


def _checked(at: Cursor, text: str) -> None:
    try:
        template = compile_template(text)
    except ExpressionRefused as error:
        at.refuse(error.message, error.fix)
        return
    for reference in template.references():
        if reference.scope not in GUIDE_SCOPES:
            at.refuse(
                f"a text for people may not hold {reference.scope}.*",
                f"Use {', '.join(sorted(GUIDE_SCOPES))}; only public parts are filled in.",
            )


def read_permissions(items: Iterable[Cursor]) -> tuple[Permission, ...]:
    """A list of `{right, who, why, grant}`."""
    found = []
    for item in items:
        item.keys("right", "who", "why", "grant", required=("right", "who", "why"))
        found.append(Permission(item.text("right"), item.text("who"), item.text("why"), item.text("grant")))
    return tuple(found)


def read_readables(items: Iterable[Cursor]) -> tuple[Readable, ...]:
    """A list of `{name, counts, example, help}`."""
    found = []
    for item in items:
        item.keys("name", "counts", "example", "help", required=("name", "counts"))
        found.append(
            Readable(item.text("name"), item.text("counts"), item.text("example"), item.text("help"))
        )
    return tuple(found)


def read_sources(items: Iterable[Cursor]) -> tuple[Source, ...]:
    """A list of `{title, url, checked, unconfirmed}`."""
    found = []
    for item in items:
        item.keys("title", "url", "checked", "unconfirmed", required=("title",))
        found.append(
            Source(item.text("title"), item.text("url"), item.text("checked"), item.flag("unconfirmed"))
        )
    return tuple(found)
