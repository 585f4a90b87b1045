"""The yearly budget of false alarms, spent across looks.

A look at level alpha raises a false alarm with chance at most alpha, whatever earlier looks said and however much
looks depend on each other. Expectations add up, so levels that sum to at most A over any year keep the expected
number of false alarms in it at most A. Each look gets the share of the year since the one before it:
A * elapsed / 365.25 days. Looking more often thus gains nothing and costs nothing, and a second look at the same
instant cannot alarm.

An alarm disarms: the same drift alarms once. The first calm look arms again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

YEAR_DAYS = 365.25
#: No look takes more than this, however long ago the last one was; the rest is forfeited.
MOST = 0.05


@dataclass(frozen=True)
class Budget:
    """What has been spent. Written and read by :mod:`stk_ml.contracts`; start with ``Budget()``.

    Attributes:
        year: start of the current year of account, ISO 8601 with Z; empty before the first look.
        looked: time of the newest look.
        spent: sum of the levels of the looks of this year.
        alarms: number of alarms of this year.
        armed: False between an alarm and the next calm look.
    """

    year: str = ""
    looked: str = ""
    spent: float = 0.0
    alarms: int = 0
    armed: bool = True


def level(budget: Budget, now: datetime, *, per_year: float, window_days: float = 1.0) -> float:
    """The chance of a false alarm that a look at ``now`` may take: ``alpha`` of :func:`stk_ml.monitoring.drift.assess`.

    Args:
        budget: before the look.
        now: time of the look; a look before the newest one gets nothing.
        per_year: declared false alarms per year.
        window_days: what the first look counts as elapsed.

    Example:
        >>> first, second = datetime(2013, 7, 2, tzinfo=UTC), datetime(2013, 7, 9, tzinfo=UTC)
        >>> round(level(Budget(), first, per_year=1.0), 5)
        0.00274
        >>> state, alarm = look(Budget(), first, drifted=True, per_year=1.0)
        >>> alarm, state.armed, round(level(state, second, per_year=1.0), 5)
        (True, False, 0.01916)
    """
    elapsed = window_days
    if budget.looked:
        elapsed = max((now - _time(budget.looked)).total_seconds(), 0.0) / 86_400
    return min(per_year * elapsed / YEAR_DAYS, MOST)


def look(
    budget: Budget, now: datetime, *, drifted: bool, per_year: float, window_days: float = 1.0, calm: bool | None = None
) -> tuple[Budget, bool]:
    """Books a look and tells whether it alarms.

    Args:
        budget: before the look.
        now: time of the look.
        drifted: what the look found, at the level that :func:`level` gave it.
        per_year: declared false alarms per year.
        window_days: as in :func:`level`.
        calm: whether the look arms again; default: when it found no drift. Pass False for a window with too little
            data or broken data, which says nothing.

    Returns:
        The budget after the look, and whether this look is an alarm.
    """
    alpha = level(budget, now, per_year=per_year, window_days=window_days)
    if not budget.year or (now - _time(budget.year)).total_seconds() >= YEAR_DAYS * 86_400:
        budget = replace(budget, year=_text(now), spent=0.0, alarms=0)
    alarm = drifted and budget.armed and alpha > 0
    armed = not alarm and (budget.armed or (not drifted if calm is None else calm))
    looked = max(_text(now), budget.looked)
    spent = budget.spent + alpha
    return replace(budget, looked=looked, spent=spent, alarms=budget.alarms + alarm, armed=armed), alarm


def spent_share(budget: Budget, per_year: float) -> float:
    """Share of this year's budget that has been spent: ``spent`` of a verdict.

    Example:
        >>> spent_share(Budget(spent=0.25), per_year=0.5)
        0.5
    """
    return min(budget.spent / per_year, 1.0) if per_year > 0 else 1.0


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
