import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from stk_ml.statistics import metrics


@st.composite
def labelled(draw):
    """Labels of both classes with scores that have many ties."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, 2, n).astype(float)
    labels[:2] = 0, 1
    return labels, np.round(rng.uniform(size=n), draw(st.sampled_from([1, 2, 12])))


@settings(deadline=None, max_examples=150)
@given(labelled())
def test_binary_metrics_equal_scikit_learn(rows):
    labels, scores = rows
    assert metrics.auc(labels, scores) == pytest.approx(sk.roc_auc_score(labels, scores))
    assert metrics.average_precision(labels, scores) == pytest.approx(sk.average_precision_score(labels, scores))
    assert metrics.log_loss(labels, scores) == pytest.approx(sk.log_loss(labels, scores))
    assert metrics.brier(labels, scores) == pytest.approx(sk.brier_score_loss(labels, scores))


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 80), st.integers(0, 1000))
def test_regression_metrics_equal_scikit_learn(n, seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.normal(5, 3, n), rng.normal(5, 3, n)
    assert metrics.mae(labels, scores) == pytest.approx(sk.mean_absolute_error(labels, scores))
    assert metrics.rmse(labels, scores) == pytest.approx(sk.root_mean_squared_error(labels, scores))
    assert metrics.r2(labels, scores) == pytest.approx(sk.r2_score(labels, scores))


def test_calibration_error_is_the_mean_gap_over_equal_count_bins():
    rng = np.random.default_rng(3)
    scores = rng.uniform(size=1500)
    labels = (rng.uniform(size=1500) < scores).astype(float)
    chunks = np.array_split(np.argsort(scores), metrics.CALIBRATION_BINS)
    expected = sum(abs((labels[c] - scores[c]).sum()) for c in chunks) / 1500
    assert metrics.calibration_error(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["auc"])
def test_one_class_is_not_a_number(name):
    assert np.isnan(metrics.METRICS[name](np.ones(5), np.linspace(0, 1, 5)))
    assert np.isnan(metrics.METRICS[name](np.zeros(5), np.linspace(0, 1, 5)))


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_no_rows_is_not_a_number(name):
    assert np.isnan(metrics.METRICS[name](np.empty(0), np.empty(0)))


def test_r2_of_a_constant_target_is_not_a_number():
    assert np.isnan(metrics.r2(np.ones(5), np.arange(5.0)))


def test_probabilities_of_0_and_1_give_a_finite_log_loss():
    assert 30 < metrics.log_loss(np.array([1.0]), np.array([0.0])) < 40
    assert metrics.log_loss(np.array([1.0]), np.array([1.0])) == pytest.approx(0)


def test_equal_scores_share_a_bin_and_no_bin_is_empty():
    scores = np.repeat([0.1, 0.5, 0.9], [700, 10, 290])
    bins = metrics.equal_count_bins(scores, 10)
    assert all(len(set(bins[scores == value])) == 1 for value in (0.1, 0.5, 0.9))
    assert sorted(set(bins)) == list(range(bins.max() + 1))
    assert set(bins) == {0, 1, 2}
