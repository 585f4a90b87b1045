"""Confidence sequences: intervals of a mean that hold at every look at once, so that looking daily costs nothing.

An ordinary 95% interval that is looked at every day of a year is wrong on some day far more often than one year in
twenty. A confidence sequence covers the mean at all times together with probability ``level`` (Howard, Ramdas,
McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49).

Rows of one day depend on each other: hand in one value per day, not one per row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stk_ml.statistics.blocks import FEWEST
from stk_ml.statistics.bootstrap import student_quantile
from stk_ml.statistics.differences import z

Floats = NDArray[np.float64]
#: Largest bet of the empirical-Bernstein sequence, as the paper advises.
_MOST = 0.5


def empirical_bernstein(
    values: Floats, *, level: float = 0.95, low: float = 0.0, high: float = 1.0
) -> tuple[Floats, Floats]:
    """Bounds of the mean of bounded values after each of them; exact at any number of values.

    The predictable plug-in empirical-Bernstein sequence (Waudby-Smith and Ramdas 2023, "Estimating means of bounded
    random variables by betting", JRSS-B 86, theorem 2), with bounds that never get wider.

    Args:
        values: (n,) in time order, each between low and high, of one conditional mean.
        level: chance that all n intervals (and all later ones) hold the mean.
        low: least value possible.
        high: largest value possible.

    Returns:
        Lower and upper bounds, (n,) each.

    Raises:
        ValueError: a value lies outside low to high.

    Example:
        >>> lows, highs = empirical_bernstein(np.full(1000, 0.3))
        >>> bool(lows[0] == 0.0), round(float(highs[-1] - lows[-1]), 3)
        (True, 0.015)
    """
    if not values.size:
        return np.empty(0), np.empty(0)
    if not (values.min() >= low and values.max() <= high):
        raise ValueError(f"values from {values.min():g} to {values.max():g} are not all within {low:g} and {high:g}")
    x, alpha = (values - low) / (high - low), 1 - level
    count = np.arange(1.0, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (count + 1)
    variances = (0.25 + np.cumsum(np.square(x - means))) / (count + 1)
    mean_before, variance_before = np.append(0.5, means[:-1]), np.append(0.25, variances[:-1])
    bets = np.minimum(np.sqrt(2 * math.log(2 / alpha) / (variance_before * count * np.log1p(count))), _MOST)
    paid = np.cumsum(np.square(x - mean_before) * (-np.log1p(-bets) - bets))
    staked = np.cumsum(bets)
    centre, reach = np.cumsum(bets * x) / staked, (math.log(2 / alpha) + paid) / staked
    lows = np.maximum.accumulate(np.maximum(centre - reach, 0.0))
    highs = np.minimum.accumulate(np.minimum(centre + reach, 1.0))
    return low + (high - low) * lows, low + (high - low) * highs


def asymptotic(values: Floats, *, level: float = 0.95, best: float = 30.0) -> tuple[Floats, Floats]:
    """Bounds of the mean of values of any distribution with a variance, after each of them; for many values.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024, "Time-uniform central
    limit theory and asymptotic confidence sequences", Annals of Statistics 52), widened by Student's distribution
    where there are few values. Values that are themselves means of some dozens of rows are covered from the start; of
    single, strongly skewed rows (exponential), one sequence in five was wrong at one of its first looks.

    Args:
        values: (n,) in time order, such as the means of days.
        level: chance that all of the intervals hold the mean.
        best: after how many values it is narrowest compared with an ordinary interval.

    Returns:
        Lower and upper bounds, (n,) each; infinite below 5 values.

    Example:
        >>> lows, highs = asymptotic(np.tile([0.0, 1.0], 50))
        >>> bool(np.isinf(lows[0])), round(float(lows[-1]), 2), round(float(highs[-1]), 2)
        (True, 0.34, 0.66)
    """
    count = np.arange(1.0, values.size + 1)
    means = np.cumsum(values) / count
    centred = values - means[-1] if values.size else values
    sums, squares = np.cumsum(centred), np.cumsum(np.square(centred))
    deviations = np.sqrt(np.maximum(squares - sums**2 / count, 0.0) / np.maximum(count - 1, 1))
    factors = np.array([reach(int(n), level=level, best=best) for n in count])
    reached = np.where(count < FEWEST, np.inf, 0.0) + np.where(np.isinf(factors), 0.0, factors) * deviations / np.sqrt(
        count
    )
    return means - reached, means + reached


def reach(count: int, *, level: float = 0.95, best: float = 30.0) -> float:
    """How many standard errors a sequence's interval reaches to each side (an ordinary one of 95%: 1.96).

    Robbins' normal mixture, which is what :func:`asymptotic` uses; for estimates that are no plain means, such as an
    AUC with a standard error from days.

    Args:
        count: independent blocks (days) behind the standard error; infinite reach below 5.
        level: as above.
        best: as above.

    Example:
        >>> round(reach(10_000, best=10_000), 2), round(reach(10_000, best=100), 2), reach(4)
        (3.04, 3.56, inf)
    """
    if count < FEWEST:
        return math.inf
    shrink = best / _mixture(level)  # with this prior variance the interval is narrowest at ``best``
    ratio = count / shrink
    wide = math.sqrt((1 + 1 / ratio) * math.log((ratio + 1) / (1 - level) ** 2))
    return wide * student_quantile((1 + level) / 2, count - 1) / z(level)


def _mixture(level: float) -> float:
    """Count times prior variance at which the mixture is narrowest: -2 log(alpha) + log(1 - 2 log(alpha))."""
    spent = -2 * math.log(1 - level)
    return spent + math.log(1 + spent)
