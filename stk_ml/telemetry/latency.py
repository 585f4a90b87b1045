"""Latency histograms: fixed logarithmic bins, so that the counts of workers and windows add up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

_FIRST = 50e-6
_RATIO = 2**0.25

#: Bin edges in seconds, from 50 microseconds to just past 100 s; each is 2**0.25 (19%) above the one before. Bin 0 is
#: below the first edge, bin i holds EDGES[i - 1] <= seconds < EDGES[i], the last bin is what lies at or past the end.
EDGES: tuple[float, ...] = tuple(_FIRST * _RATIO**place for place in range(85))
#: Number of bins.
BINS = len(EDGES) + 1


def bin(seconds: float) -> int:  # noqa: A001
    """The bin of a latency.

    Example:
        >>> bin(0.0), bin(0.001), bin(1e6) == BINS - 1
        (0, 18, True)
    """
    return bisect_right(EDGES, seconds)


def quantile(counts: Sequence[int], share: float) -> float:
    """The latency in seconds that this share of the counted requests stayed at or below; 0.0 of no requests.

    Interpolated within a bin, logarithmically. The result lies in the bin of the true quantile (the smallest value
    that ``share`` of them do not exceed), hence within a factor of 2**0.25 of it. Below 50 microseconds it is off by
    at most 50 microseconds, and what lies past the last edge counts as the last edge.

    Args:
        counts: one per bin, or none at all.
        share: 0 to 1.

    Example:
        >>> counts = [0] * BINS
        >>> for milliseconds in range(1, 101):
        ...     counts[bin(milliseconds / 1000)] += 1
        >>> 0.050 / _RATIO < quantile(counts, 0.5) < 0.050 * _RATIO
        True
    """
    total = sum(counts)
    if not total:
        return 0.0
    wanted = min(max(share, 0.0), 1.0) * total
    place = next(place for place, upto in enumerate(accumulate(counts)) if upto >= wanted and upto)
    within = (wanted - sum(counts[:place])) / counts[place]
    if place == 0:
        return EDGES[0] * within
    if place == len(EDGES):
        return EDGES[-1]
    return EDGES[place - 1] * float(_RATIO**within)


def merge(*histograms: Sequence[int]) -> tuple[int, ...]:
    """Counts added up; those of nothing are all 0.

    Example:
        >>> one = [1] + [0] * (BINS - 1)
        >>> merge(one, (), one)[0], len(merge())
        (2, 86)
    """
    return tuple(map(sum, zip((0,) * BINS, *(counts for counts in histograms if len(counts)), strict=True)))
