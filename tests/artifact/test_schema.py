"""Tables and records become numbers one way, and what does not fit is named."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import ColumnContractError

SCHEMA = FeatureSchema(
    (
        FeatureField("km", "number"),
        FeatureField("stops", "integer", nullable=False),
        FeatureField("express", "boolean"),
        FeatureField("mode", "category", ("road", "air")),
    )
)
TABLE = pa.table(
    {
        "mode": ["air", None, "sea", "road"],
        "km": [1.5, None, float("nan"), 4.0],
        "stops": [1, 2, 3, 4],
        "express": [True, None, False, True],
    }
)
NAN = float("nan")
MATRIX = np.array([[1.5, 1, 1, 1], [NAN, 2, NAN, NAN], [NAN, 3, 0, NAN], [4, 4, 1, 0]])


def changed(**columns: Any) -> pa.Table:
    return pa.table({**dict(zip(TABLE.column_names, TABLE.columns, strict=True)), **columns})


def test_columns_come_in_the_models_order_with_codes_and_missing_values() -> None:
    np.testing.assert_array_equal(SCHEMA.matrix(TABLE), MATRIX)


@pytest.mark.parametrize(
    "columns",
    [
        {"mode": pa.array(["air", None, "sea", "road"]).dictionary_encode()},
        {
            "mode": pa.chunked_array(
                [pa.array(["air", None]).dictionary_encode(), pa.array(["sea", "road"]).dictionary_encode()]
            )
        },
        {"mode": pa.array(["air", None, "sea", "road"], pa.large_string())},
        {"mode": pa.array(["air", None, "sea", "road"], pa.string_view())},
        {"km": pa.array([1.5, None, None, 4.0], pa.float32())},
        {"km": pa.array([Decimal("1.5"), None, None, Decimal(4)])},
        {"stops": pa.array([1, 2, 3, 4], pa.uint8())},
        {"stops": pa.array([1.0, 2.0, 3.0, 4.0])},
        {"express": pa.array([1, None, 0, 1])},
        {"express": pa.array([1.0, NAN, 0.0, 1.0])},
    ],
)
def test_the_physical_type_of_a_column_does_not_matter(columns: dict[str, Any]) -> None:
    np.testing.assert_array_equal(SCHEMA.matrix(changed(**columns)), MATRIX)


def test_a_slice_of_a_table_encodes_like_a_table() -> None:
    np.testing.assert_array_equal(SCHEMA.matrix(TABLE.slice(1, 2)), MATRIX[1:3])
    np.testing.assert_array_equal(SCHEMA.matrix(TABLE.slice(0, 0)), MATRIX[:0])


def test_a_column_of_nulls_only_is_missing_everywhere() -> None:
    table = changed(km=pa.nulls(4), express=pa.nulls(4), mode=pa.nulls(4))
    assert np.isnan(SCHEMA.matrix(table)[:, [0, 2, 3]]).all()


def test_unseen_categories_are_counted_or_refused_by_choice() -> None:
    assert SCHEMA.unseen(TABLE) == {"mode": 1}
    with pytest.raises(ColumnContractError, match="'mode' holds 1 of 4 values not seen in training, for example 'sea'"):
        SCHEMA.encode(TABLE, unseen="error")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (TABLE.drop(["km"]), "column 'km' is missing"),
        (TABLE.drop(["km", "mode"]), "columns 'km', 'mode' are missing"),
        (changed(late=[1, 2, 3, 4]), "column 'late' is unknown"),
        (
            changed(km=["far", "x", None, "y"]),
            "'km' holds string in 3 of 4 rows, for example 'far'; the model takes numbers",
        ),
        (changed(km=[True, False, None, True]), "'km' holds bool"),
        (changed(mode=[1.5, 2.5, None, 1.0]), "'mode' holds double .* takes text"),
        (changed(express=[0, 1, 2, None]), "'express' holds .* takes true and false"),
        (changed(express=["yes", "no", None, "no"]), "'express' holds string"),
        (changed(stops=[1, None, None, 4]), "'stops' is missing in 2 of 4 rows, and may not be"),
        (changed(stops=[1.0, NAN, 3.0, 4.0]), "'stops' is missing in 1 of 4 rows"),
    ],
)
def test_what_does_not_fit_is_named_with_column_count_and_example(table: pa.Table, says: str) -> None:
    with pytest.raises(ColumnContractError, match=says):
        SCHEMA.encode(table)


def test_records_give_the_same_numbers_as_the_table() -> None:
    records = [
        {"km": 1.5, "stops": 1, "express": True, "mode": "air"},
        {"mode": None, "km": None, "stops": 2, "express": None},
        {"km": NAN, "stops": 3, "express": 0, "mode": "sea"},
        {"km": 4, "stops": 4.0, "express": 1, "mode": "road"},
    ]
    np.testing.assert_array_equal(SCHEMA.matrix(SCHEMA.from_records(records)), MATRIX)
    assert SCHEMA.from_records([]).num_rows == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"km": "far"}, "'km' holds 1 of 1 values that are no number, for example 'far'"),
        ({"km": True}, "'km' holds 1 of 1 values that are no number"),
        ({"km": [1]}, "no number"),
        ({"mode": 2.5}, "no category"),
        ({"express": "yes"}, "no boolean"),
        ({"express": 2}, "takes true and false"),
        ({"stops": None}, "'stops' is missing in 1 of 1 rows"),
        ({"late": 1}, "record 0 of 1: column 'late' is unknown"),
    ],
)
def test_a_record_that_does_not_fit_is_named(change: dict[str, Any], says: str) -> None:
    record = {"km": 1.5, "stops": 1, "express": True, "mode": "air", **change}
    with pytest.raises(ColumnContractError, match=says):
        SCHEMA.encode(SCHEMA.from_records([record]))


def test_a_record_without_a_column_says_to_give_null() -> None:
    with pytest.raises(ColumnContractError, match="columns 'stops', 'express', 'mode' are missing") as caught:
        SCHEMA.from_records([{"km": 1}])
    assert "null" in caught.value.hint
