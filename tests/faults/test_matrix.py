"""A sample of the fault matrix, small enough for every test run; `make faults` runs all of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from keyturn.catalog import Catalog
from keyturn.model.card import Hands, Strategy
from tests.faults.cases import FAULTS, SUBJECTS, Case, applies, pairs

ROOT = Path(__file__).resolve().parents[2]


def _matrix(*arguments: str) -> str:
    """In a process of its own: it forks, and a test run may hold threads by now."""
    argv = [sys.executable, "-m", "tests.faults.matrix", *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout.strip().splitlines()[-1]


def test_a_kill_anywhere_breaks_no_promise() -> None:
    """Wherever the hub dies, whatever the vendor does: I1 to I13 hold and the run ends where it may (SQLite)."""
    assert _matrix("--sample", "120", "--seed", "7") == "cases=120 violations=0"


@pytest.mark.postgres
def test_a_kill_anywhere_breaks_no_promise_on_postgresql() -> None:
    """The same with the store on a PostgreSQL server."""
    assert _matrix("--postgres", "--sample", "24", "--seed", "7") == "cases=24 violations=0"


def test_a_kill_of_the_recovery_breaks_no_promise() -> None:
    """The process that recovers may die as well, at another place."""
    places = ("commit:after#1", "commit:after#2", "call:stage:after#1", "probe:new:before#1")
    names = [
        f"{who}/rotate/answer_lost.stage/call:stage:after#1+{place}"
        for who in ("many_ids", "one_slot_self", "named_slots")
        for place in places
    ]
    assert _matrix(*_chosen(names)) == f"cases={len(names)} violations=0"


@pytest.mark.postgres
def test_what_has_no_vendor_or_a_person_breaks_no_promise_on_postgresql() -> None:
    """S8 and a store that refuses live and die with the store, so they are looked at on both."""
    names = (
        "issued/rotate/none/never#0",
        "recreated/rotate/none/never#0",
        "segment/rotate/none/never#0",
        "regenerate_person/rotate/none/never#0",
        "issued/rotate/store_refuses.book/never#0",
        *FOUND,
    )
    assert _matrix("--postgres", *_chosen(names)) == f"cases={len(names)} violations=0"


# What the matrix once found: the defect is mended, and the case that showed it stays.
FOUND = (
    "grant/rotate/store_refuses.receipt/never#0",  # the spooled answer was not waited for, and consent asked again
    "two_slots/disconnect/answer_lost.end/never#0",  # proven dead, and owed all the same
)


def test_what_was_found_once_is_not_found_again() -> None:
    """Each was a promise broken."""
    assert _matrix(*_chosen(FOUND)) == f"cases={len(FOUND)} violations=0"


def _chosen(names: Iterable[str]) -> list[str]:
    return [word for name in names for word in ("--case", name)]


@pytest.mark.parametrize(
    "mutation",
    ["INTENT is durable", "identity is not checked", "debts are forgotten", "the new one was never used"],
)
def test_the_matrix_notices_a_broken_product(mutation: str) -> None:
    """A matrix that stays silent when a promise is broken on purpose proves nothing."""
    argv = [sys.executable, "-m", "tests.faults.mutations", mutation]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip().endswith("mutations=1 survived=0"), done.stdout + done.stderr


def test_a_case_is_found_by_its_name() -> None:
    """What a violation prints is what `--case` takes."""
    case = Case(SUBJECTS[1], FAULTS[1], "call:stage:after", 2, ("commit:before", 3))
    assert Case.parse(case.name) == case


def test_every_fault_meets_a_strategy_and_every_strategy_a_fault() -> None:
    """No row and no column of the matrix is empty."""
    met = list(pairs())
    assert {subject.name for subject, _ in met} == {subject.name for subject in SUBJECTS}
    assert {fault.name for _, fault in met} == {fault.name for fault in FAULTS}
    assert all(applies(subject, fault) for subject, fault in met)


def test_every_rows_strategy_is_in_the_matrix() -> None:
    """Of every row and variant; one that a person has a hand in, where a person can be the one who answers."""
    by_strategy = {(subject.strategy[:2], subject.by_person) for subject in SUBJECTS}
    for system in Catalog().systems():
        for method in system.methods:
            for card in (method.card, *(variant.card for variant in method.variants)):
                if card.strategy is Strategy.NOTHING:  # there is no credential to rotate
                    continue
                person = card.hands is Hands.GUIDED and card.strategy is not Strategy.CONSENT
                assert (card.strategy.value, person) in by_strategy, f"{system.name}/{method.name}"
