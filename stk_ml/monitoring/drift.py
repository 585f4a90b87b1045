"""Verdicts on one window from merged histograms alone: drift, stable or insufficient, per column and over all."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.contracts import Interval
from stk_ml.model_policies import MonitorSpec
from stk_ml.monitor_state import Answer, ColumnVerdict
from stk_ml.monitoring.effects import ASPECTS, Ruler, aspects_present, day_cells, window_cells
from stk_ml.monitoring.resampling import DRAWS, Null, variation
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
#: Columns that cannot be judged do not stand against "stable" when the model gives them less of its attention together.
NEGLIGIBLE = 0.05
#: A fourth of the draws tells that a column is far from drifting: its p-value is above this.
_SHORT, _CLEAR = 8, 0.2
#: Fewer days of a reference do not tell how days differ: an effect has to be so many times its floor then.
_FEW_DAYS, _STRICT = 5, 3.0


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift.

    The floors are about one row in twenty-five: a normal number whose mean moves by 0.075 interquartile ranges (0.1
    standard deviations) has 4% of its rows in another place, which is total variation 0.04 too. Rates of missing,
    unseen and out-of-range rows start near 0 and are made by machines rather than by chance, hence one row in fifty.

    Attributes:
        number: floor of the Wasserstein distance of numbers and scores, in interquartile ranges of the reference.
        category: floor of the total variation of categories and booleans.
        rate: floor of the difference of rates.
        power: with which a drift as large as the floor must have been seen before a column is called stable.
        min_rows: a window with fewer rows is insufficient.
        season: days before and after the window's day of the year that are the same season; 0 to use all days.
        draws: of each null distribution.
        level: coverage of the intervals of effects.
    """

    number: float = 0.075
    category: float = 0.04
    rate: float = 0.02
    power: float = 0.8
    min_rows: int = 0
    season: int = 45
    draws: int = DRAWS
    level: float = 0.95

    @classmethod
    def of(cls, spec: MonitorSpec) -> DriftSettings:
        """Those of a model's file."""
        return cls(min_rows=spec.min_rows)

    def floors(self, kind: str) -> Floats:
        """(4,): the floor of each aspect for a column of a kind."""
        first = self.category if kind in ("boolean", "category") else self.number
        return np.array([first, self.rate, self.rate, self.rate])


#: What counts when nothing is said.
DEFAULTS = DriftSettings()


@dataclass(frozen=True)
class _Tested:
    """One column before the columns are looked at together; without a null it could not be tested.

    Attributes:
        p_values: (4,) of the aspects, each times the number of those that can move at all.
        strict: how many times its floor an effect has to be.
    """

    name: str
    kind: str
    rows: int
    null: Null | None = None
    effects: Floats = field(default_factory=lambda: np.zeros(4))
    p_values: Floats = field(default_factory=lambda: np.ones(4))
    aspects: int = 1
    strict: float = 1.0

    @property
    def p_value(self) -> float:
        """Of the column."""
        return float(self.p_values.min())


def assess(
    reference: Profile,
    current: Sequence[Histogram],
    *,
    settings: DriftSettings = DEFAULTS,
    weights: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    span: int = 1,
    day: date | None = None,
) -> tuple[ColumnVerdict, ...]:
    """One verdict per column of the reference, in its order, the score last.

    A column drifts when its p-value, after Benjamini and Hochberg over the columns that the model uses, is at most
    alpha and its effect reaches the floor. It is stable when it does not, and either a drift as large as the floor
    would have been seen with the declared power, or what was seen and what chance may hide (effects are distances, so
    they add up) stay below the floor together; else it is insufficient. A reference of fewer than 5 days cannot tell
    how days differ: rows are taken to be independent then, and an effect has to be three times its floor. A column's
    p-value is the smallest of its aspects times their number (Bonferroni). When no used column has drifted, the chance
    that any is said to is at most alpha.

    Args:
        reference: of the model.
        current: of the window, over the reference's bins; the columns are told by name, one may be absent.
        settings: what counts.
        weights: share of the model's attention per column; None gives all the same. A column without one has 0. The
            score's is 1 unless it is named.
        alpha: chance of a false alarm that this look may take.
        seed: of the draws; each column draws its own, so one does not depend on another.
        span: days that the window covers.
        day: in the middle of the window; with it, and a reference of 11 months or more, days of the same season are
            preferred.

    Example:
        >>> days = tuple(f"2013-01-{d:02}" for d in range(1, 31))
        >>> zero = (0,) * 30
        >>> km = ColumnProfile("km", (0.0, 1.0, 2.0, 3.0), (), ((100, 100, 100),) * 30, *(zero,) * 5)
        >>> score = ColumnProfile("score", (0.0, 0.5, 1.0), (), ((200, 100),) * 30, *(zero,) * 5)
        >>> profile = Profile(days, {}, (0.3,) * 30, (km,), days, score)
        >>> now = [Histogram("km", "number", (20, 100, 180), 0, 0, 0, 0, 0),
        ...        Histogram("score", "score", (201, 99), 0, 0, 0, 0, 0)]
        >>> found = assess(profile, now, alpha=0.01)
        >>> [(column.name, column.answer, column.aspect, round(column.effect.value, 2)) for column in found]
        [('km', 'drift', 'distribution', 0.36), ('score', 'stable', 'distribution', 0.0)]
        >>> overall(found)
        'drift'
    """
    windows = {histogram.name: histogram for histogram in current if histogram.kind != "score"}
    scores = [histogram for histogram in current if histogram.kind == "score"]
    attention = _attention(reference, weights)
    columns = [(profile, windows.get(profile.name), reference.days) for profile in reference.features]
    columns.append((reference.score, scores[0] if scores else None, reference.score_days))

    def look(column: tuple[ColumnProfile, Histogram | None, Sequence[str]]) -> _Tested:
        return _test(*column, settings, seed, span, day)

    # Drawing lets go of the interpreter's lock; threads of BLAS beside these would only be in the way.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        tested = list(pool.map(look, columns))
    used = np.array([share > 0 and test.null is not None for share, test in zip(attention, tested, strict=True)])
    adjusted = _adjust(np.array([test.p_value for test in tested]), used)
    looked = [_Look(alpha, alpha / max(int(used.sum()), 1), settings)] * len(tested)
    return tuple(map(_verdict, tested, attention, adjusted.tolist(), looked))


def overall(columns: Sequence[ColumnVerdict]) -> Answer:
    """The answer over all columns that the model uses, and the score.

    Drift when one of them drifts. Stable when all are, but for columns that hold less than 5% of the model's attention
    together; else insufficient.
    """
    used = [column for column in columns if column.weight > 0]
    if any(column.answer == "drift" for column in used):
        return "drift"
    untold = sum(column.weight for column in used if column.answer == "insufficient")
    return "stable" if used and untold < NEGLIGIBLE else "insufficient"


def in_season(days: Sequence[str], day: date | None, reach: int, fewest: int = 28) -> NDArray[np.bool_]:
    """Which days of a reference to compare with: those of the same season, or all when there are too few of them.

    A reference of less than 330 days has not seen the seasons: all of its days count.

    Args:
        days: ISO dates, rising.
        day: of the window.
        reach: days of the year before and after it, over the turn of the year.
        fewest: of the same season.

    Example:
        >>> year = [f"2013-{month:02}-{d:02}" for month in range(1, 13) for d in range(1, 29)]
        >>> kept = in_season(year, date(2014, 1, 10), 20)
        >>> [d for d, keep in zip(year, kept) if keep][27:31]
        ['2013-01-28', '2013-12-21', '2013-12-22', '2013-12-23']
    """
    everything = np.ones(len(days), np.bool_)
    if day is None or not reach or len(days) < 2:
        return everything
    dates = np.array(days, "datetime64[D]")
    if (dates[-1] - dates[0]).astype(int) < 330:
        return everything
    apart = np.abs((dates - np.datetime64(day)).astype(int)) % 365.25
    near: NDArray[np.bool_] = np.minimum(apart, 365.25 - apart) <= reach
    return near if near.sum() >= fewest else everything


def _attention(reference: Profile, weights: Mapping[str, float] | None) -> list[float]:
    names = [column.name for column in reference.features]
    if weights is None:
        weights = dict.fromkeys(names, 1 / max(len(names), 1))
    scored = sum(map(sum, reference.score.counts)) > 0
    return [weights.get(name, 0.0) for name in names] + [weights.get("score", 1.0) if scored else 0.0]


def _test(
    profile: ColumnProfile,
    window: Histogram | None,
    days: Sequence[str],
    settings: DriftSettings,
    seed: int,
    span: int,
    day: date | None,
) -> _Tested:
    timeless = tuple(days) == ("all",)
    cells = day_cells(profile)
    if not timeless:
        cells = cells[in_season(days, day, settings.season)]
    rows = cells.sum(axis=0)
    few = not timeless and int(np.count_nonzero(cells.sum(axis=1))) < _FEW_DAYS
    if window is None or window.rows < max(settings.min_rows, 1) or not rows.sum():
        return _Tested(profile.name, window.kind if window else "", window.rows if window else 0)
    ruler = Ruler(profile, window.kind, rows)
    seen = window_cells(window)
    rng = np.random.default_rng([seed, zlib.crc32(f"{window.kind}:{profile.name}".encode())])
    between = variation(cells, ruler, span, rows=window.rows, timeless=timeless or few)
    effects = ruler.effects(seen, rows)
    movable = np.array(aspects_present(rows + seen))
    aspects = max(int(movable.sum()), 1)
    for draws in (settings.draws // _SHORT, settings.draws):
        null = Null(ruler, rows, seen, between, rng, draws)
        p_values = np.where(movable, np.minimum(null.p_values(effects) * aspects, 1.0), 1.0)
        if p_values.min() > _CLEAR:
            break
    strict = _STRICT if few else 1.0
    return _Tested(profile.name, window.kind, window.rows, null, effects, p_values, aspects, strict)


def _adjust(p_values: Floats, used: NDArray[np.bool_]) -> Floats:
    """Benjamini and Hochberg 1995 over the used columns; the others as if each were tested beside them all."""
    adjusted = np.minimum(p_values * (int(used.sum()) + 1), 1.0)
    ordered = np.flatnonzero(used)[np.argsort(p_values[used], kind="stable")]
    scaled = p_values[ordered] * len(ordered) / np.arange(1, len(ordered) + 1)
    adjusted[ordered] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


@dataclass(frozen=True)
class _Look:
    """What all columns share: the chance of a false alarm, and the share of it that one column alone may take."""

    alpha: float
    level: float
    settings: DriftSettings


def _verdict(test: _Tested, weight: float, adjusted: float, look: _Look) -> ColumnVerdict:
    settings = look.settings
    floors = test.strict * settings.floors(test.kind)
    if test.null is None:
        none = Interval(0.0, 0.0, 0.0, settings.level)
        why = f"{test.rows} rows are too few" if test.kind else "not in the window"
        return ColumnVerdict(
            test.name,
            test.kind,
            "insufficient",
            ASPECTS[0],
            none,
            float(floors[0]),
            1.0,
            1.0,
            math.inf,
            weight,
            test.rows,
            why,
        )
    # An aspect is significant when it would be so in place of the smallest one.
    factor = adjusted / max(test.p_value, 1e-300)
    moved = (test.p_values * factor <= look.alpha) & (test.effects >= floors)
    aspect = int(np.argmax(np.where(moved.any() & ~moved, -1.0, test.effects / floors)))
    detectable = test.null.critical(look.level / test.aspects) + test.null.quantile(settings.power)
    hidden = test.effects + test.null.quantile(settings.level)
    told = bool((test.strict * detectable <= floors).all() or (test.strict * hidden <= floors).all())
    answer: Answer = "drift" if moved.any() else "stable" if told else "insufficient"
    return ColumnVerdict(
        name=test.name,
        kind=test.kind,
        answer=answer,
        aspect=ASPECTS[aspect],
        effect=test.null.interval(float(test.effects[aspect]), aspect, settings.level),
        floor=float(floors[aspect]),
        p_value=test.p_value,
        adjusted=adjusted,
        detectable=float(detectable[aspect]),
        weight=weight,
        rows=test.rows,
        detail=_detail(answer, test, aspect, float(floors[aspect]), float(detectable[aspect])),
    )


def _detail(answer: Answer, test: _Tested, aspect: int, floor: float, detectable: float) -> str:
    unit = " of the rows" if aspect or test.kind in ("boolean", "category") else " interquartile ranges"
    what = f"{ASPECTS[aspect].replace('_', ' ')} moved by {test.effects[aspect]:.3g}{unit}"
    if answer == "insufficient":
        return f"{what}; {test.rows} rows show {detectable:.3g} or more, what counts is {floor:.3g}{_why(test)}"
    return f"{what}, what counts is {floor:.3g}{_why(test)}"


def _why(test: _Tested) -> str:
    return " (few days of reference: their differences are not known)" if test.strict > 1 else ""
