"""A sample of the bucket's row killed at its real store; `make faults` runs all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# after each answer that died with the hub, before the second key is known, and where one is ended
_CHOSEN = (
    "rotated/leaves#5",  # the user is made, its policy is not
    "rotated/call:stage:after#1",
    "rotated/call:stage:after#2",
    "rotated/line:INTENT:stage:after#2",
    "rotated/call:disable:after#1",
    "rotated/line:INTENT:revoke:after#1",
    "rotated/call:revoke:after#1",
    "full/line:OBSERVED:preflight:after#2",
)


def _bucket(*arguments: str) -> dict[str, int]:
    """In a process of its own: it forks, and a test run may hold threads by now."""
    argv = [sys.executable, "-m", "tests.faults.bucket", *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("some", [_CHOSEN[:3], _CHOSEN[3:6], _CHOSEN[6:]])
def test_a_kill_while_a_bucket_key_is_made_or_rotated_breaks_no_promise(some: tuple[str, ...]) -> None:
    """Moto with its policies enforced: IAM is left with one key, which serves and opens its prefix alone; where a
    stranger's key is in the second slot, nothing is deleted."""
    chosen = [word for name in some for word in ("--case", name)]
    assert _bucket(*chosen) == {"cases": len(some), "violations": 0}
