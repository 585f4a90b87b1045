"""Every body that brings the same rows gives the matrix that training makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from decoding_rigs import (
    ARROW,
    RECORD,
    RECORDS,
    REJECTING,
    SCHEMA,
    SHAPES,
    as_arrow,
    as_binary,
    as_csv,
    as_tensors,
    by_column,
    carefully,
    decoder,
    expected,
    infer,
    trained,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import InvalidRowsError
from stk_ml.serving.decoding import oip

DECODER = decoder()
same = np.testing.assert_array_equal
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("shape", SHAPES)
@quick
@given(records=RECORDS, ascii=st.booleans(), indent=st.sampled_from([None, 1]))
def test_json_of_every_shape_becomes_the_matrix_of_training(
    shape: str, records: list[dict[str, Any]], ascii: bool, indent: int | None
) -> None:
    body = json.dumps(SHAPES[shape](records), ensure_ascii=ascii, indent=indent).encode()
    rows = DECODER.decode(body, "application/json")
    same(trained(rows), expected(records))
    assert rows.matrix.flags.c_contiguous
    assert rows.matrix.flags.writeable
    assert list(rows.ids) == ([f"a:{place}" for place in range(len(records))] if shape == "data with ids" else [])
    assert not rows.problems
    assert not rows.bad


@quick
@given(records=RECORDS)
def test_one_record_needs_no_list(records: list[dict[str, Any]]) -> None:
    body = json.dumps(records[0]).encode()
    same(trained(DECODER.decode(body, "")), expected(records[:1]))
    found = DECODER.single(body)
    if found is None:
        assert b"\\" in body, "a column has a colon in its name, so colons are counted, which escapes forbid"
    else:
        same(found[0], DECODER.decode(body, "").matrix[0])


@quick
@given(records=RECORDS)
def test_csv_becomes_the_matrix_of_training(records: list[dict[str, Any]]) -> None:
    same(trained(DECODER.decode(as_csv(records), "text/csv")), expected(records))


@quick
@given(records=RECORDS, compression=st.sampled_from([None, "lz4", "zstd"]), dictionary=st.booleans())
def test_arrow_becomes_the_matrix_of_training(
    records: list[dict[str, Any]], compression: str | None, dictionary: bool
) -> None:
    table = SCHEMA.from_records(records)
    if dictionary:
        for place in SCHEMA.categorical:
            table = table.set_column(place, table.field(place).name, table.column(place).dictionary_encode())
    rows = DECODER.decode(as_arrow(table, compression), ARROW)
    same(trained(rows), expected(records))
    assert {column: n for (what, column), n in rows.counted.items() if what == "unseen_category"} == SCHEMA.unseen(
        SCHEMA.from_records(records)
    )


@quick
@given(records=RECORDS)
def test_tensors_become_the_matrix_of_training(records: list[dict[str, Any]]) -> None:
    found = infer(DECODER, {"id": "x", "inputs": as_tensors(records)})
    same(trained(found.rows), expected(records))
    assert (found.id, found.binary) == ("x", False)


@quick
@given(records=RECORDS)
def test_binary_tensors_become_the_matrix_of_training(records: list[dict[str, Any]]) -> None:
    records = [{**record, "class": record["class"] or "air"} for record in records]  # BYTES cannot be null
    columns: dict[str, np.ndarray] = {}
    for field, values in zip(SCHEMA.fields, by_column(records).values(), strict=True):
        if field.type == "category":
            columns[field.name] = np.array([str(value) for value in values], dtype=object)
        else:
            columns[field.name] = np.array([np.nan if value is None else float(value) for value in values])
    body, length = as_binary(columns, parameters={"binary_data_output": True})
    found = oip.decode(DECODER, body, length)
    same(trained(found.rows), expected(records))
    assert found.binary


@pytest.mark.parametrize("shape", SHAPES)
@quick
@given(records=RECORDS)
def test_the_fast_path_says_what_the_careful_path_says(shape: str, records: list[dict[str, Any]]) -> None:
    body = json.dumps(SHAPES[shape](records)).encode()
    for tried in (DECODER, decoder(REJECTING)):
        try:
            slow = carefully(tried, body)
        except InvalidRowsError:
            with pytest.raises(InvalidRowsError):
                tried.decode(body, "")
            assert tried.single(body) is None
            continue
        fast = tried.decode(body, "")
        same(fast.matrix, slow.matrix)
        assert (list(fast.ids), fast.counted) == (list(slow.ids), slow.counted)


@pytest.mark.parametrize(
    "body",
    [
        [RECORD],
        RECORD,
        {"data": [RECORD]},
        {"instances": [RECORD]},
        {"dataframe_records": [RECORD]},
        {"inputs": [RECORD]},
        {"input_data": [RECORD]},
    ],
)
def test_a_plain_single_row_takes_the_fast_path(body: Any) -> None:
    found = DECODER.single(json.dumps(body).encode())
    assert found is not None
    same(found[0], expected([RECORD])[0])
    assert found[1] == ""


def test_the_id_of_a_single_row_comes_with_it() -> None:
    found = DECODER.single(json.dumps({"data": [RECORD], "ids": ["parcel 7"]}).encode())
    assert found is not None
    assert found[1] == "parcel 7"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        json.dumps([RECORD, RECORD]).encode(),
        json.dumps({**RECORD, "more": 1}).encode(),
        json.dumps({**RECORD, "stops": None}).encode(),
        json.dumps({"data": [RECORD], "ids": []}).encode(),
        json.dumps({"data": [RECORD], "ids": [7]}).encode(),
        json.dumps({"instances": [RECORD], "data": [RECORD]}).encode(),
        json.dumps(RECORD).encode().replace(b'"km": 2.5', b'"km": 2.5, "km": 2.5'),
        json.dumps(RECORD).encode().replace(b'"km": 2.5', b'"km": 1e999'),
        json.dumps([RECORD]).encode()[:-1],
        json.dumps(RECORD).encode() + b"x",
        b"\xef\xbb\xbf" + json.dumps(RECORD).encode(),
    ],
)
def test_anything_else_leaves_the_fast_path(body: bytes) -> None:
    assert DECODER.single(body) is None


def test_by_policy_an_unseen_category_or_a_number_out_of_range_leaves_the_fast_path() -> None:
    unseen, outside = {**RECORD, "class": "sea"}, {**RECORD, "odd: name": -6}
    for record in (unseen, outside):
        body = json.dumps(record).encode()
        assert DECODER.single(body) is not None
        assert decoder(REJECTING).single(body) is None
        with pytest.raises(InvalidRowsError):
            decoder(REJECTING).decode(body, "")
    assert DECODER.decode(json.dumps([unseen, outside]).encode(), "").counted == {
        ("unseen_category", "class"): 1,
        ("out_of_range", "odd: name"): 1,
    }


def test_colons_in_values_and_names_do_not_leave_the_fast_path() -> None:
    schema = FeatureSchema((FeatureField("a:b", "number"), FeatureField("at", "category", ("10:30",))))
    record = {"a:b": 1, "at": "10:30"}
    assert decoder(schema=schema).single(json.dumps(record).encode()) is not None
    twice = b'{"a:b": 1, "a:b": 2, "at": "10"}'
    assert decoder(schema=schema).single(twice) is None
    escaped = rb'{"a:b": 1, "at": "x", "at": "10\u003a30"}'
    assert decoder(schema=schema).single(escaped) is None


@pytest.mark.parametrize("name", ["data", "inputs", "instances", "dataframe_split", "ids", "columns"])
def test_a_column_may_have_the_name_of_an_envelope(name: str) -> None:
    for names in ([name], [name, "km"]):
        schema = FeatureSchema(tuple(FeatureField(column, "number") for column in names))
        record = dict.fromkeys(names, 1.5)
        tried = decoder(schema=schema)
        for value in (
            record,
            [record],
            {"data": [record]},
            {"data": [record], "ids": ["a"]} if name != "ids" else [record],
            {"inputs": [record]},
            {column: [1.5] for column in names},
            {"inputs": {column: [1.5] for column in names}},
            {"dataframe_split": {"columns": names, "data": [[1.5] * len(names)]}},
            {"instances": [[1.5] * len(names)]},
        ):
            same(tried.decode(json.dumps(value).encode(), "").matrix, [[1.5] * len(names)], err_msg=str(value))


@pytest.mark.parametrize("name", ['say "so"', "back\\slash", "tab\t", "Île", "f0", "_", "class", "", "a b"])
def test_a_column_may_have_any_name(name: str) -> None:
    schema = FeatureSchema((FeatureField(name, "number"), FeatureField("km", "number")))
    tried, record = decoder(schema=schema), {name: 1.5, "km": 2}
    for value in (record, [record], {"data": [record]}, {name: [1.5], "km": [2]}):
        same(tried.decode(json.dumps(value).encode(), "").matrix, [[1.5, 2]])


def test_golden_rows_of_a_model_decode_as_they_were_scored() -> None:
    records = [RECORD, {**RECORD, "class": "sea", "km": None}, {**RECORD, "express": 0, "a b": 7, "stops": 4.0}]
    for shape in SHAPES.values():
        same(trained(DECODER.decode(json.dumps(shape(records)).encode(), "")), expected(records))
    same(trained(DECODER.decode(as_arrow(SCHEMA.from_records(records)), ARROW)), expected(records))


def test_a_model_of_no_nullable_column_takes_arrow_without_nulls() -> None:
    schema = FeatureSchema((FeatureField("km", "number", nullable=False),))
    rows = decoder(schema=schema).decode(as_arrow(pa.table({"km": pa.array([1, 2], pa.uint8())})), ARROW)
    same(rows.matrix, [[1], [2]])


def test_decoding_json_loads_nothing_heavy() -> None:
    code = "import stk_ml.serving.decoding.decoder, stk_ml.serving.decoding.oip, sys; print('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"
