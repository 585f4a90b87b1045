"""Chooses golden rows: ordinary ones, one with everything missing, one with categories never seen, and extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from stk_ml.artifact.golden import Golden
from stk_ml.artifact.model import TrainedModel
from stk_ml.artifact.schema import FeatureSchema

_ORDINARY = 16
_UNSEEN = "(never seen in training)"


def golden(model: TrainedModel, features: pa.Table) -> Golden:
    """Golden rows from a table of the model's columns, with the scores the model gives.

    Args:
        model: the finished model.
        features: rows to choose from, at least one.
    """
    places = np.unique(np.linspace(0, features.num_rows - 1, _ORDINARY).astype(np.int64))
    ordinary = [_plain(model.schema, row) for row in features.take(pa.array(places)).to_pylist()]
    first = ordinary[0]
    nullable = {field.name for field in model.schema.fields if field.nullable}
    numbers = [field.name for field in model.schema.fields if field.type in ("integer", "number")]
    categories = [field.name for field in model.schema.fields if field.type == "category"]
    records = [
        *ordinary,
        {name: None if name in nullable else value for name, value in first.items()},
        {**first, **dict.fromkeys(categories, _UNSEEN)},
        {**first, **dict.fromkeys(numbers, -1_000_000_000)},
        {**first, **dict.fromkeys(numbers, 1_000_000_000)},
    ]
    raw = model.raw(records)
    scores = model.calibrator.apply(raw)
    return Golden(tuple(records), tuple(raw.tolist()), tuple(scores.tolist()))


def _plain(schema: FeatureSchema, row: dict[str, Any]) -> dict[str, Any]:
    """A row as a JSON record that :meth:`FeatureSchema.from_records` takes."""
    record: dict[str, Any] = {}
    for field in schema.fields:
        value = row[field.name]
        if value is None or value != value:
            record[field.name] = None
        elif field.type == "category":
            record[field.name] = str(value)
        elif field.type == "boolean":
            record[field.name] = bool(value)
        else:
            record[field.name] = value if isinstance(value, int) else float(value)
    return record
