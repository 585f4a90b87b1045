"""Blocks of rows that are resampled together, because rows of one day depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Fewer days than this say too little about how much days differ: from 5 on, an interval of days misses an equal
#: difference in at most 5% of simulated cases per side, with a day effect as large as the noise.
FEWEST = 5
#: More blocks than this cost time and gain nothing.
MOST = 256
#: The kind of blocks when there are too few days.
PIECES = "consecutive pieces"
_PIECES = 32


@dataclass(frozen=True)
class Blocks:
    """Which block each row belongs to.

    Attributes:
        index: (n,) block of each row, 0 to count - 1; every block has a row.
        count: number of blocks.
        kind: what a block is, for people: "days", "spans of 2 days", "consecutive pieces", "random groups".
    """

    index: NDArray[np.intp]
    count: int
    kind: str


def make_blocks(rows: int, times: NDArray[np.datetime64] | None = None, *, seed: int = 0) -> Blocks:
    """Blocks of rows: by day when they have a time, else at random.

    More than 256 days are joined to spans of consecutive days. Fewer than 5 days are too few to resample: the rows
    are cut into up to 32 pieces of equal counts in time order instead, which understates the dependence within a day.

    Args:
        rows: number of rows, n.
        times: (n,) UTC times, or None.
        seed: of the random groups.

    Example:
        >>> blocks = make_blocks(60, np.datetime64("2013-07-01") + np.arange(60) // 4)
        >>> blocks.kind, blocks.count, blocks.index[:5].tolist()
        ('days', 15, [0, 0, 0, 0, 1])
    """
    if times is None:
        return _random(rows, seed)
    day = times.astype("datetime64[D]").astype(np.int64)
    day -= day.min(initial=np.iinfo(np.int64).max)
    used = np.flatnonzero(np.bincount(day)) if rows else day
    if used.size < FEWEST:
        pieces = min(_PIECES, rows)
        if pieces < 2 or times.min() == times.max():
            return _random(rows, seed)
        index = np.empty(rows, np.intp)
        index[np.argsort(times, kind="stable")] = np.arange(rows) * pieces // rows
        return Blocks(index, pieces, PIECES)
    span = -(-used.size // MOST)
    rank = np.zeros(int(used[-1]) + 1, np.intp)
    rank[used] = np.arange(used.size) // span
    return Blocks(rank[day], int(rank[-1]) + 1, "days" if span == 1 else f"spans of {span} days")


def _random(rows: int, seed: int) -> Blocks:
    count = max(min(MOST, rows), 1)
    return Blocks(np.random.default_rng(seed).permutation(rows) % count, count, "random groups")


@lru_cache(maxsize=64)
def resample_weights(count: int, resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """How often each block is drawn in each resample: (resamples, count), every row sums to count.

    The same arguments give the same array, so metrics of one set of blocks are resampled together (paired). Read only.

    Example:
        >>> resample_weights(4, 3, seed=1).sum(axis=1).tolist()
        [4.0, 4.0, 4.0]
    """
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    flat = (drawn + np.arange(resamples)[:, None] * count).ravel()
    weights = np.bincount(flat, minlength=resamples * count).reshape(resamples, count).astype(np.float64)
    weights.flags.writeable = False
    return weights
