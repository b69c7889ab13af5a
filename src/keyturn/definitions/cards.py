"""Reads capability cards: every key of `model.card.Card`, whole or as overrides onto another card."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from keyturn.definitions.cursor import Cursor
from keyturn.model.card import Card, GapClass, Hands, Lockout, Proof, RevokeScope, Strategy

_ENUMS: dict[str, Any] = {
    "strategy": Strategy,
    "hands": Hands,
    "gap_class": GapClass,
    "proof": Proof,
    "revoke_scope": RevokeScope,
}
_FLAGS = (
    "set_is_absolute",
    "inventory",
    "last_used",
    "secret_reviewable",
    "disable_first",
    "new_kills_old",
    "own_client",
    "old_counts",
    "admin_path",
    "reconcile_path",
)
_SECONDS = ("settle_create_s", "settle_revoke_s", "derived_ttl_s", "call_deadline_s", "apply_lag_s")
_TEXTS = ("label_field", "dies_on")
_REQUIRED = ("strategy", "hands", "gap_class", "proof")
CARD_KEYS = (*_ENUMS, *_FLAGS, *_SECONDS, *_TEXTS, "slots", "slot_names", "cap", "prove_times", "lockout")
_DATE = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")


def read_card(at: Cursor, onto: Card | None) -> Card | None:
    """The card written here, merged onto `onto`. None when it lacks what a card must have; findings say what."""
    at.keys(*CARD_KEYS, required=() if onto is not None else _REQUIRED)
    found = read_overrides(at)
    if onto is not None:
        return dataclasses.replace(onto, **found)
    if any(key not in found for key in _REQUIRED):
        return None
    return Card(**found)


def read_overrides(at: Cursor) -> dict[str, Any]:
    """Only what is written, typed; bad values are found and left out."""
    found: dict[str, Any] = {}
    for key, inner in at.pairs():
        if key in _ENUMS:
            options = [m.value for m in _ENUMS[key]]
            text = at.choice(key, options)
            if text:
                found[key] = _ENUMS[key](text)
        elif key in _FLAGS:
            found[key] = at.flag(key)
        elif key in _SECONDS:
            found[key] = at.number(key)
        elif key in _TEXTS:
            found[key] = at.text(key)
        elif key == "slots":
            found[key] = None if inner.value in (None, "many") else at.integer(key, 1, least=1)
        elif key == "cap":
            found[key] = at.integer(key)
        elif key == "prove_times":
            found[key] = at.integer(key, 1, least=1)
        elif key == "slot_names":
            found[key] = at.texts(key)
        elif key == "lockout":
            found[key] = None if inner.value is None else read_lockout(inner)
    if found.get("dies_on") and not _DATE.match(found["dies_on"]):
        at.refuse("dies_on must be a date", "Write it as YYYY-MM-DD.")
    return found


def read_lockout(at: Cursor) -> Lockout:
    """`{max_failures, window_s}`."""
    at.keys("max_failures", "window_s", "old_counts", required=("max_failures", "window_s"))
    return Lockout(at.integer("max_failures", 1, least=1), at.number("window_s", 60.0, least=1))
