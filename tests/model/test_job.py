"""Schedules: what is understood, and when a job is due next."""

from datetime import UTC, datetime

import pytest

from keyturn.errors import InvalidInput
from keyturn.model.job import next_due, read_schedule


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("", ""),
        ("every 15m", "every 15m"),
        ("Every 2 h", "every 2h"),
        ("every 90min", "every 90m"),
        ("every 30d", "every 30d"),
        ("daily at 6:30", "daily at 06:30"),
        ("weekdays  at 23:59", "weekdays at 23:59"),
    ],
)
def test_a_schedule_has_one_spelling(typed, kept):
    assert read_schedule(typed) == kept
    assert read_schedule(kept) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "every 0m",
        "every 31d",
        "every 30s",
        "every",
        "hourly",
        "daily at 24:00",
        "daily at 6",
        "* * * * *",
        "every 999999d",
    ],
)
def test_what_is_not_understood_is_refused_with_the_forms_there_are(typed):
    with pytest.raises(InvalidInput) as refused:
        read_schedule(typed)
    assert refused.value.facts["field"] == "schedule"
    assert "daily at 06:30" in refused.value.hint


@pytest.mark.parametrize(
    ("schedule", "due", "now", "then"),
    [
        ("every 15m", None, "2026-11-23T10:00", "2026-11-23T10:15"),
        ("every 15m", "2026-11-23T10:00", "2026-11-23T10:00:07", "2026-11-23T10:15"),
        (
            "every 15m",
            "2026-11-23T10:00",
            "2026-11-23T11:07",
            "2026-11-23T11:15",
        ),  # missed ones are not made up for
        ("every 2h", "2026-11-23T10:00", "2026-11-23T10:00", "2026-11-23T12:00"),
        ("daily at 06:30", None, "2026-11-23T06:29:59", "2026-11-23T06:30"),
        ("daily at 06:30", "2026-11-23T06:30", "2026-11-23T06:30", "2026-11-24T06:30"),
        ("weekdays at 06:30", None, "2026-11-20T07:00", "2026-11-23T06:30"),  # from Friday to Monday
        ("weekdays at 06:30", None, "2026-11-21T05:00", "2026-11-23T06:30"),
    ],
)
def test_the_next_time(schedule, due, now, then):
    assert next_due(schedule, due and at(due), at(now)) == at(then)


def test_a_job_on_demand_is_never_due():
    assert next_due("", None, 0.0) is None
