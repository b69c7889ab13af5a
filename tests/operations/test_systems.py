"""What a page tells of a connection that has lived for years: a screenful, and whatever is alive."""

import itertools
import time
from dataclasses import replace

import pytest

from keyturn.model.credential import State
from keyturn.model.ids import VersionId, new_id
from keyturn.model.run import Line, LineKind
from keyturn.operations import connections, runs, systems
from keyturn.storage import versions
from tests.faults import world

NUMBERS = itertools.count(1)
_OLD = 60


@pytest.fixture
def aged(hub, client):
    """A connection whose first version serves and many later ones are dead."""
    name = f"old{next(NUMBERS)}"
    world.connect(hub, client, "many_ids", name)
    found = connections.find(hub, name)

    def fill(tx):
        serving = versions.by_id(tx, found.current_version_id)
        for number in range(2, _OLD + 1):
            versions.add(tx, replace(serving, id=VersionId(new_id("ver")), number=number, state=State.DEAD))

    hub.store.write(fill)
    return found


def test_a_page_tells_of_the_latest_versions_and_of_those_not_dead(hub, aged):
    page = systems.connection_page(hub, aged.name)
    assert [each["number"] for each in page["versions"]] == [*range(_OLD, _OLD - 30, -1), 1]
    assert (page["version"], page["serving"]) == (1, "v1 serves")


def test_a_page_tells_of_the_version_that_is_pointed_at(hub, aged):
    """However old and dead it is: a connection that was left still says which one it had."""
    hub.store.write(lambda tx: versions.move(tx, aged.current_version_id, State.DEAD, time.time()))
    page = systems.connection_page(hub, aged.name)
    assert (page["version"], page["serving"]) == (1, "nothing serves")


def test_a_history_tells_of_the_versions_that_its_lines_speak_of(hub, aged):
    """What serves and the newest, and however old a version is, it has its name where a line speaks of it."""
    known, lines = systems.history(hub, aged.name)
    assert lines
    assert [each.number for each in known] == [_OLD, 1]
    seventh = next(v for v in hub.store.read(lambda tx: versions.of_connection(tx, aged.id)) if v.number == 7)
    spoken = {"what": "revoke", "ref": {"near": [seventh.id]}}
    line = Line(aged.id, 99, time.time(), "", "retire", LineKind.INTENT, 1, spoken, "")
    found = systems.spoken_of(hub, aged, [*lines, line])
    assert [each.number for each in found] == [_OLD, 7, 1]


def test_a_list_says_what_serves(hub, aged):
    assert [(c.name, said) for c, said in runs.page(hub, "", 10)] == [(aged.name, "v1 serves")]
