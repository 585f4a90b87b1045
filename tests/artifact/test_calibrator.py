"""Calibrators are pure numbers: monotone, inside 0 and 1, finite at the ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.artifact.calibrator import Calibrator, expit, logit

SIGMOID = Calibrator("sigmoid", {"slope": (1.3,), "intercept": (-0.4,)})
ISOTONIC = Calibrator("isotonic", {"x": (0.1, 0.5, 0.9), "y": (0.0, 0.4, 1.0)})


@pytest.mark.parametrize("calibrator", [Calibrator(), SIGMOID, ISOTONIC])
@given(scores=st.lists(st.floats(0, 1), min_size=1))
def test_probabilities_stay_in_range_and_in_order(calibrator: Calibrator, scores: list[float]) -> None:
    raw = np.sort(np.array([*scores, 0.0, 1.0]))
    found = calibrator.apply(raw)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert (np.diff(found) >= -1e-12).all()


def test_isotonic_interpolates_and_holds_its_ends() -> None:
    np.testing.assert_allclose(ISOTONIC.apply(np.array([0.0, 0.3, 0.7, 1.0])), [0, 0.2, 0.7, 1])


def test_log_odds_and_probabilities_are_inverse() -> None:
    p = np.linspace(0.001, 0.999, 99)
    np.testing.assert_allclose(expit(logit(p)), p, rtol=1e-9)
