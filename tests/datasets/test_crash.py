"""Whatever dies, and wherever: every row is there once when the load is done."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests import stores
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for

from keyturn.operations import datasets, issued
from keyturn.operations.datasets import Loader

ROOT = Path(__file__).parents[2]
ROWS = 25_000  # three batches


def file_of(rows, name="x" * 20):
    return b"id,name\n" + b"".join(b"%d,%s\n" % (n, name.encode()) for n in range(rows))


def child(folder, place, times):
    argv = [
        sys.executable,
        "-m",
        "tests.datasets.child",
        str(folder),
        stores.url(folder / "home"),
        place,
        str(times),
    ]
    return subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )


def ids(hub, name="d"):
    return [int(body.partition('"id":"')[2].partition('"')[0]) for body in datasets.shelf(hub).each(name)]


@pytest.fixture
def hub(tmp_path):
    hub = open_test_hub(tmp_path)
    yield hub
    hub.close()


def received(hub, data, mode="append", trigger=""):
    """A load whose bytes are all here."""
    if not any(each.connection.name == "etl" for each in issued.every(hub)):
        issued.issue(hub, "api-key", "etl", {"scopes": "bulk"})
    found = issued.get(hub, "etl")
    load = datasets.begin(
        hub, "d", found.connection.id, found.secrets[0].version_id, form="csv", mode=mode, trigger=trigger
    )
    receiver, let_go = datasets.receiving(hub, load.id, 0)
    receiver.write(data)
    receiver.commit(complete=True)
    let_go()
    return load


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("bulk:batch", 1),
        ("bulk:batch", 2),
        ("bulk:batch_written", 1),
        ("bulk:batch_written", 3),
        ("bulk:read", 1),
        ("bulk:seen", 1),
    ],
)
def test_a_killed_loader_goes_on(hub, tmp_path, place, times):
    """Between any two of its steps: no row is lost, none is there twice, and nobody sees half a load."""
    received(hub, file_of(ROWS))
    assert child(tmp_path, place, times).returncode == -signal.SIGKILL
    seen = len(ids(hub)) if datasets.shelf(hub).names() else 0
    assert seen in ({ROWS} if place == "bulk:seen" else {0})
    assert child(tmp_path, "-", 1).returncode == 0
    assert ids(hub) == list(range(ROWS))
    load = datasets.loads(hub)[0]
    assert (load.state.value, load.accepted, load.rejected) == ("done", ROWS, 0)
    assert datasets.uploads(hub).ids() == []


@pytest.mark.parametrize("place", ["bulk:batch_written", "bulk:read", "bulk:seen"])
def test_a_killed_replacement_leaves_the_old_or_the_new(hub, tmp_path, place):
    """Never both, never neither."""
    received(hub, b"id,name\n7,old\n")
    Loader(hub).work()
    received(hub, file_of(ROWS), "replace")
    child(tmp_path, place, 1)
    assert ids(hub) == (list(range(ROWS)) if place == "bulk:seen" else [7])
    Loader(hub).work()
    assert ids(hub) == list(range(ROWS))


def test_bytes_that_were_not_acknowledged_are_sent_again(hub):
    """What reached the disk behind the last commit is cut off before an upload goes on."""
    data = file_of(100)
    issued.issue(hub, "api-key", "etl", {"scopes": "bulk"})
    found = issued.get(hub, "etl")
    load = datasets.begin(hub, "d", found.connection.id, found.secrets[0].version_id, form="csv")
    receiver, let_go = datasets.receiving(hub, load.id, 0)
    receiver.write(data[:40])
    receiver.commit()
    receiver.write(b"garbage that a crash left, never acknowledged")
    let_go()
    receiver, let_go = datasets.receiving(hub, load.id, 40)
    receiver.write(data[40:])
    receiver.commit(complete=True)
    let_go()
    Loader(hub).work()
    assert ids(hub) == list(range(100))


def test_two_loaders_load_once(hub):
    """The lock on the upload keeps them apart."""
    import threading

    received(hub, file_of(ROWS))
    loaders = [threading.Thread(target=Loader(hub).work) for _ in range(4)]
    for each in loaders:
        each.start()
    for each in loaders:
        each.join()
    wait_for(lambda: datasets.loads(hub)[0].ended_at or not Loader(hub).work())
    assert ids(hub) == list(range(ROWS))


def test_a_cancelled_load_leaves_nothing(hub):
    """Also when the loader is in the middle of it."""
    load = received(hub, file_of(ROWS))
    shelf = datasets.shelf(hub)
    shelf.begin("d", load.id)
    datasets.cancel(hub, load.id)
    Loader(hub).work()
    assert ids(hub) == []
    assert datasets.uploads(hub).ids() == []


@pytest.mark.slow
def test_a_served_load_survives_a_kill_and_a_reissue(tmp_path):
    """Over HTTP against a real server: killed while receiving and while loading, its key reissued in between."""
    hub = open_test_hub(tmp_path)
    old = issued.issue(hub, "api-key", "etl", {"scopes": "bulk read"}).value.reveal()
    data, rows = file_of(300_000), 300_000
    with _Server(tmp_path, hub) as server:
        headers = {"AccessKey": old, "Content-Type": "text/csv", "Upload-Complete": "?0"}
        made = server.call("POST", "/api/v1/bulk/d", headers, b"")
        path = made.headers["Location"]
        piece = {**headers, "Content-Type": "application/partial-upload"}
        half = len(data) // 2
        server.call("PATCH", path, {**piece, "Upload-Offset": "0"}, data[:half])
        server.kill()
        server.start()
        assert server.call("HEAD", path, headers, None).headers["Upload-Offset"] == str(half)
        new = issued.reissue(hub, "etl", 0.0, force=True).value.reveal()
        server.call(
            "PATCH", path, {**piece, "Upload-Offset": str(half), "Upload-Complete": "?1"}, data[half:]
        )
        wait_for(lambda: 0 < datasets.loads(hub)[0].accepted < rows, 30)
        server.kill()
        server.start()
        wait_for(lambda: datasets.loads(hub)[0].ended_at, 60)
        assert ids(hub) == list(range(rows))
        assert server.call("GET", "/api/v1/whoami", {"AccessKey": new}, None).status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            wait_for(lambda: not server.call("GET", "/api/v1/whoami", {"AccessKey": old}, None), 10)
    hub.close()


class _Server:
    """`keyturn serve` as a program."""

    def __init__(self, folder, hub):
        self._environment = {
            **os.environ,
            "KEYTURN_HOME": str(folder / "home"),
            "KEYTURN_DATABASE": hub.settings.database,
            "KEYTURN_KEK": f"file:{folder / 'kek'}",
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        argv = [Path(sys.executable).parent / "keyturn", "serve", "--port", str(self._port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(argv, env=self._environment, **quiet)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                return self.call("GET", "/healthz", {}, None)
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def call(self, method, path, headers, data):
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, headers, method=method)
        return urllib.request.urlopen(request, timeout=30)
