"""A refresh token that leaked: the one case in which a grant shared with its successor is ended all the same."""

from pathlib import Path

from tests.compliance.lab import the_lab
from tests.compliance.rows.google_analytics import google_analytics
from tests.operations.test_rows_end_to_end import open_world

from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import runs


def test_a_leaked_grant_is_ended_and_another_is_consented_to(tmp_path: Path) -> None:
    """Contain proves the leaked token dead although that takes the new one along; what serves in the end works."""
    world = open_world(google_analytics(the_lab()), tmp_path)
    try:
        leaked = world.case.of(world.enter())
        run = world.run(Goal.CONTAIN, timeout_s=60)
        assert run.state is RunState.COMPLETE_WITH_DEBT, world.why(run)
        assert {debt.kind for debt in runs.left_behind(world.hub, run.id)[1]} == {"sibling_died"}
        assert world.case.alive() == {world.case.of(world.serving())} != {leaked}
    finally:
        world.hub.close()
