from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.statistics import differences

COUNTS = st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


# Newcombe 1998, table II: method 10 for (56/70, 48/80), (9/10, 3/10), (10/10, 0/20) and (10/10, 0/10).
@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_published_intervals_come_out(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    found = differences.difference(differences.proportion(*first), differences.proportion(*second))
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(COUNTS, COUNTS, st.floats(0.5, 0.9999))
def test_an_interval_holds_its_estimate_and_turns_round_with_its_sides(
    a: tuple[int, int], b: tuple[int, int], level: float
) -> None:
    first, second = differences.proportion(*a, level), differences.proportion(*b, level)
    found, turned = differences.difference(first, second), differences.difference(second, first)
    assert found.low <= found.value <= found.high
    assert found.low == pytest.approx(-turned.high)
    assert found.high == pytest.approx(-turned.low)


@given(COUNTS, COUNTS)
def test_one_more_failure_moves_both_bounds_up(a: tuple[int, int], b: tuple[int, int]) -> None:
    successes, total = a
    if successes == total:
        return
    other = differences.proportion(*b)
    before = differences.difference(differences.proportion(successes, total), other)
    after = differences.difference(differences.proportion(successes + 1, total), other)
    assert after.low >= before.low - 1e-12
    assert after.high >= before.high - 1e-12


def test_nothing_seen_bounds_nothing() -> None:
    assert differences.proportion(0, 0) == differences.Interval(0.0, 0.0, 1.0)
    assert differences.mean(0.0, 0.0, 0).high == math.inf
    assert differences.mean(3.0, 9.0, 1).low == -math.inf
    assert differences.ranks(0.95, 0) == (-math.inf, math.inf)


def test_the_intervals_cover_as_often_as_they_say() -> None:
    rng, times = np.random.default_rng(0), 2000
    errors = zip(rng.binomial(2000, 0.02, times), rng.binomial(300, 0.03, times), strict=True)
    inside = [
        (found := differences.difference(differences.proportion(int(b), 300), differences.proportion(int(a), 2000))).low
        <= 0.01
        <= found.high
        for a, b in errors
    ]
    assert 0.94 < np.mean(inside) < 0.97
    values = np.sort(rng.lognormal(size=(times, 400)), axis=1)
    low, high = differences.ranks(0.95, 400)
    truth = math.exp(1.6448536)
    covered = (values[:, math.floor(low * 400) - 1] <= truth) & (truth <= values[:, math.ceil(high * 400) - 1])
    assert 0.94 < covered.mean() < 0.98
