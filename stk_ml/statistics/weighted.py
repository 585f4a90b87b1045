"""Metrics of rows that stand for more than themselves, and their block resampling.

The weights are those of inverse probability weighting. With equal weights each metric is the one of
:mod:`stk_ml.statistics.metrics`, except that the calibration error is always less what chance adds to it
(:mod:`stk_ml.statistics.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import Blocks, resample_weights

Floats = NDArray[np.float64]
#: Score bins of the resampled AUC; its value is exact, only its spread is read from bins.
_BINS = 512


@dataclass(frozen=True)
class Estimate:
    """A metric, and the standard error that resampling its blocks shows.

    Attributes:
        value: of the metric; NaN where it is not defined (one class only, no rows).
        error: standard error; NaN where no resample is defined.
        blocks: number of blocks behind it.
    """

    value: float
    error: float
    blocks: int


def estimate(
    metric: str,
    labels: Floats,
    scores: Floats,
    blocks: Blocks,
    weights: Floats | None = None,
    *,
    resamples: int = 400,
    seed: int = 0,
) -> Estimate:
    """A weighted metric with its block-bootstrap standard error.

    Args:
        metric: auc, log_loss, brier, calibration_error, mae or rmse.
        labels: (n,) 0 and 1, or target values.
        scores: (n,) probabilities or predictions.
        blocks: of the n rows.
        weights: (n,) how many rows each stands for; None for one.
        resamples: number of resamples.
        seed: of the resamples.

    Raises:
        KeyError: no such metric, or none that can be weighted.

    Example:
        >>> from stk_ml.statistics.blocks import make_blocks
        >>> y, p, w = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.5, 0.4, 0.8]), np.array([1.0, 1, 3, 1])
        >>> estimate("auc", y, p, make_blocks(4), w).value, estimate("auc", y, p, make_blocks(4)).value
        (0.625, 0.75)
    """
    weights = np.ones(labels.size) if weights is None else weights
    drawn = resample_weights(blocks.count, resamples, seed)
    if metric == "auc":
        value, of = auc(labels, scores, weights), _auc(labels, scores, weights, blocks)
    elif metric == "calibration_error":
        value, of = _calibration_error(labels, scores, weights, blocks, drawn)
    else:
        losses = metrics.row_losses(metric, labels, scores)
        above, below = _sums(losses * weights, blocks), _sums(weights, blocks)
        root = np.sqrt if metric == "rmse" else np.asarray
        value = float(root(_ratio(above.sum(), below.sum())))
        of = lambda w: root(_ratio(w @ above, w @ below))  # noqa: E731
    samples = of(drawn)
    samples = samples[np.isfinite(samples)]
    spread = float(samples.std()) * np.sqrt(blocks.count / max(blocks.count - 1, 1)) if samples.size else np.nan
    return Estimate(value, float(spread), blocks.count)


def auc(labels: Floats, scores: Floats, weights: Floats) -> float:
    """The weighted chance that a positive outscores a negative; a tie counts one half; NaN without both.

    Example:
        >>> auc(np.array([0.0, 0, 1]), np.array([0.1, 0.5, 0.4]), np.array([3.0, 1, 1]))
        0.75
    """
    order = np.argsort(scores, kind="stable")
    ends = metrics.tie_ends(scores[order])
    true = np.diff(np.cumsum((weights * labels)[order])[ends], prepend=0.0)
    false = np.diff(np.cumsum((weights * (1 - labels))[order])[ends], prepend=0.0)
    return auc_of_bins(true, false)


def auc_of_bins(positives: Floats, negatives: Floats) -> float:
    """The AUC of (weighted or expected) counts per bin of rising score; within a bin all are tied; NaN without both.

    Example:
        >>> auc_of_bins(np.array([0.0, 1.0]), np.array([3.0, 1.0]))
        0.875
    """
    below = np.cumsum(negatives) - negatives / 2
    return float(_ratio((positives * below).sum(), positives.sum() * negatives.sum()))


def _auc(labels: Floats, scores: Floats, weights: Floats, blocks: Blocks) -> Callable[[Floats], Floats]:
    bins = metrics.equal_count_bins(scores, _BINS)
    true, false = _binned(weights * labels, bins, blocks), _binned(weights * (1 - labels), bins, blocks)
    pairs = true @ (np.cumsum(false, axis=1) - false / 2).T
    positives, negatives = true.sum(axis=1), false.sum(axis=1)
    return lambda w: _ratio(((w @ pairs) * w).sum(axis=1), (w @ positives) * (w @ negatives))


def _calibration_error(
    labels: Floats, scores: Floats, weights: Floats, blocks: Blocks, drawn: Floats
) -> tuple[float, Callable[[Floats], Floats]]:
    bins = metrics.equal_count_bins(scores, metrics.CALIBRATION_BINS)
    gaps, size = _binned(weights * (labels - scores), bins, blocks), _sums(weights, blocks)
    observed = _ratio(gaps.sum(axis=0), np.full(gaps.shape[1], size.sum()))
    spread = (_gaps(drawn, gaps, size)).var(axis=0)
    value = float(np.sqrt(np.maximum(np.square(observed) - spread, 0.0)).sum()) if labels.size else np.nan
    return value, lambda w: np.abs(_gaps(w, gaps, size)).sum(axis=1)


def _gaps(w: Floats, gaps: Floats, size: Floats) -> Floats:
    return np.asarray((w @ gaps) / np.maximum(w @ size, 1e-300)[:, None])


def _binned(values: Floats, bins: NDArray[np.intp], blocks: Blocks) -> Floats:
    width = int(bins.max(initial=0)) + 1
    cells = np.bincount(blocks.index * width + bins, weights=values, minlength=blocks.count * width)
    return np.asarray(cells, np.float64).reshape(blocks.count, width)


def _sums(values: Floats, blocks: Blocks) -> Floats:
    return np.asarray(np.bincount(blocks.index, weights=values, minlength=blocks.count), np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0)
    return result
