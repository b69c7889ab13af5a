"""The thirteen invariants of semantics section 17, each a function from what was seen to what is wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from keyturn import boundary
from keyturn.errors import CallInsideTransaction, Conflict
from keyturn.model.card import Proof
from keyturn.model.credential import ConnectionState, State, Version
from keyturn.model.plan import Goal
from keyturn.model.run import Line, LineKind, Run, RunState, TaskState
from keyturn.model.secret import Material
from keyturn.model.verdict import mismatch
from keyturn.operations import leases
from keyturn.storage import journal
from keyturn_lab.vendors.shapes.principal import fingerprint
from tests.faults.cases import ONE_SLOT, REGENERATED, Case, may_end
from tests.faults.seen import Seen, Watcher, at_place, is_it

ENDINGS = frozenset({Goal.DISCONNECT, Goal.REVOKE})
WAITS = frozenset({RunState.BLOCKED, RunState.LOST, RunState.WAITING_HUMAN})
_ASKED = frozenset({TaskState.OPEN, TaskState.CLAIMED, TaskState.RETURNED, TaskState.SUBMITTED})
_ENDS = frozenset({"clear", "delete", "revoke", "disable"})
_MAKES = frozenset({"set", "regenerate", "issue", "exchange", "refresh"})


@dataclass(frozen=True)
class Excuse:
    """What the semantics allow, in words; `where` are prefixes of `subject/goal/fault`, empty parts match all."""

    invariant: str
    subjects: frozenset[str]
    faults: tuple[str, ...]
    why: str

    def covers(self, case: Case) -> bool:
        """Whether it speaks of this case."""
        return (not self.subjects or case.subject.name in self.subjects) and case.fault.name.startswith(
            self.faults
        )


EXCUSES: tuple[Excuse, ...] = (
    Excuse(
        "I1",
        frozenset({"regenerate"}),
        ("",),
        "S5 without an administrator: the old value signs the call that ends it, so a lost answer loses both "
        "(semantics 19.5); excused only while the run has not ended, and it must then ask for a person in words",
    ),
    Excuse(
        "I1",
        frozenset({"regenerate_person"}),
        ("wrong_identity",),
        "S5 by a person who reset the wrong account as well: the old one is dead and they are asked again; excused "
        "only while the run has not ended",
    ),
    Excuse(
        "I1",
        frozenset(),
        ("siblings",),
        "the vendor ended what nobody asked it to end; excused only while the run has not ended",
    ),
    Excuse(
        "I2",
        frozenset(),
        ("wrong_identity", "lag_long.stage"),
        "made in another account, or shown later than the card says, and the answer lost with the process: "
        "no inventory of ours showed it; the weekly look at the inventory finds the latter",
    ),
    Excuse("I6", frozenset({"regenerate", "regenerate_admin"}), ("",), "class Z2: a gap until the cut-over"),
    Excuse(
        "I6", frozenset(), ("siblings",), "the vendor ended what serves; excused while the run has not ended"
    ),
)


def excuse(invariant: str, case: Case) -> str:
    """The reason why the invariant may be broken for a while in this case; empty when it may not."""
    return next((e.why for e in EXCUSES if e.invariant == invariant and e.covers(case)), "")


# -- at every instant ----------------------------------------------------------------------------------------------


def i1_never_lost(seen: Seen) -> str:
    """P1: a credential that works is sealed, or an already-sent call will bring one, or the vendor can be asked again."""
    if not seen.should_work:
        return ""
    held = [
        body
        for row, body in seen.sealed.items()
        if row.startswith(("version:", "receipt:", "task:", "spool:"))
    ]
    tokens = [t for body in held if (t := _refresh_token(body))]
    for each in seen.ours:
        works = each["usable"] or (not each["ended"] and each["active"])
        if each["identity"]["principal"] != seen.start.name:
            continue
        if seen.case.subject.name == "grant":
            kept = any(token in each["values"] for token in tokens)
        else:
            kept = any(each["value"].encode() in body for body in held)
        if works and (kept or _asked_for(seen, each)):
            return ""
    if seen.late and any(v.state is State.REQUESTED for v in seen.versions):
        return ""
    if not seen.is_over and (seen.has_admin or excuse("I1", seen.case)):
        return ""
    return f"nothing that works is sealed and nobody can be asked; alive: {[c['id'] for c in seen.ours]}"


def _asked_for(seen: Seen, each: Mapping[str, Any]) -> bool:
    """Whether the person who holds it has been asked for it and can still answer, or will be asked again when what they
    pasted is refused: S5 by a person begins that way."""
    is_asked = any(task.kind == "supply" and task.state in _ASKED for task in seen.tasks)
    return is_asked and not seen.is_over and each["value"] in seen.person


def _refresh_token(body: bytes) -> str:
    try:
        data = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(data, dict):
        return ""
    inner = data.get("parts") or data.get("result") or {}
    return str(inner.get("refresh_token", "")) if isinstance(inner, dict) else ""


def i2_never_forgotten(seen: Seen) -> str:
    """P4: everything alive at the vendor is in the ledger or owed; after the end it is CURRENT, leaving, or owed."""
    for each in seen.ours:
        if _unsubmitted(seen, each) or _owed(seen, each):
            continue
        version = seen.version_of(each)
        if each["ended"] and (version is None or _is_dead_enough(seen, version)):
            continue  # ended by us; what lingers is the vendor's own grace or lag, and nobody can use or see it
        if version is None:
            if not excuse("I2", seen.case) and not _may_come_from_open_call(seen, each):
                return f"{each['id']} lives at the vendor (made by {each['by']}) and nobody remembers it"
        elif version.state is State.DEAD and not each["ended"]:
            return f"{each['id']} is called dead (version {version.number}) and lives"
        elif seen.is_over and version.id != seen.connection.current_version_id:
            return f"{each['id']} lives after the run, version {version.number} is {version.state.value}, nobody owes it"
    return ""


def _is_dead_enough(seen: Seen, version: Version) -> bool:
    """Called dead to the grade that the card gives, where a login with the old value would hurt the account."""
    return version.state is State.DEAD and seen.card.proof in {Proof.D0, Proof.D1}


def _unsubmitted(seen: Seen, each: Mapping[str, Any]) -> bool:
    """A key that the person holds is theirs to remember until they handed it over and it was looked at."""
    if each["by"] != "person":
        return False
    value = str(each["value"]).encode()
    handed = any(value in body for row, body in seen.sealed.items() if row.startswith("task:"))
    return each["value"] in seen.person or (handed and not seen.is_over)


def _owed(seen: Seen, each: Mapping[str, Any]) -> bool:
    for debt in seen.debts:
        places = [debt.facts.get("ref") or {}, *(debt.facts.get("refs") or [])]
        if any(place and at_place(place, each) for place in places):
            return True
        if debt.kind in {"unknown_grant", "orphan_unknown"} and each["by"] == "hub":
            return True  # by its nature it cannot be named
    return False


def _may_come_from_open_call(seen: Seen, each: Mapping[str, Any]) -> bool:
    """A call whose INTENT is durable and whose outcome is not known, in a run that goes on to find it out."""
    if seen.is_over or seen.run is None or each["by"] != "hub":
        return False
    unknown = 0
    for line in seen.lines:
        if line.run_id != seen.run.id or line.step != "stage":
            continue
        if line.kind is LineKind.INTENT:
            unknown += 1
        elif line.kind is LineKind.OUTCOME and line.facts.get("outcome") == "not_applied":
            unknown -= 1
    return unknown > 0


def i3_never_switched_unproven(seen: Seen) -> str:
    """P2: before a version became CURRENT, a fresh test was ACCEPTED with the pinned identity, by our word and theirs."""
    wrong = switched_unproven(seen.lines, seen.connection.identity)
    if wrong:
        return wrong
    current = seen.current()
    material = seen.material(current) if current else None
    if current is None or material is None or current.number == 1:
        return ""
    print_ = fingerprint(material.get("access_token") or material["secret"])
    tested = [
        x
        for x in seen.logins
        if x["fingerprint"] == print_ and x["by"] == "hub" and x["verdict"] == "accepted"
    ]
    if not tested or tested[0]["at"] > current.changed_at:
        return f"the vendor saw no accepted login with version {current.number} before it was CURRENT"
    return ""


def switched_unproven(lines: Iterable[Line], pinned: Mapping[str, str]) -> str:
    """The first switch in a journal that no accepted test as the right account precedes."""
    proof: Mapping[str, Any] | None = None
    for line in lines:
        decision = line.facts.get("decision")
        if line.kind is LineKind.OBSERVED and line.facts.get("what") == "new":
            proof = line.facts
        elif line.kind is LineKind.INTENT and line.step in {"stage", "refresh"}:
            proof = None
        elif decision == "cutover":
            wrong = mismatch(pinned, (proof or {}).get("identity", {}))
            if proof is None or proof.get("verdict") != "accepted" or wrong:
                return f"line {line.number} switches to {line.facts.get('to')} without a proof"
            proof = None
    return ""


def i4_never_killed_early(seen: Seen) -> str:
    """P3: what served is not disabled, ended or overwritten before its successor is durably CURRENT."""
    if seen.case.subject.ends_all:
        return _ended_while_held(seen)
    flips = [x.at for x in seen.lines if x.facts.get("decision") == "cutover" and x.run_id == _id(seen.run)]
    for entry in seen.history:
        if not entry["changed"] or entry.get("collateral") or not _by_order(entry["by"], seen):
            continue
        ends = entry["op"] in _ENDS and entry["id"] == seen.start.serving
        writes = entry["op"] in _MAKES and entry.get("replaced") == seen.start.serving
        if (ends or (writes and seen.case.subject.name not in ONE_SLOT)) and not any(
            at <= entry["at"] for at in flips
        ):
            return f"{entry['op']} ended {entry['id']}, which served, before a successor did"
    return ""


def _ended_while_held(seen: Seen) -> str:
    """A farewell ends what serves, but only after the gate was looked at and found open."""
    opened = [x.at for x in seen.lines if x.facts.get("what") == "gate" and x.run_id == _id(seen.run)]
    for entry in seen.history:
        ends = entry["op"] in _ENDS and entry["changed"] and entry["id"] == seen.start.serving
        if ends and not any(at <= entry["at"] for at in opened):
            return f"{entry['op']} ended {entry['id']} before anybody looked whether it is in use"
    return ""


def _by_order(by: str, seen: Seen) -> bool:
    """By the hub itself, or by the person it sent."""
    return str(by).startswith("hub") or (by == "person" and seen.case.subject.sends_people)


def _id(run: Run | None) -> str:
    return run.id if run else ""


def i5_never_touched_if_not_ours(seen: Seen) -> str:
    """P5: no call changes a credential of somebody else."""
    foreign = seen.start.strangers | {c["id"] for c in seen.alive if c["by"] == "stranger"}
    for entry in seen.history:
        touched = {entry["id"], entry.get("replaced", "")} & foreign
        if (
            touched
            and entry["changed"]
            and entry["by"] not in {"stranger", "setup"}
            and not entry.get("collateral")
        ):
            return f"{entry['op']} by {entry['by']} touched {', '.join(touched)}, which is not ours"
    return ""


def i6_consumers_work(watcher: Watcher, seen: Seen) -> str:
    """Who resolves at use time is let in at once (Z0), or at the second value (Z1)."""
    if not seen.should_work:
        return ""
    try:
        held = leases.resolve(watcher.hub, watcher.start.name)
    except Conflict as error:
        if error.facts.get("paused") and not seen.is_over and seen.case.subject.name in REGENERATED:
            return ""  # class Z2: told to wait instead of being handed a value that is refused
        return f"nothing is served: {error.message}"
    values = [_value(held.material)]
    if seen.card.gap_class.value != "Z0" and held.other is not None:
        values.append(_value(held.other))
    if any(watcher.accepts(value) for value in values):
        return ""
    if not seen.is_over and excuse("I6", seen.case):
        return ""
    return f"a consumer with version {held.version.number} is refused ({len(values)} value(s) tried)"


def _value(material: Material) -> str:
    return material.get("access_token") or material["secret"]


def i7_never_locked_out(seen: Seen) -> str:
    """Our failed logins stay below what locks the account."""
    lockout = seen.card.lockout
    if lockout is None:
        return ""
    ours = [x["at"] for x in seen.logins if x["counted"] and str(x["by"]).startswith("hub")]
    most = max((sum(at - lockout.window_s < x <= at for x in ours) for at in ours), default=0)
    if seen.locked or most >= lockout.max_failures:
        return f"{most} failed logins of {lockout.max_failures}" + (
            ", the account is locked" if seen.locked else ""
        )
    return ""


def i8_epochs_only_grow(seen: Seen) -> str:
    """A line of an older lease never follows one of a newer."""
    highest = 0
    for line in seen.lines:
        if line.epoch and line.epoch < highest:
            return f"line {line.number} has epoch {line.epoch} after {highest}"
        highest = max(highest, line.epoch)
    return ""


def i10_chain_holds(seen: Seen) -> str:
    """The journal verifies, and any edited line is found."""
    lines = list(seen.lines)
    broken = journal.verify(lines)
    if broken is not None:
        return f"the chain breaks at line {broken}"
    for at in {0, len(lines) // 2, len(lines) - 1}:
        for edited in _edits(lines[at]):
            found = journal.verify([*lines[:at], edited, *lines[at + 1 :]])
            if found != at + 1:
                return f"an edit of line {at + 1} is found at {found}"
    if len(lines) > 2 and journal.verify([*lines[:1], *lines[2:]]) != 2:
        return "a line was taken out and nobody noticed"
    return ""


def _edits(line: Line) -> Iterable[Line]:
    yield replace(line, facts={**line.facts, "edited": True})
    yield replace(line, at=line.at + 1e-6)
    yield replace(line, epoch=line.epoch + 1)
    yield replace(line, kind=LineKind.OBSERVED if line.kind is not LineKind.OBSERVED else LineKind.DECISION)


_PARTS: Mapping[str, tuple[str, ...]] = {
    "grant": ("grant_id", "access_token", "refresh_token"),
    "many_ids": ("key_id", "secret"),
    "bucket": ("key_id", "secret"),
    "supplied": ("key_id", "secret"),
    "by_hand": ("key_id", "secret"),
}


def i11_reads_back_whole(seen: Seen) -> str:
    """Every sealed candidate opens with every part it was made of, and with the vendor's value."""
    wanted = _PARTS.get(seen.case.subject.method, ("slot", "secret"))
    for version in seen.versions:
        material = seen.material(version)
        if material is None:
            if version.state not in {State.DEAD, State.REFUSED}:
                return f"version {version.number} ({version.state.value}) has no sealed value"
            continue
        missing = [name for name in wanted if not material.get(name)]
        if missing:
            return f"version {version.number} reads back without {', '.join(missing)}"
        for each in seen.ours:
            if is_it(version, each) and "secret" in wanted and material["secret"] != each["value"]:
                return f"version {version.number} reads back with another value than {each['id']} has"
    return ""


INSTANT: Mapping[str, Callable[[Seen], str]] = {
    "I1": i1_never_lost,
    "I2": i2_never_forgotten,
    "I3": i3_never_switched_unproven,
    "I4": i4_never_killed_early,
    "I5": i5_never_touched_if_not_ours,
    "I7": i7_never_locked_out,
    "I8": i8_epochs_only_grow,
    "I11": i11_reads_back_whole,
}


# -- of the whole case ---------------------------------------------------------------------------------------------


def i1_ends_working(watcher: Watcher, seen: Seen) -> str:
    """At COMPLETE the current version's value is accepted."""
    if seen.run is None or seen.run.state not in {RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT}:
        return ""
    if seen.run.goal in ENDINGS:
        left = [each["id"] for each in seen.ours if each["usable"] and not _owed(seen, each)]
        is_marked = seen.connection.state in {ConnectionState.DISCONNECTED, ConnectionState.REVOKED}
        if left or not is_marked or seen.current() is not None:
            return f"the connection is {seen.connection.state.value} and {', '.join(left) or 'something'} is left"
        return ""
    current = seen.current()
    material = seen.material(current) if current else None
    if material is None or not watcher.accepts(_value(material)):
        return "the run is complete and the current value is refused"
    if seen.case.subject.name == "grant" and not any(
        material["refresh_token"] in c["values"] for c in seen.ours
    ):
        return "the run is complete and the current refresh token is spent"
    return ""


def in_receipts(seen: Seen) -> list[Mapping[str, Any]]:
    """What lives, is known only from a sealed answer that nobody has read yet, and must not be lost any more."""
    answers = [body for row, body in seen.sealed.items() if row.startswith(("receipt:", "spool:"))]
    return [
        each
        for each in seen.ours
        if seen.version_of(each) is None and any(each["value"].encode() in body for body in answers)
    ]


def i1_receipts_are_read(sealed: Iterable[Mapping[str, Any]], seen: Seen) -> str:
    """A value whose answer was sealed before the crash becomes a version: nobody is asked for another one."""
    lost = [each["id"] for each in sealed if not any(is_it(version, each) for version in seen.versions)]
    return f"{', '.join(lost)} was in a sealed answer and is not used" if lost else ""


def at_rest(
    watcher: Watcher, answered: Iterable[Mapping[str, Any]], seen: Seen, stopped: str
) -> Iterable[tuple[str, str]]:
    """What must hold when the case has come to rest; `answered` is what `in_receipts` found at the crash."""
    yield "END", ends_well(seen, stopped)
    yield "I1", i1_ends_working(watcher, seen)
    yield "I1", i1_receipts_are_read(answered, seen)
    yield "I10", i10_chain_holds(seen)


def instant(watcher: Watcher, seen: Seen, *, full: bool) -> Iterable[tuple[str, str]]:
    """What must hold at any instant; what reads all of the journal only if `full`."""
    for name, check in INSTANT.items():
        if full or name not in {"I3", "I8", "I11"}:
            yield name, check(seen)
    yield "I6", i6_consumers_work(watcher, seen)


def i9_no_secret_in_clear(secrets: Iterable[str], files: Mapping[str, bytes]) -> str:
    """P8: no value, in any of its encodings, in the database, its log, the spool, or anything printed."""
    for secret in secrets:
        for how, needle in _encodings(secret):
            for name, data in files.items():
                if needle in data:
                    return f"{name} holds a secret ({how})"
    return ""


def _encodings(secret: str) -> Iterable[tuple[str, bytes]]:
    raw = secret.encode()
    found = {
        "plain": raw,
        "url-encoded": quote(secret, safe="").encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "json-escaped": json.dumps(json.dumps(secret))[3:-3].encode(),
    }
    for shift in range(3):  # wherever it begins inside a longer base64 text
        text = base64.b64encode(b"\0" * shift + raw)
        found[f"base64+{shift}"] = text[(0, 2, 3)[shift] : -4]
        found[f"urlsafe+{shift}"] = found[f"base64+{shift}"].translate(bytes.maketrans(b"+/", b"-_"))
    return found.items()


def i13_no_call_inside_transaction() -> str:
    """Called from inside a transaction: bytes must not leave."""
    try:
        boundary.leaving("a vendor, from inside a transaction")
    except CallInsideTransaction:
        return ""
    return "a network call inside a transaction was let through"


def ends_well(seen: Seen, stopped: str) -> str:
    """The run rests in a state that this subject and fault may end in, and a waiting one says what is needed."""
    if stopped:
        return stopped
    run = seen.run
    if run is None:
        return "there is no run"
    allowed = may_end(seen.case)
    if run.state not in allowed:
        said = run.waiting_for or run.outcome
        return f"ends {run.state.value} ({said}); expected {', '.join(sorted(s.value for s in allowed))}"
    if run.state in WAITS and not run.waiting_for.strip():
        return f"waits as {run.state.value} without a word"
    return ""


TITLES: Mapping[str, str] = {
    "I1": "a working credential is sealed, or on its way, or can be asked for again (P1)",
    "I2": "what lives at the vendor is in the ledger or owed (P4)",
    "I3": "nothing is CURRENT without an accepted test as the right account before (P2)",
    "I4": "nothing is ended before its successor serves (P3)",
    "I5": "nothing of somebody else is touched (P5)",
    "I6": "a consumer that resolves at use time is let in: Z0 at once, Z1 at the second value",
    "I7": "failed logins stay below what locks the account",
    "I8": "epochs never decrease; two workers have one set of effects",
    "I9": "no secret in database, log, spool or output, in any encoding (P8)",
    "I10": "the journal's chain holds and any edit is found",
    "I11": "every sealed value reads back whole",
    "I12": "two refreshes (or rotations) in a row work",
    "I13": "a network call inside a transaction raises",
    "END": "every run rests in an expected state, in words (P6, P7)",
}


def is_refresh(case: Case) -> bool:
    """Whether the case is about the grant's own refresh."""
    return case.subject.goal is Goal.REFRESH


def newest(versions: Iterable[Version]) -> Version | None:
    """The version made last."""
    return max(versions, key=lambda v: v.number, default=None)
