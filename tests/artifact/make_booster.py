"""Rows, boosters of many kinds, and the columns of a model that is served."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from stk_ml.artifact.calibrator import Calibrator
from stk_ml.artifact.schema import FeatureField, FeatureSchema

Array = npt.NDArray[np.float64]
#: Codes of each category column.
LEVELS = {0: 4, 3: 40, 5: 90}


def rows(n: int, seed: int = 0) -> Array:
    """Eight columns: 0, 3 and 5 are categories, 1 is rounded, 2 holds NaN, 6 is mostly zero, 7 has a long tail."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 8))
    for column, levels in LEVELS.items():
        x[:, column] = random.integers(0, levels, n)
    x[:, 1] = np.round(x[:, 1] * 5)
    x[random.random((n, 8)) < 0.08] = np.nan
    x[:, 4], x[:, 1] = np.nan_to_num(x[:, 4]), np.nan_to_num(x[:, 1])
    x[random.random(n) < 0.8, 6] = 0.0
    x[:, 7] = np.exp(4 * x[:, 7])
    return x


def strange(n: int, seed: int = 1) -> Array:
    """Rows as no one should send them: huge, tiny and negative values, codes never seen, everything missing."""
    random = np.random.default_rng(seed)
    odd = [np.nan, -1, -0.5, 0.0, -0.0, 1e-36, 3, 39, 40, 63, 64, 89, 90, 95, 96, 1e3, 2.0**31, 1e300, np.inf, -np.inf]
    x = np.where(random.random((n, 8)) < 0.3, random.choice(odd, size=(n, 8)), rows(n, seed))
    x[0] = np.nan
    x[1] = -1
    return x


def train(rounds: int = 30, **parameters: Any) -> lightgbm.Booster:
    """A booster on :func:`rows`."""
    x = rows(3000)
    clean = np.nan_to_num(x)
    signal = clean[:, 1] / 5 + np.sin(clean[:, 2] * 2) + (clean[:, 3] % 3 == 1) + (clean[:, 5] % 5 == 2) * clean[:, 4]
    positive = parameters.get("objective") in ("poisson", "gamma", "tweedie")
    y = np.exp(signal / 2) if positive else signal
    if parameters.get("objective") in ("binary", "cross_entropy", "cross_entropy_lambda"):
        y = (signal > np.random.default_rng(2).normal(size=len(x))).astype(float)
    if "num_class" in parameters:
        y = np.digitize(signal, [0.0, 1.0]).astype(float)
    fixed = {
        "verbose": -1,
        "num_threads": 1,
        "seed": 1,
        "num_leaves": 31,
        "min_data_in_leaf": 5,
        "max_cat_threshold": 64,
    }
    data = lightgbm.Dataset(x, y, categorical_feature=list(LEVELS), params={"verbose": -1})
    return lightgbm.train({**fixed, **parameters}, data, rounds)


SCHEMA = FeatureSchema(
    tuple(
        FeatureField(f"c{column}", "category", tuple(f"v{code}" for code in range(LEVELS[column])))
        if column in LEVELS
        else FeatureField(f"n{column}", "number")
        for column in range(8)
    )
)
CALIBRATORS = {
    "none": Calibrator(),
    "sigmoid": Calibrator("sigmoid", {"slope": (1.3,), "intercept": (-0.2,)}),
    "isotonic": Calibrator("isotonic", {"x": (0.0, 0.3, 0.6, 1.0), "y": (0.05, 0.2, 0.7, 0.9)}),
}


def records(matrix: Array) -> list[dict[str, Any]]:
    """Rows as an application would send them."""
    return [
        {
            field.name: None if np.isnan(value) else (f"v{int(value)}" if field.type == "category" else float(value))
            for field, value in zip(SCHEMA.fields, row, strict=True)
        }
        for row in matrix
    ]


OBJECTIVES = [
    *("binary", "cross_entropy", "cross_entropy_lambda", "regression", "regression_l1", "huber", "fair", "quantile"),
    *("mape", "poisson", "gamma", "tweedie"),
]
