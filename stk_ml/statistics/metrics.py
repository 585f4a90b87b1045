"""Metrics of scores against labels, vectorised, on float arrays of equal length.

Binary metrics take labels of 0 and 1 and probabilities. A metric that is not defined on its rows (one class only, no
rows, a constant target) is NaN; callers leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Probabilities are kept this far from 0 and 1 before a logarithm is taken (as scikit-learn does).
EPSILON = float(np.finfo(np.float64).eps)
#: Bins of the calibration error, of equal counts.
CALIBRATION_BINS = 15
#: Metrics of which more is better; of all others less is better.
HIGHER_IS_BETTER = frozenset({"auc", "average_precision", "r2"})
#: Metrics that lie between 0 and 1. Other losses have no upper bound, R² has no lower one.
SHARES = frozenset({"auc", "average_precision", "brier", "calibration_error"})
#: What is reported for each problem, in this order.
REPORTED: Mapping[str, tuple[str, ...]] = {
    "binary": ("auc", "log_loss", "brier", "average_precision", "calibration_error"),
    "regression": ("mae", "rmse", "r2"),
}
#: Names of the metrics in sentences.
TITLES: Mapping[str, str] = {
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "average_precision": "average precision",
    "calibration_error": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}


def auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative; a tie counts one half.

    Example:
        >>> auc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
        0.875
    """
    positives = labels.sum()
    negatives = labels.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    ends = tie_ends(scores[order])
    true = np.diff(np.cumsum(labels[order])[ends], prepend=0.0)
    false = np.diff(ends + 1.0, prepend=0.0) - true
    below = np.cumsum(false) - false
    return float((true * (below + false / 2)).sum() / (positives * negatives))


def average_precision(labels: Floats, scores: Floats) -> float:
    """Average precision: precision at each distinct score, weighted by the recall gained there (no interpolation).

    Example:
        >>> round(average_precision(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 4)
        0.8333
    """
    positives = labels.sum()
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = tie_ends(scores[order])
    true = np.cumsum(labels[order])[ends]
    return float((np.diff(true, prepend=0.0) * true / (ends + 1.0)).sum() / positives)


def log_loss(labels: Floats, scores: Floats) -> float:
    """Mean negative log-likelihood of the labels, in nats.

    Example:
        >>> round(log_loss(np.array([0.0, 1]), np.array([0.1, 0.8])), 4)
        0.1643
    """
    return _mean(row_losses("log_loss", labels, scores))


def brier(labels: Floats, scores: Floats) -> float:
    """Mean squared difference of probability and outcome.

    Example:
        >>> round(brier(np.array([0.0, 1]), np.array([0.1, 0.8])), 4)
        0.025
    """
    return _mean(row_losses("brier", labels, scores))


def calibration_error(labels: Floats, scores: Floats) -> float:
    """Expected calibration error over bins of equal counts: the mean gap of predicted and observed share.

    It is biased upwards by chance gaps, the more so the fewer the rows; see :mod:`stk_ml.statistics.calibration`.

    Example:
        >>> round(calibration_error(np.array([0.0, 1, 0, 1]), np.full(4, 0.7)), 4)
        0.2
    """
    if not labels.size:
        return float("nan")
    bins = equal_count_bins(scores, CALIBRATION_BINS)
    return float(np.abs(np.bincount(bins, weights=labels - scores)).sum() / labels.size)


def mae(labels: Floats, scores: Floats) -> float:
    """Mean absolute error, in units of the target.

    Example:
        >>> mae(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        1.5
    """
    return _mean(row_losses("mae", labels, scores))


def rmse(labels: Floats, scores: Floats) -> float:
    """Root of the mean squared error, in units of the target.

    Example:
        >>> rmse(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        1.0
    """
    return float(np.sqrt(_mean(row_losses("rmse", labels, scores))))


def r2(labels: Floats, scores: Floats) -> float:
    """Share of the target's variance that is explained; below 0 when the mean would do better.

    Example:
        >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
        0.5
    """
    spread = np.square(labels - labels.mean()).sum() if labels.size else 0.0
    return float(1 - np.square(labels - scores).sum() / spread) if spread > 0 else float("nan")


#: Every metric by name.
METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "auc": auc,
    "log_loss": log_loss,
    "brier": brier,
    "average_precision": average_precision,
    "calibration_error": calibration_error,
    "mae": mae,
    "rmse": rmse,
    "r2": r2,
}


def row_losses(metric: str, labels: Floats, scores: Floats) -> Floats:
    """The loss of each row of a metric that is a mean over rows (rmse before its root).

    Raises:
        KeyError: the metric is no mean over rows.

    Example:
        >>> row_losses("mae", np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        array([1., 2.])
    """
    if metric == "log_loss":
        of_label = np.where(labels > 0.5, scores, 1 - scores)
        return np.asarray(-np.log(np.clip(of_label, EPSILON, 1 - EPSILON)))
    if metric == "mae":
        return np.abs(labels - scores)
    if metric in ("brier", "rmse"):
        return np.square(labels - scores)
    raise KeyError(metric)


def equal_count_bins(scores: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each row: bins of about equal counts by score, equal scores always together, none empty.

    Example:
        >>> equal_count_bins(np.array([0.1, 0.9, 0.2, 0.8, 0.2]), 2).tolist()
        [0, 1, 0, 1, 0]
    """
    order = np.argsort(scores, kind="stable")
    ends = tie_ends(scores[order])
    counts = np.diff(ends + 1, prepend=0)
    middle = (ends + 1 - counts / 2) / max(scores.size, 1)  # a tie goes where its middle falls
    groups = np.unique((middle * bins).astype(np.intp), return_inverse=True)[1]
    placed = np.empty(scores.size, np.intp)
    placed[order] = np.repeat(groups, counts)
    return placed


def tie_ends(ordered: Floats) -> NDArray[np.intp]:
    """Position of the last row of each run of equal values in an ordered array.

    Example:
        >>> tie_ends(np.array([0.1, 0.4, 0.4, 0.8])).tolist()
        [0, 2, 3]
    """
    if not ordered.size:
        return np.empty(0, np.intp)
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), ordered.size - 1)


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
