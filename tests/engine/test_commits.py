"""The commit budget: durable commits are what a rotation costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn import boundary
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, runs
from keyturn.storage import connections as rows
from keyturn_lab.vendors.shapes import Shapes
from tests.faults import world

MOST = 5


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_a_happy_rotation_commits_at_most_five_times(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    """Start, claim, intent, and everything that follows the call up to the end."""
    url = "" if store == "sqlite" else request.getfixturevalue("database")
    at_once = {
        "retention_s": 0.0,
        "settle_create_s": 0.0,
        "settle_revoke_s": 0.0,
    }  # every wait costs two more
    commits: list[str] = []
    with Shapes.in_thread() as vendor:
        hub = world.open_world(tmp_path, url)
        try:
            world.connect(hub, vendor.client, "one_slot", "one")
            one = connections.find(hub, "one").id
            hub.store.write(lambda tx: rows.change(tx, one, policy=at_once))
            boundary.listen(lambda place: commits.append(place) if place == "commit:before" else None)
            run = runs.start(hub, "one", Goal.ROTATE)
            hub.engine._executor.advance(run.id)
            assert runs.get(hub, run.id).state is RunState.COMPLETE
        finally:
            boundary.listen(None)
            hub.close()
    assert 0 < len(commits) <= MOST
