"""What keeps the lab harmless: loopback listeners that log nothing, and secrets a leak scan can find."""

import io
import ipaddress
import secrets
import string
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

LOOPBACK = "127.0.0.1"
MARKER = "ktlab"
DEMO_PASSWORD = "ktlab-demo-password"
DROPPED = "keyturn_lab.dropped"
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Minted:
    """A secret this lab made."""

    kind: str
    value: str


_minted: list[Minted] = [Minted("password", DEMO_PASSWORD)]
_minted_lock = threading.Lock()


def mint(kind: str, n: int = 24) -> str:
    """A fresh random value: the marker, then `n` letters and digits; remembered for the canary scan."""
    return remember(kind, MARKER + "".join(secrets.choice(_ALPHABET) for _ in range(n)))


def remember(kind: str, value: str) -> str:
    """Register a secret the lab shaped itself (a JWT, a PEM, a chosen password) and hand it back."""
    with _minted_lock:
        _minted.append(Minted(kind, value))
    return value


def minted() -> list[Minted]:
    """Every secret made in this process, oldest first; a reset of a stand-in does not shorten it."""
    with _minted_lock:
        return list(_minted)


def require_loopback(host: str) -> str:
    """Hand back a host the lab may bind.

    Raises: ValueError for anything another machine could reach, including every name but `localhost`.
    """
    if host != "localhost" and not _is_loopback_address(host):
        raise ValueError(f"the lab binds loopback only, not {host}")
    return host


def is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine; a rebinding web page's does not."""
    name = host.rsplit(":", 1)[0] if host.count(":") == 1 or host.startswith("[") else host
    name = name.strip("[]")
    return name == "localhost" or _is_loopback_address(name)


def _is_loopback_address(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Listener(ThreadedWSGIServer):
    """A threaded HTTP/1.1 server on loopback; its threads never keep the process alive."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, app: Callable[..., Any], port: int = 0, host: str = LOOPBACK) -> None:
        super().__init__(require_loopback(host), port, app, handler=QuietHandler)

    @property
    def url(self) -> str:
        """Where it is reached, without a trailing slash."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}"


class QuietHandler(WSGIRequestHandler):
    """Answers whole bodies and keeps the connection open, unlike Werkzeug's own handler, which always closes.

    Clients that pool connections meet a vendor's keep-alive in production, so they must meet it here.
    """

    timeout = 60
    # Small answers leave at once; without this a kept-alive connection waits for the peer's delayed ack.
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        self.environ = environ = self.make_environ()
        if "wsgi.input_terminated" in environ:
            body = environ["wsgi.input"].read()
        else:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        heads: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            heads.append((status, headers))
            return lambda _data: None

        chunks = self.server.app(environ, start_response)
        body = b"".join(chunks)
        getattr(chunks, "close", lambda: None)()
        if environ.get(DROPPED):
            self.close_connection = True
            return
        self._answer(*heads[-1], body)

    def _answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code_text, _, reason = status.partition(" ")
        code = int(code_text)
        names = {name.lower(): value for name, value in headers}
        bodiless = self.command == "HEAD" or code in {204, 304}
        self.send_response(code, reason)
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names and not bodiless:
            self.send_header("Content-Length", str(len(body)))
        # A body shorter than announced is a cut-off answer: only closing makes the client notice.
        if not bodiless and int(names.get("content-length", len(body))) != len(body):
            self.close_connection = True
        self.end_headers()
        if not bodiless:
            self.wfile.write(body)
        self.wfile.flush()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name Werkzeug chose
        """Say nothing: a request line can carry a secret, and `/_lab/log` has what tests need."""
