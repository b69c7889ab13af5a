"""What goes wrong on purpose, which calls it can hit, and how the armed faults of one principal are used up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

READS = frozenset({"login", "list", "review"})
MAKES = frozenset({"issue", "regenerate", "consent", "exchange"})
ENDS = frozenset({"clear", "delete", "revoke"})
CHANGES = MAKES | ENDS | frozenset({"set", "disable", "enable", "refresh", "drop"})
GROUPS = frozenset({"*", "read", "change"})


class Kind(StrEnum):
    """The faults. The names of the first five say whether the effect happened: what a caller cannot see."""

    ANSWER_LOST = "answer_lost"  # applied; the connection closes without a reply
    APPLIED_LATE = "applied_late"  # the connection closes now; applied `seconds` later, caller dead or not
    ERROR_NOT_APPLIED = "error_not_applied"  # a plain 503, nothing applied
    TIMEOUT_NOT_APPLIED = "timeout_not_applied"  # silence for `seconds`, then closed, nothing applied
    THROTTLE_STORM = "throttle_storm"  # `times` x 429 with `seconds` to wait, nothing applied
    LAG = "lag"  # for `seconds` the change shows neither at login nor in the inventory
    WRONG_IDENTITY = "wrong_identity"  # what is made, or who logs in, belongs to another account
    VALUE_REFUSED = "value_refused"  # the vendor's policy refuses the value
    REVOKE_TAKES_SIBLINGS = "revoke_takes_siblings"  # ending one ends all of the principal
    ACCEPT_EVERYTHING = "accept_everything"  # a login proves nothing
    CAP_REACHED = (
        "cap_reached"  # on arming, strangers fill every free place; they leave after `seconds` if given
    )
    LOCKOUT = "lockout"  # `max_failures` wrong logins lock the principal for `seconds` (0: for good)
    SECOND_CHANGE_IN_GRACE = "second_change_in_grace"  # old values live `seconds` more, unless changed again


TRANSPORT = frozenset(
    {
        Kind.ANSWER_LOST,
        Kind.APPLIED_LATE,
        Kind.ERROR_NOT_APPLIED,
        Kind.TIMEOUT_NOT_APPLIED,
        Kind.THROTTLE_STORM,
    }
)
STANDING = frozenset({Kind.CAP_REACHED, Kind.LOCKOUT, Kind.SECOND_CHANGE_IN_GRACE})
_REACH: Mapping[Kind, frozenset[str]] = {
    **dict.fromkeys(TRANSPORT, READS | CHANGES),
    Kind.APPLIED_LATE: CHANGES,
    Kind.LAG: CHANGES,
    Kind.WRONG_IDENTITY: MAKES | {"login"},
    Kind.VALUE_REFUSED: frozenset({"set"}),
    Kind.REVOKE_TAKES_SIBLINGS: ENDS,
    Kind.ACCEPT_EVERYTHING: frozenset({"login"}),
}

OPS: Mapping[str, frozenset[str]] = {
    "two_slots": frozenset({"login", "list", "set", "clear", "drop"}),
    "many_ids": frozenset({"login", "list", "issue", "disable", "enable", "delete", "drop"}),
    "named_slots": frozenset({"login", "list", "regenerate", "review", "clear", "drop"}),
    "one_slot": frozenset({"login", "set", "drop"}),
    "regenerate": frozenset({"login", "regenerate", "review", "drop"}),
    "supplied": frozenset({"login", "list", "issue", "disable", "enable", "delete"}),
    "grant": frozenset({"login", "consent", "exchange", "refresh", "revoke"}),
}


def faults_for(shape: str) -> tuple[tuple[str, str], ...]:
    """Every (op, kind) that can be armed on a principal of this shape; standing kinds have the op `*`."""
    pairs = [(op, kind.value) for kind, reach in _REACH.items() for op in sorted(OPS[shape] & reach)]
    pairs.append(("*", Kind.LOCKOUT.value))
    if shape in {"two_slots", "named_slots", "many_ids", "supplied"}:
        pairs.append(("*", Kind.CAP_REACHED.value))
    if OPS[shape] & {"set", "regenerate"}:
        pairs.append(("*", Kind.SECOND_CHANGE_IN_GRACE.value))
    return tuple(pairs)


@dataclass
class Fault:
    """One armed fault: hits `op` (or `read`, `change`, `*`) `times` times, for good when None; `by` is a prefix."""

    op: str
    kind: Kind
    times: int | None = 1
    seconds: float = 0.0
    by: str = ""
    max_failures: int = 3

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Fault":
        """Reads an `arm` request. Raises: ValueError on an unknown kind or op, or one the kind never hits."""
        kind = Kind(data["kind"])
        op = str(data.get("hits", "*"))
        times = data.get("times", None if kind is Kind.ACCEPT_EVERYTHING else 1)
        reach = _REACH.get(kind, frozenset())
        if kind not in STANDING and op not in GROUPS and op not in reach:
            raise ValueError(f"{kind} never hits {op}")
        return cls(
            op=op,
            kind=kind,
            times=None if times is None else int(times),
            seconds=float(data.get("seconds", 0.0)),
            by=str(data.get("only_by", "")),
            max_failures=int(data.get("max_failures", 3)),
        )

    def hits(self, op: str, by: str) -> bool:
        """Whether this call is meant."""
        if op not in _REACH[self.kind] or not by.startswith(self.by):
            return False
        group = {"*": True, "read": op in READS, "change": op in CHANGES}
        return group.get(self.op, self.op == op)


@dataclass
class Armed:
    """The faults armed on one principal, taken in the order they were armed."""

    faults: list[Fault] = field(default_factory=list)

    def take(self, op: str, by: str, kinds: frozenset[Kind]) -> Fault | None:
        """The first fault of these kinds that hits, used up by one."""
        for fault in self.faults:
            if fault.kind in kinds and fault.hits(op, by):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                return fault
        return None

    def twist(self, op: str, by: str) -> "Twist":
        """Takes everything that bends an effect which does happen."""
        if not self.faults:
            return _STRAIGHT
        lag = self.take(op, by, frozenset({Kind.LAG}))
        return Twist(
            lag_s=lag.seconds if lag else 0.0,
            foreign=self.take(op, by, frozenset({Kind.WRONG_IDENTITY})) is not None,
            refused=self.take(op, by, frozenset({Kind.VALUE_REFUSED})) is not None,
            siblings=self.take(op, by, frozenset({Kind.REVOKE_TAKES_SIBLINGS})) is not None,
            gullible=self.take(op, by, frozenset({Kind.ACCEPT_EVERYTHING})) is not None,
        )


@dataclass(frozen=True)
class Twist:
    """How one effect is bent."""

    lag_s: float = 0.0
    foreign: bool = False
    refused: bool = False
    siblings: bool = False
    gullible: bool = False


_STRAIGHT = Twist()
