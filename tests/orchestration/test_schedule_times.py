"""Schedules are due when Azure ML would run them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_rigs import (
    at,
    times,
    trigger_of,
)

from stk_ml.orchestration.trigger import Trigger, crontab, following, latest, zone


def test_the_clock_change_in_spring_runs_a_job_once(write: Callable[[str], Path]) -> None:
    trigger = trigger_of(write, "type: cron\nexpression: '30 2 * * *'\ntime_zone: Eastern Standard Time")
    found = times(trigger, at("2026-03-07T12:00", "America/New_York"), 3)
    assert [each[:10] for each in found] == ["2026-03-08", "2026-03-09", "2026-03-10"]
    assert found[1:] == ["2026-03-09 02:30", "2026-03-10 02:30"]


def test_the_clock_change_in_autumn_runs_a_job_once(write: Callable[[str], Path]) -> None:
    trigger = trigger_of(write, "type: cron\nexpression: '30 1 * * *'\ntime_zone: America/New_York")
    found = times(trigger, at("2026-10-31T12:00", "America/New_York"), 2)
    assert found == ["2026-11-01 01:30", "2026-11-02 01:30"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "type: recurrence\nfrequency: week\ninterval: 2\nstart_time: 2026-11-02T00:00:00\n"
            "schedule: {hours: [6, 18], minutes: 30, week_days: [monday, Friday]}",
            ["2026-11-16 06:30", "2026-11-16 18:30", "2026-11-20 06:30", "2026-11-20 18:30", "2026-11-30 06:30"],
        ),
        (
            "type: recurrence\nfrequency: month\ninterval: 3\nstart_time: 2026-01-10T00:00:00\n"
            "schedule: {hours: 0, minutes: 0, month_days: [1, 31]}",
            ["2027-01-01 00:00", "2027-01-31 00:00", "2027-04-01 00:00", "2027-07-01 00:00", "2027-07-31 00:00"],
        ),
        (
            "type: recurrence\nfrequency: day\ninterval: 3\nstart_time: 2026-11-01T08:15:00\n"
            "time_zone: Tokyo Standard Time",
            ["2026-11-16 08:15", "2026-11-19 08:15", "2026-11-22 08:15", "2026-11-25 08:15", "2026-11-28 08:15"],
        ),
        (
            "type: recurrence\nfrequency: week\ninterval: 1\nstart_time: 2026-11-04T08:15:00",
            ["2026-11-18 08:15", "2026-11-25 08:15", "2026-12-02 08:15", "2026-12-09 08:15", "2026-12-16 08:15"],
        ),
        (
            "type: recurrence\nfrequency: hour\ninterval: 7\nstart_time: 2026-11-15T20:00:00",
            ["2026-11-15 20:00", "2026-11-16 03:00", "2026-11-16 10:00", "2026-11-16 17:00", "2026-11-17 00:00"],
        ),
        (
            "type: recurrence\nfrequency: minute\ninterval: 90\nstart_time: 2020-01-01T00:00:00",
            ["2026-11-15 13:30", "2026-11-15 15:00", "2026-11-15 16:30", "2026-11-15 18:00", "2026-11-15 19:30"],
        ),
    ],
)
def test_a_recurrence(write: Callable[[str], Path], lines: str, expected: list[str]) -> None:
    assert times(trigger_of(write, lines), at("2026-11-15T12:00"), 5) == expected


def test_nothing_is_due_before_the_start_or_after_the_end(write: Callable[[str], Path]) -> None:
    lines = "type: cron\nexpression: '0 6 * * *'\nstart_time: 2026-11-10T06:00:00\nend_time: 2026-11-12T06:00:00"
    trigger = trigger_of(write, lines)
    assert times(trigger, at("2026-01-01T00:00"), 9) == ["2026-11-10 06:00", "2026-11-11 06:00", "2026-11-12 06:00"]
    assert latest(trigger, at("2026-11-10T05:59")) is None
    assert latest(trigger, at("2027-01-01T00:00")) == at("2026-11-12T06:00")


def test_a_day_that_never_comes_is_given_up() -> None:
    never = Trigger("recurrence", "UTC", "0 0 31 * *", "month", 12, start="2026-02-01T00:00:00+00:00")
    assert following(never, at("2026-11-15T12:00")) is None


def test_every_windows_time_zone_of_azure_is_known() -> None:
    constants = pytest.importorskip("azure.ai.ml.constants", reason="pip install 'stk-ml[azure]'")
    unknown = set()
    for each in constants.TimeZone:
        try:
            zone(each.value)
        except KeyError:
            unknown.add(each.value)
    # Out of use since 2011; the CLDR does not map them any more.
    assert unknown <= {"Mid-Atlantic Standard Time", "Kamchatka Standard Time"}


EXPRESSIONS = st.builds(
    "{} {} * * {}".format,
    st.sampled_from(["0", "30", "*/15", "7,37", "59"]),
    st.sampled_from(["*", "0", "2", "*/6", "1-3", "23"]),
    st.sampled_from(["*", "1", "0,6", "MON-FRI"]),
)
TRIGGERS = st.builds(
    lambda expression, where: Trigger("cron", where, expression),
    EXPRESSIONS,
    st.sampled_from(["UTC", "Eastern Standard Time", "India Standard Time", "Europe/London", "Asia/Kathmandu"]),
) | st.builds(
    lambda frequency, interval: Trigger("recurrence", "UTC", "", frequency, interval, "2025-12-31T23:17:00+00:00"),
    st.sampled_from(["minute", "hour"]),
    st.integers(1, 50),
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))


@given(trigger=TRIGGERS, moment=MOMENTS)
@settings(deadline=None)
def test_what_follows_is_what_is_latest_then(trigger: Trigger, moment: datetime) -> None:
    next_ = following(trigger, moment)
    assert next_ is not None
    assert next_ > moment
    assert latest(trigger, next_) == next_
    before = latest(trigger, next_ - timedelta(microseconds=1))
    assert before is None or before <= moment


@given(trigger=TRIGGERS, moment=MOMENTS, machine=st.sampled_from(["UTC", "America/Toronto", "Asia/Kolkata"]))
@settings(deadline=None)
def test_cron_looks_whenever_a_schedule_is_due(trigger: Trigger, moment: datetime, machine: str) -> None:
    """By the same library, with the machine's time zone."""
    looks = Trigger("cron", machine, crontab(trigger, ZoneInfo(machine), moment))
    due = following(trigger, moment)
    assert due is not None
    assert latest(looks, due) == due
