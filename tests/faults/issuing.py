"""S8, where the hub is the vendor: whoever runs it, the program that calls with what it was given, and a reader of the
book of its own.

Nothing leaves the process, so what can be lost is a commit or the answer that shows the value. The reader computes
digests and judges rows by itself; the product's own check is held against it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.engine.sweep import Sweep
from keyturn.errors import Conflict, NotDone, NotFound
from keyturn.executor.executor import Executor
from keyturn.issued.book import IssuedBook
from keyturn.model.card import GapClass
from keyturn.model.credential import Connection, ConnectionState, State, Version
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, Debt, Line, Run, RunState, Track
from keyturn.model.secret import Material
from keyturn.operations import issued, register
from keyturn.operations import runs as run_operations
from keyturn.operations.connections import find
from keyturn.storage import debts, journal, runs, versions
from keyturn.storage.database import Tx
from keyturn.vault.roots import ROOTS_IDENTITY
from keyturn.vault.secrets import version_row
from tests.faults import invariants
from tests.faults.bench import Bench
from tests.faults.cases import Case
from tests.faults.clock import SharedClock
from tests.faults.driver import Driver, principal_name
from tests.faults.seen import Start

OVERLAP_S = 3600.0
REVEAL_S = 600.0
PATIENCE_S = 900.0  # how long is waited at a time for a first use, or for silence
UNUSED_S = 3 * OVERLAP_S  # how long a new one lies about with `never_used`
ROUNDS = 60
VALUES = {
    "api-key": {"scopes": "read"},
    "m2m": {"scopes": "read"},
    "hub-segment": {"contact": "owner@example.com"},
}
BYSTANDER = "bystander"
_OPEN_STATES = frozenset({"live", "retiring"})
_GONE = frozenset({State.DEAD, State.REFUSED})


def install(clock: SharedClock) -> None:
    """The book took its clock when it was imported."""
    IssuedBook.__init__.__defaults__ = (clock.now,)


def set_up(hub: Keyturn, case: Case) -> Start:
    """Somebody else's key, which nobody may touch. The case's own is issued in the story, since that may die too."""
    handed = issued.issue(hub, "api-key", BYSTANDER, {"scopes": "read"})
    value = handed.value.reveal()
    _use(hub, value)
    row = hub.store.read(lambda tx: tx.one(_ROWS + " WHERE version_id = ?", handed.version_id))
    strangers = frozenset(map(str, (row or ())[:_FIXED]))
    return Start(principal_name(case), strangers, handed.version_id, "", frozenset({value}))


def _use(hub: Keyturn, value: str) -> bool:
    """One call with a value, counted as the door counts it (a client's secret: as the token endpoint does); written
    before this returns."""
    ledger = issued.book(hub)
    try:
        found = ledger.look_up(ledger.roots.token_digest(value), address="192.0.2.7")
        ledger.note(found, address="192.0.2.7", agent="matrix")
        return found.accepted
    finally:
        ledger.close()


# -- who runs the hub, and who calls ------------------------------------------------------------------------------


class Issuer(Driver):
    """Issues, hands over, issues a second one, and waits until the first is gone; can begin anew after any crash."""

    def held(self) -> list[str]:
        """What the calling program was given, oldest first."""
        return list(self.memory().get("values", []))

    def go(self, check: Callable[[str], None] = lambda _: None) -> str:
        name, fault = principal_name(self.case), self.case.fault.name
        if fault == "late" and self.memory().get("began"):
            self.bench.clock.leap(self.bench.client, 1.1 * REVEAL_S)
        self._remember(began=True)
        if not self.held() and not self.memory().get("all_ended"):
            self._first(name)
        check("the first one is out")
        self._call()
        stopped = self._reissue(name, check)
        check("the second one is out")
        if fault == "taken_back" and not stopped:
            stopped = self._withdraw(name, check)
        if fault == "all_ended" and not stopped:
            self._remember(values=[], all_ended=True)
            self._order(name, None)
        return stopped or self._until_over(check)

    def _first(self, name: str) -> None:
        """The answer that showed it may have died with the hub: it can be looked at again for ten minutes."""
        kind = self.case.subject.kind
        try:
            known = find(self.hub, name)
        except NotFound:
            self._give(issued.issue(self.hub, kind, name, VALUES[kind]).value.reveal())
            return
        with suppress(Conflict):  # too late: only another one helps
            self._give(issued.reveal(self.hub, str(known.current_version_id)).reveal())

    def _give(self, value: str) -> None:
        memory = self.memory()
        kept = {"values": [*memory.get("values", []), value], "ever": [*memory.get("ever", []), value]}
        self._remember(**kept)

    def _call(self) -> None:
        """The program calls with what it has: with the newest, as `never_used` and `old_used` say also with an older."""
        held, fault = self.held(), self.case.fault.name
        first_at = self.memory().get("second_at")
        is_early = first_at is not None and self.bench.clock.now() < first_at + UNUSED_S
        if fault in {"never_used", "forced"} and len(held) > 1 and is_early:
            _use(self.hub, held[0])
            return
        if fault == "old_used":
            for value in held[:-1]:
                _use(self.hub, value)
        if held:
            _use(self.hub, held[-1])

    def _reissue(self, name: str, check: Callable[[str], None]) -> str:
        """Until a second value is in hand. Asked again by the same trigger it is the same run, not another one."""
        force, fault = self.case.fault.name == "forced", self.case.fault.name
        for _ in range(ROUNDS):
            if self.memory().get("second_at") is not None:
                return ""
            number = int(self.memory().get("tried", 0))
            try:
                trigger = f"{self.case.name} {number}"
                if self.case.subject.name == "recreated":
                    handed = issued.recreate(self.hub, name, trigger=trigger, wait_s=0)
                else:
                    handed = issued.reissue(self.hub, name, OVERLAP_S, force=force, trigger=trigger, wait_s=0)
                if fault == "late" and not number and not self.memory().get("looked_away"):
                    self._remember(looked_away=True)  # nobody writes the value down
                    self.bench.clock.leap(self.bench.client, 1.1 * REVEAL_S)
                    continue
                value = self._by_link(name) if self._is_told else handed.value.reveal()
                self._remember(second_at=self.bench.clock.now())
                self._give(value)
                return ""
            except NotDone as error:
                made = run_operations.get(self.hub, str(error.facts["run"]))
            if made.state in TERMINAL:
                self._remember(tried=number + 1)
            elif self._serves(made):
                stopped = self._end_slot(name, made, check)
                if stopped:
                    return stopped
            else:
                self._forward(made, check)
        return "no second one comes"

    @property
    def _is_told(self) -> bool:
        """Whether another party gets the value, and from a link alone."""
        return self.case.subject.name == "segment"

    def _by_link(self, name: str) -> str:
        """They open their link, put the value in place and say so; a link that died with the hub is made anew."""
        made = register.link(self.hub, name, "their team")
        code = made.code.reveal()
        value = register.open_link(self.hub, code).values["value"]
        register.acknowledge(self.hub, code)
        return value

    def _serves(self, made: Run) -> bool:
        return made.new_version_id is not None and (
            find(self.hub, principal_name(self.case)).current_version_id == made.new_version_id
        )

    def _end_slot(self, name: str, made: Run, check: Callable[[str], None]) -> str:
        """Nobody has the new value any more, or wants it: it is ended, which takes the rotation back."""
        gone = [*self.memory().get("withdrawn", []), made.new_version_id]
        self._remember(withdrawn=gone)
        slot = next(v.ref.slot for v in _versions(self.hub, name) if v.id == made.new_version_id)
        self._order(name, slot)
        return self._until_over(check)

    def _order(self, name: str, slot: str | None) -> None:
        """The end of a slot or of all, ordered again until it is on its way: the order may have died with the hub."""
        made = run_operations.recent(self.hub, name, 1)[0]
        if made.track is Track.ROLLBACK or made.goal is Goal.REVOKE:
            return
        issued.revoke(self.hub, name, slot)

    def _withdraw(self, name: str, check: Callable[[str], None]) -> str:
        """The program is told to go back to the first one; then the second is ended."""
        made = run_operations.recent(self.hub, name, 1)[0]
        if made.state in TERMINAL:
            return ""
        self._remember(values=self.memory()["ever"][:1])
        return self._end_slot(name, made, check)

    def _until_over(self, check: Callable[[str], None]) -> str:
        for _ in range(ROUNDS):
            made = run_operations.recent(self.hub, principal_name(self.case), 1)[0]
            if made.state in TERMINAL:
                return ""
            self._forward(made, check)
            self._call()
            check("between two calls")
        return f"no rest after {ROUNDS} rounds: {made.waiting_for}"

    def _forward(self, made: Run, check: Callable[[str], None]) -> None:
        wait = made.due_at - self.bench.clock.now()
        if wait > 0:
            if made.state is RunState.WAITING and "pick up" not in made.waiting_for:
                wait = max(wait, PATIENCE_S)
            self._leap(wait, check)
        Executor(self.hub.hub).advance(made.id)
        check("between two steps")

    def once_more(self) -> str:
        """Another one beside the one that is left, or instead of those that were ended."""
        self._remember(second_at=None, tried=100, all_ended=False)
        name = principal_name(self.case)
        stopped = self._reissue(name, lambda _: None)
        self._remember(second_at=0.0)  # used at once
        return stopped or self._until_over(lambda _: None)

    def tidy(self) -> None:
        """Ten minutes after the last value was shown, the sweep comes by."""
        self.bench.clock.leap(self.bench.client, 2 * REVEAL_S)
        hub = self.hub
        Sweep(hub.store, hub.secrets, self.bench.clock.now, hub.hub.worker, hub.hub.wake).destroy_due()


def _versions(hub: Keyturn, name: str) -> list[Version]:
    connection = find(hub, name)
    return hub.store.read(lambda tx: versions.of_connection(tx, connection.id))


# -- the reader -----------------------------------------------------------------------------------------------------

_ROWS = "SELECT version_id, connection_id, slot, hash, hint, created_at, state, ends_at, first_used_at FROM issued_secret"
_FIXED = 7  # columns that nothing but an end changes, the state included


# Where a value may lie, sealed, until it is seen: ten minutes for whoever asked, a day in an unopened link.
REVEAL, LINK = "reveal:", "pickup:"
SHOWING = (REVEAL, LINK)


def _shown(row: str, body: bytes) -> str:
    return str(json.loads(body)["value"]) if row.startswith(LINK) else body.decode()


@dataclass(frozen=True)
class Row:
    """One row of the book, as it is in the table."""

    version_id: str
    connection_id: str
    slot: str
    hash: str
    hint: str
    created_at: float
    state: str
    ends_at: float | None
    first_used_at: float | None

    def lets_in(self, now: float) -> bool:
        """Our own judgement of a row."""
        return self.state in _OPEN_STATES and (self.ends_at is None or now < self.ends_at)


@dataclass(frozen=True)
class BookSeen:
    """One instant. `shown` are the values that can still be looked at, `held` those the program has, `ever` all that
    anybody was ever given; `digests` maps values to what the book must hold of them."""

    case: Case
    start: Start
    now: float
    connection: Connection | None
    run: Run | None
    versions: tuple[Version, ...]
    lines: tuple[Line, ...]
    debts: tuple[Debt, ...]
    rows: tuple[Row, ...]
    others: tuple[Row, ...]
    sealed: Mapping[str, bytes]
    shown: tuple[str, ...]
    held: tuple[str, ...]
    ever: tuple[str, ...]
    withdrawn: tuple[str, ...]
    all_ended: bool
    digests: Mapping[str, str]

    @property
    def is_over(self) -> bool:
        """Whether the latest run has ended."""
        return self.run is not None and self.run.ended_at is not None

    def row_of(self, value: str) -> Row | None:
        """The row of a value."""
        return next((row for row in self.rows if row.hash == self.digests[value]), None)

    def lets_in(self, value: str) -> bool:
        """Whether the book lets a value in, by our own judgement."""
        row = self.row_of(value)
        return row is not None and row.lets_in(self.now)


@dataclass
class BookWatcher:
    """Looks at the tables; remembers what it opened and what was refused."""

    case: Case
    start: Start
    hub: Keyturn
    driver: Issuer
    secrets: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    person: tuple[str, ...] = ()

    def digest(self, value: str) -> str:
        """HMAC-SHA-256 under the hub's token key (HKDF-Expand of its root, one block)."""
        root = self.hub.secrets.get(ROOTS_IDENTITY)
        key = hmac.digest(root, b"keyturn/roots/1/token\x01", hashlib.sha256)
        return hmac.digest(key, value.encode(), hashlib.sha256).hex()

    def look(self) -> BookSeen:
        """This instant. Reads only."""
        hub, name, now = self.hub, self.start.name, self.driver.bench.clock.now()
        connection: Connection | None = None
        with suppress(NotFound):
            connection = find(hub, name)

        def work(tx: Tx) -> Any:
            table = [Row(*row) for row in tx.all(_ROWS)]
            every = tx.all("SELECT id, body, destroy_at FROM sealed")
            if connection is None:
                return None, [], [], [], table, every
            latest = runs.recent(tx, connection.id, 1)
            return (
                latest[0] if latest else None,
                versions.of_connection(tx, connection.id),
                journal.of_connection(tx, connection.id),
                debts.open_debts(tx, connection.id),
                table,
                every,
            )

        run, known, lines, owed, table, every = hub.store.read(work)
        sealed = {row: hub.secrets.keyring.open(bytes(body), row) for row, body, _ in every}
        shown = tuple(
            _shown(row, sealed[row])
            for row, _, until in every
            if row.startswith(SHOWING) and (until or 0) > now
        )
        memory = self.driver.memory()
        ever = tuple(memory.get("ever", []))
        self.secrets.update(shown, ever)
        mine = connection.id if connection else ""
        return BookSeen(
            self.case,
            self.start,
            now,
            connection,
            run,
            tuple(known),
            tuple(lines),
            tuple(owed),
            tuple(row for row in table if row.connection_id == mine),
            tuple(row for row in table if row.connection_id != mine),
            sealed,
            shown,
            tuple(memory.get("values", [])),
            ever,
            tuple(memory.get("withdrawn", [])),
            bool(memory.get("all_ended")),
            {value: self.digest(value) for value in (*shown, *ever)},
        )

    def instant(self, seen: BookSeen, *, full: bool = False) -> Iterable[tuple[str, str]]:
        """What must hold at any instant."""
        for name, check in INSTANT.items():
            yield name, check(seen)
        yield "I2", self._final(seen, product=full)

    def _final(self, seen: BookSeen, *, product: bool) -> str:
        """An ended one stays ended, and the product's own check judges as our reader does."""
        ledger = issued.book(self.hub)
        for value in seen.ever:
            lets_in = seen.lets_in(value)
            if lets_in and value in self.refused:
                return "a value that was refused is let in again"
            if not lets_in:
                self.refused.add(value)
            if product and ledger.look_up(seen.digests[value]).accepted != lets_in:
                return f"the book {'lets in' if lets_in else 'refuses'} what the product judges otherwise"
        return ""

    def answers(self, seen: BookSeen) -> Any:
        """There are no answers to be read later: what was shown is in `shown`."""

    def at_rest(self, answered: Any, seen: BookSeen, stopped: str) -> Iterable[tuple[str, str]]:
        """What must hold when all has come to rest."""
        yield "END", invariants.ends_well(seen, stopped)  # type: ignore[arg-type]
        yield "I1", _ends_known(seen)
        yield "I10", invariants.i10_chain_holds(seen)  # type: ignore[arg-type]
        self.driver.tidy()
        late = self.look()
        left = [row for row in late.sealed if row.startswith(SHOWING)]
        yield "I9", f"{len(left)} value(s) are kept after their ten minutes" if left else ""

    def ends_working(self, seen: BookSeen) -> str:
        """Only what the program has is let in."""
        return _ends_known(seen)

    def journal(self, seen: BookSeen) -> str:
        """For people."""
        lines = [
            f"{x.number:3} {x.run_id[-4:]} {x.step:10} {x.kind.value:8} {dict(x.facts)}" for x in seen.lines
        ]
        states = [f"version {v.number} {v.state.value} {v.id}" for v in seen.versions]
        return "\n".join([*lines, *states, *(json.dumps(row.__dict__) for row in seen.rows)])


# -- the invariants, in the sense they have where the hub itself is asked --------------------------------------------


def i1_known(seen: BookSeen) -> str:
    """Somebody has, or can still be shown, a value that is let in; at most one that is let in is unknown to all."""
    if seen.connection is None or seen.all_ended:
        return ""
    known = {seen.digests[value] for value in (*seen.shown, *seen.ever)}
    inside = [row for row in seen.rows if row.lets_in(seen.now)]
    unknown = [row.slot for row in inside if row.hash not in known]
    if len(unknown) > 1:
        return f"slots {', '.join(unknown)} hold secrets that nobody knows"
    if len(unknown) == len(inside) and seen.case.fault.name != "late":
        return "nobody knows a value that is let in"
    return ""


def i2_book_and_ledger(seen: BookSeen) -> str:
    """Whatever is let in has a version that says so; after the end that is the one that serves, or it is owed."""
    by_id = {version.id: version for version in seen.versions}
    current = seen.connection.current_version_id if seen.connection else None
    owed = {debt.version_id for debt in seen.debts}
    for row in seen.rows:
        version = next((v for key, v in by_id.items() if key == row.version_id), None)
        if version is None:
            return f"slot {row.slot} has a secret without a version"
        if not row.lets_in(seen.now) or version.id in owed:
            continue
        if version.state in _GONE:
            return f"slot {row.slot} is let in, its version is {version.state.value}"
        if seen.is_over and version.id != current:
            return f"slot {row.slot} is let in after the run, its version is {version.state.value}"
    return ""


def i3_proven(seen: BookSeen) -> str:
    """A switch follows an accepted test as the right account, and what is CURRENT is in the book."""
    if seen.connection is None:
        return ""
    wrong = invariants.switched_unproven(seen.lines, seen.connection.identity)
    if wrong:
        return wrong
    current = seen.connection.current_version_id
    if not any(row.version_id == current for row in seen.rows) and not (seen.all_ended and current is None):
        return "what is CURRENT is not in the book"
    return ""


def i4_never_too_early(seen: BookSeen) -> str:
    """A secret ends only by order, or after the overlap and (unless told so) the first use of its successor. A client
    that is made anew has no overlap: its plan says so, and the new one serves first."""
    anew = seen.case.subject.name == "recreated"
    flips = {x.facts["to"]: x.at for x in seen.lines if x.facts.get("decision") == "cutover"}
    for row in seen.rows:
        if row.state in _OPEN_STATES or row.version_id in seen.withdrawn or seen.all_ended:
            continue
        after = [r for r in seen.rows if r.created_at > row.created_at and r.version_id in flips]
        after = [r for r in after if r.version_id not in seen.withdrawn]
        if not after:
            return f"slot {row.slot} was ended and nothing follows it"
        if anew:
            continue
        if not any(flips[r.version_id] + OVERLAP_S <= seen.now for r in after):
            return f"slot {row.slot} was ended before its overlap was over"
        if seen.case.fault.name != "forced" and all(r.first_used_at is None for r in after):
            return f"slot {row.slot} was ended although its successor was never used"
    return ""


def i5_bystander(seen: BookSeen) -> str:
    """Somebody else's key is as it was."""
    mine = [row for row in seen.others if row.version_id == seen.start.serving]
    kept = {str(getattr(row, name)) for row in mine for name in list(Row.__annotations__)[:_FIXED]}
    if len(seen.others) != 1 or kept != set(seen.start.strangers):
        return "another credential's secret was changed"
    return ""


def i6_let_in(seen: BookSeen) -> str:
    """The program is let in with the newest value it was given; or its plan names the gap, and the next value can be had."""
    if not seen.held or seen.lets_in(seen.held[-1]):
        return ""
    plan = seen.run.plan if seen.run is not None else None
    is_named = plan is not None and plan.gap_class is GapClass.Z3 and any("gap" in w for w in plan.warnings)
    if is_named and any(seen.lets_in(value) for value in seen.shown):
        return ""
    return "the program is refused with the newest value it was given"


def i9_digests_only(seen: BookSeen) -> str:
    """Of a value, its version keeps the digest alone."""
    for row, body in seen.sealed.items():
        if not row.startswith(SHOWING) and any(v.encode() in body for v in (*seen.ever, *seen.shown)):
            return f"{row.partition(':')[0]} keeps the value itself"
    return ""


def i11_digest_is_whole(seen: BookSeen) -> str:
    """Every sealed version opens with the digest the book has, and what is shown is a value of that digest."""
    hashes = {row.version_id: row.hash for row in seen.rows}
    for version in seen.versions:
        body = seen.sealed.get(version_row(version.id))
        if body is None:
            if version.state not in _GONE:
                return f"version {version.number} ({version.state.value}) has nothing sealed"
            continue
        kept = Material.from_bytes(body).get("digest")
        if not kept or hashes.get(version.id, kept) != kept:
            return f"version {version.number} reads back with another digest than the book has"
    for row, body in seen.sealed.items():
        if row.startswith(REVEAL) and seen.digests.get(body.decode()) not in {None, row.partition(":")[2]}:
            return "a value is shown under another one's digest"
    return ""


INSTANT: Mapping[str, Callable[[BookSeen], str]] = {
    "I1": i1_known,
    "I2": i2_book_and_ledger,
    "I3": i3_proven,
    "I4": i4_never_too_early,
    "I5": i5_bystander,
    "I6": i6_let_in,
    "I8": invariants.i8_epochs_only_grow,  # type: ignore[dict-item]
    "I9": i9_digests_only,
    "I11": i11_digest_is_whole,
}


def _ends_known(seen: BookSeen) -> str:
    """At rest the program is let in, by its newest value, and by nothing that nobody knows."""
    inside = [row for row in seen.rows if row.lets_in(seen.now)]
    if seen.all_ended:
        is_marked = seen.connection is not None and seen.connection.state is ConnectionState.REVOKED
        return "" if is_marked and not inside else "everything was ended, and not all of it is"
    if len(inside) != 1 or not seen.held or inside[0].hash != seen.digests[seen.held[-1]]:
        return f"{len(inside)} secret(s) are let in, not only the one that the program has"
    return ""


def play(bench: Bench, hub: Keyturn, case: Case, folder: Path, start: Start) -> tuple[Issuer, BookWatcher]:
    """Who acts and who watches."""
    driver = Issuer(bench, hub, case, folder)
    return driver, BookWatcher(case, start, hub, driver, secrets=set(start.secrets))
