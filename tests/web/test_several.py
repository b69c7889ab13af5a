"""Several connections at once, all runs on one page, and home's two pictures."""

import re
import time
from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from tests.waiting import wait_for
from tests.web.conftest import hidden, text

from keyturn.operations import issued, runs
from keyturn.operations.rights import Role
from keyturn.web import charts
from keyturn.web.pages.bulk import MOST


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def address(goal, *connections):
    return f"/bulk/{goal}?" + "&".join(f"id={c.id}" for c in connections)


def start(it, goal, *connections, **more):
    """The combined plan, sent as it was shown."""
    page = it.get(address(goal, *connections))
    ids = re.findall(r'name="id" value="(\w+)"', page.text)
    digests = dict(re.findall(r'name="(digest-\w+)" value="(\w+)"', page.text))
    form = {"trigger": hidden(page, "trigger"), "id": ids, **digests, **more}
    return it.post(f"/bulk/{goal}", form, on=address(goal, *connections))


def test_several_are_ticked_and_rotated(it, connect, idle):
    """From the list to one plan, to one page on which all are followed to their ends."""
    one, two = connect(name="one"), connect("many_ids", name="two")
    listed = it.get("/connections").text
    for each in (one, two):
        assert f'form="several" name="id" value="{each.id}"' in listed
    plan = text(it.get(address("rotate", one, two)))
    for said in ("Rotate: 2 connections", "2 of 2", "Nobody notices", "start 2"):
        assert said in plan
    answer = start(it, "rotate", one, two, reason="quarterly")
    assert answer.status_code == 303
    path = answer.headers["location"]
    assert path.count("run=run_") == 2
    assert "0 of 2 have ended" in text(it.get(path))
    idle.engine.start()
    wait_for(lambda: "2 of 2 have ended" in text(it.get(path)))
    for each in (one, two):
        run = runs.recent(idle, each.id, 1)[0]
        assert (run.reason, run.state.value) == ("quarterly", "complete")
    assert "2 of 2 have ended" in text(it.get(path))


def test_one_that_cannot_keeps_no_other_back(it, connect, idle):
    """Left out with its reason: a run that has not ended, what this hub issued; the rest starts."""
    one, two = connect(name="one"), connect(name="two")
    key = issued.issue(idle, "api-key", "partner", {}).connection
    from keyturn.model.plan import Goal

    runs.start(idle, two.name, Goal.ROTATE)
    page = it.get(address("rotate", one, two, key))
    shown = text(page)
    assert "A run of it has not ended" in shown
    assert "This hub issued it" in shown
    assert "1 of 3" in shown
    assert re.findall(r'name="id" value="(\w+)"', page.text) == [one.id]
    assert start(it, "rotate", one, two, key).status_code == 303
    assert len(runs.recent(idle, one.id)) == 1
    assert len(runs.recent(idle, two.id)) == 1


def test_only_plans_that_were_shown_are_started(it, connect, idle):
    """Another plan by now, or none that was shown: not started, and said so; sent twice, it is one run."""
    one, two = connect(name="one"), connect(name="two")
    page = it.get(address("rotate", one, two))
    digests = dict(re.findall(r'name="(digest-\w+)" value="(\w+)"', page.text))
    form = {"trigger": hidden(page, "trigger"), "id": [one.id, two.id], **digests}
    idle.store.write(
        lambda tx: tx.run("UPDATE connection SET policy = ? WHERE id = ?", '{"proof": "D1"}', two.id)
    )
    answer = it.post("/bulk/rotate", form, on="/account")
    assert "Not started: two (its plan is another one by now)" in text(it.get(answer.headers["location"]))
    assert len(runs.recent(idle, one.id)) == 1
    assert runs.recent(idle, two.id) == []
    again = it.post("/bulk/rotate", form, on="/account").headers["location"]
    assert again == answer.headers["location"]
    assert len(runs.recent(idle, one.id)) == 1


def test_containing_several_is_asked_twice(it, connect, idle):
    one, two = connect(name="one"), connect(name="two")
    assert start(it, "contain", one, two).status_code == 422
    assert runs.recent(idle, one.id) == []
    assert start(it, "contain", one, two, sure="yes").status_code == 303
    assert runs.recent(idle, one.id)[0].goal.value == "contain"


def test_containing_several_asks_a_second_person(it, connect, idle, person):
    """As the rules of approval say, which count how many were chosen; with a reason an emergency begins at once."""
    one, two = connect(name="one"), connect(name="two")
    assert "A second person is asked first" in text(it.get(address("contain", one, two)))
    assert "A second person is asked first" not in text(it.get(address("contain", one)))
    start(it, "contain", one, two, sure="yes")
    assert {r.state.value for r in runs.recent(idle)} == {"waiting_approval"}
    three, four = connect(name="three"), connect(name="four")
    start(it, "contain", three, four, sure="yes", emergency="keys are public")
    assert {runs.recent(idle, c.id)[0].state.value for c in (three, four)} == {"queued"}


def test_several_asked_wrongly(it, connect):
    connect(name="one")
    assert it.get("/bulk/rotate").status_code == 422
    assert it.get("/bulk/disconnect?id=x").status_code == 404
    assert it.get("/bulk/rotate?id=con_none").status_code == 404
    assert it.get("/bulk/rotate?" + "&".join(f"id=c{n}" for n in range(MOST + 1))).status_code == 422
    assert it.get("/runs?run=run_none").status_code == 404


def test_who_may_rotate_several(browser, person, connect, idle):
    """Of several, one that is not theirs stops all; viewers tick nothing; others' runs are not followed."""
    mine, other = connect(name="mine", project="billing"), connect(name="other")
    viewer = browser(person(Role.VIEWER))
    assert 'form="several"' not in viewer.get("/connections").text
    assert "start 1" not in text(viewer.get(address("rotate", mine)))
    assert viewer.post("/bulk/rotate", {"id": mine.id}, on="/account").status_code == 403
    operator = browser(person(Role.OPERATOR, "op", "billing"))
    assert operator.get(address("rotate", mine, other)).status_code == 404
    assert operator.post("/bulk/rotate", {"id": [mine.id, other.id]}, on="/account").status_code == 404
    assert runs.recent(idle) == []
    assert start(operator, "rotate", mine).status_code == 303
    stranger = browser(person(Role.OPERATOR, "stranger", "elsewhere"))
    run = runs.recent(idle)[0]
    assert stranger.get(f"/runs?run={run.id}").status_code == 404
    assert run.id not in stranger.get("/runs").text
    assert run.id in operator.get("/runs").text


# -- home's pictures -----------------------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 25, 12, tzinfo=UTC).timestamp()  # a Wednesday; the clocks change on Sunday
DAY = 86400.0


def test_the_calendar():
    """Five weeks from Monday on, in the viewer's zone, without a day twice when the clocks change."""
    where = ZoneInfo("Europe/Berlin")
    starts = charts.starts(where, NOON)
    assert [datetime.fromtimestamp(at, where).time().hour for at in starts] == [0] * (7 * charts.WEEKS + 1)
    assert {b - a for a, b in pairwise(starts)} == {DAY, DAY - 3600}
    weeks = charts.calendar({2: (1, ["a"]), 6: (9, ["b", "c"])}, {7: (1, ["b"])}, where, NOON)
    days = [day for week in weeks for day in week]
    assert [len(week) for week in weeks] == [7] * charts.WEEKS
    assert len({d.day for d in days}) == 7 * charts.WEEKS
    assert days[0].day == date(2026, 3, 23)
    assert [(d.day.day, d.says) for d in days if d.says] == [
        (25, "due: a"),
        (29, "due: b, c and 7 more"),
        (30, "expires: b"),
    ]
    assert [d.is_past for d in days[:4]] == [True, True, False, False]
    assert sum(d.is_today for d in days) == 1


def test_the_ages():
    """The tallest bar is whole, and none that is there is invisible."""
    bars = charts.ages({0: (30, 0), 1: (30, 0), 2: (30, 0), 3: (90, 90), 4: (20, 20)})
    assert [bar.count for bar in bars] == [30, 30, 30, 90, 20]
    assert [bar.late for bar in bars] == [0, 0, 0, 90, 20]
    assert max(bar.height for bar in bars) == 100
    assert charts.ages({0: (1000, 0), 4: (1, 0)})[4].height > 2
    assert all(bar.height == 0 for bar in charts.ages({}))


def test_home_says_what_the_pictures_show(it, connect, idle):
    """In words too, for whoever does not see them."""
    connection = connect(name="orders")
    born = time.time() - 85 * DAY
    idle.store.write(
        lambda tx: tx.run(
            "UPDATE version SET changed_at = ?, born_at = ? WHERE connection_id = ?",
            born,
            born,
            connection.id,
        )
    )
    page = it.get("/")
    assert "due: orders" in page.text
    assert "60 to 90: 1" in re.search(r'id="ages-says">([^<]+)', page.text)[1]
