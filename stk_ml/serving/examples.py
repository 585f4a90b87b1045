"""Rows for people to try a model with, made up: what training has seen is shown to nobody."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from stk_ml.artifact.profile import ColumnProfile, Profile
    from stk_ml.artifact.schema import FeatureField, FeatureSchema

Value: TypeAlias = float | int | bool | str | None
#: Whole numbers up to it are written as such; above it a float64 skips some.
_WHOLE = 2**53
#: So large, a number does not become infinite when it is rounded.
_LARGEST = 1e300


def examples(schema: FeatureSchema, profile: Profile | None = None) -> list[dict[str, Value]]:
    """Two records that the model's decoder takes: usual values, and null wherever it may be.

    A number is the middle one of the profile's bin edges, rounded to 3 significant digits and inside the declared
    range; a category the most frequent one.

    Args:
        schema: the columns that the model takes.
        profile: its reference; without it numbers are 0 and categories the first ones.

    Example:
        >>> from stk_ml.artifact.profile import ColumnProfile, Profile
        >>> from stk_ml.artifact.schema import FeatureField, FeatureSchema
        >>> km, stops = FeatureField("km", "number"), FeatureField("stops", "integer", nullable=False, minimum=1)
        >>> schema = FeatureSchema((km, stops, FeatureField("zone", "category", ("air", "sea"))))
        >>> none = ((0,),) * 5
        >>> column = ColumnProfile("km", (1.0, 123.456, 900.0), (), ((4, 4),), *none)
        >>> zone = ColumnProfile("zone", (), ("air", "sea"), ((1, 2), (1, 3)), *none)
        >>> examples(schema, Profile(("all",), {}, (), (column, zone), ("all",), column))
        [{'km': 123.0, 'stops': 1, 'zone': 'sea'}, {'km': None, 'stops': 1, 'zone': None}]
    """
    columns = {column.name: column for column in profile.features} if profile else {}
    pairs = {field.name: _values(field, columns.get(field.name)) for field in schema.fields}
    return [{name: pair[place] for name, pair in pairs.items()} for place in (0, 1)]


def _values(field: FeatureField, column: ColumnProfile | None) -> tuple[Value, Value]:
    usual, other = _pair(field, column)
    return usual, None if field.nullable else other


def _pair(field: FeatureField, column: ColumnProfile | None) -> tuple[Value, Value]:
    if field.type == "boolean":
        return True, False
    if field.type == "category":
        ranked = _by_frequency(column) if column else list(field.categories)
        first, second, *_ = [*ranked, None, None]
        return first, first if second is None else second
    number = _inside(field, _middle(column.edges if column else ()))
    return number, number


def _by_frequency(column: ColumnProfile) -> list[str]:
    rows = [sum(counts) for counts in zip(*column.counts, strict=True)]
    ranked = sorted(zip(rows, column.categories, strict=True), key=lambda pair: -pair[0])
    return [category for _, category in ranked]


def _middle(edges: tuple[float, ...]) -> float:
    finite = [edge for edge in edges if abs(edge) <= _LARGEST] or [0.0]
    return float(f"{finite[len(finite) // 2]:.3g}") + 0.0  # never -0.0


def _inside(field: FeatureField, value: float) -> float | int:
    """The value, or the nearest that the column's type and declared range allow."""
    low = -math.inf if field.minimum is None else field.minimum
    high = math.inf if field.maximum is None else field.maximum
    if field.type == "integer":
        value, low, high = _whole(round, value), _whole(math.ceil, low), _whole(math.floor, high)
    return min(max(value, low), high)


def _whole(rounded: Callable[[float], int], value: float) -> float | int:
    return rounded(value) if abs(value) <= _WHOLE else value
