"""Whether telemetry came, in time and in the usual volume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from stk_ml.monitor_state import QualityFinding

#: Seconds without telemetry that are nothing to speak of.
GRACE = 3600.0
#: A gap is late when it is this many times the longest that there was.
_TIMES = 2.0
#: Windows of the same weekday that are needed, and that are looked back at.
_FEWEST, _LATEST = 3, 8
#: Windows that usually have fewer rows are too small to collapse.
_SMALL = 50
#: Standard deviations (of logarithms) and the least fall that count as a collapse.
_SIGMAS, _FALL = 6.0, 0.5
#: Spread of the volume of days (logarithms) that is assumed at least.
_SPREAD = 0.1
_DAY = 86400.0


@dataclass(frozen=True)
class Span:
    """One window that one worker told of: ``worker``, ``start`` and ``end`` in unix seconds."""

    worker: str
    start: float
    end: float


def check(spans: Sequence[Span], start: float, end: float, now: float) -> Iterator[QualityFinding]:
    """Telemetry that did not come at all or has a hole (``absent``), or stopped before the window's end (``late``).

    A worker that stops while others go on may have been scaled down: only what no worker told is missing. How long a
    gap may be is learned from the gaps before the window: an endpoint without calls at night tells nothing at night.

    Args:
        spans: of all workers, before and in the window; none says nothing.
        start: of the window, unix seconds.
        end: of the window, unix seconds.
        now: unix seconds.

    Example:
        >>> told = [Span("a", minute * 60.0, minute * 60.0 + 60) for minute in range(2000)]
        >>> [finding] = check(told, 86400.0, 2 * 86400.0, now=2 * 86400.0)
        >>> finding.check, finding.detail
        ('late', 'no worker told of anything from 1970-01-02T09:20Z on (14.7 hours; the longest gap before was 0.0)')
    """
    if not spans:
        return
    reached = min(end, now)
    first = min(span.start for span in spans)
    usual = max((till - since for since, till in _gaps(spans, first, start)), default=0.0)
    allowed = max(GRACE, _TIMES * usual, 0.0 if start - first >= end - start else (end - start) / 2)
    since, till = max(_gaps(spans, start, reached), key=lambda gap: gap[1] - gap[0], default=(start, start))
    if till - since <= allowed:
        return
    hours = f"({(till - since) / 3600:.1f} hours; the longest gap before was {usual / 3600:.1f})"
    if till < reached or since <= start:
        yield QualityFinding("absent", "", f"no worker told of anything from {_told(since)} to {_told(till)} {hours}")
    else:
        yield QualityFinding("late", "", f"no worker told of anything from {_told(since)} on {hours}")


def volume(history: Sequence[tuple[float, float, int]], current: tuple[float, float, int]) -> Iterator[QualityFinding]:
    """Far fewer rows than in windows of the same weekday and hour (``volume``); with too few of those, than in any.

    Args:
        history: start, end (unix seconds) and rows of earlier windows of the same length.
        current: the same of the window.

    Example:
        >>> days = [(day * 86400.0, day * 86400.0 + 86400, 1000 + day) for day in range(28)]
        >>> [finding] = volume(days, (28 * 86400.0, 29 * 86400.0, 40))
        >>> finding.detail
        '40 rows; the last 4 windows of this weekday had 1,000 to 1,021, and fewer than 506 are a collapse'
    """
    start, _, rows = current
    past = sorted((begin, count) for begin, _, count in history if begin < start)
    same = [count for begin, count in past if _slot(begin) == _slot(start)][-_LATEST:]
    if len(same) >= _FEWEST:
        usual, of = float(np.median(same)), f"the last {len(same)} windows of this weekday"
        limit = usual * min(1 - _FALL, math.exp(-_SIGMAS * math.hypot(_spread(past), usual**-0.5 if usual else 0.0)))
    elif len(past) >= 7:
        same = [count for _, count in past]
        usual, of = float(np.median(same)), f"all {len(same)} windows before"
        limit = min(same) * (1 - _FALL)
    else:
        return
    if usual >= _SMALL and rows < limit:
        had = f"{of} had {min(same):,} to {max(same):,}"
        detail = f"{rows:,} rows; {had}, and fewer than {math.ceil(limit):,} are a collapse"
        yield QualityFinding("volume", "", detail)


def _gaps(spans: Sequence[Span], start: float, end: float) -> Iterator[tuple[float, float]]:
    """Stretches between two times that no span covers."""
    reached = start
    for span in sorted(spans, key=lambda span: span.start):
        if span.start > reached and reached < end:
            yield reached, min(span.start, end)
        reached = max(reached, span.end)
    if reached < end:
        yield reached, end


def _slot(start: float) -> tuple[int, int]:
    """Weekday and hour."""
    return int(start // _DAY) % 7, int(start % _DAY // 3600)


def _spread(past: Sequence[tuple[float, int]]) -> float:
    """How much the logarithm of the volume differs between windows of one weekday and hour."""
    groups: dict[tuple[int, int], list[float]] = {}
    for begin, count in past:
        groups.setdefault(_slot(begin), []).append(math.log(count + 1))
    apart = [value - float(np.median(group)) for group in groups.values() if len(group) > 1 for value in group]
    return max(_SPREAD, 1.4826 * float(np.median(np.abs(apart))) if apart else 0.0)


def _told(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%MZ}"
