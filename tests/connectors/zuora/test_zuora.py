"""Zuora's connector: what each answer means, and what a test says to the stand-in's odd ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from keyturn.connectors.zuora import client
from keyturn.connectors.zuora.client import Meaning
from keyturn.connectors.zuora.connector import Prober, capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import InvalidInput, NotFound, UnexpectedAnswer
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, mismatch
from keyturn.transport.http import Answer
from keyturn_lab.standin import running
from keyturn_lab.vendors.zuora import STANDIN, people

ME, READER, OTHER = "integration@acme.example", "reader@acme.example", "admin@acme.example"
NETWORK = NetworkPolicy(frozenset({"127.0.0.1"}))


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        door(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def door(url: str, name: str, body: object) -> None:
    httpx2.post(f"{url}/_lab/{name}", json=body).raise_for_status()


def of(url: str, user: str = ME, **changed: str) -> Material:
    return Material({**people.create_client(url, user, "sync"), **changed}, frozenset({"client_id"}))


def probe(url: str, material: Material, **settings: str) -> Probe:
    access = Access(
        {"data_centre": "rest.zuora.com", "base_url": url, **settings}, deadline_s=5, network=NETWORK
    )
    return Prober().verify(access, material)


def calls(url: str) -> list[str]:
    return [
        each["op"]
        for each in httpx2.get(f"{url}/_lab/log").json()
        if each["op"] in {"create_token", "products"}
    ]


def answer(status: int, body: object, content_type: str = "application/json", **headers: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, {"content-type": content_type, **headers}, text.encode(), "rest.zuora.com")


def reasons(*codes: Any) -> dict[str, Any]:
    return {"success": False, "processId": "x", "reasons": [{"code": c, "message": "m"} for c in codes]}


TOKEN_ANSWERS: list[tuple[Answer, Meaning]] = [
    (answer(200, {"access_token": "t"}), Meaning.FINE),
    (answer(401, {"message": "no"}), Meaning.REFUSED),
    (answer(403, {"message": "no"}), Meaning.REFUSED),
    (answer(400, {"message": "no"}), Meaning.REFUSED),
    (answer(400, {"error": "invalid_client"}), Meaning.REFUSED),
    (answer(401, {"code": 90_000_011, "message": "no"}), Meaning.REFUSED),
    (answer(200, reasons(90_000_011)), Meaning.REFUSED),
    (answer(200, reasons("90000011")), Meaning.REFUSED),
    (answer(400, {"code": 90_000_022, "message": "field missing"}), Meaning.UNCLEAR),
    (answer(400, {"error": "invalid_request"}), Meaning.UNCLEAR),
    (answer(200, reasons(90_000_061)), Meaning.LATER),
    (answer(401, reasons(90_000_061)), Meaning.LATER),
    (answer(200, reasons(90_000_011, 90_000_061)), Meaning.UNCLEAR),
    (answer(200, reasons(90_000_011, 90_000_099)), Meaning.UNCLEAR),
    (answer(200, reasons()), Meaning.UNCLEAR),
    (answer(401, {"message": "no"}, "text/html"), Meaning.UNCLEAR),
    (answer(401, "<h1>no</h1>"), Meaning.UNCLEAR),
    (answer(401, []), Meaning.UNCLEAR),
    (answer(404, {"message": "no"}), Meaning.UNCLEAR),
    (answer(302, {"message": "no"}), Meaning.UNCLEAR),
    (answer(429, ""), Meaning.THROTTLED),
    (answer(500, {"message": "no"}), Meaning.LATER),
]
READ_ANSWERS: list[tuple[Answer, Meaning]] = [
    (answer(200, {"success": True, "products": []}), Meaning.FINE),
    (answer(200, {"products": []}), Meaning.UNCLEAR),
    (answer(200, reasons(50_000_010)), Meaning.PERMISSION),
    (answer(403, reasons(50_000_010)), Meaning.PERMISSION),
    (answer(403, {"message": "no"}), Meaning.PERMISSION),
    (answer(403, "<h1>blocked</h1>", "text/html"), Meaning.UNCLEAR),
    (answer(200, reasons(90_000_011)), Meaning.REFUSED),
    (answer(401, {"message": "Authentication error"}), Meaning.REFUSED),
    (answer(401, {"message": "Failed to get user info"}), Meaning.LATER),
    (answer(200, reasons(50_000_040)), Meaning.UNCLEAR),
    (answer(200, reasons(1010)), Meaning.UNCLEAR),
    (answer(200, reasons(50_000_070)), Meaning.THROTTLED),
]


@pytest.mark.parametrize(("said", "meaning"), TOKEN_ANSWERS)
def test_token_answers(said: Answer, meaning: Meaning) -> None:
    """Status first, then the last two digits of the codes; what is not documented is unclear."""
    assert client.meaning_of_token(said) is meaning


@pytest.mark.parametrize(("said", "meaning"), READ_ANSWERS)
def test_read_answers(said: Answer, meaning: Meaning) -> None:
    """HTTP 200 with `success: false` is an error, whose category decides."""
    assert client.meaning_of_read(said) is meaning


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"ratelimit-reset": "9"}, 9.0),
        ({"retry-after": "soon", "ratelimit-reset": "9"}, 9.0),
        ({"ratelimit-reset": "99999999999"}, 86_400.0),
        ({}, 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    """Two headers, both in seconds; nobody is made to wait for longer than a day."""
    assert client.wait_s(answer(429, "", **headers)) == seconds


@pytest.mark.parametrize("token", [None, 7, "", "  ", "line\nbreak", "ü"])
def test_a_token_that_is_none(token: object) -> None:
    """An answer without a token that could stand in a header is outside the documented shape."""
    with pytest.raises(UnexpectedAnswer):
        client.token_of(answer(200, {"access_token": token, "scope": "user.1 tenant.2"}))


def test_identity_is_read_from_the_scope(url: str) -> None:
    """Two clients of one user are the same; of another user they are told apart; of two in one scope nobody is known."""
    first, second, other = (probe(url, of(url, user)) for user in (ME, ME, OTHER))
    assert first.verdict is second.verdict is other.verdict is Verdict.ACCEPTED
    assert mismatch(first.identity, second.identity) == ()
    assert mismatch(first.identity, other.identity) == ("principal",)
    assert first.identity["principal"].startswith("user.")
    assert first.identity["tenant"].startswith("tenant.")
    assert all(each.startswith("entity.") for each in first.rights)
    scope = "user.1 user.2 tenant.3 entity.4 entity."
    found = client.token_of(answer(200, {"access_token": "t", "scope": scope}))
    assert (found.user, found.tenant, found.entities) == ("", "tenant.3", {"entity.4"})


@pytest.mark.parametrize("style", ["message", "code", "reasons", "reasons_200"])
def test_every_shape_of_refusal_is_one_code(url: str, style: str) -> None:
    """A wrong secret, an unknown client and the negative control are refused alike, whatever shape the body has."""
    door(url, "settings", {"error_style": style})
    good = of(url)
    wrong = [good.replacing(client_secret="ktlabWrongSecret"), Prober().bogus(good)]
    found = [probe(url, each) for each in wrong]
    assert [(each.verdict, each.code) for each in found] == [(Verdict.REJECTED, "client_invalid")] * 2
    assert "data centre" in found[0].detail


def test_a_missing_right_proves_the_client(url: str) -> None:
    """A user who may not read the catalogue is accepted as that user, in either shape of the refusal."""
    reader = of(url, READER)
    for shape in (True, False):
        door(url, "settings", {"envelope_refusals": shape})
        found = probe(url, reader)
        assert (found.verdict, found.code) == (Verdict.ACCEPTED, "permission")
        assert found.identity["principal"]


@pytest.mark.parametrize("mishap", ["user_info_failures", "gateway_refusals"])
def test_a_401_of_the_gateway_is_tried_once_more_with_a_new_token(url: str, mishap: str) -> None:
    """One 401 is ridden out with a new token; two in a row say nothing about the client."""
    good = of(url)
    door(url, "settings", {mishap: 1})
    assert probe(url, good).verdict is Verdict.ACCEPTED
    assert calls(url) == ["create_token", "products"] * 2
    door(url, "settings", {mishap: 2})
    found = probe(url, good)
    assert found.verdict is Verdict.UNKNOWN
    assert found.code in {"transient", "bearer_refused"}


def test_throttling_by_address_says_how_long(url: str) -> None:
    """429 of the token endpoint is no verdict, and its time is passed on."""
    good = of(url)
    door(url, "settings", {"token_per_minute": 0})
    found = probe(url, good)
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "rate_limited")
    assert 1 <= found.wait_s <= 60


def test_pasted_white_space_does_no_harm(url: str) -> None:
    """A line end that came along with the paste is not sent."""
    good = of(url)
    pasted = good.replacing(client_secret=f" {good['client_secret']}\n", client_id=f"{good['client_id']}\n")
    assert probe(url, pasted).verdict is Verdict.ACCEPTED


def test_entity_is_sent_along(url: str) -> None:
    """Another entity than the tenant's is refused as a matter of permission: the header arrived."""
    good = of(url)
    (entity,) = probe(url, good).rights
    assert probe(url, good, entity=entity.removeprefix("entity.")).code == ""
    assert probe(url, good, entity="00000000-0000-0000-0000-000000000000").code == "permission"


def test_one_id_has_its_own_token_endpoint(url: str) -> None:
    """A OneID client is refused at the tenant's endpoint and accepted at OneID's."""
    material = Material(people.create_client(url, ME, "sync", one_id=True), frozenset({"client_id"}))
    assert probe(url, material).verdict is Verdict.REJECTED
    assert probe(url, material, client_kind="oneid").verdict is Verdict.ACCEPTED


def test_only_zuoras_hosts_are_called() -> None:
    """A base URL elsewhere is refused before anything is sent, and so is an incomplete credential."""
    access = Access({"data_centre": "rest.zuora.com", "base_url": "https://zuora.com.evil.example"})
    material = Material({"client_id": "x", "client_secret": "ktlabSecretOfNobody"})
    with pytest.raises(Exception, match="not among the hosts") as caught:
        Prober().verify(access, material)
    assert "ktlabSecretOfNobody" not in f"{caught.value!r} {caught.value}"
    with pytest.raises(InvalidInput):
        Prober().verify(access, Material({"client_id": "x"}))
    with pytest.raises(NotFound):
        capabilities("password", {})
