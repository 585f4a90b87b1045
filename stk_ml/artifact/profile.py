"""The reference profile: what each feature and the score looked like, day by day, when the model was made.

Monitoring compares against it, so the bins are fixed here and histograms of any rows add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stk_ml import contracts

NAME = "profile.json"


@dataclass(frozen=True)
class ColumnProfile:
    """Counts of one column per day. Each row falls into exactly one of: a bin, below, above, missing, other, unseen.

    Attributes:
        name: of the column; ``score`` for the score.
        edges: of a number: bin i holds edges[i] <= x < edges[i + 1], the last one also its right edge; all training
            rows lie inside. A last edge that stands twice is a bin of that one value.
        categories: of a category: the most frequent in training, one bin each.
        counts: one list of bins per day.
        missing: null or NaN, per day.
        below, above: numbers outside the edges, per day.
        other: categories seen in training but too rare for a bin, per day.
        unseen: categories not seen in training, per day.
    """

    name: str
    edges: tuple[float, ...]
    categories: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    missing: tuple[int, ...]
    below: tuple[int, ...]
    above: tuple[int, ...]
    other: tuple[int, ...]
    unseen: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """``profile.json``.

    Attributes:
        days: ISO dates of as_of, rising; the one entry ``all`` when the data has no time.
        rows: number of rows per day, by split.
        target: mean of the target (share of positives) per day.
        features: in the model's order, over the rows of all splits.
        score_days: as ``days``, for the score.
        score: calibrated scores of the validation rows by a model that had not seen them.
    """

    days: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]
    target: tuple[float, ...]
    features: tuple[ColumnProfile, ...]
    score_days: tuple[str, ...]
    score: ColumnProfile

    @classmethod
    def load(cls, folder: str | Path) -> Profile:
        """The profile of an artifact; StorageError when it cannot be read."""
        return contracts.read(cls, Path(folder) / NAME)


def bin_numbers(edges: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The cell of each value: 0 below, 1 and up the bins, then above, then missing.

    Example:
        >>> bin_numbers(np.array([0.0, 1.0, 2.0]), np.array([-1, 0, 0.5, 1, 2, 3, np.nan])).tolist()
        [0, 1, 1, 2, 2, 3, 4]
    """
    bins = max(len(edges) - 1, 0)
    if not bins:
        return np.where(np.isnan(values), 2, np.where(values < 0, 0, 1)).astype(np.int64)
    cells = np.searchsorted(edges[:-1], values, side="right")
    cells[values > edges[-1]] = bins + 1
    cells[np.isnan(values)] = bins + 2
    return cells
