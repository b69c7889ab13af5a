"""What a page tells of a connection that has lived for years: a screenful, and whatever is alive."""

import time
from dataclasses import replace

import pytest

from keyturn.model.credential import State
from keyturn.model.ids import VersionId, new_id
from keyturn.model.run import Line, LineKind
from keyturn.operations import connections, runs, systems
from keyturn.storage import versions
from keyturn_lab.vendors.shapes import Shapes
from tests.faults import world

_OLD = 60


@pytest.fixture
def client():
    with Shapes.in_thread() as vendor:
        yield vendor.client


@pytest.fixture
def hub(tmp_path):
    opened = world.open_world(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def aged(hub, client):
    """A connection whose first version serves and many later ones are dead."""
    world.connect(hub, client, "many_ids", "old")
    found = connections.find(hub, "old")

    def fill(tx):
        serving = versions.by_id(tx, found.current_version_id)
        for number in range(2, _OLD + 1):
            versions.add(tx, replace(serving, id=VersionId(new_id("ver")), number=number, state=State.DEAD))

    hub.store.write(fill)
    return found


def test_a_page_tells_of_the_latest_versions_and_of_those_not_dead(hub, aged):
    page = systems.connection_page(hub, "old")
    assert [each["number"] for each in page["versions"]] == [*range(_OLD, _OLD - 30, -1), 1]
    assert (page["version"], page["serving"]) == (1, "v1 serves")


def test_a_history_tells_of_the_versions_that_its_lines_speak_of(hub, aged):
    """What serves and the newest, and however old a version is, it has its name where a line speaks of it."""
    known, lines = systems.history(hub, "old")
    assert lines
    assert [each.number for each in known] == [_OLD, 1]
    seventh = next(v for v in hub.store.read(lambda tx: versions.of_connection(tx, aged.id)) if v.number == 7)
    spoken = {"what": "revoke", "ref": {"near": [seventh.id]}}
    line = Line(aged.id, 99, time.time(), "", "retire", LineKind.INTENT, 1, spoken, "")
    found = systems.spoken_of(hub, aged, [*lines, line])
    assert [each.number for each in found] == [_OLD, 7, 1]


def test_a_list_says_what_serves(hub, aged):
    assert [(c.name, said) for c, said in runs.page(hub, "", 10)] == [("old", "v1 serves")]
