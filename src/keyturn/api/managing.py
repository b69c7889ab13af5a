"""The calls that manage the hub's connections, runs, people and what it issues: everything the command line can do."""

from __future__ import annotations

from fastapi import FastAPI

from keyturn.api import (
    audit,
    connections,
    debts,
    hub,
    issued,
    jobs,
    leases,
    people,
    recipients,
    runs,
    stream,
    systems,
    tasks,
)
from keyturn.api.door import Door
from keyturn.bootstrap import Keyturn

CALLS = (
    systems.calls,
    systems.own,
    connections.calls,
    runs.calls,
    tasks.calls,
    debts.calls,
    leases.calls,
    jobs.calls,
    jobs.sources,
    issued.calls,
    audit.calls,
    people.calls,
    hub.calls,
    recipients.calls,
    stream.calls,
)


def add_routes(app: FastAPI, site: Keyturn, door: Door) -> None:
    """Adds the calls; they find the hub and its door at the application."""
    app.state.hub, app.state.door = site, door
    app.state.streams = stream.Streams()
    for each in CALLS:
        # As they are: `include_router` would build every one anew for each application, on its first request.
        app.router.routes.extend(each.router.routes)
