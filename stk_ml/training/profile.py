"""Makes the reference profile of a model: bins from the training rows, counts of every day."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.profiling import category_profile, number_profile, place_days
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.training.splits import NAMES, Index, SplitParts, Times

Array = npt.NDArray[np.float64]


def profile(
    schema: FeatureSchema,
    features: pa.Table,
    encoded: pa.Table,
    target: Array,
    scores: Array,
    parts: SplitParts,
    as_of: Times | None,
) -> Profile:
    """Counts per day over the rows of all parts.

    Args:
        schema: the model's columns.
        features: the columns before encoding, to tell unseen from missing.
        encoded: the same, encoded.
        target: 0 and 1, or numbers, of all rows.
        scores: calibrated out-of-sample scores of the validation rows.
        parts: which rows count.
        as_of: time of each row; None counts all rows as one day.
    """
    used = np.zeros(len(target), dtype=bool)
    for name in NAMES:
        used[parts.part(name)] = True
    days, day = place_days(as_of, used)
    score_days, score_day = days, day[parts.validation]
    rows: dict[str, tuple[int, ...]] = {
        name: tuple(np.bincount(day[parts.part(name)], minlength=len(days)).tolist()) for name in NAMES
    }
    sums = np.bincount(day[used], weights=target[used], minlength=len(days))
    kept = np.unique(score_day)
    score = number_profile("score", scores, scores, np.searchsorted(kept, score_day), len(kept))
    return Profile(
        days=days,
        rows=rows,
        target=tuple((sums / np.bincount(day[used], minlength=len(days))).tolist()),
        features=tuple(_features(schema, features, encoded, parts.train, day, len(days))),
        score_days=tuple(score_days[place] for place in kept),
        score=score,
    )


def _features(
    schema: FeatureSchema, features: pa.Table, encoded: pa.Table, train: Index, day: Index, days: int
) -> Iterator[ColumnProfile]:
    for field in schema.fields:
        column = encoded.column(field.name)
        if field.type == "category":
            yield category_profile(field, features.column(field.name), column, _slice(train), day, days)
        else:
            values = column.cast(pa.float64(), safe=False).to_numpy()
            yield number_profile(field.name, values, values[_slice(train)], day, days)


def _slice(rows: Index) -> slice | Index:
    """Rising row numbers as a slice when they are contiguous: no copy."""
    whole = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows
