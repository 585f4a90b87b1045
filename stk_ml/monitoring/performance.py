"""How well a model does on predictions whose outcome is known, with intervals that may be looked at every day.

``measured`` findings come from complete cohorts, in which every label that will come has come; ``corrected`` ones from
all predictions old enough, each label weighted for those still to come (:mod:`stk_ml.monitoring.maturity`). Intervals
are the standard error from resampled days times the reach of a confidence sequence in the number of days
(:mod:`stk_ml.monitoring.sequences`): while one group of predictions grows day by day, all its intervals hold together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from stk_ml.contracts import Interval, Problem
from stk_ml.monitor_state import PerformanceFinding
from stk_ml.monitoring import sequences
from stk_ml.monitoring.estimates import Grade, expected, mute
from stk_ml.monitoring.maturity import Correction, Delays, Predictions, cohorts, correct
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import FEWEST, PIECES, make_blocks
from stk_ml.statistics.differences import difference
from stk_ml.statistics.weighted import estimate

Source = Literal["measured", "corrected", "estimated"]
#: What is watched of each problem.
WATCHED: Mapping[Problem, tuple[str, ...]] = {
    "binary": ("auc", "log_loss", "brier", "calibration_error"),
    "regression": ("mae", "rmse"),
}
#: How much worse than the reference does not matter: in units of the metric, or as a share of the reference.
ABSOLUTE: Mapping[str, float] = {"auc": 0.02, "calibration_error": 0.02}
RELATIVE = 0.05


def tolerance(metric: str, reference: float) -> float:
    """How much worse than its reference a metric may be: 0.02 of AUC and calibration error, 5% of the others.

    Example:
        >>> tolerance("auc", 0.8), tolerance("mae", 12.0)
        (0.02, 0.6000000000000001)
    """
    return ABSOLUTE.get(metric, RELATIVE * abs(reference))


def assess(
    problem: Problem,
    predictions: Predictions,
    delays: Delays,
    reference: Mapping[str, Interval],
    now: float,
    *,
    level: float = 0.95,
    best: float = 30.0,
    tolerances: Mapping[str, float] | None = None,
    min_rows: int = 200,
    resamples: int = 400,
) -> tuple[PerformanceFinding, ...]:
    """All metrics of a group of predictions, measured on its complete days and corrected on all that are old enough.

    Args:
        problem: binary or regression.
        predictions: the group, such as all since the model went live; as known at ``now``.
        delays: of labels, learned from all predictions there are.
        reference: the metrics when the model was made; those that it lacks are left out.
        now: of the look.
        level: of all intervals of the growing group together.
        best: after how many days they are narrowest compared with ordinary ones.
        tolerances: by metric, in its units; default :func:`tolerance`.
        min_rows: fewer labels than this and ``worse`` is None.
        resamples: of days.

    Example:
        >>> from stk_ml.monitoring.maturity import learn_delays
        >>> rng, day = np.random.default_rng(0), 86400.0
        >>> times, p = np.repeat(np.arange(40) * day, 100), rng.uniform(size=4000)
        >>> made = Predictions(times, p, (rng.uniform(size=4000) < p) * 1.0, times + day)
        >>> delays = learn_delays(made, 42 * day, binary=True, horizon=2 * day)
        >>> found = assess("binary", made, delays, {"auc": Interval(0.95, 0.94, 0.96)}, 42 * day)
        >>> [(finding.metric, finding.source, round(finding.value.value, 2), finding.worse) for finding in found]
        [('auc', 'measured', 0.83, True), ('auc', 'corrected', 0.83, True)]
    """
    complete = [cohort.rows for cohort in cohorts(predictions, delays, now) if cohort.complete]
    old = np.concatenate(complete) if complete else np.empty(0, np.intp)
    known = old[predictions.labelled[old]]
    measured = Correction(known, np.ones(known.size), old.size, known.size / max(old.size, 1), 1.0)
    corrected = correct(predictions, delays, now)
    sources: tuple[tuple[Source, Correction], ...] = (("measured", measured), ("corrected", corrected))
    found = []
    for metric, (source, group) in itertools.product((name for name in WATCHED[problem] if name in reference), sources):
        value = interval(metric, predictions, group, level=level, best=best, resamples=resamples)
        if value:
            past = reference[metric]
            allowed = (tolerances or {}).get(metric, tolerance(metric, past.value))
            told = not group.refused and group.rows.size >= min_rows
            worse = is_worse(metric, value, past, allowed) if told else None
            rows, matured, muted = group.predictions, group.matured, group.refused
            found.append(PerformanceFinding(metric, source, value, past.value, worse, rows, matured, muted))
    return tuple(found)


def interval(
    metric: str, predictions: Predictions, group: Correction, *, level: float, best: float = 30.0, resamples: int = 400
) -> Interval | None:
    """A metric of the labels of a group, weighted, with its confidence sequence.

    None where it is not defined, and where the labels are of fewer than 5 days: one bad day is not a worse model.
    """
    chosen = predictions.take(group.rows)
    blocks = make_blocks(len(chosen), np.floor(chosen.times).astype("datetime64[s]"))
    if blocks.count < FEWEST or blocks.kind == PIECES:
        return None
    found = estimate(metric, chosen.outcomes, chosen.scores, blocks, group.weights, resamples=resamples)
    if not (math.isfinite(found.value) and math.isfinite(found.error)):
        return None
    return around(metric, found.value, found.error, blocks.count, level=level, best=best)


def around(metric: str, value: float, error: float, blocks: int, *, level: float, best: float = 30.0) -> Interval:
    """The confidence sequence around a value, within the range of its metric; of at least 5 blocks.

    Example:
        >>> found = around("auc", 0.97, 0.01, 100, level=0.95)
        >>> round(found.low, 3), found.high
        (0.939, 1.0)
    """
    reach = sequences.reach(blocks, level=level, best=best) * error
    most = 1.0 if metric in metrics.SHARES else math.inf
    return Interval(value, max(value - reach, 0.0), min(value + reach, most), level)


def estimated(
    values: Mapping[str, float],
    grades: Sequence[Grade],
    reference: Mapping[str, Interval],
    rows: int,
    *,
    level: float = 0.95,
    tolerances: Mapping[str, float] | None = None,
    min_rows: int = 200,
) -> tuple[PerformanceFinding, ...]:
    """Findings without labels: estimates with the interval of their own past errors, muted where they were wrong.

    Args:
        values: by metric, of :func:`stk_ml.monitoring.estimates.cbpe` or an error model.
        grades: of earlier windows, all metrics.
        reference: as in :func:`assess`.
        rows: predictions in the window.
        level: of the intervals.
        tolerances: as in :func:`assess`.
        min_rows: as in :func:`assess`.

    Example:
        >>> [finding] = estimated({"auc": 0.7}, [], {"auc": Interval(0.8, 0.79, 0.81)}, 1000)
        >>> finding.worse, finding.muted
        (None, 'graded on 0 cohorts, 4 are needed')
    """
    found = []
    for metric in (metric for metric in values if metric in reference):
        past = [grade for grade in grades if grade.metric == metric]
        allowed = (tolerances or {}).get(metric, tolerance(metric, reference[metric].value))
        value, muted = expected(values[metric], past, level=level), mute(past, reference[metric].value, allowed)
        if metric in metrics.SHARES:
            value = replace(value, high=min(value.high, 1.0))
        worse = None if muted or rows < min_rows else is_worse(metric, value, reference[metric], allowed)
        found.append(PerformanceFinding(metric, "estimated", value, reference[metric].value, worse, rows, 0.0, muted))
    return tuple(found)


def is_worse(metric: str, value: Interval, reference: Interval, allowed: float) -> bool | None:
    """Whether a metric is worse than its reference by more than is allowed; None when it cannot be told.

    The reference was measured on a sample too: the difference of the two is bounded by their intervals.

    Args:
        metric: its name.
        value: with its interval.
        reference: the same when the model was made.
        allowed: in units of the metric.

    Example:
        >>> now, then = Interval(0.70, 0.69, 0.71), Interval(0.75, 0.74, 0.76)
        >>> is_worse("auc", now, then, 0.02), is_worse("auc", now, then, 0.04), is_worse("auc", now, then, 0.1)
        (True, None, False)
    """
    gap = difference(reference, value) if metric in metrics.HIGHER_IS_BETTER else difference(value, reference)
    return True if gap.low > allowed else False if gap.high <= allowed else None
