"""Schedules: read with their mistakes, due when Azure ML would run them, run once whoever runs them."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.errors import DeclarationError, StepFailedError, UnknownNameError, UnsupportedKeyError
from stk_ml.orchestration.schedule import Schedule, load_schedule
from stk_ml.orchestration.scheduler import LastRun, Schedules, loop
from stk_ml.orchestration.trigger import Trigger, crontab, following, latest, zone

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "pipelines" / "schedules").glob("*.yml"))
JOB = """
type: pipeline
inputs:
  word: hello
  rows: 3
jobs:
  say:
    component:
      type: command
      is_deterministic: false
      inputs: {word: {type: string}}
      environment: azureml:any@latest
      command: 'echo ${{inputs.word}} >> "$SAID" && sleep ${SECONDS_IT_TAKES:-0}'
    inputs: {word: "${{parent.inputs.word}}"}
"""
HEAD = "name: daily\ntrigger:\n"
TAIL = "create_job: ../job.yml\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the text of a schedule beside a pipeline that it may run."""
    (tmp_path / "pipelines" / "schedules").mkdir(parents=True)
    (tmp_path / "stk.toml").write_text('[project]\nname = "clock"\n[profile.laptop]\n')
    (tmp_path / "pipelines" / "job.yml").write_text(JOB)

    def write(text: str, name: str = "daily") -> Path:
        file = tmp_path / "pipelines" / "schedules" / f"{name}.yml"
        file.write_text(text)
        return file

    return write


def trigger_of(write: Callable[[str], Path], lines: str) -> Trigger:
    indented = "".join(f"  {line}\n" for line in lines.strip().splitlines())
    return load_schedule(write(HEAD + indented + TAIL)).trigger


def at(text: str, where: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(where))


def times(trigger: Trigger, after: datetime, count: int, made: datetime | None = None) -> list[str]:
    """The next times, as a clock on the wall of that time zone shows them."""
    found = []
    for _ in range(count):
        moment = following(trigger, after, made=made)
        if moment is None:
            break
        after = moment
        found.append(after.astimezone(trigger.zone).strftime("%Y-%m-%d %H:%M"))
    return found


# --- reading


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_schedules_of_the_project_are_good(file: Path) -> None:
    schedule = load_schedule(file)
    assert schedule.notes == ()
    assert schedule.inputs == {"model": "flight-delay"}
    assert following(schedule.trigger, datetime(2026, 11, 24, tzinfo=UTC)) is not None


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.ai.ml") is None,
    reason="azure-ai-ml is not installed: pip install 'stk-ml[azure]'",
)
def test_azure_reads_the_same_schedule(file: Path) -> None:
    from azure.ai.ml.entities._load_functions import load_schedule as theirs

    logging.disable(logging.CRITICAL)
    try:
        read = theirs(str(file))
        assert read._validate().passed
    finally:
        logging.disable(logging.NOTSET)
    ours = load_schedule(file)
    assert (read.name, read.trigger.type.lower()) == (ours.name, ours.trigger.type)
    assert read.trigger.time_zone == ours.trigger.time_zone
    assert {name: str(given._data) for name, given in read.create_job.inputs.items()} == ours.inputs


def test_inputs_are_those_of_the_pipeline_and_paths_relative_to_its_file(write: Callable[[str], Path]) -> None:
    job = "create_job:\n  type: pipeline\n  job: ../job.yml\n  inputs:\n    word: {type: uri_file, path: words.txt}\n"
    schedule = load_schedule(write(HEAD + "  type: cron\n  expression: '0 6 * * *'\n" + job + "    rows: 5\n"))
    folder = Path(schedule.job).parent
    assert schedule.inputs == {"word": str(folder / "words.txt"), "rows": "5"}


CRON = HEAD + "  type: cron\n  expression: "


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (CRON + "'0 6 * *'\n" + TAIL, 4, "5 fields, not 4"),
        (CRON + "'0 0 6 * * *'\n" + TAIL, 4, "5 fields, not 6"),
        (CRON + "'60 6 * * *'\n" + TAIL, 4, "bad minute"),
        (CRON + "'0 25 * * *'\n" + TAIL, 4, "bad hour"),
        (CRON + "'0 6 1 * *'\n" + TAIL, 4, "only * for the days of the month"),
        (CRON + "'0 6 * 2 *'\n" + TAIL, 4, "only * for the days of the month"),
        (CRON + "'0 6 * * MON#1'\n" + TAIL, 4, "not a cron expression"),
        (CRON + "'0 6 * * 7'\n" + TAIL, 4, "not a cron expression"),
        (CRON + "'0 6 * * *'\n  time_zone: Eastern\n" + TAIL, 5, "'Eastern' is not a time zone"),
        (CRON + "'0 6 * * *'\n  time_zone: ../../etc/passwd\n" + TAIL, 5, "is not a time zone"),
        (CRON + "'0 6 * * *'\n  start_time: soon\n" + TAIL, 5, "'soon' is not a time"),
        (CRON + "'0 6 * * *'\n  start_time: 2026-02-01\n  end_time: 2026-01-01\n" + TAIL, 6, "not after start_time"),
        (CRON + "'0 6 * * *'\n  expresion: x\n" + TAIL, 5, "unknown key 'expresion'"),
        (HEAD + "  type: sundial\n" + TAIL, 3, "sundial"),
        (HEAD + "  type: cron\n" + TAIL, 2, "'expression' is missing"),
        (HEAD + "  type: recurrence\n  frequency: day\n  interval: 0\n" + TAIL, 5, "not from 1 to"),
        (HEAD + "  type: recurrence\n  frequency: day\n  interval: 1\n" + TAIL, 2, "at what time of the day"),
        (HEAD + "  type: recurrence\n  frequency: year\n  interval: 1\n" + TAIL, 4, "year"),
        ("name: a b\ntrigger: {type: cron, expression: '0 6 * * *'}\n" + TAIL, 1, "not a name"),
        ("name: daily\n" + TAIL, 1, "'trigger' is missing"),
        (CRON + "'0 6 * * *'\ncreate_job: ../nothing.yml\n", 5, "no file ../nothing.yml"),
        (CRON + "'0 6 * * *'\ncreate_job:\n  type: pipeline\n", 5, "names no job"),
        (
            CRON + "'0 6 * * *'\ncreate_job:\n  type: pipeline\n  job: ../job.yml\n  inputs:\n    wrod: x\n",
            9,
            "no input 'wrod'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(write: Callable[[str], Path], text: str, line: int, said: str) -> None:
    file = write(text)
    with pytest.raises(DeclarationError) as caught:
        load_schedule(file)
    assert caught.value.line == line
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "job",
    [
        "create_job: azureml:simple-pipeline-job\n",
        "create_job: {type: command, job: ../job.yml}\n",
        "create_job: {type: pipeline, job: ../job.yml, outputs: {a: b}}\n",
    ],
)
def test_what_only_azure_runs_is_refused(write: Callable[[str], Path], job: str) -> None:
    with pytest.raises(UnsupportedKeyError, match="not supported by the laptop"):
        load_schedule(write(CRON + "'0 6 * * *'\n" + job))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("hours: [24]\nminutes: [0]", "hours: 24 is not from 0 to 23"),
        ("hours: [6]\nminutes: [60]", "minutes: 60"),
        ("hours: []\nminutes: [0]", "may not be empty"),
        ("hours: 6\nminutes: 0\nweek_days: [monday]", "week_days means nothing with frequency: day"),
        ("hours: 6\nminutes: 0\nmonth_days: [1]", "month_days means nothing"),
    ],
)
def test_a_pattern_that_makes_no_sense(write: Callable[[str], Path], pattern: str, said: str) -> None:
    lines = "\n".join(f"  {line}" for line in pattern.splitlines())
    with pytest.raises(DeclarationError, match=re.escape(said)):
        trigger_of(write, f"type: recurrence\nfrequency: day\ninterval: 1\nschedule:\n{lines}")


# --- when it is due


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


# --- what was applied


class Clock:
    """Time as the test says; waiting moves it."""

    def __init__(self, now: str) -> None:
        self.now = at(now)
        self.until = self.now

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        return self.now >= self.until


@pytest.fixture
def daily(write: Callable[[str], Path], tmp_path: Path) -> Schedules:
    """A schedule for 6:00 each day, applied on 1 November at noon."""
    schedules = Schedules(tmp_path / ".stk" / "schedules")
    schedules.apply(write(CRON + "'0 6 * * *'\n" + TAIL), now=at("2026-11-01T12:00"))
    return schedules


def noted(ran: list[str], clock: Clock) -> Callable[[Schedule], str]:
    def execute(schedule: Schedule) -> str:
        ran.append(clock.now.strftime("%d %H:%M"))
        return f"run-{len(ran)}"

    return execute


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


# --- the loop


class Process:
    """A launched run that ends after a while of the test's clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._ends = clock, clock.now + timedelta(seconds=seconds)

    def poll(self) -> int | None:
        return 0 if self._clock.now >= self._ends else None


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


@pytest.mark.parametrize("line", ["interval: 99999999999", "interval: 2628001", "interval: 0"])
def test_an_absurd_interval_is_refused_with_its_line(write: Callable[[str], Path], line: str) -> None:
    with pytest.raises(DeclarationError, match="interval") as caught:
        trigger_of(write, f"type: recurrence\nfrequency: minute\n{line}")
    assert caught.value.line == 5


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_start_that_no_clock_shows_is_refused(write: Callable[[str], Path], time: str) -> None:
    with pytest.raises(DeclarationError, match="out of range"):
        trigger_of(write, f"type: cron\nexpression: '0 6 * * *'\nstart_time: '{time}'\ntime_zone: Tokyo Standard Time")


def test_a_run_noted_under_a_clock_that_was_ahead_silences_nothing(daily: Schedules) -> None:
    ahead, now = Clock("2030-01-01T07:00"), Clock("2026-11-20T07:00")
    assert daily.run_due("daily", lambda schedule: "ahead", clock=ahead)
    run = daily.run_due("daily", lambda schedule: "now", clock=now)
    assert run is not None
    assert (run.run, run.due) == ("now", "2026-11-20T06:00:00Z")


def test_a_schedule_that_cannot_be_read_is_listed_beside_the_others(write: Callable[[str], Path]) -> None:
    folder = write(CRON + "'0 6 * * *'\n" + TAIL).parents[2]
    write(CRON.replace("daily", "other") + "'0 6 * * *'\n" + TAIL, "other")
    ended(stk(folder, "apply"))
    next(folder.rglob("daily/schedule.json")).with_name("last.json").write_text("{")
    shown = ended(stk(folder, "list", COLUMNS="200"))
    assert "unreadable" in shown
    assert "other" in shown
    assert "T06:00" in shown
    assert len(ended(stk(folder, "crontab")).splitlines()) == 2


def test_a_process_that_dies_at_once_is_not_launched_again_and_again(daily: Schedules) -> None:
    clock, launched = Clock("2026-11-02T06:00"), list[str]()
    clock.until = clock.now + timedelta(minutes=10)

    def launch(name: str) -> Process:
        launched.append(name)
        return Process(clock, 0)

    loop(daily, launch, clock=clock, wait=clock.wait)
    assert 5 <= len(launched) <= 10


# --- real processes


def stk(folder: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stk_ml", "schedule", *words]
    environ = {**os.environ, "SAID": str(folder / "said"), **environ}
    return subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output


def said(folder: Path) -> list[str]:
    file = folder / "said"
    return file.read_text().split() if file.exists() else []


def wait_until(true: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        assert process is None or process.poll() is None
        time.sleep(0.02)


@pytest.fixture
def due(daily: Schedules, tmp_path: Path) -> Path:
    """The folder of a project whose schedule has been due for long."""
    return tmp_path


def test_two_processes_at_once_run_it_once(due: Path) -> None:
    both = [stk(due, "run", "daily", "--once", SECONDS_IT_TAKES="2") for _ in range(2)]
    outputs = [ended(process) for process in both]
    assert said(due) == ["hello"]
    assert sum("ran for" in output for output in outputs) == 1
    assert "not due" in ended(stk(due, "run", "daily", "--once"))


def test_a_killed_run_is_noticed_and_run_again_by_the_next(due: Path, daily: Schedules) -> None:
    first = stk(due, "run", "daily", "--once", SECONDS_IT_TAKES="60")
    wait_until(lambda: said(due), first)
    assert daily.busy("daily")
    assert "running" in ended(stk(due, "list"))
    first.kill()
    first.wait()
    wait_until(lambda: not daily.busy("daily"))
    assert "killed" in ended(stk(due, "list"))
    ended(stk(due, "run", "daily", "--once"))
    last = daily.last("daily")
    assert last is not None
    assert (last.status, last.attempt, said(due)) == ("ok", 2, ["hello", "hello"])


@pytest.mark.slow
def test_runners_that_are_killed_leave_their_run_to_its_end(due: Path, daily: Schedules) -> None:
    runners = [stk(due, "run", SECONDS_IT_TAKES="4") for _ in range(2)]
    wait_until(lambda: said(due), runners[0])
    for runner in runners:
        runner.kill()
        runner.wait()
    assert daily.busy("daily")
    third = stk(due, "run")
    wait_until(lambda: not daily.busy("daily"), third)
    last = daily.last("daily")
    assert last is not None
    assert (last.status, last.attempt, said(due)) == ("ok", 1, ["hello"])
    third.send_signal(signal.SIGTERM)
    ended(third)
    assert said(due) == ["hello"]


def test_a_line_for_cron_runs_in_any_folder(due: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    line = ended(stk(due, "crontab")).strip()
    fields, command = line.split(" ", 5)[:5], line.split(" ", 5)[5]
    assert fields[0] == "0"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environ = {"PATH": os.defpath, "HOME": str(elsewhere), "SAID": str(due / "said")}
    subprocess.run(["sh", "-c", command.replace("\\%", "%")], cwd=elsewhere, env=environ, check=True)
    assert said(due) == ["hello"]
    with contextlib.suppress(FileNotFoundError):
        assert "rror" not in (due / ".stk" / "schedules" / "daily" / "cron.log").read_text()


def test_apply_records_all_or_none(due: Path, write: Callable[[str], Path], daily: Schedules) -> None:
    write(CRON.replace("daily", "good") + "'0 7 * * *'\n" + TAIL, "a_good")
    write(CRON.replace("daily", "bad") + "'0 77 * * *'\n" + TAIL, "b_bad")
    assert "b_bad.yml:4" in ended(stk(due, "apply"), code=2)
    assert daily.names() == ["daily"]
    write(CRON.replace("daily", "bad") + "'0 17 * * *'\n" + TAIL, "b_bad")
    ended(stk(due, "apply"))
    assert daily.names() == ["bad", "daily", "good"]
