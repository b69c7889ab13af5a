"""`python -m bench.fleet`: a hub with 10,000 connections, 100,000 runs and a million journal lines, looked at as people and
programs look at it: over HTTP, signed in, against `keyturn serve` in a process of its own.

Times are those of the whole request on a kept loopback connection: a little more than the server's own. CPU is what the
serving process and the database server spent on it: that one does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.crowd import Crowd, Size, fill
from bench.reading import BIN, wait_for
from bench.world import STORES, Cpu, folder, open_product_hub, process_seconds
from keyturn.bootstrap import Keyturn
from keyturn.engine.sweep import Sweep, free_dead_holders
from keyturn.operations import notices, overview, people, rights, schedule, sessions
from keyturn.storage import runs as run_rows
from keyturn_lab.parts.child import free_port
from keyturn_lab.parts.postgres import PostgresCluster

RESULTS = Path(__file__).parent / "results.json"
MEDIAN_MS, P99_MS, PAGE_BYTES, LIVE_S = 100.0, 250.0, 200_000, 1.0
_PASSWORD = "plum-orbit-kettle-42"
_NEXT = re.compile(r'href="(/[^"]*after=[^"]*)"[^>]*>(?:Next page|Older|Look further back)')
_CALLERS = 12  # each has its own rate limit


@dataclass(frozen=True)
class Ask:
    """One thing that is asked for again and again. `path` may need another answer first: the cursor of a later page."""

    name: str
    path: str
    is_page: bool


def main() -> int:
    """Fills both stores, measures, prints, and writes the part `fleet` of bench/results.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything: shows that it works")
    parser.add_argument("--store", choices=STORES, action="append", help="only on this store")
    parser.add_argument("--times", type=int, default=40, help="how often each thing is asked for")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    write(options.output, run(quick=options.quick, stores=options.store or STORES, times=options.times))
    return 0


def write(output: Path, found: dict[str, Any]) -> None:
    """Puts this part into the file beside the others, and prints it."""
    before = json.loads(output.read_text()) if output.exists() else {}
    output.write_text(json.dumps({**before, "fleet": found}, indent=1, sort_keys=True) + "\n")
    show(found)


def run(*, quick: bool = False, stores: Sequence[str] = STORES, times: int = 40) -> dict[str, Any]:
    """Everything, by store."""
    size = small(0.01) if quick else Size()
    found: dict[str, Any] = {"size": vars(size), "load_before": round(os.getloadavg()[0], 2)}
    with (
        folder() as home,
        PostgresCluster(
            fsync=True, max_connections=100, options={"log_statement": "none", "log_connections": "off"}
        ) as cluster,
    ):
        for store in stores:
            database = cluster.create_database("keyturn") if store == "postgresql" else ""
            servers = (cluster,) if store == "postgresql" else ()
            found[store] = _of_store(home / store, database, servers, size, 5 if quick else times)
    found["targets"] = _targets(found, stores)
    return found


def small(part: float) -> Size:
    """A part of the full size."""
    return Size(**{name: max(2, int(value * part)) for name, value in vars(Size()).items()})


def _of_store(
    home: Path, database: str, servers: tuple[PostgresCluster, ...], size: Size, times: int
) -> dict[str, Any]:
    hub = open_product_hub(home, database)
    try:
        began = time.perf_counter()
        crowd = fill(hub, size)
        if servers:  # as a server that has been up for a while: its statistics are there
            with servers[0].connect("keyturn") as session:
                session.execute("VACUUM ANALYZE")
        filled_s = time.perf_counter() - began
        return {"fill_s": round(filled_s, 1), **measure(hub, home, database, servers, crowd, times)}
    finally:
        hub.close()


def measure(
    hub: Keyturn,
    home: Path,
    database: str,
    servers: tuple[PostgresCluster, ...],
    crowd: Crowd,
    times: int,
) -> dict[str, Any]:
    """What is asked for over HTTP, how late a change is told, and what the hub's own chores cost."""
    found: dict[str, Any] = {}
    chores = _chores(hub, servers)
    cookie, tokens = _people(hub)
    with _serving(home, database) as (port, pid):
        visitor = _Visitor(port, cookie, tokens)
        found["asked"] = {
            ask.name: _asked(visitor, ask, times, pid, servers) for ask in _asks(visitor, hub, crowd)
        }
        found["live_s"] = _live(visitor, crowd)
        found["idle_cpu_percent"] = _idle(pid, servers, 5.0 if times < 10 else 30.0)
    found["chores_cpu_ms"] = chores
    return found


# -- who asks, and for what --------------------------------------------------------------------------------------------


def _people(hub: Keyturn) -> tuple[str, list[str]]:
    """An administrator's cookie, and tokens of programs."""
    me = rights.local("bench")
    login = f"bench-{os.urandom(3).hex()}"
    made = people.invite(hub, me, login, "Bench", [(rights.Role.ADMIN.value, "")])
    account = people.accept(hub, made.code.reveal(), _PASSWORD)
    cookie = sessions.sign_in(hub, account.login, _PASSWORD).value
    tokens = []
    for number in range(_CALLERS):
        service = people.add_service(
            hub, me, f"{login}-{number}", "Bench program", [(rights.Role.ADMIN.value, "")]
        )
        _, value = people.make_token(hub, me, service.id, "bench", rights.SCOPES)
        tokens.append(value.reveal())
    return cookie, tokens


class _Visitor:
    """Browsers and programs at several addresses: one alone may not ask as often."""

    def __init__(self, port: int, cookie: str, tokens: Sequence[str]) -> None:
        self.port, self.cookie, self._tokens, self._turn = port, cookie, tokens, 0

    def headers(self, *, is_page: bool) -> dict[str, str]:
        """Who asks."""
        self._turn += 1
        if is_page:
            return {"Cookie": f"keyturn={self.cookie}"}
        return {"Authorization": f"Bearer {self._tokens[self._turn % len(self._tokens)]}"}

    def ask(
        self, path: str, *, is_page: bool, method: str = "GET", body: str = ""
    ) -> tuple[int, bytes, float]:
        """Status, body and seconds."""
        headers = self.headers(is_page=is_page)
        if body:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": os.urandom(8).hex()}
        source = (f"127.0.0.{1 + self._turn % 20}", 0)
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120, source_address=source)
        connection.connect()
        began = time.perf_counter()
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        data = answer.read()
        seconds = time.perf_counter() - began
        connection.close()
        return answer.status, data, seconds

    def page(self, path: str) -> str:
        """A page's text. Raises: AssertionError when there is none."""
        status, data, _ = self.ask(path, is_page=True)
        assert status == 200, f"{path}: HTTP {status}"
        return data.decode()

    def behind(self, path: str, pages: int) -> str:
        """The address of a later page of a list."""
        for _ in range(pages):
            found = _NEXT.search(self.page(path))
            if found is None:
                return path
            path = found[1].replace("&amp;", "&")
        return path

    def cursor(self, path: str, pages: int) -> str:
        """The address of a later page of a call."""
        here = path
        for _ in range(pages):
            status, data, _ = self.ask(here, is_page=False)
            assert status == 200, f"{here}: HTTP {status}: {data[:300]!r}"
            after = json.loads(data).get("next", "")
            if not after:
                return here
            here = f"{path}{'&' if '?' in path else '?'}after={quote(after)}"
        return here


def _asks(it: _Visitor, hub: Keyturn, crowd: Crowd) -> Iterator[Ask]:
    one, long_one = crowd.connections[17], crowd.longest
    run = crowd.run_ids[len(crowd.run_ids) // 2]
    owner = one.owner
    waiting = hub.store.read(
        lambda tx: tx.one("SELECT id FROM task WHERE state = 'open' ORDER BY id LIMIT 1")
    )
    assert waiting is not None
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 300 * 86400))
    pages = {
        "home": "/",
        "connections": "/connections",
        "connections, page 20": it.behind("/connections", 19),
        "connections, searched": f"/connections?q={quote(one.name[:9].lower())}",
        "connections, one found": f"/connections?q={quote(one.name.lower())}",
        "connections, overdue": "/connections?state=overdue",
        "connections, good": "/connections?state=good",
        "connections, one system": "/connections?system=snowflake",
        "connections, by due": "/connections?sort=due",
        "connections, by state": "/connections?sort=state&down=1",
        "connection": f"/connections/{one.id}",
        "connection, long history": f"/connections/{long_one.id}",
        "history": f"/connections/{long_one.id}/history",
        "run": f"/runs/{run}",
        "run, blocked": f"/runs/{crowd.stuck_run}",
        "runs": "/runs",
        "audit": "/audit",
        "audit, page 5": it.behind("/audit", 4),
        "audit, common words": "/audit?q=accepted",
        "audit, rare words": "/audit?q=no-such-word-anywhere",
        "audit, by somebody": f"/audit?by={quote(owner)}",
        "audit, by nobody": "/audit?by=nobody-ever",
        "audit, a kind": "/audit?kind=OUTCOME",
        "audit, a day": f"/audit?since={day}&until={day}",
        "audit, a connection": f"/audit?on={long_one.id}",
        "audit, the hub": "/audit?on=hub",
        "audit, the hub, words": "/audit?on=hub&q=signed_in",
        "tasks": "/tasks",
        "task": f"/tasks/{waiting[0]}",
        "debts": "/debts",
        "approvals": "/approvals",
        "issued": "/issued",
        "systems": "/systems",
        "projects": "/projects",
    }
    for name, path in pages.items():
        yield Ask(name, path, is_page=True)
    api = "/api/v1"
    calls = {
        "GET connections": f"{api}/connections?limit=100",
        "GET connections, deep": it.cursor(f"{api}/connections?limit=500", 18).replace(
            "limit=500", "limit=100"
        ),
        "GET connections, by due": f"{api}/connections?limit=100&sort=due",
        "GET connections, overdue": f"{api}/connections?limit=100&health=overdue",
        "GET connections, text": f"{api}/connections?limit=100&text=orders",
        "GET connections, name": f"{api}/connections?name={quote(one.name)}",
        "GET connection": f"{api}/connections/{one.id}",
        "GET connection, long history": f"{api}/connections/{long_one.id}",
        "GET runs": f"{api}/runs?limit=50",
        "GET runs, deep": it.cursor(f"{api}/runs?limit=500", 10).replace("limit=500", "limit=50"),
        "GET runs, blocked": f"{api}/runs?limit=50&state=blocked",
        "GET runs, lost": f"{api}/runs?limit=50&state=lost",
        "GET runs, aborted": f"{api}/runs?limit=50&state=aborted_with_debt",
        "GET runs, contained": f"{api}/runs?limit=50&goal=contain",
        "GET runs, of one": f"{api}/runs?limit=50&connection={long_one.id}",
        "GET run": f"{api}/runs/{run}",
        "GET audit": f"{api}/audit?limit=100",
        "GET audit, rare words": f"{api}/audit?limit=100&text=no-such-word-anywhere",
        "GET audit, a kind": f"{api}/audit?limit=100&kind=OUTCOME",
        "GET audit, a run": f"{api}/audit?run={run}",
        "GET tasks": f"{api}/tasks?limit=100",
        "GET debts": f"{api}/debts?limit=100",
        "GET approvals": f"{api}/approvals?limit=100",
        "GET issued": f"{api}/issued?limit=100",
        "GET today": f"{api}/today",
    }
    for name, path in calls.items():
        yield Ask(name, path, is_page=False)


def _asked(
    it: _Visitor, ask: Ask, times: int, pid: int, servers: tuple[PostgresCluster, ...]
) -> dict[str, float]:
    """One warm-up, then `times` times: median, p99, CPU of each, bytes."""
    it.ask(ask.path, is_page=ask.is_page)
    cpu, own = Cpu(*servers), process_seconds(pid)
    took, size = [], 0
    for _ in range(times):
        status, data, seconds = it.ask(ask.path, is_page=ask.is_page)
        assert status == 200, f"{ask.name}: HTTP {status}"
        took.append(1000 * seconds)
        size = len(data)
        if len(took) >= 5 and sum(took) > 20_000:  # it is slow: that is known by now
            break
    spent = 1000 * (process_seconds(pid) - own + cpu.spent()[1]) / len(took)
    took.sort()
    return {
        "median_ms": round(statistics.median(took), 1),
        "p99_ms": round(took[min(len(took) - 1, int(len(took) * 0.99))], 1),
        "cpu_ms": round(spent, 1),
        "bytes": size,
    }


# -- how late a change is told -----------------------------------------------------------------------------------------


def _live(it: _Visitor, crowd: Crowd, times: int = 6) -> dict[str, float]:
    """Seconds from a run's first line to the event that says so: on a page, and on the API's stream."""
    late: dict[str, list[float]] = {"page": [], "stream": []}
    heard: dict[str, list[float]] = {"page": [], "stream": []}
    stop = threading.Event()
    listeners = [
        threading.Thread(target=_listen, args=(it, path, is_page, heard[name], stop), daemon=True)
        for name, path, is_page in (("page", "/live?seen=", True), ("stream", "/api/v1/stream", False))
    ]
    for each in listeners:
        each.start()
    time.sleep(3)
    for number in range(min(times, crowd.size.issued)):
        asked_at = time.time()
        path = f"/api/v1/issued/{quote(f'partner {number:04}')}/reissue"
        status, data, _ = it.ask(path, is_page=False, method="POST", body=json.dumps({"overlap_s": 3600}))
        assert status in {200, 201}, f"{path}: HTTP {status}: {data[:300]!r}"
        time.sleep(4)
        for name, times_ in heard.items():
            first = next((at for at in list(times_) if at >= asked_at), None)
            late[name].append(9.0 if first is None else first - asked_at)
    stop.set()
    return {name: round(statistics.median(each), 2) for name, each in late.items()} | {
        "worst": round(max(max(each) for each in late.values()), 2)
    }


def _listen(it: _Visitor, path: str, is_page: bool, heard: list[float], stop: threading.Event) -> None:
    connection = HTTPConnection("127.0.0.1", it.port, timeout=60)
    connection.request("GET", path, headers=it.headers(is_page=is_page))
    answer = connection.getresponse()
    while not stop.is_set():
        line = answer.readline()
        if line.startswith(b"event: "):
            heard.append(time.time())
        elif not line:
            return


# -- what the hub does by itself ---------------------------------------------------------------------------------------


def _chores(hub: Keyturn, servers: tuple[PostgresCluster, ...]) -> dict[str, float]:
    """CPU of one tick of each chore, in milliseconds, while nothing happens."""
    sweep = Sweep(hub.store, hub.secrets, time.time, "bench", lambda _run, _at: None)
    notices.look(hub)  # the first look of a hub's life remembers everything
    notices.look(hub)
    ticks: dict[str, Callable[[], object]] = {
        "every half second: has anything changed": lambda: overview.pulse(hub),
        "every second: what is due": lambda: hub.store.read(lambda tx: run_rows.due(tx, time.time(), 64)),
        "after a change: notices": lambda: notices.look(hub, widely=False),
        "every 30 s: notices about dates": lambda: notices.look(hub),
        "every 10 s: what the clock begins": lambda: schedule.start_due(hub),
        "every 10 s: answered tasks": sweep.wake_answered,
        "every 10 s: dead holders": lambda: free_dead_holders(hub.store),
        "every minute: debts": sweep.try_debts,
        "every minute: prune": sweep.prune,
        "every minute: destroy": sweep.destroy_due,
    }
    found = {}
    for name, tick in ticks.items():
        tick()
        cpu, count = Cpu(*servers), 0
        until = time.perf_counter() + 1.0
        while time.perf_counter() < until or count < 5:
            tick()
            count += 1
        ours, theirs = cpu.spent()
        found[name] = round(1000 * (ours + theirs) / count, 2)
    return found


def _idle(pid: int, servers: tuple[PostgresCluster, ...], seconds: float) -> float:
    """How much of one core the hub takes while nobody looks and nothing is due."""
    cpu, own, began = Cpu(*servers), process_seconds(pid), time.perf_counter()
    time.sleep(seconds)
    spent = process_seconds(pid) - own + cpu.spent()[1]
    return round(100 * spent / (time.perf_counter() - began), 2)


# -- the hub in a process of its own -----------------------------------------------------------------------------------


@contextmanager
def _serving(home: Path, database: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    environment = {
        "KEYTURN_HOME": str(home),
        "KEYTURN_DATABASE": database or f"sqlite:///{home / 'keyturn.db'}",
        "KEYTURN_KEK": f"file:{home.with_name(home.name + '-config') / 'kek'}",
        "KEYTURN_ALLOWED_HOSTS": "127.0.0.1",
        "KEYTURN_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with subprocess.Popen(
        [BIN / "keyturn", "serve", "--port", str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_for(port)
            time.sleep(2)
            yield port, server.pid
        finally:
            server.terminate()


# -- what came out -----------------------------------------------------------------------------------------------------


def _targets(found: dict[str, Any], stores: Sequence[str]) -> list[dict[str, Any]]:
    """The promises, with the worst of each store."""
    said = []
    for store in stores:
        asked = found[store]["asked"]
        first = {name: each for name, each in asked.items() if not name.startswith("GET")}
        for what, unit, limit, among in (
            ("median_ms", "ms at the median", MEDIAN_MS, asked),
            ("p99_ms", "ms at p99", P99_MS, asked),
            ("bytes", "bytes of a page", PAGE_BYTES, first),
        ):
            name = max(among, key=lambda each: among[each][what])
            worst = among[name][what]
            said.append(
                {
                    "what": f"{store}: {unit}, worst: {name}",
                    "is": worst,
                    "wanted": limit,
                    "met": worst < limit,
                }
            )
        late = found[store]["live_s"]["page"]
        said.append(
            {
                "what": f"{store}: s until a page hears of a run's first line",
                "is": late,
                "wanted": LIVE_S,
                "met": late < LIVE_S,
            }
        )
    return said


def show(found: dict[str, Any]) -> None:
    """A table."""
    stores = [store for store in STORES if store in found]
    size = found["size"]
    print(f"\n{size['connections']} connections, {size['runs']} runs, {size['lines']} journal lines")
    print(f"{'':<34}" + "".join(f"{store:^36}" for store in stores))
    print(f"{'':<34}" + "".join(f"{'median':>9}{'p99':>9}{'CPU':>8}{'kB':>8}  " for _ in stores))
    for name in found[stores[0]]["asked"]:
        row = ""
        for store in stores:
            each = found[store]["asked"][name]
            row += f"{each['median_ms']:>9.1f}{each['p99_ms']:>9.1f}{each['cpu_ms']:>8.1f}{each['bytes'] / 1000:>8.1f}  "
        print(f"{name:<34}{row}")
    for store in stores:
        print(f"\n{store}: filled in {found[store].get('fill_s', 0):.0f} s")
        for name, ms in found[store]["chores_cpu_ms"].items():
            print(f"  {name:<46}{ms:>8.2f} ms of CPU")
        late = found[store]["live_s"]
        print(
            f"  told of a change after: page {late['page']} s, stream {late['stream']} s, worst {late['worst']} s"
        )
        print(f"  idle: {found[store]['idle_cpu_percent']}% of one core")
    for target in found.get("targets", ()):
        print(
            f"{'met   ' if target['met'] else 'MISSED'}  {target['is']:>9} {target['what']}: {target['wanted']}"
        )


if __name__ == "__main__":
    sys.exit(main())
