"""Effects against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from stk_ml.artifact.profiling import number_profile
from stk_ml.monitoring.effects import Ruler, day_cells


def _cells(values: np.ndarray, made_from: np.ndarray) -> np.ndarray:
    both = np.concatenate([made_from, values])
    day = np.repeat([0, 1], [len(made_from), len(values)])
    return day_cells(number_profile("x", both, made_from, day, 2))


@pytest.mark.parametrize("shift", [0.05, 0.2, 0.8])
def test_the_binned_wasserstein_distance_is_near_that_of_the_rows(shift: float) -> None:
    rng = np.random.default_rng(0)
    then, now = rng.normal(size=20_000), rng.normal(size=20_000) + shift
    profile = number_profile("x", then, then, np.zeros(20_000, np.int64), 1)
    reference, window = _cells(now, then)
    quartiles = np.quantile(then, [0.25, 0.75])
    exact = wasserstein_distance(then, now) / (quartiles[1] - quartiles[0])
    assert Ruler(profile, "number", reference).effects(window, reference)[0] == pytest.approx(exact, rel=0.1)


def test_a_long_tail_does_not_drown_a_shift() -> None:
    rng = np.random.default_rng(0)
    then = np.exp(3 * rng.normal(size=20_000))
    profile = number_profile("x", then, then, np.zeros(20_000, np.int64), 1)
    reference, window = _cells(then * 1.3, then)
    assert 0.05 < Ruler(profile, "number", reference).effects(window, reference)[0] < 1.0


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 2.0]])
def test_numbers_with_few_values_have_a_unit(values: list[float]) -> None:
    then = np.tile(values, 100)
    profile = number_profile("x", then, then, np.zeros(len(then), np.int64), 1)
    reference, window = _cells(then + 10, then)
    ruler = Ruler(profile, "number", reference)
    assert np.isfinite(ruler.positions).all()
    assert np.diff(ruler.positions).min() >= 0
    found = ruler.effects(window, reference)
    assert found[0] > 0
    assert found[3] == 1.0


def test_equal_rows_have_no_effect_and_no_rows_neither() -> None:
    then = np.arange(100.0)
    profile = number_profile("x", then, then, np.zeros(100, np.int64), 1)
    reference = day_cells(profile)[0]
    ruler = Ruler(profile, "number", reference)
    assert ruler.effects(reference * 3, reference).tolist() == [0.0] * 4
    assert ruler.effects(reference * 0, reference).tolist() == [0.0] * 4
