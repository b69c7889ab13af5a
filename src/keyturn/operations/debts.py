"""Debts: shown until they are paid or a person closes them with a reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from keyturn.bootstrap import Keyturn
from keyturn.contract.capabilities import Verifier
from keyturn.contract.values import Access
from keyturn.errors import (
    Conflict,
    InvalidInput,
    KeyturnError,
    LeaseLost,
    NotFound,
    StoreUnavailable,
    unexpected,
)
from keyturn.executor.context import NOT_APPLIED
from keyturn.executor.hub import RowOf
from keyturn.model.card import Proof, RevokeScope, Strategy
from keyturn.model.credential import LIVE, Connection, Ref, State, Version
from keyturn.model.ids import ConnectionId, DebtId, new_id
from keyturn.model.policy import Policy
from keyturn.model.run import Debt, LineKind, Outcome
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, mismatch
from keyturn.operations.connections import access_of
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import connections, consumers, debts, journal, listing, principals, sealed, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import version_row

T = TypeVar("T")
LEASE_S = 600.0
REFUSALS = 3
_SPARE = 2  # refused logins that an account must still have left, as for every test that may fail
_LADDER_S = (3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)
_ENDABLE = frozenset({State.DRAINING, State.DISABLED, State.REVOKING, State.REVOKED, State.REFUSED})
_FOR_A_PERSON = frozenset({"unrevocable_grant"})
_ABOUT_THE_VENDOR = _FOR_A_PERSON | {
    "sibling_died"
}  # told somebody something that stays true when it is dead
_THE_HUB = "the hub"


def every(hub: Keyturn) -> list[Debt]:
    """All open debts, oldest first."""
    return hub.store.read(debts.open_debts)


def of_connection(hub: Keyturn, connection_id: str) -> list[Debt]:
    """The open debts of one connection, oldest first."""
    return hub.store.read(lambda tx: debts.open_debts(tx, ConnectionId(connection_id)))


def page(
    hub: Keyturn,
    projects: frozenset[str] | None = None,
    *,
    connection_id: str = "",
    after: Sequence[Any] | None = None,
    limit: int = 50,
) -> tuple[int, list[tuple[Debt, str]]]:
    """How many are open, and those behind `after`, a debt's (created_at, id), oldest first, with their connections' names;
    only those of some projects when given."""

    def work(tx: Tx) -> tuple[int, list[tuple[Debt, str]]]:
        many, found = debts.page(tx, connection_id=connection_id, projects=projects, after=after, limit=limit)
        names = listing.named(tx, [debt.connection_id for debt in found])
        return many, [(debt, names.get(debt.connection_id, debt.connection_id)) for debt in found]

    return hub.store.read(work)


def get(hub: Keyturn, debt_id: str) -> Debt:
    """A debt. Raises: NotFound."""
    found = hub.store.read(lambda tx: debts.by_id(tx, DebtId(debt_id)))
    if found is None:
        raise NotFound(
            f"there is no debt {debt_id}", hint="`keyturn debts` shows the open ones.", field="debt"
        )
    return found


def close(hub: Keyturn, debt_id: str, why: str) -> Debt:
    """Closes a debt on a person's word; their name and reason go into the audit trail."""
    debt = get(hub, debt_id)
    if not why.strip():
        raise InvalidInput(
            "closing a debt needs a reason", hint="Say how you know, with --reason.", field="reason"
        )
    if debt.closed_at is not None:
        raise Conflict(f"{debt_id} is closed already")
    _close(hub, debt, hub.settings.actor, why)
    return get(hub, debt_id)


def _close(hub: Keyturn, debt: Debt, by: str, why: str) -> None:
    hub.store.write(lambda tx: _closing(tx, debt, time.time(), by, why))


def _closing(tx: Tx, debt: Debt, now: float, by: str, why: str, **more: Any) -> None:
    facts = {"decision": "debt_closed", "debt": debt.id, "kind": debt.kind, "by": by, "why": why, **more}
    debts.close(tx, debt.id, now, by, why)
    journal.append(
        tx, debt.connection_id, [journal.Entry(now, debt.run_id, "debt", LineKind.DECISION, 0, facts)]
    )


def try_again(hub: Keyturn, debt: Debt) -> bool:
    """One more attempt at what is owed, under its principal's lease. True when it is paid: proven dead to the grade the
    policy asks for, closed by the hub with the proof. Else it stays open, with what was seen, until the next try.

    Only what is ours for certain, on its way out and alone in its place is ended; the rest waits for a person.
    Raises: Conflict while a run has the principal, or when somebody else was faster.
    """
    connection = hub.store.read(lambda tx: connections.by_id(tx, ConnectionId(debt.connection_id)))
    if connection is None:
        raise NotFound("the debt's connection is gone")
    epoch = _take(hub, debt, connection)
    try:
        try:
            attempt = _begin(hub, debt, connection, epoch)
            if asleep := _asleep(attempt):
                hub.store.write(
                    lambda tx: debts.postpone(tx, debt.id, asleep, {**debt.facts, "last": _ASLEEP})
                )
                return False
            paid, said = _attempt(attempt)
        except (LeaseLost, StoreUnavailable):
            raise
        except KeyturnError as error:
            paid, said = False, error.message
        if not paid:
            wait_s = _LADDER_S[min(debt.tries, len(_LADDER_S) - 1)] * hub.settings.patience
            facts = {**debt.facts, "last": said, **_used_again(debt, said)}
            hub.store.write(lambda tx: debts.postpone(tx, debt.id, time.time() + wait_s, facts))
        return paid
    finally:
        hub.store.write(lambda tx: principals.let_go(tx, connection.principal_id, epoch, ended=False))


def _take(hub: Keyturn, debt: Debt, connection: Connection) -> int:
    """The principal's lease, without a run. After a crash it runs out and the debt is due again."""
    now, holder = time.time(), f"{hub.hub.worker}/debt/{new_id('try')}"

    def work(tx: Tx) -> int:
        epoch = principals.borrow(tx, connection.principal_id, holder, now, now + LEASE_S)
        if epoch is None:
            raise Conflict(f"{connection.name} is being worked on", hint="Try again when its run has ended.")
        as_is = debts.by_id(tx, debt.id)
        if as_is is None or as_is.closed_at is not None or as_is.tries != debt.tries:
            raise Conflict(f"{debt.id} was tried or closed by somebody else meanwhile")
        debts.claim(tx, debt.id, now + LEASE_S)
        return epoch

    return hub.store.write(work)


@dataclass(frozen=True)
class _Attempt:
    """A debt in hand. `ref` names what is owed, `material` is its value where we still hold it."""

    hub: Keyturn
    debt: Debt
    connection: Connection
    epoch: int
    row: RowOf
    access: Access
    current: Version | None
    version: Version | None
    ref: Ref | None
    material: Material | None

    @cached_property
    def policy(self) -> Policy:
        return Policy.read(self.connection.policy)

    def write(self, work: Callable[[Tx], T]) -> T:
        """A commit, if the lease is still ours; prolongs it. Raises: LeaseLost."""

        def held(tx: Tx) -> T:
            principals.hold(tx, self.connection.principal_id, self.epoch, time.time() + LEASE_S)
            return work(tx)

        return self.hub.store.write(held)

    def line(self, tx: Tx, kind: LineKind, **facts: Any) -> None:
        """One journal line about the debt."""
        named = {"debt": self.debt.id, **({"version": self.version.id} if self.version else {})}
        entry = journal.Entry(time.time(), self.debt.run_id, "debt", kind, self.epoch, {**named, **facts})
        journal.append(tx, self.connection.id, [entry])


def _begin(hub: Keyturn, debt: Debt, connection: Connection, epoch: int) -> _Attempt:
    row, access, current = access_of(hub, connection)
    owed = debt.version_id
    version = hub.store.read(lambda tx: versions.by_id(tx, owed)) if owed else None
    ref, material = None, None
    if version is not None:
        ref = version.ref
        body = hub.secrets.find(version_row(version.id))
        material = Material.from_bytes(body) if body else None
    elif debt.kind == "orphan" and "ref" in debt.facts:
        ref = Ref.from_json(debt.facts["ref"])
    if access.acting is None and access.admin is None:
        access = replace(access, acting=material)  # the last one signs its own end
    return _Attempt(hub, debt, connection, epoch, row, access, current, version, ref, material)


_ASLEEP = (
    "it ends when nobody uses it for long enough, and a test is a use: looked at once, when that time is over"
)
_USED = "it is still accepted: somebody has used it meanwhile, or it does not end by itself"


def _asleep(it: _Attempt) -> float:
    """Until when a grant that nobody may end is left alone; 0 when it is to be looked at now."""
    until = float(it.debt.facts.get("unused_until", 0.0))
    return (
        until
        if it.debt.kind == "unrevocable_grant" and it.version is not None and until > time.time()
        else 0.0
    )


def _used_again(debt: Debt, said: str) -> dict[str, float]:
    """The one look has used it: the whole time begins anew."""
    if said != _USED:
        return {}
    return {"unused_until": time.time() + float(debt.facts["unused_for_s"])}


def _ended_unused(it: _Attempt, version: Version) -> tuple[bool, str]:
    """A grant that nobody used for as long as the vendor lets one sleep: tested once, and dead or used by somebody."""
    proven, said = _refused(it, version, Proof.D2)
    if proven:
        return _paid(it, Proof.D2, said)
    return False, _USED if said.startswith(f"tested: {Verdict.ACCEPTED.value}") else said


def _attempt(it: _Attempt) -> tuple[bool, str]:
    """Looks, ends, looks again, proves. Whether it is paid, and what was seen."""
    if it.debt.kind == "unrevocable_grant" and it.version is not None and "unused_until" in it.debt.facts:
        return _ended_unused(it, it.version)
    if why := it.hub.store.read(lambda tx: _why_a_person(tx, it)):
        return False, f"a person decides: {why}"
    place, refusal, ended = _look(it), "", False
    if place != "absent" and _may_end(it):
        refusal = _end(it)
        ended = not refusal
        place = _look(it)
    wanted = it.policy.grade(it.row.card)
    if place == "active":
        return False, refusal or "the vendor's inventory still shows it"
    if place == "absent" and Proof.D1.reaches(wanted):
        return _paid(it, Proof.D1, "the vendor's inventory shows what serves and no longer this one")
    if it.version is not None and ended and Proof.D0.reaches(wanted):
        return _paid(it, Proof.D0, "the vendor accepted its end")
    if it.version is None:
        if place == "absent":  # its value is known to nobody, so no refusal can be seen
            return _paid(it, Proof.D1, "the vendor's inventory shows what serves and no longer this one")
        return False, refusal or "nothing here can tell whether it is gone: a person decides"
    proven, said = _refused(it, it.version, wanted)
    return (
        _paid(it, Proof.D3 if wanted is Proof.D3 else Proof.D2, said) if proven else (False, refusal or said)
    )


def _why_a_person(tx: Tx, it: _Attempt) -> str:
    """Why the hub must not touch it; empty when it may."""
    card, version, ref = it.row.card, it.version, it.ref
    if ref is None:
        return "what is owed cannot be named"
    if it.debt.kind in _FOR_A_PERSON or card.revoke_scope is not RevokeScope.CREDENTIAL:
        return "ending it would end more than itself"
    if version is not None and version.method not in {"", it.connection.method}:
        return f"it is of the method the connection had before ({version.method})"
    if card.strategy in ONE_SLOT:
        return "there is one place only, and what serves is in it"
    if version is not None:
        as_is = versions.by_id(tx, version.id)
        if as_is is None or as_is.state not in _ENDABLE:
            return f"it is {as_is.state.value if as_is else 'gone'}"
        held = consumers.holders(tx, version.id, time.time())
        if held:
            return f"{held[0].consumer} still leases it"
    for other in versions.on_principal(tx, it.connection.principal_id):
        is_other = version is None or other.id != version.id
        if is_other and other.state in LIVE and _shares_place(tx, it, ref, other):
            return f"v{other.number} ({other.state.value}) is in the same place"
    return ""


def _shares_place(tx: Tx, it: _Attempt, ref: Ref, other: Version) -> bool:
    """A grant without a name is nowhere but in its refresh token: another token is another place. A vendor may have given
    the same one at both consents, though, and then ending it would end what serves."""
    if (other.ref.id, other.ref.slot) != (ref.id, ref.slot):
        return False
    if ref.id or ref.slot or it.row.card.strategy is not Strategy.CONSENT:
        return True
    body = sealed.get(tx, version_row(other.id))
    if it.material is None or body is None:
        return True
    theirs = Material.from_bytes(it.hub.secrets.open(body, version_row(other.id)))
    token = it.material.get("refresh_token")
    return not token or token == theirs.get("refresh_token") or not theirs.get("refresh_token")


def _may_end(it: _Attempt) -> bool:
    """A slot is only cleared by its value: without, it could hold somebody else's by now."""
    can_sign = it.access.acting is not None or it.access.admin is not None
    by_name = it.material is not None or (it.ref is not None and not it.ref.slot and bool(it.ref.id))
    return it.row.can.revoker is not None and can_sign and by_name


def _look(it: _Attempt) -> str:
    """Whether the inventory shows it: "active", "inactive", "absent", or "" when that cannot be told. An inventory
    without what serves is another principal's; where nothing serves, only an administrator's is believed."""
    lister, current, ref = it.row.can.lister, it.current, it.ref
    if lister is None or not it.row.card.inventory or ref is None or not (ref.id or ref.slot):
        return ""
    remotes = lister.list(it.access)
    found = [remote for remote in remotes if ref.same_place(remote.ref)]
    said = "active" if any(remote.active for remote in found) else "inactive" if found else "absent"
    if current is None:
        is_ours = it.access.admin is not None
    else:
        is_ours = any(current.ref.same_place(remote.ref) and remote.active for remote in remotes)
    if said == "absent" and not is_ours:
        said = ""
    it.write(lambda tx: it.line(tx, LineKind.OBSERVED, what="inventory", shows=said or "not what serves"))
    return said


def _end(it: _Attempt) -> str:
    """Ends it at the vendor, journaled before and after; idempotent. Empty, or why that did not work."""
    revoker, version, ref = it.row.can.revoker, it.version, it.ref
    if revoker is None or ref is None:
        return "nothing here can end it"

    def intend(tx: Tx) -> None:
        if why := _why_a_person(tx, it):
            raise Conflict(f"a person decides: {why}")
        if version is not None:
            versions.move(tx, version.id, State.REVOKING, time.time(), {State.DRAINING, State.DISABLED})
        it.line(tx, LineKind.INTENT, what="revoke", ref=ref.as_json(), deadline_s=it.access.deadline_s)

    it.write(intend)
    why, outcome = "", Outcome.APPLIED
    try:
        revoker.revoke(it.access, ref, it.material)
    except Exception as error:
        why = unexpected(error)
        outcome = Outcome.NOT_APPLIED if isinstance(error, NOT_APPLIED) else Outcome.UNKNOWN

    def note(tx: Tx) -> None:
        if version is not None and outcome is Outcome.APPLIED:
            versions.move(tx, version.id, State.REVOKED, time.time(), {State.REVOKING})
        it.line(tx, LineKind.OUTCOME, what="revoke", outcome=outcome.value, **({"why": why} if why else {}))

    it.write(note)
    return why


# -- proof (semantics 10) ------------------------------------------------------------------------------------------


def _refused(it: _Attempt, version: Version, wanted: Proof) -> tuple[bool, str]:
    """Refused three times past the settle time, and in the same minute what serves is accepted as the pinned account
    and a made-up one is refused in the same way. Whether all of that was seen, and what was."""
    as_is = it.hub.store.read(lambda tx: versions.by_id(tx, version.id)) or version
    over = as_is.changed_at + max(
        it.policy.settle_revoke(it.row.card), it.row.card.derived_ttl_s if wanted is Proof.D3 else 0.0
    )
    current, card = it.current, it.row.card
    if it.material is None or card.old_counts:
        return False, "it cannot be tested without harm: a person decides"
    if time.time() < over:
        return False, "the vendor may lag behind; it is tested at the next try"
    if current is None or current.state is not State.CURRENT or it.access.acting is None:
        return False, "nothing serves that could be tested beside it: a person decides"
    if not _has_tries(it, REFUSALS + 1):
        return False, "not tested: the account would come near its lock"
    try:
        bogus = it.row.can.verifier.bogus(it.access.acting)
    except LookupError:
        return False, "there is no made-up credential to compare with: a person decides"
    tester = it.row.can.death or it.row.can.verifier
    codes = set()
    for _ in range(REFUSALS):
        found = _probe(it, tester, it.material, "old")
        if found.verdict is not Verdict.REJECTED:
            return False, f"tested: {found.verdict.value} {found.code}".strip()
        codes.add(found.code)
    live = _probe(it, it.row.can.verifier, it.access.acting, "control_live", counts=False)
    pin = it.connection.identity
    if live.verdict is not Verdict.ACCEPTED or not pin or mismatch(pin, live.identity):
        return False, "what serves was not accepted beside it, so a refusal proves nothing"
    fake = _probe(it, tester, bogus, "control_bogus")
    if fake.verdict is not Verdict.REJECTED or codes != {fake.code}:
        return False, "a made-up one is not refused in the same way, so a refusal proves nothing"
    said = f"refused {REFUSALS} times ({fake.code}) like a made-up one, while v{current.number} was accepted"
    return True, said


def _has_tries(it: _Attempt, count: int) -> bool:
    lockout, now = it.row.card.lockout, time.time()
    if lockout is None:
        return True
    spent = it.hub.store.read(
        lambda tx: principals.refusals(tx, it.connection.principal_id, now - lockout.window_s)
    )
    return lockout.max_failures - spent - (count - 1) >= _SPARE


def _probe(it: _Attempt, tester: Verifier, material: Material, what: str, *, counts: bool = True) -> Probe:
    """One fresh test. One that may be refused is counted before it is made, as the executor does."""
    principal_id, now = it.connection.principal_id, time.time()
    counted = counts and it.row.card.lockout is not None
    if counted:
        it.write(lambda tx: principals.note_refusal(tx, principal_id, now))
    found = tester.verify(it.access, material)

    def note(tx: Tx) -> None:
        if counted and found.verdict is Verdict.ACCEPTED:
            principals.forget_refusal(tx, principal_id, now)
        it.line(tx, LineKind.OBSERVED, what=what, **found.as_facts())

    it.write(note)
    return found


def _paid(it: _Attempt, grade: Proof, said: str) -> tuple[bool, str]:
    """Proven: the version is dead, and with it every debt about it, closed by the hub with the proof."""
    now, version, why = time.time(), it.version, f"proven ({grade.value}): {said}"

    def work(tx: Tx) -> None:
        settled: Sequence[Debt] = [it.debt]
        if version is not None:
            if not versions.move(tx, version.id, State.DEAD, now, _ENDABLE):
                raise Conflict("it is used again meanwhile")
            if it.policy.retention_s:
                sealed.destroy_later(tx, version_row(version.id), now + it.policy.retention_s)
            else:
                sealed.destroy(tx, version_row(version.id))
            settled = [
                each
                for each in debts.open_debts(tx, it.connection.id)
                if each.id == it.debt.id
                or (each.version_id == version.id and each.kind not in _ABOUT_THE_VENDOR)
            ]
        for each in settled:
            more = {"version": version.id} if version else {}
            _closing(tx, each, now, _THE_HUB, why, proof=grade.value, **more)

    it.write(work)
    return True, why
