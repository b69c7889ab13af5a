"""Whoever is told by webhook and by mail: their ends of the line, which keep every byte that came."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Hook(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        _keep(self.server, f"{self.path}\n{self.headers}".encode() + body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """What came is kept already."""


class _Post(socketserver.StreamRequestHandler):
    """Takes every letter (RFC 5321, the least of it)."""

    def handle(self) -> None:
        self.wfile.write(b"220 post.test\r\n")
        while line := self.rfile.readline():
            _keep(self.server, line)
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while (part := self.rfile.readline()) != b".\r\n":
                    _keep(self.server, part)
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    kept: Path


class _Web(ThreadingHTTPServer):
    daemon_threads = True
    kept: Path


def _keep(server: object, came: bytes) -> None:
    with server.kept.open("ab") as out:  # type: ignore[attr-defined]
        out.write(came + b"\n")


@contextmanager
def listening(out: Path) -> Iterator[tuple[str, str]]:
    """The address of a webhook and the URL of a mail server; what they get is in `webhooks.bin` and `mails.bin`."""
    servers = (_Web(("127.0.0.1", 0), _Hook), _Server(("127.0.0.1", 0), _Post))
    for server, name in zip(servers, ("webhooks.bin", "mails.bin"), strict=True):
        server.kept = out / name
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        hook, post = (server.server_address[1] for server in servers)
        yield f"http://127.0.0.1:{hook}/hook", f"smtp+plain://127.0.0.1:{post}"
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
