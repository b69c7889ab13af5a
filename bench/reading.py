"""Lease reads: in this process, and over HTTP against a server in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

from bench.world import Product
from keyturn.operations import issued, leases
from keyturn_lab.parts.child import free_port

BIN = Path(sys.executable).parent


def in_process(made: Product, seconds: float) -> dict[str, float]:
    """`resolve` (reads only) and `take` (a durable lease row), one thread each, a second."""
    found = {}
    for name, act in (
        ("resolve", lambda each: leases.resolve(made.hub, each)),
        ("take", lambda each: leases.take(made.hub, each, "bench", ttl_s=60)),
    ):
        count, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            act(made.names[count % len(made.names)])
            count += 1
        found[name] = count / seconds
    return found


def over_http(made: Product, home: Path, seconds: float, clients: int = 16) -> float:
    """POST /api/v1/leases with an issued key, over kept connections."""
    name = f"bench-{os.urandom(3).hex()}"
    key = issued.issue(made.hub, "api-key", name, {"scopes": "lease"}).value.reveal()
    port = free_port()
    with subprocess.Popen(
        [BIN / "keyturn", "serve", "--port", str(port)],
        env={**os.environ, **_environment(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_for(port)
            counts = [0] * clients
            until = time.perf_counter() + seconds
            threads = [
                threading.Thread(target=_client, args=(n, port, key, made.names, until, counts))
                for n in range(clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sum(counts) / seconds
        finally:
            server.terminate()


def _client(
    number: int, port: int, key: str, names: tuple[str, ...], until: float, counts: list[int]
) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    while time.perf_counter() < until:
        body = json.dumps(
            {"connection": names[counts[number] % len(names)], "consumer": "bench", "ttl_s": 60}
        )
        connection.request(
            "POST", "/api/v1/leases", body, {"AccessKey": key, "Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status in {200, 201}, f"HTTP {answer.status}"
        counts[number] += 1
    connection.close()


def _environment(home: Path) -> Mapping[str, str]:
    return {
        "KEYTURN_HOME": str(home),
        "KEYTURN_DATABASE": f"sqlite:///{home / 'keyturn.db'}",
        "KEYTURN_KEK": f"file:{home.with_name(home.name + '-config') / 'kek'}",
        "KEYTURN_ALLOWED_HOSTS": "127.0.0.1",
    }


def wait_for(port: int) -> None:
    """Until a server answers there. Raises: TimeoutError."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the server did not start")


def help_ms(times: int) -> float:
    """The median wall time of `keyturn --help`, as a whole process."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([BIN / "keyturn", "--help"], stdout=subprocess.DEVNULL, check=True)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[len(took) // 2]
