"""Tensors of the Open Inference Protocol, in JSON and as binary data, and the answer to them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from decoding_rigs import RECORD, SCHEMA, as_binary, as_tensors, decoder, expected, infer, tensor

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import InvalidRowsError, RequestError
from stk_ml.serving.decoding import oip
from stk_ml.serving.decoding.decoder import Decoder

DECODER = decoder()
NUMBERS = decoder(schema=FeatureSchema((FeatureField("a", "number"), FeatureField("b", "integer"))))
INPUTS = as_tensors([RECORD, RECORD])
same = np.testing.assert_array_equal


def refused(request: Any, length: bytes | None = None, by: Decoder = NUMBERS) -> RequestError:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    with pytest.raises(RequestError) as caught:
        oip.decode(by, body, length)
    assert "\n" not in str(caught.value)
    return caught.value


def without(name: str) -> list[dict[str, Any]]:
    return [given for given in INPUTS if given["name"] != name]


def two(**change: Any) -> dict[str, Any]:
    return {"inputs": [{**tensor("a", [1, 2]), **change}, tensor("b", [3, 4])]}


@pytest.mark.parametrize(
    "given",
    [
        two(),
        two(shape=[2, 1]),
        two(shape=[2, 1], data=[[1], [2]]),
        two(datatype="INT32"),
        {"inputs": list(reversed(two()["inputs"]))},
        {"inputs": [{"name": "input-0", "shape": [2, 2], "datatype": "FP32", "data": [1, 3, 2, 4]}]},
        {"inputs": [{"name": "a", "shape": [2, 2], "datatype": "FP64", "data": [[1, 3], [2, 4]]}]},
        {"id": "", "parameters": None, "outputs": [{"name": "score"}], **two()},
    ],
)
def test_ways_to_send_one_matrix(given: dict[str, Any]) -> None:
    same(infer(NUMBERS, given).rows.matrix, [[1, 3], [2, 4]])


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "O", "?"])
def test_binary_tensors_of_each_datatype(dtype: str) -> None:
    schema = FeatureSchema(
        (FeatureField("x", "boolean" if dtype == "?" else "category" if dtype == "O" else "number", ("0", "Île")),)
    )
    values = np.array(["0", "Île"], dtype=object) if dtype == "O" else np.array([0, 1], dtype)
    for shape in ((2,), (2, 1)):
        body, length = as_binary({"x": values.reshape(shape)})
        same(oip.decode(decoder(schema=schema), body, length).rows.matrix, [[0], [1]])
        same(oip.decode(decoder(schema=schema), body, int(length)).rows.matrix, [[0], [1]])


def test_one_binary_matrix() -> None:
    body, length = as_binary({"input": np.array([[1, np.nan], [3, 4]])}, id="a")
    found = oip.decode(NUMBERS, body, length)
    same(found.rows.matrix, [[1, np.nan], [3, 4]])
    assert (found.id, found.binary) == ("a", False)


def test_binary_and_json_tensors_together() -> None:
    header = {"inputs": [{**INPUTS[0], "parameters": {"binary_data_size": 16}}, *INPUTS[1:]]}
    del header["inputs"][0]["data"]
    text = json.dumps(header).encode()
    body = text + np.array([2.5, 2.5]).tobytes()
    same(oip.decode(DECODER, body, b"%d" % len(text)).rows.matrix, expected([RECORD, RECORD]))


def test_null_is_missing_and_columns_are_named_when_wrong() -> None:
    wrong = [*without("class"), tensor("class", ["air", 1.5], "BYTES")]
    found = refused({"inputs": wrong}, by=DECODER)
    assert isinstance(found, InvalidRowsError)
    assert [(p.row, p.column, p.reason) for p in found.problems] == [(1, "class", "1.5 is no text")]
    found = refused({"inputs": [*without("km"), tensor("miles", [1, 2])]}, by=DECODER)
    assert isinstance(found, InvalidRowsError)
    assert [(p.row, p.column) for p in found.problems] == [(-1, "km"), (-1, "miles")]


def test_numbers_may_be_categories_and_infinite_numbers_are_refused() -> None:
    rows = infer(DECODER, {"inputs": [*without("a b"), tensor("a b", [7, -1], "INT64")]}).rows
    assert rows.matrix[:, 4].tolist() == [0, 2]
    body, length = as_binary({"a": np.array([1, np.inf]), "b": np.array([1, 2])})
    found = refused(body, length)
    assert isinstance(found, InvalidRowsError)
    assert found.problems[0].reason == "inf is too large a number"


def test_a_part_of_the_rows_is_taken_when_asked_for() -> None:
    body = json.dumps({"inputs": [tensor("a", ["x", 2]), tensor("b", [3, 4])]}).encode()
    found = oip.decode(NUMBERS, body, partial=True)
    assert found.rows.bad == {0}
    answer, headers = oip.encode("m", "1", found, [0.25, 0.5])
    assert json.loads(answer)["outputs"][0]["data"] == [None, 0.5]
    assert headers == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "no object"),
        ({}, "'inputs'"),
        ({"inputs": []}, "'inputs'"),
        ({"inputs": [1]}, "'name'"),
        ({**two(), "id": 7}, "'id'"),
        (two(shape=None), "'shape'"),
        (two(shape=[2.0]), "'shape'"),
        (two(shape=[-2]), "'shape'"),
        (two(shape=[]), "'shape'"),
        (two(shape=[2, 1, 1]), "'shape'"),
        (two(shape=[10**400, 10**400]), "'shape'"),
        (two(shape=[3]), "not of the shape [3]"),
        (two(shape=[0], data=[]), "no rows"),
        (two(shape=[1, 2]), "[1, 2], not [1] or [1, 1]"),
        (two(shape=[1], data=[1]), "'b' has the shape [2]"),
        (two(shape=[2, 1], data=[[1], [2, 3]]), "not of the shape"),
        (two(data=7), "not of the shape"),
        (two(datatype="FP8"), "'FP8' is none of BOOL"),
        (two(datatype=["FP64"]), "a list is none of"),
        (two(contents=1), "'contents' is no part"),
        (two(parameters={"shared_memory_region": "x"}), "shared memory"),
        (two(parameters=[1]), "shared memory"),
        (two(parameters={"binary_data_size": 16}), "both"),
        ({"inputs": [{"name": "a", "shape": [2], "datatype": "FP64"}]}, "neither"),
        ({**two(), "outputs": 7}, "'outputs'"),
        ({**two(), "outputs": [{"name": "other"}]}, "the only output is 'score'"),
        ({**two(), "outputs": [{"name": "score", "parameters": {"classification": 3}}]}, "classification"),
        ({**two(), "parameters": 7}, "'parameters'"),
    ],
)
def test_tensors_that_are_not_the_models_are_told(given: Any, says: str) -> None:
    found = refused(given)
    assert (found.status, found.reason) == (422, "shape")
    assert says in str(found)


def test_a_tensor_given_twice_and_too_many_rows() -> None:
    assert refused({"inputs": [tensor("a", [1]), tensor("a", [1])]}).reason == "duplicate"
    assert refused({"inputs": [tensor("a", [1] * 1001), tensor("b", [1] * 1001)]}).status == 413


BINARY, LENGTH = as_binary({"a": np.array([1.0, 2.0]), "b": np.array([3, 4])})
TEXTS, TEXT_LENGTH = as_binary({"a": np.array(["x", "yy"], dtype=object), "b": np.array([3, 4])})


@pytest.mark.parametrize(
    ("body", "length", "reason"),
    [
        (BINARY, None, "encoding"),
        (BINARY, b"x", "binary"),
        (BINARY, b"-1", "binary"),
        (BINARY, b"9" * 5000, "binary"),
        (BINARY, b"%d" % (len(BINARY) + 1), "binary"),
        (BINARY, b"%d" % (int(LENGTH) - 1), "json"),
        (BINARY[:-1], LENGTH, "binary"),
        (BINARY + b"x", LENGTH, "binary"),
        (TEXTS.replace(b"\x01\x00\x00\x00x", b"\x02\x00\x00\x00x"), TEXT_LENGTH, "binary"),
        (TEXTS.replace(b"\x01\x00\x00\x00x", b"\xff\xff\xff\xffx"), TEXT_LENGTH, "binary"),
        (TEXTS.replace(b"x", b"\xff"), TEXT_LENGTH, "encoding"),
    ],
)
def test_binary_data_that_does_not_fit_is_malformed(body: bytes, length: bytes | None, reason: str) -> None:
    found = refused(body, length)
    assert (found.status, found.reason) == (400, reason)


@pytest.mark.parametrize("size", [-1, 2**70, 15, "16", True, None, 0])
def test_a_size_that_is_wrong_is_malformed(size: Any) -> None:
    inputs = [{"name": "a", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": size}}]
    text = json.dumps({"inputs": inputs}).encode()
    assert refused(text + bytes(16), b"%d" % len(text)).status in (400, 422)


def test_a_boolean_byte_is_0_or_1() -> None:
    schema = FeatureSchema((FeatureField("x", "boolean"),))
    body, length = as_binary({"x": np.array([True, False])})
    assert refused(body[:-1] + b"\x02", length, decoder(schema=schema)).reason == "binary"


@pytest.mark.parametrize(
    "wish",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "score", "parameters": {"binary_data": True}}]},
        {
            "parameters": {"binary_data_output": False},
            "outputs": [{"name": "score", "parameters": {"binary_data": True}}],
        },
    ],
)
def test_scores_are_answered_as_binary_data_when_asked_for(wish: dict[str, Any]) -> None:
    request = infer(NUMBERS, {"id": "7", **wish, **two()})
    body, headers = oip.encode("late", "3", request, [0.25, 0.5])
    ((name, length),) = headers
    assert name == b"inference-header-content-length"
    answer = json.loads(body[: int(length)])
    assert answer == {
        "model_name": "late",
        "model_version": "3",
        "id": "7",
        "outputs": [{"name": "score", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}],
    }
    same(np.frombuffer(body[int(length) :]), [0.25, 0.5])


def test_every_column_of_the_model_is_a_tensor() -> None:
    same(infer(DECODER, {"inputs": INPUTS}).rows.matrix, expected([RECORD, RECORD]))
    assert [given["name"] for given in INPUTS] == SCHEMA.names
