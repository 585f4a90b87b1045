"""``auto``: FLAML searches learners and parameters within a time budget, among what can be saved without pickle.

The search is FLAML's cost-frugal one (Wu, Wang and Huang, AAAI 2021): it starts from cheap models and pays for dearer
ones only where they help. Each trial is one of our own learners, scored on the validation rows. What was found is then
fitted as if the model's file had named it. Two searches may differ, because time bounds them.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from stk_ml.artifact.calibrator import EPSILON
from stk_ml.contracts import Problem
from stk_ml.errors import MissingLibraryError, UsageError
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.learners.estimator import EstimatorLearner
from stk_ml.training.learners.lightgbm import LightGbmLearner
from stk_ml.training.learners.protocol import Learned, Learner, LearningData

_FOREST = {"binary": "sklearn.ensemble.ExtraTreesClassifier", "regression": "sklearn.ensemble.ExtraTreesRegressor"}
_LINEAR = {"binary": "sklearn.linear_model.LogisticRegression", "regression": "sklearn.linear_model.Ridge"}


@dataclass(frozen=True)
class _Family:
    """Estimators that differ by parameters: the space, where the search starts, and its share of the time."""

    estimator: str
    space: dict[str, Any]
    start: dict[str, Any]
    share: float


class AutoLearner:
    """See :class:`stk_ml.training.learners.protocol.Learner`."""

    def learn(self, spec: LearnerSpec, data: LearningData, progress: Callable[[float], None]) -> Learned:
        """Searches for ``time_budget`` seconds, then fits what was found on the same rows."""
        if spec.params:
            raise UsageError(
                f"learner.params {spec.params} have no place beside learner.estimator: auto",
                hint="auto chooses them; name the estimator to set them yourself",
            )
        chosen = search(spec, data, lambda done: progress(0.8 * done))
        return _learner(chosen).learn(chosen, data, lambda done: progress(0.8 + 0.2 * done))


def search(spec: LearnerSpec, data: LearningData, progress: Callable[[float], None]) -> LearnerSpec:
    """The learner of the lowest validation loss (log loss, or squared error) found within ``time_budget`` seconds.

    Raises:
        MissingLibraryError: flaml is not installed.
        UsageError: no trial ended well.
    """
    tune = _flaml_tune()
    began = time.monotonic()
    best, lowest = None, np.inf
    for family in _families(tune, data.problem, data.train.num_rows):

        def trial(config: dict[str, Any], estimator: str = family.estimator) -> dict[str, float]:
            progress(min((time.monotonic() - began) / spec.time_budget, 1.0))
            candidate = msgspec.structs.replace(spec, estimator=estimator, params=_plain(config), refit=False)
            try:
                scores = _learner(candidate).learn(candidate, data, lambda done: None).validation_scores
            except UsageError:
                return {"loss": float("inf")}
            return {"loss": loss(data.problem, data.validation_target, scores)}

        found = tune.run(
            trial,
            config=family.space,
            low_cost_partial_config=family.start,
            metric="loss",
            mode="min",
            time_budget_s=spec.time_budget * family.share,
            num_samples=-1,
            verbose=0,
        )
        if found.best_result and found.best_result["loss"] < lowest:
            lowest = found.best_result["loss"]
            best = msgspec.structs.replace(spec, estimator=family.estimator, params=_plain(found.best_config))
    if best is None:
        raise UsageError(f"no trial ended within {spec.time_budget:g} seconds", hint="raise learner.time_budget")
    return best


def loss(problem: Problem, target: Any, scores: Any) -> float:
    """Log loss of probabilities (binary), or mean squared error.

    Example:
        >>> loss("binary", np.array([1.0, 0.0]), np.array([0.5, 0.5])).__round__(4)
        0.6931
    """
    if problem == "regression":
        return float(np.mean((target - scores) ** 2))
    inside = np.clip(scores, EPSILON, 1 - EPSILON)
    return float(-np.mean(target * np.log(inside) + (1 - target) * np.log1p(-inside)))


def _families(tune: ModuleType, problem: Problem, rows: int) -> list[_Family]:
    trees = {
        "num_iterations": tune.lograndint(4, 2048),
        "num_leaves": tune.lograndint(4, max(8, min(4096, rows))),
        "min_data_in_leaf": tune.lograndint(2, 129),
        "learning_rate": tune.loguniform(1 / 1024, 1.0),
        "feature_fraction": tune.uniform(0.1, 1.0),
        "lambda_l1": tune.loguniform(1 / 1024, 1024),
        "lambda_l2": tune.loguniform(1 / 1024, 1024),
    }
    forest = {"n_estimators": tune.lograndint(4, 512), "max_leaf_nodes": tune.lograndint(4, max(8, min(4096, rows)))}
    linear = {"C": tune.loguniform(1 / 1024, 1024)} if problem == "binary" else {"alpha": tune.loguniform(1e-3, 1e3)}
    return [
        _Family("lightgbm", trees, {"num_iterations": 4, "num_leaves": 4}, 0.75),
        _Family(_FOREST[problem], forest, {"n_estimators": 4, "max_leaf_nodes": 4}, 0.15),
        _Family(_LINEAR[problem], linear, {}, 0.1),
    ]


def _learner(spec: LearnerSpec) -> Learner:
    return LightGbmLearner() if spec.estimator == "lightgbm" else EstimatorLearner()


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}


def _flaml_tune() -> ModuleType:
    try:
        with _hidden("pyspark"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # flaml says that its own AutoML needs more libraries
            return importlib.import_module("flaml.tune")
    except ImportError as error:
        raise MissingLibraryError("flaml", extra="auto", need="learner.estimator: auto") from error


@contextmanager
def _hidden(library: str) -> Iterator[None]:
    """Hides a library that is not imported yet: flaml's import would start a Spark session where pyspark is there."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[library]
