"""How well a model does before any label has come, graded once they have, and silent where it was wrong.

Classification: confidence-based performance estimation (CBPE, the method of NannyML: Białek, Kuberski, Perrakis and
Bifet 2024, "Estimating Model Performance Under Covariate Shift Without Labels"). If a calibrated score of p means p
positives in a hundred, then a histogram of scores alone says which AUC, log loss and Brier score to expect. Regression:
the error that matured predictions had at each score, at the scores that are there now.

Both assume that what a score means has not changed, which is what fails in concept drift. So each estimate is graded
against the truth of its cohort when that comes (:func:`grade`), and :func:`mute` says when it may not be acted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import Interval
from stk_ml.monitoring.maturity import Predictions
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import make_blocks
from stk_ml.statistics.weighted import auc_of_bins, estimate
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
#: Newest graded cohorts that count, and how few are too few.
LATEST, FEWEST = 12, 4
#: Matured predictions that a score bin's error counts as having had already, at the error of all.
_PRIOR = 20.0


def bins(histogram: Histogram, edges: Sequence[float], centres: Floats | None = None) -> tuple[Floats, Floats]:
    """The scores that a histogram stands for, and how many rows have each.

    Args:
        histogram: of the score, over any window.
        edges: of its bins in the profile.
        centres: (b,) mean score per bin where it is known, else the middles. A score below or above all bins counts
            at the outermost edge.

    Example:
        >>> scores, rows = bins(Histogram("score", "score", (3, 1), 0, 2, 0, 0, 0), (0.0, 0.4, 0.8))
        >>> scores.tolist(), rows.tolist()
        ([0.0, 0.2, 0.6000000000000001, 0.8], [0.0, 3.0, 1.0, 2.0])
    """
    ends = np.asarray(edges, np.float64)
    middles = (ends[:-1] + ends[1:]) / 2 if centres is None else centres
    rows = np.array([histogram.below, *histogram.counts, histogram.above], np.float64)
    return np.concatenate([ends[:1], middles, ends[-1:]]), rows


def cbpe(scores: Floats, rows: Floats | None = None) -> Mapping[str, float]:
    """AUC, log loss and Brier score to expect of calibrated scores.

    Args:
        scores: (n,) probabilities, of predictions or of bins.
        rows: (n,) how many predictions have each; None for one.

    Returns:
        By metric; a metric that is not defined is absent.

    Example:
        >>> found = cbpe(np.array([0.1, 0.9]), np.array([100.0, 100.0]))
        >>> {metric: round(value, 3) for metric, value in found.items()}
        {'auc': 0.9, 'log_loss': 0.325, 'brier': 0.09}
    """
    rows = np.ones(scores.size) if rows is None else rows
    if not rows.sum() > 0:
        return {}
    order = np.argsort(scores, kind="stable")
    p, count = scores[order], rows[order]
    ends = metrics.tie_ends(p)
    positives, negatives = (np.diff(np.cumsum(part)[ends], prepend=0.0) for part in (p * count, (1 - p) * count))
    kept = np.clip(p, metrics.EPSILON, 1 - metrics.EPSILON)
    entropy = -(p * np.log(kept) + (1 - p) * np.log(1 - kept))
    found = {
        "auc": auc_of_bins(positives, negatives),
        "log_loss": float(np.average(entropy, weights=count)),
        "brier": float(np.average(p * (1 - p), weights=count)),
    }
    return {metric: value for metric, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Errors:
    """The error of matured predictions by score.

    Attributes:
        edges: (b + 1,) of the score's bins.
        absolute: (b + 2,) mean absolute error below, in and above the bins.
        squared: (b + 2,) mean squared error.
        rows: matured predictions behind it.
    """

    edges: Floats
    absolute: Floats
    squared: Floats
    rows: int

    @classmethod
    def learn(cls, edges: Sequence[float], scores: Floats, outcomes: Floats) -> Errors:
        """From matured predictions; a bin with few of them leans on the error of all.

        Example:
            >>> model = Errors.learn((0.0, 1.0, 2.0), np.repeat([0.5, 1.5], 1000), np.repeat([0.5, 4.5], 1000))
            >>> model.expect(Histogram("score", "score", (0, 10), 0, 0, 0, 0, 0))["mae"].__round__(1)
            3.0
        """
        ends, gaps = np.asarray(edges, np.float64), outcomes - scores
        place = _place(ends, scores)
        count = np.bincount(place, minlength=len(ends) + 1)

        def mean(losses: Floats) -> Floats:
            overall = float(losses.mean()) if losses.size else math.nan
            sums = np.bincount(place, weights=losses, minlength=len(ends) + 1)
            return np.asarray((sums + _PRIOR * overall) / (count + _PRIOR))

        return cls(ends, mean(np.abs(gaps)), mean(np.square(gaps)), scores.size)

    def expect(self, histogram: Histogram) -> Mapping[str, float]:
        """MAE and RMSE to expect of predictions with such scores; empty when nothing was learned or there are none."""
        rows = np.array([histogram.below, *histogram.counts, histogram.above], np.float64)
        if not self.rows or not rows.sum():
            return {}
        mae, mse = np.average(self.absolute, weights=rows), np.average(self.squared, weights=rows)
        return {"mae": float(mae), "rmse": float(np.sqrt(mse))}


def _place(edges: Floats, scores: Floats) -> NDArray[np.intp]:
    cells = np.searchsorted(edges[:-1], scores, side="right")
    return np.asarray(np.where(scores > edges[-1], len(edges), cells), np.intp)


@dataclass(frozen=True)
class Grade:
    """An estimate beside the truth of its cohort.

    Attributes:
        metric: its name.
        cohort: when its window ended, unix seconds.
        estimate: made without labels.
        truth: measured when the labels had come.
        error: standard error of the truth.
    """

    metric: str
    cohort: float
    estimate: float
    truth: float
    error: float


def grade(estimates: Mapping[str, float], matured: Predictions, cohort: float) -> tuple[Grade, ...]:
    """Grades the estimates of a window by its predictions, once it is complete.

    Args:
        estimates: by metric, as they were made without labels.
        matured: the same predictions with their labels; those without one are left out.
        cohort: when the window ended, unix seconds.

    Example:
        >>> p = np.tile([0.2, 0.8], 500)
        >>> made = Predictions(np.zeros(1000), p, np.tile([0.0, 1.0], 500), np.ones(1000))
        >>> [found] = grade({"brier": 0.16}, made, 86400.0)
        >>> found.estimate, round(found.truth, 2), found.error < 1e-9
        (0.16, 0.04, True)
    """
    known = matured.take(matured.labelled)
    blocks = make_blocks(len(known), np.floor(known.times).astype("datetime64[s]"))
    found = []
    for metric, value in estimates.items():
        truth = estimate(metric, known.outcomes, known.scores, blocks)
        if math.isfinite(truth.value) and math.isfinite(truth.error):
            found.append(Grade(metric, cohort, value, truth.value, truth.error))
    return tuple(found)


def mute(grades: Sequence[Grade], reference: float, tolerance: float) -> str:
    """Why an estimate may not be acted on; empty when it may.

    The rule, over the newest 12 graded cohorts: there have to be 4; the root mean squared error of the estimates, less
    what the noise of the truth itself makes, must stay within the tolerance that findings are judged with; and where
    performance did move by more than the tolerance, the estimate must have been nearer to it than "as it was".

    Args:
        grades: of one metric, in any order.
        reference: the metric when the model was made.
        tolerance: in units of the metric.

    Example:
        >>> right = [Grade("auc", day, 0.80, 0.79, 0.005) for day in range(4)]
        >>> mute(right, 0.8, 0.02), mute(right[:3], 0.8, 0.02)
        ('', 'graded on 3 cohorts, 4 are needed')
        >>> wrong = [Grade("auc", day, 0.80, 0.70, 0.005) for day in range(4)]
        >>> mute(wrong, 0.8, 0.02)
        'off by 0.1 over the last 4 cohorts, where 0.02 is tolerated'
    """
    newest = sorted(grades, key=lambda grade: grade.cohort)[-LATEST:]
    if len(newest) < FEWEST:
        return f"graded on {len(newest)} cohorts, {FEWEST} are needed"
    off = _miss([grade.estimate for grade in newest], newest)
    moved = _miss([reference] * len(newest), newest)
    if off > tolerance:
        return f"off by {off:.2g} over the last {len(newest)} cohorts, where {tolerance:.2g} is tolerated"
    if moved > tolerance and off >= moved:
        return f"off by {off:.2g} over the last {len(newest)} cohorts, no nearer than what held at training"
    return ""


def expected(estimate: float, grades: Sequence[Grade], *, level: float = 0.95) -> Interval:
    """An estimate with the interval that its own past errors give it (split conformal); of no width without grades.

    Args:
        estimate: of the window.
        grades: of the same metric.
        level: of the interval, as far as so few grades can give it: of n, at most n / (n + 1).

    Example:
        >>> expected(0.8, [Grade("auc", day, 0.80, 0.79, 0.0) for day in range(19)]).low.__round__(2)
        0.79
    """
    newest = sorted(grades, key=lambda grade: grade.cohort)[-LATEST:]
    gaps = np.sort([abs(grade.estimate - grade.truth) for grade in newest])
    if not gaps.size:
        return Interval(estimate, estimate, estimate, level)
    place = min(math.ceil(level * (gaps.size + 1)), gaps.size) - 1
    reach = float(gaps[place])
    return Interval(estimate, max(estimate - reach, 0.0), estimate + reach, min(level, gaps.size / (gaps.size + 1)))


def _miss(values: Sequence[float], grades: Sequence[Grade]) -> float:
    """Root mean squared distance from the truth, less the noise of the truth."""
    squares = [(value - grade.truth) ** 2 - grade.error**2 for value, grade in zip(values, grades, strict=True)]
    return math.sqrt(max(sum(squares) / len(squares), 0.0))
