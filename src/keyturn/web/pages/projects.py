"""Projects: objects, the sources they read from, and the connection behind each source."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.operations import connections, events, overview, projects, rights
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_CHOICES = 200  # to choose from in a list; beyond that a name is typed


def every(it: Visit) -> Response:
    """The projects of this person."""
    return _every(it)


def _every(it: Visit, status: int = 200, wrong: str = "") -> Response:
    mine, counts = it.projects(), dict(projects.every(it.hub))
    found = [each for each in projects.pages(it.hub) if mine is None or each["name"] in mine]
    made = {each["name"] for each in found}
    rest = [(name, n) for name, n in counts.items() if name not in made and (mine is None or name in mine)]
    return it.render(
        "projects.html",
        status,
        found=found,
        counts=counts,
        rest=rest,
        may_add=rights.may_somewhere(it.who, Operation.CONNECTION_CHANGE),
        typed=it.text("name"),
        wrong=wrong,
    )


def add(it: Visit) -> Response:
    """Makes a project."""
    name = " ".join(it.text("name").split())
    _require(it, name)
    try:
        made = projects.add(it.hub, name)
    except (InvalidInput, Conflict) as error:
        return _every(it, 422, words.sentence(error.message))
    it.done(Operation.CONNECTION_CHANGE, made, verb="add project")
    return it.redirect(_address(made), "The project is there. Add its first object.")


def _address(project: str) -> str:
    return f"/projects/{quote(project, safe='')}"


def _require(it: Visit, project: str) -> None:
    """Raises: NotPermitted."""
    events.require(it.site.hub, it.who, Operation.CONNECTION_CHANGE, project, project)


def one(it: Visit, project: str) -> Response:
    """One project: its objects, their sources, and through what each reads."""
    return _one(it, project)


def _page(it: Visit, project: str) -> dict[str, Any]:
    """Raises: NotFound, also for one that they may not see."""
    mine = it.projects()
    if mine is not None and project not in mine:
        raise NotFound("there is no such project")
    return projects.page(it.hub, project)


def _one(
    it: Visit, project: str, status: int = 200, problem: str = "", hint: str = "", at: str = ""
) -> Response:
    page = _page(it, project)
    mine = rights.projects(it.who, Operation.CONNECTION_READ)
    used = (source["connection"] for each in page["objects"] for source in each["sources"])
    first = overview.page(it.hub, mine, size=_CHOICES, counted=False)
    return it.render(
        "project.html",
        status,
        page=page,
        project=project,
        seen=overview.by_name(it.hub, used, mine),
        healths=overview.HEALTH,
        choices=[
            line.name
            for line in first.lines
            if it.hub.catalog.method(line.system, line.method).direction == "outbound"
        ],
        has_more=first.next is not None,
        may_change=it.may(Operation.CONNECTION_CHANGE, project),
        problem=problem,
        hint=hint,
        at=at,
        typed={name: it.text(name) for name in ("name", "object", "connection", "reads")},
    )


def change(it: Visit, project: str) -> Response:
    """Adds and removes objects and sources, and gives a source another connection. A source is read once before it is
    kept, where its system can be read."""
    _page(it, project)
    _require(it, project)
    verb = "remove-source" if it.text("remove") == "yes" else it.text("verb")
    object_, name = it.text("object"), it.text("name")
    label = f"{project}/{object_}/{name}"
    known = {"add-object", "remove-object", "add-source", "edit-source", "remove-source", "remove"}
    if verb not in known:
        raise InvalidInput("the hub does not know what to do")
    try:
        said = _change(it, verb, project, object_, name, label)
    except NotFound:
        raise
    except KeyturnError as error:
        return _one(it, project, 409, words.sentence(error.message), words.hint(error.hint), label)
    it.done(Operation.CONNECTION_CHANGE, label if "source" in verb else f"{project}/{object_}", verb=verb)
    return it.redirect("/projects" if verb == "remove" else _address(project), said)


def _change(it: Visit, verb: str, project: str, object_: str, name: str, label: str) -> str:
    if verb == "remove":
        projects.remove(it.hub, project)
        return f"{project} is removed. Its connections stay."
    if verb == "add-object":
        projects.add_object(it.hub, project, name)
        return f"{name} is there. Add its first source."
    if verb == "remove-object":
        projects.remove_object(it.hub, project, object_)
        return f"{object_} is removed."
    if verb == "remove-source":
        projects.remove_source(it.hub, label)
        return f"{label} is removed. Its connection stays."
    connection = _connection(it)
    untested = it.text("untested") == "yes"
    if verb == "add-source":
        projects.add_source(it.hub, label, connection, reads=it.text("reads").strip(), untested=untested)
        return f"{label} reads through it now."
    reads = it.text("reads").strip()
    projects.edit_source(it.hub, label, connection=connection, reads=reads, untested=untested)
    return f"{label} is changed. The connection it had is not touched."


def _connection(it: Visit) -> str:
    """The connection that was chosen: one they may see. Raises: InvalidInput."""
    name = it.text("connection")
    try:
        found = connections.find(it.hub, name)
    except NotFound:
        found = None
    if found is None or not it.may(Operation.CONNECTION_READ, projects.of(it.hub, found.id)):
        raise InvalidInput("choose one of your connections", field="connection")
    return found.id
