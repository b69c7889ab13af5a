"""`python -m tests.faults.matrix`: kills the hub at every place of every strategy under every fault, and looks.

Three passes: the first runs each subject with each fault without a kill and writes down the places it reaches; the
second dies at each of them, recovers in a new process, and checks every invariant; the third, for the worst moment of
each strategy, kills the recovery as well. See docs/faults.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path

from keyturn.model.plan import Goal
from tests.faults import pool
from tests.faults.cases import FAULTS, SUBJECTS, Case, pairs
from tests.faults.crash import Result, run

FULL = frozenset(
    {"none", "answer_lost.stage"}
)  # faults under which the hub dies around every journal line as well
ROUTINE = frozenset(
    {Goal.ROTATE, Goal.REFRESH}
)  # other goals are made of the same steps: they are full without a fault
ROUNDS = 2  # a polling loop is the same from its second round on
_EFFECTS = ("commit:", "call:", "probe:", "spool:")


def places_of(found: Result, *, full: bool, rounds: int = ROUNDS) -> list[tuple[str, int]]:
    """The places to die at. Unless `full` only those around an effect: a line is in memory until the next commit, so
    a death beside it leaves the same world as one at the effect before."""
    if full:
        return list(found.places)
    return [(place, k) for place, k in found.places if place.startswith(_EFFECTS) and k <= rounds]


def plan(found: Iterable[Result]) -> list[Case]:
    """Every case with a kill, from the runs without."""
    cases = []
    for result in found:
        case = Case.parse(result.name)
        # S8 polls seldom, and its commits are all that can tear: each of them is another one.
        rounds = sys.maxsize if case.subject.is_issued else ROUNDS
        full = case.fault.name == "none" or (case.fault.name in FULL and case.subject.goal in ROUTINE)
        for place, k in places_of(result, full=full, rounds=rounds):
            cases.append(Case(case.subject, case.fault, place, k))
    return cases


def plan_twice(found: Iterable[Result]) -> list[Case]:
    """The cases in which the recovery from the worst moment, a call without an answer, dies too."""
    cases = []
    for result in found:
        case = Case.parse(result.name)
        if case.fault.name not in FULL or (case.place, case.k) not in _worst(case):
            continue
        for place, k in result.then_places:
            if place.startswith(("commit:", "call:")) and k <= ROUNDS:
                cases.append(Case(case.subject, case.fault, case.place, case.k, (place, k)))
    return cases


def _worst(case: Case) -> set[tuple[str, int]]:
    stage = "refresh" if case.subject.goal is Goal.REFRESH else "stage"
    return {(f"call:{stage}:after", 1)}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 only without violations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", action="append", default=[], help="run one case and print its journal")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--sample", type=int, default=0, help="run this many, spread evenly by chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL store instead of SQLite")
    parser.add_argument("--json", type=Path, help="write every result here")
    parser.add_argument("--write-docs", action="store_true", help="write docs/faults.md")
    parser.add_argument(
        "--mutations", action="store_true", help="break the product on purpose and see it caught"
    )
    parser.add_argument("--show", type=int, default=20, help="print at most this many violations")
    chosen = parser.parse_args(argv)
    if chosen.case:
        with _server() if chosen.postgres else nullcontext("") as server:
            return show(chosen.case, server)
    since = time.monotonic()
    with _server() if chosen.postgres else nullcontext("") as server:
        results = matrix(chosen.only, chosen.sample, chosen.seed, chosen.workers, server)
    bad = [r for r in results if r.violations]
    for result in sorted(bad, key=lambda r: r.name)[: chosen.show]:
        for invariant, text in result.violations:
            say(f"{result.name}\n    {invariant}: {text}")
    if chosen.json:
        chosen.json.write_text(json.dumps([r.__dict__ for r in results], indent=1))
    caught: list[tuple[str, str, bool]] = []
    if chosen.mutations:
        from tests.faults import mutations

        caught = [(c.mutation.invariant, c.mutation.name, bool(c.case)) for c in mutations.main()]
    if chosen.write_docs:
        from tests.faults import report

        report.write(results, caught)
    say(f"{len(SUBJECTS)} subjects, {len(FAULTS)} faults, {pool.took(since)}")
    say(f"cases={len(results)} violations={sum(len(r.violations) for r in results)}")
    return 0 if not bad and all(noticed for _, _, noticed in caught) else 1


def matrix(
    only: str = "", sample: int = 0, seed: int = 1, workers: int = 2, server: str = ""
) -> list[Result]:
    """All passes, or a sample of them; results in order of their names."""
    results: list[Result] = []
    group = "/".join(only.split("/")[:3])
    calm = [case for case in (Case(s, f) for s, f in pairs()) if group in case.group or only in case.name]
    chance = random.Random(seed)
    if sample:
        calm = _spread(chance, calm, max(1, sample // 4))
    pool.run_all(calm, workers, results.append, server)
    cases = [case for case in plan(sorted(results, key=lambda r: r.name)) if only in case.name]
    if sample:
        cases = _spread(chance, cases, max(0, sample - len(calm)))
    else:
        cases.sort(key=lambda case: hashlib.sha256(case.name.encode()).digest())  # an even load to the end
    total = len(results) + len(cases)
    say(f"{len(results)} cases without a kill, {len(cases)} with one")
    pool.run_all(cases, workers, lambda result: _next(results, result, total), server)
    again = [case for case in plan_twice(sorted(results, key=lambda r: r.name)) if only in case.name]
    if again and not sample:
        say(f"{len(again)} cases with two")
        pool.run_all(again, workers, results.append, server)
    return sorted(results, key=lambda r: r.name)


def _spread(chance: random.Random, cases: Sequence[Case], most: int) -> list[Case]:
    """So many by chance, from every subject and goal in turn: a sample that leaves one out would not notice it broken."""
    columns: dict[str, list[Case]] = {}
    for case in chance.sample(cases, len(cases)):
        columns.setdefault(f"{case.subject.name}/{case.subject.goal.value}", []).append(case)
    turns = zip_longest(*chance.sample(list(columns.values()), len(columns)))
    return [case for turn in turns for case in turn if case is not None][:most]


@contextmanager
def _server() -> Iterator[str]:
    from keyturn_lab.parts.postgres import PostgresCluster

    with PostgresCluster() as cluster:
        yield cluster.dsn("").rstrip("/")


def _next(results: list[Result], result: Result, total: int) -> None:
    results.append(result)
    if len(results) % 500 == 0:
        sys.stderr.write(f"{len(results)} of {total}\n")


def show(names: Sequence[str], server: str = "") -> int:
    """One case after another, with the journal."""
    bad = 0
    with pool.bench(server) as tools:
        for name in names:
            found = run(tools, Case.parse(name), verbose=True, thorough=True)
            say(f"{found.name}: {found.state} {found.waiting_for}\n{found.text}")
            for invariant, text in found.violations:
                say(f"    {invariant}: {text}")
            bad += len(found.violations)
    say(f"cases={len(names)} violations={bad}")
    return 1 if bad else 0


def say(text: str) -> None:
    """To standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
