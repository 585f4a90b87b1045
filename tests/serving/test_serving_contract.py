"""A local process keeps the contract of a scorer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import contract
import pytest
from late_parcels import train
from scorer_process import Scorer, scorer

from stk_ml.model_spec import LearnerSpec


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_local_process(check: contract.Check, server: Scorer, folder: Path) -> None:
    check(server.url, server.headers, folder)
    assert server.process.poll() is None


def test_limits(server: Scorer, folder: Path) -> None:
    contract.too_many_rows_are_refused(server.url, server.headers, folder, 1000)
    contract.too_large_a_body_is_refused(server.url, server.headers, folder, 1_000_000)


@pytest.fixture(scope="module")
def forest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scikit-learn model."""
    estimator = "sklearn.ensemble.HistGradientBoostingClassifier"
    learner = LearnerSpec(estimator=estimator, params={"max_iter": 5}, threads=1)
    return train(tmp_path_factory.mktemp("forest"), learner)


@pytest.fixture(scope="module")
def forest(forest_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    """A scorer of it, open to everyone."""
    with scorer(tmp_path_factory.mktemp("project"), forest_folder, "--auth", "none", "--no-telemetry") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_scikit_learn_model_that_is_open_to_everyone(
    check: contract.Check, forest: Scorer, forest_folder: Path
) -> None:
    check(forest.url, {}, forest_folder)
    assert forest.process.poll() is None
