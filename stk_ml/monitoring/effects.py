"""How far two histograms of one column are apart, in units that mean the same for every column.

Four aspects, in the order of :data:`ASPECTS`:

- ``distribution`` of the rows that are not missing. Numbers and scores: the Wasserstein distance in interquartile
  ranges of the reference. Categories and booleans: total variation, the share of rows that would have to change;
  ``other``, ``unseen`` and values outside the bins are cells of their own.
- ``missing``, ``unseen``, ``out_of_range`` (below and above the bins): difference of the shares of all rows.

A bin stands at its middle; at its left edge where every bin holds a single value. The first and the last bin, which
hold the tails, stand no farther out than their neighbour is wide, and all within three interquartile ranges of the
quartiles, so that a long tail cannot drown the rest. Rows below the bins stand as far before the first bin as the
second is after it, and rows above likewise.

"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stk_ml.artifact.profile import ColumnProfile
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
#: What can move, in the order of :meth:`Ruler.effects`.
ASPECTS = ("distribution", "missing", "unseen", "out_of_range")
_REACH = 3.0
#: The interquartile range of a normal distribution with standard deviation 1.
_NORMAL_IQR = 1.349


def day_cells(profile: ColumnProfile) -> Floats:
    """Rows per day and cell: (days, below + bins + above + missing + other + unseen).

    Example:
        >>> column = ColumnProfile("km", (0.0, 1.0, 2.0), (), ((3, 1), (2, 2)), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0))
        >>> day_cells(column).tolist()
        [[0.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 2.0, 0.0, 1.0, 0.0, 0.0]]
    """
    width = len(profile.categories) or max(len(profile.edges) - 1, 0)
    bins = np.array(profile.counts, np.float64).reshape(len(profile.missing), width)
    after = (profile.above, profile.missing, profile.other, profile.unseen)
    return np.column_stack([profile.below, bins, *after]).astype(np.float64)


def window_cells(histogram: Histogram) -> Floats:
    """Rows per cell of a window, in the same order."""
    after = (histogram.above, histogram.missing, histogram.other, histogram.unseen)
    return np.array([histogram.below, *histogram.counts, *after], np.float64)


class Ruler:
    """Measures the effects of one column.

    Args:
        profile: its bins.
        kind: ``integer``, ``number``, ``score``, ``boolean`` or ``category``.
        reference: (cells,) rows of the reference, which gives the unit.

    Attributes:
        positions: (below, bins, above) of a number, in interquartile ranges; empty for the other kinds.

    Example:
        >>> profile = ColumnProfile("km", (0.0, 1.0, 2.0, 3.0, 4.0), (), ((5, 5, 5, 5),), *((0,),) * 5)
        >>> then, now = np.array([0, 5, 5, 5, 5, 0, 0, 0, 0.0]), np.array([0, 0, 5, 5, 5, 5, 0, 0, 0.0])
        >>> Ruler(profile, "number", then).effects(now, then).tolist()
        [0.5, 0.0, 0.0, 0.25]
    """

    def __init__(self, profile: ColumnProfile, kind: str, reference: Floats) -> None:
        self.kind = kind
        numeric = kind not in ("boolean", "category") and len(profile.edges) > 1
        self.positions = _positions(np.array(profile.edges), reference[1 : len(profile.edges)]) if numeric else _NONE
        self._gaps = np.diff(self.positions)

    def effects(self, window: Floats, reference: Floats) -> Floats:
        """Effects of all aspects: (..., cells) rows against (..., cells) rows give (..., 4)."""
        missing, unseen, outside = (self.rates(window)[..., 1:] - self.rates(reference)[..., 1:]).T
        rates = [np.abs(rate).T for rate in (missing, unseen, outside)]
        return np.stack([self._distribution(window, reference), *rates], axis=-1)

    def contrast(self, window: Floats, reference: Floats) -> Floats:
        """(...): what tells two distributions apart where the effect is blunt, in no unit; for tests alone.

        Numbers: how much the deviation differs, as the logarithm of a ratio: a Wasserstein distance hardly sees tails.
        Categories: Pearson's chi-square per row, in which rare values weigh more than in the total variation; one row
        is added to each expected count, so that the rarest do not drown the rest.

        Example:
            >>> profile = ColumnProfile("kind", (), ("a", "b"), ((9, 1),), *((0,),) * 5)
            >>> then, now = np.array([0, 9, 1, 0, 0, 0, 0.0]), np.array([0, 6, 4, 0, 0, 0, 0.0])
            >>> round(float(Ruler(profile, "category", then).contrast(now, then)), 2)
            0.54
        """
        if self.positions.size:
            inside = slice(0, self.positions.size)
            now, then = self._deviation(window[..., inside]), self._deviation(reference[..., inside])
            both = (now > 0) & (then > 0)
            found: Floats = np.abs(np.log(np.where(both, now, 1.0) / np.where(both, then, 1.0)))
            return found
        p, q = _shares(_present(window)), _shares(_present(reference))
        one = 1 / np.maximum(_present(window).sum(axis=-1, keepdims=True), 1.0)
        told: Floats = (np.square(p - q) / (q + one)).sum(axis=-1)
        return told

    def _deviation(self, rows: Floats) -> Floats:
        shares = _shares(rows)
        mean = shares @ self.positions
        found: Floats = np.sqrt(np.maximum(shares @ np.square(self.positions) - np.square(mean), 0.0))
        return found

    def rates(self, rows: Floats) -> Floats:
        """(..., 4): the mean position of a number (0 for other kinds), and the shares missing, unseen and outside."""
        total = np.maximum(rows.sum(axis=-1), 1e-300)
        outside = rows[..., 0] + rows[..., -4]
        shares = [part / total for part in (rows[..., -3], rows[..., -1], outside)]
        if not self.positions.size:
            return np.stack([np.zeros_like(total), *shares], axis=-1)
        inside = rows[..., : self.positions.size]
        mean = inside @ self.positions / np.maximum(inside.sum(axis=-1), 1e-300)
        return np.stack([mean, *shares], axis=-1)

    def _distribution(self, window: Floats, reference: Floats) -> Floats:
        if self.positions.size:
            inside = slice(0, self.positions.size)
            apart = _shares(window[..., inside]) - _shares(reference[..., inside])
            found: Floats = np.abs(np.cumsum(apart, axis=-1)[..., :-1]) @ self._gaps
        else:
            found = np.abs(_shares(_present(window)) - _shares(_present(reference))).sum(axis=-1) / 2
        both = (_present(window).sum(axis=-1) > 0) & (_present(reference).sum(axis=-1) > 0)
        measured: Floats = np.where(both, found, 0.0)
        return measured


_NONE = np.empty(0)


def aspects_present(rows: Floats) -> Sequence[bool]:
    """Which aspects can be told apart at all from (cells,) rows: a rate that is 0 or 1 everywhere cannot.

    Example:
        >>> aspects_present(np.array([0, 5, 5, 0, 2, 0, 0.0]))
        [True, True, False, False]
    """
    total = rows.sum()
    parts = (rows[-3], rows[-1], rows[0] + rows[-4])
    return [bool(np.count_nonzero(_present(rows)) > 1), *(bool(0 < part < total) for part in parts)]


def _present(rows: Floats) -> Floats:
    """Without the cell of missing rows."""
    return np.concatenate([rows[..., :-3], rows[..., -2:]], axis=-1)


def _shares(rows: Floats) -> Floats:
    shares: Floats = rows / np.maximum(rows.sum(axis=-1, keepdims=True), 1e-300)
    return shares


def _positions(edges: Floats, counts: Floats) -> Floats:
    single = edges[-1] == edges[-2]
    places = edges[:-1] if single else (edges[:-1] + edges[1:]) / 2
    if not single and len(places) > 2:
        places[0] = max(places[0], 2 * edges[1] - edges[2])
        places[-1] = min(places[-1], 2 * edges[-2] - edges[-3])
    low, high = _quartiles(edges, places, counts, single)
    scale = high - low
    if scale <= 0:
        total = max(counts.sum(), 1.0)
        mean = counts @ places / total
        scale = _NORMAL_IQR * np.sqrt(counts @ np.square(places - mean) / total)
    if scale <= 0:
        scale = float(places[-1] - places[0]) or 1.0
    bounds = low - _REACH * scale, high + _REACH * scale
    places = np.clip(places, *bounds) / scale
    before, after = (places[1] - places[0], places[-1] - places[-2]) if len(places) > 1 else (1.0, 1.0)
    return np.concatenate([[places[0] - before], places, [places[-1] + after]])


def _quartiles(edges: Floats, places: Floats, counts: Floats, single: bool) -> Floats:
    cumulated = np.cumsum(counts) / max(counts.sum(), 1.0)
    quarters = np.array([0.25, 0.75])
    if single:
        return np.asarray(places[np.minimum(np.searchsorted(cumulated, quarters), len(places) - 1)])
    return np.asarray(np.interp(quarters, np.append(0.0, cumulated), edges), np.float64)
