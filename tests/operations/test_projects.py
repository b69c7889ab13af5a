"""Projects, objects and sources: one stored credential serves many, and whoever changes it is told whom it serves."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keyturn.bootstrap import open_hub
from keyturn.catalog import Catalog
from keyturn.contract.values import Sample
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.model.plan import Goal, Plan
from keyturn.model.run import RunState
from keyturn.operations import audit, connections, projects, runs
from keyturn.storage import journal
from tests.faults import world

NUMBERS = itertools.count(1)


class Tables:
    """A reader that knows some tables."""

    def __init__(self):
        self.known, self.asked = {"orders", "visits"}, []

    def read_sample(self, access, material, what, limit):
        self.asked.append((what, limit))
        if what not in self.known:
            raise NotFound(f"there is no table {what}")
        return Sample(1, what)


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture
def hub(tmp_path, tables):
    found = world.external()

    def capabilities(method, settings):
        return replace(found.capabilities(method, settings), reader=tables)

    catalog = Catalog(extra={"shapes": SimpleNamespace(system=found.system, capabilities=capabilities)})
    opened = open_hub(world.settings(tmp_path), create=True, catalog=catalog)
    projects.add(opened, "adoption")
    projects.add_object(opened, "adoption", "usage")
    yield opened
    opened.close()


@pytest.fixture
def connect(hub, client):
    def made(method="many_ids"):
        name = f"prj{next(NUMBERS)}"
        world.connect(hub, client, method, name)
        return name

    return made


def said(hub, name):
    connection = connections.find(hub, name)
    found = hub.store.read(lambda tx: journal.of_connection(tx, connection.id))
    return [line.facts["decision"] for line in found if line.step == "source"]


def test_one_credential_serves_many_sources_and_is_rotated_once(hub, connect, client):
    """The plan names all of them, and the run freezes what it said."""
    name = connect()
    labels = [f"adoption/usage/{each}" for each in ("a", "b", "c")]
    for label in labels:
        projects.add_source(hub, label, name, reads="orders")
    made = runs.plan(hub, name, Goal.ROTATE)
    assert made.used_by == tuple(labels)
    run = world.rotate(hub, client, name)
    assert run.state is RunState.COMPLETE
    assert run.plan.used_by == tuple(labels)
    assert len([v for v in runs.recent(hub, name) if v.goal is Goal.ROTATE]) == 1
    assert all(s.connection == name for s in projects.sources(hub, name))


def test_a_plan_frozen_before_there_were_sources_still_reads(hub, connect):
    frozen = runs.plan(hub, connect(), Goal.ROTATE).as_json()
    del frozen["used_by"]
    assert Plan.from_json(frozen).used_by == ()


def test_ending_a_connection_warns_of_the_sources_that_lose_it(hub, connect):
    name = connect()
    projects.add_source(hub, "adoption/usage/a", name)
    for goal in (Goal.DISCONNECT, Goal.REVOKE):
        assert any("adoption/usage/a" in warning for warning in runs.plan(hub, name, goal).warnings)


def test_a_connection_with_sources_is_not_deleted(hub, connect, client):
    """Refused by the names of all of them; free of them, it goes."""
    name, other = connect(), connect()
    projects.add_source(hub, "adoption/usage/a", name)
    projects.add_source(hub, "adoption/usage/b", name)
    assert world.rotate(hub, client, name, Goal.DISCONNECT).state is RunState.COMPLETE
    with pytest.raises(Conflict, match=r"adoption/usage/a, adoption/usage/b") as refused:
        connections.forget(hub, name)
    assert "keyturn source edit adoption/usage/a" in refused.value.hint
    projects.edit_source(hub, "adoption/usage/a", connection=other)
    projects.remove_source(hub, "adoption/usage/b")
    connections.forget(hub, name)


def test_a_source_is_read_before_it_is_saved(hub, connect, tables):
    name = connect()
    with pytest.raises(InvalidInput, match="no table nowhere"):
        projects.add_source(hub, "adoption/usage/a", name, reads="nowhere")
    assert projects.sources(hub) == []
    projects.add_source(hub, "adoption/usage/a", name, reads="nowhere", untested=True)
    assert tables.asked == [("nowhere", 1)]


def test_editing_a_source_chooses_another_connection(hub, connect, tables):
    """Both connections' histories say so; a connection that cannot read it is not chosen."""
    name, other = connect(), connect()
    projects.add_source(hub, "adoption/usage/a", name, reads="orders")
    tables.known.discard("orders")
    with pytest.raises(InvalidInput):
        projects.edit_source(hub, "adoption/usage/a", connection=other)
    assert projects.source(hub, "adoption/usage/a").connection == name
    tables.known.add("orders")
    made = projects.edit_source(hub, "adoption/usage/a", connection=other)
    assert (made.connection, made.what) == (other, "orders")
    assert projects.edit_source(hub, "adoption/usage/a", reads="visits").what == "visits"
    assert said(hub, name) == ["source_added", "source_left"]
    assert said(hub, other) == ["source_edited", "source_edited"]
    assert runs.plan(hub, name, Goal.ROTATE).used_by == ()


def test_what_is_not_empty_is_not_removed(hub, connect):
    name = connect()
    projects.add_source(hub, "adoption/usage/a", name)
    with pytest.raises(Conflict, match="adoption/usage/a"):
        projects.remove_object(hub, "adoption", "usage")
    with pytest.raises(Conflict, match="adoption/usage/a"):
        projects.remove(hub, "adoption")
    projects.remove_source(hub, "adoption/usage/a")
    projects.remove_object(hub, "adoption", "usage")
    projects.remove(hub, "adoption")
    assert projects.pages(hub) == []
    assert said(hub, name) == ["source_added", "source_removed"]


def test_a_name_is_used_once_in_its_place(hub, connect):
    name = connect()
    projects.add_source(hub, "adoption/usage/a", name)
    for again in (
        lambda: projects.add(hub, "adoption"),
        lambda: projects.add_object(hub, "adoption", "usage"),
        lambda: projects.add_source(hub, "adoption/usage/a", name),
    ):
        with pytest.raises(Conflict):
            again()
    projects.add(hub, "other")
    projects.add_object(hub, "other", "usage")
    projects.add_source(hub, "other/usage/a", name)


@pytest.mark.parametrize("label", ["", "a", "a/b", "a/b/c/d", "a//c", "/b/c"])
def test_a_source_is_named_by_three_names(hub, connect, label):
    with pytest.raises(InvalidInput, match="PROJECT/OBJECT/SOURCE"):
        projects.add_source(hub, label, connect())


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 81, "a\x1bb"])
def test_a_name_that_would_confuse_is_refused(hub, name):
    with pytest.raises(InvalidInput):
        projects.add(hub, name)


def test_what_is_not_there_is_said_by_name(hub, connect):
    name = connect()
    for label, missing in (("x/usage/a", "project x"), ("adoption/x/a", "no object x")):
        with pytest.raises(NotFound, match=missing):
            projects.add_source(hub, label, name)
    with pytest.raises(NotFound, match="no source"):
        projects.remove_source(hub, "adoption/usage/x")


def test_the_chains_hold(hub, connect, tmp_path):
    """Lines about projects go into the hub's own chain; an export of everything verifies."""
    name = connect()
    projects.add_source(hub, "adoption/usage/a", name)
    lines = hub.store.read(lambda tx: journal.latest(tx, journal.HUB, 10))
    assert [line.facts["decision"] for line in lines] == ["object_added", "project_added"]
    audit.export(hub, tmp_path / "trail.jsonl")
