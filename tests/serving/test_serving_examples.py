"""The made-up rows of /docs: taken by the decoder in every shape, and none of the training's."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from scorer_process import Scorer, post, scorer

from stk_ml.artifact.golden import Golden
from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.model_policies import ServingSpec
from stk_ml.serving.decoding.decoder import Decoder
from stk_ml.serving.examples import examples
from stk_ml.serving.openapi import document

STRICT = ServingSpec(out_of_range="reject", unseen_category="reject")
SCHEMAS = {
    "bounded": FeatureSchema(
        (
            FeatureField("low", "integer", minimum=0.5, maximum=7.5),
            FeatureField("high", "integer", nullable=False, minimum=1e6 + 0.5),
            FeatureField("km", "number", nullable=False, maximum=99.25),
        )
    ),
    "one column": FeatureSchema((FeatureField("km", "number"),)),
    "one category": FeatureSchema((FeatureField("mode", "category", ("air", "7")),)),
    "never null": FeatureSchema(
        (
            FeatureField("km", "number", nullable=False),
            FeatureField("express", "boolean", nullable=False),
            FeatureField("mode", "category", ("007",), nullable=False),
        )
    ),
}
EDGES = [(), (-0.0, 0.001), (1.0, 123.456, 1e9), (-1e308, 1.7976e308), (float("-inf"), float("inf")), (2.0**60,)]


def column(field: FeatureField, edges: tuple[float, ...]) -> ColumnProfile:
    counts = (tuple(range(len(field.categories))),)
    return ColumnProfile(field.name, edges, field.categories, counts, *((0,),) * 5)


@pytest.mark.parametrize("edges", EDGES, ids=str)
@pytest.mark.parametrize("which", SCHEMAS)
def test_the_strictest_decoder_takes_them_in_every_shape(which: str, edges: tuple[float, ...]) -> None:
    schema = SCHEMAS[which]
    columns = tuple(column(field, edges) for field in schema.fields)
    for profile in (None, Profile(("all",), {}, (), columns, ("all",), columns[0])):
        made = examples(schema, profile)
        decoder = Decoder(schema, STRICT, max_rows=10)
        found = document([("m", "1", schema, "binary", made, STRICT)], title="t", version="1", auth=True)
        content = found["paths"]["/score"]["post"]["requestBody"]["content"]
        for kind in ("application/json", "text/csv"):
            for name, example in content[kind]["examples"].items():
                text = example["value"] if kind == "text/csv" else json.dumps(example["value"], allow_nan=False)
                rows = decoder.decode(text.encode(), kind)
                assert len(rows.matrix) == (1 if name == "record" else 2), (kind, name)
                assert not rows.counted


def told(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_what_training_has_seen_is_not_shown_and_the_examples_score(server: Scorer, folder: Path) -> None:
    given = told(server.url)["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    rows = given["records"]["value"]
    assert [type(value) for value in rows[0].values()] == [float, float, int, bool, str, str]
    assert rows[1]["weight"] is None
    golden = Golden.load(folder).records
    numbers = {record[name] for record in golden for name in ("km", "weight")} - {None}
    shown = json.dumps(given)
    assert not any(str(number) in shown for number in numbers)
    for example in given.values():
        assert post(server.connection(), example["value"], server.headers)[0] == 200


def test_the_document_does_not_need_the_folder_of_the_model(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    with scorer(tmp_path, copy, "--no-telemetry", "--no-compile") as running:
        shutil.rmtree(copy)
        assert "examples" in told(running.url)["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
