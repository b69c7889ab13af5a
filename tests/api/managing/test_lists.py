"""Long lists: every call's cursor leads through all of it, within what the caller may see, and is good for that list only."""

from __future__ import annotations

import time

import pytest
from bench.crowd import Size, fill
from tests.api.managing.conftest import is_problem

from keyturn.model.run import LineKind
from keyturn.storage import journal

SIZE = Size(
    connections=90, runs=300, lines=2500, waiting=12, asked=3, stuck=2, debts=14, issued=6, longest=30
)


@pytest.fixture
def filled(idle):
    return fill(idle, SIZE)


def through(client, path, headers, limit):
    """All items of a call, page by page."""
    found, after = [], ""
    for _ in range(200):
        body = client.get(
            f"{path}{'&' if '?' in path else '?'}limit={limit}&after={after}", headers=headers
        ).json()
        found += body["items"]
        after = body.get("next") or ""
        if not after:
            return found
        assert len(body["items"]) == limit or "looked_back_to" in body
    raise AssertionError("it does not end")


def test_cursors_lead_through_everything(client, token, filled):
    """Whatever the order, each once; and within a role's project only what is in it."""
    admin, orders = token(), token("viewer", "Orders")
    mine = {c["id"] for c in through(client, "connections?health=good", orders, 7)}
    for path, key, many in (
        ("connections", "id", SIZE.connections + SIZE.issued),
        ("connections?sort=due&down=true", "id", SIZE.connections + SIZE.issued),
        ("connections?sort=state", "id", SIZE.connections + SIZE.issued),
        ("tasks", "id", SIZE.waiting),
        ("debts", "id", SIZE.debts),
        ("issued", "name", SIZE.issued),
        ("runs?state=waiting_human", "id", SIZE.waiting),
        ("runs", "id", None),
    ):
        found = [each[key] for each in through(client, path, admin, 5 if many and many < 20 else 50)]
        assert len(found) == len(set(found)), path
        assert many is None or len(found) == many, path
        assert {e[key] for e in through(client, path, orders, 50)} <= set(found)
    assert mine
    assert {c["project"] for c in through(client, "connections", orders, 50)} == {"Orders"}


def test_a_cursor_is_good_for_its_list(client, token, filled):
    """With another filter or order it is refused."""
    after = client.get("tasks?limit=3", headers=token()).json()["next"]
    for path in ("debts", "issued", "connections", "tasks?whose=team", "audit"):
        asked = f"{path}{'&' if '?' in path else '?'}after={after}"
        is_problem(client.get(asked, headers=token()), 422, "invalid_input")


def test_today_counts_beyond_what_it_names(client, token, filled, monkeypatch):
    """The lists are cut, the numbers are whole."""
    monkeypatch.setattr("keyturn.operations.overview.MOST_SHOWN", 2)
    found = client.get("today", headers=token()).json()
    assert (len(found["tasks"]), found["counts"]["tasks"]) == (2, SIZE.waiting)
    assert (len(found["debts"]), found["counts"]["debts"]) == (2, SIZE.debts)
    assert found["connections"] == SIZE.connections + SIZE.issued


def test_the_trail_by_person_and_by_words(client, token, idle, filled, monkeypatch):
    """Who acted is found at once; words are looked for line by line, and the answer says how far."""
    entry = journal.Entry(
        time.time() - 690 * 86400, "", "x", LineKind.DECISION, 0, {"decision": "odd", "by": "zoe"}
    )
    idle.store.write(lambda tx: journal.append(tx, journal.HUB, [entry]))
    admin = token()
    (line,) = client.get("audit?by=zoe", headers=admin).json()["items"]
    assert line["facts"]["decision"] == "odd"
    assert client.get("audit?by=zo", headers=admin).json()["items"] == []
    monkeypatch.setattr(journal.search, "__kwdefaults__", {**journal.search.__kwdefaults__, "look_at": 600})
    first = client.get("audit?text=odd", headers=admin).json()
    assert first["items"] == []
    assert first["looked_back_to"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    assert [each["hash"] for each in through(client, "audit?text=odd", admin, 10)] == [line["hash"]]
