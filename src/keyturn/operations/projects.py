"""Projects: what a role may be limited to. A connection is in one of them or in none."""

from __future__ import annotations

import time
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.model.credential import Connection
from keyturn.model.ids import ProjectId
from keyturn.model.moment import iso
from keyturn.model.run import LineKind
from keyturn.operations import jobs
from keyturn.operations.connections import find
from keyturn.storage import journal, people
from keyturn.storage import projects as rows
from keyturn.storage.database import Tx
from keyturn.storage.projects import Source


def of(hub: Keyturn, connection_id: str) -> str:
    """The project a connection is in; empty for none."""
    return hub.store.read(lambda tx: people.project_of(tx, connection_id))


def every(hub: Keyturn) -> list[tuple[str, int]]:
    """The projects by name, with how many connections they have."""
    return [(str(row[0]), int(row[1])) for row in hub.store.read(people.projects)]


def move(hub: Keyturn, name: str, project: str) -> None:
    """Puts a connection into a project, or into none. Raises: InvalidInput."""
    connection, project = find(hub, name), " ".join(project.split())
    if len(project) > 80 or not project.isprintable():
        raise InvalidInput("a project's name has at most 80 characters", field="project")
    facts = {"decision": "moved_to_project", "project": project, "by": hub.settings.actor}
    entry = journal.Entry(time.time(), "", "edit", LineKind.DECISION, 0, facts)

    def work(tx: Tx) -> None:
        people.move_to_project(tx, connection.id, project)
        journal.append(tx, connection.id, [entry])

    hub.store.write(work)


# -- objects and their sources: who lives on what a connection reads ----------------------------------------------------


def add(hub: Keyturn, name: str) -> str:
    """Makes a project; its name in the one spelling. Raises: InvalidInput, Conflict."""
    name, now, by = _named(name, "project"), time.time(), hub.settings.actor

    def work(tx: Tx) -> None:
        if not rows.add_project(tx, name, now, by):
            raise Conflict(f"there is a project named {name} already", field="project")
        _on_record(tx, "project_added", by, project=name)

    hub.store.write(work)
    return name


def remove(hub: Keyturn, name: str) -> None:
    """Deletes a project with its objects. Raises: Conflict naming the sources that are left in it, NotFound."""

    def work(tx: Tx) -> None:
        project = _project(tx, name)
        left = rows.sources(tx, name)
        if left:
            raise Conflict(
                f"project {name} has sources: {', '.join(s.label for s in left)}",
                hint=f"`keyturn source remove {quote(left[0].label)}` first.",
                field="project",
            )
        rows.remove_project(tx, project)
        _on_record(tx, "project_removed", hub.settings.actor, project=name)

    hub.store.write(work)


def add_object(hub: Keyturn, project: str, name: str) -> str:
    """Makes an object in a project; its name in the one spelling. Raises: InvalidInput, Conflict, NotFound."""
    name, now, by = _named(name, "object"), time.time(), hub.settings.actor

    def work(tx: Tx) -> None:
        if not rows.add_object(tx, _project(tx, project), name, now, by):
            raise Conflict(f"{project} has an object named {name} already", field="object")
        _on_record(tx, "object_added", by, project=project, object=name)

    hub.store.write(work)
    return name


def remove_object(hub: Keyturn, project: str, name: str) -> None:
    """Deletes an object. Raises: Conflict naming the sources that are left in it, NotFound."""

    def work(tx: Tx) -> None:
        found = _object(tx, project, name)
        left = [source for source in rows.sources(tx, project) if source.object == name]
        if left:
            raise Conflict(
                f"object {name} has sources: {', '.join(s.label for s in left)}",
                hint=f"`keyturn source remove {quote(left[0].label)}` first.",
                field="object",
            )
        rows.remove_object(tx, found)
        _on_record(tx, "object_removed", hub.settings.actor, project=project, object=name)

    hub.store.write(work)


def pages(hub: Keyturn) -> list[dict[str, Any]]:
    """Every project that was made, with its objects and their sources, as data."""

    def work(tx: Tx) -> list[dict[str, Any]]:
        found = []
        for id_, name, at, by in rows.projects(tx):
            listed = rows.sources(tx, name)
            objects = [
                {"name": each, "sources": [source_page(s) for s in listed if s.object == each]}
                for each in rows.objects(tx, id_)
            ]
            found.append({"name": name, "objects": objects, "created": iso(at), "created_by": by})
        return found

    return hub.store.read(work)


def page(hub: Keyturn, name: str) -> dict[str, Any]:
    """One of them. Raises: NotFound."""
    found = next((each for each in pages(hub) if each["name"] == name), None)
    if found is None:
        raise _no_project(name)
    return found


def source_page(source: Source) -> dict[str, Any]:
    """A source as data."""
    return {
        "label": source.label,
        "project": source.project,
        "object": source.object,
        "name": source.name,
        "connection": source.connection,
        "reads": source.what,
        "changed": iso(source.changed_at),
        "created_by": source.created_by,
    }


def sources(hub: Keyturn, connection: str = "") -> list[Source]:
    """All sources in order; those that read through a connection when it is named."""
    if not connection:
        return hub.store.read(rows.sources)
    found = find(hub, connection)
    return hub.store.read(lambda tx: rows.of_connection(tx, found.id))


def source(hub: Keyturn, label: str) -> Source:
    """A source by `project/object/source`. Raises: InvalidInput, NotFound."""
    return hub.store.read(lambda tx: _source(tx, label))


def add_source(
    hub: Keyturn,
    label: str,
    connection: str,
    *,
    reads: str = "",
    untested: bool = False,
    with_place: bool = False,
) -> Source:
    """Lets an object read through a connection. One stored credential may serve many sources: it is rotated once.

    Read once before it is saved, where the connection's row can read and `reads` says what; `untested` saves it anyway.
    `with_place` makes project and object as well, where they are not there: all of it or nothing.
    Raises: InvalidInput, NotFound, Conflict; CredentialRejected or VendorUnavailable as the read says.
    """
    project, object_, name = _split(label)
    name, now, by = _named(name, "source"), time.time(), hub.settings.actor
    found, reads = find(hub, connection), jobs.check_what(reads)
    if not untested:
        _must_read(hub, found, reads)

    def work(tx: Tx) -> None:
        tx.hold("SELECT generation FROM connection WHERE id = ?", found.id)
        if with_place:
            _place(tx, project, object_, now, by)
        if not rows.add_source(tx, _object(tx, project, object_), name, found.id, reads, now, by):
            raise Conflict(f"there is a source {label} already", field="source")
        _note(tx, found.id, "source_added", by, source=f"{project}/{object_}/{name}", reads=reads)

    hub.store.write(work)
    return source(hub, label)


def _place(tx: Tx, project: str, object_: str, at: float, by: str) -> None:
    """Makes what is missing of a project and an object in it. Raises: InvalidInput."""
    if rows.add_project(tx, _named(project, "project"), at, by):
        _on_record(tx, "project_added", by, project=project)
    if rows.add_object(tx, _project(tx, project), _named(object_, "object"), at, by):
        _on_record(tx, "object_added", by, project=project, object=object_)


def edit_source(
    hub: Keyturn, label: str, *, connection: str = "", reads: str | None = None, untested: bool = False
) -> Source:
    """Chooses another connection for a source, or what it reads; what is not given stays. Read once before it is saved.

    The connection it had is not touched. Raises: as `add_source`.
    """
    before, now, by = source(hub, label), time.time(), hub.settings.actor
    to = find(hub, connection) if connection else find(hub, before.connection_id)
    wanted = before.what if reads is None else jobs.check_what(reads)
    if not untested:
        _must_read(hub, to, wanted)

    def work(tx: Tx) -> None:
        tx.hold("SELECT generation FROM connection WHERE id = ?", to.id)
        as_is = _source(tx, label)
        rows.change_source(tx, as_is.id, to.id, wanted, now)
        _note(tx, to.id, "source_edited", by, source=label, reads=wanted, came_from=as_is.connection)
        if as_is.connection_id != to.id:
            _note(tx, as_is.connection_id, "source_left", by, source=label, went_to=to.name)

    hub.store.write(work)
    return source(hub, label)


def remove_source(hub: Keyturn, label: str) -> None:
    """Deletes a source. Its connection and credential stay, others may read through them. Raises: NotFound."""

    def work(tx: Tx) -> None:
        as_is = _source(tx, label)
        rows.remove_source(tx, as_is.id)
        _note(tx, as_is.connection_id, "source_removed", hub.settings.actor, source=label)

    hub.store.write(work)


def _must_read(hub: Keyturn, connection: Connection, reads: str) -> None:
    if reads and hub.catalog.row_of(connection).can.reader is not None:
        jobs.must_read(hub, connection, reads)


def _named(name: str, what: str) -> str:
    said = " ".join(name.split())
    if not 1 <= len(said) <= 80 or not said.isprintable() or "/" in said:
        raise InvalidInput(f"a name has 1 to 80 characters and no /: the {what}'s has not", field=what)
    return said


def _split(label: str) -> tuple[str, str, str]:
    parts = [" ".join(part.split()) for part in label.split("/")]
    if len(parts) != 3 or not all(parts):
        raise InvalidInput(
            "a source is named as PROJECT/OBJECT/SOURCE",
            hint="For example adoption/usage/orders.",
            field="source",
        )
    return parts[0], parts[1], parts[2]


def _no_project(name: str) -> NotFound:
    return NotFound(f"there is no project {name}", hint="`keyturn project list` shows all.", field="project")


def _project(tx: Tx, name: str) -> ProjectId:
    found = rows.project_id(tx, name)
    if found is None:
        raise _no_project(name)
    return found


def _object(tx: Tx, project: str, name: str) -> str:
    found = rows.object_id(tx, _project(tx, project), name)
    if not found:
        raise NotFound(
            f"{project} has no object {name}",
            hint=f"`keyturn project add-object {quote(project)} {quote(name)}`",
            field="object",
        )
    return found


def _source(tx: Tx, label: str) -> Source:
    found = rows.source(tx, *_split(label))
    if found is None:
        raise NotFound(f"there is no source {label}", hint="`keyturn source list` shows all.", field="source")
    return found


def _note(tx: Tx, connection_id: str, decision: str, by: str, **facts: str) -> None:
    entry = journal.Entry(
        time.time(), "", "source", LineKind.DECISION, 0, {"decision": decision, "by": by, **facts}
    )
    journal.append(tx, connection_id, [entry])


def _on_record(tx: Tx, decision: str, by: str, **facts: str) -> None:
    """What is about no connection goes into the hub's own chain."""
    _note(tx, journal.HUB, decision, by, **facts)
