"""Leases: the second value to try, how long they can be prolonged, and when they are forgotten."""

import itertools
import time
from dataclasses import replace

import pytest

from keyturn.engine.sweep import LEASES_KEPT_S, REFUSALS_KEPT_S, Sweep
from keyturn.errors import InvalidInput
from keyturn.model.credential import Provenance, State
from keyturn.model.ids import VersionId
from keyturn.operations import connections, leases
from keyturn.storage import principals, versions
from keyturn.vault.secrets import version_row
from keyturn_lab.vendors.shapes import Shapes
from tests.faults import world

NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def client():
    with Shapes.in_thread() as vendor:
        yield vendor.client


@pytest.fixture
def hub(tmp_path):
    opened = world.open_world(tmp_path)
    yield opened
    opened.close()


def candidate(hub, client, method, provenance=Provenance.OURS, state=State.REQUESTED):
    """A connection `c` with a candidate in the place of what serves."""
    world.connect(hub, client, method, f"lease{next(NUMBERS)}")
    (connection,) = connections.every(hub)
    current = hub.store.read(lambda tx: versions.by_id(tx, connection.current_version_id))
    second = replace(current, id=VersionId("ver_2"), number=2, state=state, provenance=provenance)
    seal = hub.secrets.sealing(
        version_row(second.id), world.shapes.Material({"secret": "second"}).to_bytes(), time.time()
    )
    hub.store.write(lambda tx: (versions.add(tx, second), seal(tx)))
    return connection.name


@pytest.mark.parametrize(
    ("method", "provenance", "state", "shown"),
    [
        ("one_slot", Provenance.OURS, State.REQUESTED, True),
        ("one_slot", Provenance.HUMAN, State.ISSUED, False),
        ("one_slot", Provenance.OURS, State.REFUSED, False),
        ("two_slots", Provenance.OURS, State.REQUESTED, False),
        ("many_ids", Provenance.OURS, State.REQUESTED, False),
    ],
)
def test_a_second_value_only_while_the_one_slot_is_set(hub, client, method, provenance, state, shown):
    """Nowhere else can an unproven value be what works: it is not handed out (P2)."""
    name = candidate(hub, client, method, provenance, state)
    assert (leases.resolve(hub, name).other is not None) is shown


def test_what_ran_out_is_not_prolonged(hub, client):
    """The old one may have been ended since."""
    world.connect(hub, client, "many_ids", f"lease{next(NUMBERS)}")
    (connection,) = connections.every(hub)
    held = leases.take(hub, connection.name, "job")
    hub.store.write(lambda tx: tx.run("UPDATE lease SET until_at = ?", time.time() - 1))
    assert not leases.extend(hub, held.lease_id)


@pytest.mark.parametrize(
    ("state", "prolonged"),
    [
        (State.CURRENT, True),
        (State.DRAINING, True),
        (State.DISABLED, False),
        (State.REVOKING, False),
        (State.SUSPECT, False),
    ],
)
def test_only_what_serves_or_drains_is_prolonged(hub, client, state, prolonged):
    """Whoever holds what is being ended must resolve anew."""
    world.connect(hub, client, "many_ids", f"lease{next(NUMBERS)}")
    (connection,) = connections.every(hub)
    held = leases.take(hub, connection.name, "job")
    hub.store.write(lambda tx: versions.move(tx, held.version.id, state, time.time()))
    assert leases.extend(hub, held.lease_id) is prolonged
    with pytest.raises(InvalidInput):
        leases.extend(hub, held.lease_id, float("inf"))


def test_what_is_long_over_is_forgotten(hub, client):
    """Leases a day after their end, refused logins after every window; what still counts stays."""
    world.connect(hub, client, "many_ids", f"lease{next(NUMBERS)}")
    (connection,) = connections.every(hub)
    now = time.time()
    given_back = leases.take(hub, connection.name, "a", ttl_s=86400)
    leases.take(hub, connection.name, "b", ttl_s=5 * 86400)
    leases.give_back(hub, given_back.lease_id)
    hub.store.write(lambda tx: principals.note_refusal(tx, connection.principal_id, now))

    def pruned(at):
        return Sweep(hub.store, hub.secrets, lambda: at, "w", lambda *_: None).prune()

    assert pruned(now + LEASES_KEPT_S - 60) == 0
    assert pruned(now + LEASES_KEPT_S + 60) == 1
    assert leases.connection_of(hub, given_back.lease_id) is None
    assert pruned(now + REFUSALS_KEPT_S + 60) == 2
