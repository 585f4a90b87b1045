"""Any scikit-learn estimator, by import path or from a function, behind a pipeline that takes the encoded matrix."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stk_ml.artifact import estimator_file
from stk_ml.artifact.schema import FeatureSchema, to_matrix
from stk_ml.artifact.scorer import EstimatorScorer
from stk_ml.contracts import Problem
from stk_ml.errors import UsageError, closest
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.learners.protocol import Learned, LearningData

#: A category column becomes at most so many 0/1 columns; rarer values share the last.
MOST_CATEGORIES = 32


class EstimatorLearner:
    """See :class:`stk_ml.training.learners.protocol.Learner`.

    Args:
        code_dir: folder of the user's modules, for ``module:function``.
    """

    def __init__(self, code_dir: Path | None = None) -> None:
        self.code_dir = code_dir

    def learn(self, spec: LearnerSpec, data: LearningData, progress: Callable[[float], None]) -> Learned:
        """Fits on the training rows; the validation rows calibrate only, so there is no refit."""
        estimator = build(spec, data.problem, self.code_dir)
        pipeline = _pipeline(data.schema, estimator)
        try:
            with _threads(estimator, spec.threads or -1):
                pipeline.fit(to_matrix(data.train), data.train_target)
        except Exception as error:  # an estimator raises what it likes about its parameters and its data
            raise UsageError(f"{spec.estimator} cannot be fitted: {error}") from error
        progress(0.9)
        scorer = EstimatorScorer(pipeline, data.problem == "binary")
        estimator_file.dumps(pipeline)
        return Learned(
            scorer=scorer,
            kind="estimator",
            validation_scores=scorer.raw(data.validation),
            objective=f"{type(estimator).__module__}.{type(estimator).__qualname__}",
            parameters={name: repr(value) for name, value in sorted(estimator.get_params(deep=False).items())},
        )


def build(spec: LearnerSpec, problem: Problem, code_dir: Path | None) -> Any:
    """An unfitted estimator with the parameters and seed of the model's file.

    Raises:
        UsageError: it does not import, is no estimator, does not fit the problem, or refuses a parameter.
    """
    made = _import(spec.estimator, code_dir)
    try:
        estimator = made(**spec.params)
    except TypeError as error:
        known = [name for name in inspect.signature(made).parameters if name not in ("args", "kwargs")]
        raise UsageError(
            f"learner.params {spec.params} do not fit {spec.estimator}: {error}",
            hint=closest(next((name for name in spec.params if name not in known), ""), known),
        ) from error
    except Exception as error:  # whatever the user's function raises
        message = f"learner.estimator {spec.estimator!r} raised {type(error).__name__}: {error}"
        raise UsageError(message, hint="call it by itself to see where") from error
    _check(estimator, spec.estimator, problem)
    if estimator.get_params().get("random_state", spec.seed) is None:
        estimator.set_params(random_state=spec.seed)
    return estimator


def _check(estimator: Any, name: str, problem: Problem) -> None:
    from sklearn.base import is_classifier, is_regressor

    if inspect.isclass(estimator) or not all(hasattr(estimator, method) for method in ("fit", "predict", "get_params")):
        raise UsageError(
            f"learner.estimator {name!r} is no estimator: it gives {type(estimator).__name__} without fit and predict",
            hint="name a class such as sklearn.linear_model.LogisticRegression, or a function that returns one",
        )
    if not (is_classifier(estimator) if problem == "binary" else is_regressor(estimator)):
        wanted = "classifier" if problem == "binary" else "regressor"
        raise UsageError(f"learner.estimator {name!r} is no {wanted}, which a {problem} model needs")


def _import(path: str, code_dir: Path | None) -> Callable[..., Any]:
    """What an import path names: ``package.module.Class`` or ``module:function``."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not (module and name):
        raise UsageError(
            f"learner.estimator {path!r} is unknown",
            hint="lightgbm, auto, an import path such as sklearn.linear_model.LogisticRegression, or module:function",
        )
    try:
        with _importable(code_dir if ":" in path else None):
            found = getattr(importlib.import_module(module), name)
    except AttributeError as error:
        names = [known for known in dir(sys.modules.get(module)) if not known.startswith("_")]
        raise UsageError(f"learner.estimator {path!r}: {module} has no {name!r}", hint=closest(name, names)) from error
    except Exception as error:  # whatever the user's module raises while it is imported
        hint = "a module of your own goes into pipelines/learners" if ":" in path else "is the library installed?"
        raise UsageError(f"learner.estimator {path!r} does not import: {error}", hint=hint) from error
    if not callable(found):
        raise UsageError(f"learner.estimator {path!r} is no class or function, but {type(found).__name__}")
    if ":" not in path and not isinstance(found, type):  # a plain path names a class; nothing is called to find out
        raise UsageError(f"learner.estimator {path!r} is no class", hint="a function of your own is module:function")
    return found  # type: ignore[no-any-return]


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Puts a folder on the module search path, for as long as it takes."""
    if folder is None:
        yield
        return
    # Code may have changed since this process, or another project in it, imported modules of these names.
    own = {file.stem for file in folder.glob("*.py")} | {file.name for file in folder.iterdir() if file.is_dir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _threads(estimator: Any, threads: int) -> Iterator[None]:
    """Lets an ensemble use threads while it is fitted; how many there were is no part of the model."""
    known = estimator.get_params(deep=False)
    if not (type(estimator).__module__.startswith("sklearn.ensemble.") and known.get("n_jobs", threads) is None):
        yield
        return
    estimator.set_params(n_jobs=threads)
    yield
    estimator.set_params(n_jobs=None)


def _pipeline(schema: FeatureSchema, estimator: Any) -> Any:
    """One-hot codes for categories, the median and a flag for missing numbers, unit variance; then the estimator."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    category = schema.categorical
    number = [place for place in range(len(schema.fields)) if place not in category]
    codes = OneHotEncoder(
        handle_unknown="infrequent_if_exist", sparse_output=False, max_categories=MOST_CATEGORIES, dtype=np.float64
    )
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    numbers = Pipeline([("impute", impute), ("scale", StandardScaler())])
    columns = ColumnTransformer([("category", codes, category), ("number", numbers, number)])
    return Pipeline([("columns", columns), ("estimator", estimator)])
