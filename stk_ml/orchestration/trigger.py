"""When a schedule is due: cron expressions and recurrences in time zones. Pure: times in, times out.

Across a change of the clocks, jobs of a fixed hour run once, as Debian's cron does it (cronsim).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim
from tzlocal.windows_tz import win_tz

Frequency = Literal["minute", "hour", "day", "week", "month"]
#: A recurrence whose days never come (each 30 February) is given up after so long.
_HORIZON = timedelta(days=366 * 8)


@dataclass(frozen=True)
class Trigger:
    """When a schedule is due.

    Attributes:
        type: as declared.
        time_zone: as declared.
        expression: five fields of cron; of a recurrence by day, week or month those that it amounts to, without its
            interval; empty for minutes and hours.
        frequency, interval: of a recurrence.
        start, end: first and last moment, ISO 8601 in UTC; empty for none.
    """

    type: Literal["cron", "recurrence"]
    time_zone: str = "UTC"
    expression: str = ""
    frequency: Frequency = "minute"
    interval: int = 1
    start: str = ""
    end: str = ""

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return zone(self.time_zone)


def following(trigger: Trigger, after: datetime, *, made: datetime | None = None) -> datetime | None:
    """The first time later than ``after`` at which a trigger is due.

    Args:
        trigger: of a schedule.
        after: aware.
        made: when the schedule was applied: the first period of a recurrence without start; default ``after``.

    Returns:
        In UTC; None when it is never due again.

    Example:
        >>> weekly = Trigger("cron", "Eastern Standard Time", "0 6 * * 1")
        >>> following(weekly, datetime(2026, 3, 7, tzinfo=UTC)).isoformat()
        '2026-03-09T10:00:00+00:00'
    """
    start, end = _bounds(trigger)
    after = max(after, start - timedelta(seconds=1)) if start else after
    found = next(_times(trigger, after, start or made or after), None)
    return None if found is None or (end and found > end) else found


def latest(trigger: Trigger, now: datetime, *, made: datetime | None = None) -> datetime | None:
    """The last time, up to ``now``, at which a trigger was due; None when it was not.

    Example:
        >>> latest(Trigger("cron", expression="0 6 * * 1"), datetime(2026, 11, 24, tzinfo=UTC)).isoformat()
        '2026-11-23T06:00:00+00:00'
        >>> hours = Trigger("recurrence", frequency="hour", interval=6, start="2026-11-24T01:00:00+00:00")
        >>> latest(hours, datetime(2026, 11, 24, 20, tzinfo=UTC)).isoformat()
        '2026-11-24T19:00:00+00:00'
    """
    start, end = _bounds(trigger)
    now = min(now, end) if end else now
    found = next(_times(trigger, now, start or made or now, reverse=True), None)
    return None if found is None or (start and found < start) else found


def zone(name: str) -> tzinfo:
    """A time zone by its Windows or IANA name.

    Raises:
        KeyError: there is none.

    Example:
        >>> str(zone("Eastern Standard Time")), str(zone("America/Toronto"))
        ('America/New_York', 'America/Toronto')
    """
    if name.upper() == "UTC":
        return UTC
    known = _windows_names().get(name.lower(), name)
    try:
        return ZoneInfo(known)
    except (KeyError, ValueError, OSError):
        raise KeyError(name) from None


@lru_cache(maxsize=1)
def _windows_names() -> dict[str, str]:
    return {name.lower(): iana for name, iana in win_tz.items()}


def _times(trigger: Trigger, moment: datetime, anchor: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """Times later than a moment; or, in reverse, up to it."""
    if not trigger.expression:
        yield from _steps(trigger, moment, anchor, reverse)
        return
    local = moment.astimezone(trigger.zone)
    local = local.replace(microsecond=0) + timedelta(seconds=1) if reverse else local
    first = anchor.astimezone(trigger.zone)
    for time in CronSim(trigger.expression, local, reverse=reverse):
        if _period(trigger.frequency, time, first) % trigger.interval == 0:
            yield time.astimezone(UTC)
        elif abs(time - local) > _HORIZON:
            return


def _steps(trigger: Trigger, moment: datetime, anchor: datetime, reverse: bool) -> Iterator[datetime]:
    step = timedelta(**{f"{trigger.frequency}s": trigger.interval})
    number = (moment - anchor) // step + (0 if reverse else 1)
    while number >= 0:
        yield (anchor + number * step).astimezone(UTC)
        number += -1 if reverse else 1


def _period(frequency: Frequency, time: datetime, first: datetime) -> int:
    """Days, weeks (from Monday) or months between two local times."""
    if frequency == "month":
        return (time.year - first.year) * 12 + time.month - first.month
    days = time.toordinal() - first.toordinal()
    if frequency == "week":
        return (days - time.weekday() + first.weekday()) // 7
    return days if frequency == "day" else 0


def _bounds(trigger: Trigger) -> tuple[datetime | None, datetime | None]:
    start, end = (datetime.fromisoformat(text) if text else None for text in (trigger.start, trigger.end))
    return start, end


def crontab(trigger: Trigger, machine: tzinfo, now: datetime, *, made: datetime | None = None) -> str:
    """Fields of a crontab under which a look at the schedule never comes too late.

    Args:
        trigger: of a schedule.
        machine: the time zone that cron goes by.
        now: aware.
        made: as for :func:`following`.

    Returns:
        The expression itself where both zones agree all year. Otherwise its minutes of every hour, in the machine's
        zone: whoever looks then runs only what is due.

    Example:
        >>> now = datetime(2026, 11, 24, tzinfo=UTC)
        >>> crontab(Trigger("cron", "UTC", "30 6 * * 1"), UTC, now)
        '30 6 * * 1'
        >>> crontab(Trigger("cron", "Eastern Standard Time", "30 6 * * 1"), UTC, now)
        '30 * * * *'
        >>> crontab(Trigger("cron", "India Standard Time", "45 6 * * 1"), UTC, now)
        '15 * * * *'
    """
    shifts = set()
    for day in range(0, 366, 7):
        moment = now + timedelta(days=day)
        ours, theirs = (moment.astimezone(each).utcoffset() or timedelta() for each in (machine, trigger.zone))
        shifts.add((ours - theirs) // timedelta(minutes=1))
    if trigger.expression:
        if shifts == {0} and trigger.interval == 1:
            return trigger.expression
        minutes = CronSim(trigger.expression, now).minutes
    else:
        due = following(trigger, now, made=made)
        minutes = {due.astimezone(trigger.zone).minute} if due and trigger.frequency == "hour" else set(range(60))
    of_hour = {shift % 60 for shift in shifts}
    if len(of_hour) > 1 or len(minutes) == 60:
        return "* * * * *"
    shift = of_hour.pop()
    moved = sorted((minute + shift) % 60 for minute in minutes)
    return f"{','.join(map(str, moved))} * * * *"
