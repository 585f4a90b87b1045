"""How often positives outscore negatives, block by block: what makes the AUC of a resample a quadratic form.

With U[i, j] the number of pairs of a positive of block i and a negative of block j that are in order (a tie counts one
half), and w the times that each block is drawn, the AUC of the resample is w'Uw / (w'p)(w'n): exact, and no row is
touched again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Rows of one bin are compared one by one, bins of one chunk by counts. Small enough to stay in the processor's cache.
_BIN = 32
_CHUNK = 256


def concordance(
    labels: NDArray[np.float64], scores: NDArray[np.float64], index: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Pairs in order between the positives of each block and the negatives of each block; ties count one half.

    Args:
        labels: (n,) 0 and 1.
        scores: (n,) higher is more positive.
        index: (n,) block of each row.
        count: number of blocks, B.

    Returns:
        (B, B): positives of the row's block against negatives of the column's. Memory does not grow with n times B.

    Example:
        >>> concordance(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.1, 0.3, 0.3]), np.array([0, 0, 1, 1]), 2)
        array([[1. , 1. ],
               [1. , 0.5]])
    """
    # Negatives stand before positives of the same score, so every tie counts as in order; half of the ties goes again.
    rows = np.concatenate([np.flatnonzero(labels <= 0.5), np.flatnonzero(labels > 0.5)])
    values = scores[rows]
    order = np.argsort(values, kind="stable")
    values, rows = values[order], rows[order]
    positive, block = labels[rows] > 0.5, index[rows]
    return _in_order(positive, block, count) - _tied(values, positive, block, count) / 2


def _in_order(positive: NDArray[np.bool_], block: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Pairs (negative before positive) of ordered rows, by block."""
    result = np.zeros((count, count))
    before = np.zeros(count)
    column = np.arange(_CHUNK * _BIN) // _BIN
    for start in range(0, positive.size, _CHUNK * _BIN):
        true, of = positive[start : start + _CHUNK * _BIN], block[start : start + _CHUNK * _BIN]
        place, bins = column[: true.size], -(-true.size // _BIN)
        gained, lost = _counts(of[true], place[true], count, bins), _counts(of[~true], place[~true], count, bins)
        earlier = np.cumsum(lost, axis=1)
        result += gained @ (earlier - lost + before[:, None]).T
        before += earlier[:, -1]
        result += _within_bins(true, of, count)
    return result


def _within_bins(positive: NDArray[np.bool_], block: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    width = -(-positive.size // _BIN)
    padding = (0, width * _BIN - positive.size)
    true = np.pad(positive, padding).reshape(width, _BIN)
    false = np.pad(~positive, padding).reshape(width, _BIN)
    of = np.pad(block, padding).reshape(width, _BIN)
    winners, losers = [], []
    for gap in range(1, _BIN):
        pair = true[:, gap:] & false[:, :-gap]
        winners.append(of[:, gap:][pair])
        losers.append(of[:, :-gap][pair])
    return _counts(np.concatenate(winners), np.concatenate(losers), count, count)


def _tied(
    values: NDArray[np.float64], positive: NDArray[np.bool_], block: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Pairs of a positive and a negative of equal value, by block."""
    result = np.zeros((count, count))
    group = np.cumsum(np.append(False, values[1:] != values[:-1]))[: values.size]
    sizes = np.bincount(group)
    trues = np.bincount(group, weights=positive)
    mixed = (trues > 0) & (trues < sizes)
    kept = mixed[group]
    positive, block, group = positive[kept], block[kept], (np.cumsum(mixed) - 1)[group[kept]]
    for first in range(0, int(mixed.sum()), _CHUNK):
        rows = slice(*np.searchsorted(group, [first, first + _CHUNK]))
        true, of, column = positive[rows], block[rows], group[rows] - first
        result += _counts(of[true], column[true], count, _CHUNK) @ _counts(of[~true], column[~true], count, _CHUNK).T
    return result


def _counts(row: NDArray[np.intp], column: NDArray[np.intp], rows: int, columns: int) -> NDArray[np.float64]:
    """How often each pair of row and column occurs: (rows, columns)."""
    return np.bincount(row * columns + column, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
