"""One run in one worker's hands: what it knows, and the buffer that becomes one durable commit.

Lines and writes are collected and committed together at barriers: before a call that changes something (its INTENT must
be durable first), after a raw answer was sealed (its RECEIPT must be durable before anybody reads it), and when the run
waits or ends. Everything between two barriers is only local knowledge; after a crash it is found out again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from keyturn import boundary
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    LeaseLost,
    OutcomeUnknown,
    PermissionMissing,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
    unexpected,
)
from keyturn.executor.hub import Hub, RowOf
from keyturn.model.credential import Connection, Provenance, State, Version
from keyturn.model.ids import DebtId, VersionId, new_id
from keyturn.model.plan import Goal, Step
from keyturn.model.policy import Policy
from keyturn.model.run import Debt, Line, LineKind, Outcome, Run
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict
from keyturn.storage import debts, journal, principals, runs, sealed, tasks, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row, receipt_row, storing, version_row

T = TypeVar("T")
NOT_APPLIED = (
    VendorUnavailable,
    VendorThrottled,
    ValueRefused,
    CapReached,
    PermissionMissing,
    CredentialRejected,
    InvalidInput,
)


class CommitFailed(Exception):
    """A commit failed for a reason that is ours. What was buffered is gone: the context must be dropped with it."""


def _refresh_at(material: Material, now: float) -> float | None:
    """At 70 % of the token's life, earlier by up to a tenth of it, so that a fleet does not ask in one breath."""
    ends = material.get("expires_at", "")
    if "refresh_token" not in material or not ends.isdigit() or float(ends) <= now:
        return None
    return now + (float(ends) - now) * random.uniform(0.6, 0.7)  # noqa: S311 - spreads load, keeps no secret


# A lock that is there already is no failed login of ours, and only time or an administrator ends it.
_LOCKED_S = 900.0
_NOT_TRIED = Probe(Verdict.UNKNOWN, code="budget", detail="not tried: the account would come near its lock")


class Context:
    """The run, its connection and row, its versions by id, and the lines written so far."""

    def __init__(
        self,
        hub: Hub,
        run: Run,
        connection: Connection,
        row: RowOf,
        epoch: int,
        known: Sequence[Version],
        lines: Sequence[Line],
        has_admin: bool,
    ) -> None:
        self.hub, self.run, self.connection, self.row, self.epoch = hub, run, connection, row, epoch
        self.card, self.can = row.card, row.can
        self._rows = {connection.method: row}
        self._keys = frozenset(step.key for step in run.plan.steps)
        self.policy = Policy.read(connection.policy)
        self.versions = {version.id: version for version in known}
        self.new_id = run.new_version_id
        self.cursor, self.track, self.attempts = run.cursor, run.track, run.attempts
        self.has_admin = has_admin
        self.said: list[tuple[str, LineKind, dict[str, Any], float]] = [
            (line.step, line.kind, dict(line.facts), line.at) for line in lines
        ]
        self._entries: list[journal.Entry] = []
        self._writes: list[Callable[[Tx], None]] = []
        self._moves: dict[VersionId, Version] = {}
        self._columns: dict[str, Any] = {}
        self._materials: dict[str, Material] = {}
        self._uncommitted: dict[str, bytes] = {}
        self.bodies: dict[str, bytes] = {}  # sealed rows that were read with the claim, still closed
        self.held_until = 0.0
        self.owing = False
        self.switching = False  # the pointer was moved, and nobody else sees it yet
        self.ended = False

    # -- which method: a migration has two ------------------------------------------------------------------------

    def row_of(self, method: str) -> RowOf:
        """The row of one of the connection's methods; empty: the one it has."""
        found = self._rows.get(method or self.connection.method)
        if found is None:
            found = self._rows[method] = self.hub.rows.row_of(replace(self.connection, method=method))
        return found

    def stand(self, step: Step) -> None:
        """A migration ends the old one by the method it is of; everything else it does is of the new method."""
        if self.run.goal is not Goal.MIGRATE:
            return
        of_old = step.target == "old" and self.old is not None
        self.row = self.row_of(self.old.method if of_old and self.old else self.run.plan.method)
        self.card, self.can = self.row.card, self.row.can

    # -- versions and values -------------------------------------------------------------------------------------

    @property
    def old(self) -> Version | None:
        """The version that was current when the run started."""
        return self.versions.get(self.run.old_version_id) if self.run.old_version_id else None

    @property
    def new(self) -> Version | None:
        """The candidate."""
        return self.versions.get(self.new_id) if self.new_id else None

    def material(self, version: Version) -> Material:
        """A version's value, opened from the vault as it is stored (not as we remember it)."""
        found = self._materials.get(version.id)
        if found is None:
            row = version_row(version.id)
            waiting = self._uncommitted.get(
                row
            )  # its receipt is durable; the row itself goes with the next barrier
            if waiting is not None:
                return Material.from_bytes(self.hub.secrets.keyring.open(waiting, row))
            found = self._materials[version.id] = self._open(row)
        return found

    def holds(self, version: Version) -> bool:
        """Whether its value is still sealed: one that was turned down is destroyed once another was proven."""
        row = version_row(version.id)
        return row in self._uncommitted or self.hub.secrets.find(row) is not None

    def _open(self, row: str) -> Material:
        body = self.bodies.get(row)
        if body is None:
            return self.hub.secrets.material(row)
        return Material.from_bytes(self.hub.secrets.keyring.open(body, row))

    def access(self, acting: Version | None = None, marker: str = "") -> Access:
        """With what a connector acts: the administrator where there is one, else `acting` (default: what serves)."""
        admin = None
        if self.has_admin:
            admin = self._materials.get("admin")
            if admin is None:
                admin = self._materials["admin"] = self._open(admin_row(self.connection.id))
        chosen = acting or self.serving()
        return Access(
            settings=self.connection.settings,
            acting=self.material(chosen) if chosen and chosen.state is not State.DEAD else None,
            admin=admin,
            deadline_s=self.policy.deadline(self.card),
            network=self.hub.network,
            marker=marker,
        )

    def serving(self) -> Version | None:
        """The version consumers get now."""
        for version in self.versions.values():
            if version.state is State.CURRENT:
                return version
        return self.old

    def is_superseded(self, version: Version) -> bool:
        """Whether a newer value that the vendor took sits in the same slot: ending `version` there would end that one."""
        if not version.ref.slot:
            return False
        taken = {State.ISSUED, State.PROVEN, State.CURRENT, State.DRAINING, State.DISABLED}
        place = (version.ref.id, version.ref.slot)
        return any(
            v.number > version.number and v.state in taken and (v.ref.id, v.ref.slot) == place
            for v in self.versions.values()
        )

    def add_version(self, candidate: Candidate, state: State, provenance: Provenance) -> Version:
        """Seals a candidate and buffers its row. Its value is only reachable through the vault from here on."""
        now = self.hub.clock()
        version = Version(
            id=VersionId(new_id("ver")),
            connection_id=self.connection.id,
            principal_id=self.connection.principal_id,
            number=1 + max((v.number for v in self.versions.values()), default=0),
            state=state,
            ref=candidate.ref,
            fingerprint=self.fingerprint(candidate.material),
            provenance=provenance,
            born_at=now,
            expires_at=candidate.expires_at,
            changed_at=now,
            method=self.run.plan.method if self.run.goal is Goal.MIGRATE else "",
            refresh_at=_refresh_at(candidate.material, now) if self.can.authorizer is not None else None,
        )
        row = version_row(version.id)
        body = self._uncommitted[row] = self.hub.secrets.keyring.seal(candidate.material.to_bytes(), row)
        self.later(storing(row, body, now))
        self.later(lambda tx: versions.add(tx, version))
        self.versions[version.id] = version
        self.new_id = version.id
        self._columns["new_version_id"] = version.id
        return version

    def fingerprint(self, material: Material) -> str:
        """The keyed fingerprint of a value's secret parts."""
        return self.hub.fingerprint("\0".join(sorted(material.secrets())))

    def move(self, version: Version, state: State) -> Version:
        """Buffers a change of a version's state; a dead one's ciphertext is planned for destruction."""
        now = self.hub.clock()
        changed = version.moved(state, now)
        self.versions[version.id] = changed
        self._moves[version.id] = (
            changed  # only the last state of a commit is stored; the journal has every step
        )
        if state is State.DEAD:
            self.later(self._destroying(version))
        return changed

    def forget_refused(self) -> None:
        """Plans the destruction of candidates that were turned down, once another one is proven: they were kept in case
        one of them works after all. What is still owed keeps its value."""

        def forget(tx: Tx, version: Version) -> None:
            if not debts.is_owed(tx, version.id):
                self._destroying(version)(tx)

        for version in self.versions.values():
            if version.state is State.REFUSED:
                self.later(partial(forget, version=version))

    def _destroying(self, version: Version) -> Callable[[Tx], None]:
        """The write that ends a version's ciphertext, now or after the policy's retention."""
        row, at = version_row(version.id), self.hub.clock() + self.policy.retention_s
        if self.policy.retention_s:
            return lambda tx: sealed.destroy_later(tx, row, at)
        return lambda tx: sealed.destroy(tx, row)

    # -- the journal ---------------------------------------------------------------------------------------------

    def key(self, step: Step) -> str:
        """A step's name in the journal; the steps of rolling back have their own names."""
        return step.key if step.key in self._keys else f"rollback.{step.key}"

    def line(self, step: Step, kind: LineKind, **facts: Any) -> None:
        """Buffers a journal line."""
        boundary.reach(f"line:{kind}:{step.key}:before")
        now = self.hub.clock()
        key = self.key(step)
        self.said.append((key, kind, facts, now))
        self._entries.append(journal.Entry(now, self.run.id, key, kind, self.epoch, facts))
        boundary.reach(f"line:{kind}:{step.key}:after")

    def lines(self, step: Step, kind: LineKind) -> list[tuple[dict[str, Any], float]]:
        """What this step has said so far, of one kind, in order, with instants."""
        key = self.key(step)
        return [(facts, at) for said, each, facts, at in self.said if said == key and each is kind]

    def open_intent(self, step: Step) -> tuple[dict[str, Any], float] | None:
        """The step's last INTENT if its outcome is not known: sent or not, nobody can tell yet."""
        key, found = self.key(step), None
        for said, kind, facts, at in self.said:
            if said != key:
                continue
            if kind is LineKind.INTENT:
                found = (facts, at)
            elif kind is LineKind.OUTCOME and facts.get("outcome") != Outcome.UNKNOWN.value:
                found = None
        return found

    def may_have_applied(self, key: str) -> bool:
        """Whether a call of a forward step took effect, or may have: an INTENT without a definite `not_applied`."""
        sent: list[str] = []  # calls not known to have failed, by the value they carried
        for number, (said, kind, facts, _) in enumerate(self.said):
            if said != key:
                continue
            if kind is LineKind.DECISION and facts.get("decision") == "asked":
                sent.append("asked")  # a person may have done it the moment they read it
            elif kind is LineKind.INTENT:
                sent.append(facts.get("version", str(number)))
            elif kind is LineKind.OUTCOME and facts.get("outcome") == Outcome.APPLIED.value:
                return True
            elif kind is LineKind.OUTCOME and facts.get("outcome") == Outcome.NOT_APPLIED.value and sent:
                last = sent.pop()
                if facts.get(
                    "looked"
                ):  # whatever was asked for or sent: what it would have ended was seen to work
                    sent.clear()
                if facts.get("refused"):  # a value that is refused was refused each time that it was sent
                    sent = [each for each in sent if each != last]
        return bool(sent)

    def zombie_until(self, intent: tuple[dict[str, Any], float]) -> float:
        """Until when a call that may have been sent can still take effect."""
        facts, at = intent
        return at + float(facts.get("deadline_s", 0.0)) + self.policy.lag(self.card)

    # -- commits -------------------------------------------------------------------------------------------------

    def later(self, write: Callable[[Tx], None]) -> None:
        """Buffers a write for the next commit."""
        self._writes.append(write)

    def column(self, **columns: Any) -> None:
        """Buffers columns of the run's row."""
        self._columns.update(columns)

    def commit(self, *, ends: bool = False, releases: bool = False, asks: str = "") -> None:
        """Makes everything buffered durable at once, if this worker still holds the principal.

        `asks` names the step whose person the run lies down to wait for; answered by now, it is due at once.

        Raises: LeaseLost, StoreUnavailable. Either way the run must be picked up anew from the journal.
        """
        entries, writes, moves, columns = self._entries, self._writes, self._moves, self._columns
        self._entries, self._writes, self._moves, self._columns = [], [], {}, {}
        columns.setdefault("cursor", self.cursor)
        until = self.hub.clock() + max(self.hub.lease_s, 3 * self.policy.deadline(self.card))
        principal_id, epoch = self.connection.principal_id, self.epoch

        def work(tx: Tx) -> None:
            if ends or releases:  # either way first: a worker that lost the principal writes nothing
                principals.let_go(tx, principal_id, epoch, ended=ends)
            else:
                principals.hold(tx, principal_id, epoch, until)
            for write in writes:
                write(tx)
            for moved in moves.values():
                versions.move(tx, moved.id, moved.state, moved.changed_at)
            if entries:
                journal.append(tx, self.connection.id, entries)
            runs.change(tx, self.run.id, columns)
            if asks and tasks.is_answered(tx, self.run.id, asks):
                runs.wake(tx, self.run.id, self.hub.clock())

        try:
            self.hub.store.write(work)
        except KeyturnError:
            raise
        except Exception as error:
            raise CommitFailed(unexpected(error)) from error
        self._uncommitted.clear()
        self.switching = False
        self.held_until, self.ended = until, ends

    # -- calls ---------------------------------------------------------------------------------------------------

    def act(self, step: Step, send: Callable[[], T], **facts: Any) -> T:
        """One call that changes something: INTENT durable first, then the call, then its OUTCOME (buffered).

        Raises what the call raised when nothing was changed; OutcomeUnknown for everything else, whatever it was.
        """
        deadline = self.policy.deadline(self.card)
        self.line(step, LineKind.INTENT, deadline_s=deadline, **facts)
        self.commit()
        return self.send(step, send)

    def send(self, step: Step, send: Callable[[], T]) -> T:
        """The sending half of `act`, for callers that read the committed candidate back in between."""
        if self.hub.clock() > self.held_until - 2 * self.policy.deadline(self.card):
            raise LeaseLost("this worker slept too long to send safely", hint="The run goes on by itself.")
        boundary.reach(f"call:{step.key}:before")
        try:
            result = send()
        except NOT_APPLIED as error:
            boundary.reach(f"call:{step.key}:after")
            refused = {"refused": True} if isinstance(error, ValueRefused) else {}
            self.line(step, LineKind.OUTCOME, outcome=Outcome.NOT_APPLIED.value, why=error.message, **refused)
            raise
        except LeaseLost:
            raise
        except Exception as error:
            boundary.reach(f"call:{step.key}:after")
            self.line(step, LineKind.OUTCOME, outcome=Outcome.UNKNOWN.value, why=unexpected(error))
            if isinstance(error, OutcomeUnknown):
                raise
            raise OutcomeUnknown(unexpected(error), hint=getattr(error, "hint", "")) from None
        boundary.reach(f"call:{step.key}:after")
        return result

    def applied(self, step: Step, **facts: Any) -> None:
        """Buffers that the step's call took effect."""
        self.line(step, LineKind.OUTCOME, outcome=Outcome.APPLIED.value, **facts)

    def receipt(self, step: Step, attempt: int, raw: bytes) -> None:
        """Seals a raw answer and makes it durable before anybody reads it; spools it when the store refuses."""
        from keyturn.executor.spooling import spool_receipt

        row = receipt_row(self.run.id, self.key(step), attempt)
        self.later(self.hub.secrets.sealing(row, raw, self.hub.clock()))
        self.line(step, LineKind.RECEIPT, attempt=attempt)
        try:
            self.commit()
        except KeyturnError:
            spool_receipt(self.hub, row, raw)
            raise

    def probe(
        self,
        step: Step,
        version: Version,
        *,
        what: str,
        may_fail: bool = False,
        death: bool = False,
        **also: str,
    ) -> Probe:
        """One fresh test of a version. `may_fail` tests are refused when the lock-out budget is nearly spent.

        `death` asks in the way that tells a dead one (a refresh that must be refused), where the row has such a way.
        `also` goes into the same journal line.
        """
        can = self.row_of(version.method).can if version.method else self.can
        return self.probe_material(
            step, self.material(version), what=what, may_fail=may_fail, death=death, can=can, **also
        )

    def watch(self, step: Step, version: Version, *, what: str) -> Probe:
        """One fresh test of what is expected to work, again and again: only a refusal is kept, and counted like any other.

        Near a lock nothing is tried.
        """
        if self._near_its_lock():
            return _NOT_TRIED
        boundary.reach(f"probe:{what}:before")
        found = self.can.verifier.verify(self.access(), self.material(version))
        boundary.reach(f"probe:{what}:after")
        if found.verdict is Verdict.REJECTED:
            self.line(step, LineKind.OBSERVED, what=what, **found.as_facts())
            if self.card.lockout:
                now = self.hub.clock()
                self.later(lambda tx: principals.note_refusal(tx, self.connection.principal_id, now))
        return found

    def _near_its_lock(self) -> bool:
        """Whether the account has had so many refused logins that one more must not be risked."""
        lockout, now = self.card.lockout, self.hub.clock()
        if lockout is None:
            return False
        spent = self.hub.store.read(
            lambda tx: principals.refusals(tx, self.connection.principal_id, now - lockout.window_s)
        )
        return lockout.max_failures - spent < 2

    def probe_material(
        self,
        step: Step,
        material: Material,
        *,
        what: str,
        may_fail: bool = False,
        death: bool = False,
        can: Capabilities | None = None,
        **also: str,
    ) -> Probe:
        """One fresh test of a value, counted against the principal's lock-out budget when it is refused."""
        lockout = self.card.lockout
        now = self.hub.clock()
        if may_fail and self._near_its_lock():
            return _NOT_TRIED
        counted = lockout is not None and may_fail
        if counted:  # before, durably: a hub that is killed again and again must not lock the account either
            self.later(lambda tx: principals.note_refusal(tx, self.connection.principal_id, now))
            self.commit()
        boundary.reach(f"probe:{what}:before")
        can = can or self.can
        verifier = (can.death if death else None) or can.verifier
        found = verifier.verify(self.access(), material)
        boundary.reach(f"probe:{what}:after")
        if found.locked:
            found = replace(found, wait_s=max(found.wait_s, _LOCKED_S * self.hub.patience))
        if counted and (found.verdict is Verdict.ACCEPTED or found.locked):
            self.later(lambda tx: principals.forget_refusal(tx, self.connection.principal_id, now))
        elif found.verdict is Verdict.REJECTED and lockout and not counted:
            self.later(lambda tx: principals.note_refusal(tx, self.connection.principal_id, now))
        self.line(step, LineKind.OBSERVED, what=what, **found.as_facts(), **also)
        return found

    def owe(self, kind: str, why: str, version: Version | None, **facts: Any) -> None:
        """Buffers a debt: owned, clocked, never closed by itself alone. The same debt twice is one debt."""
        now = self.hub.clock()
        if version is not None:
            facts = {"ref": version.ref.as_json(), **facts}
        debt = Debt(
            id=DebtId(new_id("dbt")),
            connection_id=self.connection.id,
            version_id=version.id if version else None,
            run_id=self.run.id,
            kind=kind,
            why=why,
            facts=facts,
            owner=self.connection.owner,
            tries=0,
            next_try_at=now + 3600 * self.hub.patience,
            created_at=now,
            closed_at=None,
            closed_by="",
            closed_why="",
        )

        def work(tx: Tx) -> None:
            same = [
                d
                for d in debts.of_run(tx, self.run.id)
                if d.closed_at is None
                and (d.kind, d.version_id, d.facts.get("ref"))
                == (kind, debt.version_id, debt.facts.get("ref"))
            ]
            if not same:
                debts.add(tx, debt)

        self.later(work)
        self.owing = True
