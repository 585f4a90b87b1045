"""What was applied runs once at each time, and what was missed is caught up once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from schedule_rigs import (
    CRON,
    TAIL,
    Clock,
    Process,
    at,
    noted,
)

from stk_ml.errors import StepFailedError, UnknownNameError
from stk_ml.orchestration.schedule import Schedule
from stk_ml.orchestration.scheduler import LastRun, Schedules, loop


def test_what_was_missed_is_caught_up_by_one_run(daily: Schedules) -> None:
    clock, ran = Clock("2026-11-20T15:00"), list[str]()
    run = daily.run_due("daily", noted(ran, clock), clock=clock)
    assert run == LastRun(
        "2026-11-20T06:00:00Z", "ok", 1, "2026-11-20T15:00:00Z", ended="2026-11-20T15:00:00Z", run="run-1"
    )
    assert daily.run_due("daily", noted(ran, clock), clock=clock) is None
    clock.now = at("2026-11-21T06:00")
    assert daily.due("daily", clock.now) == clock.now
    assert daily.run_due("daily", noted(ran, clock), clock=clock) is not None
    assert ran == ["20 15:00", "21 06:00"]


def test_what_was_due_before_it_was_applied_does_not_count(daily: Schedules) -> None:
    assert daily.due("daily", at("2026-11-01T23:00")) is None


def test_applied_again_nothing_is_lost_and_a_new_trigger_starts_anew(
    daily: Schedules, write: Callable[[str], Path]
) -> None:
    now = at("2026-11-03T12:00")
    file = write(CRON + "'0 6 * * *'\ndescription: the same trigger\n" + TAIL)
    assert daily.get("daily").changed
    daily.apply(file, now=now)
    assert not daily.get("daily").changed
    assert daily.due("daily", now) == at("2026-11-03T06:00")
    daily.apply(write(CRON + "'0 7 * * *'\n" + TAIL), now=now)
    assert daily.due("daily", now) is None
    assert daily.due("daily", at("2026-11-04T08:00")) == at("2026-11-04T07:00")


def test_a_failed_run_is_noted_and_not_tried_again(daily: Schedules) -> None:
    clock = Clock("2026-11-02T07:00")

    def fails(schedule: Schedule) -> str:
        raise StepFailedError("step say failed", step="say", code=1)

    with pytest.raises(StepFailedError):
        daily.run_due("daily", fails, clock=clock)
    last = daily.last("daily")
    assert last is not None
    assert (last.status, last.error, last.run) == ("failed", "step say failed", "")
    assert daily.due("daily", clock.now) is None


def test_an_interrupted_run_is_tried_once_more(daily: Schedules) -> None:
    clock = Clock("2026-11-02T07:00")

    def interrupted(schedule: Schedule) -> str:
        raise KeyboardInterrupt

    for attempt in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            daily.run_due("daily", interrupted, clock=clock)
        last = daily.last("daily")
        assert last is not None
        assert (last.status, last.attempt) == ("running", attempt)
    assert daily.due("daily", clock.now) is None
    clock.now += timedelta(days=1)
    assert daily.due("daily", clock.now) == at("2026-11-03T06:00")


def test_unknown_names(daily: Schedules) -> None:
    for name in ("dialy", "../daily", ""):
        with pytest.raises(UnknownNameError):
            daily.get(name)
    daily.delete("daily")
    assert daily.names() == []


def test_the_loop_runs_each_time_once_and_long_runs_do_not_pile_up(
    daily: Schedules, write: Callable[[str], Path]
) -> None:
    often = write(CRON.replace("daily", "often") + "'*/2 * * * *'\n" + TAIL, "often")
    daily.apply(often, now=at("2026-11-01T12:00"))
    clock, launched = Clock("2026-11-02T05:51"), list[str]()
    clock.until = at("2026-11-02T06:07")

    def launch(name: str) -> Process:
        launched.append(f"{name} {clock.now:%H:%M}")
        daily.run_due(name, lambda schedule: "r", clock=clock)
        return Process(clock, 302 if name == "often" else 60)

    loop(daily, launch, clock=clock, wait=clock.wait)
    assert launched == ["often 05:51", "often 05:56", "daily 06:00", "often 06:01", "often 06:06"]


def test_an_end_in_the_far_future_is_none_and_one_schedule_that_fails_is_not_the_others_trouble(
    daily: Schedules, write: Callable[[str], Path]
) -> None:
    far = "  time_zone: Hawaiian Standard Time\n  end_time: '9999-12-31T23:59:59'\n"
    daily.apply(write(CRON.replace("daily", "far") + "'0 6 * * *'\n" + far + TAIL, "far"), now=at("2026-11-01T12:00"))
    assert daily.get("far").next(at("2026-11-02T00:00")) == at("2026-11-02T16:00")
    daily.apply(write(CRON.replace("daily", "bad") + "'0 6 * * *'\n" + TAIL, "bad"), now=at("2026-11-01T12:00"))
    record = daily.folder / "bad" / "schedule.json"
    record.write_text(record.read_text().replace('"end":""', '"end":"10000-01-01"').replace('"end": ""', '"end": "1"'))
    (daily.folder / "far" / "last.json").write_text("{")
    clock, launched, told = Clock("2026-11-02T05:59"), list[str](), list[str]()
    clock.until = at("2026-11-02T06:03")

    def launch(name: str) -> Process:
        launched.append(name)
        daily.run_due(name, lambda schedule: "r", clock=clock)
        return Process(clock, 1)

    loop(daily, launch, clock=clock, wait=clock.wait, tell=told.append)
    assert launched == ["daily"]
    assert [sum(text.startswith(name) for text in told) for name in ("bad", "far")] == [1, 1]


def test_a_run_noted_under_a_clock_that_was_ahead_silences_nothing(daily: Schedules) -> None:
    ahead, now = Clock("2030-01-01T07:00"), Clock("2026-11-20T07:00")
    assert daily.run_due("daily", lambda schedule: "ahead", clock=ahead)
    run = daily.run_due("daily", lambda schedule: "now", clock=now)
    assert run is not None
    assert (run.run, run.due) == ("now", "2026-11-20T06:00:00Z")


def test_a_process_that_dies_at_once_is_not_launched_again_and_again(daily: Schedules) -> None:
    clock, launched = Clock("2026-11-02T06:00"), list[str]()
    clock.until = clock.now + timedelta(minutes=10)

    def launch(name: str) -> Process:
        launched.append(name)
        return Process(clock, 0)

    loop(daily, launch, clock=clock, wait=clock.wait)
    assert 5 <= len(launched) <= 10
