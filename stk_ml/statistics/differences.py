"""Intervals of proportions, means and quantiles from counts and sums, and of differences between two of them.

A difference is bounded by MOVER, the method of variance estimates recovery (Zou and Donner 2008, "Construction of
confidence limits about effect measures", Statistics in Medicine 27): each side's own interval says how far it may be
off in either direction, so skewed intervals stay skewed. Over Wilson intervals it is Newcombe's hybrid score interval
(Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from stk_ml.contracts import Interval


def z(level: float) -> float:
    """The standard normal quantile of a two-sided level.

    Example:
        >>> round(z(0.95), 2)
        1.96
    """
    return NormalDist().inv_cdf((1 + level) / 2)


def proportion(successes: int, total: int, level: float = 0.95) -> Interval:
    """Wilson's score interval (1927); from 0 to 1 when nothing was seen.

    Example:
        >>> found = proportion(1, 100)
        >>> round(found.value, 4), round(found.low, 4), round(found.high, 4)
        (0.01, 0.0018, 0.0545)
    """
    if not total:
        return Interval(0.0, 0.0, 1.0, level)
    share, square = successes / total, z(level) ** 2
    centre = (share + square / (2 * total)) / (1 + square / total)
    reach = math.sqrt(square * (share * (1 - share) / total + square / (4 * total**2))) / (1 + square / total)
    low, high = min(max(centre - reach, 0.0), share), max(min(centre + reach, 1.0), share)
    return Interval(share, low, high, level)


def mean(total: float, squares: float, count: int, level: float = 0.95) -> Interval:
    """A mean with its normal interval, from the sum and the sum of squares; unbounded below two values.

    Example:
        >>> found = mean(50.0, 30.0, 100)
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.5, 0.456, 0.544)
    """
    if count < 2:
        return Interval(total if count else 0.0, -math.inf, math.inf, level)
    reach = z(level) * deviation(total, squares, count) / math.sqrt(count)
    return Interval(total / count, total / count - reach, total / count + reach, level)


def deviation(total: float, squares: float, count: int) -> float:
    """The standard deviation from the sum and the sum of squares; 0.0 below two values, and where it is only rounding.

    Example:
        >>> deviation(6.0, 14.0, 3), deviation(0.3, 0.03, 3)
        (1.0, 0.0)
    """
    if count < 2:
        return 0.0
    variance = (squares - total * total / count) / (count - 1)
    return math.sqrt(variance) if variance > 1e-12 * (total / count) ** 2 else 0.0


def ranks(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Between which shares of the sorted values a quantile lies, whatever their distribution.

    The number of values below the true quantile is binomial; this is its score interval (Conover 1999, "Practical
    Nonparametric Statistics", section 3.2). A bound outside 0 to 1 says that the sample does not bound the quantile
    on that side.

    Example:
        >>> low, high = ranks(0.95, 1000)
        >>> round(low, 3), round(high, 3)
        (0.936, 0.965)
        >>> ranks(0.95, 20)[1] > 1
        True
    """
    if not count:
        return -math.inf, math.inf
    reach = z(level) * math.sqrt(share * (1 - share) / count)
    return share - reach, share + reach + 1 / count


def difference(first: Interval, second: Interval) -> Interval:
    """The first less the second, of independent samples, by MOVER.

    Example:
        >>> found = difference(proportion(56, 70), proportion(48, 80))  # Newcombe 1998, table II (a), method 10
        >>> round(found.value, 4), round(found.low, 4), round(found.high, 4)
        (0.2, 0.0524, 0.3339)
    """
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, value - down, value + up, first.level)
