"""``auto``: FLAML searches among learners that can be saved without pickle, and ours fit what it found.

The search is bounded by time, so two searches may find different parameters; fitting what was found is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from stk_ml.artifact.schema import to_matrix
from stk_ml.errors import MissingLibraryError, UsageError
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.learners.estimator import EstimatorLearner
from stk_ml.training.learners.lightgbm import LightGbmLearner
from stk_ml.training.learners.protocol import Learned, LearningData

_METRICS = {"binary": "log_loss", "regression": "rmse"}
_TASKS = {"binary": "classification", "regression": "regression"}
_FORESTS = {
    ("rf", "binary"): "sklearn.ensemble.RandomForestClassifier",
    ("rf", "regression"): "sklearn.ensemble.RandomForestRegressor",
    ("extra_tree", "binary"): "sklearn.ensemble.ExtraTreesClassifier",
    ("extra_tree", "regression"): "sklearn.ensemble.ExtraTreesRegressor",
}
_LIGHTGBM = (
    *("n_estimators", "num_leaves", "min_child_samples", "learning_rate"),
    *("max_bin", "colsample_bytree", "reg_alpha", "reg_lambda"),
)


class AutoLearner:
    """See :class:`stk_ml.training.learners.protocol.Learner`."""

    def learn(self, spec: LearnerSpec, data: LearningData, progress: Callable[[float], None]) -> Learned:
        """Searches for ``time_budget`` seconds, then fits what was found on the same rows."""
        if spec.params:
            raise UsageError(f"learner.params {spec.params} have no place beside learner.estimator: auto")
        chosen = search(spec, data)
        progress(0.8)
        learner = LightGbmLearner() if chosen.estimator == "lightgbm" else EstimatorLearner()
        return learner.learn(chosen, data, lambda done: progress(0.8 + 0.2 * done))


def search(spec: LearnerSpec, data: LearningData) -> LearnerSpec:
    """The learner that FLAML found within ``time_budget`` seconds.

    Raises:
        MissingLibraryError: flaml is not installed.
    """
    try:
        from flaml import AutoML
    except ImportError as error:
        raise MissingLibraryError("flaml", extra="auto", need="learner.estimator: auto") from error
    found = AutoML()
    found.fit(
        X_train=to_matrix(data.train),
        y_train=data.train_target,
        X_val=to_matrix(data.validation),
        y_val=data.validation_target,
        task=_TASKS[data.problem],
        metric=_METRICS[data.problem],
        estimator_list=["lgbm", "rf", "extra_tree"],
        eval_method="holdout",
        time_budget=spec.time_budget,
        retrain_full=False,
        seed=spec.seed,
        n_jobs=spec.threads or -1,
        verbose=0,
    )
    best: Any = found.model.estimator
    if found.best_estimator == "lgbm":
        params = {name: value for name, value in best.get_params().items() if name in _LIGHTGBM}
        return msgspec.structs.replace(spec, estimator="lightgbm", params=_plain(params))
    params = {name: value for name, value in best.get_params().items() if name not in ("n_jobs", "random_state")}
    params = {name: value for name, value in params.items() if value != type(best)().get_params()[name]}
    return msgspec.structs.replace(spec, estimator=_FORESTS[found.best_estimator, data.problem], params=_plain(params))


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}
