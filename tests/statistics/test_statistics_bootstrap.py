import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.contracts import Interval
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import make_blocks, resample_weights
from stk_ml.statistics.bootstrap import difference_samples, interval, metric_interval, resampler, student_quantile
from stk_ml.statistics.concordance import concordance

scipy_stats = pytest.importorskip("scipy.stats", reason="pip install scipy")


def sample(n, seed=0, decimals=12, days=20):
    """Binary labels with scores that know something of them, and a day for each row."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=n) < 0.3).astype(float)
    scores = np.round(1 / (1 + np.exp(1 - 1.5 * labels - rng.normal(size=n))), decimals)
    return labels, scores, np.datetime64("2013-07-01") + rng.integers(0, days, n)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 7), st.sampled_from([1, 2, 12]), st.integers(0, 1000))
def test_concordance_counts_every_pair_of_blocks(n, count, decimals, seed):
    labels, scores, _ = sample(n, seed, decimals)
    index = np.random.default_rng(seed).integers(0, count, n)
    expected = np.zeros((count, count))
    for p in np.flatnonzero(labels == 1):
        for q in np.flatnonzero(labels == 0):
            expected[index[p], index[q]] += (scores[p] > scores[q]) + 0.5 * (scores[p] == scores[q])
    assert np.array_equal(concordance(labels, scores, index, count), expected)


def test_concordance_is_exact_across_chunks_and_ties():
    labels, scores, _ = sample(30_000, seed=4, decimals=3)
    pairs = concordance(labels, scores, np.zeros(30_000, np.intp), 1)
    assert pairs[0, 0] / (labels.sum() * (1 - labels).sum()) == pytest.approx(metrics.auc(labels, scores), abs=1e-14)


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
@pytest.mark.parametrize("decimals", [2, 12])
def test_a_resample_equals_the_metric_of_its_repeated_rows(name, decimals):
    labels, scores, times = sample(3000, decimals=decimals)
    if name in ("mae", "rmse", "r2"):
        labels = labels + np.random.default_rng(1).normal(size=labels.size)
    blocks = make_blocks(3000, times)
    weights = resample_weights(blocks.count, 5, seed=1)
    found = resampler(name, labels, scores, blocks)(weights)
    for w, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(3000), w[blocks.index].astype(int))
        exact = metrics.METRICS[name](labels[rows], scores[rows])
        # Average precision reads its curve at bins, and the bins of the calibration error stay those of all rows.
        tolerance = {"average_precision": 0.004, "calibration_error": 0.01}.get(name, 1e-10)
        assert value == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_weights_of_one_give_the_metric_itself(name):
    labels, scores, times = sample(2000, seed=2)
    blocks = make_blocks(2000, times)
    found = resampler(name, labels, scores, blocks)(np.ones((1, blocks.count)))[0]
    assert found == pytest.approx(metrics.METRICS[name](labels, scores), abs=1e-12)


def test_the_order_of_the_rows_does_not_matter():
    labels, scores, times = sample(2000, seed=3, decimals=2)
    order = np.random.default_rng(0).permutation(2000)
    one = metric_interval("auc", labels, scores, make_blocks(2000, times))
    other = metric_interval("auc", labels[order], scores[order], make_blocks(2000, times[order]))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)


def test_an_undefined_metric_has_no_interval():
    blocks = make_blocks(50)
    assert metric_interval("auc", np.ones(50), np.linspace(0, 1, 50), blocks) is None
    assert metric_interval("brier", np.ones(50), np.linspace(0, 1, 50), blocks) is not None


def test_resamples_without_positives_are_left_out():
    labels = np.zeros(300)
    labels[7] = 1.0
    found = metric_interval("auc", labels, np.linspace(0, 1, 300), make_blocks(300), resamples=500)
    assert found is not None
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("name", ["auc", "brier", "average_precision", "calibration_error", "log_loss", "r2"])
def test_no_interval_leaves_the_range_of_its_metric(name):
    labels, _, times = sample(60, days=6)
    scores = np.clip(labels + np.random.default_rng(0).normal(0, 0.25, 60), 0.01, 0.99)
    found = metric_interval(name, labels, scores, make_blocks(60, times))
    assert found.low >= 0 or name == "r2"
    assert found.low <= found.value <= found.high
    assert found.high <= 1 or name == "log_loss"


def day_effects(rng, days, rows):
    """Rows whose errors share a day effect, so that n rows say less than n."""
    of = np.repeat(np.arange(days), rows)
    return of, rng.normal(0, 0.5, days)[of] + rng.normal(0, 1, of.size)


@pytest.mark.parametrize("days", [8, 12, 60])
def test_intervals_of_a_mean_cover_in_spite_of_day_effects(days):
    rng, covered, trials = np.random.default_rng(5), 0, 400
    for trial in range(trials):
        of, noise = day_effects(rng, days, 20)
        times = np.datetime64("2013-01-01") + of
        found = metric_interval("mae", 3.0 + noise, np.zeros(of.size), make_blocks(of.size, times), seed=trial)
        covered += found.low <= 3.0 + 0.0008 <= found.high  # mean |3 + noise| of sd sqrt(1.25)
    assert 0.92 <= covered / trials <= 0.985


def test_intervals_of_the_auc_cover():
    rng, covered, trials = np.random.default_rng(6), 0, 300
    truth = scipy_stats.norm.cdf(1 / np.sqrt(2))
    for trial in range(trials):
        labels = (rng.uniform(size=800) < 0.3).astype(float)
        scores = labels + rng.normal(size=800)
        found = metric_interval("auc", labels, scores, make_blocks(800), resamples=500, seed=trial)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / trials <= 0.98


def test_paired_differences_are_narrower_than_unpaired_ones():
    labels, scores, times = sample(4000, seed=8)
    blocks = make_blocks(4000, times)
    other = np.clip(scores + np.random.default_rng(1).normal(0, 0.02, 4000), 0, 1)
    value, samples = difference_samples("auc", labels, other, scores, blocks)
    paired = interval(value, samples, blocks.count)
    alone = metric_interval("auc", labels, scores, blocks)
    assert paired.high - paired.low < (alone.high - alone.low) / 3


@pytest.mark.parametrize("name", ["log_loss", "brier", "mae", "rmse"])
def test_a_smaller_loss_is_a_positive_difference(name):
    labels, scores, _ = sample(500)
    value, samples = difference_samples(name, labels, (labels + scores) / 2, scores, make_blocks(500))
    assert value > 0
    assert samples.min() > 0


def test_student_quantiles_equal_scipy():
    for share in (0.9, 0.975, 0.995):
        for freedom in (5, 9, 30, 200):
            assert student_quantile(share, freedom) == pytest.approx(scipy_stats.t.ppf(share, freedom), rel=0.01)


def test_no_finite_resample_leaves_the_value_alone():
    assert interval(0.5, np.full(10, np.nan), 5) == Interval(0.5, 0.5, 0.5, 0.95)


def test_days_are_the_blocks():
    times = np.datetime64("2013-01-01T12:00") + np.arange(30).astype("timedelta64[h]") * 12
    blocks = make_blocks(30, times)
    assert (blocks.kind, blocks.count) == ("days", 16)
    assert blocks.index.tolist() == [0, *np.repeat(np.arange(1, 15), 2).tolist(), 15]


def test_many_days_are_joined():
    blocks = make_blocks(2000, np.datetime64("2010-01-01") + np.arange(2000))
    assert blocks.kind == "spans of 8 days"
    assert blocks.count == 250


def test_few_days_are_cut_into_pieces_in_time_order():
    times = np.datetime64("2013-01-01T00:00") + np.arange(320).astype("timedelta64[m]")
    blocks = make_blocks(320, times[::-1])
    assert (blocks.kind, blocks.count) == ("consecutive pieces", 32)
    assert blocks.index[-10:].tolist() == [0] * 10


def test_one_instant_or_no_time_is_grouped_at_random_by_seed():
    same = make_blocks(1000, np.full(1000, np.datetime64("2013-01-01")), seed=3)
    none = make_blocks(1000, seed=3)
    assert same.kind == none.kind == "random groups"
    assert np.array_equal(same.index, none.index)
    assert sorted(set(np.bincount(none.index))) == [3, 4]


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_few_rows_are_no_obstacle(rows):
    times = np.datetime64("2013-01-01") + np.arange(rows)
    for blocks in (make_blocks(rows), make_blocks(rows, times)):
        assert blocks.index.size == rows
        assert blocks.count >= 1
