"""Whether the hub is well, and how it is set up. Read-only: settings are the machine's business."""

from __future__ import annotations

from importlib import metadata
from urllib.parse import urlsplit

from starlette.responses import Response

from keyturn.operations import doctor, single_sign_on
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Checks, versions, and the settings that are no secret."""
    found = doctor.doctor(it.site.hub.settings, it.site.hub.catalog)
    settings = it.site.hub.settings
    return it.render(
        "health.html",
        checks=[each for each in found if not each.name.startswith("extra ")],
        extras=[each for each in found if each.name.startswith("extra ")],
        worst="fail"
        if any(e.state == "fail" for e in found)
        else "warn"
        if any(e.state == "warn" for e in found)
        else "ok",
        version=metadata.version("keyturn"),
        facts=[
            ("Address", settings.public_url, "What people and vendors use to reach this hub."),
            (
                "Redirect address for consents",
                it.hub.hub.redirect_uri,
                "Registered with OAuth clients at vendors.",
            ),
            ("Store", _store(settings.database), "Where everything is kept; values in it are sealed."),
            (
                "Master key from",
                settings.kek.partition(":")[0],
                f"Key {it.site.hub.secrets.keyring.newest.id} seals what is new.",
            ),
            (
                "Addresses it calls from",
                ", ".join(settings.egress) or "not named",
                "Shown where a vendor must let them in.",
            ),
            ("Single sign-on", "on" if single_sign_on.is_there(it.site.hub) else "off", "OpenID Connect."),
            ("Runs in flight at once", str(settings.workers), "Of this process."),
        ],
    )


def _store(database: str) -> str:
    """The kind of store and where it is, without a user or password."""
    parts = urlsplit(database)
    if parts.scheme == "sqlite":
        return "SQLite, one file on this machine"
    return f"PostgreSQL at {parts.hostname or 'this machine'}"
