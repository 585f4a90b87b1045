"""Replays a model's own stable history: how often the monitor alarms without cause, and what it would see.

Columns and the score are replayed, one by one: the profile holds no rows for the classifier that looks at the columns
together, which has half of the declared rate for itself, and no labels: the false alarms of performance have declared
levels of their own (:class:`stk_ml.monitoring.labelled.LabelledPerformance`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.contracts import Interval
from stk_ml.monitoring import budget as budgets
from stk_ml.monitoring.drift import DEFAULTS, DriftSettings, assess, overall
from stk_ml.monitoring.effects import ASPECTS, Ruler, aspects_present, day_cells
from stk_ml.monitoring.resampling import Null, variation
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
T = TypeVar("T")
#: Null distributions per size and shift. Each is that of one simulated window, and serves for some of the others too.
_NULLS = 5


@dataclass(frozen=True)
class Power:
    """How often a shift is called drift.

    Attributes:
        column: that was shifted.
        rows: in the window.
        shift: in interquartile ranges (numbers, the score), or the share of rows moved (categories, booleans).
        power: share of simulated windows that were called drift.
    """

    column: str
    rows: int
    shift: float
    power: float


@dataclass(frozen=True)
class Calibration:
    """``calibration.json``.

    Attributes:
        looks: at blocks of the reference, each against the rest of it.
        alarms: of them; none has a cause.
        per_year: false alarms per year of the columns, with an exact Poisson interval (Garwood 1936).
        declared: false alarms per year that the columns may raise; half of the model's when there is a joint view.
        held: whether the declared rate lies in the interval or above it.
        power: per column, rows and shift.
    """

    looks: int
    alarms: int
    per_year: Interval
    declared: float
    held: bool
    power: tuple[Power, ...]


def calibrate(
    profile: Profile,
    kinds: Mapping[str, str],
    *,
    settings: DriftSettings = DEFAULTS,
    weights: Mapping[str, float] | None = None,
    per_year: float = 1.0,
    joint: bool = True,
    span: int = 1,
    rows: Sequence[int] = (200, 1000, 5000, 20_000),
    shifts: Sequence[float] = (0.05, 0.1, 0.2, 0.4),
    windows: int = 100,
    seed: int = 0,
) -> Calibration:
    """Each block of ``span`` days of the reference is looked at against the other days, under the yearly budget.

    Args:
        profile: of the model.
        kinds: of its columns by name (:attr:`stk_ml.artifact.schema.FeatureField.type`).
        settings: as the monitor's.
        weights: as the monitor's.
        per_year: declared false alarms of the model.
        joint: whether the monitor looks at the columns together too: half of each look's chance is not theirs then.
        span: days in a window.
        rows: sizes of windows for the power.
        shifts: sizes of shifts for the power.
        windows: simulated per size and shift.
        seed: of everything drawn.
    """
    state, alarms, looks, part = budgets.Budget(), 0, 0, 2 if joint else 1
    start = datetime(2000, 1, 1, tzinfo=UTC)
    for reference, window in _blocks(profile, kinds, span):
        now = start + timedelta(days=span * looks)
        alpha = budgets.level(state, now, per_year=per_year, window_days=span) / part
        found = assess(reference, window, settings=settings, weights=weights, alpha=alpha, seed=seed, span=span)
        state, alarm = budgets.look(state, now, drifted=overall(found) == "drift", per_year=per_year, window_days=span)
        looks, alarms = looks + 1, alarms + alarm
    rate, declared = per_year_interval(alarms, looks * span / budgets.YEAR_DAYS), per_year / part
    alpha = min(per_year * span / budgets.YEAR_DAYS, budgets.MOST) / part
    power = tuple(_power(profile, kinds, settings, weights, alpha, span, rows, shifts, windows, seed))
    return Calibration(looks, alarms, rate, declared, rate.low <= declared, power)


def per_year_interval(alarms: int, years: float, level: float = 0.95) -> Interval:
    """A rate of rare events with the exact Poisson interval (Garwood 1936); unbounded above when nothing was watched.

    Example:
        >>> found = per_year_interval(1, 0.5)
        >>> found.value, round(found.low, 3), round(found.high, 2)
        (2.0, 0.051, 11.14)
    """
    if years <= 0:
        return Interval(0.0, 0.0, math.inf, level)
    tail = (1 - level) / 2
    low = _poisson_mean(alarms - 1, 1 - tail) if alarms else 0.0
    return Interval(alarms / years, low / years, _poisson_mean(alarms, tail) / years, level)


def _poisson_mean(most: int, chance: float) -> float:
    """The mean at which at most ``most`` events have this chance, by bisection."""
    low, high = 0.0, 10.0 * (most + 5)
    for _ in range(100):
        middle = (low + high) / 2
        logs = [k * math.log(middle) - middle - math.lgamma(k + 1) for k in range(most + 1)]
        low, high = (middle, high) if sum(map(math.exp, logs)) > chance else (low, middle)
    return high


def _blocks(profile: Profile, kinds: Mapping[str, str], span: int) -> Iterator[tuple[Profile, list[Histogram]]]:
    """Each block of days as a window, and the profile of all other days."""
    if profile.days == ("all",):
        return
    scores = {day: place for place, day in enumerate(profile.score_days)}
    for first in range(0, len(profile.days) - span + 1, span):
        held = set(profile.days[first : first + span])
        inside = [place for place, day in enumerate(profile.days) if day in held]
        scored = [scores[day] for day in held if day in scores]
        window = [histogram(column, kinds.get(column.name), inside) for column in profile.features]
        window.append(histogram(profile.score, "score", scored))
        yield _without(profile, inside, scored), window


def histogram(column: ColumnProfile, kind: str | None, days: Sequence[int]) -> Histogram:
    """The rows of some days of a reference as a window.

    Example:
        >>> column = ColumnProfile("km", (0.0, 1.0, 2.0), (), ((3, 1), (2, 2)), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0))
        >>> histogram(column, "number", [0, 1])
        Histogram(name='km', kind='number', counts=(5, 3), below=0, above=0, missing=1, other=0, unseen=0)
    """
    cells = day_cells(column)[list(days)].sum(axis=0)
    return _histogram(column, kind or ("category" if column.categories else "number"), cells)


def _histogram(column: ColumnProfile, kind: str, cells: Floats) -> Histogram:
    below, *counts, above, missing, other, unseen = cells.astype(int).tolist()
    return Histogram(column.name, kind, tuple(counts), below, above, missing, other, unseen)


def _without(profile: Profile, days: Sequence[int], scored: Sequence[int]) -> Profile:
    return replace(
        profile,
        days=_kept(profile.days, days),
        features=tuple(_fewer(column, days) for column in profile.features),
        score_days=_kept(profile.score_days, scored),
        score=_fewer(profile.score, scored),
    )


def _fewer(column: ColumnProfile, days: Sequence[int]) -> ColumnProfile:
    return replace(
        column,
        counts=_kept(column.counts, days),
        missing=_kept(column.missing, days),
        below=_kept(column.below, days),
        above=_kept(column.above, days),
        other=_kept(column.other, days),
        unseen=_kept(column.unseen, days),
    )


def _kept(values: Sequence[T], left_out: Sequence[int]) -> tuple[T, ...]:
    gone = set(left_out)
    return tuple(value for place, value in enumerate(values) if place not in gone)


def _power(
    profile: Profile,
    kinds: Mapping[str, str],
    settings: DriftSettings,
    weights: Mapping[str, float] | None,
    alpha: float,
    span: int,
    sizes: Sequence[int],
    shifts: Sequence[float],
    windows: int,
    seed: int,
) -> Iterator[Power]:
    used = [c for c in profile.features if weights is None or weights.get(c.name, 0.0) > 0]
    columns = [(column, kinds.get(column.name, "number"), profile.days) for column in used]
    if sum(map(sum, profile.score.counts)):
        columns.append((profile.score, "score", profile.score_days))
    level = alpha / max(len(columns), 1)
    for column, kind, days in columns:
        cells = day_cells(column)
        rows = cells.sum(axis=0)
        if not rows.sum():
            continue
        ruler, strict = Ruler(column, kind, rows), _strict(column, kind, days, settings)
        for size in sizes:
            alone = days == ("all",) or strict > 1
            between = variation(cells, ruler, span, rows=size, timeless=alone)
            floors = strict * settings.floors(kind)
            for shift in shifts:
                rng = np.random.default_rng([seed, size])
                moved = _shifted(rows, ruler, shift)
                told: list[bool] = []
                for part in np.array_split(np.arange(windows), _NULLS):
                    drawn = rng.multinomial(size, moved / moved.sum()).astype(np.float64)
                    seen = _Seen(ruler, rows, drawn, between, rng, settings.draws)
                    told += seen.told(moved, part.size, level, floors)
                yield Power(column.name, size, shift, float(np.mean(told)) if size >= settings.min_rows else 0.0)


def _strict(column: ColumnProfile, kind: str, days: Sequence[str], settings: DriftSettings) -> float:
    """How many times its floor an effect has to be, as :func:`assess` says: more where days are few."""
    alone = Profile(tuple(days), {}, (), (column,), (), ColumnProfile("score", (), (), *((),) * 6))
    window = replace(histogram(column, kind, range(len(days))), kind="number" if kind == "score" else kind)
    found = assess(alone, [window], settings=replace(settings, min_rows=0))[0]
    return found.floor / float(settings.floors(kind)[ASPECTS.index(found.aspect)])


class _Seen(Null):
    """What chance gives a window like one that has shifted: it serves for all windows of the same shift."""

    def told(self, shifted: Floats, windows: int, level: float, floors: Floats) -> list[bool]:
        """Which of some simulated windows :func:`assess` calls drift when no other column has moved."""
        drawn, _ = self._rows_of(shifted, self._reference, windows)
        return [self._told(window, level, floors) for window in drawn]

    def _told(self, window: Floats, level: float, floors: Floats) -> bool:
        self._window = window
        effects = self._ruler.effects(window, self._reference)
        movable = np.array(aspects_present(self._reference + window))
        p_values = self.p_values(effects) * max(int(movable.sum()), 1)
        return bool((movable & (p_values <= level) & (effects >= floors)).any())


def _shifted(rows: Floats, ruler: Ruler, shift: float) -> Floats:
    """Rows whose effect is about ``shift``: numbers move up, a category's rows move from the most frequent cell."""
    moved = rows.copy()
    if not ruler.positions.size:
        most = int(np.argmax(rows[:-3]))
        taken = min(shift * rows.sum(), rows[most])
        others = np.where(np.arange(len(rows)) == most, 0.0, rows)
        others[-3] = 0.0
        moved[most] -= taken
        moved += taken * (others / others.sum() if others.sum() else np.eye(len(rows))[-1])
        return moved
    # Each cell hands the same share of its rows to the next one: the share that moves the mean by the shift.
    places = len(ruler.positions)
    step = rows[: places - 1] @ np.diff(ruler.positions) / max(rows[:places].sum(), 1.0)
    share = shift / step if step > 0 else 0.0
    while share > 0:
        given = moved[: places - 1] * min(share, 1.0)
        moved[: places - 1] -= given
        moved[1:places] += given
        share -= 1.0
    return moved
