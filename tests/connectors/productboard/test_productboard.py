"""Productboard's row: what the declared rules make of the stand-in's answers, the odd ones above all."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
import pytest

from keyturn.catalog import Catalog
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.model.card import GapClass, Hands, Proof, Strategy
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, mismatch
from keyturn_lab.standin import running
from keyturn_lab.vendors.productboard import STANDIN, people

ME, SAME_WORKSPACE, ELSEWHERE = (
    "integration@acme.example",
    "admin@acme.example",
    "integration@globex.example",
)
ROW = Catalog().row("productboard", "access_token", {"workspace": "acme"})


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        door(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def door(url: str, name: str, body: object) -> None:
    httpx2.post(f"{url}/_lab/{name}", json=body).raise_for_status()


def probe(url: str, token: str) -> Probe:
    settings = {"workspace": "acme", "base_url": url}
    network = NetworkPolicy(frozenset({"127.0.0.1"}))
    return ROW.can.verifier.verify(
        Access(settings, deadline_s=5, network=network), Material({"access_token": token})
    )


def test_card() -> None:
    """Two at once, both made and deleted by a person, without a gap, with a death that is tried."""
    card = ROW.card
    assert (card.strategy, card.hands, card.gap_class, card.proof) == (
        Strategy.SUPPLIED,
        Hands.GUIDED,
        GapClass.Z0,
        Proof.D2,
    )
    assert not card.new_kills_old
    assert ROW.can.revoker is ROW.can.lister is ROW.can.issuer is None


def test_workspace_is_who_answers(url: str) -> None:
    """Tokens of one workspace are the same, whoever made them; one of another workspace is told apart."""
    mine, colleague, other = (
        probe(url, people.create_token(url, who, "sync")) for who in (ME, SAME_WORKSPACE, ELSEWHERE)
    )
    assert mine.identity == {"principal": "acme"}
    assert mismatch(mine.identity, colleague.identity) == ()
    assert mismatch(mine.identity, other.identity) == ("principal",)


def test_members_without_links_are_no_verdict(url: str) -> None:
    """An answer that does not name the workspace proves nothing."""
    token = people.create_token(url, ME, "sync")
    door(url, "settings", {"html_links": False})
    assert probe(url, token).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("value", ["nonsenseWithoutDots01", "not.a.token.of.theirs", "not.aTokenOf.theirs"])
def test_every_401_is_one_refusal(url: str, value: str) -> None:
    """The gateway's and the vendor's own 401 mean the same: refused."""
    found = probe(url, value)
    assert (found.verdict, found.code) == (Verdict.REJECTED, "credential_invalid")


def test_negative_control_keeps_the_shape(url: str) -> None:
    """The made-up token is a JWT in shape, and is refused as a deleted one is."""
    token = people.create_token(url, ME, "sync")
    made_up = ROW.can.verifier.bogus(Material({"access_token": token}))["access_token"]
    assert (made_up.count("."), len(made_up)) == (2, len(token))
    people.delete_token(url, ME, "sync")
    assert probe(url, made_up).code == probe(url, token).code == "credential_invalid"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"plan_too_small": True}, "plan"),
        ({"api_enabled": False}, "plan"),
        ({"per_second": 0}, "rate_limited"),
    ],
)
def test_what_is_no_matter_of_the_token(url: str, settings: dict[str, object], code: str) -> None:
    """Plan, switch and rate say nothing about the token."""
    token = people.create_token(url, ME, "sync")
    door(url, "settings", settings)
    time.sleep(0.01)
    found = probe(url, token)
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, code)
    assert (found.wait_s == 1.0) is (code == "rate_limited")
