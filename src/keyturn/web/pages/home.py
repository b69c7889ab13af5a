"""What needs somebody today."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.operations import overview, people, rights
from keyturn.operations.rights import Operation
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Overdue, expiring, waiting, owed, failed; or that all is well."""
    person = people.get(it.hub, it.who.id)
    return it.render(
        "home.html",
        today=overview.today(it.hub, it.projects()),
        may_connect=rights.may_somewhere(it.who, Operation.CONNECTION_CHANGE),
        has_factor=bool(person.account.totp_at or person.passkeys or not person.account.password),
    )
