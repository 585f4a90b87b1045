"""A booster, the compiled scorer, and whole artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import pytest
from make_booster import CALIBRATORS, SCHEMA, records, rows, train

from stk_ml import contracts
from stk_ml.artifact import compiled, manifest
from stk_ml.artifact import golden as golden_rows
from stk_ml.artifact.document import NAME, ModelDocument
from stk_ml.artifact.model import TrainedModel
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.artifact.scorer import BoosterScorer, EstimatorScorer, Scorer
from stk_ml.training.golden import golden


@pytest.fixture(scope="session")
def booster() -> lightgbm.Booster:
    return train(objective="binary")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiled scorer."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler: apt-get install gcc")
    folder = tmp_path_factory.mktemp("cache") / "native"
    assert compiled.build(folder) is not None
    return folder


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory, booster: lightgbm.Booster) -> Callable[..., Path]:
    """Makes sealed artifacts: ``artifact(calibrator="sigmoid", estimator=None, schema=SCHEMA)``."""

    def make(calibrator: str = "none", estimator: Any = None, schema: FeatureSchema = SCHEMA) -> Path:
        folder = tmp_path_factory.mktemp("model")
        scorer: Scorer = EstimatorScorer(estimator, True) if estimator else BoosterScorer(booster, 1)
        document = ModelDocument(
            format=1, name="m", problem="binary", kind="estimator" if estimator else "lightgbm", file=scorer.file,
            objective="binary", iterations=30, parameters={}, schema=schema, calibrator=CALIBRATORS[calibrator],
            trained_from="", trained_until="", rows={"train": 3000},
        )  # fmt: skip
        model = TrainedModel(document, scorer)
        (folder / scorer.file).write_bytes(scorer.dump())
        contracts.write(document, folder / NAME)
        if schema is SCHEMA:
            known = golden(model, schema.from_records(records(rows(200, 5))))
            contracts.write(known, folder / golden_rows.NAME)
        manifest.seal(folder)
        return folder

    return make
