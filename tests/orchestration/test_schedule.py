"""Schedules are read, with their mistakes."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from schedule_rigs import (
    CRON,
    HEAD,
    TAIL,
    trigger_of,
)

from stk_ml.errors import DeclarationError, UnsupportedKeyError
from stk_ml.orchestration.schedule import load_schedule
from stk_ml.orchestration.trigger import following

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "pipelines" / "schedules").glob("*.yml"))


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


@pytest.mark.parametrize("line", ["interval: 99999999999", "interval: 2628001", "interval: 0"])
def test_an_absurd_interval_is_refused_with_its_line(write: Callable[[str], Path], line: str) -> None:
    with pytest.raises(DeclarationError, match="interval") as caught:
        trigger_of(write, f"type: recurrence\nfrequency: minute\n{line}")
    assert caught.value.line == 5


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_start_that_no_clock_shows_is_refused(write: Callable[[str], Path], time: str) -> None:
    with pytest.raises(DeclarationError, match="out of range"):
        trigger_of(write, f"type: cron\nexpression: '0 6 * * *'\nstart_time: '{time}'\ntime_zone: Tokyo Standard Time")
