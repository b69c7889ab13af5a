"""The command line against real parts: a PostgreSQL server, a REST system of the user's own, the served API."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from keyturn_lab.parts.child import PartMissing
from keyturn_lab.parts.postgres import PostgresCluster
from tests.faces.conftest import Line
from tests.programs import running

PROGRAM = Path(sys.executable).with_name("keyturn")
KEY = "ak_first0000000"


class Api(BaseHTTPRequestHandler):
    """A tiny API with one key."""

    def do_GET(self) -> None:
        good = self.headers.get("X-Api-Key") == KEY
        body = json.dumps({"user": "robot"} if good else {"error": "no"}).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def api() -> Iterator[int]:
    """Its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def definition(port: int) -> str:
    """A user's own system."""
    return f"""
schema: rest-credential/v1
id: tiny
title: Tiny
hosts: ["127.0.0.1"]
base_url: http://127.0.0.1:{port}
credential:
  parts:
    api_key: {{secret: true, title: API key}}
  overlap: {{supported: true, max_active: 2}}
auth:
  kind: api_key
  place: [{{in: header, name: X-Api-Key, format: "${{secret.api_key}}"}}]
test:
  request: {{method: GET, path: /me}}
  success: [{{status: {{in: [200]}}}}]
  identity:
    principal: {{json: "$.user", cardinality: one}}
errors:
  - {{when: {{status: [401]}}, class: credential_invalid}}
rotation: {{mode: manual}}
manual:
  effect: overlap
  paste_fields: [api_key]
  create_steps: [Make a key]
"""


def test_a_system_of_ones_own(keyturn: Line, api: int) -> None:
    """check, add, connect, list; a refused connection does not leave its definition behind."""
    keyturn.environment |= {
        "KEYTURN_ALLOWED_HOSTS": f"127.0.0.1:{api}",
        "WRONG": "ak_wrong000000",
        "RIGHT": KEY,
    }
    file = keyturn.folder / "tiny.yaml"
    file.write_text(definition(api))
    assert keyturn.json("definitions", "check", str(file))["usable"]
    connect = ("connect", "custom-rest", "token", "--name", "tiny", "--definition", str(file))
    before = keyturn.counts()
    assert "refused the credential" in keyturn(*connect, "--secret", "api_key=env:WRONG", code=1).stderr
    assert keyturn.counts() == before
    keyturn(*connect, "--secret", "api_key=env:RIGHT")
    assert keyturn.json("definitions", "list")[0]["connections"] == ["tiny"]
    assert not keyturn.json("definitions", "add", str(file))["new"]
    assert keyturn.json("test", "tiny")["identity"]["principal"] == "robot"


@pytest.mark.postgres
def test_a_real_database_password_is_rotated(keyturn: Line) -> None:
    """The server itself refuses the old password and accepts what `lease` hands out."""
    try:
        cluster = PostgresCluster().start()
    except PartMissing as missing:
        pytest.skip(str(missing))
    try:
        role = cluster.create_role("app_single")
        keyturn.environment |= {"PW": role.password, "KEYTURN_ALLOWED_HOSTS": "127.0.0.1"}
        keyturn(
            *("connect", "postgresql", "password", "--name", "db", "--set", "host=127.0.0.1"),
            *("--set", f"port={cluster.port}", "--set", "database=postgres", "--set", "user=app_single"),
            *("--set", "sslmode=disable", "--secret", "password=env:PW"),
        )
        run = keyturn.json("rotate", "db")
        assert (run["state"], run["serving"]) == ("complete", "v2 serves")
        script = "import os, psycopg; psycopg.connect(f\"host={os.environ['PGHOST']} dbname=postgres sslmode=disable\").close()"
        keyturn("lease", "db", "--", sys.executable, "-c", script)
        import psycopg

        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(cluster.dsn(role=role), connect_timeout=5)
    finally:
        cluster.stop()


def test_serve_answers_and_ends_gracefully(keyturn: Line) -> None:
    """The API answers on the port; SIGTERM ends it with exit code 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    argv = [PROGRAM, "serve", "--port", str(port)]
    said = keyturn.folder / "said"
    with (
        said.open("w") as err,
        running(argv, env={**os.environ, **keyturn.environment}, stderr=err) as hub,
    ):
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() < until
                assert hub.poll() is None
                time.sleep(0.2)
        hub.terminate()
        assert hub.wait(timeout=20) == 0
    assert "KEYTURN_PUBLIC_URL" in said.read_text()  # or the one-time link leads to the usual port
