"""Both methods through the hub: ends are known from the first day, and strangers beside us live through everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compliance.lab import the_lab
from tests.compliance.rows.dynamics import ROWS
from tests.operations.test_rows_end_to_end import World, open_world

from keyturn.model.credential import State
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.transport import sql
from keyturn_lab.vendors.dynamics import people


@pytest.fixture(params=["dynamics/client_secret", "dynamics/certificate"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(ROWS[request.param](the_lab()), tmp_path)
    yield made
    made.hub.close()
    sql.close_idle()
    the_lab().vendor("dynamics").post("dials", {"settle_s": 0, "linger_s": None})


def _ends(world: World) -> list[float | None]:
    return [v.expires_at for v in world.versions() if v.state is State.CURRENT]


def test_ends_are_known_from_the_first_day(world: World) -> None:
    """Of the credential a person brought and of the one that was made."""
    world.enter()
    (brought,) = _ends(world)
    assert world.run(Goal.ROTATE).state is RunState.COMPLETE
    (made,) = _ends(world)
    assert brought
    assert made
    assert brought != made


def test_strangers_live_through_rotation_and_disconnect_while_servers_disagree(world: World) -> None:
    """A secret and a certificate of somebody else on the same application, with changes that spread slowly."""
    there, app_id = the_lab().vendor("dynamics"), world.case.values["client_id"]
    people.add_secret(there.url, app_id, "a stranger's")
    from keyturn.keymaking import certificates

    stranger = certificates.self_signed(the_lab().pair(3), "stranger", 30)
    people.upload_certificate(there.url, app_id, stranger.der)
    known = {each["id"] for each in there.alive() if each["owner"] == app_id}
    world.enter()
    ours = {each["id"] for each in there.alive() if each["value"] in _values(world)} & known
    strangers = known - ours
    assert len(strangers) == 2
    there.post("dials", {"settle_s": 0.3, "linger_s": 0.3})
    for goal in (Goal.ROTATE, Goal.DISCONNECT):
        run = world.run(goal)
        assert run.state is RunState.COMPLETE, world.why(run)
        assert strangers <= {each["id"] for each in there.alive() if each["owner"] == app_id}
    assert {each["id"] for each in there.alive() if each["owner"] == app_id} == strangers


def _values(world: World) -> set[str]:
    """What the oracle calls ours: the secret itself, or the certificate."""
    import base64

    from keyturn.keymaking import certificates

    material = world.serving()
    if "client_secret" in material:
        return {material["client_secret"]}
    return {base64.b64encode(certificates.load(material["certificate"]).der).decode()}
