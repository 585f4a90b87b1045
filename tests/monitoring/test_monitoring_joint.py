"""The domain classifier: silent on one source, and telling on a change of correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from stk_ml.monitoring.joint import tell_apart

NAMES = ["a", "b", "c", "d"]


def _rows(rng: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    rows = rng.standard_normal((count, 4))
    rows[:, 1] = correlation * rows[:, 0] + np.sqrt(1 - correlation**2) * rows[:, 1]
    return rows


def test_a_change_of_correlation_alone_is_found_and_names_both_columns() -> None:
    rng = np.random.default_rng(1)
    found = tell_apart(NAMES, _rows(rng, 3000, 0.0), _rows(rng, 3000, 0.8), alpha=0.003)
    assert found.answer == "drift"
    assert set(found.columns) == {"a", "b"}


def test_one_source_is_no_drift() -> None:
    rng = np.random.default_rng(2)
    looks = [
        tell_apart(NAMES, _rows(rng, 600, 0.5), _rows(rng, 600, 0.5), alpha=0.05, floor=0.5, seed=k) for k in range(12)
    ]
    assert sum(look.answer == "drift" for look in looks) <= binom.ppf(0.995, 12, 0.05)


def test_few_rows_cannot_tell() -> None:
    rng = np.random.default_rng(3)
    found = tell_apart(NAMES, _rows(rng, 1000, 0.0), _rows(rng, 20, 0.0))
    assert (found.answer, found.columns) == ("insufficient", ())


@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_days_that_differ_are_taken_for_usual(shift: float) -> None:
    rng = np.random.default_rng(4)
    days = np.repeat(np.arange(40), 100)
    usual = rng.standard_normal((41, 1)) * 0.5
    then, now = _rows(rng, 4000, 0.0) + usual[days], _rows(rng, 100, 0.0) + 0.2
    now[:, 2] += 2 * shift
    assert (tell_apart(NAMES, then, now, days=days, alpha=0.01).answer == "drift") == (shift > 0)


def test_missing_numbers_and_unseen_categories_are_rows_like_others() -> None:
    rng = np.random.default_rng(5)
    then, now = _rows(rng, 1000, 0.0), _rows(rng, 1000, 0.0)
    now[:300, 2] = np.nan
    found = tell_apart(NAMES, then, now, alpha=0.01)
    assert (found.answer, found.columns[0]) == ("drift", "c")


def test_chance_is_not_told_apart_more_often_than_declared() -> None:
    looks = []
    for seed in range(80):
        rng = np.random.default_rng([7, seed])
        looks.append(tell_apart(NAMES, _rows(rng, 600, 0.5), _rows(rng, 300, 0.5), floor=0.5, seed=seed).answer)
    assert looks.count("drift") <= binom.ppf(0.995, 80, 0.05)


def test_a_day_of_many_rows_is_compared_with_single_days() -> None:
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng([11, seed])
        usual, days = rng.standard_normal((31, 4)) * 0.3, np.repeat(np.arange(30), 400)
        then, now = _rows(rng, 12_000, 0.0) + usual[days], _rows(rng, 4000, 0.0) + usual[30]
        alarms += tell_apart(NAMES, then, now, days=days, alpha=0.025, seed=seed).answer == "drift"
    assert alarms <= binom.ppf(0.995, 12, 0.025)
