"""What lies behind the keys this hub issues: bulk loads and datasets, events, reports of leaks, one-time links."""

from __future__ import annotations

from fastapi import FastAPI

from keyturn.api import bulk, events, handover, leaks
from keyturn.api.door import Door
from keyturn.bootstrap import Keyturn
from keyturn.operations.datasets import Loader


def add_routes(app: FastAPI, hub: Keyturn, door: Door) -> Loader:
    """Adds the routes. Whoever serves starts the loader and stops it at the end."""
    loader = Loader(hub)
    app.include_router(bulk.routes(hub, door, loader))
    app.include_router(events.routes(hub, door))
    app.include_router(leaks.routes(hub, door))
    app.include_router(handover.routes(hub))
    return loader
