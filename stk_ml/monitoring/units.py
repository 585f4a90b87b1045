"""Whether a number now comes in another unit: told from its histogram over the bins of the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]

_FACTORS = {
    "10": 10.0,
    "100 (percent)": 100.0,
    "1,000": 1000.0,
    "1,000,000": 1e6,
    "60 (minutes, seconds)": 60.0,
    "24 (days, hours)": 24.0,
    "1,440 (days, minutes)": 1440.0,
    "3,600 (hours, seconds)": 3600.0,
    "86,400 (days, seconds)": 86400.0,
    "1.609 (miles, kilometres)": 1.609344,
    "1.852 (nautical miles, kilometres)": 1.852,
    "3.281 (metres, feet)": 3.280840,
    "2.54 (inches, centimetres)": 2.54,
    "25.4 (inches, millimetres)": 25.4,
    "2.205 (kilograms, pounds)": 2.204623,
    "3.6 (metres per second, kilometres per hour)": 3.6,
    "1.944 (metres per second, knots)": 1.943844,
    "3.785 (US gallons, litres)": 3.785412,
}
#: What the new value is: slope times the old one plus offset.
_CHANGES: tuple[tuple[str, float, float], ...] = (
    *((f"multiplied by {name}", factor, 0.0) for name, factor in _FACTORS.items()),
    *((f"divided by {name}", 1 / factor, 0.0) for name, factor in _FACTORS.items()),
    ("turned from Celsius to Fahrenheit", 1.8, 32.0),
    ("turned from Fahrenheit to Celsius", 1 / 1.8, -32 / 1.8),
    ("turned from Celsius to kelvin", 1.0, 273.15),
    ("turned from kelvin to Celsius", 1.0, -273.15),
    ("turned in sign", -1.0, 0.0),
)
#: Largest difference of the distribution functions that is no change, from all days together and from each of them.
_MOVED, _MOVED_FROM_EACH = 0.2, 0.5
#: Difference that the right unit may leave, at least and at most, and which share of the change that may be.
_LEFT, _LEFT_MOST, _SHARE = 0.05, 0.08, 0.25
#: A shift by more interquartile ranges than this is no drift.
_FAR = 2.0
#: Share of rows outside all of training at which a number cannot be the same one, and days needed to say so.
_OUTSIDE, _FEWEST = 0.9, 5
_DAY_ROWS, _SAMPLE = 20, 10


def changed(edges: Floats, days: Floats, now: Histogram, sample: Floats | None = None) -> str:
    """What happened to the values, with numbers; empty when nothing of the kind did.

    A known conversion has to explain the new distribution as well as reference days explain each other, where it is
    far from all of them, and a mere shift by what drift may do explains it less than half as well. It is compared
    with all days together, or, where days differ much (temperatures), with each. A drift by just the factor of a
    conversion cannot be told from it.

    Where too few rows are left inside the bins to tell conversions apart, nine of ten rows must lie outside of
    training, of a column whose every day used to spread over all of it, or, where some values are at hand, more than
    two ranges of training away from it: a month, which steps out of training by itself, is no other unit.

    Args:
        edges: (b + 1,) of the reference's bins.
        days: (d, b + 2) rows per day: below, the bins, above.
        now: the histogram to judge.
        sample: (s,) some of its values, where there are any.

    Example:
        >>> edges = np.arange(11.0)
        >>> days = np.array([[0, *range(10, 110, 10), 0]] * 30, float)
        >>> miles = np.diff(np.square(np.minimum(np.arange(11.0) * 1.609344, 10)) * 5.5).astype(int).tolist()
        >>> changed(edges, days, Histogram("km", "number", tuple(miles), 0, 0, 0, 0, 0))
        'as if divided by 1.609 (miles, kilometres): this leaves 2% of the distribution unexplained, no change 55%'
    """
    rows = sum(now.counts) + now.below + now.above
    days = days[days.sum(axis=1) >= _DAY_ROWS]
    if not rows or not len(days) or edges[0] == edges[-1]:
        return ""
    seen = _shares(np.array([now.below, *now.counts, now.above], np.float64))
    pooled, each = _shares(days.sum(axis=0)), _shares(days)
    if _apart(each, seen) < _MOVED:
        return ""
    known, apart, moved = pooled[None], np.abs(each - pooled).max(axis=1), float(np.abs(seen - pooled).max())
    if moved < 2 * apart.max():
        known, moved = each, _apart(each, seen)
        if moved < _MOVED_FROM_EACH:
            return ""
        apart = _nearest(each)
    usual = float(np.quantile(apart, 0.95)) + 1.36 / math.sqrt(rows)
    left = min(float(np.clip(usual, _LEFT, _LEFT_MOST)), _SHARE * moved)
    found = sorted(pair for pair in _explained(edges, known, seen) if pair[0] <= left)
    if found and 2 * found[0][0] < _shifted(edges, known, pooled, seen):
        names = " or ".join(name for _, name in found[:3])
        return f"as if {names}: this leaves {found[0][0]:.0%} of the distribution unexplained, no change {moved:.0%}"
    return _outside(edges, days, now, rows, sample)


def outside(now: Histogram) -> bool:
    """Whether so many values lie outside training that some of them at hand would help to tell.

    Example:
        >>> [outside(Histogram("km", "number", (10,), 0, above, 0, 0, 0)) for above in (90, 0)]
        [True, False]
    """
    rows = sum(now.counts) + now.below + now.above
    return rows > 0 and (now.below + now.above) / rows >= _OUTSIDE


def _apart(known: Floats, seen: Floats) -> float:
    """Largest difference of the distribution functions, to the nearest of those known."""
    return float(np.abs(known - seen).max(axis=1).min())


def _nearest(each: Floats) -> Floats:
    """How far each day is from the nearest other one."""
    if len(each) < 2:
        return np.zeros(1)
    return np.array([_apart(np.delete(each, place, axis=0), day) for place, day in enumerate(each)])


def _explained(edges: Floats, known: Floats, seen: Floats) -> Iterator[tuple[float, str]]:
    """How far each conversion is from explaining what is seen; only those that leave enough inside to tell."""
    share = edges[0] >= 0 and edges[-1] <= 1
    for name, slope, offset in _CHANGES:
        if share and abs(math.log10(abs(slope))) < 1:  # a share comes in per cent, but not in miles
            continue
        expected = _below(edges, known, (edges - offset) / slope)
        expected = expected if slope > 0 else 1 - expected
        inside = np.count_nonzero((expected > 0.02) & (expected < 0.98), axis=1)
        telling = (inside >= 2) & (np.ptp(expected, axis=1) > 0.1)
        if telling.any():
            yield _apart(expected[telling], seen), name


def _shifted(edges: Floats, known: Floats, pooled: Floats, seen: Floats) -> float:
    """How far a shift is from explaining what is seen; 1.0 when the median is outside or too far away for drift."""
    if not seen[0] < 0.5 < seen[-1]:
        return 1.0
    low, middle, high = (float(np.interp(share, pooled, edges)) for share in (0.25, 0.5, 0.75))
    median = float(np.interp(0.5, seen, edges))
    if abs(median - middle) > _FAR * (high - low):
        return 1.0
    shifts = [median - float(np.interp(0.5, one, edges)) for one in known]
    return min(_apart(_below(edges, one[None], edges - by), seen) for one, by in zip(known, shifts, strict=True))


def _outside(edges: Floats, days: Floats, now: Histogram, rows: int, sample: Floats | None) -> str:
    past = (days[:, 0] + days[:, -1]) / days.sum(axis=1)
    within = np.array([_range(edges, day) for day in _shares(days)])
    whole = _range(edges, _shares(days.sum(axis=0)))
    share = (now.below + now.above) / rows
    if len(days) < _FEWEST or share < _OUTSIDE or past.max() > 1 - _OUTSIDE:
        return ""
    if (whole <= 0 or float(np.median(within)) < whole / 2) and not _far(edges, sample):
        return ""
    side = f"above {edges[-1]:g}, the largest" if now.above >= now.below else f"below {edges[0]:g}, the smallest"
    return (
        f"{share:.0%} of {rows:,} values lie {side} of training; on {len(days)} reference days at most {past.max():.1%}"
    )


def _far(edges: Floats, sample: Floats | None) -> bool:
    """Whether the middle of some values lies further from training than training is wide, twice."""
    values = np.empty(0) if sample is None else sample[~np.isnan(sample)]
    if values.size < _SAMPLE:
        return False
    middle = float(np.median(values))
    low, high = float(edges[0]), float(edges[-1])
    return max(low - middle, middle - high) > 2 * (high - low)


def _shares(counts: Floats) -> Floats:
    """Share of rows below each edge (at the last one: not above it)."""
    return np.asarray(np.cumsum(counts, axis=-1)[..., :-1] / counts.sum(axis=-1, keepdims=True))


def _range(edges: Floats, shares: Floats) -> float:
    """The interquartile range."""
    return float(np.interp(0.75, shares, edges) - np.interp(0.25, shares, edges))


def _below(edges: Floats, known: Floats, points: Floats) -> Floats:
    """Share of each reference below each point: between edges by line, of few distinct values by step."""
    if edges[-1] > edges[-2]:
        return np.array([np.interp(points, edges, shares, left=0.0, right=1.0) for shares in known])
    place = np.searchsorted(edges[:-1], points, side="left")
    ends = np.column_stack([known[:, :-1], np.ones(len(known))])
    return np.asarray(ends[:, place] * (points > edges[0]))
