"""Columns of times, in whatever form they come: as UTC timestamps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stk_ml.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

#: Units of Unix times and how many of them are a second. From 1973 to 5138 a magnitude belongs to one unit alone.
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LEAST, _MOST = 10**8, 10**11
_FORMS = "a date, a time in ISO 8601, or Unix time in seconds, milliseconds, microseconds or nanoseconds"


def instants(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as ``timestamp[us]`` in UTC, null where there is no time.

    Timestamps and dates of any unit and zone; texts in ISO 8601, with a zone or without one (then UTC), also
    ``20240130``; numbers as Unix time, whose unit is told by its magnitude, or as dates ``20240130``.

    Args:
        column: any.
        name: of the column, for messages.

    Raises:
        DataError: it holds something else.

    Example:
        >>> import pyarrow as pa
        >>> for given in (["2024-01-30T02:00:00+02:00"], ["20240130"], [1706572800], [1706572800000.0]):
        ...     instants(pa.chunked_array([given]), "at")[0].as_py().isoformat()
        '2024-01-30T00:00:00'
        '2024-01-30T00:00:00'
        '2024-01-30T00:00:00'
        '2024-01-30T00:00:00'
    """
    import pyarrow as pa

    types, kind = pa.types, column.type
    if types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if types.is_decimal(kind):
        column = column.cast(pa.float64())
        kind = column.type
    if types.is_integer(kind) or types.is_floating(kind):
        return _numbers(column, name)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _texts(column, name)
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_null(kind):
        return column.cast(pa.timestamp("us"), safe=False)
    raise DataError(f"column {name!r} holds no times but {kind}", hint=f"a time is {_FORMS}")


def _numbers(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, None)
    low, high = pc.min_max(column).as_py().values()
    if low is None:
        return pa.chunked_array([pa.nulls(len(column), pa.timestamp("us"))])
    if low >= 19000101 and high < 21010101:
        return _texts(column.cast(pa.int64()).cast(pa.string()), name)
    units = [unit for unit, size in _UNITS.items() if _LEAST * size <= low and high < _MOST * size]
    if not units:
        raise DataError(
            f"column {name!r} holds numbers from {low:,} to {high:,}, which are no times", hint=f"a time is {_FORMS}"
        )
    if pa.types.is_floating(column.type):
        micro = pc.round(pc.multiply(column.cast(pa.float64()), 1e6 / _UNITS[units[0]]))
        return micro.cast(pa.int64()).cast(pa.timestamp("us"))
    return column.cast(pa.int64()).cast(pa.timestamp(units[0])).cast(pa.timestamp("us"), safe=False)


def _texts(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return column.cast(kind).cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            pass  # other forms, or several of them
    different = pc.unique(column.cast(pa.string())).drop_null()
    try:
        times = [_moment(text.strip()) for text in different.to_pylist()]
    except ValueError as error:
        raise DataError(f"column {name!r} holds no times: {error}", hint=f"a time is {_FORMS}") from error
    places = pc.index_in(column.cast(pa.string()), value_set=different)
    return pa.chunked_array([pa.array(times, pa.timestamp("us")).take(places.combine_chunks())])


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
