"""The columns a model takes, and how a table becomes numbers: the one encoding for training, evaluation and scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from stk_ml.errors import ColumnContractError, closest

if TYPE_CHECKING:
    import pyarrow as pa

#: Logical types that a model can take; see :data:`stk_ml.contracts.ColumnType`.
FeatureType = Literal["integer", "number", "boolean", "category"]
Unseen = Literal["missing", "error"]


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
        import pyarrow as pa

        from stk_ml.artifact import encoding

        selected = self.select(table)
        extra = [name for name in table.column_names if name not in self.names]
        if extra:
            raise ColumnContractError(
                f"{_columns(extra)} unknown to the model", hint=f"leave out, or name: {', '.join(self.names[:10])}"
            )
        encoded = [encoding.encode(field, selected.column(field.name), unseen) for field in self.fields]
        return pa.table(encoded, names=self.names)

    def matrix(self, table: pa.Table, *, unseen: Unseen = "missing") -> npt.NDArray[np.float64]:
        """As :meth:`encode`, as one (rows, columns) matrix of float64 with NaN for what is missing."""
        return to_matrix(self.encode(table, unseen=unseen))

    def unseen(self, table: pa.Table) -> dict[str, int]:
        """How many values of each category column are not in its training list; only columns with any."""
        from stk_ml.artifact import encoding

        counts = {}
        for field in (self.fields[place] for place in self.categorical):
            column = table.column(field.name)
            count = encoding.category(field, column).null_count - column.null_count
            if count:
                counts[field.name] = count
        return counts

    def from_records(self, records: Sequence[Mapping[str, Any]]) -> pa.Table:
        """A table from records as JSON brings them: null or NaN is missing, every column must be named.

        Raises:
            ColumnContractError: a record lacks a column, has an unknown one, or a value of a wrong type.
        """
        import pyarrow as pa

        from stk_ml.artifact import encoding

        known = set(self.names)
        for place, record in enumerate(records):
            if record.keys() != known:
                missing = [name for name in self.names if name not in record]
                wrong = missing or [name for name in record if name not in known]
                raise ColumnContractError(
                    f"record {place} of {len(records)}: {_columns(wrong)} {'missing' if missing else 'unknown'}",
                    hint="give null for a value that is not known" if missing else closest(wrong[0], self.names),
                )
        columns = [encoding.from_json(field, [record[field.name] for record in records]) for field in self.fields]
        return pa.table(columns, names=self.names)


def to_matrix(encoded: pa.Table) -> npt.NDArray[np.float64]:
    """An encoded table as one C-ordered float64 matrix, NaN for missing."""
    import pyarrow as pa

    matrix = np.empty((encoded.num_rows, encoded.num_columns), dtype=np.float64)
    for place, column in enumerate(encoded.columns):
        matrix[:, place] = column.cast(pa.float64(), safe=False).to_numpy()
    return matrix


def _columns(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"column {listed} is" if len(names) == 1 else f"columns {listed} are"
