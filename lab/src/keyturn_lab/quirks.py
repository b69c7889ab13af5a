"""Switchable, seeded ways in which a vendor misbehaves; how they look over HTTP lives in `standin`."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ANY_OP = "*"
HOSTILE_LATENCY_S = (0.001, 0.005)


class Kind(StrEnum):
    """What goes wrong. The names say whether the effect happened, because that is what a caller cannot see."""

    ANSWER_LOST = "answer_lost"  # applied; the connection drops without a reply
    APPLIED_LATE = "applied_late"  # the connection drops now; applied `seconds` of lab time later
    ERROR_NOT_APPLIED = "error_not_applied"  # 500, nothing applied
    TIMEOUT_NOT_APPLIED = "timeout_not_applied"  # hangs `seconds`, drops, nothing applied
    THROTTLE = "throttle"  # 429 with the vendor's own headers, nothing applied
    SLOW = "slow"  # applied and answered, `seconds` late
    HTML_PAGE = "html_page"  # 200 with a page where JSON was due, nothing applied
    TRUNCATED = "truncated"  # applied; half of the body arrives
    REDIRECT_FOREIGN = "redirect_foreign"  # 302 to another host, nothing applied
    WRONG_IDENTITY = "wrong_identity"  # the vendor answers as somebody else
    REFUSE_VALUE = "refuse_value"  # the vendor's policy says no
    OVERSIZE = "oversize"  # applied; the body is far larger than any sane answer


@dataclass(frozen=True)
class Fault:
    """One armed misbehaviour: hits `op` (or every call, with `*`) `times` times, or for good when None."""

    op: str
    kind: Kind
    times: int | None = 1
    seconds: float = 0.0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Fault":
        """Read a fault as the admin endpoint receives it.

        Raises: ValueError on an unknown kind; KeyError when `op` or `kind` is absent.
        """
        times = data.get("times", 1)
        return cls(
            op=str(data["op"]),
            kind=Kind(data["kind"]),
            times=None if times is None else int(times),
            seconds=float(data.get("seconds", 0.0)),
        )


class Quirks:
    """The faults armed for one stand-in and its standing dials. Safe to share between threads.

    `settle_s`: a new credential is unknown for so long. `linger_s`: an ended one works for so long, as long as
    `settle_s` when None. `throttle_every_n`: every nth API call is throttled; 0 is never.
    """

    def __init__(self, seed: int = 1, *, settle_s: float = 0.0, linger_s: float | None = None) -> None:
        self._lock = threading.Lock()
        self._seed = seed
        self._defaults = (settle_s, linger_s)
        self.restore()

    def restore(self) -> None:
        """Return to the state after construction: no faults, default dials, the seed's first random number."""
        with self._lock:
            self._random = random.Random(self._seed)
            self._armed: list[tuple[Fault, list[int | None]]] = []
            self._calls = 0
            self.latency_s: tuple[float, float] = HOSTILE_LATENCY_S
            self.settle_s: float
            self.linger_s: float | None
            self.settle_s, self.linger_s = self._defaults
            self.throttle_every_n = 0

    def arm(self, fault: Fault) -> None:
        """Add a fault; those armed earlier are taken first."""
        with self._lock:
            self._armed.append((fault, [fault.times]))

    def clear(self) -> None:
        """Disarm every fault; the dials stay."""
        with self._lock:
            self._armed.clear()

    def take(self, op: str, *, wildcard: bool = True) -> Fault | None:
        """The fault that hits this call, used up by one; None when the call goes well."""
        with self._lock:
            for entry in self._armed:
                fault, left = entry
                if fault.op == op or (wildcard and fault.op == ANY_OP):
                    if left[0] is not None:
                        left[0] -= 1
                        if left[0] <= 0:
                            self._armed.remove(entry)
                    return fault
        return None

    def latency(self) -> float:
        """Seconds this call takes longer, drawn from the seed."""
        with self._lock:
            return self._random.uniform(*self.latency_s)

    def is_throttled(self) -> bool:
        """Count one API call and say whether the dial throttles it."""
        with self._lock:
            self._calls += 1
            return self.throttle_every_n > 0 and self._calls % self.throttle_every_n == 0

    def known_from(self, now: float) -> float:
        """When a credential made now starts to work."""
        return now + self.settle_s

    def dead_from(self, now: float) -> float:
        """When a credential ended now stops working."""
        return now + (self.settle_s if self.linger_s is None else self.linger_s)

    def dials(self) -> dict[str, Any]:
        """The dials as the admin endpoint shows them."""
        return {
            "latency_s": list(self.latency_s),
            "settle_s": self.settle_s,
            "linger_s": self.linger_s,
            "throttle_every_n": self.throttle_every_n,
        }

    def turn(self, changes: Mapping[str, Any]) -> None:
        """Set dials by name.

        Raises: ValueError on an unknown dial or a value that is no number; nothing is changed then.
        """
        unknown = set(changes) - set(self.dials())
        if unknown:
            raise ValueError(f"no such dial: {', '.join(sorted(unknown))}")
        parsed: dict[str, Any] = {}
        for name, value in changes.items():
            if name == "latency_s":
                low, high = value if isinstance(value, list | tuple) else (value, value)
                parsed[name] = (float(low), float(high))
            elif name == "throttle_every_n":
                parsed[name] = int(value)
            elif name == "linger_s" and value is None:
                parsed[name] = None
            else:
                parsed[name] = float(value)
        with self._lock:
            for name, value in parsed.items():
                setattr(self, name, value)
