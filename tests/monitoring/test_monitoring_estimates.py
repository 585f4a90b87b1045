import numpy as np
import pytest

from stk_ml.contracts import Interval
from stk_ml.monitoring.estimates import Errors, Grade, bins, cbpe, expected, grade, mute
from stk_ml.monitoring.maturity import Predictions
from stk_ml.monitoring.performance import estimated
from stk_ml.statistics import metrics
from stk_ml.telemetry.histogram import Histogram

EDGES = tuple(np.linspace(0, 1, 21))


def _histogram(scores, edges=EDGES):
    counts, _ = np.histogram(scores, edges)
    return Histogram(
        "score",
        "score",
        tuple(counts.tolist()),
        int((scores < edges[0]).sum()),
        int((scores > edges[-1]).sum()),
        0,
        0,
        0,
    )


@pytest.mark.parametrize(("a", "b"), [(2, 5), (0.5, 2), (8, 8)])
def test_of_calibrated_scores_the_estimate_is_the_truth(a, b):
    rng = np.random.default_rng(0)
    scores = rng.beta(a, b, 200_000)
    labels = (rng.uniform(size=scores.size) < scores).astype(float)
    for metric, value in cbpe(scores).items():
        assert value == pytest.approx(metrics.METRICS[metric](labels, scores), abs=0.005)


def test_a_histogram_alone_says_nearly_the_same():
    scores = np.random.default_rng(1).beta(2, 5, 100_000)
    rough, exact = cbpe(*bins(_histogram(scores), EDGES)), cbpe(scores)
    assert rough == pytest.approx(exact, abs=0.01)


def test_the_estimate_follows_a_change_of_what_is_asked():
    rng = np.random.default_rng(2)
    easy, hard = cbpe(rng.beta(0.5, 0.5, 10_000)), cbpe(rng.beta(8, 8, 10_000))
    assert easy["auc"] > hard["auc"] + 0.2
    assert easy["brier"] < hard["brier"] - 0.1


def test_without_scores_or_with_one_outcome_only_nothing_is_estimated():
    assert cbpe(np.empty(0)) == {}
    assert set(cbpe(np.zeros(5))) == {"log_loss", "brier"}
    assert cbpe(np.array([0.2, 0.4]), np.zeros(2)) == {}


def test_the_error_model_follows_a_shift_of_the_scores():
    rng = np.random.default_rng(3)
    edges = tuple(np.linspace(0, 100, 21))

    def draw(low, high):
        scores = rng.uniform(low, high, 20_000)
        return scores, scores + rng.normal(0, 1 + scores / 10)

    model = Errors.learn(edges, *draw(0, 100))
    scores, outcomes = draw(60, 100)
    found = model.expect(_histogram(scores, edges))
    assert found["mae"] == pytest.approx(metrics.mae(outcomes, scores), rel=0.03)
    assert found["rmse"] == pytest.approx(metrics.rmse(outcomes, scores), rel=0.03)


def test_scores_where_nothing_was_learned_are_expected_to_err_as_all():
    model = Errors.learn((0.0, 1.0, 2.0), np.full(500, 0.5), np.full(500, 2.5))
    assert model.expect(_histogram(np.full(9, 1.5), (0.0, 1.0, 2.0)))["mae"] == pytest.approx(2.0)
    assert Errors.learn((0.0, 1.0), np.empty(0), np.empty(0)).expect(_histogram(np.full(9, 0.5), (0.0, 1.0))) == {}
    assert model.expect(_histogram(np.empty(0), (0.0, 1.0, 2.0))) == {}


def _cohorts(count, concept, seed=4):
    """Cohorts of 5,000 scores, whose meaning is turned by ``concept`` (0: as at training), graded."""
    rng = np.random.default_rng(seed)
    for cohort in range(count):
        scores = rng.beta(2, 5, 5000)
        chance = np.clip(scores + concept * (0.3 - scores), 0, 1)
        labels = (rng.uniform(size=scores.size) < chance).astype(float)
        yield Grade("auc", cohort, cbpe(scores)["auc"], metrics.auc(labels, scores), 0.008)


def test_estimates_that_were_right_speak():
    assert mute(list(_cohorts(8, 0.0)), 0.72, 0.02) == ""


def test_estimates_that_were_wrong_are_muted_with_their_error():
    assert "where 0.02 is tolerated" in mute(list(_cohorts(8, 0.7)), 0.72, 0.02)


def test_estimates_come_back_once_the_newest_cohorts_were_right():
    wrong = list(_cohorts(12, 0.7))
    right = [Grade("auc", 100 + grade.cohort, grade.estimate, grade.truth, grade.error) for grade in _cohorts(12, 0.0)]
    assert mute(wrong + right, 0.72, 0.02) == ""
    assert mute(right + wrong, 0.72, 0.02) == ""
    assert mute(wrong, 0.72, 0.02) != ""


def test_noise_of_the_truth_alone_does_not_mute():
    rng = np.random.default_rng(5)
    noisy = [Grade("mae", day, 10.0, 10.0 + rng.normal(0, 2), 2.0) for day in range(12)]
    assert mute(noisy, 10.0, 1.0) == ""
    still = [Grade("mae", day, 10.0, truth, 2.0) for day, truth in enumerate([8.0, 12.0] * 6)]
    assert mute(still, 10.0, 0.5) == ""


def test_an_estimate_no_nearer_than_the_reference_is_muted():
    moved = [Grade("mae", day, 10.0, 10.4, 0.0) for day in range(6)]
    assert mute(moved, 10.0, 0.5) == ""
    assert "off by" in mute(moved, 10.0, 0.3)
    blind = [Grade("mae", day, 10.3, 10.2, 0.0) for day in range(6)]
    assert mute(blind, 10.15, 0.15) == ""


def test_the_interval_of_an_estimate_is_as_wide_as_it_was_wrong():
    grades = [Grade("auc", day, 0.8, 0.8 - gap, 0.0) for day, gap in enumerate([0.01, 0.02, 0.03, 0.04])]
    found = expected(0.75, grades, level=0.95)
    assert (found.low, found.high, found.level) == (pytest.approx(0.71), pytest.approx(0.79), 0.8)


def _window(seed, day, rows=4000, concept=0.0):
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 5, rows)
    chance = np.clip(scores + concept * (0.3 - scores), 0, 1)
    outcomes = (rng.uniform(size=rows) < chance).astype(float)
    return Predictions(np.full(rows, day * 86400.0), scores, outcomes, np.full(rows, (day + 5) * 86400.0))


def test_findings_speak_or_are_muted_by_their_grades():
    reference = {"auc": Interval(0.72, 0.715, 0.725)}
    for concept, drawn, expected_finding in ((0.0, (2, 5), (False, False)), (0.8, (2, 5), (None, True))):
        made = [_window(seed, seed, concept=concept) for seed in range(6)]
        grades = [g for day, window in enumerate(made) for g in grade(cbpe(window.scores), window, day * 86400.0)]
        values = cbpe(np.random.default_rng(9).beta(*drawn, 4000))
        [finding] = estimated(values, grades, reference, 4000)
        assert (finding.worse, bool(finding.muted)) == expected_finding


def test_an_estimate_that_fell_far_is_worse():
    made = [_window(seed, seed) for seed in range(12)]
    grades = [g for day, window in enumerate(made) for g in grade(cbpe(window.scores), window, day * 86400.0)]
    values = cbpe(np.random.default_rng(9).beta(20, 50, 4000))
    [finding] = estimated(values, grades, {"auc": Interval(0.72, 0.715, 0.725)}, 4000)
    assert (finding.source, finding.worse, finding.muted) == ("estimated", True, "")


def test_only_labelled_predictions_grade():
    window = _window(1, 0)
    half = Predictions(
        window.times, window.scores, np.where(np.arange(4000) % 2, window.outcomes, np.nan), window.known
    )
    assert [found.metric for found in grade({"auc": 0.7, "brier": 0.2}, half, 0.0)] == ["auc", "brier"]
    assert grade({"auc": 0.7}, window.take(np.zeros(4000, bool)), 0.0) == ()
