"""The faults do on the wire what their names promise."""

import json
import time
from collections.abc import Iterator

import httpx2
import pytest
from flask import Flask, Response, jsonify
from tests.waiting import wait_for

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Fault, Kind, Quirks
from keyturn_lab.standin import Live, Stage, build_app, meets, running, stage_of


class Counter:
    """The smallest world: a number that only a call which was applied moves."""

    def __init__(self) -> None:
        self.count = 0

    def alive(self) -> list[Live]:
        return [Live("1", "number", "nobody", "value")]

    def reset(self) -> None:
        self.count = 0


@pytest.fixture
def world() -> Counter:
    return Counter()


@pytest.fixture
def app(world: Counter) -> Flask:
    app = build_app(Stage("counter", world, lambda: Response("", 429, {"Retry-After": "7"})))

    @app.post("/bump")
    def bump() -> Response:
        world.count += 1
        return jsonify(count=world.count, impostor=meets(Kind.WRONG_IDENTITY))

    return app


@pytest.fixture
def vendor(app: Flask) -> Iterator[httpx2.Client]:
    with running(app) as url, httpx2.Client(base_url=url) as client:
        yield client


def arm(vendor: httpx2.Client, kind: Kind, op: str = "bump", **more: object) -> None:
    vendor.post("/_lab/faults", json=[{"op": op, "kind": kind} | more]).raise_for_status()


@pytest.mark.parametrize(("kind", "applied"), [(Kind.ANSWER_LOST, 1), (Kind.TIMEOUT_NOT_APPLIED, 0)])
def test_drop_is_a_real_one(vendor: httpx2.Client, world: Counter, kind: Kind, applied: int) -> None:
    """The connection ends without a byte of answer, and only the lost answer had an effect."""
    arm(vendor, kind)
    with pytest.raises(httpx2.RemoteProtocolError, match="without sending a response"):
        vendor.post("/bump")
    assert world.count == applied
    # the call is logged once its connection was dropped, which is what we have seen
    assert wait_for(lambda: vendor.get("/_lab/log").json())[-1]["status"] == 0


def test_late_effect_waits_for_the_clock(vendor: httpx2.Client, world: Counter) -> None:
    """The late effect comes when the lab's time has come, once, with the request's own body."""
    arm(vendor, Kind.APPLIED_LATE, seconds=900)
    with pytest.raises(httpx2.RemoteProtocolError):
        vendor.post("/bump", json={"kept": True})
    assert world.count == 0
    vendor.post("/_lab/clock", json={"advance_s": 900})
    assert world.count == 1
    vendor.post("/_lab/clock", json={"advance_s": 900})
    assert world.count == 1


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.ERROR_NOT_APPLIED, 500), (Kind.THROTTLE, 429), (Kind.REDIRECT_FOREIGN, 302)]
)
def test_refusals_have_no_effect(vendor: httpx2.Client, world: Counter, kind: Kind, status: int) -> None:
    """An error, a throttle and a redirect leave the vendor as it was."""
    arm(vendor, kind)
    assert vendor.post("/bump").status_code == status
    assert world.count == 0
    assert vendor.post("/bump").status_code == 200


def test_page_instead_of_json(vendor: httpx2.Client) -> None:
    """A maintenance page comes as a 200 of the wrong type."""
    arm(vendor, Kind.HTML_PAGE)
    answer = vendor.post("/bump")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


def test_truncated_body_is_noticed(vendor: httpx2.Client, world: Counter) -> None:
    """Fewer bytes arrive than were announced, though the effect happened."""
    arm(vendor, Kind.TRUNCATED)
    with pytest.raises(httpx2.RemoteProtocolError, match="without sending complete"):
        vendor.post("/bump")
    assert world.count == 1


def test_oversized_body_is_valid_json(vendor: httpx2.Client) -> None:
    """Only its size gives an oversized answer away."""
    arm(vendor, Kind.OVERSIZE)
    body = vendor.post("/bump").content
    assert len(body) > 10_000_000
    assert json.loads(body)["count"] == 1


def test_trap_sees_a_leaked_header(vendor: httpx2.Client) -> None:
    """A client that follows the foreign redirect with its authorization is found out."""
    arm(vendor, Kind.REDIRECT_FOREIGN)
    target = vendor.post("/bump").headers["Location"]
    httpx2.get(target, headers={"Authorization": "Bearer leaked"})
    assert vendor.get("/_lab/log").json()[-1] | {"at": 0} == {
        "op": "trap",
        "status": 200,
        "at": 0,
        "fault": None,
        "carried_authorization": True,
    }


def test_faults_count_down(vendor: httpx2.Client) -> None:
    """A fault hits as often as it was armed for, the wildcard hits any call, and None hits for good."""
    arm(vendor, Kind.WRONG_IDENTITY, op="*", times=2)
    assert [vendor.post("/bump").json()["impostor"] for _ in range(3)] == [True, True, False]
    arm(vendor, Kind.WRONG_IDENTITY, times=None)
    assert all(vendor.post("/bump").json()["impostor"] for _ in range(4))
    vendor.delete("/_lab/faults")
    assert not vendor.post("/bump").json()["impostor"]


def test_slow_answers_arrive(vendor: httpx2.Client) -> None:
    """A slow answer is late and otherwise sound."""
    arm(vendor, Kind.SLOW, seconds=0.2)
    started = time.monotonic()
    assert vendor.post("/bump").status_code == 200
    assert time.monotonic() - started >= 0.2


def test_every_nth_call_is_throttled(vendor: httpx2.Client) -> None:
    """The dial throttles each nth call with the vendor's own headers."""
    vendor.post("/_lab/dials", json={"throttle_every_n": 3}).raise_for_status()
    answers = [vendor.post("/bump") for _ in range(6)]
    assert [each.status_code for each in answers] == [200, 200, 429] * 2
    assert answers[2].headers["Retry-After"] == "7"


def test_connection_is_kept(vendor: httpx2.Client) -> None:
    """One connection serves several requests, as the vendors' servers do."""
    ports = {
        vendor.post("/bump").extensions["network_stream"].get_extra_info("client_addr") for _ in range(3)
    }
    assert len(ports) == 1


def test_nonsense_is_refused(vendor: httpx2.Client) -> None:
    """An unknown fault or dial is refused, and a page from elsewhere can't reach the admin endpoints."""
    assert vendor.post("/_lab/faults", json=[{"op": "bump", "kind": "gremlins"}]).status_code == 422
    assert vendor.post("/_lab/dials", json={"charm": 1}).status_code == 422
    assert vendor.get("/_lab/secrets", headers={"Host": "rebound.example"}).status_code == 403


def test_reset_forgets(vendor: httpx2.Client, app: Flask, world: Counter) -> None:
    """A reset brings back the seed state, the dials and real time."""
    vendor.post("/bump")
    vendor.post("/_lab/clock", json={"advance_s": 1e6})
    vendor.post("/_lab/dials", json={"settle_s": 9})
    vendor.post("/_lab/reset")
    stage = stage_of(app)
    assert (world.count, stage.quirks.settle_s, list(stage.calls)) == (0, 0.0, [])
    assert abs(stage.clock.now() - time.time()) < 1


def test_secrets_carry_the_marker(vendor: httpx2.Client) -> None:
    """Every minted value carries the marker and is listed for the leak scan."""
    value = guard.mint("sample", 12)
    assert guard.MARKER in value
    assert {"kind": "sample", "value": value} in vendor.get("/_lab/secrets").json()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_only_loopback_is_bound(host: str) -> None:
    """The lab refuses every address another machine could reach."""
    with pytest.raises(ValueError, match="loopback only"):
        guard.require_loopback(host)


def test_latency_follows_the_seed() -> None:
    """The same seed gives the same delays."""
    assert [Quirks(5).latency() for _ in range(2)] == [Quirks(5).latency()] * 2
    assert Quirks(5).latency() != Quirks(6).latency()


def test_earlier_faults_go_first() -> None:
    """Faults are used in the order they were armed, and pages are spared the wildcard."""
    quirks = Quirks()
    quirks.arm(Fault("*", Kind.SLOW))
    quirks.arm(Fault("a", Kind.THROTTLE))
    assert quirks.take("a", wildcard=False) == Fault("a", Kind.THROTTLE)
    assert quirks.take("a") == Fault("*", Kind.SLOW)
    assert quirks.take("a") is None


def test_clock_runs_what_is_due() -> None:
    """Advancing time runs what became due, in order, and nothing else."""
    clock, ran = Clock(), []
    for delay_s in (60, 30, 90):
        clock.call_later(delay_s, lambda delay_s=delay_s: ran.append(delay_s))
    clock.advance(61)
    assert ran == [30, 60]


def test_lifespan_ends_at_the_earlier_time() -> None:
    """An end already set is not put off."""
    life = Lifespan(10.0)
    life.end(20.0)
    life.end(30.0)
    assert [life.holds(at) for at in (9, 10, 19, 20)] == [False, True, True, False]
