"""A grant shared with its successor: when it is ended all the same, and how it is left to end by itself."""

import time
from pathlib import Path

from tests.compliance.lab import the_lab
from tests.compliance.rows.google_analytics import google_analytics
from tests.operations.test_rows_end_to_end import open_world

from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, debts, runs
from keyturn.storage import debts as rows

DAY_S = 86400.0


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


def test_a_superseded_grant_is_left_asleep_and_looked_at_once(tmp_path: Path) -> None:
    """A test is a use, and Google counts six months from the last one: none before that, and then it is dead or in use."""
    case = google_analytics(the_lab())
    world, there = open_world(case, tmp_path), the_lab().vendor("google")
    try:
        old = world.case.of(world.enter())
        run = world.run(Goal.ROTATE)
        (debt,) = runs.left_behind(world.hub, run.id)[1]
        assert debt.facts["unused_until"] >= time.time() + 190 * DAY_S
        there.post("clock", {"advance_s": 100 * DAY_S})
        assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
        assert not debts.try_again(world.hub, debts.get(world.hub, debt.id))
        assert debts.get(world.hub, debt.id).next_try_at == debt.facts["unused_until"]
        there.post("clock", {"advance_s": 100 * DAY_S})
        assert connections.test(world.hub, world.name).verdict is Verdict.ACCEPTED
        assert old not in case.alive(), "the look in between was a use"
        time.sleep(0.7)  # the settle time of this account
        over = {**debt.facts, "unused_until": time.time() - 1}
        world.hub.store.write(lambda tx: rows.postpone(tx, debt.id, 0.0, over))
        assert debts.try_again(world.hub, debts.get(world.hub, debt.id))
        assert "proven (D2)" in debts.get(world.hub, debt.id).closed_why
    finally:
        world.hub.close()


def test_a_superseded_grant_that_somebody_uses_is_said_so(tmp_path: Path) -> None:
    """Accepted after all that time: the debt stays open with the reason, and sleeps as long again."""
    world = open_world(google_analytics(the_lab()), tmp_path)
    try:
        world.enter()
        run = world.run(Goal.ROTATE)
        (debt,) = runs.left_behind(world.hub, run.id)[1]
        time.sleep(0.7)  # the settle time of this account
        over = {**debt.facts, "unused_until": time.time() - 1}
        world.hub.store.write(lambda tx: rows.postpone(tx, debt.id, 0.0, over))
        assert not debts.try_again(world.hub, debts.get(world.hub, debt.id))
        now = debts.get(world.hub, debt.id)
        assert "somebody has used it" in now.facts["last"]
        assert now.facts["unused_until"] >= time.time() + 190 * DAY_S
        assert now.closed_at is None
    finally:
        world.hub.close()
