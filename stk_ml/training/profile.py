"""Makes the reference profile of a model: bins from the training rows, counts of every day."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stk_ml.artifact.profile import ColumnProfile, Profile, bin_numbers
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.training.splits import NAMES, Index, SplitParts, Times

#: Bins of a number; a number with no more distinct values gets one bin for each.
BINS = 20
#: Bins of a category; rarer values are counted together.
CATEGORIES = 50
#: Quantiles are taken over so many training rows at most, evenly spaced.
_SAMPLE = 100_000

Array = npt.NDArray[np.float64]


def profile(
    schema: FeatureSchema,
    features: pa.Table,
    encoded: pa.Table,
    target: Array,
    scores: Array,
    parts: SplitParts,
    as_of: Times | None,
) -> Profile:
    """Counts per day over the rows of all parts.

    Args:
        schema: the model's columns.
        features: the columns before encoding, to tell unseen from missing.
        encoded: the same, encoded.
        target: 0 and 1, or numbers, of all rows.
        scores: calibrated out-of-sample scores of the validation rows.
        parts: which rows count.
        as_of: time of each row; None counts all rows as one day.
    """
    used = np.zeros(len(target), dtype=bool)
    for name in NAMES:
        used[parts.part(name)] = True
    days, day = _days(as_of, used)
    score_days, score_day = days, day[parts.validation]
    rows: dict[str, tuple[int, ...]] = {
        name: tuple(np.bincount(day[parts.part(name)], minlength=len(days)).tolist()) for name in NAMES
    }
    sums = np.bincount(day[used], weights=target[used], minlength=len(days))
    kept = np.unique(score_day)
    score = _number("score", scores, scores, np.searchsorted(kept, score_day), len(kept))
    return Profile(
        days=days,
        rows=rows,
        target=tuple((sums / np.bincount(day[used], minlength=len(days))).tolist()),
        features=tuple(_features(schema, features, encoded, parts.train, day, len(days))),
        score_days=tuple(score_days[place] for place in kept),
        score=score,
    )


def _features(
    schema: FeatureSchema, features: pa.Table, encoded: pa.Table, train: Index, day: Index, days: int
) -> Iterator[ColumnProfile]:
    for field in schema.fields:
        column = encoded.column(field.name)
        if field.type == "category":
            yield _category(field, features.column(field.name), column, train, day, days)
        else:
            values = column.cast(pa.float64(), safe=False).to_numpy()
            yield _number(field.name, values, values[_slice(train)], day, days)


def _number(name: str, values: Array, reference: Array, day: Index, days: int) -> ColumnProfile:
    edges = _edges(reference)
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


def _category(
    field: FeatureField, column: pa.ChunkedArray, encoded: pa.ChunkedArray, train: Index, day: Index, days: int
) -> ColumnProfile:
    size = len(field.categories)
    codes = encoded.fill_null(size).to_numpy()
    seen = np.bincount(codes[_slice(train)], minlength=size)[:size]
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


def _edges(reference: Array) -> Array:
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


def _days(as_of: Times | None, used: npt.NDArray[np.bool_]) -> tuple[tuple[str, ...], Index]:
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


def _slice(rows: Index) -> slice | Index:
    """Rising row numbers as a slice when they are contiguous: no copy."""
    whole = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows


def _rows(table: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _column(counts: npt.NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(counts.tolist())
