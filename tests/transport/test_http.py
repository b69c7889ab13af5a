"""The one door for HTTP."""

import gzip
import pickle
import socket
import ssl
import threading
import time

import pytest

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    CallInsideTransaction,
    InvalidInput,
    NotPermitted,
    OutcomeUnknown,
    UnexpectedAnswer,
    VendorUnavailable,
)
from keyturn.testing.liar import Liar, tls
from keyturn.transport import wire
from keyturn.transport.http import Answer, Request, send

from .server import serving

SECRET = "s3cr3t-in-the-query"


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def _get(server, path, **more):
    return send(Request("GET", server.url + path, **more), server.network)


def test_an_answer_comes_back_with_status_headers_and_body(server):
    """Header names in lower case; the body as JSON on demand."""
    server.on("POST", "/echo", lambda seen: (201, {"got": seen.json()}, {"X-Thing": "yes"}))
    answer = send(
        Request("POST", server.url + "/echo", {"X-Key": "k"}, b'{"a": 1}', changes=True), server.network
    )
    assert (answer.status, answer.json(), answer.header("X-Thing")) == (201, {"got": {"a": 1}}, "yes")
    sent = server.seen[-1].headers
    assert sent["x-key"] == "k"
    assert sent["host"] == f"127.0.0.1:{server.port}"
    assert sent["accept-encoding"] == "identity"
    assert sent["connection"] == "close"


def test_a_redirect_is_returned_and_never_followed(server):
    """The credential stays where it was sent."""
    with serving() as foreign:
        foreign.on("GET", "/catch", {"ok": True})
        server.on("GET", "/away", (302, {}, {"Location": f"{foreign.url}/catch"}))
        answer = _get(server, "/away", headers={"Authorization": "Bearer t"})
        assert answer.status == 302
        assert foreign.seen == []


def test_cookies_are_not_kept(server):
    """Two calls know nothing of each other."""
    server.on("GET", "/cookie", (200, {}, {"Set-Cookie": "session=1"}))
    _get(server, "/cookie")
    _get(server, "/cookie")
    assert "cookie" not in server.seen[-1].headers


def test_environment_proxies_are_ignored(server, monkeypatch):
    """No environment variable reroutes a credential."""
    server.on("GET", "/direct", {"ok": True})
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert _get(server, "/direct").status == 200


def test_a_private_host_is_refused_without_a_call(server):
    """Unless the operator opened it."""
    before = len(server.seen)
    with pytest.raises(InvalidInput):
        send(Request("GET", server.url + "/me"), NetworkPolicy())
    with pytest.raises(NotPermitted):
        send(Request("GET", f"https://127.0.0.1:{server.port}/me"), NetworkPolicy())
    assert len(server.seen) == before


def test_no_call_inside_a_transaction(server):
    """Checked before the name is even resolved."""
    with boundary.transaction(), pytest.raises(CallInsideTransaction):
        _get(server, "/me")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_line_breaks_in_header_values_are_refused(server, value):
    """No header smuggling; the value is not quoted."""
    with pytest.raises(InvalidInput) as caught:
        _get(server, "/me", headers={"X-Key": value})
    assert "Evil" not in caught.value.message


def test_headers_that_are_ours_cannot_be_set(server):
    """Host above all."""
    with pytest.raises(InvalidInput):
        _get(server, "/me", headers={"Host": "other.example"})


def test_a_lost_answer_to_a_change_is_an_unknown_outcome(server):
    """The same loss is an outage for a read."""
    server.on("GET", "/drop", lambda seen: None)
    server.on("POST", "/drop", lambda seen: None)
    with pytest.raises(VendorUnavailable):
        _get(server, "/drop")
    with pytest.raises(OutcomeUnknown):
        send(Request("POST", server.url + "/drop", changes=True), server.network)


def test_an_unsent_change_is_an_outage(unused_port):
    """A refused connection changed nothing."""
    policy = NetworkPolicy(frozenset({"127.0.0.1"}))
    request = Request("POST", f"http://127.0.0.1:{unused_port}/x?key={SECRET}", changes=True)
    with pytest.raises(VendorUnavailable) as caught:
        send(request, policy)
    assert caught.value.facts["network"] == "refused"
    assert SECRET not in repr(caught.value.__dict__) + str(caught.value) + repr(request)
    assert pickle.loads(pickle.dumps(caught.value)).facts == caught.value.facts
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_failed_tls_handshake_is_an_outage(server):
    """Nothing was sent yet, whatever the call would have changed."""
    with pytest.raises(VendorUnavailable) as caught:
        send(Request("POST", f"https://127.0.0.1:{server.port}/x", changes=True), server.network)
    assert caught.value.facts["network"] == "tls"


@pytest.mark.parametrize(("days", "kind"), [(-1, "tls"), (30, "")])
def test_an_expired_certificate_of_a_trusted_authority_is_an_outage(monkeypatch, days, kind):
    """It is the date that decides: the same authority's good certificate is spoken to."""
    made = tls(days)
    monkeypatch.setattr(wire, "_trust", lambda: ssl.create_default_context(cadata=made.authority))
    with Liar("server error", secure=made) as liar:
        request = Request("POST", f"{liar.url}/x?key={SECRET}", changes=True)
        if kind:
            with pytest.raises(VendorUnavailable) as caught:
                send(request, NetworkPolicy(frozenset({"127.0.0.1"})))
            assert caught.value.facts["network"] == kind
        else:
            assert send(request, NetworkPolicy(frozenset({"127.0.0.1"}))).status == 500
        assert bool(liar.received) == (not kind)


@pytest.fixture
def unused_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_trickling_answer_ends_at_the_deadline():
    """Each byte comes in time; the whole does not."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop = threading.Event()

    def trickle():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000:
                if stop.wait(0.05):
                    return
                try:
                    peer.send(bytes([byte]))
                except OSError:
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown):
            send(
                Request("POST", f"http://127.0.0.1:{port}/", timeout_s=0.3, changes=True),
                NetworkPolicy(frozenset({"127.0.0.1"})),
            )
        assert time.monotonic() - started < 1.5
    finally:
        stop.set()
        thread.join()
        listener.close()


def test_size_is_bounded_while_reading(server):
    """Also when the body unpacks to more than was sent."""
    server.on("GET", "/big", (200, b"x" * 5000))
    bomb = gzip.compress(b"\0" * 10_000_000)
    server.on("GET", "/bomb", (200, bomb, {"Content-Encoding": "gzip"}))
    for path in ("/big", "/bomb"):
        with pytest.raises(UnexpectedAnswer, match="more than"):
            _get(server, path, max_bytes=4000 if path == "/big" else 1_000_000)


def test_compressed_answers_are_understood(server):
    """Some servers compress unasked."""
    server.on("GET", "/zip", (200, gzip.compress(b'{"a": 1}'), {"Content-Encoding": "gzip"}))
    assert _get(server, "/zip").json() == {"a": 1}
    server.on("GET", "/odd", (200, b"??", {"Content-Encoding": "br"}))
    with pytest.raises(UnexpectedAnswer):
        _get(server, "/odd")


def test_a_body_that_is_not_json_is_not_quoted():
    """The message names host and status alone."""
    with pytest.raises(UnexpectedAnswer) as caught:
        Answer(200, {}, b"<html>" + SECRET.encode(), "a.example").json()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert SECRET not in repr(Answer(200, {"x": SECRET}, SECRET.encode()))
