"""Jobs, small reads through a connection; and projects with the sources that read through one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from keyturn.api import examples, shapes, shown
from keyturn.api.calls import Body, Caller, Calls, Visit
from keyturn.api.paging import After, Limit, page
from keyturn.errors import NotFound, NotPermitted
from keyturn.model.job import Job
from keyturn.model.plan import Goal
from keyturn.operations import jobs, projects, runs
from keyturn.operations.rights import Operation

calls = Calls("jobs")
sources = Calls("sources")
_Named = Annotated[str, Field(min_length=1, max_length=80)]
_What = Annotated[str, Field(max_length=300)]


class NewJob(Body):
    """`reads` in the vendor's words; `schedule` as the command line takes it, empty: on demand. Read once before it is
    saved, unless `untested`."""

    connection: _Named
    name: Annotated[str, Field(min_length=1, max_length=60)]
    reads: _What = ""
    schedule: Annotated[str, Field(max_length=60)] = ""
    most: Annotated[int, Field(ge=1, le=1000)] = 10
    after_rotation: bool = True
    untested: bool = False


class Switch(Body):
    """Paused or not."""

    paused: bool


class NewProject(Body):
    """A project."""

    name: _Named


class NewSource(Body):
    """`project/object/source`, and the connection it reads through. Project and object are made when they are not there."""

    label: Annotated[str, Field(min_length=5, max_length=300, pattern="^[^/]+/[^/]+/[^/]+$")]
    connection: _Named
    reads: _What = ""
    untested: bool = False


class ReauthorizeSource(Body):
    """`project/object/source`, and why."""

    label: Annotated[str, Field(min_length=5, max_length=300)]
    reason: Annotated[str, Field(max_length=300)] = ""


class EditSource(Body):
    """What is not named stays."""

    label: Annotated[str, Field(min_length=5, max_length=300)]
    connection: _Named | None = None
    reads: _What | None = None
    untested: bool = False


def _job(it: Visit, name: str) -> Job:
    """A job of a connection that the caller may do this to. Raises: NotFound, NotPermitted."""
    try:
        found = jobs.get(it.hub, name)
        it.connection(found.connection_id)
    except NotFound:
        raise NotFound("there is no such job", field="job") from None
    return found


@calls.get(
    "/jobs",
    Operation.CONNECTION_READ,
    "The jobs",
    answer=shapes.Page[shapes.Job],
    example=examples.page(examples.JOB),
    problems=(404,),
)
def every(
    it: Caller,
    connection: Annotated[str, Query(max_length=80, description="Of this connection")] = "",
    after: After = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """By name, with how each last ended."""
    chosen = it.connection(connection).id if connection else ""
    found = [each for each in jobs.every(it.hub, chosen) if it.sees(each.connection_id)]
    return page(
        it.hub,
        ["jobs", chosen],
        found,
        lambda job: (job.name,),
        after,
        limit,
        lambda job: jobs.page(it.hub, job),
    )


@calls.post(
    "/jobs",
    Operation.CONNECTION_CHANGE,
    "Add a job",
    answer=shapes.Job,
    status=201,
    example=examples.JOB,
    sends={"connection": "orders-db", "name": "nightly", "reads": "orders", "schedule": "daily 03:00"},
    problems=(404, 502, 504),
)
def add(it: Caller, body: NewJob) -> dict[str, Any]:
    """It reads a small sample and records its count, never the data."""
    found = it.connection(body.connection)
    made, _ = jobs.add(
        it.hub,
        found.id,
        body.name,
        what=body.reads,
        schedule=body.schedule,
        most=body.most,
        after_rotation=body.after_rotation,
        untested=body.untested,
    )
    it.done(found.name, job=made.name)
    return jobs.page(it.hub, made)


@calls.get(
    "/jobs/{job}",
    Operation.CONNECTION_READ,
    "One job with its latest results",
    answer=shapes.JobPage,
    example={**examples.JOB, "results": [examples.RESULT]},
    problems=(404,),
)
def one(it: Caller, job: str) -> dict[str, Any]:
    """The latest first."""
    found = _job(it, job)
    return {
        **jobs.page(it.hub, found),
        "results": [jobs.result_page(each) for each in jobs.results(it.hub, found)],
    }


@calls.post(
    "/jobs/{job}/run",
    Operation.CONNECTION_TEST,
    "Run a job now",
    answer=shapes.JobResult,
    example=examples.RESULT,
    problems=(404, 502, 504),
)
def run(it: Caller, job: str) -> dict[str, Any]:
    """One read of a small sample. 409 while it runs already, or nothing serves."""
    found = _job(it, job)
    result = jobs.run(it.hub, found.name)
    it.done(found.name, verb="run job")
    return jobs.result_page(result)


@calls.patch(
    "/jobs/{job}",
    Operation.CONNECTION_CHANGE,
    "Pause a job, or let it go on",
    answer=shapes.Job,
    example=examples.JOB,
    sends={"paused": True},
    problems=(404, 409),
)
def switch(it: Caller, job: str, body: Switch) -> dict[str, Any]:
    """A job is also held by itself while its connection is paused."""
    found = _job(it, job)
    now_is = jobs.pause(it.hub, found.name) if body.paused else jobs.resume(it.hub, found.name)
    it.done(found.name, paused=body.paused)
    return jobs.page(it.hub, now_is)


@calls.delete("/jobs/{job}", Operation.CONNECTION_CHANGE, "Remove a job", status=204, problems=(404, 409))
def remove(it: Caller, job: str) -> None:
    """With its results."""
    found = _job(it, job)
    jobs.remove(it.hub, found.name)
    it.done(found.name, verb="remove job")


# -- projects and sources ----------------------------------------------------------------------------------------------


def _allowed(it: Visit, project: str) -> None:
    """Raises: NotPermitted for a project the caller may not change."""
    if not it.may(it.operation, " ".join(project.split())):
        raise NotPermitted("you may not do this in that project", field="project")


@sources.get(
    "/projects",
    Operation.CONNECTION_READ,
    "Projects, their objects, and the sources that read through connections",
    answer=shapes.Page[shapes.Project],
    example=examples.page(examples.PROJECT),
)
def every_project(it: Caller, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """One stored credential may serve many sources: it is rotated once."""
    mine = it.projects()
    found = [each for each in projects.pages(it.hub) if mine is None or each["name"] in mine]
    return page(it.hub, ["projects"], found, lambda p: (p["name"],), after, limit, dict)


@sources.post(
    "/projects",
    Operation.CONNECTION_CHANGE,
    "Add a project",
    answer=shapes.Project,
    status=201,
    example={**examples.PROJECT, "objects": []},
    sends={"name": "reporting"},
    hub_wide=True,
)
def add_project(it: Caller, body: NewProject) -> dict[str, Any]:
    """Roles may be limited to it."""
    name = projects.add(it.hub, body.name)
    return projects.page(it.hub, " ".join(name.split()) if name else body.name)


@sources.delete(
    "/projects/{project}",
    Operation.CONNECTION_CHANGE,
    "Remove a project",
    status=204,
    problems=(404, 409),
    hub_wide=True,
)
def remove_project(it: Caller, project: str) -> None:
    """409 while there is something in it."""
    projects.remove(it.hub, project)


@sources.post(
    "/sources",
    Operation.CONNECTION_CHANGE,
    "Let an object read through a connection",
    answer=shapes.Source,
    status=201,
    example=examples.SOURCE,
    sends={"label": "reporting/orders/nightly", "connection": "orders-db"},
    problems=(404, 502, 504),
)
def add_source(it: Caller, body: NewSource) -> dict[str, Any]:
    """Read once before it is saved, where the row can read."""
    project = body.label.partition("/")[0]
    _allowed(it, project)
    found = it.connection(body.connection)
    if project not in {each["name"] for each in projects.pages(it.hub)} and not it.may(it.operation):
        raise NotPermitted("you may not add a project", field="label")
    made = projects.add_source(
        it.hub, body.label, found.id, reads=body.reads, untested=body.untested, with_place=True
    )
    return projects.source_page(made)


@sources.patch(
    "/sources",
    Operation.CONNECTION_CHANGE,
    "Choose another connection for a source, or what it reads",
    answer=shapes.Source,
    example=examples.SOURCE,
    sends={"label": "reporting/orders/nightly", "connection": "dwh"},
    problems=(404, 409, 502, 504),
)
def edit_source(it: Caller, body: EditSource) -> dict[str, Any]:
    """The connection it had is not touched."""
    before = projects.source(it.hub, body.label)
    _allowed(it, before.project)
    to = it.connection(body.connection).id if body.connection else ""
    made = projects.edit_source(it.hub, body.label, connection=to, reads=body.reads, untested=body.untested)
    return projects.source_page(made)


@sources.post(
    "/sources/reauthorize",
    Operation.RUN_ROTATE,
    "Ask a person for a fresh consent for the connection a source reads through",
    answer=shapes.Run,
    status=202,
    example={**examples.RUN, "goal": Goal.REAUTHORIZE.value},
    sends={"label": "reporting/orders/nightly", "reason": "the consent ends on Friday"},
    problems=(404, 409),
)
def reauthorize_source(it: Caller, body: ReauthorizeSource) -> dict[str, Any]:
    """One consent serves every source of the connection: the run's plan names all of them."""
    source = projects.source(it.hub, body.label)
    _allowed(it, source.project)
    found = it.connection(source.connection)
    made = runs.start(
        it.hub,
        found.id,
        Goal.REAUTHORIZE,
        reason=body.reason,
        trigger=it.trigger,
        address=it.who.address,
    )
    it.done(found.name, run=made.id)
    return shown.run(it.hub, made)


@sources.delete(
    "/sources",
    Operation.CONNECTION_CHANGE,
    "Remove a source",
    status=204,
    problems=(404, 409),
)
def remove_source(
    it: Caller,
    label: Annotated[str, Query(min_length=5, max_length=300, description="project/object/source")],
) -> None:
    """Its connection and credential stay: others may read through them."""
    found = projects.source(it.hub, label)
    _allowed(it, found.project)
    projects.remove_source(it.hub, label)
