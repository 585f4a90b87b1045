"""Fits the calibration of a binary model on scores of rows that it was not fitted on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stk_ml.artifact.calibrator import Calibrator, logit
from stk_ml.errors import LabelError
from stk_ml.model_spec import ModelSpec


def calibrate(spec: ModelSpec, raw: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Calibrator:
    """The calibrator that the model's file asks for; ``none`` for a regression.

    Sigmoid is Platt scaling on log-odds with Platt's (1999) smoothed targets; isotonic is pool adjacent violators.

    Args:
        spec: the model; its ``problem`` and ``calibration``.
        raw: out-of-sample scores, probabilities.
        y: 0 or 1 of the same rows.

    Raises:
        LabelError: those rows are of one class only.
    """
    if spec.problem != "binary" or spec.calibration == "none":
        return Calibrator()
    positives = float(y.sum())
    if positives in (0.0, float(len(y))):
        raise LabelError(
            f"all {len(y)} validation rows are of one class, so scores cannot be calibrated",
            hint="choose a longer validation period, or calibration: none",
        )
    if spec.calibration == "isotonic":
        return _isotonic(raw, y)
    return _sigmoid(raw, y, positives)


def _sigmoid(raw: npt.NDArray[np.float64], y: npt.NDArray[np.float64], positives: float) -> Calibrator:
    from sklearn.linear_model import LogisticRegression

    # Platt's targets (N+ + 1)/(N+ + 2) and 1/(N- + 2): each row counts for both classes, by weight.
    high, low = (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2)
    weight = np.where(y == 1, high, low)
    odds = logit(raw)[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(np.concatenate([odds, odds]), np.repeat([1, 0], len(y)), np.concatenate([weight, 1 - weight]))
    return Calibrator("sigmoid", {"slope": (float(model.coef_[0, 0]),), "intercept": (float(model.intercept_[0]),)})


def _isotonic(raw: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, y)
    x, steps = model.X_thresholds_, model.y_thresholds_
    return Calibrator("isotonic", {"x": tuple(map(float, x)), "y": tuple(map(float, steps))})
