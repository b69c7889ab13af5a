"""Two workers, one of them asleep beyond its lease or robbed of it: one set of effects (I8)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_RUN = """
import json, sys
from tests.faults import two_workers
from tests.faults.cases import Case
wrong = {}
for name in sys.argv[2:]:
    with two_workers.table() as at:
        wrong[name] = two_workers.stopped_at(at, Case.parse(name), steal=sys.argv[1] == "steal")
print(json.dumps({name: said for name, said in wrong.items() if said}))
"""
_ROTATE = (
    "line:INTENT:stage:after#1",
    "call:stage:after#1",
    "probe:new:after#1",
    "line:DECISION:cutover:after#1",
)
_REFRESH = ("commit:after#1", "call:refresh:after#1")


@pytest.mark.parametrize("how", ["sleep", "steal"])
@pytest.mark.parametrize(
    ("group", "places"),
    [
        ("two_slots/rotate/none", _ROTATE),
        ("many_ids/rotate/none", _ROTATE),
        ("one_slot_self/rotate/none", _ROTATE),
        ("grant/refresh/none", _REFRESH),
    ],
)
def test_a_worker_that_was_overtaken_does_no_more_harm(group: str, places: tuple[str, ...], how: str) -> None:
    """Stopped (SIGSTOP) until its lease was over and another had finished the run, or robbed and running beside it:
    every call takes effect once, the pointer moves once, epochs only grow, one credential lives."""
    argv = [sys.executable, "-c", _RUN, how, *(f"{group}/{place}" for place in places)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {}
