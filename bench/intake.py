"""What lies behind the hub's keys: `python -m bench.intake` prints JSON.

The key check is measured against a bare route of the same server that answers as many bytes and asks nobody who calls;
the two take turns. A reissue happens under a steady stream of calls, by another process than the one that is called. The
bulk load sends a CSV file over HTTP and waits until readers see its rows; memory is the server's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from keyturn.bootstrap import Keyturn, open_hub
from keyturn.contract.values import NetworkPolicy
from keyturn.operations import issued, runs
from keyturn.settings import Settings

ROOT = Path(__file__).parents[1]
WHOAMI = "/api/v1/whoami"


def settings(home: Path) -> Settings:
    return Settings(
        home=home,
        database=f"sqlite:///{home / 'keyturn.db'}",
        kek=f"file:{home.with_name(home.name + '-config') / 'kek'}",
        network=NetworkPolicy(),
        actor="bench",
    )


def serve(home: Path, port: int, *, bare: bool = False) -> None:
    """The hub's own application; `bare`: with nobody asked who calls, in the very place of the call that asks."""
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from keyturn.api.app import create_app

    hub = open_hub(settings(home))
    app = create_app(hub)

    async def unasked(_: Request) -> Response:
        body = {
            "credential": "bench",
            "slot": "A",
            "state": "live",
            "scopes": ["bulk", "read"],
            "expires_at": None,
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    if bare:
        assert getattr(app.router.routes[0], "path", "") == WHOAMI
        app.router.routes[0] = Route(WHOAMI, unasked, methods=["GET"])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, access_log=False, log_level="warning", server_header=False
    )
    uvicorn.Server(config).run()


class Server:
    def __init__(self, home: Path, process: subprocess.Popen[bytes], port: int, hub: Keyturn) -> None:
        self.home, self.port, self.hub, self._process = home, port, hub, process

    def cpu_s(self) -> float:
        """What the server has computed so far; other work on the machine does not count."""
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        with open(f"/proc/{self._process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


@contextmanager
def served(*, bare: bool = False) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        home = Path(folder) / "home"
        hub = open_hub(settings(home), create=True)
        argv = [sys.executable, "-m", "bench.intake", "--serve", str(home), str(port)]
        argv += ["--bare"] if bare else []
        process = subprocess.Popen(argv, cwd=ROOT)
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
                        break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield Server(home, process, port, hub)
        finally:
            process.terminate()
            process.wait()
            hub.close()


def _calls(
    port: int, path: str, headers: dict[str, str], seconds: float, clients: int
) -> tuple[float, float]:
    """Requests a second and the 99th percentile in ms, over kept connections."""
    took: list[list[float]] = [[] for _ in range(clients)]

    def client(mine: list[float]) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            mine.append(time.perf_counter() - began)
        connection.close()

    threads = [threading.Thread(target=client, args=(each,)) for each in took]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = sorted(1000 * one for each in took for one in each)
    return len(every) / seconds, every[int(len(every) * 0.99)]


def key_check(rounds: int = 25, seconds: float = 0.4, clients: int = 4) -> dict[str, Any]:
    """Authenticated against bare, in short turns, as machines that are shared change their speed within seconds; the
    ratio is taken within a round before the median. CPU is the server's
    own, so that a busy machine leaves at least that ratio as it is. The key has a quota that is counted and told with
    every answer, as every key's is, and is never reached."""
    with served() as server, served(bare=True) as open_one:
        value = issued.issue(
            server.hub, "api-key", "bench", {"scopes": "read bulk", "rate_per_minute": "1000000"}
        ).value
        headers = {"AccessKey": value.reveal()}
        found: dict[str, list[tuple[float, float, float]]] = {"bare": [], "whoami": []}
        turns: list[tuple[str, Server, dict[str, str]]] = [
            ("bare", open_one, {}),
            ("whoami", server, headers),
        ]
        for _, asked, said in turns:
            _calls(asked.port, WHOAMI, said, 0.5, clients)
        for number in range(rounds):
            for name, asked, said in turns if number % 2 == 0 else turns[::-1]:
                before = asked.cpu_s()
                per_s, p99_ms = _calls(asked.port, WHOAMI, said, seconds, clients)
                cpu_ms = 1000 * (asked.cpu_s() - before) / (per_s * seconds)
                found[name].append((per_s, p99_ms, cpu_ms))
        pairs = list(zip(found["whoami"], found["bare"], strict=True))
        return {
            "per_s": {
                name: round(statistics.median(each[0] for each in all_)) for name, all_ in found.items()
            },
            "p99_ms": {
                name: round(statistics.median(each[1] for each in all_), 2) for name, all_ in found.items()
            },
            "cpu_ms": {
                name: round(statistics.median(each[2] for each in all_), 3) for name, all_ in found.items()
            },
            "ratio": round(statistics.median(ours[0] / bare[0] for ours, bare in pairs), 3),
            "ratio_of_cpu": round(statistics.median(bare[2] / ours[2] for ours, bare in pairs), 3),
            "wanted_ratio": 0.70,
        }


@dataclass(frozen=True)
class _Call:
    began: float  # epoch seconds, as the journal's
    ended: float
    is_new: bool
    status: int


def reissue_under_load(seconds: float = 14.0, per_s: int = 200, clients: int = 8) -> dict[str, Any]:
    """Half of the callers change to the new key when they get it, the others never do. Nobody may be refused before the
    old one is ended, and afterwards nobody but who still shows that."""
    overlap_s = seconds / 4
    with served() as server:
        hub = server.hub
        hub.engine.start()
        first = issued.issue(hub, "api-key", "bench", {"scopes": "read", "rate_per_minute": "0"})
        old, made = first.value.reveal(), [""]
        calls: list[list[_Call]] = [[] for _ in range(clients)]
        began = time.perf_counter() + 0.2

        def client(number: int) -> None:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
            changes = number % 2 == 0
            for turn in range(int(seconds * per_s / clients)):
                due = began + (turn * clients + number) / per_s
                time.sleep(max(0.0, due - time.perf_counter()))
                value = made[0] if changes and made[0] else old
                at = time.time()
                connection.request("GET", WHOAMI, headers={"AccessKey": value})
                answer = connection.getresponse()
                answer.read()
                calls[number].append(_Call(at, time.time(), value != old, answer.status))
            connection.close()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(0.2 + seconds / 8)
        handed = issued.reissue(hub, "bench", overlap_s)
        made[0] = handed.value.reveal()
        for thread in threads:
            thread.join()
        assert handed.run is not None
        lines = [line for line in runs.lines(hub, handed.run.id) if line.step == "revoke"]
    every = sorted((call for each in calls for call in each), key=lambda call: call.began)
    return _judge(every, lines[0].at, lines[-1].at)


_REFUSALS = frozenset({401, 429})  # whoever fails often from one address is soon not listened to any more


def _judge(every: list[_Call], ending_at: float, ended_at: float) -> dict[str, Any]:
    """`ending_at`: the end of the old key was begun; `ended_at`: its commit was there."""
    refused = [call for call in every if call.status != 200]
    late = [call for call in every if not call.is_new and call.began > ended_at]
    took = sorted(1000 * (call.ended - call.began) for call in every)
    return {
        "calls": len(every),
        "per_s": round(len(every) / (every[-1].ended - every[0].began)),
        "p99_ms": round(took[int(len(took) * 0.99)], 1),
        "refused_before_the_end": sum(call.ended < ending_at for call in refused),
        "new_refused": sum(call.is_new for call in refused),
        "old_refused_after": sum(call.status in _REFUSALS for call in late),
        "old_accepted_after": sum(call.status == 200 for call in late),
        "other_answers": sum(call.status not in {200, *_REFUSALS} for call in every),
    }


def bulk_load(rows: int = 1_000_000) -> dict[str, Any]:
    """One CSV file of six columns, about 70 bytes a row."""
    with served() as server, tempfile.TemporaryFile() as file:
        value = issued.issue(
            server.hub, "api-key", "bench", {"scopes": "read bulk", "rate_per_minute": "0"}
        ).value
        headers = {"AccessKey": value.reveal()}
        file.write(b"id,name,email,country,amount,note\n")
        for start in range(0, rows, 10_000):
            file.write(
                b"".join(
                    b'%d,customer %d,c%d@customers.example,DE,%d.%02d,"said ""yes"", twice"\n'
                    % (n, n, n, n % 997, n % 100)
                    for n in range(start, min(rows, start + 10_000))
                )
            )
        size = file.tell()
        file.seek(0)
        idle_mb = server.peak_mb()
        began = time.perf_counter()
        url = f"http://127.0.0.1:{server.port}/api/v1/bulk/customers"
        request = urllib.request.Request(
            url, file, {**headers, "Content-Type": "text/csv", "Content-Length": str(size)}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            load = json.loads(answer.read())
        received_s = time.perf_counter() - began
        while True:
            request = urllib.request.Request(
                f"http://127.0.0.1:{server.port}/api/v1/bulk/loads/{load['id']}", headers=headers
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                page = json.loads(answer.read())
            if page["ended_at"]:
                break
            time.sleep(0.1)
        took = time.perf_counter() - began
        assert (page["state"], page["accepted"], page["rejected"]) == ("done", rows, 0), page
        began = time.perf_counter()
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/api/v1/datasets/customers/export", headers=headers
        )
        lines = 0
        with urllib.request.urlopen(request, timeout=600) as answer:
            while piece := answer.read(1 << 20):
                lines += piece.count(b"\n")
        assert lines == rows, lines
        return {
            "rows": rows,
            "mb": round(size / 1e6, 1),
            "received_s": round(received_s, 2),
            "seconds": round(took, 2),
            "rows_per_s": round(rows / took),
            "idle_mb": round(idle_mb, 1),
            "peak_mb": round(server.peak_mb(), 1),
            "export_rows_per_s": round(rows / (time.perf_counter() - began)),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.intake", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: shows that it works")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--serve", nargs=2, metavar=("HOME", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), int(options.serve[1]), bare=options.bare)
        return 0
    found = {
        "load_before": round(os.getloadavg()[0], 2),
        "key_check": key_check(3) if options.quick else key_check(),
        "reissue_under_load": reissue_under_load(4.0) if options.quick else reissue_under_load(),
        "bulk_load": bulk_load(20_000 if options.quick else options.rows),
    }
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
