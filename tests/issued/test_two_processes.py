"""Two servers, each a process of its own, over one database: what one of them retires, the other refuses within a second."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from tests import stores
from tests.waiting import wait_for

from keyturn.bootstrap import open_hub
from keyturn.operations import issued, runs
from keyturn.settings import Settings

BIN = Path(sys.executable).parent
OVERLAP_S = 1.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[object, list[str]]]:
    """A hub to issue with, and the addresses of two servers; both run an engine, as with several workers in production."""
    home = tmp_path / "home"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "KEYTURN_HOME": str(home),
        "KEYTURN_KEK": f"file:{tmp_path / 'kek'}",
        "KEYTURN_DATABASE": stores.url(home),
        "KEYTURN_PATIENCE": "0.02",
        "KEYTURN_ACTOR": "ada",
    }
    with ExitStack() as stack:
        hub = open_hub(Settings.read(environment), create=True)
        stack.callback(hub.close)
        bases = []
        for number in range(2):
            with socket.create_server(("127.0.0.1", 0)) as held:
                port = held.getsockname()[1]
            log = stack.enter_context((tmp_path / f"serve-{number}.log").open("wb"))
            child = subprocess.Popen(
                [BIN / "keyturn", "serve", "--port", str(port)], env=environment, stdout=log, stderr=log
            )
            stack.callback(child.wait, 30)
            stack.callback(child.terminate)
            bases.append(f"http://127.0.0.1:{port}")
        for base in bases:
            wait_for(lambda base=base: _answers(base), 60)
        yield hub, bases


def _answers(base: str) -> bool:
    try:
        return requests.get(f"{base}/healthz", timeout=1).ok
    except requests.RequestException:
        return False


class Caller(threading.Thread):
    """Shows a key to one server over and over, and writes down when it asked and what it got."""

    def __init__(self, base: str, key: str) -> None:
        super().__init__(daemon=True)
        self.base, self.key = base, key
        self.seen: list[tuple[float, int]] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        session = requests.Session()
        while not self.is_over.wait(0.03):
            at = time.time()
            answer = session.get(f"{self.base}/api/v1/whoami", headers={"AccessKey": self.key}, timeout=30)
            self.seen.append((at, answer.status_code))


def test_what_is_retired_is_refused_by_every_process(servers) -> None:
    """The old key works at both until its end, wherever that is made, and a second later at neither; the new one always."""
    hub, bases = servers
    old = issued.issue(hub, "api-key", "crm", {"scopes": "read", "rate_per_minute": "0"}).value.reveal()
    callers = [Caller(base, old) for base in bases]
    for caller in callers:
        caller.start()
    wait_for(lambda: all(caller.seen for caller in callers), 30)
    handed = issued.reissue(hub, "crm", OVERLAP_S)
    newer = [Caller(base, handed.value.reveal()) for base in bases]
    for caller in newer:
        caller.start()
    done = wait_for(lambda: (r := runs.get(hub, handed.run.id)).ended_at and r, 60)
    time.sleep(1.2)
    for caller in (*callers, *newer):
        caller.is_over.set()
        caller.join(timeout=30)
    ending = [line.at for line in runs.lines(hub, done.id) if line.step == "revoke"]
    for caller in callers:
        assert {status for at, status in caller.seen if at < ending[0] - 0.2} == {200}
        late = [status for at, status in caller.seen if at > ending[-1] + 1.0]
        assert late, "nobody called after the end"
        assert set(late) <= {401, 429}, caller.base
    assert {status for caller in newer for _, status in caller.seen} == {200}
