"""What every vendor stand-in is made of: its faults over HTTP, its admin endpoints and its server; no vendor facts."""

import hashlib
import io
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from flask import Blueprint, Flask, Response, abort, g, jsonify, render_template_string, request
from werkzeug.test import run_wsgi_app

from keyturn_lab import guard
from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Fault, Kind, Quirks

PAGES = "pages"
OVERSIZE_BYTES = 12 * 1024 * 1024
_REPLAY = "keyturn_lab.replay"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>body{font:16px/1.5 sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}</style>
<p><small>Keyturn lab stand-in: not the vendor's site.</small></p><h1>{{ title }}</h1>
BODY</html>
"""


@dataclass(frozen=True)
class StandIn:
    """One vendor as the lab offers it: a name, and a factory taking `seed` and `clock` and building a fresh app."""

    name: str
    create_app: Callable[..., Flask]


@dataclass(frozen=True)
class Live:
    """A credential in force, as only the vendor can know."""

    id: str
    kind: str
    owner: str
    value: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"sha256": hashlib.sha256(self.value.encode()).hexdigest()}


class World(Protocol):
    """A vendor's memory. Both methods are called from several threads at once."""

    def alive(self) -> Iterable[Live]:
        """Every credential in force right now, even while a lock-out keeps its owner waiting."""

    def reset(self) -> None:
        """Return to the seed data, with fresh secrets."""


@dataclass(frozen=True)
class Call:
    """One request as the log keeps it: no address, no header, no body. Status 0 is a dropped connection."""

    op: str
    status: int
    at: float
    fault: str | None = None
    carried_authorization: bool = False


@dataclass(frozen=True)
class Stage:
    """Everything one running stand-in consists of; `throttled` answers 429 the way this vendor does.

    `op_of` may give the current request a finer op than its endpoint's name, where one address does many things.
    """

    name: str
    world: World
    throttled: Callable[[], Response]
    quirks: Quirks = field(default_factory=Quirks)
    clock: Clock = field(default_factory=Clock)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=10_000))
    op_of: Callable[[], str | None] | None = None


def build_app(stage: Stage) -> Flask:
    """A Flask app that misbehaves as the stage says and carries `/_lab/`; the vendor adds its own routes.

    A route's op is its endpoint's last part unless `op_of` knows better. Routes of the blueprint named `pages` are for people: they are never
    throttled and no wildcard fault hits them.
    """
    app = Flask(f"keyturn_lab.{stage.name}", static_folder=None)
    app.secret_key = guard.mint("session_key", 32)
    # Browsers share cookies between ports of one host, so every stand-in needs a name of its own.
    app.config["SESSION_COOKIE_NAME"] = f"lab_{stage.name}"
    app.extensions["keyturn_lab"] = stage
    app.before_request(lambda: _before(app, stage))
    app.after_request(lambda response: _after(stage, response))
    app.register_blueprint(_admin(stage))
    return app


def stage_of(app: Flask) -> Stage:
    """The stage behind an app, for tests in the same process."""
    stage: Stage = app.extensions["keyturn_lab"]
    return stage


def meets(kind: Kind) -> bool:
    """Whether the fault that hit the current request is of this kind; for what only the vendor can act out."""
    fault: Fault | None = g.get("fault")
    return fault is not None and fault.kind is kind


def page(title: str, body: str, **values: Any) -> str:
    """A plain page for people; `body` is a Jinja fragment and `values` are escaped into it."""
    return render_template_string(_PAGE.replace("BODY", body), title=title, **values)


def add_settings(app: Flask, current: Callable[[], object]) -> None:
    """Give the vendor's settings a door: POST `/_lab/settings` sets fields of the object `current` returns."""

    @app.post("/_lab/settings", endpoint="settings")
    def settings() -> Response:
        target, changes = current(), request.get_json()
        if not isinstance(changes, dict) or not all(hasattr(target, name) for name in changes):
            abort(422)
        for name, value in changes.items():
            setattr(target, name, value)
        return jsonify(vars(target))


def serve(app: Flask, port: int = 0) -> str:
    """Start a server that lives as long as the process, and say where."""
    listener = guard.Listener(app, port)
    _start(listener)
    return listener.url


@contextmanager
def running(app: Flask, port: int = 0) -> Iterator[str]:
    """A server for the length of a `with` block, yielding its URL."""
    listener = guard.Listener(app, port)
    thread = _start(listener)
    try:
        yield listener.url
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(timeout=5)


def _start(listener: guard.Listener) -> threading.Thread:
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    return thread


def _is_admin() -> bool:
    return request.path.startswith("/_lab/")


def _op(stage: Stage) -> str:
    if stage.op_of is not None and (finer := stage.op_of()) is not None:
        return finer
    return (request.endpoint or "unknown").rsplit(".", 1)[-1]


def _before(app: Flask, stage: Stage) -> Response | None:
    if _is_admin():
        if not guard.is_loopback_host(request.host):
            abort(403)
        return None
    if _REPLAY in request.environ:
        return None
    time.sleep(stage.quirks.latency())
    for_people = request.blueprint == PAGES
    fault = stage.quirks.take(_op(stage), wildcard=not for_people)
    g.fault = fault
    if fault is None:
        return stage.throttled() if not for_people and stage.quirks.is_throttled() else None
    return _instead(app, stage, fault)


def _instead(app: Flask, stage: Stage, fault: Fault) -> Response | None:
    """The answer given in place of the vendor's own; None lets the vendor answer."""
    match fault.kind:
        case Kind.ERROR_NOT_APPLIED:
            return Response('{"error":"internal"}', 500, mimetype="application/json")
        case Kind.TIMEOUT_NOT_APPLIED:
            time.sleep(fault.seconds)
            return _drop()
        case Kind.APPLIED_LATE:
            _apply_later(app, stage, fault.seconds)
            return _drop()
        case Kind.THROTTLE:
            return stage.throttled()
        case Kind.HTML_PAGE:
            return Response("<!doctype html><title>Maintenance</title><p>We will be right back.", 200)
        case Kind.REDIRECT_FOREIGN:
            return Response(status=302, headers={"Location": _foreign_address()})
        case Kind.SLOW:
            time.sleep(fault.seconds)
    return None


def _after(stage: Stage, response: Response) -> Response:
    if _is_admin() and _op(stage) != "trap":
        return response
    fault: Fault | None = g.get("fault")
    if fault is not None:
        match fault.kind:
            case Kind.ANSWER_LOST:
                response = _drop()
            case Kind.TRUNCATED:
                whole = response.get_data()
                response.set_data(whole[: len(whole) // 2])
                response.headers["Content-Length"] = str(len(whole))
            case Kind.OVERSIZE:
                # White space keeps JSON valid: only a size limit protects the reader.
                response.set_data(response.get_data().ljust(OVERSIZE_BYTES))
    dropped = request.environ.get(guard.DROPPED, False)
    stage.calls.append(
        Call(
            op=_op(stage),
            status=0 if dropped else response.status_code,
            at=stage.clock.now(),
            fault=fault.kind.value if fault else None,
            carried_authorization="Authorization" in request.headers,
        )
    )
    return response


def _drop() -> Response:
    """Close the client's socket without a word; the response returned is never sent."""
    peer: socket.socket | None = request.environ.get("werkzeug.socket")
    if peer is None:
        raise ConnectionResetError("a connection can only be dropped on a real server: use running(app)")
    request.environ[guard.DROPPED] = True
    try:
        peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the client gave up first, which is what a drop is for
    return Response(status=500)


def _apply_later(app: Flask, stage: Stage, seconds: float) -> None:
    """Keep a copy of the request and let the vendor see it only once the time has come."""
    kept = {
        name: value
        for name, value in request.environ.items()
        if name not in {"werkzeug.request", "werkzeug.socket"}
    }
    kept["wsgi.input"] = io.BytesIO(request.get_data())
    kept[_REPLAY] = True
    stage.clock.call_later(seconds, lambda: run_wsgi_app(app, kept, buffered=True))


def _foreign_address() -> str:
    """Name this same server by a host the client did not ask for, so a leaked header is seen and goes nowhere."""
    other = guard.LOOPBACK if request.host.startswith("localhost") else "localhost"
    port = request.environ["SERVER_PORT"]
    return f"http://{other}:{port}/_lab/trap"


def _admin(stage: Stage) -> Blueprint:
    """The endpoints tests use to steer the stand-in and to see the truth."""
    admin = Blueprint("_lab", __name__, url_prefix="/_lab")

    @admin.get("/alive")
    def alive() -> Response:
        return jsonify([live.to_json() for live in stage.world.alive()])

    @admin.post("/faults")
    def arm() -> tuple[str, int]:
        try:
            faults = [Fault.from_json(each) for each in request.get_json()]
        except (KeyError, TypeError, ValueError):
            abort(422)
        for fault in faults:
            stage.quirks.arm(fault)
        return "", 204

    @admin.delete("/faults")
    def disarm() -> tuple[str, int]:
        stage.quirks.clear()
        return "", 204

    @admin.post("/dials")
    def dials() -> Response:
        try:
            stage.quirks.turn(request.get_json())
        except (TypeError, ValueError):
            abort(422)
        return jsonify(stage.quirks.dials())

    @admin.post("/clock")
    def clock() -> Response:
        stage.clock.advance(float(request.get_json().get("advance_s", 0)))
        return jsonify(now=stage.clock.now())

    @admin.post("/reset")
    def reset() -> tuple[str, int]:
        stage.quirks.restore()
        stage.clock.reset()
        stage.world.reset()
        stage.calls.clear()
        return "", 204

    @admin.get("/log")
    def log() -> Response:
        return jsonify([asdict(call) for call in list(stage.calls)])

    @admin.get("/secrets")
    def secrets() -> Response:
        return jsonify([asdict(each) for each in guard.minted()])

    @admin.get("/trap")
    def trap() -> tuple[str, int]:
        return "You followed a redirect to a host nobody vouched for.", 200

    return admin
