"""Azure ML schedules (``az ml schedule create -f FILE``), read for the laptop.

======================  ====================================================================================
part                    keys
======================  ====================================================================================
schedule                ``name``, ``trigger``, ``create_job``; for people: ``$schema``, ``display_name``,
                        ``description``, ``tags``, ``properties``
cron trigger            ``type: cron``, ``expression``: minute, hour, ``*``, ``*``, day of the week (0 is Sunday);
                        Azure ML ignores the days of the month and the months, so other values are refused here
recurrence trigger      ``type: recurrence``, ``frequency`` (minute, hour, day, week, month), ``interval``,
                        ``schedule``: ``hours``, ``minutes``, ``week_days`` (week), ``month_days`` (month)
both                    ``time_zone`` (a Windows name, as Azure ML has them, or an IANA name; UTC when there is none),
                        ``start_time``, ``end_time``: local times of that zone
``create_job``          the file of a pipeline job, relative to the schedule's; or ``type: pipeline``, ``job: FILE`` and
                        ``inputs`` that it is given
======================  ====================================================================================

Unlike on Azure ML, where a schedule without ``start_time`` runs once when it is made, nothing runs before it is due.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import msgspec
from cronsim import CronSim, CronSimError
from tzlocal.windows_tz import win_tz

from stk_ml import declarations
from stk_ml.declarations import Declared
from stk_ml.errors import UnsupportedKeyError, closest
from stk_ml.orchestration import reading, values
from stk_ml.orchestration.parse import load_pipeline
from stk_ml.orchestration.trigger import Frequency, Trigger, zone

DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
_CLOCK, _WEEK = re.compile(r"[\d*/,-]+"), re.compile(r"(?:[0-6*/,-]|SUN|MON|TUE|WED|THU|FRI|SAT)+")
#: Longest interval of a recurrence, some five years.
_LONGEST = {"minute": 2_628_000, "hour": 43_800, "day": 1_826, "week": 260, "month": 60}
#: An end after this year is none.
_FIRST, _FOREVER = 1970, 9000
_MEANINGLESS = ("compute", "description", "display_name", "experiment_name", "properties", "settings", "tags")


@dataclass(frozen=True)
class Schedule:
    """A schedule.

    Attributes:
        name: of the schedule; one of that name at a time.
        display_name: for people.
        file: that declares it.
        trigger: when it is due.
        job: absolute file of the pipeline job.
        inputs: of the pipeline, as text.
        notes: what means nothing on a laptop.
    """

    name: str
    display_name: str
    file: str
    trigger: Trigger
    job: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Trigger(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    time_zone: str = "UTC"
    start_time: str = ""
    end_time: str = ""


class _Cron(_Trigger, forbid_unknown_fields=True, tag="cron", kw_only=True):
    expression: str


class _Pattern(msgspec.Struct, forbid_unknown_fields=True):
    hours: int | list[int]
    minutes: int | list[int]
    week_days: str | list[str] = []
    month_days: int | list[int] = []


class _Recurrence(_Trigger, forbid_unknown_fields=True, tag="recurrence", kw_only=True):
    frequency: Frequency
    interval: int
    schedule: _Pattern | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    trigger: _Cron | _Recurrence
    create_job: str | dict[str, Any]
    schema: str = msgspec.field(name="$schema", default="")
    display_name: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}


def load_schedule(file: str | Path) -> Schedule:
    r"""Reads and checks a schedule, and the pipeline that it runs.

    Args:
        file: YAML.

    Raises:
        DeclarationError: a mistake, with its line.
        UnsupportedKeyError: it creates something else than a pipeline job.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = Path(folder.name, "job.yml").write_text(
        ...     "type: pipeline\njobs:\n  hi:\n    command: echo hello\n    environment: azureml:any@latest\n"
        ... )
        >>> file = Path(folder.name, "daily.yml")
        >>> _ = file.write_text(
        ...     "name: daily\ntrigger: {type: cron, expression: '30 6 * * *'}\ncreate_job: ./job.yml\n"
        ... )
        >>> schedule = load_schedule(file)
        >>> from stk_ml.orchestration.trigger import following
        >>> following(schedule.trigger, datetime(2026, 11, 24, 7, tzinfo=UTC)).isoformat()
        '2026-11-25T06:30:00+00:00'
        >>> folder.cleanup()
    """
    path = Path(file).absolute()
    declared = declarations.read(path, shown=str(file))
    document = declarations.decode(declared, _Document)
    if not _NAME.fullmatch(document.name):
        hint = "letters, digits, dashes and underscores, a letter or digit first"
        raise declared.error(f"{document.name!r} is not a name of a schedule", ("name",), hint=hint)
    notes: list[str] = []
    job, inputs = _job(declared, document.create_job, path, notes)
    return Schedule(
        name=document.name,
        display_name=document.display_name or document.name,
        file=str(path),
        trigger=_trigger(declared, document.trigger),
        job=str(job),
        inputs=inputs,
        notes=tuple(notes),
    )


def _trigger(declared: Declared, given: _Cron | _Recurrence) -> Trigger:
    at = ("trigger",)
    try:
        found = zone(given.time_zone)
    except KeyError:
        hint = closest(given.time_zone, [*win_tz, "UTC"])
        raise declared.error(f"{given.time_zone!r} is not a time zone", (*at, "time_zone"), hint=hint) from None
    start, end = (_moment(declared, getattr(given, name), found, name) for name in ("start_time", "end_time"))
    if start and end and end <= start:
        raise declared.error("end_time is not after start_time", (*at, "end_time"))
    if isinstance(given, _Cron):
        expression = _expression(declared, given.expression)
        return Trigger("cron", given.time_zone, expression, start=_text(start), end=_text(end))
    if not 1 <= given.interval <= _LONGEST[given.frequency]:
        message = f"interval: {given.interval} is not from 1 to {_LONGEST[given.frequency]} {given.frequency}s"
        raise declared.error(message, (*at, "interval"))
    expression = _recurring(declared, given, start.astimezone(found) if start else None)
    return Trigger("recurrence", given.time_zone, expression, given.frequency, given.interval, _text(start), _text(end))


def _expression(declared: Declared, text: str) -> str:
    at = ("trigger", "expression")
    fields = text.upper().split()
    if len(fields) != 5:
        hint = "minute, hour, *, *, day of the week: 30 6 * * 1"
        raise declared.error(f"a cron expression has 5 fields, not {len(fields)}", at, hint=hint)
    minute, hour, day, month, week = fields
    if (day, month) != ("*", "*"):
        hint = "for days of the month use a trigger of type: recurrence with frequency: month"
        raise declared.error("Azure ML takes only * for the days of the month and the months", at, hint=hint)
    good = _CLOCK.fullmatch(minute) and _CLOCK.fullmatch(hour) and _WEEK.fullmatch(week)
    try:
        if good:
            CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
            return " ".join(fields)
        problem = "a field that Azure ML does not take"
    except CronSimError as error:
        problem = str(error).lower()
    raise declared.error(f"{text!r} is not a cron expression: {problem}", at, hint="such as 30 6 * * 1-5")


def _recurring(declared: Declared, given: _Recurrence, start: datetime | None) -> str:
    """The cron fields of a recurrence by day, week or month; what its pattern leaves open is that of its start."""
    at, pattern = ("trigger", "schedule"), given.schedule
    if given.frequency in ("minute", "hour"):
        if pattern is not None:
            raise declared.error(f"a schedule means nothing with frequency: {given.frequency}", at)
        return ""
    if pattern is None and start is None:
        hint = "add schedule: {hours: [6], minutes: [30]}, or a start_time"
        raise declared.error("it is not said at what time of the day", ("trigger",), hint=hint)
    hours = _numbers(declared, pattern.hours, "hours", 0, 23) if pattern else [start.hour] if start else []
    minutes = _numbers(declared, pattern.minutes, "minutes", 0, 59) if pattern else [start.minute] if start else []
    if pattern and not (hours and minutes):
        raise declared.error("hours and minutes may not be empty", at, hint="hours: [6]")
    week, month = "*", "*"
    if given.frequency == "week":
        names = _list(pattern.week_days) if pattern else []
        week = _joined(_day(declared, name) for name in names) or _of(declared, start, "week_days")
    elif pattern and pattern.week_days:
        raise declared.error(f"week_days means nothing with frequency: {given.frequency}", (*at, "week_days"))
    if given.frequency == "month":
        days = _numbers(declared, pattern.month_days, "month_days", 1, 31) if pattern else []
        month = _joined(days) or _of(declared, start, "month_days")
    elif pattern and pattern.month_days:
        raise declared.error(f"month_days means nothing with frequency: {given.frequency}", (*at, "month_days"))
    return f"{_joined(minutes)} {_joined(hours)} {month} * {week}"


def _of(declared: Declared, start: datetime | None, what: str) -> str:
    if start is None:
        raise declared.error(f"it is not said on which {what}", ("trigger", "schedule"), hint=f"add {what}: [...]")
    return str((start.weekday() + 1) % 7 if what == "week_days" else start.day)


def _day(declared: Declared, name: str) -> int:
    if name.lower() not in DAYS:
        at = ("trigger", "schedule", "week_days")
        raise declared.error(f"{name!r} is not a day of the week", at, hint=closest(name, DAYS))
    return DAYS.index(name.lower())


def _numbers(declared: Declared, given: int | list[int], what: str, low: int, high: int) -> list[int]:
    found = _list(given)
    for number in found:
        if not low <= number <= high:
            at = ("trigger", "schedule", what)
            raise declared.error(f"{what}: {number} is not from {low} to {high}", at)
    return found


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _joined(numbers: Any) -> str:
    return ",".join(map(str, sorted(set(numbers))))


def _moment(declared: Declared, text: str, of: tzinfo, name: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "such as 2026-11-24T06:00:00, in the time zone of the trigger"
        raise declared.error(f"{name}: {text!r} is not a time", ("trigger", name), hint=hint) from None
    if found.year > _FOREVER and name == "end_time":
        return None
    if not _FIRST <= found.year <= _FOREVER:
        hint = f"a year from {_FIRST} to {_FOREVER}; leave it away for none"
        raise declared.error(f"{name}: {text!r} is out of range", ("trigger", name), hint=hint)
    return (found if found.tzinfo else found.replace(tzinfo=of)).astimezone(UTC)


def _text(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def _job(
    declared: Declared, given: str | Mapping[str, Any], schedule: Path, notes: list[str]
) -> tuple[Path, dict[str, str]]:
    """The file of the job, and the inputs that it is given."""
    at: tuple[str, ...] = ("create_job",)
    document = {"job": given, "type": "pipeline"} if isinstance(given, str) else dict(given)
    at_job = at if isinstance(given, str) else (*at, "job")
    kind, job = document.pop("type", ""), document.pop("job", "")
    inputs = document.pop("inputs", None)
    for key in document:
        if key not in _MEANINGLESS:
            raise _unsupported(declared, f"the key {key!r}", (*at, key))
        notes.append(f"{declared.file}:{declared.line((*at, key))}: create_job.{key} means nothing on a laptop")
    if kind != "pipeline":
        raise _unsupported(declared, f"create_job of type: {kind}", (*at, "type"))
    if not isinstance(job, str) or not job:
        raise declared.error("create_job names no job", at, hint="create_job: ../train.yml")
    if reading.REMOTE.match(job):
        raise _unsupported(declared, f"the job {job}", at_job)
    file = (schedule.parent / job.removeprefix("file:")).resolve()
    if not file.is_file():
        raise declared.error(f"there is no file {job}", at_job, hint="the path is relative to the schedule's file")
    pipeline = load_pipeline(file)
    notes += [
        f"{job}: the step {name} is deterministic: with the same inputs its result comes from the cache"
        for name, step in pipeline.steps.items()
        if step.is_deterministic
    ]
    found = {}
    for name, value in reading.mapping(declared, inputs, (*at, "inputs")).items():
        where = (*at, "inputs", str(name))
        if name not in pipeline.inputs:
            raise declared.error(f"{job} has no input {name!r}", where, hint=closest(str(name), pipeline.inputs))
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            found[name] = reading.location(value["path"], file.parent)
        else:
            found[name] = values.text(reading.scalar(declared, value, where))
    return file, found


def _unsupported(declared: Declared, what: str, at: tuple[str, ...]) -> UnsupportedKeyError:
    hint = "the laptop runs pipeline jobs of files: create_job: ../train.yml"
    message = f"{what} is not supported by the laptop runner"
    return UnsupportedKeyError(message, file=declared.file, line=declared.line(at), hint=hint)
