"""What is wrong in a JSON body is named, with its status, row, column and reason."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from decoding_rigs import COUNTING, RECORD, SCHEMA, decoder, split

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import InvalidRowsError, RequestError, RowProblem
from stk_ml.model_policies import ServingSpec

DECODER = decoder()
PLAIN = json.dumps(RECORD).encode()


def refused(body: bytes | Any, *, by: Any = DECODER, **more: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        by.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json", **more)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    return caught.value


def problems(records: Any, policy: ServingSpec | None = None) -> list[tuple[int, str, str]]:
    found = refused(records, by=decoder(policy))
    assert isinstance(found, InvalidRowsError)
    assert found.status == 422
    return [(problem.row, problem.column, problem.reason) for problem in found.problems]


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (b"", "json", "line 1 column 1"),
        (b"{", "json", "not JSON"),
        (PLAIN[:-20], "json", "not JSON"),
        (PLAIN + b"]", "json", "Extra data"),
        (PLAIN.replace(b"2.5", b"NaN"), "json", "NaN is no number"),
        (PLAIN.replace(b"2.5", b"-Infinity"), "json", "-Infinity is no number"),
        (PLAIN.replace(b"2.5", b"0x1"), "json", "not JSON"),
        (PLAIN.replace(b"2.5", b"01"), "json", "not JSON"),
        (PLAIN.replace(b'"air"', b"'air'"), "json", "not JSON"),
        (PLAIN.replace(b"air", b"a\nr"), "json", "control character"),
        (PLAIN.replace(b"2.5", b"9" * 5000), "json", "digits"),
        (PLAIN.replace(b"air", b"\xff"), "encoding", "not UTF-8"),
        (PLAIN.replace(b"air", b"\\ud800"), "encoding", "not UTF-8"),
        (b"\xef\xbb\xbf" + PLAIN, "encoding", "byte order mark"),
        (PLAIN.decode().encode("utf-16"), "encoding", "not UTF-8"),
        (PLAIN.decode().encode("utf-16-le"), "json", "not JSON"),
        (PLAIN.replace(b'"km": 2.5', b'"km": 2.5, "km": 2.5'), "duplicate", "'km' is given twice"),
        (PLAIN.replace(b'"km": 2.5', b'"km": 2.5, "\\u006bm": 3'), "duplicate", "'km' is given twice"),
        (b'{"data": [], "data": [' + PLAIN + b"]}", "duplicate", "'data' is given twice"),
        (b'{"columns": ["km"], "data": [[{"a": 1, "a": 2}]]}', "duplicate", "'a' is given twice"),
        (b"[" * 100_000, "depth", "nested too deeply"),
        (b'{"a":' * 100_000, "depth", "nested too deeply"),
    ],
)
def test_what_is_no_json_is_malformed(body: bytes, reason: str, says: str) -> None:
    found = refused(body, by=decoder(max_rows=100_000))
    assert (found.status, found.reason) == (400, reason)
    assert says in str(found)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "no rows"),
        ({"data": []}, "no rows"),
        (split([]), "no rows"),
        ({name: [] for name in SCHEMA.names}, "no rows"),
        (None, "null was found"),
        ("text", "'text' was found"),
        ([1], "row 0 is 1, no object"),
        ([RECORD, [1]], "row 1 is a list"),
        ([[1, 2]], "row 0 holds 2 values, not one value for each of 7 columns"),
        ({"data": [RECORD], "instances": [RECORD]}, "both 'data' and 'instances'"),
        ({"data": [RECORD], "more": 1}, "'more' stands beside 'data'"),
        ({"data": [RECORD], "params": {"n": 1}}, "'params' stands beside"),
        ({"data": [RECORD], "ids": ["a", "b"]}, "one id for each of the 1 rows"),
        ({"data": [RECORD], "ids": "a"}, "one id for each"),
        ({"data": [RECORD], "ids": [7]}, "not 7"),
        ({"data": [RECORD], "ids": ["x" * 129]}, "at most 128"),
        ({"dataframe_split": {"columns": ["km"]}}, "split frame"),
        ({"dataframe_split": [RECORD]}, "split frame"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, "split frame"),
        ({"dataframe_split": {**split([RECORD]), "index": [1, 2]}}, "'index'"),
        ({**{name: [1, 1] for name in SCHEMA.names}, "km": [1]}, "has 2 values, column 'km' has 1"),
        ({**{name: [1] for name in SCHEMA.names}, "km": 1}, "column 'km' is 1"),
        ({**{name: {"0": 1} for name in SCHEMA.names}, "km": {"1": 1}}, "same rows"),
    ],
)
def test_a_shape_that_holds_no_rows_of_the_model_is_told(body: Any, says: str) -> None:
    found = refused(body)
    assert (found.status, found.reason) == (422, "shape")
    assert says in str(found)


def test_a_column_named_twice_is_a_duplicate() -> None:
    found = refused({"dataframe_split": {"columns": ["km", "km"], "data": [[1, 2]]}})
    assert (found.status, found.reason) == (400, "duplicate")


@pytest.mark.parametrize("body", [[RECORD] * 4, {"data": [RECORD] * 4}, split([RECORD] * 4), {"km": [1] * 4}])
def test_more_rows_than_taken_are_too_large(body: Any) -> None:
    found = refused(body, by=decoder(max_rows=3))
    assert (found.status, found.reason) == (413, "too_large")


@pytest.mark.parametrize("body", [b"[" + b"{}," * 100_000 + b"{}]", b'{"km":[' + b"[]," * 100_000 + b"[]]}"])
def test_a_body_that_would_take_far_more_memory_than_its_bytes_is_too_large(body: bytes) -> None:
    assert refused(body).status == 413


def test_each_rejected_value_is_named() -> None:
    far = {**RECORD, "km": "far", "stops": None, "express": 2, "class": 2.5}
    assert problems([RECORD, far, {**RECORD, "km": True, "odd: name": [1], "class": {"a": 1}}]) == [
        (1, "km", "'far' is no number"),
        (1, "stops", "it may not be null"),
        (1, "express", "2 is neither true nor false"),
        (1, "class", "2.5 is no text"),
        (2, "km", "true is no number"),
        (2, "class", "an object is no text"),
        (2, "odd: name", "a list is no number"),
    ]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "-" + "9" * 4000])
def test_a_number_beyond_a_float_is_named(number: str) -> None:
    found = refused(json.dumps([RECORD]).replace("2.5", number).encode())
    assert isinstance(found, InvalidRowsError)
    assert found.problems[0].column == "km"
    assert "too large a number" in found.problems[0].reason
    assert len(found.problems[0].reason) < 100


def test_missing_and_unknown_columns_are_named_by_row() -> None:
    lacking = {name: value for name, value in RECORD.items() if name != "km"}
    assert problems([lacking, {**RECORD, "more": 1}]) == [
        (0, "km", "it is missing"),
        (1, "more", "the model has no such column"),
    ]
    columns = {name: [value] for name, value in {**lacking, "more": 1}.items()}
    assert problems(columns) == [(-1, "km", "the column is missing"), (-1, "more", "the model has no such column")]


def test_by_policy_unseen_categories_and_numbers_out_of_range_are_named() -> None:
    policy = ServingSpec(out_of_range="reject", unseen_category="reject")
    assert problems([{**RECORD, "class": "sea", "a b": 8, "odd: name": -5.5}], policy) == [
        (0, "class", "'sea' was not seen in training"),
        (0, "a b", "8 was not seen in training"),
        (0, "odd: name", "-5.5 is not within -5 and 1e+06"),
    ]


def test_by_policy_everything_is_counted_and_scored_as_missing() -> None:
    strange = {"km": "far", "stops": None, "express": 7, "class": "sea", "a b": 1.5, "odd: name": 2e6, "more": 1}
    rows = decoder(COUNTING).decode(json.dumps([strange, RECORD]).encode(), "")
    np.testing.assert_array_equal(rows.matrix[0], [np.nan, np.nan, np.nan, -1, np.nan, 2e6, np.nan])
    assert rows.counted == {
        ("wrong_type", "km"): 1,
        ("missing_value", "stops"): 1,
        ("wrong_type", "express"): 1,
        ("unseen_category", "class"): 1,
        ("wrong_type", "a b"): 1,
        ("out_of_range", "odd: name"): 1,
        ("missing_value", "weight"): 1,
        ("unknown_column", "more"): 1,
    }
    assert not rows.bad
    assert decoder(COUNTING).decode(b"{}", "").matrix.shape == (1, 7)


def test_unknown_columns_are_counted_by_at_most_twenty_names() -> None:
    body = [{**RECORD, **{f"more {n}": 1 for n in range(100)}}] * 2
    counted = decoder(COUNTING).decode(json.dumps(body).encode(), "").counted
    assert len(counted) == 21
    assert sum(counted.values()) == 200


def test_a_part_of_the_rows_is_taken_when_asked_for() -> None:
    records = [RECORD, {**RECORD, "km": "far"}, {**RECORD, "class": "sea"}]
    rows = DECODER.decode(json.dumps({"data": records, "ids": ["a", "b", "c"]}).encode(), "", partial=True)
    assert rows.bad == {1}
    assert rows.problems == (RowProblem(1, "km", "'far' is no number"),)
    assert rows.total_problems == 1
    assert list(rows.ids) == ["a", "b", "c"]
    assert rows.counted == {("unseen_category", "class"): 1}
    assert rows.matrix.shape == (3, 7)


def test_a_missing_column_makes_all_rows_bad() -> None:
    rows = DECODER.decode(json.dumps({"km": [1, 2]}).encode(), "", partial=True)
    assert rows.bad == {0, 1}
    assert rows.total_problems == 6


def test_the_first_hundred_problems_are_told_and_all_are_counted() -> None:
    wrong = [{**RECORD, "weight": "x", "km": "far"}] * 120
    found = refused(wrong)
    assert isinstance(found, InvalidRowsError)
    assert found.total == 240
    assert [(p.row, p.column) for p in found.problems] == [(n, c) for n in range(50) for c in ("km", "weight")]
    found = refused([{**RECORD, **{f"more {n}": 1 for n in range(30)}}] * 10)
    assert isinstance(found, InvalidRowsError)
    assert (len(found.problems), found.total) == (100, 300)


def test_values_and_names_are_told_shortened() -> None:
    found = refused([{**RECORD, "km": "x" * 10_000, "n" * 10_000: 1}])
    assert isinstance(found, InvalidRowsError)
    assert all(len(p.reason) < 200 and len(p.column) < 200 for p in found.problems)


def test_wide_and_hostile_bodies_take_no_long_time() -> None:
    started = time.process_time()
    names = [f"c{n}" for n in range(200_000)]
    for body in (
        dict.fromkeys(names, 1),
        {"columns": names, "data": [names]},
        {"columns": [*names, "c0"], "data": [names]},
        {name: [1] for name in names},
    ):
        refused(body, by=decoder(max_rows=100_000))
    assert time.process_time() - started < 10


def test_a_wide_model_decodes() -> None:
    schema = FeatureSchema(tuple(FeatureField(f"c{n}", "number") for n in range(1000)))
    body = json.dumps([dict.fromkeys(schema.names, 0.5)] * 20).encode()
    assert decoder(schema=schema).decode(body, "").matrix.sum() == 10_000


def test_the_word_nan_is_taken_only_where_mlflows_client_writes_it() -> None:
    from stk_ml.serving.decoding.careful import parse

    assert parse(b'{"km": NaN}', 10, nan=True) == {"km": None}
    for word, nan in (("NaN", False), ("Infinity", True), ("-Infinity", True)):
        with pytest.raises(RequestError, match=word):
            parse(b'{"km": %b}' % word.encode(), 10, nan=nan)
