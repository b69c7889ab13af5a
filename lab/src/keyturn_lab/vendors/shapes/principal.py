"""What the vendor remembers of one principal: its credentials, who touched them, and its failed logins."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .faults import OPS, Armed, Twist

SLOTS: Mapping[str, tuple[str, ...]] = {
    "two_slots": ("a", "b"),
    "named_slots": ("k1", "k2"),
    "one_slot": ("password",),
    "regenerate": ("key",),
}


class No(Exception):
    """The vendor's refusal; nothing was changed. `facts` go into the reply."""

    def __init__(self, error: str, status: int, **facts: Any) -> None:
        super().__init__(error)
        self.reply = {"ok": False, "error": error, "status": status, **facts}


def fingerprint(value: str) -> str:
    """What the vendor shows in public of a value."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Options:
    """What a test chooses at `create`; durations in seconds. Each is read by the shapes it says, ignored by others."""

    tenant: str = "acme"
    rights: tuple[str, ...] = ("read", "write")
    initial: bool = True  # a first credential exists
    initial_value: str = ""  # two_slots, one_slot: its value, where the test made it
    strangers: int | None = None  # foreign credentials in the inventory; None: one for many_ids and supplied
    admin: bool | None = None  # a separate administrator credential; None: for one_slot only
    lockout: Mapping[str, float] | None = None  # max_failures, window_s, seconds
    grace_s: float = 0.0  # set, regenerate: how long the old value still works
    cap: int = 5  # many_ids, supplied; 0: no cap
    reviewable: bool = False  # named_slots, regenerate: the value can be read again
    standby: bool = False  # named_slots: the idle slot holds a value nobody kept
    remembers: bool = False  # set: a value used before is refused (password history)
    leeway_s: float = 1.0  # grant: how long a spent refresh token still works
    access_ttl_s: float = 3600.0  # grant
    revoke_scope: str = "credential"  # grant: credential | grant
    rotates: bool = True  # grant: each refresh gives a new refresh token
    new_kills_old: bool = False  # grant: an exchange ends earlier grants
    reuse_kills: bool = False  # grant: a refresh token or a code used again too late ends its grant

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Options":
        """Raises: ValueError on an unknown name."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"no such option: {', '.join(sorted(unknown))}")
        chosen: dict[str, Any] = {k: tuple(v) if k == "rights" else v for k, v in data.items()}
        return cls(**chosen)


@dataclass
class Token:
    """One token of a grant. A refresh token that was used is spent, and `until` is the end of its leeway."""

    kind: str  # access | refresh
    from_at: float
    until: float = math.inf
    is_spent: bool = False


@dataclass
class Credential:
    """One credential. `ended_at` is the truth; the other edges are what logins and the inventory show, which may lag."""

    id: str
    value: str
    by: str
    created_at: float
    identity: tuple[str, str]
    rights: tuple[str, ...]
    slot: str = ""
    label: str = ""
    is_foreign: bool = False
    shows_at: float = 0.0  # accepted and listed from here on
    ended_at: float | None = None
    usable_until: float = math.inf
    listed_until: float = math.inf
    is_enabled: bool = True
    switched_at: float = 0.0
    last_used_at: float | None = None
    tokens: dict[str, Token] = field(default_factory=dict)

    def is_on(self, now: float) -> bool:
        """Whether the off switch, as far as it has taken effect, leaves it on."""
        return self.is_enabled if now >= self.switched_at else not self.is_enabled

    def is_usable(self, now: float) -> bool:
        """Whether a login with it would pass at `now`, a locked principal aside."""
        return self.shows_at <= now < self.usable_until and self.is_on(now)

    def is_listed(self, now: float) -> bool:
        """Whether the inventory shows it."""
        return not self.is_foreign and self.shows_at <= now < self.listed_until

    def accepts(self, value: str, now: float) -> bool:
        """Whether this value logs in."""
        if not self.tokens:
            return self.value == value and self.is_usable(now)
        token = self.tokens.get(value)
        return (
            token is not None
            and token.kind == "access"
            and token.from_at <= now < token.until
            and self.is_usable(now)
        )

    def public(self) -> dict[str, Any]:
        """The inventory's line."""
        return {
            "id": self.id,
            "slot": self.slot,
            "fingerprint": "" if self.tokens else fingerprint(self.value),
            "label": self.label,
            "active": self.is_enabled,
            "created_at": self.created_at,
            "last_used_at": self.last_used_at,
        }

    def for_oracle(self, now: float) -> dict[str, Any]:
        """Everything, the value included."""
        live = [v for v, t in self.tokens.items() if now < t.until] if self.tokens else [self.value]
        return {
            **self.public(),
            "value": self.value,
            "values": live,
            "usable": self.is_usable(now),
            "ended": self.ended_at is not None,
            "listed": self.is_listed(now),
            "by": self.by,
            "identity": {"principal": self.identity[0], "tenant": self.identity[1]},
        }


@dataclass
class Principal:
    """One remote identity of one shape, made for one test."""

    name: str
    shape: str
    options: Options
    armed: Armed = field(default_factory=Armed)
    credentials: list[Credential] = field(default_factory=list)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    admin: str = ""
    is_dropped: bool = False
    grace_s: float = 0.0
    lockout: Mapping[str, float] | None = None
    failures: list[float] = field(default_factory=list)
    locked_until: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    logins: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of its slots; empty where the vendor numbers credentials."""
        return SLOTS.get(self.shape, ())

    def offers(self, op: str, by: str) -> bool:
        """Whether this shape has the call at all; a person can delete anything on the vendor's pages."""
        if op == "review":
            return op in OPS[self.shape] and self.options.reviewable
        return op in OPS[self.shape] or (op == "delete" and by == "person")

    def living(self) -> Iterator[Credential]:
        """The credentials that were not ended."""
        return (c for c in self.credentials if c.ended_at is None)

    def occupant(self, slot: str) -> Credential | None:
        """What truly sits in the slot. Raises: No when there is no such slot."""
        if slot not in self.slots:
            raise No("not_found", 404, what="slot")
        return next((c for c in self.living() if c.slot == slot and not c.is_foreign), None)

    def add(self, value: str, by: str, now: float, twist: Twist, **more: Any) -> Credential:
        """Makes a credential; its effect is not yet noted."""
        identity = (f"{self.name}-other", "globex") if twist.foreign else (self.name, self.options.tenant)
        made = Credential(
            **{
                "id": f"{self.name}.{len(self.credentials) + 1}",
                "rights": self.options.rights,
                "value": value,
                "by": by,
                "created_at": now,
                "identity": identity,
                "is_foreign": twist.foreign,
                "shows_at": now + twist.lag_s,
                **more,
            }
        )
        self.credentials.append(made)
        return made

    def end(self, credential: Credential, now: float, *, lag_s: float = 0.0, grace_s: float = 0.0) -> None:
        """Ends it; lag keeps it visible and accepted a while, grace keeps it accepted."""
        if credential.ended_at is None:
            credential.ended_at = now
        credential.usable_until = min(credential.usable_until, now + max(lag_s, grace_s))
        credential.listed_until = min(credential.listed_until, now + lag_s)

    def note(self, op: str, by: str, now: float, credential: Credential | None, **more: Any) -> None:
        """Writes down one effect on one credential."""
        self.history.append(
            {
                "at": now,
                "op": op,
                "by": by,
                "id": credential.id if credential else "",
                "slot": credential.slot if credential else "",
                "changed": True,
                **more,
            }
        )

    def log_in(self, value: str, user: str, by: str, op: str, now: float, twist: Twist) -> dict[str, Any]:
        """The verdict on a login, written down; `user` another than us is nobody and never counts as a failure."""
        verdict, found = self._judge(value, user, now, twist)
        self.logins.append(
            {
                "at": now,
                "op": op,
                "by": by,
                "verdict": verdict["verdict"],
                "code": verdict.get("code", ""),
                "id": found.id if found else "",
                "user": user,
                "fingerprint": fingerprint(value),
                "counted": verdict.pop("counted", False),
            }
        )
        return verdict

    def _judge(
        self, value: str, user: str, now: float, twist: Twist
    ) -> tuple[dict[str, Any], Credential | None]:
        own = user == self.name and not self.is_dropped
        if self.admin and value == self.admin and own:
            return _accepted((f"{self.name}-admin", self.options.tenant), ("admin",)), None
        if own and now < self.locked_until:
            wait_s = None if math.isinf(self.locked_until) else self.locked_until - now
            return {"verdict": "locked", "code": "locked", "wait_s": wait_s}, None
        found = next((c for c in self.credentials if c.accepts(value, now)), None) if own else None
        if found or twist.gullible:
            if found:
                found.last_used_at = now
            identity = found.identity if found else (self.name, self.options.tenant)
            if twist.foreign:
                identity = (f"{self.name}-other", "globex")
            return _accepted(identity, found.rights if found else self.options.rights), found
        known = next((c for c in self.credentials if c.value == value or value in c.tokens), None)
        is_off = known is not None and known.ended_at is None and not known.is_on(now)
        code = "disabled" if is_off else "invalid_credentials"
        return {"verdict": "rejected", "code": code, "counted": own and self._count(now)}, known

    def _count(self, now: float) -> bool:
        """Counts a wrong login against the lock-out; success does not forgive, only the window does."""
        if self.lockout is None:
            return True
        window_s = self.lockout.get("window_s", math.inf)
        self.failures = [at for at in self.failures if now - at < window_s] + [now]
        if len(self.failures) >= self.lockout["max_failures"]:
            self.locked_until = now + (self.lockout.get("seconds") or math.inf)
            self.failures = []
        return True


def _accepted(identity: tuple[str, str], rights: tuple[str, ...]) -> dict[str, Any]:
    return {"verdict": "accepted", "principal": identity[0], "tenant": identity[1], "rights": list(rights)}
