"""Ecosystems' row: nothing is known of its API, so nothing but what the settings say is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from keyturn.catalog import Catalog
from keyturn.connectors.ecosystem import connector
from keyturn.connectors.ecosystem.connector import Prober, capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import InvalidInput, NotFound
from keyturn.model.card import GapClass, Strategy
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict
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
