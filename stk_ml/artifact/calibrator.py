"""From a learner's score to a probability, as numbers that any language can apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

#: Scores are kept this far from 0 and 1 before their log-odds are taken.
EPSILON = 1e-12


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibration.

    Attributes:
        kind: ``none``, ``sigmoid`` (Platt 1999, on log-odds) or ``isotonic`` (Zadrozny and Elkan 2002).
        parameters: sigmoid: ``slope`` and ``intercept``, one number each; isotonic: ``x`` (rising) and ``y``, between
            which is interpolated linearly.

    Example:
        >>> Calibrator("sigmoid", {"slope": (1.0,), "intercept": (0.0,)}).apply(np.array([0.25, 0.5])).round(6).tolist()
        [0.25, 0.5]
        >>> Calibrator("isotonic", {"x": (0.0, 1.0), "y": (0.2, 0.4)}).apply(np.array([0.5])).round(6).tolist()
        [0.3]
    """

    kind: Literal["none", "sigmoid", "isotonic"] = "none"
    parameters: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def apply(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of raw scores; the scores themselves when ``kind`` is none."""
        if self.kind == "sigmoid":
            (slope,), (intercept,) = self.parameters["slope"], self.parameters["intercept"]
            return expit(slope * logit(raw) + intercept)
        if self.kind == "isotonic":
            return np.interp(raw, self.parameters["x"], self.parameters["y"])
        return np.asarray(raw, dtype=np.float64)


def logit(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log-odds of probabilities, finite also at 0 and 1."""
    inside = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def expit(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities of log-odds, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)), dtype=np.float64)
