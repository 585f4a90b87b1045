"""Data that is broken rather than drifted: findings alert a person and block retraining.

A finding needs a jump that ordinary days do not make: outside everything that the reference days showed, six of their
standard deviations away, and large. The spread of days, not of rows, is the measure, so days that depend on each other
raise no finding. The reference does not move, so what is broken stays found until it is mended or trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.monitor_state import QualityFinding
from stk_ml.monitoring import arrivals, units
from stk_ml.monitoring.arrivals import Span
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
#: Standard deviations of days.
SIGMAS = 6.0
#: A rate that moved by less than this is no jump.
FLOOR = 0.05
#: Fewer rows than this in a window, and nothing is said about its columns.
MIN_ROWS = 100
#: Days with fewer rows than this say nothing.
_DAY_ROWS = 20
#: Standard deviation of days (arcsine scale) that is assumed until days show theirs, and how many days it weighs.
_PRIOR, _PRIOR_DAYS = 0.05, 4
#: Share of rows with values of a wrong kind that is no accident any more.
_COUNTED = 0.01


@dataclass(frozen=True)
class Window:
    """What telemetry adds up to in one window, over all workers.

    Attributes:
        start: unix seconds.
        end: unix seconds.
        rows: scored.
        histograms: one per column, and the score.
        counted: rows by (what, column), of ``stk.counted``.
    """

    start: float
    end: float
    rows: int
    histograms: tuple[Histogram, ...] = ()
    counted: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What is known about the telemetry itself.

    Attributes:
        spans: windows that each worker told of, in the history and in the current window, in any order.
        dropped: rows of the current window that were lost before they reached the log (``stk.dropped``).
        samples: some values of number columns in the current window (``stk.row``); a help to tell other units.
    """

    spans: tuple[Span, ...] = ()
    dropped: int = 0
    samples: Mapping[str, Floats] = field(default_factory=dict)


def assess(
    reference: Profile,
    schema: FeatureSchema,
    history: Sequence[Window],
    current: Window,
    facts: Facts | None = None,
    *,
    now: float,
) -> tuple[QualityFinding, ...]:
    """All that is broken in a window.

    Args:
        reference: the profile that the model was made with.
        schema: the columns that it takes.
        history: windows before the current one, of the same length.
        current: the window to look at.
        facts: about the telemetry; None looks at no arrivals.
        now: unix seconds, of the look.

    Returns:
        Findings of the checks ``schema``, ``unit``, ``frozen``, ``missing``, ``unseen`` per column, and ``volume``,
        ``late`` and ``absent`` of the window; empty when nothing is broken.

    Example:
        >>> from stk_ml.artifact.schema import FeatureField
        >>> zero = (0,) * 10
        >>> km = ColumnProfile("km", (0.0, 10.0, 20.0), (), ((500, 500),) * 10, zero, zero, zero, zero, zero)
        >>> score = ColumnProfile("score", (), (), (), (), (), (), (), ())
        >>> profile = Profile((), {}, (), (km,), (), score)
        >>> seen = Histogram("km", "number", (300, 300), 0, 0, 400, 0, 0)
        >>> window = Window(0.0, 86400.0, 1000, (seen,))
        >>> for finding in assess(profile, FeatureSchema((FeatureField("km", "number"),)), (), window, now=86400.0):
        ...     print(finding.check, finding.column, finding.detail)
        missing km 40.0% of 1,000 rows are missing; on 10 reference days 0.0% to 0.0% were
    """
    facts = facts or Facts()
    found = list(arrivals.check(facts.spans, current.start, current.end, now))
    found += arrivals.volume([(w.start, w.end, w.rows) for w in history], (current.start, current.end, current.rows))
    if facts.dropped > _COUNTED * (current.rows + facts.dropped):
        share = facts.dropped / (current.rows + facts.dropped)
        detail = f"{facts.dropped:,} rows ({share:.1%}) were lost before they reached the log"
        found.append(QualityFinding("absent", "", detail))
    if current.histograms:
        found += _schema(reference, schema, current)
    found += _counted(history, current)
    seen = {histogram.name: histogram for histogram in current.histograms}
    for column in (*reference.features, reference.score):
        histogram = seen.get(column.name)
        if histogram and column.counts and _fits(column, histogram) and histogram.rows >= MIN_ROWS:
            found += _column(column, histogram, facts.samples.get(column.name))
    return tuple(found)


def _schema(reference: Profile, schema: FeatureSchema, current: Window) -> Iterator[QualityFinding]:
    kinds = {field.name: str(field.type) for field in schema.fields}
    profiles = {column.name: column for column in reference.features}
    seen = {histogram.name: histogram for histogram in current.histograms if histogram.kind != "score"}
    for name in kinds.keys() - seen.keys():
        yield QualityFinding("schema", name, f"no telemetry of this column among {len(seen)} columns told")
    for name, histogram in seen.items():
        if name not in kinds:
            detail = f"told by telemetry ({histogram.rows:,} rows), but none of the {len(kinds)} columns of the model"
            yield QualityFinding("schema", name, detail)
        elif histogram.kind != kinds[name]:
            yield QualityFinding("schema", name, f"told as {histogram.kind}, the model takes {kinds[name]}")
        elif name in profiles and not _fits(profiles[name], histogram):
            expected = len(profiles[name].counts[0]) if profiles[name].counts else 0
            yield QualityFinding("schema", name, f"told in {len(histogram.counts)} bins, the model has {expected}")


def _fits(column: ColumnProfile, histogram: Histogram) -> bool:
    return not column.counts or len(histogram.counts) == len(column.counts[0])


def _counted(history: Sequence[Window], current: Window) -> Iterator[QualityFinding]:
    """Values of a wrong kind, and columns that the model does not take, at more than three times the usual rate."""
    for (what, name), rows in sorted(current.counted.items()):
        if what in ("unknown_column", "wrong_type") and current.rows >= MIN_ROWS:
            rates = [window.counted.get((what, name), 0) / window.rows for window in history if window.rows]
            usual, share = float(np.median(rates)) if rates else 0.0, rows / current.rows
            told = what == "wrong_type" or len(rates) >= 3
            if told and share >= _COUNTED and share > 3 * usual:
                words = {"unknown_column": "name this column, which the model does not take", "wrong_type": "hold text"}
                detail = f"{rows:,} of {current.rows:,} rows {words[what]}; usual is {usual:.1%}, here {share:.1%}"
                yield QualityFinding("schema", name, detail)


def _column(column: ColumnProfile, now: Histogram, sample: Floats | None) -> Iterator[QualityFinding]:
    cells = np.array(column.counts, np.float64)
    missing, unseen, other = (np.array(part, np.float64) for part in (column.missing, column.unseen, column.other))
    outside = np.array([column.below, column.above], np.float64).T
    present = cells.sum(axis=1) + outside.sum(axis=1) + unseen + other
    filled = now.rows - now.missing
    jumps = [("missing", "missing", now.missing, now.rows, missing, present + missing)]
    if column.categories:
        jumps.append(("unseen", "of categories that training has not seen", now.unseen, filled, unseen, present))
    for check, words, count, rows, past, past_rows in jumps:
        days = Days.of(past, past_rows)
        if rows >= MIN_ROWS and days and days.jump(count / rows, rows):
            detail = f"{count / rows:.1%} of {rows:,} rows are {words}; {days.told} were"
            yield QualityFinding(check, column.name, detail)
    if filled >= MIN_ROWS:
        days = Days.of(cells.max(axis=1, initial=0.0), present)
        place = int(np.argmax(now.counts)) if now.counts else 0
        if days and one_bin(now) and days.jump(1.0, filled) and not _differ(sample):
            detail = f"all {filled:,} values are {_named(column, place)}; {days.told} shared one bin"
            yield QualityFinding("frozen", column.name, detail)
        elif len(column.edges) > 1 and now.kind != "boolean" and column.name != "score":
            days_of_cells = np.column_stack([outside[:, :1], cells, outside[:, 1:]])
            detail = units.changed(np.array(column.edges), days_of_cells, now, sample)
            if detail:
                yield QualityFinding("unit", column.name, detail)


def one_bin(now: Histogram) -> bool:
    """Whether all values lie in one bin, so that only some of them at hand can tell whether they are one value."""
    return bool(now.counts) and 0 < max(now.counts) == sum(now.counts) + now.below + now.above + now.other + now.unseen


def _differ(sample: Floats | None) -> bool:
    return sample is not None and len(np.unique(sample[~np.isnan(sample)])) > 1


def _named(column: ColumnProfile, place: int) -> str:
    if column.categories:
        return repr(column.categories[place])
    low, high = column.edges[place], column.edges[place + 1]
    return f"{low:g}" if low == high else f"from {low:g} to {high:g}"


@dataclass(frozen=True)
class Days:
    """A rate on the reference days.

    Attributes:
        low, high: smallest and largest of the days.
        mean, spread: on the arcsine scale, where the noise of a rate does not depend on the rate.
        count: number of days.
    """

    low: float
    high: float
    mean: float
    spread: float
    count: int

    @classmethod
    def of(cls, events: Floats, rows: Floats) -> Days | None:
        """From counts per day; None when no day has enough rows."""
        kept = rows >= _DAY_ROWS
        if not kept.any():
            return None
        rates = events[kept] / rows[kept]
        angles, freedom = np.arcsin(np.sqrt(rates)), int(kept.sum()) - 1
        squares = float(np.square(angles - angles.mean()).sum()) + _PRIOR_DAYS * _PRIOR**2
        spread = math.sqrt(squares / (freedom + _PRIOR_DAYS))
        return cls(float(rates.min()), float(rates.max()), float(angles.mean()), spread, freedom + 1)

    def jump(self, rate: float, rows: int) -> bool:
        """Whether a rate over so many rows is one that ordinary days do not have, in either direction."""
        reach = SIGMAS * math.sqrt(self.spread**2 * (1 + 1 / self.count) + 1 / (4 * rows))
        away = max(self.low - rate, rate - self.high)
        return away >= FLOOR and abs(math.asin(math.sqrt(rate)) - self.mean) > reach

    @property
    def told(self) -> str:
        """For people."""
        return f"on {self.count} reference days {self.low:.1%} to {self.high:.1%}"
