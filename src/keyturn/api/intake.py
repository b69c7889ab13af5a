"""What lies behind the keys this hub issues: bulk loads and datasets, events, reports of leaks, one-time links, their own reissue."""

from __future__ import annotations

from fastapi import FastAPI

from keyturn.api import bulk, events, handover, leaks, own
from keyturn.api.door import Door
from keyturn.bootstrap import Keyturn
from keyturn.operations.datasets import Loader


def add_routes(app: FastAPI, hub: Keyturn, door: Door) -> Loader:
    """Adds the routes. Whoever serves starts the loader and stops it at the end."""
    loader = Loader(hub)
    for each in (
        bulk.routes(hub, door, loader),
        events.routes(hub, door),
        leaks.routes(hub, door),
        handover.routes(hub),
        own.routes(hub, door),
    ):
        app.router.routes.extend(
            each.routes
        )  # as they are: `include_router` would build every one a second time
    return loader
