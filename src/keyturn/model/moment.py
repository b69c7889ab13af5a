"""Instants: aware UTC everywhere, stored as seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float | None) -> str | None:
    """An instant for people and JSON, to the millisecond; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> float:
    """Seconds since the epoch of an instant that somebody wrote: ISO 8601, in UTC where it names no zone. Raises: ValueError."""
    found = datetime.fromisoformat(text.strip())
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def ago(seconds: float) -> str:
    """A length of time as a person says it: '3 min', '2 d'."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def span(seconds: float) -> str:
    """A duration in words."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or seconds == size:
            amount = f"{seconds / size:g}"
            return f"{amount} {unit}" + ("" if amount == "1" else "s")
    return "1 second" if seconds == 1 else f"{seconds:g} seconds"
