"""Home's two pictures, as numbers: when rotations are due, day by day, and how old credentials are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from keyturn.operations.overview import Line

WEEKS = 5
DAY_S = 86400.0
_AGES = ((30, "0 to 30"), (60, "30 to 60"), (90, "60 to 90"), (180, "90 to 180"), (None, "over 180"))
_TALL, _LEAST = 100.0, 3.0


@dataclass(frozen=True)
class Day:
    """One day of the calendar and what is due or ends on it."""

    day: date
    due: tuple[str, ...]
    ends: tuple[str, ...]
    is_today: bool
    is_past: bool

    @property
    def says(self) -> str:
        """For whoever does not see it."""
        parts = [f"due: {', '.join(self.due)}"] * bool(self.due) + [
            f"expires: {', '.join(self.ends)}"
        ] * bool(self.ends)
        return "; ".join(parts)


def calendar(lines: Sequence[Line], where: tzinfo, now: float) -> list[list[Day]]:
    """Weeks from Monday on, this one first. What is gone is not due any more."""
    today = datetime.fromtimestamp(now, where).date()
    begin = today - timedelta(days=today.weekday())
    due: dict[date, list[str]] = {}
    ends: dict[date, list[str]] = {}
    for line in lines:
        if line.state in {"disconnected", "revoked"}:
            continue
        for found, at in ((due, line.due), (ends, line.expires)):
            if at is not None and now - 40 * DAY_S < at < now + 40 * DAY_S:
                found.setdefault(datetime.fromtimestamp(at, where).date(), []).append(line.name)
    days = [begin + timedelta(days=n) for n in range(7 * WEEKS)]
    drawn = [
        Day(day, tuple(due.get(day, ())), tuple(ends.get(day, ())), day == today, day < today) for day in days
    ]
    return [drawn[n : n + 7] for n in range(0, len(drawn), 7)]


@dataclass(frozen=True)
class Bar:
    """One bar: `height` in hundredths of the tallest; `late` of its `count` are overdue."""

    label: str
    count: int
    late: int
    height: float
    late_height: float


def ages(lines: Sequence[Line], now: float) -> list[Bar]:
    """How old what serves now is."""
    counts, late = [0] * len(_AGES), [0] * len(_AGES)
    for line in lines:
        if line.since is None or line.state in {"disconnected", "revoked"}:
            continue
        days = (now - line.since) / DAY_S
        at = next(n for n, (most, _) in enumerate(_AGES) if most is None or days < most)
        counts[at] += 1
        late[at] += line.due is not None and line.due <= now
    most = max(counts) or 1
    return [
        Bar(label, n, over, max(_TALL * n / most, _LEAST) if n else 0.0, _TALL * over / most)
        for (_, label), n, over in zip(_AGES, counts, late, strict=True)
    ]
