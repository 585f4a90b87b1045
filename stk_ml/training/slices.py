"""Rows by the value of a column."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stk_ml.errors import UnknownNameError

MISSING = "(missing)"


def rows_by_value(values: pa.ChunkedArray | NDArray[np.generic]) -> dict[str, NDArray[np.intp]]:
    """Row numbers of each distinct value as text, rising; the value with the most rows first, nulls as "(missing)".

    Example:
        >>> rows_by_value(pa.chunked_array([["UA", None, "AA", "UA"]]))
        {'UA': array([0, 3]), '(missing)': array([1]), 'AA': array([2])}
    """
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values)])
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = encoded.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(encoded.dictionary))
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    names = [_text(value) for value in encoded.dictionary.to_pylist()]
    return {names[code]: rows[code] for code in np.argsort(-counts, kind="stable")}


def slice_columns(table: pa.Table, names: Iterable[str]) -> dict[str, pa.ChunkedArray]:
    """The columns that slices are taken by.

    Raises:
        UnknownNameError: the table has no such column.
    """
    for name in names:
        if name not in table.column_names:
            raise UnknownNameError("slice column", name, table.column_names)
    return {name: table.column(name) for name in names}


def _text(value: object) -> str:
    if value is None:
        return MISSING
    return str(value).lower() if isinstance(value, bool) else str(value)
