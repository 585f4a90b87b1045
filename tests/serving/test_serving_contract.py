"""A local process keeps the contract of a scorer."""

from __future__ import annotations

from collections.abc import Iterator

import contract
import pytest
from conftest import train
from server import MAX_BODY, MAX_ROWS, Server, served

from stk_ml.model_spec import LearnerSpec


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_local_process(check: contract.Check, server: Server) -> None:
    check(server.url, server.headers, server.folder)
    assert server.process.poll() is None


def test_limits(server: Server) -> None:
    contract.too_many_rows_are_refused(server.url, server.headers, server.folder, MAX_ROWS)
    contract.too_large_a_body_is_refused(server.url, server.headers, server.folder, MAX_BODY)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A scorer of a scikit-learn model, open to everyone."""
    learner = LearnerSpec(
        estimator="sklearn.ensemble.HistGradientBoostingClassifier", params={"max_iter": 5}, threads=1
    )
    folder = train(tmp_path_factory.mktemp("forest"), learner)
    with served(folder, tmp_path_factory.mktemp("project"), "--auth", "none", "--no-telemetry") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_scikit_learn_model_that_is_open_to_everyone(check: contract.Check, forest: Server) -> None:
    check(forest.url, {}, forest.folder)
    assert forest.process.poll() is None
