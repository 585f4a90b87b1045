"""A local process keeps the contract of a scorer."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import contract
import pytest
from late_parcels import train
from scorer_process import Scorer, scorer

from stk_ml.artifact.golden import Golden
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


def test_a_forest_refuses_numbers_that_it_cannot_take(tmp_path: Path) -> None:
    learner = LearnerSpec(estimator="sklearn.ensemble.RandomForestClassifier", params={"n_estimators": 3}, threads=1)
    folder = train(tmp_path / "trained", learner)
    with scorer(tmp_path, folder, "--no-telemetry") as running:
        record = {**Golden.load(folder).records[0], "weight": 1e39}
        for rows in ([record], [record, record]):
            answer = contract.ask(running.url, "POST", "/score", {"data": rows}, running.headers)
            assert answer.status == 422
            assert answer.json["error"]["type"] == "rows"
            assert "weight" in answer.json["error"]["message"]


def test_odd_values_are_counted_once_whichever_way_they_came(tmp_path: Path, folder: Path) -> None:
    from stk_ml.telemetry.local import ParquetPredictionLog

    record = {**Golden.load(folder).records[0], "km": -5.0, "mode": "sled"}
    with scorer(tmp_path, folder) as running:
        for _ in range(10):
            assert contract.ask(running.url, "POST", "/score", {"data": [record]}, running.headers).status == 200
        assert contract.ask(running.url, "POST", "/score", {"data": [record] * 10}, running.headers).status == 200
        running.stop()
    log = ParquetPredictionLog(tmp_path / ".stk" / "telemetry")
    events = log.read("AppEvents", since=0, until=time.time() + 60).to_pylist()
    told = [json.loads(event["Properties"]) for event in events if event["Name"] == "stk.counted"]
    counted: Counter[tuple[str, str]] = Counter()
    for one in told:
        counted[one["what"], one["column"]] += int(one["rows"])
    assert counted == {("out_of_range", "km"): 20, ("unseen_category", "mode"): 20}
