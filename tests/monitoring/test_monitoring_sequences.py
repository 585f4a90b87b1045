import numpy as np
import pytest

from stk_ml.monitoring.sequences import asymptotic, empirical_bernstein, reach

YEARS, LOOKS = 400, 365


def _missed(bounds, draw, mean, looks=LOOKS):
    """Share of simulated years in which any look's interval misses the mean."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(YEARS):
        lows, highs = bounds(draw(rng, looks))
        missed += bool((lows > mean).any() or (highs < mean).any())
    return missed / YEARS


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, n: rng.beta(2, 8, n), 0.2),
        (lambda rng, n: (rng.uniform(size=n) < 0.5).astype(float), 0.5),
        (lambda rng, n: (rng.uniform(size=n) < 0.05).astype(float), 0.05),
    ],
)
def test_empirical_bernstein_covers_at_every_look_together(draw, mean):
    assert _missed(empirical_bernstein, draw, mean) <= 0.05


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, n: rng.normal(3, 2, n), 3),
        (lambda rng, n: rng.exponential(1, (n, 50)).mean(axis=1), 1),
        (lambda rng, n: rng.standard_t(5, n), 0),
    ],
)
def test_asymptotic_covers_at_every_look_together(draw, mean):
    assert _missed(asymptotic, draw, mean) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / YEARS)


def test_an_ordinary_interval_looked_at_daily_does_not_cover():
    def ordinary(values):
        count = np.arange(1, values.size + 1)
        means = np.cumsum(values) / count
        return np.where(count < 5, -np.inf, means - 1.96 / np.sqrt(count)), means + 1.96 / np.sqrt(count)

    assert _missed(ordinary, lambda rng, n: rng.normal(size=n), 0) > 0.25


def test_a_sequence_gets_narrow():
    values = np.random.default_rng(1).normal(10, 1, 1000)
    lows, highs = asymptotic(values)
    assert highs[-1] - lows[-1] < 0.25
    lows, highs = empirical_bernstein(values, low=0, high=20)
    assert highs[-1] - lows[-1] < 0.4


def test_bounds_of_bounded_values_never_get_wider():
    lows, highs = empirical_bernstein(np.random.default_rng(2).uniform(size=500))
    assert np.diff(lows).min() >= 0
    assert np.diff(highs).max() <= 0


def test_a_value_outside_its_bounds_is_refused():
    with pytest.raises(ValueError, match=r"from 0\.5 to 1\.5 are not all within 0 and 1"):
        empirical_bernstein(np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="nan"):
        empirical_bernstein(np.array([0.5, np.nan]))


def test_no_values_have_no_bounds():
    assert [bounds.size for bounds in empirical_bernstein(np.empty(0))] == [0, 0]
    assert [bounds.size for bounds in asymptotic(np.empty(0))] == [0, 0]


def test_the_reach_is_least_in_ordinary_standard_errors_where_it_was_asked_to_be():
    reaches = {count: reach(count, best=1000) for count in (100, 1000, 10_000)}
    assert min(reaches, key=reaches.get) == 1000
