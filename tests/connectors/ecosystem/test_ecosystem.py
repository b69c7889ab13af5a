"""Ecosystems' row: nothing is known of its API, so nothing but what the settings say is believed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from tests.compliance.lab import the_lab
from tests.compliance.rows.ecosystem import one_key
from tests.operations.test_rows_end_to_end import open_world

from keyturn.catalog import Catalog
from keyturn.connectors.ecosystem import connector
from keyturn.connectors.ecosystem.connector import Prober, capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.model.card import GapClass, Strategy
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict
from keyturn.operations import connections
from keyturn.transport.http import Answer
from keyturn_lab.standin import running
from keyturn_lab.vendors.ecosystem import STANDIN, people

SETTINGS = {"expects": "valueDrivers", "account_member": "account", "prefix": "Bearer"}


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        httpx2.post(f"{address}/_lab/dials", json={"settle_s": 0, "latency_s": 0})
        yield address


def probe(url: str, key: str, **settings: str) -> Probe:
    network = NetworkPolicy(frozenset({"127.0.0.1"}))
    whole = {**SETTINGS, "address": f"{url}/v1/value-drivers", **settings}
    return Prober().verify(Access(whole, deadline_s=5, network=network), Material({"access_key": key}))


def answer(status: int, body: object, content_type: str = "application/json") -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, {"content-type": content_type, "retry-after": "7"}, text.encode(), "vendor.example")


GOOD = {"valueDrivers": [], "account": "acme"}
ANSWERS = [
    (answer(200, GOOD), Verdict.ACCEPTED, ""),
    (answer(200, {"valueDrivers": [], "account": 7}), Verdict.ACCEPTED, ""),
    (answer(200, {"account": "acme"}), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(200, {"valueDrivers": None, "account": "acme"}), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(200, {"valueDrivers": []}), Verdict.UNKNOWN, "identity_missing"),
    (answer(200, {"valueDrivers": [], "account": True}), Verdict.UNKNOWN, "identity_missing"),
    (answer(200, [GOOD]), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(200, GOOD, "text/html"), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(201, GOOD), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(401, {}), Verdict.REJECTED, "401"),
    (answer(401, "", "text/plain"), Verdict.REJECTED, "401"),
    (answer(401, "<h1>Sign in</h1>", "text/html"), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(403, {}), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(302, {}), Verdict.UNKNOWN, "unexpected_answer"),
    (answer(429, {}), Verdict.UNKNOWN, "rate_limited"),
    (answer(503, {}), Verdict.UNKNOWN, "transient"),
]


@pytest.mark.parametrize(("said", "verdict", "code"), ANSWERS)
def test_answers(said: Answer, verdict: Verdict, code: str) -> None:
    """Only the expected member is a yes and only the told status is a no."""
    found = connector._read(said, SETTINGS)
    assert (found.verdict, found.code) == (verdict, code)
    assert (found.wait_s == 7.0) is (code in {"rate_limited", "transient"})


def test_settings_say_how_the_key_travels_and_is_refused(url: str) -> None:
    """Header, prefix and status of a refusal are what the vendor told; with others nothing is known."""
    key = people.make_key(url, "acme", "a")
    assert probe(url, key).identity == {"principal": "acme"}
    other = {"header": "X-Api-Key", "prefix": "", "refused_with": 403}
    httpx2.post(f"{url}/_lab/settings", json=other)
    assert probe(url, key).verdict is Verdict.UNKNOWN
    told = {"header": "X-Api-Key", "prefix": "none", "refused_with": "403"}
    assert probe(url, key, **told).verdict is Verdict.ACCEPTED
    assert probe(url, "ktlabNotTheKey", **told).code == "403"


def test_without_a_member_for_the_account_nobody_is_named(url: str) -> None:
    """The identity is then not told, and says so."""
    key = people.make_key(url, "globex", "a")
    assert probe(url, key, account_member="").identity == {"principal": "not told"}


def test_header_name_cannot_be_abused(url: str) -> None:
    """A name with a line break or a colon is refused before anything is sent, and there is one method only."""
    for name in ("X-Key\r\nHost", "X:Y", "1"):
        with pytest.raises(InvalidInput):
            probe(url, "ktlabSomeKey", header=name)
    with pytest.raises(NotFound):
        capabilities("password", {})


def test_one_key_is_assumed() -> None:
    """Without the vendor's word a new key is taken to end the old one: consumers are paused."""
    row = Catalog().row("ecosystem", "access_key", {})
    assert (row.card.strategy, row.card.gap_class, row.method.requires_pause) == (
        Strategy.REGENERATE,
        GapClass.Z2,
        True,
    )
    several = Catalog().row("ecosystem", "access_key", {"keys": "several"})
    assert (several.card.strategy, several.card.gap_class, several.method.requires_pause) == (
        Strategy.SUPPLIED,
        GapClass.Z0,
        False,
    )


def test_there_is_one_connection(tmp_path: Path) -> None:
    """A second one is refused before anything is sent, with the name of the first; also while that one is disconnected."""
    case = one_key(the_lab())
    world = open_world(case, tmp_path)
    try:
        world.enter()
        world.name, there = "another", the_lab().vendor("ecosystem")
        there.arm("*", "error_not_applied", times=None)
        with pytest.raises(Conflict, match="has one connection, and it is c") as second:
            world.connect()
        assert second.value.facts["field"] == "name"
        there.disarm()
        world.name = "c"
        assert world.run(Goal.DISCONNECT).state is RunState.COMPLETE
        world.name = "another"
        with pytest.raises(Conflict) as again:
            world.connect()
        assert "keyturn reconnect c" in again.value.hint
    finally:
        world.hub.close()


def test_two_who_connect_at_once_make_one(tmp_path: Path) -> None:
    """Both tested before either saved: the second save finds the first."""
    world = open_world(one_key(the_lab()), tmp_path)
    the_lab().vendor("ecosystem").arm("*", "slow", times=None, seconds=0.5)
    said: list[str] = []

    def connect(name: str) -> None:
        try:
            replace(world, name=name).connect()
            said.append("connected")
        except Conflict as error:
            said.append(error.message)

    both = [threading.Thread(target=connect, args=(name,)) for name in ("one", "two")]
    for each in both:
        each.start()
    for each in both:
        each.join()
    the_lab().vendor("ecosystem").disarm()
    made, refused = sorted(said)
    assert made == "connected"
    assert "has one connection" in refused
    assert len(connections.every(world.hub)) == 1
    world.hub.close()
