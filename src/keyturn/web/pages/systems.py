"""What can be connected and what this hub issues: one page per system, with the whole card of each of its methods."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from keyturn.errors import NotFound
from keyturn.operations import rights, systems
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_STEP = {"text": "", "ui_path": (), "button": "", "url": "", "warning": "", "hint": "", "who": ""}


def every(it: Visit) -> Response:
    """All systems by category, a line per method."""
    text = it.asked("q")
    groups: dict[str, list[dict[str, Any]]] = {}
    count = 0
    for system in it.hub.catalog.systems():
        said = f"{system.title} {system.name} {words.category(system)} {' '.join(m.title for m in system.methods)}".casefold()
        if all(word in said for word in text.casefold().split()):
            count += 1
            groups.setdefault(words.category(system), []).append(
                {"system": system, "badge": words.badge(system.title)}
            )
    return it.render(
        "systems.html", groups=sorted(groups.items()), asked=text, count=count, gaps=systems.GAPS
    )


def one(it: Visit, system: str) -> Response:
    """One system: steps, rights, what users notice, how death is proven, end dates, sources."""
    if system not in it.hub.catalog.names():
        raise NotFound("there is no such system")
    page = systems.page(it.hub.catalog, system, it.hub.settings.egress)
    return it.render(
        "system.html",
        system=it.hub.catalog.system(system),
        page=page,
        badge=words.badge(page["title"]),
        may_connect=rights.may_somewhere(it.who, Operation.CONNECTION_CHANGE),
        blank=_STEP,
        steps=(
            ("create_steps", "How one is made"),
            ("revoke_steps", "How one is ended"),
            ("recovery_steps", "When nothing works any more"),
        ),
    )
