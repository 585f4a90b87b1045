"""Makes the profile of a column: bins from reference rows, counts of every day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stk_ml.artifact.profile import ColumnProfile, bin_numbers
from stk_ml.artifact.schema import FeatureField

if TYPE_CHECKING:
    import pyarrow as pa

#: Bins of a number; a number with no more distinct values gets one bin for each.
BINS = 20
#: Bins of a category; rarer values are counted together.
CATEGORIES = 50
#: Quantiles are taken over so many reference rows at most, evenly spaced.
_SAMPLE = 100_000

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Times = npt.NDArray[np.datetime64]


def number_profile(name: str, values: Array, reference: Array, day: Index, days: int) -> ColumnProfile:
    """Counts of a number.

    Args:
        name: of the column.
        values: (n,) of all rows, NaN for missing.
        reference: those that the bins are made from.
        day: (n,) place of each row's day; rows whose place is ``days`` are not counted.
        days: number of days.

    Example:
        >>> km = np.array([1.0, 2.0, 2.0, np.nan])
        >>> made = number_profile("km", km, km, np.array([0, 0, 1, 1]), 2)
        >>> made.edges, made.counts, made.missing
        ((1.0, 2.0, 2.0), ((1, 1), (0, 1)), (0, 1))
    """
    edges = number_edges(reference)
    bins = max(len(edges) - 1, 0)
    table = _count(day, bin_numbers(edges, values), days, bins + 3)
    return ColumnProfile(
        name=name,
        edges=tuple(edges.tolist()),
        categories=(),
        counts=_rows(table[:, 1 : bins + 1]),
        below=_column(table[:, 0]),
        above=_column(table[:, bins + 1]),
        missing=_column(table[:, bins + 2]),
        other=(0,) * days,
        unseen=(0,) * days,
    )


def category_profile(
    field: FeatureField,
    column: pa.ChunkedArray,
    encoded: pa.ChunkedArray,
    reference: Index | slice,
    day: Index,
    days: int,
) -> ColumnProfile:
    """Counts of a category: as :func:`number_profile`, over the ``column`` before encoding and ``encoded`` to codes."""
    import pyarrow.compute as pc

    size = len(field.categories)
    codes = encoded.fill_null(size).to_numpy()
    seen = np.bincount(codes[reference], minlength=size)[:size]
    frequent = np.sort(np.argsort(-seen, kind="stable")[:CATEGORIES])
    bins = len(frequent)
    cells = np.full(size + 2, bins, dtype=np.int64)  # bins, then other, unseen, missing
    cells[frequent] = np.arange(bins)
    cells[size] = bins + 1
    cells[size + 1] = bins + 2
    if column.null_count:
        codes = np.where(pc.is_null(column).to_numpy(), size + 1, codes)
    table = _count(day, cells[codes], days, bins + 3)
    return ColumnProfile(
        name=field.name,
        edges=(),
        categories=tuple(field.categories[place] for place in frequent),
        counts=_rows(table[:, :bins]),
        below=(0,) * days,
        above=(0,) * days,
        missing=_column(table[:, bins + 2]),
        other=_column(table[:, bins]),
        unseen=_column(table[:, bins + 1]),
    )


def number_edges(reference: Array) -> Array:
    """Bin edges from training rows: one bin per value when there are few, else equal shares of the rows."""
    finite = reference[np.isfinite(reference)]
    if not len(finite):
        return np.empty(0)
    low, high = finite.min(), finite.max()
    sample = finite[:: len(finite) // _SAMPLE + 1]
    values = np.unique(sample)
    if len(values) > BINS:
        values = np.unique(np.quantile(sample, np.arange(BINS) / BINS, method="inverted_cdf"))
    values[0] = low
    return np.append(values, high)


def place_days(as_of: Times | None, used: npt.NDArray[np.bool_]) -> tuple[tuple[str, ...], Index]:
    """The days of the used rows, and each row's place among them; rows that are not used come after the last."""
    if as_of is None:
        return ("all",), np.where(used, 0, 1)
    dates = as_of.astype("datetime64[D]").astype(np.int64)
    first = dates[used].min()
    span = int(dates[used].max() - first) + 1
    present = np.bincount(dates[used] - first, minlength=span) > 0
    place = np.cumsum(present) - 1
    day = np.where(used, place[np.clip(dates - first, 0, span - 1)], present.sum())
    names = np.datetime_as_string((np.flatnonzero(present) + first).astype("datetime64[D]"))
    return tuple(names.tolist()), day


def _count(day: Index, cell: Index, days: int, cells: int) -> npt.NDArray[np.int64]:
    """Rows per day and cell. Rows whose day is ``days`` are not counted."""
    flat = np.bincount(day * cells + cell, minlength=(days + 1) * cells)
    return flat.reshape(-1, cells)[:days]


def _rows(table: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _column(counts: npt.NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(counts.tolist())
