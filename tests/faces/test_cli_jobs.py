"""job, project, source by the command: what is said, as JSON, and the exit codes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from keyturn.contract.values import Sample
from keyturn.errors import NotFound, VendorUnavailable
from tests.faults import world


class Reader:
    """Knows one table; can be made to fail."""

    def __init__(self):
        self.fails = None

    def read_sample(self, access, material, what, limit):
        if self.fails:
            raise self.fails
        if what != "sales.orders":
            raise NotFound(f"there is no table {what}")
        return Sample(min(limit, 7), what)


@pytest.fixture
def reader(monkeypatch):
    made, found = Reader(), world.external()

    def capabilities(method, settings):
        return replace(found.capabilities(method, settings), reader=made)

    monkeypatch.setattr(
        world, "external", lambda **_: SimpleNamespace(system=found.system, capabilities=capabilities)
    )
    return made


@pytest.fixture
def orders(keyturn, vendor, fresh_name, reader):
    name = fresh_name("orders")
    keyturn.connect(vendor, "many_ids", name, "--policy", "drain_min_s=0.02")
    return name


def test_a_job_from_adding_to_removing(keyturn, orders, reader):
    added = keyturn("job", "add", orders, "nightly", "--reads", "sales.orders", "--every", "daily at 02:00")
    assert "7 read" in added.stdout
    (line,) = keyturn.json("job", "list")
    assert (line["name"], line["schedule"], line["last"]["count"]) == ("nightly", "daily at 02:00", 7)
    assert (line["last"]["version_number"], line["state"]) == (1, "active")
    ran = keyturn.json("job", "run", "nightly")
    assert (ran["state"], ran["count"], ran["cause"]) == ("ok", 7, "demand")
    assert keyturn.json("job", "show", "nightly")["results"][0]["cause"] == "demand"
    assert "nightly" in keyturn("job", "list", orders).stdout
    keyturn("job", "pause", "nightly")
    assert keyturn.json("job", "show", "nightly")["state"] == "paused"
    keyturn("job", "resume", "nightly")
    assert "cannot be undone" in keyturn("job", "remove", "nightly", code=2).stderr
    keyturn("job", "remove", "nightly", "--yes")
    assert keyturn.json("job", "list") == []


def test_a_short_length_is_a_schedule(keyturn, orders):
    assert (
        keyturn.json("job", "add", orders, "a", "--reads", "sales.orders", "--every", "15m")["schedule"]
        == "every 15m"
    )
    assert (
        keyturn.json("job", "add", orders, "b", "--reads", "sales.orders", "--every", "every 2h")["schedule"]
        == "every 2h"
    )
    refused = keyturn("job", "add", orders, "c", "--reads", "sales.orders", "--every", "now and then", code=2)
    assert "daily at 06:30" in refused.stderr


def test_what_cannot_be_read_saves_nothing(keyturn, orders):
    refused = keyturn("job", "add", orders, "x", "--reads", "nowhere", code=2)
    assert "no table nowhere" in refused.stderr
    assert keyturn.json("job", "list") == []
    keyturn("job", "add", orders, "x", "--reads", "nowhere", "--untested")


def test_exit_codes_of_a_run(keyturn, orders, reader):
    """0 only when it could read; a name that is not there is bad input, with the nearest one."""
    keyturn("job", "add", orders, "nightly", "--reads", "sales.orders")
    reader.fails = NotFound("the table is gone")
    assert "the table is gone" in keyturn("job", "run", "nightly", code=1).stdout
    reader.fails = VendorUnavailable("no answer")
    assert "says nothing about the credential" in keyturn("job", "run", "nightly", code=1).stdout
    assert "nightly" in keyturn("job", "run", "nightlv", code=2).stderr


def test_a_rotation_shows_its_jobs_and_how_far_the_new_one_was_tried(keyturn, orders, reader):
    keyturn("job", "add", orders, "nightly", "--reads", "sales.orders")
    assert "Run its jobs with the new one: nightly" in keyturn("plan", orders).stdout
    run = keyturn.json("rotate", orders)
    assert run["state"] == "complete"
    assert [(v["level"], v["passed"]) for v in run["validation"]] == [
        ("format", True),
        ("auth", True),
        ("read", True),
        ("job", True),
    ]
    shown = keyturn.json("show", orders)
    assert shown["validation"] == run["validation"]
    assert shown["jobs"][0]["last"]["run"] == run["id"]
    assert "Tried, as far as it got" in keyturn("show", orders).stdout
    assert "job=nightly" in keyturn("history", orders).stdout


def test_a_rotation_that_waits_for_a_job_needs_attention(keyturn, orders, reader):
    """Exit code 4, the reason and both ways out in words."""
    keyturn("job", "add", orders, "nightly", "--reads", "sales.orders")
    reader.fails = NotFound("the table is gone")
    said = keyturn("rotate", orders, code=4).stdout
    assert "job nightly cannot read with the new credential (the table is gone)" in said
    assert "keyturn job pause nightly" in said
    assert "keyturn rollback" in said


def test_projects_and_sources(keyturn, orders, reader):
    keyturn("project", "add", "adoption")
    keyturn("project", "add-object", "adoption", "usage")
    label = "adoption/usage/orders"
    keyturn("source", "add", label, "--connection", orders, "--reads", "sales.orders")
    assert label in keyturn("plan", orders).stdout
    assert keyturn.json("plan", orders)["used_by"] == [label]
    assert keyturn.json("show", orders)["used_by"] == [label]
    (line,) = keyturn.json("source", "list", "--connection", orders)
    assert (line["label"], line["reads"]) == (label, "sales.orders")
    (project,) = keyturn.json("project", "list")
    assert project["objects"][0]["sources"] == [line]
    assert label.rpartition("/")[2] in keyturn("project", "show", "adoption").stdout
    assert label in keyturn("project", "remove", "adoption", code=2).stderr
    keyturn("source", "edit", label, "--reads", "nowhere", code=2)
    keyturn("source", "edit", label, "--reads", "nowhere", "--untested")
    keyturn("source", "remove", label)
    keyturn("project", "remove-object", "adoption", "usage")
    keyturn("project", "remove", "adoption")
    assert keyturn.json("project", "list") == []


def test_a_source_is_reauthorized_where_it_is(keyturn, vendor, fresh_name, reader):
    """A consent for the one connection behind it; a row without one says so."""
    name = fresh_name("grant")
    keyturn.connect(vendor, "grant", name)
    for each in ("a", "b"):
        keyturn("project", "add", each)
        keyturn("project", "add-object", each, "o")
        keyturn("source", "add", f"{each}/o/s", "--connection", name)
    asked = keyturn("source", "reauthorize", "a/o/s", code=3)
    assert "b/o/s" in asked.stderr
    assert "reauthorize" in asked.stdout
    assert keyturn.json("tasks")[0]["connection"] == name


def test_a_source_of_a_row_without_consent_is_not_reauthorized(keyturn, orders):
    keyturn("project", "add", "adoption")
    keyturn("project", "add-object", "adoption", "usage")
    keyturn("source", "add", "adoption/usage/a", "--connection", orders)
    assert "nothing to authorize" in keyturn("source", "reauthorize", "adoption/usage/a", code=2).stderr
