"""Trying a debt again: what may be ended, what counts as proof, and what is left to a person."""

import itertools
import time
from dataclasses import replace

import pytest

from keyturn.errors import Conflict
from keyturn.model.credential import Provenance, State, Version
from keyturn.model.ids import DebtId, PrincipalId, RunId, VersionId
from keyturn.model.plan import Goal
from keyturn.model.run import Debt, LineKind
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, debts, leases, runs
from keyturn.storage import connections as connection_rows
from keyturn.storage import debts as rows
from keyturn.storage import journal, principals, sealed, versions
from keyturn.vault.secrets import version_row
from tests.faults import shapes_connector as shapes
from tests.faults import world

NUMBERS = itertools.count(1)


class Owed:
    """A connection `c` of a shape, a second credential at the vendor, and a debt about it."""

    def __init__(self, hub, client, method, *, state=State.REVOKED, kind="alive", value=True, **options):
        self.hub, self.client, self.principal = hub, client, f"owed{next(NUMBERS)}"
        self.made = world.connect(hub, client, method, self.principal, **options)
        self.connection = connections.find(hub, self.principal)
        material = self._second(method)
        self.ref = shapes.ref_of(material)
        self.version = VersionId(f"ver_{self.principal}")
        now = time.time()
        version = Version(
            self.version,
            self.connection.id,
            PrincipalId(self.connection.principal_id),
            9,
            state,
            self.ref,
            "",
            Provenance.VENDOR,
            now,
            None,
            now - 3600,
        )
        seal = hub.secrets.sealing(version_row(version.id), material.to_bytes(), now)
        hub.store.write(lambda tx: versions.add(tx, version))
        if value:
            hub.store.write(seal)
        self.debt = self.owe(kind)

    def _second(self, method):
        if method in {"many_ids", "supplied"}:
            return shapes.Material(shapes.pasted(shapes.person_supplies(self.client, self.principal)))
        if method == "grant":  # the vendor gave the same one at both consents
            return self.hub.secrets.material(version_row(self.connection.current_version_id))
        slot = {"two_slots": "b", "one_slot": "password"}[method]
        value = f"ktlab-second-{self.principal}"
        if method == "two_slots":
            self.client.call("set", principal=self.principal, by="person", slot=slot, value=value)
        return shapes.Material({"slot": slot, "secret": value})

    def owe(self, kind, *, version=True, **facts):
        debt = Debt(
            DebtId(f"dbt_{self.principal}_{next(NUMBERS)}"),
            self.connection.id,
            self.version if version else None,
            RunId("run_before"),
            kind,
            "because",
            facts,
            "ana",
            0,
            0.0,
            time.time(),
            None,
            "",
            "",
        )
        self.hub.store.write(lambda tx: rows.add(tx, debt))
        return debt

    def settles_in(self, seconds):
        """From now on, how long this account is known to lag behind its vendor's answers."""
        found = connections.find(self.hub, self.principal)
        policy = {**found.policy, "settle_revoke_s": seconds}
        self.hub.store.write(lambda tx: connection_rows.change(tx, found.id, policy=policy))

    def alive(self):
        """How many are alive at the vendor, without strangers."""
        found = self.client.call("alive", principal=self.principal)
        return sum(each["id"] not in self.made.said["strangers"] for each in found)

    def state(self):
        return self.hub.store.read(lambda tx: versions.by_id(tx, self.version)).state

    def again(self):
        return debts.try_again(self.hub, debts.get(self.hub, self.debt.id))

    def now(self):
        return debts.get(self.hub, self.debt.id)

    def lines(self):
        found = self.hub.store.read(lambda tx: journal.of_connection(tx, self.connection.id))
        return [line for line in found if line.step == "debt"]

    def is_free(self):
        row = self.hub.store.read(
            lambda tx: tx.one(
                "SELECT lease_until, active_run_id FROM principal WHERE id = ?", self.principal_id
            )
        )
        return tuple(row) == (0, None)

    @property
    def principal_id(self):
        return self.connection.principal_id


def test_what_is_ours_is_ended_proven_and_closed_with_the_proof(hub, client):
    """INTENT before, OUTCOME after, three refusals with both controls; then dead, closed by the hub, the lease free."""
    owed = Owed(hub, client, "many_ids")
    assert owed.again()
    assert owed.alive() == 1
    assert owed.state() is State.DEAD
    assert hub.store.read(lambda tx: sealed.get(tx, version_row(owed.version))) is None
    done = owed.now()
    assert done.closed_by == "the hub"
    assert "proven (D2): refused 3 times" in done.closed_why
    said = [(line.kind, line.facts.get("what") or line.facts.get("decision")) for line in owed.lines()]
    seen = [(LineKind.OBSERVED, "old")] * 3
    controls = [(LineKind.OBSERVED, "control_live"), (LineKind.OBSERVED, "control_bogus")]
    assert said == [
        (LineKind.OBSERVED, "inventory"),
        (LineKind.INTENT, "revoke"),
        (LineKind.OUTCOME, "revoke"),
        (LineKind.OBSERVED, "inventory"),
        *seen,
        *controls,
        (LineKind.DECISION, "debt_closed"),
    ]
    assert owed.is_free()


def test_one_just_ended_is_proven_at_the_next_try(hub, client):
    """A vendor may lag behind its own answer: within the settle time a refusal proves nothing."""
    owed = Owed(hub, client, "many_ids", state=State.DRAINING)
    owed.settles_in(3600.0)
    assert not owed.again()
    assert (owed.state(), owed.alive()) == (State.REVOKED, 1)
    assert "lag" in owed.now().facts["last"]
    owed.settles_in(0.0)
    assert owed.again()


@pytest.mark.parametrize("state", [State.CURRENT, State.PROVEN, State.ISSUED, State.ORPHAN, State.DEAD])
def test_only_what_is_on_its_way_out_is_touched(hub, client, state):
    """What serves, or may come to serve, is left to a person: nothing is sent, nothing is closed."""
    owed = Owed(hub, client, "many_ids", state=state)
    assert not owed.again()
    assert (owed.alive(), owed.state(), owed.lines()) == (2, state, [])
    now = owed.now()
    assert (now.closed_at, now.tries) == (None, 1)
    assert now.next_try_at > time.time()
    assert now.facts["last"] == f"a person decides: it is {state.value}"
    assert owed.is_free()


def test_one_slot_is_never_ended(hub, client):
    """Ending the one place there is would end what serves."""
    owed = Owed(hub, client, "one_slot")
    assert not owed.again()
    assert "a person decides" in owed.now().facts["last"]
    assert owed.lines() == []


def test_a_grant_that_takes_others_along_is_never_ended(hub, client):
    """The kind of the debt says so, whatever the card says."""
    owed = Owed(hub, client, "many_ids", kind="unrevocable_grant")
    assert not owed.again()
    assert owed.alive() == 2


def test_a_grant_without_a_name_is_told_by_its_token(hub, client):
    """A vendor may give the same token at both consents: ending what was turned down would end what serves."""
    owed = Owed(hub, client, "grant", state=State.REFUSED, kind="unwanted")
    hub.store.write(
        lambda tx: tx.run("UPDATE version SET ref = '{}' WHERE connection_id = ?", owed.connection.id)
    )
    assert not owed.again()
    assert "in the same place" in owed.now().facts["last"]
    assert connections.test(hub, owed.connection.name).verdict is Verdict.ACCEPTED


def test_nothing_is_ended_where_something_else_lives(hub, client):
    """Another live version in the same place, of any connection, keeps the hub's hands off."""
    owed = Owed(hub, client, "two_slots")
    other = Version(
        VersionId("ver_other"),
        owed.connection.id,
        PrincipalId(owed.principal_id),
        10,
        State.ISSUED,
        replace(owed.ref, fingerprint="another"),
        "",
        Provenance.OURS,
        None,
        None,
        0.0,
    )
    hub.store.write(lambda tx: versions.add(tx, other))
    assert not owed.again()
    assert "v10 (issued) is in the same place" in owed.now().facts["last"]
    assert owed.alive() == 2


def test_a_slot_is_not_cleared_without_its_value(hub, client):
    """By now it could hold somebody else's."""
    owed = Owed(hub, client, "two_slots", value=False)
    assert not owed.again()
    assert owed.alive() == 2
    assert LineKind.INTENT not in {line.kind for line in owed.lines()}


def test_a_slot_is_cleared_by_its_value(hub, client):
    """Its own value names it."""
    owed = Owed(hub, client, "two_slots")
    assert owed.again()
    assert owed.alive() == 1


def test_a_leased_one_is_not_ended(hub, client):
    """Whoever holds it is waited for."""
    owed = Owed(hub, client, "many_ids")
    held = leases.take(hub, owed.principal, "job")
    hub.store.write(
        lambda tx: tx.run("UPDATE lease SET version_id = ? WHERE id = ?", owed.version, held.lease_id)
    )
    assert not owed.again()
    assert "job still leases it" in owed.now().facts["last"]
    assert owed.alive() == 2


def test_what_a_person_deleted_is_found_out(hub, client):
    """Without anything to end it with, looking and testing still close the debt."""
    owed = Owed(hub, client, "supplied", state=State.REFUSED, kind="unwanted")
    assert not owed.again()
    assert "still shows it" in owed.now().facts["last"]
    shapes.person_deletes(client, owed.principal, owed.ref.id)
    assert owed.again()
    assert owed.state() is State.DEAD


def test_a_refusal_without_its_controls_proves_nothing(hub, client):
    """When what serves is not let in as the pinned account, a refusal looks like a death and is none."""
    owed = Owed(hub, client, "many_ids")
    hub.store.write(
        lambda tx: connection_rows.change(tx, owed.connection.id, identity={"principal": "other"})
    )
    assert not owed.again()
    assert owed.state() is State.REVOKED
    assert "what serves was not accepted" in owed.now().facts["last"]


def test_an_outage_is_not_a_death(hub, client):
    """Without an answer, or with what serves refused as well, the debt stays open with what was seen."""
    owed = Owed(hub, client, "supplied")
    shapes.person_deletes(client, owed.principal, owed.ref.id)
    client.arm(owed.principal, "error_not_applied", "login")
    assert not owed.again()
    assert "unknown" in owed.now().facts["last"]
    shapes.person_deletes(client, owed.principal, owed.made.ref.id)
    assert not owed.again()
    assert (owed.state(), owed.now().closed_at) == (State.REVOKED, None)


def test_a_test_that_could_lock_the_account_is_not_made(hub, client):
    """Where a wrong old value counts against the live account, the listing proves it."""
    lockout = {"max_failures": 5, "window_s": 3600.0}
    owed = Owed(hub, client, "supplied", lockout=lockout)
    shapes.person_deletes(client, owed.principal, owed.ref.id)
    assert owed.again()
    assert "proven (D1)" in owed.now().closed_why
    assert "old" not in {line.facts.get("what") for line in owed.lines()}


def test_the_lock_out_budget_is_kept(hub, client, monkeypatch):
    """Too few tries left: not tested."""
    owed = Owed(hub, client, "many_ids")
    row = hub.catalog.row_of(owed.connection)
    monkeypatch.setattr(
        type(hub.catalog), "row_of", lambda *_: replace(row, card=replace(row.card, lockout=shapes.LOCKOUT))
    )
    hub.store.write(lambda tx: principals.note_refusal(tx, owed.principal_id, time.time()))
    assert not owed.again()
    assert "near its lock" in owed.now().facts["last"]
    hub.store.write(lambda tx: tx.run("DELETE FROM refused_login"))
    assert owed.again()
    assert hub.store.read(lambda tx: principals.refusals(tx, owed.principal_id, 0)) == debts.REFUSALS + 1


def test_a_refused_end_is_journaled_and_stays_open(hub, client):
    """The vendor's no is an OUTCOME; the next try comes later."""
    owed = Owed(hub, client, "many_ids")
    client.arm(owed.principal, "error_not_applied", "delete")
    assert not owed.again()
    outcome = next(line for line in owed.lines() if line.kind is LineKind.OUTCOME)
    assert outcome.facts["outcome"] == "not_applied"
    assert owed.alive() == 2
    assert owed.again()


def test_an_orphan_is_ended_by_its_name_alone(hub, client):
    """Only the one the debt names, and never the place of something alive."""
    owed = Owed(hub, client, "many_ids", state=State.REFUSED)
    owed.debt = owed.owe("orphan", version=False, ref=owed.made.ref.as_json())
    assert not owed.again()
    assert owed.alive() == 2
    owed.debt = owed.owe("orphan", version=False, ref=owed.ref.as_json())
    assert owed.again()
    assert owed.alive() == 1
    assert "proven (D1)" in owed.now().closed_why


@pytest.mark.parametrize("kind", ["perhaps_ours", "orphan_unknown", "unknown_grant", "proves_nothing"])
def test_what_cannot_be_named_is_a_persons(hub, client, kind):
    """Nothing is ended by its age or its looks."""
    owed = Owed(hub, client, "many_ids", state=State.REFUSED)
    owed.debt = owed.owe(kind, version=False, refs=[owed.ref.as_json()])
    assert not owed.again()
    assert owed.alive() == 2


def test_every_debt_about_a_dead_one_is_closed_with_it(hub, client):
    """What it tells of the vendor stays open for a person."""
    owed = Owed(hub, client, "many_ids")
    second, third = owed.owe("revoke_refused"), owed.owe("sibling_died")
    assert owed.again()
    assert debts.get(hub, second.id).closed_by == "the hub"
    assert [debt.id for debt in debts.every(hub)] == [third.id]


def test_no_debt_is_tried_beside_a_run(hub, client):
    """An unfinished run has the principal, in every process: also for `--try`."""
    owed = Owed(hub, client, "many_ids")
    run = runs.start(hub, owed.principal, Goal.ROTATE)
    now = time.time()
    epoch = hub.store.write(
        lambda tx: principals.take(tx, owed.principal_id, "other/1/1", run.id, now, now + 60)
    )
    with pytest.raises(Conflict, match="being worked on"):
        owed.again()
    hub.store.write(lambda tx: principals.let_go(tx, owed.principal_id, epoch, ended=True))
    assert owed.again()


def test_two_who_try_at_once_are_one_try(hub, client):
    """Whoever read the debt before the other's try comes too late."""
    owed = Owed(hub, client, "many_ids", state=State.ISSUED)
    before = owed.now()
    assert not owed.again()
    with pytest.raises(Conflict, match="meanwhile"):
        debts.try_again(hub, before)
    assert owed.is_free()
