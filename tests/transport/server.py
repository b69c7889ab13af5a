"""A tiny HTTP server for tests: answers are programmed per method and path, requests are kept."""

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from keyturn.contract.values import NetworkPolicy


@dataclass
class Seen:
    method: str
    path: str
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Server:
    port: int
    routes: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def network(self):
        return NetworkPolicy(frozenset({f"127.0.0.1:{self.port}", f"localhost:{self.port}"}))

    def on(self, method, path, answer):
        """`answer`: a JSON value, (status, body), (status, body, headers) or a function of the request giving one."""
        self.routes[method, path] = answer


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def _serve(self):
            length = int(self.headers.get("content-length", 0))
            seen = Seen(
                self.command,
                self.path,
                {k.lower(): v for k, v in self.headers.items()},
                self.rfile.read(length),
            )
            server.seen.append(seen)
            answer = server.routes.get(
                (self.command, self.path.partition("?")[0]), (404, {"error": "no route"})
            )
            if callable(answer):
                answer = answer(seen)
            if answer is None:  # drop the connection without an answer
                self.close_connection = True
                return
            status, body, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names http.server looks for

    return Handler


@contextlib.contextmanager
def serving():
    server = Server(0)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.port = httpd.server_port
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
