"""The OpenAPI document: valid, complete, and its schemas say of each value what the decoder says."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import RequestError
from stk_ml.model_policies import ServingSpec
from stk_ml.serving.openapi import document

jsonschema = pytest.importorskip("jsonschema", reason="pip install 'stk-ml[dev]'")

SCHEMA = FeatureSchema(
    (
        FeatureField("km", "number", minimum=0, maximum=5000),
        FeatureField("stops", "integer", nullable=False),
        FeatureField("express", "boolean"),
        FeatureField("mode", "category", ("air", "rail", "7")),
    )
)
GOOD = {"km": 2.5, "stops": 3, "express": True, "mode": "air"}
RECORDS = [GOOD, {"km": None, "stops": 1, "express": None, "mode": None}]
POLICIES = {
    "default": ServingSpec(),
    "strict": ServingSpec(out_of_range="reject", unseen_category="reject"),
    "lenient": ServingSpec("count", "count", "count", "count", "count"),
}


def described(policy: ServingSpec = POLICIES["default"], *, auth: bool = True) -> dict[str, Any]:
    return document(
        [("late", "3", SCHEMA, "binary", RECORDS, policy)], title="stk-ml scoring", version="1.0", auth=auth
    )


def validator(found: dict[str, Any], schema: dict[str, Any]) -> Any:
    return jsonschema.Draft202012Validator({**schema, "components": found["components"]})


def body(found: dict[str, Any], kind: str = "application/json", path: str = "/score") -> dict[str, Any]:
    content: dict[str, Any] = found["paths"][path]["post"]["requestBody"]["content"][kind]
    return content


@pytest.mark.parametrize("auth", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_it_is_valid_openapi_and_json(policy: str, auth: bool) -> None:
    validate = pytest.importorskip("openapi_spec_validator", reason="pip install 'stk-ml[dev]'").validate
    found = described(POLICIES[policy], auth=auth)
    validate(json.loads(json.dumps(found)))
    assert ("securitySchemes" in found["components"]) == auth
    assert ("security" in found["paths"]["/score"]["post"]) == auth
    assert ("401" in found["paths"]["/score"]["post"]["responses"]) == auth
    assert "security" not in found["paths"]["/health/ready"]["get"]


def test_models_of_different_columns_stand_beside_each_other() -> None:
    validate = pytest.importorskip("openapi_spec_validator", reason="pip install 'stk-ml[dev]'").validate
    other = FeatureSchema((FeatureField("weight", "number"),))
    models = [
        ("late", "3", SCHEMA, "binary", RECORDS),
        ("late", "4", other, "binary", []),
        ("a b/c", "1", other, "", []),
    ]
    found = document(models, title="t", version="1", auth=True)
    validate(json.loads(json.dumps(found)))
    assert {"Record.late.3", "Record.late.4"} < found["components"]["schemas"].keys()
    check = validator(found, body(found)["schema"])
    assert check.is_valid([GOOD])
    assert check.is_valid({"weight": [2]})
    assert not check.is_valid([{**GOOD, "weight": 2}])
    names = found["paths"]["/v2/models/{model_name}/infer"]["post"]["parameters"][0]["schema"]["enum"]
    assert names == ["a b/c", "late"]


def test_a_server_that_has_no_model_yet_is_described_too() -> None:
    validate = pytest.importorskip("openapi_spec_validator", reason="pip install 'stk-ml[dev]'").validate
    found = document([], title="t", version="1", auth=False)
    validate(found)
    assert "/health/ready" in found["paths"]


def test_it_is_cheap() -> None:
    wide = FeatureSchema(tuple(FeatureField(f"f{n}", "number") for n in range(200)))
    record = dict.fromkeys(wide.names, 1.0)
    start = time.process_time()
    document([("wide", "1", wide, "regression", [record])], title="t", version="1", auth=True)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("path", ["/score", "/invocations", "/v2/models/{model_name}/infer"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_example_fits_its_schema(policy: str, path: str) -> None:
    found = described(POLICIES[policy])
    for content in found["paths"][path]["post"]["requestBody"]["content"].values():
        for name, example in content.get("examples", {}).items():
            errors = list(validator(found, content["schema"]).iter_errors(example["value"]))
            assert not errors, f"{name}: {errors[0].message}"


@pytest.mark.parametrize("policy", POLICIES)
def test_the_decoder_takes_every_example(policy: str) -> None:
    from stk_ml.serving.decoding.decoder import Decoder

    found, decoder = described(POLICIES[policy]), Decoder(SCHEMA, POLICIES[policy], max_rows=10)
    for kind in ("application/json", "text/csv"):
        for name, example in body(found, kind)["examples"].items():
            text = example["value"] if kind == "text/csv" else json.dumps(example["value"])
            assert len(decoder.decode(text.encode(), kind).matrix) == (1 if name == "record" else 2), name


VALUES: list[Any] = [
    *(None, 0, 1, 1.0, 0.5, -1, 5001, 10**30, 1e308, 10**400, True, False),
    *("", "air", "sea", "7", "NaN", 7, 7.0, [], {}, [1], {"a": 1}),
]


def unsaid(column: str, value: Any, policy: str) -> bool:
    """What JSON Schema has no words for: it calls 7.0 an integer, and leaves the format ``double`` alone."""
    if isinstance(value, (list, dict)):
        return policy == "lenient"  # a record of lists is columns
    if column == "mode":
        return isinstance(value, float) and value.is_integer()
    return column in ("km", "stops") and value == 10**400


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_value_fits_the_schema_when_and_only_when_the_decoder_takes_it(column: str, policy: str) -> None:
    from stk_ml.serving.decoding.decoder import Decoder

    found, decoder = described(POLICIES[policy]), Decoder(SCHEMA, POLICIES[policy], max_rows=10)
    check = validator(found, body(found)["schema"])
    for value in VALUES:
        for request in (
            [{**GOOD, column: value}],
            {"instances": [[value if name == column else GOOD[name] for name in SCHEMA.names]]},
        ):
            if unsaid(column, value, policy):
                continue
            assert check.is_valid(request) == taken(decoder, request), request
    without = {name: value for name, value in GOOD.items() if name != column}
    for request in ([without], [{**GOOD, "other": 1}], without, {**GOOD, "other": 1}):
        assert check.is_valid(request) == taken(decoder, request), request


@pytest.mark.parametrize(
    "request_",
    [
        [],
        {},
        None,
        7,
        "air",
        [[]],
        [7],
        {"data": []},
        {"data": [GOOD], "ids": ["a"]},
        {"data": [GOOD], "ids": []},
        {"data": [GOOD], "ids": [7]},
        {"data": [GOOD], "ids": ["x" * 129]},
        {"data": [GOOD], "ids": None},
        {"data": GOOD},
        {"data": {name: [value] for name, value in GOOD.items()}},
        {"data": {name: {"0": value} for name, value in GOOD.items()}},
        {"data": {name: [] for name in GOOD}},
        {"data": {name: {} for name in GOOD}},
        {"data": [GOOD], "more": 1},
        {"data": [GOOD], "instances": [GOOD]},
        {"data": [GOOD], "params": {}},
        {"data": [GOOD], "params": {"a": 1}},
        {"inputs": [list(GOOD.values())]},
        {"inputs": [list(GOOD.values())[:-1]]},
        {"inputs": [[*GOOD.values(), 1]]},
        {"dataframe_split": {"columns": list(GOOD), "data": [list(GOOD.values())]}},
        {"dataframe_split": {"columns": list(GOOD), "data": [list(GOOD.values())], "index": [0]}},
        {"dataframe_split": {"columns": list(GOOD), "data": [list(GOOD.values())], "index": None}},
        {"dataframe_split": {"columns": list(GOOD), "data": [list(GOOD.values())], "index": 0}},
        {"dataframe_split": {"columns": list(GOOD), "data": []}},
        {"dataframe_split": {"columns": [*GOOD, "km"], "data": [[*GOOD.values(), 1]]}},
        {"dataframe_split": {"columns": list(GOOD)}},
        {"dataframe_split": [GOOD]},
        {"dataframe_records": [GOOD]},
        {"input_data": {"columns": list(GOOD), "data": [list(GOOD.values())]}},
        {"instances": [GOOD]},
        {"signature_name": "", "instances": [GOOD]},
        {"signature_name": "serving_default", "instances": [GOOD]},
    ],
    ids=json.dumps,
)
def test_a_shape_fits_the_schema_when_and_only_when_the_decoder_takes_it(request_: Any) -> None:
    from stk_ml.serving.decoding.decoder import Decoder

    found = described()
    decoder = Decoder(SCHEMA, ServingSpec(), max_rows=10)
    assert validator(found, body(found)["schema"]).is_valid(request_) == taken(decoder, request_)


def taken(decoder: Any, request: Any) -> bool:
    try:
        decoder.decode(json.dumps(request).encode(), "application/json")
    except RequestError as error:
        if not 400 <= error.status < 500:
            raise
        return False
    return True


def tensor(name: str, *data: Any, shape: Any = None, datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data, **more}


TENSORS = [tensor(name, value) for name, value in GOOD.items()]


@pytest.mark.parametrize(
    "request_",
    [
        None,
        {},
        {"inputs": []},
        {"inputs": TENSORS},
        {"inputs": TENSORS, "id": "a", "more": 1},
        {"inputs": TENSORS, "id": 7},
        {"inputs": TENSORS, "id": "x" * 129},
        {"inputs": TENSORS, "outputs": [{"name": "score"}]},
        {"inputs": TENSORS, "outputs": [{"name": "other"}]},
        {"inputs": TENSORS, "outputs": [{}]},
        {"inputs": TENSORS[:-1]},
        {"inputs": [*TENSORS, tensor("other", 1)]},
        {"inputs": [tensor(name, value, shape=[1, 1], datatype="BYTES") for name, value in GOOD.items()]},
        {"inputs": [tensor(name, value, shape=[1, 2]) for name, value in GOOD.items()]},
        {"inputs": [tensor(name, value, shape=[]) for name, value in GOOD.items()]},
        {"inputs": [tensor(name, value, datatype="FP65") for name, value in GOOD.items()]},
        {"inputs": [tensor(name, [value]) for name, value in GOOD.items()]},
        {"inputs": [tensor("all", list(GOOD.values()), shape=[1, 4])]},
        {"inputs": [tensor("all", *GOOD.values())]},
        {"inputs": [{**tensor("km", 1), "data": None}, *TENSORS[1:]]},
        {"inputs": [tensor("km", "far"), *TENSORS[1:]]},
    ],
    ids=json.dumps,
)
def test_tensors_fit_the_schema_when_and_only_when_the_decoder_takes_them(request_: Any) -> None:
    from stk_ml.serving.decoding import oip
    from stk_ml.serving.decoding.decoder import Decoder

    found = described()
    check = validator(found, body(found, path="/v2/models/{model_name}/infer")["schema"])
    plain = json.loads(json.dumps(request_))
    decoder = Decoder(SCHEMA, ServingSpec(), max_rows=10)
    try:
        oip.decode(decoder, json.dumps(request_).encode())
    except RequestError:
        assert not check.is_valid(plain)
    else:
        assert check.is_valid(plain)
