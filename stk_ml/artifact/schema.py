"""The columns a model takes, and how a table becomes numbers: the one encoding for training, evaluation and scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stk_ml.errors import ColumnContractError, closest

#: Logical types that a model can take; see :data:`stk_ml.contracts.ColumnType`.
FeatureType = Literal["integer", "number", "boolean", "category"]
Unseen = Literal["missing", "error"]
_ARROW = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "category": pa.string()}


@dataclass(frozen=True)
class FeatureField:
    """One column that a model takes.

    Attributes:
        name: of the column.
        type: logical type.
        categories: of a category: the values seen in training; the code of a value is its place in the list.
        nullable: whether it may be missing.
        minimum, maximum: declared range of a number, None for no bound. Scoring counts what is outside, and scores it.
    """

    name: str
    type: FeatureType
    categories: tuple[str, ...] = ()
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class FeatureSchema:
    """The columns that a model takes, in the order of its input matrix.

    Example:
        >>> schema = FeatureSchema((FeatureField("km", "number"), FeatureField("kind", "category", ("air", "road"))))
        >>> table = schema.from_records([{"km": 3, "kind": "road"}, {"km": None, "kind": "sea"}])
        >>> schema.matrix(table).tolist(), schema.unseen(table)
        ([[3.0, 1.0], [nan, nan]], {'kind': 1})
    """

    fields: tuple[FeatureField, ...]

    @cached_property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [field.name for field in self.fields]

    @cached_property
    def categorical(self) -> list[int]:
        """Places of the category columns."""
        return [place for place, field in enumerate(self.fields) if field.type == "category"]

    def select(self, table: pa.Table) -> pa.Table:
        """The model's columns of a table that may hold others (entity, label), in the model's order.

        Raises:
            ColumnContractError: a column is missing.
        """
        missing = [name for name in self.names if name not in table.column_names]
        if missing:
            raise ColumnContractError(
                f"{_columns(missing)} missing, of the {len(self.names)} columns that the model takes",
                hint=closest(missing[0], table.column_names),
            )
        return table.select(self.names)

    def encode(self, table: pa.Table, *, unseen: Unseen = "missing") -> pa.Table:
        """Turns a table with exactly the model's columns, in any order, into numbers.

        Args:
            table: numbers, booleans and text (plain or dictionary-encoded).
            unseen: what a category outside the training list becomes: missing, or an error.

        Returns:
            The columns in the model's order. Numbers keep their width, a boolean is an int32 of 0 and 1, a category
            the int32 code of its value; null (or NaN) is missing.

        Raises:
            ColumnContractError: a column is missing, unknown, of a wrong type, or null where it may not be.
        """
        selected = self.select(table)
        extra = [name for name in table.column_names if name not in self.names]
        if extra:
            raise ColumnContractError(
                f"{_columns(extra)} unknown to the model", hint=f"leave out, or name: {', '.join(self.names[:10])}"
            )
        encoded = [_encode(field, selected.column(field.name), unseen) for field in self.fields]
        return pa.table(encoded, names=self.names)

    def matrix(self, table: pa.Table, *, unseen: Unseen = "missing") -> npt.NDArray[np.float64]:
        """As :meth:`encode`, as one (rows, columns) matrix of float64 with NaN for what is missing."""
        return to_matrix(self.encode(table, unseen=unseen))

    def unseen(self, table: pa.Table) -> dict[str, int]:
        """How many values of each category column are not in its training list; only columns with any."""
        counts = {}
        for field in (self.fields[place] for place in self.categorical):
            column = table.column(field.name)
            count = _category(field, column).null_count - column.null_count
            if count:
                counts[field.name] = count
        return counts

    def from_records(self, records: Sequence[Mapping[str, Any]]) -> pa.Table:
        """A table from records as JSON brings them: null or NaN is missing, every column must be named.

        Raises:
            ColumnContractError: a record lacks a column, has an unknown one, or a value of a wrong type.
        """
        known = set(self.names)
        for place, record in enumerate(records):
            if record.keys() != known:
                missing = [name for name in self.names if name not in record]
                wrong = missing or [name for name in record if name not in known]
                raise ColumnContractError(
                    f"record {place} of {len(records)}: {_columns(wrong)} {'missing' if missing else 'unknown'}",
                    hint="give null for a value that is not known" if missing else closest(wrong[0], self.names),
                )
        columns = [_from_json(field, [record[field.name] for record in records]) for field in self.fields]
        return pa.table(columns, names=self.names)


def to_matrix(encoded: pa.Table) -> npt.NDArray[np.float64]:
    """An encoded table as one C-ordered float64 matrix, NaN for missing."""
    matrix = np.empty((encoded.num_rows, encoded.num_columns), dtype=np.float64)
    for place, column in enumerate(encoded.columns):
        matrix[:, place] = column.cast(pa.float64(), safe=False).to_numpy()
    return matrix


def _encode(field: FeatureField, column: pa.ChunkedArray, unseen: Unseen) -> pa.ChunkedArray:
    kind = column.type
    missing = pc.sum(pc.is_null(column, nan_is_null=pa.types.is_floating(kind))).as_py() if not field.nullable else 0
    if missing:
        raise ColumnContractError(
            f"column {field.name!r} is missing in {missing} of {len(column)} rows, and may not be"
        )
    if pa.types.is_null(kind):
        return column.cast(pa.float64() if field.type in ("integer", "number") else pa.int32())
    if field.type == "category":
        codes = _category(field, column)
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


def _category(field: FeatureField, column: pa.ChunkedArray) -> pa.ChunkedArray:
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


def _from_json(field: FeatureField, values: list[Any]) -> pa.Array:
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


def _columns(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"column {listed} is" if len(names) == 1 else f"columns {listed} are"
