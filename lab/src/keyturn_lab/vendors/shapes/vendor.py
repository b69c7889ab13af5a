"""The vendor itself: lets callers in, applies faults, lands late effects, and answers the oracle; no sockets."""

import heapq
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from keyturn_lab import guard
from keyturn_lab.clock import Clock

from . import grants, keys
from .faults import CHANGES, GROUPS, OPS, STANDING, TRANSPORT, Fault, Kind, Twist
from .principal import No, Options, Principal

Effect = Callable[[Principal, Mapping[str, Any], float, Twist], Any]
_EFFECTS: Mapping[str, Effect] = {
    "list": keys.list_,
    "set": keys.set_,
    "clear": keys.clear,
    "issue": keys.issue,
    "disable": keys.switch,
    "enable": keys.switch,
    "delete": keys.delete,
    "regenerate": keys.regenerate,
    "review": keys.review,
    "drop": keys.drop,
    "consent": grants.consent,
    "exchange": grants.exchange,
    "refresh": grants.refresh,
    "revoke": grants.revoke,
    "leave": keys.leave,
}
_OPEN = frozenset({"exchange", "refresh", "revoke"})  # the code or token in the call is its own authority
_BY_HAND = frozenset({("grant", "consent")}) | {
    ("supplied", op) for op in OPS["supplied"] - {"login", "list"}
}


@dataclass(frozen=True)
class Dropped:
    """The connection closes without a reply, after `hold_s`."""

    hold_s: float = 0.0


class Vendor:
    """All principals. Safe to share between threads: every request runs alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clock = Clock()
        self._order = itertools.count()
        self._reset()

    def _reset(self) -> None:
        self._principals: dict[str, Principal] = {}
        self._late: list[tuple[float, int, Principal, Mapping[str, Any], Twist]] = []

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any] | Dropped:
        """The reply to one request."""
        with self._lock:
            now = self._clock.now()
            self._land(now)
            try:
                lab = self._LAB.get(request["op"])
                if lab is not None:
                    return {"ok": True, "result": lab(self, request, now)}
                return self._serve(self._principal(request), request, now)
            except No as no:
                return no.reply
            except (KeyError, TypeError, ValueError) as wrong:
                return No("bad_request", 400, why=f"{type(wrong).__name__}: {wrong}").reply

    def _principal(self, request: Mapping[str, Any]) -> Principal:
        found = self._principals.get(request["principal"])
        if found is None:
            raise No("no_such_principal", 404)
        return found

    def _land(self, now: float) -> None:
        """Applies what was due, at the time it was due. Nobody can look in between, so nobody needs a timer."""
        while self._late and self._late[0][0] <= now:
            due_at, _, p, request, twist = heapq.heappop(self._late)
            before = len(p.history)
            try:
                _EFFECTS[request["op"]](p, request, due_at, twist)
            except No as no:
                p.calls.append(_called(request, due_at, f"late {no.reply['error']}"))
            for entry in p.history[before:]:
                entry["late"] = True

    def _serve(self, p: Principal, request: Mapping[str, Any], now: float) -> dict[str, Any] | Dropped:
        op, by = request["op"], request["by"]
        fault = p.armed.take(op, by, TRANSPORT)
        kind = fault.kind if fault else None
        reply: dict[str, Any]
        if fault and kind is Kind.THROTTLE_STORM:
            reply = No("throttled", 429, wait_s=fault.seconds).reply
        elif fault and kind is Kind.ERROR_NOT_APPLIED:
            reply = No("unavailable", 503).reply
        elif fault and kind is Kind.TIMEOUT_NOT_APPLIED:
            p.calls.append(_called(request, now, kind))
            return Dropped(fault.seconds)
        else:
            reply = self._apply(p, request, now, fault)
        outcome = kind or ("ok" if reply["ok"] else reply["error"])
        p.calls.append(_called(request, now, outcome))
        return Dropped() if kind in {Kind.ANSWER_LOST, Kind.APPLIED_LATE} else reply

    def _apply(
        self, p: Principal, request: Mapping[str, Any], now: float, fault: Fault | None
    ) -> dict[str, Any]:
        op, by = request["op"], request["by"]
        try:
            if not p.offers(op, by):
                raise No("unsupported", 405)
            if op == "login":
                twist = p.armed.twist(op, by)
                user = str(request.get("user") or p.name)
                return {"ok": True, "result": p.log_in(str(request["value"]), user, by, op, now, twist)}
            if by.startswith("hub") and not _let_in(p, request, now):
                return {"ok": True, "result": []}
            twist = p.armed.twist(op, by)
            if fault and fault.kind is Kind.APPLIED_LATE:
                heapq.heappush(self._late, (now + fault.seconds, next(self._order), p, request, twist))
                return {"ok": True}
            return {"ok": True, "result": _EFFECTS[op](p, request, now, twist)}
        except No as no:
            return no.reply

    def _create(self, r: Mapping[str, Any], now: float) -> Any:
        if r["principal"] in self._principals:
            raise No("conflict", 409)
        if r["shape"] not in OPS:
            raise ValueError(f"no such shape: {r['shape']}")
        options = Options.from_json(r.get("options") or {})
        p = Principal(r["principal"], r["shape"], options, grace_s=options.grace_s, lockout=options.lockout)
        self._principals[p.name] = p
        if p.shape == "one_slot" if options.admin is None else options.admin:
            p.admin = guard.mint("shapes_admin")
        count = options.strangers
        _strangers(p, int(p.shape in {"many_ids", "supplied"}) if count is None else count, now)
        made = {
            "principal": p.name,
            "tenant": options.tenant,
            "admin": p.admin,
            "strangers": [c.id for c in p.living()],
            "credential": _first(p, now) if options.initial else None,
        }
        if options.standby and p.shape == "named_slots":
            p.add(guard.mint("shapes_key"), "vendor", now, Twist(), slot=_free(p)[0])
        p.history.clear()
        return made

    def _arm(self, r: Mapping[str, Any], now: float) -> Any:
        p = self._principal(r)
        fault = Fault.from_json(r)
        if fault.op not in OPS[p.shape] | GROUPS:
            raise ValueError(f"{p.shape} has no {fault.op}")
        if fault.kind not in STANDING:
            p.armed.faults.append(fault)
        elif fault.kind is Kind.LOCKOUT:
            p.lockout = {"max_failures": fault.max_failures, "seconds": fault.seconds}
        elif fault.kind is Kind.SECOND_CHANGE_IN_GRACE:
            p.grace_s = fault.seconds
        else:
            return {"strangers": [c.id for c in self._crowd(p, fault, now)]}
        return {}

    def _crowd(self, p: Principal, fault: Fault, now: float) -> list[Any]:
        count = len(_free(p)) if p.slots else p.options.cap - sum(not c.is_foreign for c in p.living())
        if p.shape in {"grant", "one_slot", "regenerate"} or (not p.slots and not p.options.cap):
            raise No("bad_request", 400, why="this principal has no cap")
        came = _strangers(p, max(count, 0), now)
        if fault.seconds:
            leave = {"op": "leave", "by": "stranger", "ids": [c.id for c in came]}
            heapq.heappush(self._late, (now + fault.seconds, next(self._order), p, leave, Twist()))
        return came

    def _disarm(self, r: Mapping[str, Any], now: float) -> Any:
        p = self._principal(r)
        p.armed.faults.clear()
        p.lockout, p.grace_s = p.options.lockout, p.options.grace_s
        return {}

    def _unlock(self, r: Mapping[str, Any], now: float) -> Any:
        p = self._principal(r)
        p.failures, p.locked_until = [], 0.0
        return {}

    def _inspect(self, r: Mapping[str, Any], now: float) -> Any:
        p = self._principal(r)
        return {
            "now": now,
            "locked": now < p.locked_until,
            "dropped": p.is_dropped,
            "late": sum(p is each[2] for each in self._late),
            "armed": len(p.armed.faults),
            "alive": _alive(p, now),
            "history": p.history,
            "logins": p.logins,
            "calls": p.calls,
        }

    def _forget(self, r: Mapping[str, Any], now: float) -> Any:
        if not r.get("principal"):
            self._reset()
            self._clock.reset()
            return {}
        gone = self._principals.pop(r["principal"], None)
        self._late = [each for each in self._late if each[2] is not gone]
        heapq.heapify(self._late)
        return {}

    def _advance(self, r: Mapping[str, Any], now: float) -> Any:
        self._clock.advance(float(r["seconds"]))
        self._land(self._clock.now())
        return {"now": self._clock.now()}

    _LAB: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any], float], Any]]] = {
        "create": _create,
        "arm": _arm,
        "disarm": _disarm,
        "unlock": _unlock,
        "inspect": _inspect,
        "alive": lambda self, r, now: _alive(self._principal(r), now),
        "history": lambda self, r, now: self._principal(r).history,
        "logins": lambda self, r, now: self._principal(r).logins,
        "calls": lambda self, r, now: self._principal(r).calls,
        "reset": _forget,
        "advance": _advance,
        "minted": lambda self, r, now: [each.value for each in guard.minted()],
        "ping": lambda self, r, now: {"now": now},
    }


def _called(request: Mapping[str, Any], now: float, outcome: str) -> dict[str, Any]:
    return {"at": now, "op": request["op"], "by": request["by"], "outcome": str(outcome)}


def _let_in(p: Principal, request: Mapping[str, Any], now: float) -> bool:
    """Whether the hub may make this call; False where it looks at another account, which has nothing to show.

    Raises: No.
    """
    op = request["op"]
    if (p.shape, op) in _BY_HAND:
        raise No("forbidden", 403, right="person")
    if p.is_dropped:
        raise No("not_found", 404, what="principal")
    if op in _OPEN:
        return True
    said = p.log_in(str(request.get("auth") or ""), p.name, request["by"], op, now, Twist())
    if said["verdict"] == "locked":
        raise No("locked", 423, wait_s=said["wait_s"])
    if said["verdict"] != "accepted":
        raise No("unauthorized", 401, code=said["code"])
    if said["principal"] in {p.name, f"{p.name}-admin"}:
        return True
    own = next((c for c in p.living() if c.value == request.get("auth")), None)
    if op in CHANGES and not (own and op == "delete" and request["id"] == own.id):
        raise No("forbidden", 403, right="own account")
    return op in CHANGES


def _first(p: Principal, now: float) -> dict[str, Any]:
    if p.shape == "grant":
        grant = grants.start(p, "setup", now, Twist(), rights=p.options.rights)
        return {**grant.public(), **grants.first_answer(p, grant, now)}
    if p.slots:
        value = p.options.initial_value or guard.mint("shapes_key")
        made = p.add(value, "setup", now, Twist(), slot=_free(p)[0])
        return {**made.public(), "value": value}
    made_answer: dict[str, Any] = keys.issue(p, {"by": "setup"}, now, Twist())
    return made_answer


def _free(p: Principal) -> list[str]:
    return [slot for slot in p.slots if p.occupant(slot) is None]


def _strangers(p: Principal, count: int, now: float) -> list[Any]:
    """Credentials somebody else keeps here: nobody may touch them."""
    came = []
    free = _free(p)[::-1]
    for n in range(count):
        slot = free[n] if p.slots else ""
        came.append(
            p.add(guard.mint("stranger"), "stranger", now, Twist(), slot=slot, label=f"stranger {n + 1}")
        )
    return came


def _alive(p: Principal, now: float) -> list[dict[str, Any]]:
    """Every credential that was not ended, or was and is still accepted."""
    return [
        {**c.for_oracle(now), "usable": c.is_usable(now) and now >= p.locked_until}
        for c in p.credentials
        if c.ended_at is None or c.is_usable(now)
    ]
