"""How much each feature matters to a model: share of the split gain, and mean absolute effect on the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stk_ml.artifact.calibrator import logit
from stk_ml.contracts import Importance

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel

Floats = NDArray[np.float64]
_FEWEST, _MOST = 100, 2000
#: TreeSHAP takes about 4 ns per row, tree and squared number of leaves: this many are about half a second.
_WORK = 125_000_000


def importances(model: TrainedModel, table: pa.Table, *, seed: int = 0) -> tuple[Importance, ...]:
    """Importance of every feature, the most important by effect first.

    LightGBM: mean absolute SHAP value (log-odds or target units) of a sample of rows; the larger the ensemble, the
    fewer, because exact SHAP values are slow. Other learners: mean absolute change of the score (same units) when the
    column is shuffled; their gain is the share of ``feature_importances_`` or absolute ``coef_``, and 0 without either.

    Args:
        model: the model.
        table: rows to explain, such as the test rows; they may hold other columns.
        seed: of the sample and of the shuffling.
    """
    rows = min(sample_size(model), table.num_rows)
    chosen = np.sort(np.random.default_rng(seed).choice(table.num_rows, rows, replace=False))
    sample = model.schema.select(table).take(pa.array(chosen))
    if model.kind == "lightgbm":
        gain, effect = model.gains(), np.abs(model.contributions(sample)[:, :-1]).mean(axis=0) if rows else None
    else:
        gain, effect = _estimator_gain(model), _shuffled(model, sample, seed) if rows else None
    effect = np.zeros(len(model.features)) if effect is None else effect
    order = np.lexsort((-gain, -effect))
    return tuple(Importance(model.features[k], float(gain[k]), float(effect[k])) for k in order)


def sample_size(model: TrainedModel) -> int:
    """Rows to explain: 100 to 2,000, by the size of the ensemble and never by the clock, so that it is repeatable."""
    if model.kind != "lightgbm":
        return _MOST
    leaves = float(model.document.parameters.get("num_leaves", 31))
    return int(np.clip(_WORK / max(model.document.iterations * leaves**2, 1), _FEWEST, _MOST))


def _shuffled(model: TrainedModel, sample: pa.Table, seed: int) -> Floats:
    """Mean absolute change of the score of each feature's shuffling."""
    encoded = model.schema.encode(sample)
    as_score = logit if model.problem == "binary" else np.asarray
    usual = as_score(model.scorer.raw(encoded))
    order = pa.array(np.random.default_rng(seed).permutation(sample.num_rows))
    effect = np.zeros(encoded.num_columns)
    for place, name in enumerate(encoded.column_names):
        shuffled = encoded.set_column(place, name, encoded.column(place).take(order))
        effect[place] = np.abs(as_score(model.scorer.raw(shuffled)) - usual).mean()
    return effect


def _estimator_gain(model: TrainedModel) -> Floats:
    estimator: Any = getattr(model.scorer, "estimator", None)
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    found = getattr(last, "feature_importances_", getattr(last, "coef_", None))
    none = np.zeros(len(model.features))
    if found is None:
        return none
    gain = np.abs(np.asarray(found, dtype=np.float64)).reshape(-1)
    return gain / gain.sum() if gain.size == none.size and gain.sum() > 0 else none
