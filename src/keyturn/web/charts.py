"""Home's two pictures, as numbers: when rotations are due, day by day, and how old credentials are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

WEEKS = 5
DAY_S = 86400.0
_AGES = ((30, "0 to 30"), (60, "30 to 60"), (90, "60 to 90"), (180, "90 to 180"), (None, "over 180"))
_TALL, _LEAST = 100.0, 3.0


@dataclass(frozen=True)
class Day:
    """One day of the calendar: how much is due and ends on it, with the first names."""

    day: date
    due: int
    ends: int
    due_names: tuple[str, ...]
    end_names: tuple[str, ...]
    is_today: bool
    is_past: bool

    @property
    def says(self) -> str:
        """For whoever does not see it."""
        parts = [
            f"{word}: {', '.join(names)}" + (f" and {many - len(names)} more" if many > len(names) else "")
            for word, many, names in (
                ("due", self.due, self.due_names),
                ("expires", self.ends, self.end_names),
            )
            if many
        ]
        return "; ".join(parts)


Marked = Mapping[int, tuple[int, Sequence[str]]]


def starts(where: tzinfo, now: float) -> list[float]:
    """When each day of the calendar begins for the viewer, from Monday of this week on; and when the last one ends. A day
    has 23 hours or 25 where clocks are changed."""
    today = datetime.fromtimestamp(now, where).date()
    begin = today - timedelta(days=today.weekday())
    days = (begin + timedelta(days=n) for n in range(7 * WEEKS + 1))
    return [datetime.combine(day, time.min, where).timestamp() for day in days]


def calendar(due: Marked, ends: Marked, where: tzinfo, now: float) -> list[list[Day]]:
    """Weeks from Monday on, this one first; `due` and `ends` say by the number of the day how many and the first names."""
    today = datetime.fromtimestamp(now, where).date()
    begin = today - timedelta(days=today.weekday())
    drawn = []
    for number in range(7 * WEEKS):
        day = begin + timedelta(days=number)
        (many, names), (over, last) = due.get(number, (0, ())), ends.get(number, (0, ()))
        drawn.append(Day(day, many, over, tuple(names), tuple(last), day == today, day < today))
    return [drawn[n : n + 7] for n in range(0, len(drawn), 7)]


@dataclass(frozen=True)
class Bar:
    """One bar: `height` in hundredths of the tallest; `late` of its `count` are overdue."""

    label: str
    count: int
    late: int
    height: float
    late_height: float


AGE_BOUNDS = tuple(days * DAY_S for days, _ in _AGES if days is not None)


def ages(found: Mapping[int, tuple[int, int]]) -> list[Bar]:
    """How old what serves now is: `found` says how many, and how many of them late, by how many bounds they are over."""
    numbers = [found.get(n, (0, 0)) for n in range(len(_AGES))]
    most = max(many for many, _ in numbers) or 1
    return [
        Bar(label, many, late, max(_TALL * many / most, _LEAST) if many else 0.0, _TALL * late / most)
        for (_, label), (many, late) in zip(_AGES, numbers, strict=True)
    ]
