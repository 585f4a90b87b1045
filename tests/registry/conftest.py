"""A real MLflow store on SQLite per test, and small sealed artifacts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stk_ml import contracts
from stk_ml.artifact import manifest
from stk_ml.contracts import Dataset, Evaluation, Interval, Metrics, Snapshot, TableVersion
from stk_ml.model_spec import DataSpec, GateSpec, LearnerSpec, ModelSpec
from stk_ml.registry.models import ModelRegistry


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory) -> Path:
    """An MLflow database with its schema, made once: creating it takes a second or more."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "mlflow.db").touch()  # an empty file counts as no store yet
    assert ModelRegistry(f"sqlite:///{folder}/mlflow.db", folder / "artifacts").names() == []
    return folder / "mlflow.db"


@pytest.fixture
def uri(fresh_store, tmp_path) -> str:
    """The URI of a fresh store of this test."""
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def registry(uri, tmp_path) -> ModelRegistry:
    return ModelRegistry(uri, tmp_path / "artifacts")


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        name="flight-delay",
        problem="binary",
        data=DataSpec(target="late", table="raw.flights"),
        learner=LearnerSpec(params={"num_leaves": 31}),
        gate=GateSpec(metric="auc", floor=0.65),
    )


@pytest.fixture
def artifact(tmp_path):
    """Makes a sealed artifact with the given content."""

    def make(content: str = "one", folder: str = "") -> Path:
        place = tmp_path / (folder or f"artifact-{content}")
        place.mkdir(parents=True)
        (place / "MLmodel").write_text("flavors: {}\n")
        (place / "model.json").write_text(f'{{"content": "{content}"}}')
        manifest.seal(place)
        return place

    return make


@pytest.fixture
def evaluation(tmp_path):
    """Makes an evaluation folder with the given AUC on the test split."""

    def make(auc: float = 0.7) -> Path:
        def group(split, name, value):
            return Metrics(split, name, 100, 0.2, {"auc": Interval(value, value - 0.01, value + 0.01, 0.9)})

        groups = (
            group("train", "all", 0.9),
            group("test", "all", auc),
            group("test", "month=2013-07", auc + 0.02),
            group("test", "month=2013-08", auc - 0.02),
            group("test", "carrier=UA", auc),
        )
        folder = tmp_path / f"evaluation-{auc}"
        contracts.write(Evaluation("flight-delay", "binary", "auc", groups), folder / "evaluation.json")
        (folder / "card.html").write_text("<html>")
        return folder

    return make


@pytest.fixture
def dataset() -> Dataset:
    tables = (TableVersion("raw.flights", "/lake/raw/flights", 4, "f" * 64, 1000),)
    return Dataset((), 1000, "d" * 64, Snapshot(tables, {"schedule": "5" * 64}), now="2013-12-31T00:00:00Z")


@pytest.fixture
def python(tmp_path):
    """Starts a Python process that runs some code; its working directory is this test's folder."""

    def start(code: str, *args: str) -> subprocess.Popen[str]:
        root = str(Path(__file__).parents[2])
        return subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}", *args],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
