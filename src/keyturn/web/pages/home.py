"""What needs somebody today."""

from __future__ import annotations

import time

from starlette.responses import Response

from keyturn.operations import overview, people, rights
from keyturn.operations.rights import Operation
from keyturn.web import charts, words
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Overdue, expiring, waiting, owed, failed; or that all is well."""
    person, now, where = people.get(it.hub, it.who.id), time.time(), words.zone(it.zone_name)
    due, ends = overview.days(it.hub, charts.starts(where, now), it.projects())
    return it.render(
        "home.html",
        today=overview.today(it.hub, it.projects()),
        weeks=charts.calendar(due, ends, where, now),
        bars=charts.ages(overview.ages(it.hub, charts.AGE_BOUNDS, it.projects())),
        may_connect=rights.may_somewhere(it.who, Operation.CONNECTION_CHANGE),
        has_factor=bool(person.account.totp_at or person.passkeys or not person.account.password),
    )
