"""How one Arrow column becomes numbers. What :mod:`stk_ml.artifact.schema` needs pyarrow for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from stk_ml.errors import ColumnContractError

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField, Unseen


def encode(field: FeatureField, column: pa.ChunkedArray, unseen: Unseen) -> pa.ChunkedArray:
    """One column as numbers; see :meth:`stk_ml.artifact.schema.FeatureSchema.encode`."""
    kind = column.type
    missing = pc.sum(pc.is_null(column, nan_is_null=pa.types.is_floating(kind))).as_py() if not field.nullable else 0
    if missing:
        raise ColumnContractError(
            f"column {field.name!r} is missing in {missing} of {len(column)} rows, and may not be"
        )
    if pa.types.is_null(kind):
        return column.cast(pa.float64() if field.type in ("integer", "number") else pa.int32())
    if field.type == "category":
        codes = category(field, column)
        if unseen == "error" and codes.null_count > column.null_count:
            strange = column.filter(pc.and_(pc.is_null(codes), pc.is_valid(column)))
            raise ColumnContractError(
                f"column {field.name!r} holds {len(strange)} of {len(column)} values not seen in training, "
                f"for example {strange[0].as_py()!r}",
                hint=f"seen were {', '.join(field.categories[:10])}",
            )
        return codes
    if field.type == "boolean":
        return _boolean(field, column)
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return column.cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    raise _wrong(field, column, "numbers")


def category(field: FeatureField, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The int32 code of each value, its place in the training list; null when it is not there."""
    values = pa.array(field.categories, pa.string())
    if pa.types.is_dictionary(column.type):
        codes = [pc.index_in(c.dictionary.cast(pa.string()), values).take(c.indices) for c in column.chunks]
        return pa.chunked_array(codes, pa.int32())
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise _wrong(field, column, "text")
    return pc.index_in(column.cast(pa.string()), values)


def _boolean(field: FeatureField, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        number = column.cast(pa.float64(), safe=False)
        number = pc.if_else(pc.is_nan(number), None, number)
        if pc.all(pc.is_in(number.drop_null(), pa.array([0.0, 1.0]))).as_py() is False:
            raise _wrong(field, column, "true and false, or 0 and 1")
        return number.cast(pa.int32())
    if not pa.types.is_boolean(column.type):
        raise _wrong(field, column, "true and false")
    return column.cast(pa.int32())


def from_json(field: FeatureField, values: list[Any]) -> pa.Array:
    """A column of the values that JSON brought, null or NaN being missing."""
    values = [None if value != value else value for value in values]  # NaN is the only value unlike itself
    if field.type == "category":
        right: tuple[type, ...] = (str, int)
    else:
        right = (bool, int) if field.type == "boolean" else (int, float)
    wrong = [
        v for v in values if v is not None and (not isinstance(v, right) or (isinstance(v, bool) and bool not in right))
    ]
    if wrong:
        raise ColumnContractError(
            f"column {field.name!r} holds {len(wrong)} of {len(values)} values that are no {field.type}, "
            f"for example {wrong[0]!r}"
        )
    if field.type == "category":
        return pa.array([v if v is None else str(v) for v in values], pa.string())
    if field.type == "boolean":
        return pa.array([v if v is None else float(v) for v in values], pa.float64())
    return pa.array([v if v is None else float(v) for v in values], pa.float64())


def _wrong(field: FeatureField, column: pa.ChunkedArray, expected: str) -> ColumnContractError:
    valid = column.drop_null()
    example = f", for example {valid[0].as_py()!r}" if len(valid) else ""
    return ColumnContractError(
        f"column {field.name!r} holds {column.type} in {len(valid)} of {len(column)} rows{example}; "
        f"the model takes {expected}"
    )
