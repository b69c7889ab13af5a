"""A deep queue costs no more per run than a short one, and no memory."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from keyturn.model.plan import Goal
from keyturn.operations import runs
from keyturn.storage import runs as rows
from tests.engine import noop
from tests.engine.conftest import open_noop

RUNS = 1000
PART = 200


@pytest.mark.slow
def test_a_thousand_queued_runs(tmp_path: Path) -> None:
    """The last runs of a deep queue are as fast as the first ones; memory stays flat."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    vendor = noop.Vendor()
    hub = open_noop(tmp_path, "", vendor, threads=8)
    try:
        for name in noop.connect(hub, RUNS):
            runs.start(hub, name, Goal.ROTATE)
        hub.engine.start()
        assert hub.engine.run_until(lambda: hub.store.read(rows.unfinished) == 0, 120)
        ended = hub.store.read(
            lambda tx: [row[0] for row in tx.all("SELECT ended_at FROM run ORDER BY ended_at")]
        )
    finally:
        hub.close()
    first, last = ended[PART] - ended[0], ended[-1] - ended[-1 - PART]
    assert last < 3 * first  # other work shares the machine: 1.0 +- 0.2 when it is idle
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024  # kB; what other tests of this process took is not ours
    assert {len(values) for values in vendor.values.values()} == {2}
