"""What needs somebody today."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.operations import overview, people
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Overdue, expiring, waiting, owed, failed; or that all is well."""
    person = people.get(it.hub, it.who.id)
    return it.render(
        "home.html",
        today=overview.today(it.hub, it.projects()),
        has_factor=bool(person.account.totp_at or person.passkeys or not person.account.password),
    )
