"""The audit trail: searched, checked, and taken away with its heads signed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from keyturn.errors import NotFound
from keyturn.model.run import LineKind
from keyturn.operations import audit, connections, overview
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_PAGE, _CHUNK = 50, 64 * 1024
_ASKED = ("q", "on", "by", "kind", "since", "until", "after")
HUB = "hub"


def show(it: Visit) -> Response:
    """What happened, newest first, page by page."""
    return _show(it)


def _show(it: Visit, broken: list[str] | None = None, took_s: float = 0.0) -> Response:
    asked = {name: it.asked(name) for name in _ASKED}
    where = words.zone(it.zone_name)
    wrong = ""
    times: list[float | None] = []
    for name, later in (("since", 0), ("until", 86400)):
        try:
            day = datetime.strptime(asked[name], "%Y-%m-%d").replace(tzinfo=where) if asked[name] else None
            times.append(day.timestamp() + later if day else None)
        except (ValueError, OverflowError, OSError):
            times.append(None)
            wrong = "A day is written like 2026-11-23."
    on = asked["on"].strip()
    try:
        wanted = on if on in {"", HUB} else connections.find(it.hub, on).id
    except NotFound:
        wanted, wrong = "", f"There is no connection named {on}."
    kind = asked["kind"] if asked["kind"] in {k.value for k in LineKind} else ""
    place = it.place("audit")
    found = audit.search(
        it.hub,
        connection=wanted,
        kind=kind,
        by=asked["by"].strip(),
        since=times[0],
        until=times[1],
        words=asked["q"].split(),
        before=(float(place[0]), str(place[1]), int(place[2])) if place else None,
        limit=_PAGE,
    )
    names = overview.names(it.hub, {wanted, *(line.connection_id for line in found.lines)})

    def address(**changes: str) -> str:
        said = {**asked, "after": "", **changes}
        text = urlencode({name: value for name, value in said.items() if value})
        return f"/audit?{text}" if text else "/audit"

    return it.render(
        "audit.html",
        lines=found.lines,
        asked={**asked, "on": names.get(wanted, on), "kind": kind},
        names=names,
        hub=HUB,
        kinds=[(each.value, words.line_kind(each.value)) for each in LineKind],
        next=address(after=it.site.sign(list(found.place), "audit")) if found.place else "",
        is_full=len(found.lines) == _PAGE,
        looked_to=found.until,
        first=address() if asked["after"] else "",
        is_filtered=any(asked.values()),
        wrong=wrong,
        broken=broken,
        took_s=took_s,
    )


def check(it: Visit) -> Response:
    """Follows every chain from its first line to its head."""
    began = time.monotonic()
    broken = audit.check(it.hub)
    it.done(Operation.AUDIT_READ, "the audit trail", verb="check", broken=len(broken))
    return _show(it, broken, time.monotonic() - began)


def export(it: Visit) -> Response:
    """The whole trail as a file, which is checked without the hub. Nothing of it is secret."""
    file = tempfile.TemporaryFile(prefix="keyturn-audit-")  # noqa: SIM115 - closed by whoever reads it to the end
    try:
        with tempfile.TemporaryDirectory(prefix="keyturn-audit-") as folder:
            path = Path(folder) / "audit.jsonl"
            done = audit.export(it.hub, path)
            with path.open("rb") as made:
                while part := made.read(_CHUNK):
                    file.write(part)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    it.done(Operation.AUDIT_READ, "the audit trail", verb="export", lines=done.lines)
    name = time.strftime("keyturn-audit-%Y-%m-%d.jsonl", time.gmtime())
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Keyturn-Broken": str(len(done.broken)),
    }
    return StreamingResponse(_parts(file), media_type="application/jsonl", headers=headers)


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while part := file.read(_CHUNK):
            yield part
