"""Backups: those on the hub's machine, making one, and how one is restored. None is downloaded: a browser is no place for it."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import Conflict, StoreUnavailable
from keyturn.operations import backups
from keyturn.operations.hub import sqlite_path
from keyturn.web import words
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """What lies there, newest first; for a hub on PostgreSQL how its own tools do it."""
    settings = it.hub.settings
    return it.render(
        "backups.html",
        found=backups.kept(settings),
        folder=backups.folder(settings),
        is_sqlite=sqlite_path(settings) is not None,
        source=settings.kek.partition(":")[0],
        megabytes=lambda size: f"{size / 1e6:.1f} MB",
    )


def make(it: Visit) -> Response:
    """One more, while everything goes on."""
    try:
        made = backups.make(it.hub, it.address)
    except (Conflict, StoreUnavailable) as error:
        return it.redirect("/backups", f"{words.sentence(error.message)} {words.hint(error.hint)}", "bad")
    said = f"{made.path.name} is whole, with {made.connections} connections. Move it to another machine."
    return it.redirect("/backups", said)
