"""Learners: parameters are checked by name, estimators come by import path, and equal inputs give equal models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import UntrustedTypeError, UsageError
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.learners import auto, estimator
from stk_ml.training.learners.estimator import EstimatorLearner
from stk_ml.training.learners.lightgbm import LightGbmLearner, parameters
from stk_ml.training.learners.protocol import LearningData

SCHEMA = FeatureSchema(
    (FeatureField("x", "number"), FeatureField("z", "number"), FeatureField("c", "category", ("a", "b", "d")))
)
LOGISTIC = "sklearn.linear_model.LogisticRegression"


def rows(count: int, seed: int, problem: str = "binary") -> tuple[pa.Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, c = rng.normal(size=count), rng.integers(0, 3, count)
    table = pa.table(
        {
            "x": pa.array(x, mask=rng.random(count) < 0.1),
            "z": rng.normal(size=count),
            "c": pa.array(c.astype(np.int32), mask=rng.random(count) < 0.1),
        }
    )
    value = x + (c == 1)
    return table, value if problem == "regression" else (value + rng.normal(size=count) > 0.3).astype(float)


def data(problem: Any = "binary") -> LearningData:
    train, validation = rows(600, 0, problem), rows(200, 1, problem)
    return LearningData(problem, SCHEMA, *train, *validation)


def quick(**changes: Any) -> LearnerSpec:
    return LearnerSpec(
        **{"params": {"n_estimators": 30, "num_leaves": 7}, "threads": 1, "early_stopping": 5, **changes}
    )


def silent(done: float) -> None:
    pass


def test_lightgbm_stops_early_and_its_scores_are_those_of_the_found_rounds() -> None:
    told: list[float] = []
    learned = LightGbmLearner().learn(
        quick(refit=False, params={"n_estimators": 500, "num_leaves": 31}), data(), told.append
    )
    assert 1 <= learned.iterations < 500
    np.testing.assert_allclose(learned.scorer.raw(data().validation), learned.validation_scores, rtol=1e-12)
    assert learned.scorer.booster.num_trees() == learned.iterations  # type: ignore[attr-defined]
    assert told == sorted(told)


@pytest.mark.parametrize("metric", ["auc", "binary_error", "auc,binary_logloss"])
def test_validation_scores_are_those_of_the_found_rounds_whatever_stops(metric: str) -> None:
    params = {"n_estimators": 500, "num_leaves": 31, "metric": metric.split(",")}
    learned = LightGbmLearner().learn(quick(refit=False, params=params), data(), silent)
    assert 1 <= learned.iterations < 500
    np.testing.assert_allclose(learned.scorer.raw(data().validation), learned.validation_scores, rtol=1e-12)


def test_a_refit_sees_the_validation_rows_but_the_validation_scores_do_not() -> None:
    alone, again = (LightGbmLearner().learn(quick(refit=refit), data(), silent) for refit in (False, True))
    assert alone.iterations == again.iterations
    np.testing.assert_array_equal(alone.validation_scores, again.validation_scores)
    assert (again.scorer.raw(data().validation) != again.validation_scores).any()


def test_without_early_stopping_all_rounds_are_fitted() -> None:
    learned = LightGbmLearner().learn(quick(early_stopping=0, refit=False), data(), silent)
    assert learned.iterations == 30


def test_categories_are_native_and_missing_values_need_no_care() -> None:
    learned = LightGbmLearner().learn(quick(), data(), silent)
    assert b"decision_type=1" in learned.scorer.dump() or b" 1 " in learned.scorer.dump()
    empty = pa.table({"x": pa.nulls(1, pa.float64()), "z": pa.nulls(1, pa.float64()), "c": pa.nulls(1, pa.int32())})
    assert np.isfinite(learned.scorer.raw(empty)).all()


def test_chunks_and_slices_give_the_scores_of_the_whole() -> None:
    learned = LightGbmLearner().learn(quick(), data(), silent)
    table = data().validation
    whole = learned.scorer.raw(table)
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])
    np.testing.assert_array_equal(learned.scorer.raw(chunked), whole)
    np.testing.assert_array_equal(learned.scorer.raw(table.slice(13, 50)), whole[13:63])
    assert len(learned.scorer.raw(table.slice(0, 0))) == 0


@pytest.mark.parametrize("refit", [True, False])
def test_equal_inputs_give_equal_bytes_whatever_the_threads(refit: bool) -> None:
    found = {LightGbmLearner().learn(quick(refit=refit, threads=1), data(), silent).scorer.dump() for _ in range(2)}
    assert len(found) == 1


def test_lightgbm_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    LightGbmLearner().learn(quick(), data(), silent)
    with pytest.raises(UsageError):
        LightGbmLearner().learn(quick(params={"num_leaves": 1}), data(), silent)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("params", "says", "hint"),
    [
        ({"num_leafs": 3}, "no parameter 'num_leafs'", "num_leaf"),
        ({"random_state": 1}, "may not hold 'random_state': set learner.seed", ""),
        ({"n_jobs": 1}, "set learner.threads", ""),
        ({"early_stopping_rounds": 1}, "set learner.early_stopping", ""),
        ({"output_model": "x.txt"}, "no place in a model's file", ""),
        ({"eta": 0.1, "learning_rate": 0.1}, "gives 'learning_rate' twice, once as", ""),
        ({"objective": "multiclass"}, "objective 'multiclass' does not fit a binary model", "binary"),
        ({"n_estimators": 0}, "whole number from 1, not 0", ""),
        ({"n_estimators": "many"}, "whole number from 1, not 'many'", ""),
        ({"num_leaves": 1}, r"num_leaves", ""),
        ({"num_leaves": "many"}, r"num_leaves", ""),
        ({"boosting": "forest"}, "forest", ""),
        ({"learning_rate": -1}, "learning_rate", ""),
    ],
)
def test_a_parameter_that_lightgbm_does_not_take_is_named(params: dict[str, Any], says: str, hint: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        LightGbmLearner().learn(quick(params=params), data(), silent)
    assert hint in caught.value.hint


def test_parameters_per_feature_are_taken() -> None:
    params = {"monotone_constraints": [1, 0, 0], "interaction_constraints": [[0, 1], [2]], "n_estimators": 5}
    assert LightGbmLearner().learn(quick(params=params), data(), silent).iterations >= 1


def test_aliases_become_main_names() -> None:
    params, rounds = parameters(quick(params={"n_estimators": 12, "eta": 0.3, "max_leaf": 9}), "regression")
    assert rounds == 12
    assert (params["learning_rate"], params["num_leaves"], params["objective"]) == (0.3, 9, "regression")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (LOGISTIC, {"C": 0.5}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5}),
        ("sklearn.svm.LinearSVC", {}),
        ("sklearn.naive_bayes.GaussianNB", {}),
    ],
)
def test_a_scikit_learn_classifier_by_import_path_learns_and_is_reproducible(path: str, params: dict[str, Any]) -> None:
    one, same = (EstimatorLearner().learn(LearnerSpec(path, params, threads=1), data(), silent) for _ in range(2))
    assert one.scorer.dump() == same.scorer.dump()
    truth = data().validation_target
    assert one.validation_scores[truth == 1].mean() > one.validation_scores[truth == 0].mean() + 0.1
    assert ((one.validation_scores >= 0) & (one.validation_scores <= 1)).all()


def test_a_scikit_learn_regressor_learns() -> None:
    learned = EstimatorLearner().learn(LearnerSpec("sklearn.linear_model.Ridge"), data("regression"), silent)
    assert np.corrcoef(learned.validation_scores, data("regression").validation_target)[0, 1] > 0.8


@pytest.mark.parametrize(
    ("spec", "problem", "says"),
    [
        (LearnerSpec("lightgmb"), "binary", "'lightgmb' is unknown"),
        (LearnerSpec("no.such.Module"), "binary", "does not import"),
        (LearnerSpec("sklearn.linear_model.LogisticRegresion"), "binary", "has no 'LogisticRegresion'"),
        (LearnerSpec("sklearn.linear_model.Ridge"), "binary", "no classifier, which a binary model needs"),
        (LearnerSpec(LOGISTIC), "regression", "no regressor, which a regression model needs"),
        (LearnerSpec("collections.OrderedDict"), "binary", "is no estimator"),
        (LearnerSpec("math.pi"), "binary", "is no class or function"),
        (LearnerSpec(LOGISTIC, {"CC": 1}), "binary", "do not fit"),
        (LearnerSpec(LOGISTIC, {"C": -1}), "binary", "cannot be fitted: .*'C'"),
        (LearnerSpec("missing_module:build"), "binary", "does not import"),
    ],
)
def test_an_estimator_that_cannot_be_used_is_told(spec: LearnerSpec, problem: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        EstimatorLearner().learn(spec, data(problem), silent)
    assert "\n" not in str(caught.value)


def code(folder: Path, name: str, body: str) -> Path:
    (folder / f"{name}.py").write_text(body)
    return folder


def test_a_function_of_the_users_own_module_builds_the_estimator(tmp_path: Path) -> None:
    body = (
        "from sklearn.linear_model import LogisticRegression\ndef build(c=1.0):\n    return LogisticRegression(C=c)\n"
    )
    spec = LearnerSpec("users_own:build", {"c": 0.5})
    made = estimator.build(spec, "binary", code(tmp_path, "users_own", body))
    assert made.C == 0.5
    assert made.random_state == spec.seed
    assert str(tmp_path) not in sys.path


def test_a_users_module_that_raises_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not import: out of luck"):
        estimator.build(
            LearnerSpec("unlucky:build"), "binary", code(tmp_path, "unlucky", "raise RuntimeError('out of luck')")
        )


def test_an_estimator_of_the_users_own_class_cannot_be_saved_and_is_refused(tmp_path: Path) -> None:
    body = "from sklearn.linear_model import LogisticRegression\nclass Mine(LogisticRegression):\n    pass\n"
    with pytest.raises(UntrustedTypeError, match=r"own_class\.Mine"):
        EstimatorLearner(code(tmp_path, "own_class", body)).learn(LearnerSpec("own_class:Mine"), data(), silent)


def test_auto_refuses_parameters() -> None:
    with pytest.raises(UsageError, match="no place beside"):
        auto.AutoLearner().learn(LearnerSpec("auto", {"num_leaves": 3}), data(), silent)


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["binary", "regression"])
def test_auto_finds_a_learner_that_can_be_saved(problem: Any) -> None:
    pytest.importorskip("flaml", reason="pip install 'stk-ml[auto]'")
    learned = auto.AutoLearner().learn(LearnerSpec("auto", time_budget=2, threads=1), data(problem), silent)
    assert len(learned.scorer.dump()) > 100
    guess = np.full(200, data(problem).train_target.mean())
    assert auto.loss(problem, data(problem).validation_target, learned.validation_scores) < auto.loss(
        problem, data(problem).validation_target, guess
    )
