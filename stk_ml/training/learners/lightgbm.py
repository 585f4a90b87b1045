"""LightGBM, straight from Arrow: native categories and missing values, early stopping, refit."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from stk_ml.artifact.scorer import BoosterScorer
from stk_ml.contracts import Problem
from stk_ml.errors import UsageError, closest
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.learners.protocol import Array, Learned, LearningData

#: The most rounds when the file does not say: with early stopping, and without.
ROUNDS = {True: 1000, False: 100}
_FEW = 1000
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_OBJECTIVES = {
    "binary": ("binary", "cross_entropy"),
    "regression": ("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie"),
}
#: Parameters that the model's file sets elsewhere, or that would reach outside of what is read and written.
_OURS = {
    "seed": "learner.seed",
    "num_threads": "learner.threads",
    "early_stopping_round": "learner.early_stopping",
    "categorical_feature": "columns of type category",
    **dict.fromkeys(("task", "data", "valid", "config", "input_model", "output_model", "num_class"), ""),
    **dict.fromkeys(("machines", "machine_list_filename", "num_machines", "label_column", "ignore_column"), ""),
    **dict.fromkeys(("weight_column", "group_column", "snapshot_freq", "forcedbins_filename", "linear_tree"), ""),
}


class LightGbmLearner:
    """See :class:`stk_ml.training.learners.protocol.Learner`. Deterministic on one machine and LightGBM version."""

    def learn(self, spec: LearnerSpec, data: LearningData, progress: Callable[[float], None]) -> Learned:
        """Fits on the training rows, stops on the validation rows, and fits again on both when the file says so."""
        import lightgbm

        lightgbm.register_logger(_Silent())
        params, rounds = parameters(spec, data.problem)
        share = 0.5 if spec.refit else 1.0
        try:
            _try(params, data)
            remembered = _Remember()
            booster = _train(spec, params, rounds, data, remembered, lambda done: progress(done * share))
            found = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
            scores = remembered.scores(found)
            if scores is None:
                scores = BoosterScorer(booster, spec.threads).raw(data.validation)
            if spec.refit:
                booster = lightgbm.train(
                    params,
                    _dataset(*data.both(), data.schema.categorical),
                    num_boost_round=found,
                    callbacks=[_Progress(lambda done: progress(share + done * share))],
                )
        except lightgbm.basic.LightGBMError as error:
            raise UsageError(
                f"LightGBM refuses learner.params {spec.params}: {error}", hint="its parameters: see LightGBM's docs"
            ) from error
        text = booster.model_to_string(num_iteration=found)
        final = lightgbm.Booster(model_str=text)
        return Learned(
            scorer=BoosterScorer(final, spec.threads),
            kind="lightgbm",
            validation_scores=scores,
            objective=str(params["objective"]),
            iterations=found,
            parameters=params,
        )


def parameters(spec: LearnerSpec, problem: Problem) -> tuple[dict[str, Any], int]:
    """LightGBM's parameters under their main names, and the most rounds.

    Raises:
        UsageError: a parameter is unknown to LightGBM, ours to set, or given under two names.
    """
    aliases = _aliases()
    params: dict[str, Any] = {}
    for given, value in spec.params.items():
        name = aliases.get(given)
        if name is None:
            raise UsageError(f"learner.params: LightGBM has no parameter {given!r}", hint=closest(given, aliases))
        if name in _OURS:
            where = f"set {_OURS[name]}" if _OURS[name] else "it has no place in a model's file"
            raise UsageError(f"learner.params may not hold {given!r}: {where}")
        if name in params:
            raise UsageError(f"learner.params gives {name!r} twice, once as {given!r}")
        params[name] = value
    rounds = params.pop("num_iterations", ROUNDS[spec.early_stopping > 0])
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise UsageError(f"learner.params: the number of rounds must be a whole number from 1, not {rounds!r}")
    objective = params.setdefault("objective", _OBJECTIVES[problem][0])
    if objective not in _OBJECTIVES[problem]:
        raise UsageError(
            f"learner.params: objective {objective!r} does not fit a {problem} model",
            hint=closest(str(objective), _OBJECTIVES[problem]),
        )
    fixed = {"seed": spec.seed, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    if "force_col_wise" in params:
        fixed.pop("force_row_wise")
    return {**fixed, **params, "num_threads": spec.threads}, rounds


def _try(params: Mapping[str, Any], data: LearningData) -> None:
    """Fits one round on a few rows, so that a wrong value is told at once and not printed by the C library too."""
    import lightgbm

    few = _dataset(data.train.slice(0, _FEW), data.train_target[:_FEW], data.schema.categorical)
    with _muted():
        lightgbm.train(dict(params), few, num_boost_round=1)


@contextmanager
def _muted() -> Iterator[None]:
    """Turns standard error away for a moment: LightGBM's C code writes each refusal to it, past every logger."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _train(
    spec: LearnerSpec,
    params: Mapping[str, Any],
    rounds: int,
    data: LearningData,
    remembered: _Remember,
    progress: Callable[[float], None],
) -> Any:
    import lightgbm

    train = _dataset(data.train, data.train_target, data.schema.categorical)
    callbacks: list[Any] = [_Progress(progress)]
    if not spec.early_stopping:
        return lightgbm.train(dict(params), train, num_boost_round=rounds, callbacks=callbacks)
    callbacks += [remembered, lightgbm.early_stopping(spec.early_stopping, verbose=False)]
    return lightgbm.train(
        dict(params),
        train,
        num_boost_round=rounds,
        valid_sets=[train.create_valid(_plain(data.validation), label=data.validation_target)],
        feval=remembered.feval,
        callbacks=callbacks,
    )


class _Remember:
    """Keeps the validation scores of each metric's best round: LightGBM has them at hand, and scoring takes seconds."""

    order = 25  # before early stopping, which leaves the loop by an exception
    before_iteration = False

    def __init__(self) -> None:
        self._newest: Array = np.empty(0)
        self._best: dict[str, tuple[float, int, Array]] = {}

    def feval(self, scores: Array, validation: Any) -> list[Any]:
        """Called by LightGBM after each round; no metric of ours."""
        self._newest = scores.copy()
        return []

    def scores(self, rounds: int) -> Array | None:
        """The validation scores after so many rounds, if they were kept."""
        return next((kept for _, at, kept in self._best.values() if at == rounds), None)

    def __call__(self, state: Any) -> None:
        for _, metric, value, higher_is_better, *_ in state.evaluation_result_list:
            better = value if higher_is_better else -value
            if metric not in self._best or better > self._best[metric][0]:
                self._best[metric] = better, state.iteration + 1, self._newest


def _dataset(table: pa.Table, target: Array, categorical: list[int]) -> Any:
    import lightgbm

    return lightgbm.Dataset(_plain(table), label=target, categorical_feature=categorical, free_raw_data=True)


def _plain(table: pa.Table) -> pa.Table:
    """The table under names that LightGBM takes: it refuses quotes and brackets; what counts for us is the place."""
    names = table.column_names
    return table.rename_columns([name if _PLAIN.fullmatch(name) else f"column-{n}" for n, name in enumerate(names)])


def _aliases() -> dict[str, str]:
    """Every name that LightGBM knows for a parameter, with its main name."""
    from lightgbm.basic import _ConfigAliases

    known: Mapping[str, list[str]] = _ConfigAliases._get_all_param_aliases()
    return {alias: name for name, aliases in known.items() for alias in (name, *aliases)}


class _Progress:
    """Tells the share of rounds done, at most a hundred times."""

    order = 20
    before_iteration = False

    def __init__(self, tell: Callable[[float], None]) -> None:
        self.tell = tell

    def __call__(self, state: Any) -> None:
        done, rounds = state.iteration - state.begin_iteration + 1, state.end_iteration - state.begin_iteration
        if done == rounds or done % max(1, rounds // 100) == 0:
            self.tell(done / rounds)


class _Silent:
    """Takes LightGBM's log; what matters it raises."""

    def info(self, message: str) -> None:
        """Says nothing."""

    def warning(self, message: str) -> None:
        """Says nothing."""
