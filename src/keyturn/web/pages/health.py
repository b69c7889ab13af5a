"""Whether the hub is well: everything it stands on, looked at when the page is asked for."""

from __future__ import annotations

from importlib import metadata

from starlette.responses import Response

from keyturn.operations import doctor
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Checks, and which optional parts are installed."""
    found = doctor.doctor(it.site.hub.settings, it.site.hub.catalog)
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
    )
