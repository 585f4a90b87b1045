import json

import msgspec
import numpy as np
import pytest

from stk_ml.contracts import Interval
from stk_ml.monitor_state import PerformanceFinding
from stk_ml.monitoring.maturity import Predictions, learn_delays
from stk_ml.monitoring.performance import assess
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import make_blocks
from stk_ml.statistics.bootstrap import metric_interval
from stk_ml.statistics.weighted import estimate

DAY = 86400.0
NOW = 60 * DAY
REFERENCE = {"auc": 0.7215, "log_loss": 0.5279, "brier": 0.1743, "calibration_error": 0.005}


def _reference(width=0.002, **values):
    return {name: Interval(value, value - width, value + width) for name, value in (values or REFERENCE).items()}


def _made(seed=0, days=60, rows=500, concept=0.0, spread=0.0):
    """Calibrated scores, positives labelled later than negatives; ``concept`` takes the meaning out of the scores."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(NOW - days * DAY, NOW, days * rows))
    scores = rng.beta(2, 5, times.size)
    level = rng.normal(0, spread, 60)[(times // DAY).astype(int)] if spread else 0.0
    chance = np.clip(scores + concept * (0.3 - scores) + level, 0, 1)
    outcomes = (rng.uniform(size=times.size) < chance).astype(float)
    delay = np.where(outcomes > 0, rng.gamma(4, DAY, times.size), rng.uniform(0.1, 1, times.size) * DAY)
    return Predictions(times, scores, outcomes, times + delay)


def _assess(truth, reference=None, **more):
    seen = truth.at(NOW)
    delays = learn_delays(seen, NOW, binary=True, horizon=15 * DAY)
    found = assess("binary", seen, delays, reference or _reference(), NOW, **more)
    return {(finding.metric, finding.source): finding for finding in found}


def test_a_model_as_good_as_it_was_is_not_worse():
    found = _assess(_made())
    assert len(found) == 8
    assert all(finding.worse is not True for finding in found.values())
    assert found["auc", "measured"].worse is False
    assert found["auc", "measured"].rows < found["auc", "corrected"].rows
    assert found["auc", "measured"].matured > 0.99 > found["auc", "corrected"].matured


def test_a_model_that_lost_its_meaning_is_worse():
    found = _assess(_made(concept=0.5))
    assert found["auc", "measured"].worse is True
    assert found["auc", "corrected"].worse is True
    assert found["calibration_error", "measured"].worse is True


def test_too_few_labels_cannot_tell():
    assert _assess(_made(concept=0.5), min_rows=10**6)["auc", "measured"].worse is None


def test_a_reference_from_few_rows_makes_it_harder_to_be_worse():
    truth = _made(concept=0.2, rows=200)
    assert _assess(truth)["auc", "measured"].worse is True
    assert _assess(truth, _reference(0.1))["auc", "measured"].worse is None


def test_corrected_metrics_have_at_most_a_fifth_of_the_naive_bias():
    """Mean over repetitions, of predictions of the last ten days."""
    biases = {metric: [] for metric in ("auc", "log_loss", "brier")}
    for seed in range(6):
        truth = _made(seed, rows=2000)
        seen = truth.at(NOW)
        delays = learn_delays(seen, NOW, binary=True, horizon=15 * DAY)
        young = seen.times > NOW - 10 * DAY
        found = {
            f.metric: f
            for f in assess("binary", seen.take(young), delays, _reference(), NOW)
            if f.source == "corrected"
        }
        old = young & (NOW - seen.times >= delays.correctable)
        for metric, values in biases.items():
            of = metrics.METRICS[metric]
            true = of(truth.outcomes[old], truth.scores[old])
            labelled = old & seen.labelled
            values.append((of(seen.outcomes[labelled], seen.scores[labelled]) - true, found[metric].value.value - true))
    for metric in ("log_loss", "brier"):
        naive, corrected = np.abs(np.mean(biases[metric], axis=0))
        assert corrected <= naive / 5, metric
    assert abs(np.mean(biases["auc"], axis=0)[1]) < 0.005


def test_a_correction_that_cannot_be_trusted_is_muted_and_never_worse():
    truth = _made(concept=0.8)
    late = truth.times > NOW - 10 * DAY
    changed = Predictions(
        truth.times, truth.scores, truth.outcomes, np.where(late, truth.times + 0.05 * DAY, truth.known)
    )
    seen = changed.at(NOW)
    delays = learn_delays(seen, NOW, binary=True, horizon=15 * DAY)
    found = assess("binary", seen.take(seen.times > NOW - 8 * DAY), delays, _reference(), NOW)
    assert {finding.source for finding in found} == {"corrected"}
    assert all("the delay changed" in finding.muted and finding.worse is None for finding in found)


def test_fewer_than_five_days_are_no_sign_of_decay_however_many_rows():
    made = _made(days=40)
    bad = Predictions(made.times, made.scores, 1.0 - made.outcomes, made.known)
    newest = bad.at(NOW).take(bad.at(NOW).times > NOW - 4 * DAY)
    delays = learn_delays(bad.at(NOW), NOW, binary=True, horizon=DAY)
    assert assess("binary", newest, delays, _reference(), NOW) == ()


def test_findings_are_a_contract_that_is_read_back():
    for finding in _assess(_made(days=3)).values():
        text = msgspec.json.encode(finding)
        assert msgspec.json.decode(text, type=PerformanceFinding) == finding
        assert "null" not in json.dumps(json.loads(text)["value"])


def test_regression_is_judged_by_its_errors():
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, NOW, 20_000))
    scores = rng.uniform(0, 10, times.size)
    truth = Predictions(times, scores, scores + rng.normal(0, 2, times.size), times + DAY)
    reference = _reference(0.01, mae=1.3, rmse=2.0)
    delays = learn_delays(truth.at(NOW), NOW, binary=False, horizon=2 * DAY)
    found = {f.metric: f for f in assess("regression", truth.at(NOW), delays, reference, NOW) if f.source == "measured"}
    assert found["mae"].value.value == pytest.approx(1.596, abs=0.03)
    assert (found["mae"].worse, found["rmse"].worse) == (True, False)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_daily_looks_of_a_year_are_seldom_wrong(spread):
    """A model exactly at its reference, with days that differ, looked at every third day: never shown to be worse."""
    reference = _reference(1e-9, brier=metrics.brier(*_outcomes(_made(99, rows=20_000, spread=spread))))
    wrong = 0
    for seed in range(60):
        truth = _made(seed, rows=60, spread=spread)
        alarmed = False
        for day in range(20, 61, 3):
            seen = truth.at(day * DAY)
            delays = learn_delays(seen, day * DAY, binary=True, horizon=10 * DAY)
            found = assess("binary", seen, delays, reference, day * DAY, tolerances={"brier": 0.0}, resamples=200)
            alarmed |= any(finding.worse is True for finding in found if finding.source == "measured")
        wrong += alarmed
    assert wrong <= 60 * 0.05 + 2


def _outcomes(truth):
    return truth.outcomes, truth.scores


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier", "mae", "rmse"])
def test_a_weight_of_two_is_the_row_twice(metric):
    rng = np.random.default_rng(2)
    scores, labels = rng.uniform(size=300).round(2), (rng.uniform(size=300) < 0.4).astype(float)
    twice = np.repeat([1, 2], 150)
    repeated = metrics.METRICS[metric](np.repeat(labels, twice), np.repeat(scores, twice))
    assert estimate(metric, labels, scores, make_blocks(300), twice.astype(float)).value == pytest.approx(repeated)


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier", "mae", "rmse"])
def test_the_standard_error_without_weights_is_that_of_the_bootstrap(metric):
    rng = np.random.default_rng(3)
    scores = rng.uniform(size=5000)
    labels = (rng.uniform(size=5000) < scores).astype(float)
    blocks = make_blocks(5000, np.datetime64("2013-01-01") + np.arange(5000) // 100)
    found, known = estimate(metric, labels, scores, blocks), metric_interval(metric, labels, scores, blocks)
    assert found.value == pytest.approx(known.value)
    assert 4 * found.error == pytest.approx(known.high - known.low, rel=0.15)


def test_one_class_or_no_rows_give_no_finding():
    truth = _made()
    none = Predictions(truth.times, truth.scores, np.zeros(len(truth)), truth.times + DAY)
    found = _assess(none)
    assert ("auc", "measured") not in found
    assert ("brier", "measured") in found
    assert _assess(truth.take(np.zeros(len(truth), bool))) == {}
