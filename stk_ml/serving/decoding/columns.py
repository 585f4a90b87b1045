"""Columns become the matrix, value by value under the model's policy: rejected, or counted and let pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stk_ml.errors import InvalidRowsError, RowProblem
from stk_ml.serving.decoding.codes import codes
from stk_ml.serving.decoding.rows import MOST_PROBLEMS, UNSEEN, Rows
from stk_ml.serving.decoding.shapes import ABSENT, Table, describe

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField, FeatureSchema
    from stk_ml.model_policies import ServingSpec

Array = npt.NDArray[np.float64]
_NAN, _WRONG, _ABSENT = float("nan"), float("inf"), float("-inf")
#: Unknown columns that are counted by name; the names come from the caller and would else be without bound.
_MOST_NAMES = 20
_MEANT = {"integer": "no number", "number": "no number", "boolean": "neither true nor false", "category": "no text"}


class Codec:
    """Turns JSON values of one model's columns into floats; made once per model.

    In the arrays between here and :class:`Assembly`, NaN is missing, +inf a value of a wrong type (an infinite number
    among them) and -inf one that was not given.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.codes = {field.name: codes(field) for field in schema.fields if field.type == "category"}

    def floats(self, field: FeatureField, values: Sequence[Any]) -> Array:
        """One float per JSON value, as :meth:`FeatureSchema.from_records` and ``encode`` give them."""
        kinds = set(map(type, values))
        if field.type == "category":
            found = self.codes[field.name]
            if kinds <= {str, int, type(None)}:
                return np.array([found.get(value, UNSEEN) for value in values], dtype=np.float64)
            return np.array([_code(value, found) for value in values], dtype=np.float64)
        number = _boolean if field.type == "boolean" else _number
        if number is _number and kinds <= {int, float, type(None)}:
            try:
                return np.array(values, dtype=np.float64)  # None becomes NaN
            except OverflowError:
                pass
        return np.array([number(value) for value in values], dtype=np.float64)


class Assembly:
    """Puts columns together to :class:`Rows`.

    Args:
        schema: the model's columns.
        policy: of the model.
        rows: number of rows.
    """

    def __init__(self, schema: FeatureSchema, policy: ServingSpec, rows: int) -> None:
        self.schema, self.policy, self.rows = schema, policy, rows
        self.matrix = np.full((rows, len(schema.fields)), _NAN)
        self._found: list[tuple[int, int, str, str]] = []
        self._counted: dict[tuple[str, str], int] = {}
        self._bad: set[int] = set()
        self._all_bad = False
        self._total = 0

    def table(self, table: Table, codec: Codec) -> None:
        """Adds all columns of a JSON table."""
        self.unknown(table.unknown)
        for place, field in enumerate(self.schema.fields):
            values = table.columns.get(field.name)
            if values is None:
                self.absent(place)
            else:
                self.add(place, codec.floats(field, values), values.__getitem__)

    def add(self, place: int, column: Array, value: Callable[[int], Any]) -> None:
        """Adds one column.

        Args:
            place: in the model's order.
            column: one float per row; see :class:`Codec`.
            value: the value of a row as it was given, for messages.
        """
        field = self.schema.fields[place]
        special = ~np.isfinite(column)
        if special.any():
            infinite = np.isinf(column)
            absent = np.zeros_like(infinite)
            absent[[row for row in np.flatnonzero(column == _ABSENT).tolist() if value(row) is ABSENT]] = True
            self._break(
                "wrong_type",
                place,
                np.flatnonzero(infinite & ~absent),
                lambda row: f"{describe(value(row))} is {_why(value(row), field)}",
            )
            self._break("missing_value", place, np.flatnonzero(absent), lambda _: "it is missing")
            if not field.nullable:
                self._break("missing_value", place, np.flatnonzero(np.isnan(column)), lambda _: "it may not be null")
            column = np.where(infinite, _NAN, column)
        if field.type == "category":
            unseen = np.flatnonzero(column == UNSEEN)
            self._break(
                "unseen_category", place, unseen, lambda row: f"{describe(value(row))} was not seen in training"
            )
        elif field.minimum is not None or field.maximum is not None:
            low = _ABSENT if field.minimum is None else field.minimum
            high = _WRONG if field.maximum is None else field.maximum
            self._break(
                "out_of_range",
                place,
                np.flatnonzero((column < low) | (column > high)),
                lambda row: f"{describe(value(row))} is not within {low:g} and {high:g}",
            )
        self.matrix[:, place] = column

    def absent(self, place: int) -> None:
        """Tells that no row has this column."""
        self._break_all("missing_value", place, self.schema.names[place], "the column is missing")

    def wrong(self, place: int, found: str) -> None:
        """Tells that a column as a whole is of a wrong type."""
        field = self.schema.fields[place]
        self._break_all("wrong_type", place, field.name, f"{found} where a {field.type} is meant")

    def unknown(self, places: Sequence[tuple[int, str]]) -> None:
        """Tells which values (row, name) belong to no column of the model; row -1 for all rows."""
        width, reason = len(self.schema.fields), "the model has no such column"
        if self.policy.unknown_column == "count":
            for row, name in places:
                many = len(self._counted) >= _MOST_NAMES and ("unknown_column", name) not in self._counted
                key = ("unknown_column", "(others)" if many else name[:64])
                self._counted[key] = self._counted.get(key, 0) + (self.rows if row < 0 else 1)
            return
        for name in [name for row, name in places if row < 0]:
            self._break_all("unknown_column", width, name[:64], reason)
        single = [(row, width, name[:64], reason) for row, name in places if row >= 0]
        self._total += len(single)
        self._bad.update(row for row, *_ in single)
        self._found.extend(single[:MOST_PROBLEMS])

    def finish(self, ids: Sequence[str], *, partial: bool) -> Rows:
        """The rows; InvalidRowsError when a value is rejected and the caller does not take a part."""
        problems = tuple(RowProblem(row, name, why) for row, _, name, why in sorted(self._found)[:MOST_PROBLEMS])
        if problems and not partial:
            raise InvalidRowsError(problems, self._total)
        bad = frozenset(range(self.rows) if self._all_bad else self._bad)
        return Rows(self.matrix, ids, problems, bad, self._counted, self._total)

    def _break(self, what: str, place: int, rows: npt.NDArray[np.intp], reason: Callable[[int], str]) -> None:
        name = self.schema.names[place]
        if not rows.size:
            return
        if getattr(self.policy, what) == "count":
            self._count(what, name, rows.size)
        else:
            self._reject(place, name, rows.tolist(), reason)

    def _break_all(self, what: str, place: int, name: str, reason: str) -> None:
        if getattr(self.policy, what) == "count":
            self._count(what, name, self.rows)
        else:
            self._total += 1
            self._all_bad = True
            self._found.append((-1, place, name, reason))

    def _count(self, what: str, name: str, values: int) -> None:
        self._counted[what, name] = self._counted.get((what, name), 0) + values

    def _reject(self, place: int, name: str, rows: Sequence[int], reason: Callable[[int], str]) -> None:
        self._total += len(rows)
        self._bad.update(rows)
        self._found.extend((row, place, name, reason(row)) for row in rows[:MOST_PROBLEMS])


def _number(value: Any) -> float:
    if value is None or value != value:
        return _NAN
    if value is ABSENT:
        return _ABSENT
    if type(value) not in (int, float):
        return _WRONG
    try:
        return float(value)
    except OverflowError:
        return _WRONG


def _boolean(value: Any) -> float:
    if value is None or value != value:
        return _NAN
    if value is ABSENT:
        return _ABSENT
    return float(value) if type(value) in (bool, int, float) and value in (0, 1) else _WRONG


def _code(value: Any, found: dict[str | int | None, float]) -> float:
    if value is ABSENT:
        return _ABSENT
    if value is None or value != value:
        return _NAN
    return found.get(value, UNSEEN) if type(value) in (str, int) else _WRONG


def _why(value: Any, field: FeatureField) -> str:
    if field.type in ("number", "integer") and type(value) in (int, float):
        return "too large a number"
    return _MEANT[field.type]
