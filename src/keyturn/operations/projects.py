"""Projects: what a role may be limited to. A connection is in one of them or in none."""

from __future__ import annotations

import time

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput
from keyturn.model.run import LineKind
from keyturn.operations.connections import find
from keyturn.storage import journal, people
from keyturn.storage.database import Tx


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
