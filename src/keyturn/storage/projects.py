"""Rows of `project`, `object` and `source`: what is built from what a connection reads."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.model.ids import ConnectionId, ProjectId, SourceId, new_id
from keyturn.storage.database import Row, Tx


@dataclass(frozen=True)
class Source:
    """Where an object of a project gets its data: `what`, in the vendor's words, through a connection."""

    id: SourceId
    project: str
    object: str
    name: str
    connection_id: ConnectionId
    connection: str
    what: str
    created_at: float
    created_by: str
    changed_at: float

    @property
    def label(self) -> str:
        """`project/object/source`, as plans and refusals name it."""
        return f"{self.project}/{self.object}/{self.name}"


_COLUMNS = (
    "s.id, p.name, o.name, s.name, s.connection_id, c.name, s.what, s.created_at, s.created_by, s.changed_at"
)
_FROM = (
    " FROM source s JOIN object o ON o.id = s.object_id JOIN project p ON p.id = o.project_id"
    " JOIN connection c ON c.id = s.connection_id"
)


def _read(row: Row) -> Source:
    return Source(
        SourceId(row[0]), row[1], row[2], row[3], ConnectionId(row[4]), row[5], row[6], row[7], row[8], row[9]
    )


def labels_of(tx: Tx, connection_id: ConnectionId) -> list[str]:
    """The sources that read through a connection, as `project/object/source`, in order."""
    return [source.label for source in of_connection(tx, connection_id)]


def of_connection(tx: Tx, connection_id: ConnectionId) -> list[Source]:
    """The sources that read through a connection."""
    sql = f"SELECT {_COLUMNS}{_FROM} WHERE s.connection_id = ? ORDER BY p.name, o.name, s.name"
    return [_read(row) for row in tx.all(sql, connection_id)]


def sources(tx: Tx, project: str = "") -> list[Source]:
    """All sources in order; of one project when named."""
    if project:
        rows = tx.all(f"SELECT {_COLUMNS}{_FROM} WHERE p.name = ? ORDER BY o.name, s.name", project)
    else:
        rows = tx.all(f"SELECT {_COLUMNS}{_FROM} ORDER BY p.name, o.name, s.name")
    return [_read(row) for row in rows]


def source(tx: Tx, project: str, named: str, name: str) -> Source | None:
    """The source of this name in an object of a project."""
    row = tx.one(
        f"SELECT {_COLUMNS}{_FROM} WHERE p.name = ? AND o.name = ? AND s.name = ?", project, named, name
    )
    return _read(row) if row else None


def projects(tx: Tx) -> list[Row]:
    """(id, name, created_at, created_by) of every project that was made, by name."""
    return tx.all("SELECT id, name, created_at, created_by FROM project ORDER BY name")


def project_id(tx: Tx, name: str) -> ProjectId | None:
    """The id of the project of this name."""
    row = tx.one("SELECT id FROM project WHERE name = ?", name)
    return ProjectId(row[0]) if row else None


def add_project(tx: Tx, name: str, at: float, by: str) -> bool:
    """Inserts a project. False when the name is taken."""
    return 1 == tx.run(
        "INSERT INTO project (id, name, created_at, created_by) VALUES (?,?,?,?) ON CONFLICT (name) DO NOTHING",
        new_id("prj"),
        name,
        at,
        by,
    )


def remove_project(tx: Tx, project: ProjectId) -> None:
    """Deletes a project and its objects; its sources must be gone."""
    tx.run("DELETE FROM object WHERE project_id = ?", project)
    tx.run("DELETE FROM project WHERE id = ?", project)


def objects(tx: Tx, project: ProjectId) -> list[str]:
    """The names of a project's objects."""
    return [
        str(row[0]) for row in tx.all("SELECT name FROM object WHERE project_id = ? ORDER BY name", project)
    ]


def add_object(tx: Tx, project: ProjectId, name: str, at: float, by: str) -> bool:
    """Inserts an object. False when the project has one of that name."""
    return 1 == tx.run(
        "INSERT INTO object (id, project_id, name, created_at, created_by) VALUES (?,?,?,?,?)"
        " ON CONFLICT (project_id, name) DO NOTHING",
        new_id("obj"),
        project,
        name,
        at,
        by,
    )


def object_id(tx: Tx, project: ProjectId, name: str) -> str:
    """The id of an object; empty when there is none."""
    row = tx.one("SELECT id FROM object WHERE project_id = ? AND name = ?", project, name)
    return str(row[0]) if row else ""


def remove_object(tx: Tx, id_: str) -> None:
    """Deletes an object; its sources must be gone."""
    tx.run("DELETE FROM object WHERE id = ?", id_)


def add_source(
    tx: Tx, object_: str, name: str, connection_id: ConnectionId, what: str, at: float, by: str
) -> bool:
    """Inserts a source. False when the object has one of that name."""
    return 1 == tx.run(
        "INSERT INTO source (id, object_id, name, connection_id, what, created_at, created_by, changed_at)"
        " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (object_id, name) DO NOTHING",
        new_id("src"),
        object_,
        name,
        connection_id,
        what,
        at,
        by,
        at,
    )


def change_source(tx: Tx, source_id: SourceId, connection_id: ConnectionId, what: str, at: float) -> None:
    """Points a source at a connection and what it reads there."""
    tx.run(
        "UPDATE source SET connection_id = ?, what = ?, changed_at = ? WHERE id = ?",
        connection_id,
        what,
        at,
        source_id,
    )


def remove_source(tx: Tx, source_id: SourceId) -> None:
    """Deletes a source; the connection is not touched."""
    tx.run("DELETE FROM source WHERE id = ?", source_id)
