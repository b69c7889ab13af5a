"""Records every request that reaches a part of the lab, and its answer."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from keyturn_lab.parts.aws import AwsServer
from keyturn_lab.standin import running
from tests.compliance.lab import Lab, StandIn

_OF_THE_HOP = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})
_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Exchange:
    """One request as it came over the wire and what it got. Prints without what it carried."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    kind: str = ""
    body: bytes = field(default=b"", repr=False)
    status: int = 200
    answered_kind: str = ""
    answer: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def header(self, name: str) -> str:
        """A header of the request; empty when absent."""
        return dict(self.headers).get(name.lower(), "")

    def form(self) -> dict[str, str]:
        """A form's fields; each of them once."""
        pairs = parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs), f"{self.method} {self.path} sends a field twice"
        return dict(pairs)

    def json(self) -> Any:
        """The request's body."""
        return json.loads(self.body)


class Tap:
    """WSGI: hands everything on unchanged and keeps what went past; the lab's own doors are not looked at."""

    def __init__(self, app: _Wsgi) -> None:
        self._app = app
        self.seen: list[Exchange] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/_lab/"):
            return self._app(environ, start)
        body = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(body)
        heads: list[tuple[str, list[tuple[str, str]]]] = []

        def kept(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            heads.append((status, headers))
            return start(status, headers, exc_info)

        chunks = self._app(environ, kept)
        answer = b"".join(chunks)
        getattr(chunks, "close", lambda: None)()
        status, headers = heads[-1]
        kind = {name.lower(): value for name, value in headers}.get("content-type", "")
        # Not PATH_INFO, which is decoded: what was escaped is part of what was sent.
        sent = urlsplit(environ.get("REQUEST_URI") or environ["RAW_URI"])
        self.seen.append(
            Exchange(
                environ["REQUEST_METHOD"],
                sent.path,
                tuple(parse_qsl(sent.query, keep_blank_values=True)),
                environ.get("CONTENT_TYPE", ""),
                body,
                int(status.split()[0]),
                kind,
                answer,
                tuple(_headers(environ)),
            )
        )
        return [answer]


def _headers(environ: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name.removeprefix("HTTP_").replace("_", "-").lower(), value


def forward(url: str) -> _Wsgi:
    """WSGI: the same request to a server in another process, its Host header and so its signature untouched."""
    there = urlsplit(url)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        line = http.client.HTTPConnection(there.hostname or "", there.port, timeout=10)
        body = environ["wsgi.input"].read()
        headers = dict(_headers(environ)) | {"Content-Length": str(len(body))}
        if environ.get("CONTENT_TYPE"):
            headers["Content-Type"] = environ["CONTENT_TYPE"]
        headers.pop("connection", None)
        target = environ.get("REQUEST_URI") or environ["RAW_URI"]
        line.request(environ["REQUEST_METHOD"], target, body, headers)
        answer = line.getresponse()
        whole = answer.read()
        line.close()
        kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in _OF_THE_HOP]
        start(f"{answer.status} {answer.reason}", kept)
        return [whole]

    return app


class TappedLab(Lab):
    """The lab with a tap on each part that speaks HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self._taps: dict[str, Tap] = {}
        self._vendors: dict[str, StandIn] = {}
        self._servers = ExitStack()

    def tap(self, part: str) -> Tap:
        """What goes to `aws` or to a vendor's stand-in, from the start."""
        _ = self.aws if part == "aws" else self.vendor(part)
        return self._taps[part]

    def close(self) -> None:
        self._servers.close()
        super().close()

    def vendor(self, name: str) -> StandIn:
        if name not in self._vendors:
            app = import_module(f"keyturn_lab.vendors.{name}.server").create_app()
            app.wsgi_app = self._taps[name] = Tap(app.wsgi_app)
            self._vendors[name] = StandIn(self._servers.enter_context(running(app)))
        return self._vendors[name]

    @cached_property
    def aws(self) -> AwsServer:
        made = self._servers.enter_context(AwsServer())
        tap = self._taps["aws"] = Tap(forward(made.url))
        made.url = self._servers.enter_context(running(tap))
        return made
