"""Lists that are longer than a page: each page leads to the next, and its place cannot be made up."""

from __future__ import annotations

import re
import time

import pytest
from bench.crowd import Size, fill
from tests.web.conftest import text

from keyturn.storage import journal

SIZE = Size(
    connections=200, runs=400, lines=3000, waiting=60, asked=2, stuck=2, debts=60, issued=55, longest=60
)


@pytest.fixture
def it(idle, browser, person):
    fill(idle, SIZE)
    return browser(person())


def through(it, path, pattern, word="Next page"):
    """What every page of a list shows, one after another."""
    seen = []
    for _ in range(40):
        page = it.get(path)
        assert page.status_code == 200
        assert len(page.content) < 200_000
        seen += re.findall(pattern, page.text)
        after = re.search(rf'href="([^"]*after=[^"]*)"[^>]*>{word}', page.text)
        if not after:
            return seen
        path = after[1].replace("&amp;", "&")
    raise AssertionError("it does not end")


def test_every_page_leads_to_the_next(it, idle):
    """Connections, tasks, debts, runs, what was issued: all are reached, each once."""
    for path, pattern, many in (
        ("/connections?sort=due", r'id="c-(con_\w+)"', SIZE.connections + SIZE.issued),
        ("/connections?sort=state&down=1", r'id="c-(con_\w+)"', SIZE.connections + SIZE.issued),
        ("/tasks", r'id="t-(tsk_\w+)"', SIZE.waiting),
        ("/debts", r'class="name" href="/debts/(dbt_\w+)"', SIZE.debts),
        ("/issued", r'class="name" href="/issued/(con_\w+)"', SIZE.issued),
        ("/runs", r'class="name" href="/runs/(run_\w+)"', None),
    ):
        seen = through(it, path, pattern)
        many = many or idle.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM run"))[0]
        assert len(seen) == len(set(seen)) == many, path


def test_a_later_page_stays_itself_when_something_changes(it):
    """What is fetched again is that page, not the first one."""
    for path in ("/connections?sort=due", "/tasks", "/debts", "/issued", "/runs"):
        after = re.search(r'href="([^"]*after=[^"]*)"[^>]*>Next page', it.get(path).text)[1]
        page = it.get(after.replace("&amp;", "&"))
        (again,) = re.findall(r'id="live" hx-get="([^"]+)"', page.text)
        assert again.replace("%3D", "=") == after.replace("%3D", "=")


def test_a_place_that_was_made_up_is_the_first_page(it):
    """Nor does a place of one list open another."""
    first = it.get("/tasks").text
    place = re.search(r"after=([^\"&]+)", first)[1]
    for path in ("/debts", "/connections", "/issued", "/runs", "/audit"):
        names = r'class="name"[^>]*href="([^"]+)"'
        assert re.findall(names, it.get(f"{path}?after={place}").text) == re.findall(names, it.get(path).text)
    assert it.get("/tasks?after=x.y").status_code == 200


def test_home_stays_short(it):
    """The first ten of each kind, and how many there are."""
    page = it.get("/")
    assert f"and {SIZE.waiting - 10} more" in text(page)
    assert len(re.findall(r'href="/tasks/tsk_', page.text)) == 10


def test_the_trail_says_how_far_it_looked(it, idle, monkeypatch):
    """Words are looked for line by line: an empty page is not the end, and the last one says so."""
    idle.store.write(
        lambda tx: journal.append(
            tx,
            journal.HUB,
            [
                journal.Entry(
                    time.time() - 690 * 86400, "", "x", journal.LineKind.DECISION, 0, {"decision": "odd"}
                )
            ],
        )
    )
    monkeypatch.setattr(journal, "LOOKED_AT", 700)
    monkeypatch.setattr(journal.search, "__kwdefaults__", {**journal.search.__kwdefaults__, "look_at": 700})
    page = it.get("/audit?q=odd")
    assert "Nothing fits so far" in page.text
    assert "Looked back to" in page.text
    seen = through(it, "/audit?q=odd", r"(Odd|odd)</td>", "Look further back")
    assert len(seen) == 1


def test_the_trail_is_searched_by_a_connections_name(it, idle):
    """Typed, since there are too many to choose from; of one that is not there it says so."""
    name = idle.store.read(lambda tx: tx.one("SELECT name FROM connection ORDER BY name LIMIT 1"))[0]
    assert f'value="{name}"' in it.get(f"/audit?on={name}").text
    assert "There is no connection named nowhere" in it.get("/audit?on=nowhere").text
