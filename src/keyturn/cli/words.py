"""How lengths of time, instants and states are said to people."""

from __future__ import annotations

import time
from datetime import datetime

from keyturn.cli import terminal
from keyturn.model.moment import ago

_GOOD = {"complete", "active", "current", "done", "accepted", "aborted_clean", "dead", "ok", "proven"}
_BAD = {"blocked", "lost", "complete_with_debt", "aborted_with_debt", "suspect", "rejected", "orphan", "fail"}
_WAITS = {
    "waiting_human",
    "waiting_approval",
    "needs_reauth",
    "returned",
    "revoked",
    "expired",
    "warn",
    "draining",
    "unknown",
}


def state(word: str) -> str:
    """A state in its colour, without underscores."""
    colour = "green" if word in _GOOD else "red" if word in _BAD else "yellow" if word in _WAITS else None
    return terminal.style(word.replace("_", " "), colour)


def since(at: float | None) -> str:
    """How long ago, or how long from now; empty for never."""
    if not at:
        return ""
    gone = time.time() - at
    return f"{ago(gone)} ago" if gone >= 0 else f"in {ago(-gone)}"


def clock(at: float | None) -> str:
    """The local time of an instant: the hour today, the date as well otherwise."""
    if not at:
        return ""
    local = datetime.fromtimestamp(at)
    today = local.date() == datetime.now().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def took(seconds: float) -> str:
    """How long something took, to a tenth below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def mark(what: str) -> str:
    """A step's mark: done, now, person, open, undone, stop."""
    drawn, plain, colour = {
        "done": ("✓", "[x]", "green"),
        "now": ("▸", "[>]", "cyan"),
        "person": ("☞", "[?]", "yellow"),
        "open": ("·", "[ ]", None),
        "undone": ("↩", "[<]", "yellow"),
        "stop": ("✗", "[!]", "red"),
    }[what]
    return terminal.style(drawn if terminal.has_marks() else plain, colour)
