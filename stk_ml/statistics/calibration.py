"""Whether predicted probabilities are what is observed: the reliability table and the bias of its summary.

The expected calibration error is a sum of absolute gaps, so chance alone makes it positive: of a perfect model with n
rows it is about sqrt(2 / pi) times the standard error of a bin's share. :func:`debiased_error` takes the variance of
each gap off its square before the root (as Kumar, Liang and Ma 2019, "Verified Uncertainty Calibration", do for squared
errors); guards use it, so that small samples are not refused for being small.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import CalibrationBin, Interval
from stk_ml.statistics.blocks import Blocks, resample_weights
from stk_ml.statistics.bootstrap import binned_gaps
from stk_ml.statistics.metrics import equal_count_bins

Floats = NDArray[np.float64]


def wilson(successes: float, rows: float, level: float = 0.95) -> Interval:
    """A share with its Wilson score interval (Wilson 1927), which stays within 0 and 1 at the edges.

    Example:
        >>> found = wilson(0, 100)
        >>> found.value, found.low, round(found.high, 3)
        (0.0, 0.0, 0.037)
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return Interval(share, max(float(centre - half), 0.0), min(float(centre + half), 1.0), level)


def reliability(labels: Floats, scores: Floats, *, bins: int = 10, level: float = 0.95) -> tuple[CalibrationBin, ...]:
    """The calibration table: bins of about equal counts by score; equal scores always share a bin.

    Args:
        labels: (n,) 0 and 1.
        scores: (n,) probabilities.
        bins: at most so many.
        level: of the Wilson interval of the observed share, which takes rows for independent.

    Example:
        >>> table = reliability(np.array([0.0, 1, 0, 1]), np.array([0.2, 0.2, 0.6, 0.8]), bins=2)
        >>> [(bin.low, bin.high, bin.rows, bin.predicted, bin.observed.value) for bin in table]
        [(0.2, 0.2, 2, 0.2, 0.5), (0.6, 0.8, 2, 0.7, 0.5)]
    """
    if not labels.size:
        return ()
    place = equal_count_bins(scores, bins)
    rows = np.bincount(place)
    low, high = np.full(rows.size, np.inf), np.full(rows.size, -np.inf)
    np.minimum.at(low, place, scores)
    np.maximum.at(high, place, scores)
    predicted = np.bincount(place, weights=scores) / rows
    observed = np.bincount(place, weights=labels)
    return tuple(
        CalibrationBin(
            float(low[k]),
            float(high[k]),
            int(rows[k]),
            float(predicted[k]),
            wilson(float(observed[k]), int(rows[k]), level),
        )
        for k in range(rows.size)
    )


def debiased_error(labels: Floats, scores: Floats, blocks: Blocks, *, resamples: int = 1000, seed: int = 0) -> float:
    """The expected calibration error less what chance adds to it (see the module); never below 0.

    Args:
        labels: (n,) 0 and 1.
        scores: (n,) probabilities.
        blocks: of the n rows; the variance of a gap is taken over resampled blocks.
        resamples: number of resamples.
        seed: of the resamples.

    Example:
        >>> from stk_ml.statistics.blocks import make_blocks
        >>> rng = np.random.default_rng(1)
        >>> p = rng.uniform(size=2000)
        >>> y = (rng.uniform(size=2000) < p).astype(float)
        >>> debiased_error(y, p, make_blocks(2000)) < 0.02 < debiased_error(y, p**2, make_blocks(2000))
        True
    """
    gaps = binned_gaps(labels, scores, blocks) / labels.size
    spread = (resample_weights(blocks.count, resamples, seed) @ gaps).var(axis=0)
    return float(np.sqrt(np.maximum(np.square(gaps.sum(axis=0)) - spread, 0)).sum())
