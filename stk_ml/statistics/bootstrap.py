"""Block-bootstrap intervals of metrics and of paired differences, fast enough for thousands of resamples.

Rows belong to blocks (:mod:`stk_ml.statistics.blocks`); a resample draws blocks with replacement. Each metric is first
reduced to sums per block, so a resample costs a matrix product and touches no row: means are ratios of block sums,
the AUC a quadratic form (:mod:`stk_ml.statistics.concordance`), the calibration error sums per block and bin. Only
average precision is approximate there: its curve is read at up to 512 thresholds and scaled to the exact value.

Intervals are expanded percentile intervals (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section
4.2): percentiles at Phi(-sqrt(B / (B - 1)) t), t from Student's distribution with B - 1 degrees of freedom, which
is what keeps their coverage when there are few blocks. Of fewer than 10 blocks no resample can lie beyond the extreme
blocks, so there the interval also spans the value plus and minus t standard errors.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import Interval
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import Blocks, resample_weights
from stk_ml.statistics.concordance import concordance

Floats = NDArray[np.float64]
#: Maps (R, B) weights of blocks to the R values of a metric; NaN where it is not defined.
Resampler = Callable[[Floats], Floats]
_THRESHOLDS = 512
_FEW = 10


def resampler(metric: str, labels: Floats, scores: Floats, blocks: Blocks) -> Resampler:
    """Reduces rows to block sums, from which a metric of any resample follows.

    Args:
        metric: one of :data:`stk_ml.statistics.metrics.METRICS`.
        labels: (n,) labels, 0 and 1 or target values.
        scores: (n,) probabilities or predictions.
        blocks: of the n rows.

    Returns:
        A function from (R, B) block weights to (R,) values. All weights 1 give the metric itself.

    Raises:
        KeyError: no such metric.

    Example:
        >>> from stk_ml.statistics.blocks import make_blocks
        >>> y, p = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8])
        >>> resampler("auc", y, p, make_blocks(4))(np.ones((1, 4)))
        array([0.875])
    """
    size = _sums(np.ones(labels.size), blocks)
    if metric == "auc":
        positives = _sums(labels, blocks)
        pairs = concordance(labels, scores, blocks.index, blocks.count)
        return lambda w: _ratio(((w @ pairs) * w).sum(axis=1), (w @ positives) * (w @ (size - positives)))
    if metric == "average_precision":
        return _average_precision(labels, scores, blocks)
    if metric == "calibration_error":
        gaps = binned_gaps(labels, scores, blocks)
        return lambda w: _ratio(np.abs(w @ gaps).sum(axis=1), w @ size)
    if metric == "r2":
        errors = _sums(np.square(labels - scores), blocks)
        centred = labels - labels.mean() if labels.size else labels
        first, second = _sums(centred, blocks), _sums(np.square(centred), blocks)
        return lambda w: 1 - _ratio(w @ errors, w @ second - np.square(w @ first) / (w @ size))
    losses = _sums(metrics.row_losses(metric, labels, scores), blocks)
    if metric == "rmse":
        return lambda w: np.sqrt(_ratio(w @ losses, w @ size))
    return lambda w: _ratio(w @ losses, w @ size)


def metric_interval(
    metric: str,
    labels: Floats,
    scores: Floats,
    blocks: Blocks,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """A metric with its block-bootstrap interval; None where the metric is not defined (one class, no rows).

    The calibration error is biased upwards and a resample adds as much again, so its interval is reflected (twice the
    value less the percentiles). No interval leaves the range of its metric.

    Example:
        >>> from stk_ml.statistics.blocks import make_blocks
        >>> y = np.tile([0.0, 1.0], 500)
        >>> found = metric_interval("brier", y, np.full(1000, 0.5), make_blocks(1000))
        >>> found.value, found.low, found.high
        (0.25, 0.25, 0.25)
    """
    value = metrics.METRICS[metric](labels, scores)
    if not np.isfinite(value):
        return None
    samples = resampler(metric, labels, scores, blocks)(resample_weights(blocks.count, resamples, seed))
    found = interval(value, samples, blocks.count, level)
    low, high = found.low, found.high
    if metric == "calibration_error":
        low, high = min(2 * value - found.high, value), max(2 * value - found.low, value)
    least, most = -np.inf if metric == "r2" else 0.0, 1.0 if metric in metrics.SHARES or metric == "r2" else np.inf
    return Interval(value, max(low, least), min(high, most), level)


def difference_samples(
    metric: str,
    labels: Floats,
    challenger: Floats,
    champion: Floats,
    blocks: Blocks,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, Floats]:
    """How much better the challenger is, and the same for each resample of the same rows (paired); positive is better.

    Example:
        >>> from stk_ml.statistics.blocks import make_blocks
        >>> y = np.arange(100.0)
        >>> better, samples = difference_samples("mae", y, y + 1, y + 3, make_blocks(100))
        >>> better, float(samples.min())
        (2.0, 2.0)
    """
    sign = 1.0 if metric in metrics.HIGHER_IS_BETTER else -1.0
    of = metrics.METRICS[metric]
    weights = resample_weights(blocks.count, resamples, seed)
    new, old = (resampler(metric, labels, scores, blocks)(weights) for scores in (challenger, champion))
    return sign * (of(labels, challenger) - of(labels, champion)), sign * (new - old)


def interval(value: float, samples: Floats, blocks: int, level: float = 0.95) -> Interval:
    """The expanded percentile interval of resampled values; resamples that are NaN are left out.

    Args:
        value: the estimate from all rows.
        samples: (R,) values of the resamples.
        blocks: number of blocks they were drawn from.
        level: coverage.

    Example:
        >>> found = interval(0.5, np.linspace(0, 1, 1001), blocks=10_000)
        >>> round(found.low, 3), round(found.high, 3)
        (0.025, 0.975)
    """
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        return Interval(value, value, value, level)
    tail, reach = (1 - level) / 2, 0.0
    if blocks > 1:
        expanded = np.sqrt(blocks / (blocks - 1)) * student_quantile(1 - tail, blocks - 1)
        tail = NormalDist().cdf(-expanded)
        reach = expanded * samples.std() if blocks < _FEW else 0.0
    low, high = np.quantile(samples, [tail, 1 - tail])
    if reach:
        low, high = min(low, value - reach), max(high, value + reach)
    return Interval(value, float(low), float(high), level)


def student_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t distribution (Abramowitz and Stegun 26.7.5; within 1% from 4 degrees of freedom on).

    Example:
        >>> round(student_quantile(0.975, 9), 3), round(student_quantile(0.975, 10_000), 3)
        (2.262, 1.96)
    """
    z, v = NormalDist().inv_cdf(share), float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v**power for power, term in enumerate(terms, 1))


def binned_gaps(labels: Floats, scores: Floats, blocks: Blocks) -> Floats:
    """Sum of label minus score of each block (row) in each calibration bin (column)."""
    return _binned(labels - scores, metrics.equal_count_bins(scores, metrics.CALIBRATION_BINS), blocks)


def _average_precision(labels: Floats, scores: Floats, blocks: Blocks) -> Resampler:
    bins = metrics.equal_count_bins(scores, int(np.clip(labels.size // 32, 64, _THRESHOLDS)))
    true = _binned(labels, bins, blocks)[:, ::-1]
    total = _binned(np.ones(labels.size), bins, blocks)[:, ::-1]

    def curve(w: Floats) -> Floats:
        gained, seen = w @ true, np.cumsum(w @ total, axis=1)
        found = np.cumsum(gained, axis=1)
        return _ratio((gained * found / np.maximum(seen, 1)).sum(axis=1), found[:, -1])

    scale = metrics.average_precision(labels, scores) / curve(np.ones((1, blocks.count)))
    return lambda w: curve(w) * scale


def _binned(values: Floats, bins: NDArray[np.intp], blocks: Blocks) -> Floats:
    width = int(bins.max(initial=0)) + 1
    cells = np.bincount(blocks.index * width + bins, weights=values, minlength=blocks.count * width)
    return np.asarray(cells, np.float64).reshape(blocks.count, width)


def _sums(values: Floats, blocks: Blocks) -> Floats:
    return np.asarray(np.bincount(blocks.index, weights=values, minlength=blocks.count), np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return result
