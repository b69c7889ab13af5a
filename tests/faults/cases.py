"""What is tested: the subjects (strategy shapes and goals), the faults, the states each pair may end in, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.model.plan import Goal
from keyturn.model.run import RunState

# Long against what a machine takes to compute, free of charge because time leaps.
SETTLE_S, DEADLINE_S, APPLY_LAG_S = 30.0, 20.0, 20.0
LATE_S = 30.0  # after the caller's deadline, before deadline and apply lag
LEEWAY_S = 3600.0
GRACE_S = 7200.0


@dataclass(frozen=True)
class Subject:
    """One strategy shape with one goal. `stage` and `end` name the vendor's calls that bring and end a credential."""

    name: str
    method: str
    strategy: str
    stage: str
    end: str = ""
    goal: Goal = Goal.ROTATE
    options: Mapping[str, Any] = field(default_factory=dict)
    by_person: bool = False  # a person makes the calls at the vendor
    kind: str = ""  # S8: what the hub issues
    faults: frozenset[str] = (
        frozenset()
    )  # none but these, where another subject has the same steps; empty: all

    @property
    def sends_people(self) -> bool:
        """Whether a person ends the old one at the vendor, told to by the hub."""
        return self.by_person or self.goal is Goal.MIGRATE

    @property
    def ends_all(self) -> bool:
        """Whether nothing may be left: a farewell."""
        return self.goal in {Goal.DISCONNECT, Goal.REVOKE}

    @property
    def is_issued(self) -> bool:
        """S8: the hub is the vendor, see `issuing`."""
        return self.strategy == "S8"


_ANEW = frozenset({"none", "store_refuses.book", "store_refuses.book_lands"})
_BY_LINK = frozenset({"none", "never_used", "old_used"})
_BUCKET = frozenset({"none", "answer_lost.stage", "answer_lost.end", "cap_reached.for_good", "not_told"})
_GRANT: Mapping[str, Any] = {"leeway_s": LEEWAY_S, "access_ttl_s": 30 * 86400.0}
SUBJECTS: tuple[Subject, ...] = (
    Subject("two_slots", "two_slots", "S1", "set", "clear"),
    Subject("many_ids", "many_ids", "S2", "issue", "delete"),
    Subject("named_slots", "named_slots", "S3", "regenerate", "clear"),
    Subject("one_slot", "one_slot", "S4 admin", "set"),
    Subject("one_slot_self", "one_slot_self", "S4 self", "set"),
    Subject("regenerate", "regenerate", "S5 self", "regenerate"),
    Subject("regenerate_admin", "regenerate", "S5 admin", "regenerate", options={"admin": True}),
    Subject("regenerate_person", "regenerate_person", "S5 person", "regenerate", by_person=True),
    Subject("supplied", "supplied", "S6", "issue", "delete", by_person=True),
    Subject("grant", "grant", "S7", "exchange", "revoke", options=_GRANT),
    Subject("grant", "grant", "S7", "refresh", goal=Goal.REFRESH, options=_GRANT),
    Subject("issued", "access_key", "S8", "set", kind="api-key"),
    Subject("recreated", "m2m", "S8", "set", kind="m2m", faults=_ANEW),
    Subject("segment", "access_key", "S8", "set", kind="hub-segment", faults=_BY_LINK),
    Subject("bucket", "bucket", "S2", "issue", "delete", faults=_BUCKET),
    Subject("two_slots", "two_slots", "S1", "set", "clear", goal=Goal.CONTAIN),
    Subject("many_ids", "many_ids", "S2", "issue", "delete", goal=Goal.CONTAIN),
    Subject("grant", "grant", "S7", "exchange", "revoke", goal=Goal.CONTAIN, options=_GRANT),
    Subject("two_slots", "two_slots", "S1", "", "clear", goal=Goal.DISCONNECT),
    Subject("many_ids", "many_ids", "S2", "", "delete", goal=Goal.DISCONNECT),
    Subject("grant", "grant", "S7", "", "revoke", goal=Goal.DISCONNECT, options=_GRANT),
    Subject("two_slots", "two_slots", "S1", "", "clear", goal=Goal.REVOKE),
    Subject("many_ids", "many_ids", "S2", "", "delete", goal=Goal.REVOKE),
    Subject("grant", "grant", "S7", "", "revoke", goal=Goal.REVOKE, options=_GRANT),
    Subject("two_slots", "two_slots", "S1", "", goal=Goal.RECONNECT),
    Subject("many_ids", "many_ids", "S2", "", goal=Goal.RECONNECT),
    Subject("grant", "grant", "S7", "exchange", goal=Goal.RECONNECT, options=_GRANT),
    Subject("by_hand", "by_hand", "S6 to S2", "issue", goal=Goal.MIGRATE),
)
REGENERATED = frozenset({"regenerate", "regenerate_admin", "regenerate_person"})
ONE_SLOT = frozenset({"one_slot", "one_slot_self"}) | REGENERATED


@dataclass(frozen=True)
class Fault:
    """What is armed before the run starts. `where` is stage, end, read, change or * (a standing fault) at the vendor;
    person (what people do wrong), store (what our own database does wrong) and book (what happens to a credential that
    we issue ourselves) are not the vendor's."""

    name: str
    kind: str = ""
    where: str = "*"
    more: Mapping[str, Any] = field(default_factory=dict)
    what: str = ""

    def op(self, subject: Subject) -> str | None:
        """The vendor's call it hits; None: this subject has no such call."""
        return {"stage": subject.stage or None, "end": subject.end or None}.get(self.where, self.where)


def _three(name: str, kind: str, what: str, **more: Any) -> list[Fault]:
    return [Fault(f"{name}.{where}", kind, where, more, what) for where in ("stage", "end", "read")]


FAULTS: tuple[Fault, ...] = (
    Fault("none", what="nothing goes wrong but the kill"),
    *_three("answer_lost", "answer_lost", "applied, the answer is lost"),
    *_three("applied_late", "applied_late", "the connection breaks, the effect lands later", seconds=LATE_S)[
        :2
    ],
    *_three("error", "error_not_applied", "a 503, nothing applied"),
    *_three("timeout", "timeout_not_applied", "no answer, nothing applied"),
    Fault(
        "throttled.change", "throttle_storm", "change", {"times": 4, "seconds": 40.0}, "four 429 on changes"
    ),
    Fault("throttled.read", "throttle_storm", "read", {"times": 4, "seconds": 40.0}, "four 429 on reads"),
    *_three("lag", "lag", "the change shows later, within the settle time", seconds=SETTLE_S * 0.7)[:2],
    *_three("lag_long", "lag", "the change shows later than the card says", seconds=SETTLE_S * 3)[:2],
    Fault("wrong_identity.stage", "wrong_identity", "stage", what="the new one belongs to another account"),
    Fault(
        "wrong_identity.always",
        "wrong_identity",
        "stage",
        {"times": 99},
        "every new one belongs to another account",
    ),
    Fault("wrong_identity.login", "wrong_identity", "login", {"times": 1}, "one login shows another account"),
    Fault(
        "value_refused.once", "value_refused", "stage", {"times": 1}, "the value breaks the vendor's policy"
    ),
    Fault("value_refused.always", "value_refused", "stage", {"times": 99}, "no value is good enough"),
    Fault("cap_reached.for_good", "cap_reached", "*", what="strangers hold every free place"),
    Fault("cap_reached.an_hour", "cap_reached", "*", {"seconds": 3600.0}, "they leave after an hour"),
    Fault("siblings.end", "revoke_takes_siblings", "end", what="ending one ends all"),
    Fault(
        "lockout",
        "lag",
        "stage",
        {"seconds": SETTLE_S * 0.7},
        "five wrong logins lock the account, and reads lag",
    ),
    Fault(
        "grace",
        "second_change_in_grace",
        "*",
        {"seconds": GRACE_S},
        "second change inside the vendor's grace",
    ),
    Fault("gullible", "accept_everything", "login", what="a login proves nothing"),
    Fault(
        "siblings.after",
        "",
        "person",
        what="what serves is ended at the vendor before the old one is proven dead",
    ),
    Fault(
        "store_refuses.receipt",
        "",
        "store",
        what="our store refuses the commit that holds the vendor's answer",
    ),
    Fault("store_refuses.lands", "", "store", what="that commit lands, and our store says that it did not"),
    Fault(
        "store_refuses.book",
        "",
        "book",
        what="our store refuses the commit that opens the door for the new one",
    ),
    Fault(
        "store_refuses.book_lands", "", "book", what="that commit lands, and our store says that it did not"
    ),
    Fault("late", "", "book", what="nobody looks at a new value within its ten minutes"),
    Fault("never_used", "", "book", what="the new one is not used for a long time"),
    Fault("forced", "", "book", what="the same, and the old one's end was ordered all the same"),
    Fault("old_used", "", "book", what="the program goes on with the old one as long as it is let in"),
    Fault("taken_back", "", "book", what="the new one is ended by hand during the overlap"),
    Fault("all_ended", "", "book", what="both are ended by hand during the overlap"),
    Fault("wrong_paste", "", "person", what="the person pastes something else first"),
    Fault("denied", "", "person", what="the person refuses consent first"),
    Fault("fewer_rights", "", "person", what="the person consents to fewer rights first"),
    Fault("not_told", "", "person", what="nobody tells the other party, nor says that they did"),
)
_BY_NAME = {fault.name: fault for fault in FAULTS}

_PERSONS = {
    "bucket": frozenset({"not_told"}),
    "supplied": frozenset({"wrong_paste"}),
    "grant": frozenset({"denied", "fewer_rights"}),
    "regenerate": frozenset({"siblings.after"}),
    "regenerate_admin": frozenset({"siblings.after"}),
    "regenerate_person": frozenset({"siblings.after", "wrong_paste"}),
}


def applies(subject: Subject, fault: Fault) -> bool:
    """Whether the fault can happen to the subject at all."""
    name, goal, kind = subject.name, subject.goal, fault.kind
    if subject.faults and fault.name not in subject.faults:
        return False
    if subject.is_issued or fault.where == "book":
        return subject.is_issued and fault.where in {"book", "*"} and not kind
    if fault.where == "person":
        return goal is Goal.ROTATE and fault.name in _PERSONS.get(name, ())
    if fault.where == "store":
        return (
            goal in {Goal.ROTATE, Goal.REFRESH}
            and subject.stage in {"issue", "regenerate", "exchange", "refresh"}
            and not subject.by_person
        )
    if not kind:
        return True
    if goal not in {Goal.ROTATE, Goal.REFRESH} and not fault.name.startswith(("answer_lost", "error")):
        return False
    if goal is Goal.REVOKE and fault.name != "answer_lost.end":
        return False  # the steps of a disconnect, and another word at the end
    if fault.op(subject) is None:
        return False
    if kind == "value_refused":
        return subject.stage == "set"
    if kind == "cap_reached":
        return name in {"two_slots", "named_slots", "many_ids", "bucket"}
    if kind == "second_change_in_grace":
        return subject.stage in {"set", "regenerate"} and not subject.by_person
    if kind == "wrong_identity" and fault.where == "stage":
        return subject.stage in {"issue", "regenerate", "exchange"}
    if fault.name == "lockout":
        return name in {"two_slots", "supplied"}  # one_slot_self always locks
    if subject.by_person and fault.where in {"stage", "end"}:
        # A person sees their own screen: only what bends the effect reaches the hub.
        return kind in {"lag", "wrong_identity", "revoke_takes_siblings"}
    return not (subject.by_person and fault.where == "change")  # all changes are the person's


@dataclass(frozen=True)
class Case:
    """One subject, one fault, one place to die at: the k-th time it is reached. `never#0` dies nowhere."""

    subject: Subject
    fault: Fault
    place: str = "never"
    k: int = 0
    then: tuple[str, int] | None = None  # where the one who recovers dies too

    @property
    def group(self) -> str:
        """`subject/goal/fault`."""
        return f"{self.subject.name}/{self.subject.goal.value}/{self.fault.name}"

    @property
    def name(self) -> str:
        """What `--case` takes."""
        again = f"+{self.then[0]}#{self.then[1]}" if self.then else ""
        return f"{self.group}/{self.place}#{self.k}{again}"

    @classmethod
    def parse(cls, name: str) -> Case:
        """The inverse of `name`. Raises: LookupError, ValueError."""
        first, goal, fault, rest = name.split("/", 3)
        subject = next(s for s in SUBJECTS if (s.name, s.goal.value) == (first, goal))
        place, _, again = rest.partition("+")
        at, _, k = place.rpartition("#")
        then = again.rpartition("#")
        return cls(subject, _BY_NAME[fault], at, int(k), (then[0], int(then[2])) if again else None)


def pairs() -> Iterator[tuple[Subject, Fault]]:
    """Every subject with every fault that can happen to it."""
    for subject in SUBJECTS:
        for fault in FAULTS:
            if applies(subject, fault):
                yield subject, fault


# -- where a run may end, other than COMPLETE, and why -------------------------------------------------------------

_C, _CD = RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT
_AC, _AD = RunState.ABORTED_CLEAN, RunState.ABORTED_WITH_DEBT
_B, _L, _H = RunState.BLOCKED, RunState.LOST, RunState.WAITING_HUMAN


@dataclass(frozen=True)
class Ending:
    """States besides COMPLETE in which some subjects may rest under some faults, with the reason."""

    subjects: frozenset[str]
    faults: tuple[str, ...]  # prefixes
    states: frozenset[RunState]
    why: str

    def covers(self, case: Case) -> bool:
        """Whether it speaks of this case."""
        full = f"{case.subject.name}/{case.subject.goal.value}"
        named = not self.subjects or case.subject.name in self.subjects or full in self.subjects
        return named and case.fault.name.startswith(self.faults)


def _may(subjects: str, faults: str, states: set[RunState], why: str) -> Ending:
    return Ending(frozenset(subjects.split()), tuple(faults.split() or [""]), frozenset(states), why)


_ANYWHERE = ""
ENDINGS: tuple[Ending, ...] = (
    _may(
        "grant/rotate grant/contain grant/reconnect",
        _ANYWHERE,
        {_CD},
        "a consent whose answer died with us made a grant nobody can name: owed",
    ),
    _may("", "gullible", {_CD}, "where a login proves nothing, no death can be proven: owed"),
    _may(
        "one_slot_self",
        "gullible",
        {_B},
        "where a login proves nothing, an unanswered call cannot be resolved: blocked until it does",
    ),
    _may("", "lag_long", {_CD}, "slower than its card says: what still works or was turned down is owed"),
    _may(
        "two_slots many_ids named_slots",
        "lag_long.stage",
        {_AC, _AD},
        "refused after the settle time: taken back, the old one serves",
    ),
    _may(
        "",
        "siblings",
        {_CD},
        "the vendor ended what nobody asked it to end: another was made, the rest is owed",
    ),
    _may("bucket", "not_told", {_CD}, "that the other party was not told in time is owed"),
    _may(
        "two_slots many_ids named_slots bucket",
        "cap_reached.for_good",
        {_B},
        "no free place: blocked, and the strangers' ids are named",
    ),
    _may("many_ids", "wrong_identity", {_AC, _AD}, "made in another account: taken back, the old one serves"),
    _may(
        "named_slots",
        "wrong_identity",
        {_AC, _AD},
        "made in another account: the old one serves, what cannot be taken back is owed",
    ),
    _may(
        "regenerate regenerate_admin regenerate_person",
        "wrong_identity",
        {_CD, _L},
        "made in another account and the old one is dead: a person brought one, the foreign one is owed",
    ),
    _may(
        "grant supplied",
        "wrong_identity.always",
        {_AD},
        "the person gave up: the old one serves, the rest is owed",
    ),
    _may(
        "supplied",
        "wrong_identity.stage",
        {_CD},
        "what was brought and turned down is owed until proven dead",
    ),
    _may("supplied", "wrong_paste", {_CD}, "what was brought and turned down is owed until proven dead"),
    _may("issued", "taken_back", {_AC}, "the new one was ended by hand: the old one serves on"),
    _may(
        "", "value_refused.always", {_AC}, "no value is good enough: nothing was changed, the old one serves"
    ),
)


def may_end(case: Case) -> Mapping[RunState, str]:
    """Where the case may come to rest, with the reason for each state."""
    found: dict[RunState, str] = {_C: "done"}
    for ending in ENDINGS:
        if ending.covers(case):
            for state in ending.states:
                found.setdefault(state, ending.why)
    return found
