"""Two hostile ends of a wire, on loopback: a server that answers nonsense, and a relay that loses answers."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

OVERSIZE_BYTES = 24 * 1024 * 1024
_JSON = b"Content-Type: application/json\r\n"


class _Server:
    """Accepts on loopback (and on a socket file where asked) and gives each connection to a thread."""

    def __init__(self, path: Path | None = None) -> None:
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.host = "127.0.0.1"
        self.port: int = self._sockets[0].getsockname()[1]
        self.path = path
        if path is not None:
            unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            unix.bind(str(path))
            unix.listen(8)
            self._sockets.append(unix)
        self._open: list[socket.socket] = []
        self._ended = threading.Event()

    @property
    def url(self) -> str:
        """The address of the loopback listener."""
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        for each in self._sockets:
            threading.Thread(target=self._accept, args=(each,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Closes everything; ending twice is fine."""
        self._ended.set()
        for each in (*self._sockets, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            self._open.append(peer)
            threading.Thread(target=self._quietly, args=(peer,), daemon=True).start()

    def _quietly(self, peer: socket.socket) -> None:
        with suppress(OSError), peer:
            self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Tls:
    """A server's certificate, which is its own authority, and how its protocol comes to TLS: at once, or after words."""

    authority: str
    context: ssl.SSLContext
    words: Callable[[socket.socket], None] = lambda _peer: None


@functools.cache
def tls(days: int, protocol: str = "") -> Tls:
    """For 127.0.0.1 and localhost, from ten days ago until so many `days` from now: below nought it has expired.

    `protocol` is `postgres` or `mysql` where a client asks for TLS in the middle of the conversation.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a liar")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    authority = made.public_bytes(Encoding.PEM).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the library takes files only
        path = os.path.join(folder, "pair.pem")
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        Path(path).write_text(pem + authority)
        context.load_cert_chain(path)
    return Tls(authority, context, _TO_TLS[protocol])


# A server greeting of MySQL's protocol 10 that offers TLS, and the 36 bytes of a client that takes it.
_GREETING = (
    b"\x0a8.0.0-liar\0\x01\0\0\0saltsalt\0\x09\x8a\x2d\x02\0\x08\0\x15"
    + bytes(10)
    + b"saltsaltsalt\0mysql_native_password\0"
)


def _postgres_words(peer: socket.socket) -> None:
    peer.recv(8, socket.MSG_WAITALL)
    peer.sendall(b"S")


def _mysql_words(peer: socket.socket) -> None:
    peer.sendall(struct.pack("<I", len(_GREETING)) + _GREETING)
    peer.recv(36, socket.MSG_WAITALL)


_TO_TLS: dict[str, Callable[[socket.socket], None]] = {
    "": lambda _peer: None,
    "postgres": _postgres_words,
    "mysql": _mysql_words,
}


class Liar(_Server):
    """Answers every request with one lie; `received` is what was sent here, `astray` what reached the foreign host.

    With `path` it listens on a socket file as well. `first_word_s` is how long it waits for the client to speak: little
    for a protocol in which the server does. With `secure` it speaks TLS, and only what came through that is received.
    """

    def __init__(
        self, lie: str, path: Path | None = None, first_word_s: float = 2.0, secure: Tls | None = None
    ) -> None:
        super().__init__(path)
        self._secure = secure
        self._lie = LIES[lie]
        self._foreign = _Ear()
        self._first_word_s = first_word_s
        self.received = bytearray()
        self.visits = 0

    @property
    def astray(self) -> bytes:
        """What was carried to the host that a redirect named: must be nothing."""
        return bytes(self._foreign.received)

    @property
    def foreign_url(self) -> str:
        """An address under another name than this server's own."""
        return f"http://localhost:{self._foreign.port}/trap"

    def __enter__(self) -> Self:
        self._foreign.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._foreign.end()

    @property
    def url(self) -> str:
        """The address of the loopback listener."""
        return f"{'https' if self._secure else 'http'}://{self.host}:{self.port}"

    def _serve(self, peer: socket.socket) -> None:
        self.visits += 1
        if self._secure is None:
            self._answer(peer)
            return
        peer.settimeout(5)
        self._secure.words(peer)
        with self._secure.context.wrap_socket(peer, server_side=True) as inside:  # SSLError is an OSError
            self._answer(inside)

    def _answer(self, peer: socket.socket) -> None:
        self.received += _request(peer, self._first_word_s)
        self._lie(self, peer)


class _Ear(_Server):
    """Hears what is sent and says it is fine."""

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()

    def _serve(self, peer: socket.socket) -> None:
        self.received += b"(somebody connected)" + _request(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + _JSON + b"\r\n{}")


def _request(peer: socket.socket, first_word_s: float = 2.0) -> bytes:
    """What the client says first: up to a pause."""
    peer.settimeout(0.05)
    said = bytearray()
    until = time.monotonic() + first_word_s
    while time.monotonic() < until:
        try:
            more = peer.recv(65_536)
        except TimeoutError:
            if said:
                break
            continue
        if not more:
            break
        said += more
        if b"\r\n\r\n" in said and b"ontent-" not in said:
            break
    peer.settimeout(10)
    return bytes(said)


def _answer(
    status: str, body: bytes, headers: bytes = _JSON, length: int | None = None
) -> Callable[..., None]:
    size = len(body) if length is None else length
    whole = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n%s" % (
        status.encode(),
        size,
        headers,
        body,
    )

    def say(_liar: Liar, peer: socket.socket) -> None:
        peer.sendall(whole)

    return say


def _oversize(_liar: Liar, peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n{" % (OVERSIZE_BYTES, _JSON))
    for _ in range(OVERSIZE_BYTES // 65_536):
        peer.sendall(b" " * 65_536)


def _echo(liar: Liar, peer: socket.socket) -> None:
    """Everything that was sent, and what is inside its Basic header, in each place where vendors have their message."""
    said = bytes(liar.received).decode("latin-1")
    for encoded in re.findall(r"(?i)authorization: basic ([A-Za-z0-9+/=]+)", said):
        said += base64.b64decode(encoded + "==").decode("latin-1")
    told = {"message": f"refused: {said}", "code": "odd"}
    body = {
        **told,
        "error": told,
        "error_description": said,
        "errors": [told],
        "reasons": [told],
        "detail": said,
    }
    _answer("422 Unprocessable Content", json.dumps(body).encode())(liar, peer)


def _redirect(liar: Liar, peer: socket.socket) -> None:
    peer.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % liar.foreign_url.encode()
    )


def _silent(liar: Liar, peer: socket.socket) -> None:
    del peer
    liar._ended.wait(30)  # noqa: SLF001 - the same file


def _drip(liar: Liar, peer: socket.socket) -> None:
    """Never quiet for long and never done: only a deadline over the whole call ends it."""
    peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not liar._ended.wait(0.05):  # noqa: SLF001 - the same file
        peer.sendall(b"a")


def _reset(_liar: Liar, peer: socket.socket) -> None:
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


_PAGE = b"<!doctype html><title>Maintenance</title><form action=/login>Please sign in</form>"
_HTML, _TEXT = b"Content-Type: text/html\r\n", b"Content-Type: text/plain\r\n"
# What a good answer of many vendors would hold, all at once: only its label or its context is wrong.
_PLAUSIBLE = (
    b'{"access_token":"made-up","token_type":"Bearer","expires_in":3600,"scope":"all","id":"1","ok":true,"success":true,'
    b'"email":"someone@acme.example","name":"someone","userName":"someone","accountId":"1","user":{"id":1,"email":'
    b'"someone@acme.example","name":"someone"},"results":[{"id":1}],"data":[{"id":1}],"result":[{"user_name":"someone"}],'
    b'"rows":[{"f":[{"v":"someone@acme.example"}]}],"jobComplete":true,"products":[{"id":"1"}],"contact":{"email":"x@y.zz"}}'
)
LIES: dict[str, Callable[[Liar, socket.socket], None]] = {
    "html page": _answer("200 OK", _PAGE, _HTML),
    "html page that refuses": _answer("401 Unauthorized", _PAGE, _HTML),
    "html page that forbids": _answer("403 Forbidden", _PAGE, _HTML),
    "wrong content type": _answer("200 OK", _PLAUSIBLE, _TEXT),
    "error inside a good answer": _answer(
        "200 OK",
        b'{"success":false,"ok":false,"error":{"code":401,"status":"UNAUTHENTICATED","message":"no"},'
        b'"errors":[{"code":"unauthorized","message":"no"}],"message":"no","reasons":[{"code":1,"message":"no"}]}',
    ),
    "html page as json": _answer("200 OK", _PAGE),
    "empty object": _answer("200 OK", b"{}"),
    "other shape": _answer("200 OK", b'[[],{"error":null},"user"]'),
    "error with 200": _answer(
        "200 OK", b'{"success":false,"status":"error","error":{"code":500,"message":"x"},"errors":["x"]}'
    ),
    "list as text": _answer("200 OK", b'["one","two"]', b"Content-Type: text/plain\r\n"),
    "deep nesting": _answer("200 OK", b"[" * 100_000),
    "truncated": _answer("200 OK", b'{"id": 1, "us', length=5000),
    "oversized": _oversize,
    "redirect to a foreign host": _redirect,
    "server error": _answer("500 Internal Server Error", b'{"error":"internal"}'),
    "echo": _echo,
    "proxy login": _answer("407 Proxy Authentication Required", b"", b"Proxy-Authenticate: Basic\r\n"),
    "not the protocol": lambda _liar, peer: peer.sendall(b"220 mail.example ESMTP ready\r\n" * 3),
    "silent": _silent,
    "dripping": _drip,
    "reset": _reset,
    "hung up": lambda _liar, _peer: None,
}


class Relay(_Server):
    """Passes everything on to the real vendor; the answer to the first request that holds `mark` is lost.

    From that request on nothing comes back and the connection is cut `grace_s` later: time for the vendor to act.
    """

    def __init__(self, host: str, port: int, mark: bytes, grace_s: float = 0.3) -> None:
        super().__init__()
        self._to = (host, port)
        self._mark, self._grace_s = mark, grace_s
        self.lost = threading.Event()

    def _serve(self, peer: socket.socket) -> None:
        with socket.create_connection(self._to, 5) as vendor:
            self._open.append(vendor)
            muted = threading.Event()
            threading.Thread(target=self._back, args=(vendor, peer, muted), daemon=True).start()
            while data := peer.recv(65_536):
                if self._mark in data and not self.lost.is_set():
                    self.lost.set()
                    muted.set()
                vendor.sendall(data)
                if muted.is_set():
                    time.sleep(self._grace_s)
                    _reset_now(peer)
                    return

    def _back(self, vendor: socket.socket, peer: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while data := vendor.recv(65_536):
                if not muted.is_set():
                    peer.sendall(data)
            peer.shutdown(socket.SHUT_RDWR)


def _reset_now(peer: socket.socket) -> None:
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
