"""The drain gate and leases: who still needs the old one, and until when it waits for them."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keyturn.consumers.gate import why_closed
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Remote
from keyturn.errors import Conflict, InvalidInput, KeyturnError, VendorUnavailable
from keyturn.model.credential import ConnectionState, Ref, State
from keyturn.model.ids import LeaseId
from keyturn.model.plan import Kind
from keyturn.model.policy import Policy
from keyturn.operations import connections, leases
from keyturn.storage import connections as rows
from keyturn.storage import consumers, versions
from keyturn_lab.vendors.shapes import Shapes
from tests.faults import world

NAME = "orders"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def client():
    with Shapes.in_thread() as vendor:
        yield vendor.client


@pytest.fixture
def hub(client, tmp_path):
    opened = world.open_world(tmp_path)
    made = world.shapes.provision(client, "many_ids", f"p{next(NUMBERS)}")
    values = {**made.settings, **dict(made.material)}
    known = {f.name for f in world.shapes.system().method("many_ids").fields}
    connections.connect(opened, "shapes", "many_ids", NAME, {k: v for k, v in values.items() if k in known})
    yield opened
    opened.close()


class Look:
    """What the gate needs of a run, with a clock that the test sets and a vendor that answers what the test says."""

    def __init__(self, hub, *, now, last_used=None, fails=False, policy=None, overlap_s=None):
        self.connection = connections.find(hub, NAME)
        row = hub.catalog.row_of(self.connection)
        self.card, self.can = row.card, Capabilities(row.can.verifier, lister=self)
        self.policy = Policy.read({"drain_min_s": 2.0} if policy is None else policy)
        self.hub = SimpleNamespace(store=hub.store, patience=1.0, clock=lambda: now)
        asked = {} if overlap_s is None else {"overlap_s": overlap_s}
        drain = SimpleNamespace(kind=Kind.DRAIN, params=asked)
        self.run = SimpleNamespace(plan=SimpleNamespace(steps=(drain,)))
        self._last_used, self._fails = last_used, fails

    def access(self):
        return None

    def list(self, access):
        if self._fails:
            raise VendorUnavailable("no answer")
        return (Remote(Ref(id="old"), last_used_at=self._last_used), Remote(Ref(id="new"), last_used_at=9e12))


def draining(hub, since):
    """The current version as it looks after a cut-over at `since`."""
    connection = connections.find(hub, NAME)
    version = hub.store.read(lambda tx: versions.by_id(tx, connection.current_version_id))
    return replace(version, state=State.DRAINING, changed_at=since, ref=Ref(id="old"))


def flip(hub):
    """The connection as it looks after a cut-over: one generation on."""
    connection = connections.find(hub, NAME)
    hub.store.write(lambda tx: rows.change(tx, connection.id, generation=connection.generation + 1))


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("since", "policy", "open_"),
    [
        (NOW - 1, None, False),
        (NOW - 2, None, True),
        (NOW, {"drain_min_s": 0}, True),
        (NOW - 59, {"drain_min_s": 60}, False),
    ],
)
def test_the_least_time_counts_from_the_switch(hub, since, policy, open_):
    """Whoever resolved the old one just before the switch gets to use it."""
    closed = why_closed(Look(hub, now=NOW, policy=policy), draining(hub, since))
    assert (closed is None) is open_
    if closed:
        assert closed.until > NOW
        assert "pick up the new one" in closed.why


def test_a_run_that_was_started_with_an_overlap_of_its_own_keeps_it(hub):
    """A reissue says how long both work; its run does not go by the policy."""
    version = draining(hub, NOW - 3)
    closed = why_closed(Look(hub, now=NOW, overlap_s=5.0), version)
    assert closed is not None
    assert closed.until == NOW + 2
    assert why_closed(Look(hub, now=NOW, policy={"drain_min_s": 60}, overlap_s=2.0), version) is None


@pytest.mark.parametrize(
    ("kind", "ttl_s", "waits_s"),
    [
        ("live", 0, 2),
        ("cached", 10, 20),
        ("cached", 0, 2),
        ("deploy-time", 0, 2),
        ("pushed", 0, 2),
        ("outside", 0, 2),
    ],
)
def test_each_kind_of_consumer_has_its_least_time(hub, kind, ttl_s, waits_s):
    """A cache is given twice its lifetime; others only need the policy's time once they have been seen."""
    leases.declare(hub, NAME, "job", kind, ttl_s=ttl_s, required=False)
    flip(hub)
    leases.give_back(hub, leases.take(hub, NAME, "job").lease_id)
    assert why_closed(Look(hub, now=NOW), draining(hub, NOW - waits_s + 0.5)) is not None
    assert why_closed(Look(hub, now=NOW), draining(hub, NOW - waits_s)) is None


@pytest.mark.parametrize(("required", "open_"), [(True, False), (False, True)])
def test_a_required_consumer_that_did_not_move_on_holds_the_gate(hub, required, open_):
    """Its name is told; one that is not required is not waited for; seen on the new one, it lets go."""
    leases.declare(hub, NAME, "billing", "live", required=required)
    flip(hub)
    closed = why_closed(Look(hub, now=NOW), draining(hub, NOW - 99))
    assert (closed is None) is open_
    if closed:
        assert "billing" in closed.why
        leases.give_back(hub, leases.take(hub, NAME, "billing").lease_id)
        assert why_closed(Look(hub, now=NOW), draining(hub, NOW - 99)) is None


def test_a_lease_holds_the_version_that_was_taken(hub):
    """Whatever its state; the holder is named; the gate looks again when the lease ends at the latest."""
    now = time.time()
    held = leases.take(hub, NAME, "nightly job", ttl_s=3)
    for state in (State.DRAINING, State.CURRENT, State.DISABLED):
        closed = why_closed(Look(hub, now=now), replace(draining(hub, now - 99), state=state))
        assert closed
        assert "nightly job" in closed.why
        assert now < closed.until <= held.not_after
    assert why_closed(Look(hub, now=now + 4), draining(hub, now - 99)) is None, "it ran out"
    leases.give_back(hub, held.lease_id)
    leases.give_back(hub, held.lease_id)
    assert why_closed(Look(hub, now=now), draining(hub, now - 99)) is None


@pytest.mark.parametrize(
    ("used", "open_"), [(None, True), (NOW - 500, True), (NOW - 99.99, True), (NOW - 1, False)]
)
def test_use_that_the_vendor_saw_after_the_switch_holds_the_gate(hub, used, open_):
    """Use before the switch, or within the settle time of it, is nobody's; the new one's use is not looked at."""
    look = Look(hub, now=NOW, last_used=used)
    assert look.card.last_used
    closed = why_closed(look, draining(hub, NOW - 100))
    assert (closed is None) is open_
    assert closed is None or "vendor saw it" in closed.why


def test_a_vendor_that_does_not_answer_keeps_the_gate_closed(hub):
    """No answer about use is no permission to end it: the step is tried again later."""
    with pytest.raises(VendorUnavailable):
        why_closed(Look(hub, now=NOW, fails=True), draining(hub, NOW - 100))


@pytest.mark.parametrize("state", [State.DISABLED, State.CURRENT])
def test_only_a_draining_version_waits_for_time_and_consumers(hub, state):
    """A disconnect waits for leases alone: there is no new one to move on to."""
    leases.declare(hub, NAME, "billing", "live")
    flip(hub)
    assert why_closed(Look(hub, now=NOW), replace(draining(hub, NOW), state=state)) is None


def test_a_deploy_time_consumer_has_a_day_at_every_rotation(hub):
    """Also one that was declared, or last seen, before this switch."""
    flip(hub)
    leases.declare(hub, NAME, "servers", "deploy-time", required=False)
    flip(hub)
    closed = why_closed(Look(hub, now=NOW), draining(hub, NOW - 3600))
    assert closed
    assert closed.until == NOW - 3600 + 86400


# -- leases --------------------------------------------------------------------------------------------------------


def test_a_lease_hands_out_what_serves_and_counts_who_has_it(hub):
    """The value, the version and until when; resolving alone holds nothing."""
    held, seen = leases.take(hub, NAME, "job", ttl_s=5), leases.resolve(hub, NAME)
    assert dict(held.material) == dict(seen.material)
    assert held.other is None
    assert 4 < held.not_after - time.time() <= 5
    holders = hub.store.read(lambda tx: consumers.holders(tx, held.version.id, time.time()))
    assert [(lease.consumer, lease.id) for lease in holders] == [("job", held.lease_id)]


def test_an_ended_lease_cannot_be_prolonged(hub):
    """A consumer that slept too long must resolve anew."""
    held = leases.take(hub, NAME, "job", ttl_s=1)
    assert leases.extend(hub, held.lease_id, 60)
    assert hub.store.read(lambda tx: consumers.holders(tx, held.version.id, time.time() + 30))
    leases.give_back(hub, held.lease_id)
    assert not leases.extend(hub, held.lease_id, 60)
    assert not leases.extend(hub, LeaseId("lse_nobody"), 60)


@pytest.mark.parametrize("ttl_s", [0, 0.5, -1, 7 * 86400 + 1, float("inf"), float("nan")])
def test_a_lease_has_a_sane_length(hub, ttl_s):
    """Between a second and a week."""
    with pytest.raises(InvalidInput) as caught:
        leases.take(hub, NAME, "job", ttl_s=ttl_s)
    assert caught.value.facts["field"] == "ttl_s"


def test_an_unknown_kind_or_name_is_refused(hub):
    """By the name of the field."""
    with pytest.raises(InvalidInput):
        leases.declare(hub, NAME, "job", "sometimes")
    with pytest.raises(KeyturnError):
        leases.declare(hub, "nobody", "job", "live")
    with pytest.raises(KeyturnError):
        leases.take(hub, "nobody", "job")


@pytest.mark.parametrize(
    ("state", "words"), [(ConnectionState.PAUSED, "paused"), (ConnectionState.ACTIVE, "compromised")]
)
def test_nothing_is_served_while_it_is_paused_or_suspected(hub, state, words):
    """A paused consumer is told to wait; a leaked credential is never handed out again."""
    connection = connections.find(hub, NAME)

    def work(tx):
        rows.change(tx, connection.id, state=state.value)
        if state is ConnectionState.ACTIVE:
            versions.move(tx, connection.current_version_id, State.SUSPECT, time.time())

    hub.store.write(work)
    for serve in (lambda: leases.take(hub, NAME, "job"), lambda: leases.resolve(hub, NAME)):
        with pytest.raises(Conflict, match=words):
            serve()


def test_a_consumer_declared_twice_is_one_with_its_history(hub):
    """The second declaration changes kind and time; what was seen of it stays."""
    leases.declare(hub, NAME, "job", "live")
    flip(hub)
    leases.take(hub, NAME, "job", ttl_s=1)
    leases.declare(hub, NAME, "job", "cached", ttl_s=30, required=False)
    (only,) = leases.users(hub, NAME)
    assert (only.kind, only.ttl_s, only.required) == ("cached", 30, False)
    assert only.seen_generation == connections.find(hub, NAME).generation


def test_the_environment_names_every_part(hub):
    """Where the row's page names no variables, each part has one."""
    held = leases.resolve(hub, NAME)
    assert leases.environment(hub, held) == {
        f"KEYTURN_{name.upper()}": held.material[name] for name in held.material
    }
