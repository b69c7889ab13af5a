"""Two roles that take turns are one account: whoever connects it, from whichever side, is told or is its sibling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compliance.case import Case
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows.postgresql import postgresql_two
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.errors import Conflict
from keyturn.model.plan import Goal
from keyturn.operations import connections, runs
from keyturn.transport import sql


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = open_world(or_skip(lambda: postgresql_two(the_lab())), tmp_path)
    made.enter()
    yield made
    made.hub.close()
    sql.close_idle()


def other_side(case: Case) -> dict[str, str]:
    """The same pair, named the other way round and with the other role in use."""
    lab, values = the_lab(), case.values
    password = "ktlab-Other-Side-9"
    with lab.postgres.connect() as session:
        session.execute(f"ALTER ROLE {values['role_b']} LOGIN PASSWORD '{password}'")
    turned = {"role_a": values["role_b"], "role_b": values["role_a"], "user": values["role_b"]}
    return {**values, **turned, "password": password}


def test_the_pair_is_one_account_whichever_role_is_in_use(world: World) -> None:
    """The free role of the one is in use by the other: neither is rotated under the other."""
    connections.connect(
        world.hub, "postgresql", "password", "other side", other_side(world.case), policy=world.case.policy
    )
    mine, theirs = (connections.find(world.hub, name) for name in (world.name, "other side"))
    assert mine.principal_id == theirs.principal_id
    with pytest.raises(Conflict, match="other side"):
        runs.plan(world.hub, world.name, Goal.ROTATE)


def test_half_of_a_pair_is_not_connected_alone(world: World) -> None:
    """A connection of one role would lose its password at the pair's next turn."""
    there = other_side(world.case)
    alone = {k: v for k, v in there.items() if k not in {"role_a", "role_b", "group_role"}}
    with pytest.raises(Conflict, match=f"{world.name} rotates"):
        connections.connect(world.hub, "postgresql", "password", "alone", {**alone, "roles": "one"})
    assert [each.name for each in connections.every(world.hub)] == [world.name]
    done = world.run(Goal.DISCONNECT)
    assert done.ended_at, world.why(done)
    again = other_side(world.case)
    connections.connect(
        world.hub,
        "postgresql",
        "password",
        "alone",
        {**{k: v for k, v in again.items() if k in alone}, "roles": "one"},
    )
