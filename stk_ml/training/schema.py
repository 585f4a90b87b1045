"""The model's input schema, from the declared columns and the training rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.contracts import Column, Dataset
from stk_ml.errors import ColumnContractError, DataError

#: A text column with no more distinct training values counts as a category.
MOST_TEXTS = 1000


def feature_schema(dataset: Dataset, train: pa.Table) -> FeatureSchema:
    """The schema of the feature columns; categories that are not declared are those of the training rows, sorted.

    Args:
        dataset: the declared columns.
        train: the training rows, with their feature columns.

    Raises:
        DataError: there is no feature column.
        ColumnContractError: a feature column is of a type that no model takes.
    """
    columns = [column for column in dataset.columns if column.role == "feature"]
    if not columns:
        raise DataError("the training set has no feature column", hint="name feature views, or exclude fewer columns")
    return FeatureSchema(tuple(_field(column, train.column(column.name)) for column in columns))


def _field(column: Column, values: pa.ChunkedArray) -> FeatureField:
    if column.type in ("integer", "number", "boolean"):
        return FeatureField(column.name, column.type, (), column.nullable, column.minimum, column.maximum)
    if column.type not in ("category", "text"):
        example = values.drop_null().slice(0, 1).to_pylist()
        raise ColumnContractError(
            f"feature column {column.name!r} is of type {column.type}, which no model takes, in {len(values)} rows"
            + (f", for example {example[0]}" if example else ""),
            hint="make numbers of it in the view (hour, day of week, days since), or list it in data.exclude",
        )
    categories = column.categories or _distinct(values)
    if column.type == "text" and len(categories) > MOST_TEXTS:
        raise ColumnContractError(
            f"feature column {column.name!r} is text with {len(categories)} different values in {len(values)} rows, "
            f"for example {categories[0]!r}",
            hint="list it in data.exclude, or declare it a category if it is one",
        )
    return FeatureField(column.name, "category", categories, column.nullable)


def _distinct(values: pa.ChunkedArray) -> tuple[str, ...]:
    """The distinct values as sorted text. Of a dictionary only what the rows use: it may hold other rows' values."""
    if not pa.types.is_dictionary(values.type):
        return tuple(sorted(pc.unique(values).cast(pa.string()).drop_null().to_pylist()))
    found: set[str] = set()
    for chunk in values.chunks:
        used = chunk.dictionary.take(pc.unique(chunk.indices).drop_null())
        found.update(used.cast(pa.string()).drop_null().to_pylist())
    return tuple(sorted(found))
