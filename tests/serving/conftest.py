"""The model of late parcels, parcels that it has not seen, and a process that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from late_parcels import parcels, train
from scorer_process import Scorer, scorer

from stk_ml.artifact.golden import Golden
from stk_ml.artifact.model import TrainedModel


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model."""
    return train(tmp_path_factory.mktemp("late-parcel"))


@pytest.fixture(scope="session")
def model(folder: Path) -> TrainedModel:
    """The model, as batch scoring loads it."""
    return TrainedModel.load(folder, threads=1)


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Parcels that the model has not seen, without what is known later."""
    return parcels(500, seed=1).drop_columns(["late", "late_known"])


@pytest.fixture(scope="session")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    """A scorer of the model, with API keys, and with limits that tests can reach."""
    pytest.importorskip("uvicorn", reason="pip install 'stk-ml[serving]'")
    flags = ("--max-rows", "1000", "--max-body", "1000000", "--flush", "0.5")
    with scorer(tmp_path_factory.mktemp("project"), folder, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "stk.toml").write_text('[project]\nname = "parcels"\n[profile.laptop]\n')
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return dict(Golden.load(folder).records[0])


@pytest.fixture(scope="module")
def served(project: Path, folder: Path) -> Iterator[Scorer]:
    flags = ("--max-body", "200000", "--max-rows", "1000", "--timeout", "2", "--max-requests", "4")
    with scorer(project, folder, *flags) as running:
        yield running
