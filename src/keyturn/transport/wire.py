"""The pinned, deadlined connection under `http.send`. Imported on first use: the HTTP library costs 0.2 s to load.

It speaks through the core of httpx2 (same author, same release) because only there can the address be pinned while
name, SNI and certificate check stay those of the URL, and only there can a deadline cover every single read.
"""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore2
import httpx2

from keyturn.transport.ssrf import Target

# The library traces header values at DEBUG; a debug switch must not be able to write a token into a log.
for _name in ("httpcore2.connection", "httpcore2.http11", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Broken(Exception):
    """No complete answer. `kind` is timeout, refused, tls, reset, protocol; `sent` tells whether bytes had left."""

    def __init__(self, kind: str, sent: bool) -> None:
        super().__init__(kind)
        self.kind = kind
        self.sent = sent


@dataclass(frozen=True)
class Head:
    """Status and headers of an answer whose body is still on the wire."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: Iterator[bytes]


@contextmanager
def exchange(
    target: Target,
    pinned: tuple[str, ...],
    method: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    timeout_s: float,
) -> Iterator[Head]:
    """One request on a fresh connection; every wait inside counts against `timeout_s`. Raises: Broken."""
    line = _Line(pinned, time.monotonic() + timeout_s)
    literal = f"[{target.host}]" if ":" in target.host else target.host
    default = 443 if target.scheme == "https" else 80
    host = literal if target.port == default else f"{literal}:{target.port}"
    request = httpcore2.Request(
        method,
        httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
        headers=[(k.encode("latin-1"), v.encode("latin-1")) for k, v in (("Host", host), *headers)],
        content=body,
        extensions={
            "timeout": {"connect": timeout_s, "read": timeout_s, "write": timeout_s, "pool": timeout_s}
        },
    )
    context = _trust() if target.scheme == "https" else None
    with (
        _translated(line),
        httpcore2.ConnectionPool(
            ssl_context=context, max_connections=1, max_keepalive_connections=0, network_backend=line
        ) as pool,
    ):
        response = pool.handle_request(request)
        try:
            pairs = tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in response.headers)
            stream = response.stream
            if not isinstance(
                stream, Iterable
            ):  # unreachable: the synchronous pool answers with a synchronous stream
                raise Broken("protocol", line.sent)
            yield Head(response.status, pairs, iter(stream))
        finally:
            response.close()


@functools.cache
def _trust() -> ssl.SSLContext:
    """The system's certificate store, loaded once; the environment cannot replace it."""
    return httpx2.create_ssl_context(trust_env=False)


@contextmanager
def _translated(line: _Line) -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException:
        raise Broken("timeout", line.sent) from None
    except httpcore2.ConnectError:  # the pool takes its cause away
        raise Broken("tls" if line.shook_hands else "refused", line.sent) from None
    except httpcore2.NetworkError:
        raise Broken("reset", line.sent) from None
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol):
        raise Broken("protocol" if line.heard else "reset", line.sent) from None


class _Line(httpcore2.NetworkBackend):
    """Dials only the pinned addresses and remembers whether anything was written."""

    def __init__(self, pinned: tuple[str, ...], deadline: float) -> None:
        self._pinned = pinned
        self.deadline = deadline
        self.sent = False
        self.heard = False
        self.shook_hands = False  # came as far as TLS

    def left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout
        return left

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - resolved and checked already; asking again would undo the pin
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        problem: Exception = httpcore2.ConnectError("no address")
        for address in self._pinned:
            try:
                stream = httpcore2.SyncBackend().connect_tcp(
                    address, port, self.left(), local_address, socket_options or ()
                )
                return _Deadlined(stream, self)
            except httpcore2.ConnectError as error:
                problem = error
        raise problem


class _Deadlined(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, line: _Line) -> None:
        self._inner = inner
        self._line = line

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        said = self._inner.read(max_bytes, self._line.left())
        self._line.heard = self._line.heard or bool(said)
        return said

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        left = self._line.left()
        self._line.sent = self._line.sent or bool(buffer)
        self._inner.write(buffer, left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        self._line.shook_hands = True
        return _Deadlined(self._inner.start_tls(ssl_context, server_hostname, self._line.left()), self._line)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
