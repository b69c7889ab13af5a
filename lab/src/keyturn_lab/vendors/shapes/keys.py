"""The calls on keys and passwords (S1 to S6): what each does to a principal once it was let in."""

from collections.abc import Mapping
from typing import Any

from keyturn_lab import guard

from .faults import Twist
from .principal import Credential, No, Principal, fingerprint

Request = Mapping[str, Any]


def list_(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """The inventory, as stale as it is."""
    return [c.public() for c in p.credentials if c.is_listed(now)]


def set_(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Puts the caller's value into a slot; the same value again changes nothing."""
    value, by = guard.remember("set", str(r["value"])), r["by"]
    if twist.refused:
        raise No("refused", 422, why="policy")
    old = p.occupant(r["slot"])
    if old and old.value == value:
        p.note("set", by, now, old, changed=False)
        return old.public()
    if p.options.remembers and any(c.value == value for c in p.credentials if c.slot == r["slot"]):
        raise No("refused", 422, why="history")
    return _replace("set", p, r["slot"], value, by, now, twist).public()


def regenerate(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Puts a value of the vendor's into a slot and shows it, once unless it is reviewable."""
    value = guard.mint("shapes_key")
    made = _replace("regenerate", p, r.get("slot") or p.slots[0], value, r["by"], now, twist)
    return {**made.public(), "value": value}


def _replace(op: str, p: Principal, slot: str, value: str, by: str, now: float, twist: Twist) -> Credential:
    old = p.occupant(slot)
    in_grace = [
        c for c in p.credentials if c.slot == slot and c.ended_at is not None and now < c.usable_until
    ]
    made = p.add(value, by, now, twist, slot=slot)
    p.note(op, by, now, made, replaced=old.id if old else "")
    is_second = p.grace_s > 0 and bool(in_grace)
    if old:
        p.end(old, now, lag_s=twist.lag_s, grace_s=0.0 if is_second else p.grace_s)
    if is_second:
        for each in in_grace:
            p.end(each, now)
            p.note("grace_cut", by, now, each)
    return made


def clear(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Empties a slot; with a `fingerprint` only while it holds that value."""
    old = p.occupant(r["slot"])
    if old is None or r.get("fingerprint", fingerprint(old.value)) != fingerprint(old.value):
        p.note("clear", r["by"], now, None, slot=r["slot"], changed=False)
        return {"gone": True}
    return end_one("clear", p, old, r["by"], now, twist)


def end_one(op: str, p: Principal, old: Credential, by: str, now: float, twist: Twist) -> Any:
    """Ends a credential, and with the fault every sibling."""
    p.end(old, now, lag_s=twist.lag_s)
    p.note(op, by, now, old)
    if twist.siblings:
        end_siblings(op, p, by, now, twist)
    return {"gone": False}


def end_siblings(op: str, p: Principal, by: str, now: float, twist: Twist) -> None:
    """Ends whatever else lives on the principal, noted as collateral."""
    for each in list(p.living()):
        p.end(each, now, lag_s=twist.lag_s)
        p.note(op, by, now, each, collateral=True)


def review(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Shows a slot's value again."""
    old = p.occupant(r.get("slot") or p.slots[0])
    if old is None:
        raise No("not_found", 404, what="slot")
    return {**old.public(), "value": old.value}


def issue(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Makes one more credential and shows its value this once."""
    if p.options.cap and sum(not c.is_foreign for c in p.living()) >= p.options.cap:
        raise No("cap", 409, cap=p.options.cap)
    made = p.add("", r["by"], now, twist, label=str(r.get("label", "")))
    # The id before the dot lets a person who pasted the value tell later which key to delete.
    made.value = guard.remember("shapes_key", f"{made.id}/{guard.mint('shapes_key')}")
    p.note("issue", r["by"], now, made)
    return {**made.public(), "value": made.value}


def delete(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Ends a credential by its id, for a person also by its slot; a foreign one only for who holds its value."""
    is_person = r["by"] == "person"
    old = next(
        (c for c in p.living() if c.id == r["id"] or (is_person and c.slot and c.slot == r["id"])), None
    )
    if old is None or (old.is_foreign and not is_person and old.value not in {r.get("value"), r.get("auth")}):
        raise No("not_found", 404, what="credential")
    return end_one("delete", p, old, r["by"], now, twist)


def switch(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Turns a credential off or on; repeating changes nothing."""
    is_on = r["op"] == "enable"
    found = next((c for c in p.living() if c.id == r["id"] and not c.is_foreign), None)
    if found is None:
        raise No("not_found", 404, what="credential")
    changed = found.is_enabled != is_on
    if changed:
        found.is_enabled, found.switched_at = is_on, now + twist.lag_s
    p.note(r["op"], r["by"], now, found, changed=changed)
    return found.public()


def drop(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Removes the principal with all it has."""
    p.note("drop", r["by"], now, None, changed=not p.is_dropped)
    end_siblings("drop", p, r["by"], now, twist)
    p.is_dropped = True
    return {"gone": False}


def leave(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Strangers end their own credentials; no caller can ask for this."""
    for each in [c for c in p.living() if c.id in r["ids"]]:
        end_one("leave", p, each, r["by"], now, twist)
