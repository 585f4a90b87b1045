import itertools

import numpy as np
import pytest

from stk_ml.statistics.blocks import make_blocks
from stk_ml.statistics.calibration import debiased_error, reliability, wilson
from stk_ml.statistics.metrics import calibration_error

stats = pytest.importorskip("scipy.stats", reason="pip install scipy")


def drawn(n, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 5, n)
    return (rng.uniform(size=n) < scores).astype(float), scores


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (250, 1000)])
def test_wilson_equals_scipy(k, n):
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    found = wilson(k, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_table_has_equal_counts_and_covers_all_rows():
    labels, scores = drawn(5000)
    table = reliability(labels, scores)
    assert [one.rows for one in table] == [500] * 10
    assert all(one.high <= other.low for one, other in itertools.pairwise(table))
    assert sum(one.observed.low <= one.predicted <= one.observed.high for one in table) >= 8


def test_few_distinct_scores_give_few_bins():
    labels, scores = drawn(1000)
    table = reliability(labels, (scores > 0.3).astype(float))
    assert [(one.low, one.high) for one in table] == [(0.0, 0.0), (1.0, 1.0)]
    assert reliability(np.empty(0), np.empty(0)) == ()


def test_debiasing_takes_away_most_of_what_chance_adds():
    plain, debiased = [], []
    for seed in range(60):
        labels, scores = drawn(600, seed)
        plain.append(calibration_error(labels, scores))
        debiased.append(debiased_error(labels, scores, make_blocks(600)))
    assert np.mean(plain) > 0.04
    assert np.mean(debiased) < np.mean(plain) / 2


def test_debiasing_leaves_a_real_gap():
    labels, scores = drawn(5000)
    too_high = np.clip(scores + 0.15, 0, 1)
    assert debiased_error(labels, too_high, make_blocks(5000)) == pytest.approx(0.15, abs=0.02)
