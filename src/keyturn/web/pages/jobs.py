"""Jobs: small reads through a connection. The list, one with its results, adding, running now, pausing, removing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.responses import Response

from keyturn.errors import CredentialRejected, InvalidInput, KeyturnError, NotFound
from keyturn.model.credential import Connection
from keyturn.model.job import Cause, JobState
from keyturn.operations import connections, jobs, overview, projects, rights
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_RESULTS, _NAMES = 30, 300
_TYPED = ("connection", "name", "reads", "schedule", "most")


def every(it: Visit) -> Response:
    """All of them with how each last ended, those that failed first."""
    text = it.asked("q").casefold()
    every = jobs.every(it.hub)
    names = overview.names(it.hub, [job.connection_id for job in every], it.projects())
    found = [
        job
        for job in every
        if job.connection_id in names
        and all(w in f"{job.name} {names[job.connection_id]} {job.what}".casefold() for w in text.split())
    ]
    found.sort(key=lambda job: (job.state is not JobState.FAILED, job.name))
    return it.render(
        "jobs.html",
        jobs=[(job, page, _at(page)) for job, page in zip(found, jobs.pages(it.hub, found), strict=True)],
        asked=it.asked("q"),
        may_add=rights.may_somewhere(it.who, Operation.CONNECTION_CHANGE),
    )


def _at(page: dict[str, Any]) -> float:
    """When it last began; 0 for one that never did."""
    return datetime.fromisoformat(page["last"]["at"]).timestamp() if page["last"] else 0.0


def form(it: Visit) -> Response:
    """The form of a new one, for the connection that was named."""
    return _form(it)


def _form(it: Visit, status: int = 200, wrong: dict[str, str] | None = None, problem: str = "") -> Response:
    asked = it.asked("connection")
    first = overview.page(it.hub, it.projects(), size=_NAMES, counted=False)
    by_id, by_name = (
        overview.names(it.hub, [asked], it.projects()),
        overview.by_name(it.hub, [asked], it.projects()),
    )
    known = by_id.get(asked) or (asked if asked in by_name else "")
    typed = {name: it.text(name) for name in _TYPED}
    sent = it.request.method == "POST"
    return it.render(
        "job_form.html",
        status,
        typed={**typed, "connection": typed["connection"] or known, "most": typed["most"] or "10"},
        after_rotation=it.text("after_rotation") == "yes" if sent else True,
        names=[line.name for line in first.lines],
        errors={**dict.fromkeys(_TYPED, ""), **(wrong or {})},
        problem=problem,
        may_skip=bool(problem),
    )


def add(it: Visit) -> Response:
    """Reads once, then keeps it; when the read does not work nothing is kept, and the form comes back."""
    connection = _connection(it)
    if connection is None:
        return _form(it, 422, {"connection": "Choose one of your connections."})
    most = it.text("most").strip() or "10"
    try:
        made, tried = jobs.add(
            it.hub,
            connection.id,
            it.text("name").strip(),
            what=it.text("reads"),
            schedule=it.text("schedule"),
            most=int(most) if most.isdigit() else 0,
            after_rotation=it.text("after_rotation") == "yes",
            untested=it.text("untested") == "yes",
        )
    except KeyturnError as error:
        return _refused(it, error)
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="add job", job=made.name)
    said = f"It read {tried.reading.count} just now." if tried else "It was not tried."
    return it.redirect(f"/jobs/{made.id}", f"The job {made.name} is kept. {said}")


def _connection(it: Visit) -> Connection | None:
    """The one that was named, when they may change it: one that they may not see is not there."""
    try:
        found = connections.find(it.hub, it.text("connection").strip())
    except NotFound:
        return None
    return found if it.may(Operation.CONNECTION_CHANGE, projects.of(it.hub, found.id)) else None


def _refused(it: Visit, error: KeyturnError) -> Response:
    """The form again: the error at its field, or on top where the read itself did not work."""
    field = {"what": "reads"}.get(str(error.facts.get("field", "")), str(error.facts.get("field", "")))
    said = f"{words.sentence(error.message)} {words.hint(error.hint)}".strip()
    was_read = isinstance(error, CredentialRejected) or "code" in error.facts
    if was_read or not isinstance(error, InvalidInput) or field not in _TYPED:
        status = 422 if isinstance(error, InvalidInput | CredentialRejected) else 503
        if field == "name":
            return _form(it, 409, {"name": said})
        return _form(it, status, problem=words.sentence(error.message))
    return _form(it, 422, {field: said})


def one(it: Visit, job_id: str) -> Response:
    """One job: what it reads and when, and how its last runs ended."""
    job, connection, project = it.job(job_id)
    results = jobs.results(it.hub, job, _RESULTS)
    return it.render(
        "job.html",
        job=job,
        page=jobs.page(it.hub, job),
        connection=connection,
        results=results,
        causes=CAUSES,
        may_run=it.may(Operation.CONNECTION_TEST, project),
        may_change=it.may(Operation.CONNECTION_CHANGE, project),
    )


CAUSES = {
    Cause.ADDED: "when it was added",
    Cause.SCHEDULE: "its schedule",
    Cause.DEMAND: "somebody",
    Cause.AFTER_PAUSE: "the end of a pause",
    Cause.ROTATION: "a rotation",
}


def run(it: Visit, job_id: str) -> Response:
    """One read now."""
    job, connection, _ = it.job(job_id)
    reading = jobs.run(it.hub, job.id).reading
    it.done(Operation.CONNECTION_TEST, connection.name, verb="run job", job=job.name)
    if reading.state is JobState.OK:
        return it.redirect(f"/jobs/{job.id}", f"It read {reading.count}, in {words.took(reading.seconds)}.")
    title = words.JOB_STATES[reading.state.value][0]
    kind = "bad" if reading.state is JobState.FAILED else "warn"
    return it.redirect(f"/jobs/{job.id}", words.sentence(f"{title}: {reading.detail or reading.code}"), kind)


def switch(it: Visit, job_id: str) -> Response:
    """Pauses it, or lets it go on."""
    job, connection, _ = it.job(job_id)
    paused = it.text("paused") == "yes"
    (jobs.pause if paused else jobs.resume)(it.hub, job.id)
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="pause job" if paused else "resume job")
    return it.redirect(f"/jobs/{job.id}", "It is paused." if paused else "It goes on at its next time.")


def remove(it: Visit, job_id: str) -> Response:
    """Takes it away, with its results."""
    job, connection, _ = it.job(job_id)
    jobs.remove(it.hub, job.id)
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="remove job", job=job.name)
    return it.redirect("/jobs", f"The job {job.name} is removed.")
