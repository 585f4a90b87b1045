"""Rows counted over the bins of the training reference: what monitoring compares, at a cost per feature, not per row.

The rows come as the model takes them: float64 (rows, features) in its order, NaN for missing, a category as its code in
:attr:`stk_ml.artifact.schema.FeatureField.categories` or -1 when training has not seen it, a boolean as 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stk_ml import contracts
from stk_ml.artifact import document
from stk_ml.artifact.profile import ColumnProfile, Profile, bin_numbers
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import ArtifactError

Array = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]
#: Cells beside the bins: below before them; above, missing, other and unseen after them.
_BESIDE = 5


@dataclass(frozen=True)
class Histogram:
    """Rows of one column. Each falls into exactly one of the bins, below, above, missing, other, unseen.

    Attributes:
        name: of the column; ``score`` for the score.
        kind: ``integer``, ``number``, ``boolean``, ``category`` or ``score``.
        counts: one per bin of the profile.
        below, above, missing, other, unseen: as in :class:`stk_ml.artifact.profile.ColumnProfile`.
    """

    name: str
    kind: str
    counts: tuple[int, ...]
    below: int
    above: int
    missing: int
    other: int
    unseen: int

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts) + self.below + self.above + self.missing + self.other + self.unseen


@dataclass(frozen=True)
class Counts:
    """Rows per cell of all columns, one after the other, and outside each declared range; adds up.

    :meth:`FeatureBins.histograms` and :meth:`FeatureBins.oddities` name them.
    """

    cells: Cells
    outside: Cells

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.cells + other.cells, self.outside + other.outside)


class ColumnBins:
    """The bins of one column.

    Args:
        profile: its reference.
        field: its declaration; None for the score.

    Attributes:
        size: number of its cells.
    """

    def __init__(self, profile: ColumnProfile, field: FeatureField | None = None) -> None:
        self.name = profile.name
        self.kind = field.type if field else "score"
        self._edges = np.array(profile.edges, dtype=np.float64)
        self._codes: Cells | None = None
        bins = max(len(profile.edges) - 1, 0)
        if field and field.type == "category":
            bins = len(profile.categories)
            place = {category: place for place, category in enumerate(profile.categories, 1)}
            cells = [place.get(category, bins + 3) for category in field.categories]
            self._codes = np.array([*cells, bins + 4, bins + 2], dtype=np.int64)
        self.bins, self.size = bins, bins + _BESIDE

    def count(self, values: Array) -> Cells:
        """Rows per cell: below, the bins, above, missing, other, unseen."""
        return np.bincount(self._place(values), minlength=self.size)

    def histogram(self, cells: Cells) -> Histogram:
        """Rows per cell, named."""
        below, *counts, above, missing, other, unseen = cells.tolist()
        return Histogram(self.name, self.kind, tuple(counts), below, above, missing, other, unseen)

    def _place(self, values: Array) -> Cells:
        if self._codes is None:
            return bin_numbers(self._edges, values)
        seen = len(self._codes) - 2
        known = (values >= 0) & (values < seen)
        codes = np.where(known, values, np.where(np.isnan(values), seen + 1, seen))
        return self._codes[codes.astype(np.int64)]


class FeatureBins:
    """The bins of a model's columns and of its score.

    Args:
        schema: the columns that the model takes.
        profile: its reference, over the same columns.

    Raises:
        ArtifactError: the two name different columns.

    Example:
        >>> schema = FeatureSchema((FeatureField("km", "number"), FeatureField("kind", "category", ("air", "road"))))
        >>> zero = ((0,),) + ((0,),) * 5
        >>> km = ColumnProfile("km", (0.0, 10.0, 20.0), (), *zero)
        >>> kind = ColumnProfile("kind", (), ("road",), *zero)
        >>> score = ColumnProfile("score", (0.0, 0.5, 1.0), (), *zero)
        >>> bins = FeatureBins(schema, Profile(("all",), {}, (), (km, kind), ("all",), score))
        >>> counts = bins.count(np.array([[5.0, 1.0], [20.0, 0.0], [np.nan, -1.0]]), np.array([0.1, 0.2, 0.9]))
        >>> for histogram in bins.histograms(counts + counts):
        ...     print(histogram.name, histogram.counts, histogram.missing, histogram.other, histogram.unseen)
        km (2, 2) 2 0 0
        kind (2,) 0 2 2
        score (4, 2) 0 0 0
    """

    def __init__(self, schema: FeatureSchema, profile: Profile) -> None:
        names = [column.name for column in profile.features]
        if names != schema.names:
            raise ArtifactError(
                f"the profile is of {len(names)} columns, the model takes {len(schema.names)}, or in another order",
                hint="train the model again",
            )
        self.schema = schema
        self._features = [ColumnBins(*pair) for pair in zip(profile.features, schema.fields, strict=True)]
        self._columns = [*self._features, ColumnBins(profile.score)]
        self._ends = np.cumsum([column.size for column in self._columns])
        ranges = ((place, *_range(field)) for place, field in enumerate(schema.fields) if field.type != "category")
        self._ranges = [(place, low, high) for place, low, high in ranges if (low, high) != (-np.inf, np.inf)]

    @classmethod
    def from_artifact(cls, folder: str | Path) -> FeatureBins:
        """The bins of a model artifact (its model.json and profile.json).

        Raises:
            StorageError: a file cannot be read.
            ArtifactError: as above.
        """
        model = contracts.read(document.ModelDocument, Path(folder) / document.NAME)
        return cls(model.schema, Profile.load(folder))

    def count(self, matrix: Array, scores: Array | None = None) -> Counts:
        """Counts encoded rows (rows, features), and their scores (rows,) when given."""
        columns = list(np.ascontiguousarray(matrix.T))
        parts = [bins.count(values) for bins, values in zip(self._features, columns, strict=True)]
        parts.append(self._columns[-1].count(np.empty(0) if scores is None else scores))
        outside = [np.count_nonzero((columns[at] < low) | (columns[at] > high)) for at, low, high in self._ranges]
        return Counts(np.concatenate(parts), np.array(outside, dtype=np.int64))

    def histograms(self, counts: Counts) -> Iterator[Histogram]:
        """The counts by column: the features in the model's order, then the score."""
        for column, cells in zip(self._columns, np.split(counts.cells, self._ends[:-1]), strict=True):
            yield column.histogram(cells)

    def oddities(self, counts: Counts) -> Iterator[tuple[str, str, int]]:
        """What a model's policy may let pass and the values show: what, column and rows; only where there are any."""
        for column in self.histograms(counts):
            if column.unseen:
                yield "unseen_category", column.name, column.unseen
        for (place, _, _), rows in zip(self._ranges, counts.outside.tolist(), strict=True):
            if rows:
                yield "out_of_range", self.schema.names[place], rows


def _range(field: FeatureField) -> tuple[float, float]:
    return -np.inf if field.minimum is None else field.minimum, np.inf if field.maximum is None else field.maximum
