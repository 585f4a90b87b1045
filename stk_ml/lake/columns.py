"""Arrow data on its way into a Delta table: which types are stored, and whether they fit the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from stk_ml.errors import ColumnContractError, UsageError

#: Rows per batch: bounds the memory of a write, and keeps text of a batch under the 2 GiB of 32-bit offsets.
BATCH = 131_072
#: How every time is stored. A time without a zone counts as UTC.
TIMESTAMP = pa.timestamp("us", tz="UTC")
_SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
_AS_IT_IS = (pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32())

Check = Callable[[pa.RecordBatch], None]


class Incoming:
    """Data on its way into a table, cast batch by batch.

    Attributes:
        schema: of the data, as it came.
        error: what went wrong in the data itself while delta-rs read it; it would hide that in its own error.

    Raises:
        UsageError: ``data`` is not Arrow data.
    """

    def __init__(self, data: Any, table: str) -> None:
        if isinstance(data, pa.RecordBatch):
            data = pa.Table.from_batches([data])
        elif not isinstance(data, pa.Table | pa.RecordBatchReader):
            if not hasattr(data, "__arrow_c_stream__"):
                raise UsageError(
                    f"{table}: a {type(data).__name__} is not Arrow data",
                    hint="give a pyarrow Table or RecordBatchReader",
                )
            data = pa.RecordBatchReader.from_stream(data)
        self.table = table
        self.schema: pa.Schema = data.schema
        self.error: BaseException | None = None
        self._data = data
        self._started = False

    @property
    def replayable(self) -> bool:
        """Whether the data can be read (again) from its start."""
        return isinstance(self._data, pa.Table) or not self._started

    def reader(self, schema: pa.Schema, checks: Sequence[Check] = ()) -> pa.RecordBatchReader:
        """The data as ``schema`` says; each batch passes every check."""
        batches = self._batches(schema, checks)
        if not isinstance(self._data, pa.Table):
            batches = _on_a_thread(batches)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def materialise(self, schema: pa.Schema, checks: Sequence[Check] = ()) -> pa.Table:
        """The data as ``schema`` says, in memory; it can be read again from then on."""
        self._data, self.schema = pa.Table.from_batches(self._batches(schema, checks), schema), schema
        return self._data

    def _batches(self, schema: pa.Schema, checks: Sequence[Check]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._cast(schema, checks)
        except Exception as error:
            self.error = error
            raise

    def _cast(self, schema: pa.Schema, checks: Sequence[Check]) -> Iterator[pa.RecordBatch]:
        batches = self._data.to_batches(max_chunksize=BATCH) if isinstance(self._data, pa.Table) else self._data
        for batch in batches:
            self._started = True
            columns = [_cast(batch.column(field.name), field, self.table) for field in schema]
            done = pa.RecordBatch.from_arrays(columns, schema=schema)
            for check in checks:
                check(done)
            yield done


def stored(schema: pa.Schema, table: str) -> pa.Schema:
    """The schema that a new table gets for data of ``schema``.

    Unsigned integers become the next wider signed ones, times UTC microseconds, dictionaries their values, large and
    view types the plain ones, half floats single.

    Raises:
        ColumnContractError: a type that Delta cannot hold, no column, or two of one name.

    Example:
        >>> print(stored(pa.schema({"a": pa.uint32(), "t": pa.timestamp("ns")}), "raw.x"))
        a: int64
        t: timestamp[us, tz=UTC]
    """
    names = [name.lower() for name in schema.names]
    twice = sorted({name for name in schema.names if names.count(name.lower()) > 1})
    if twice:
        raise ColumnContractError(
            f"{table}: column names that differ in case only, or not at all: {', '.join(twice)}",
            hint="rename them: Spark and SQL do not tell them apart",
        )
    if not names:
        raise ColumnContractError(f"{table}: the data has no columns")
    fields = [(field, _stored_type(field.type)) for field in schema]
    refused = [f"{field.name!r} is {field.type}" for field, kind in fields if kind is None]
    if refused:
        raise ColumnContractError(
            f"{table}: a Delta table cannot hold {', '.join(refused)}",
            hint="cast durations and times of day to numbers, columns of nulls to the type they are meant to have",
        )
    return pa.schema([pa.field(field.name, kind, field.nullable) for field, kind in fields])


def fitted(schema: pa.Schema, into: pa.Schema, table: str) -> pa.Schema:
    """The schema that data of ``schema`` is cast to on its way into a table of schema ``into``.

    The columns must be the same, in any order; a type may be narrower than the table's (int32 into int64, float into
    double), and a column of nulls fits any.

    Raises:
        ColumnContractError: names each column that does not fit, with both types.

    Example:
        >>> fitted(pa.schema({"a": pa.string()}), pa.schema({"a": pa.int64()}), "raw.x")
        Traceback (most recent call last):
        stk_ml.errors.ColumnContractError: raw.x: the columns do not fit: 'a' is string, the table has int64
    """
    known = {field.name: field for field in into}
    faults = []
    for field in schema:
        if field.name not in known:
            faults.append(f"{field.name!r} ({field.type}) is not in the table")
        elif not _fits(field.type, known[field.name].type):
            faults.append(f"{field.name!r} is {field.type}, the table has {known[field.name].type}")
    faults += [
        f"{field.name!r} ({field.type}) is missing" for field in known.values() if field.name not in schema.names
    ]
    faults += [f"{name!r} stands twice" for name in sorted(set(schema.names)) if schema.names.count(name) > 1]
    if faults:
        raise ColumnContractError(
            f"{table}: the columns do not fit: {'; '.join(faults)}",
            hint="cast or rename them; overwriting the whole table changes its columns",
        )
    return pa.schema(list(known.values()))


def _on_a_thread(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, made on a thread of their own, one ahead.

    delta-rs pulls them on a thread of its runtime, where nothing may use delta-rs again: a source that itself reads the
    lake would die there.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _stored_type(kind: pa.DataType) -> pa.DataType | None:
    """What a type is stored as; None when Delta has nothing for it."""
    if types.is_dictionary(kind):
        return _stored_type(kind.value_type)
    if types.is_timestamp(kind):
        return TIMESTAMP
    if types.is_date(kind):
        return pa.date32()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_fixed_size_binary(kind) and not types.is_decimal(kind):
        return pa.binary()
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else None
    if types.is_nested(kind):
        return _stored_nested(kind)
    return _SIGNED.get(kind, kind if kind in _AS_IT_IS else None)


def _stored_nested(kind: pa.DataType) -> pa.DataType | None:
    if types.is_map(kind):
        key, item = _stored_type(kind.key_type), _stored_type(kind.item_type)
        return pa.map_(key, item) if key and item else None
    if types.is_struct(kind):
        inner = [(field.name, _stored_type(field.type)) for field in kind]
        return pa.struct(inner) if all(part for _, part in inner) else None
    if types.is_union(kind):
        return None
    value = _stored_type(kind.value_type)
    return pa.list_(value) if value else None


def _fits(kind: pa.DataType, into: pa.DataType) -> bool:
    if types.is_null(kind):
        return True
    kind = _stored_type(kind)
    if kind is None:
        return False
    for family in (types.is_signed_integer, types.is_floating):
        if family(kind) and family(into):
            return bool(kind.bit_width <= into.bit_width)
    return bool(kind == _stored_type(into))


def _cast(column: pa.Array, field: pa.Field, table: str) -> pa.Array:
    try:
        options = pc.CastOptions(target_type=field.type, allow_time_truncate=True)
        column = pc.cast(column, options=options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ColumnContractError(
            f"{table}: column {field.name!r} ({column.type}) cannot be stored as {field.type}: {error}"
        ) from error
    if not field.nullable and column.null_count:
        raise ColumnContractError(
            f"{table}: column {field.name!r} may not be null, {column.null_count} of {len(column)} rows are"
        )
    return column
