"""One HTTP call: guarded address, bounded time and size, no redirects, no memory, errors translated at the door.

Every call opens a fresh connection: a pooled one would prove the pool, and two names behind one address must never
share a TLS session. Nothing is read from the environment, no cookie is kept.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput, KeyturnError, OutcomeUnknown, UnexpectedAnswer, VendorUnavailable
from keyturn.transport import ssrf

_METHOD = re.compile(r"^[A-Z]{3,10}$")
_HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
_WORDS = {
    "timeout": "did not answer in time",
    "refused": "refused the connection",
    "tls": "failed the TLS check",
    "reset": "dropped the connection",
    "protocol": "answered with something that is not HTTP",
}


@dataclass(frozen=True)
class Request:
    """One call. `changes` marks a call that alters something at the vendor: its lost answer is an unknown outcome.

    `hosts` are the allowed host patterns; empty means that our own code wrote the host. Prints without its secrets.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    timeout_s: float = 15.0
    max_bytes: int = 262_144
    hosts: tuple[str, ...] = ()
    changes: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back; header names are lower case, repeated ones joined with a comma."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    host: str = ""

    def header(self, name: str) -> str:
        """The header's value; empty when absent."""
        return self.headers.get(name.lower(), "")

    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises: UnexpectedAnswer, without quoting any of it."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise UnexpectedAnswer(
                f"{self.host or 'the vendor'} answered {self.status} with something that is not JSON",
                hint="Check the address: a login or error page may have answered.",
                status=self.status,
                host=self.host,
            ) from None


def send(request: Request, network: NetworkPolicy) -> Answer:
    """Makes the call; a 3xx is an answer like any other and is not followed.

    Raises: InvalidInput and NotPermitted before anything is sent; VendorUnavailable when nothing was sent, or for a
    read at any point; OutcomeUnknown when a changing call was sent and its answer is lost; UnexpectedAnswer when the
    answer is too large or cannot be decoded.
    """
    target = ssrf.target(request.url, network, request.hosts)
    headers = _checked(request)
    boundary.leaving(target.host)
    deadline = time.monotonic() + request.timeout_s
    pinned = ssrf.addresses(target, network)
    from keyturn.transport import wire

    left = max(deadline - time.monotonic(), 0.001)
    try:
        with wire.exchange(target, pinned, request.method, headers, request.body, left) as head:
            body = _bounded(_decoded(head, target.host), request, target.host, head.status)
            return Answer(head.status, _joined(head.headers), body, target.host)
    except wire.Broken as broken:
        raise _lost(request, target.host, broken.kind, broken.sent) from None


def _checked(request: Request) -> list[tuple[str, str]]:
    if not _METHOD.match(request.method):
        raise InvalidInput("the HTTP method is malformed", field="method")
    for name, value in request.headers.items():
        if not _HEADER_NAME.match(name) or name.lower() in _OURS:
            raise InvalidInput(f"the header {name[:100]!r} may not be set", field="headers")
        if any(c in value for c in "\r\n\0"):
            raise InvalidInput(
                f"the value of the header {name} holds a line break",
                hint="Check the pasted value for a stray line end.",
                field="headers",
            )
    headers = [(name, value.encode("utf-8").decode("latin-1")) for name, value in request.headers.items()]
    headers += [("Accept-Encoding", "identity"), ("Connection", "close")]
    if not any(name.lower() == "user-agent" for name in request.headers):
        headers.append(("User-Agent", "keyturn"))
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        headers.append(("Content-Length", str(len(request.body))))
    return headers


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _decoded(head: Any, host: str) -> Iterator[bytes]:
    """The body's chunks; gzip and deflate are undone in bounded pieces although we ask for neither."""
    encoding = dict(head.headers).get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        yield from head.chunks
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise UnexpectedAnswer(
            f"{host} answered in an encoding we did not ask for", host=host, status=head.status
        )
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for chunk in head.chunks:
            rest = chunk
            while rest:
                yield inflate.decompress(rest, 65_536)
                rest = inflate.unconsumed_tail
    except zlib.error:
        raise UnexpectedAnswer(
            f"{host} sent a damaged compressed body", host=host, status=head.status
        ) from None


def _bounded(chunks: Iterator[bytes], request: Request, host: str, status: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > request.max_bytes:
            raise UnexpectedAnswer(
                f"{host} answered with more than {request.max_bytes} bytes",
                hint="Raise http.max_response_bytes if such an answer is expected.",
                host=host,
                status=status,
            )
    return bytes(body)


def _lost(request: Request, host: str, kind: str, sent: bool) -> KeyturnError:
    """The meaning of a missing answer. Only host, method and kind are told: paths and queries may hold secrets."""
    facts = {"host": host, "method": request.method, "network": kind}
    message = f"{host} {_WORDS.get(kind, 'could not be reached')}"
    if sent and request.changes:
        return OutcomeUnknown(
            message, hint="The change may have happened; the vendor is looked at first.", **facts
        )
    return VendorUnavailable(message, hint="Nothing was changed; the call is made again later.", **facts)
