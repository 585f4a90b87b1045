"""Arrow IPC streams: checked fully before a value is read, and bounded in memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stk_ml.errors import RequestError
from stk_ml.serving.decoding import arrow_messages
from stk_ml.serving.decoding.rows import UNSEEN
from stk_ml.serving.decoding.shapes import check_names, check_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.artifact.schema import FeatureField
    from stk_ml.serving.decoding.columns import Assembly

_WRONG = float("inf")


def read(body: bytes, max_rows: int, max_bytes: int) -> pa.Table:
    """The table of an IPC stream (https://arrow.apache.org/docs/format/Columnar.html).

    Args:
        body: the whole stream.
        max_rows: most rows taken.
        max_bytes: most bytes of its compressed buffers once they are not.

    Raises:
        RequestError: 400 when it is no sound stream, 413 for too many rows or bytes, 422 for no rows.
    """
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    try:
        arrow_messages.check(body, max_bytes)
        source = pa.BufferReader(body)
        with pa.ipc.open_stream(source) as reader:
            schema = reader.schema
            rows = 0
            for batch in reader:
                rows += batch.num_rows
                check_rows(rows, max_rows)
                batches.append(batch)
        if source.tell() < len(body):
            raise RequestError(f"{len(body) - source.tell()} bytes follow the end of the stream", reason="arrow")
        table = pa.Table.from_batches(batches, schema)
        names = table.column_names
        table.validate(full=True)
    except RequestError:
        raise
    except Exception as error:  # of a hostile stream, pyarrow raises whatever its parts do
        line = (str(error).splitlines() or [""])[0][:200]
        raise RequestError(f"the body is not a sound Arrow stream: {line}", reason="arrow") from error
    check_names(names)
    if not rows:
        raise RequestError("the stream holds no rows", status=422, reason="shape")
    return table


def add(table: pa.Table, assembly: Assembly) -> None:
    """Adds the model's columns, as :meth:`stk_ml.artifact.schema.FeatureSchema.encode` reads them."""
    names, known = set(table.column_names), set(assembly.schema.names)
    assembly.unknown([(-1, name) for name in table.column_names if name not in known])
    for place, field in enumerate(assembly.schema.fields):
        if field.name not in names:
            assembly.absent(place)
            continue
        column = table.column(field.name)
        floats = _floats(field, column)
        if floats is None:
            assembly.wrong(place, str(column.type)[:64])
        else:
            assembly.add(place, floats, partial(_value, column))


def _value(column: pa.ChunkedArray, row: int) -> Any:
    return column[row].as_py()


def _floats(field: FeatureField, column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """One float per row, see :class:`~stk_ml.serving.decoding.columns.Codec`; None when the type does not fit."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if field.type == "category":
        return _codes(field, column)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if field.type == "boolean":
        if not (number or pa.types.is_boolean(kind)):
            return None
        values = _to_numpy(column)
        return np.where(np.isnan(values) | (values == 0) | (values == 1), values, _WRONG)
    return _to_numpy(column) if number or pa.types.is_decimal(kind) else None


def _codes(field: FeatureField, column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(field.categories, pa.string())

    def codes(values: pa.Array | pa.ChunkedArray) -> Any:
        found = pc.fill_null(pc.cast(pc.index_in(pc.cast(values, pa.string()), known), pa.float64()), UNSEEN)
        return pc.if_else(pc.is_valid(values), found, pa.scalar(None, pa.float64()))

    kind = column.type
    if pa.types.is_dictionary(kind):
        if not _textual(kind.value_type):
            return None
        chunks = [codes(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
        return _to_numpy(pa.chunked_array(chunks, pa.float64()))
    return _to_numpy(codes(column)) if _textual(kind) else None


def _textual(kind: pa.DataType) -> bool:
    import pyarrow as pa

    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(text or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _to_numpy(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
