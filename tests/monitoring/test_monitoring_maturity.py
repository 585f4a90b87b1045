import numpy as np
import pytest

from stk_ml.monitoring.maturity import FEWEST, Predictions, cohorts, correct, delay_curve, learn_delays

DAY = 86400.0
NOW = 60 * DAY


def deliveries(seed=0, rows=60_000, *, binary=True, shift=0.0, change=None, lost=0.0):
    """Sixty days of predictions: punctual ones are labelled within a day, late ones after five on average."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, NOW, rows))
    risk = rng.beta(2, 5, rows)
    late = rng.uniform(size=rows) < np.clip(risk + shift, 0, 1)
    if binary:
        outcomes, scores = late.astype(float), risk
        delay = np.where(late, rng.gamma(5, DAY, rows), rng.uniform(0.1, 1, rows) * DAY)
    else:
        outcomes = np.where(late, rng.gamma(5, 1, rows), rng.uniform(0.1, 1, rows)) + shift
        scores = 1 + 4 * risk
        delay = np.maximum(outcomes, 0.05) * DAY
    if change is not None:
        delay = np.where(times > NOW - 10 * DAY, delay * change, delay)
    known = np.where(rng.uniform(size=rows) < lost, np.inf, times + delay)
    return Predictions(times, scores, outcomes, known)


def _recent(made, days):
    return made.take(made.times > NOW - days * DAY)


def _rates(truth, *, horizon=20 * DAY, days=10, **more):
    """The share of positives among young predictions: true, as labelled so far, and corrected."""
    seen = truth.at(NOW)
    delays = learn_delays(seen, NOW, binary=True, horizon=horizon, **more)
    young = _recent(seen, days)
    found = correct(young, delays, NOW)
    assert found.refused == ""
    eligible = NOW - young.times >= delays.correctable
    true = _recent(truth, days).outcomes[eligible].mean()
    naive = young.outcomes[eligible & young.labelled].mean()
    return true, naive, np.average(young.outcomes[found.rows], weights=found.weights)


def _bias(of, seeds=range(12)):
    found = np.array([of(deliveries(seed)) for seed in seeds])
    true, naive, corrected = found.mean(axis=0)
    return abs(naive - true), abs(corrected - true)


def test_the_corrected_rate_has_at_most_a_fifth_of_the_naive_bias():
    naive, corrected = _bias(_rates)
    assert naive > 0.05
    assert corrected <= naive / 5


def test_a_horizon_learned_from_the_delays_does_as_well():
    naive, corrected = _bias(lambda truth: _rates(truth, horizon=None))
    assert corrected <= naive / 5


def test_labels_lost_at_random_do_not_bias_the_correction():
    found = np.array([_rates(deliveries(seed, lost=0.2)) for seed in range(8)])
    true, naive, corrected = found.mean(axis=0)
    assert abs(corrected - true) <= abs(naive - true) / 5


def test_a_change_of_the_outcome_itself_is_seen_through_old_delays():
    young = [deliveries(seed, shift=0.2) for seed in range(6)]
    found = []
    for seed, later in enumerate(young):
        before = deliveries(seed + 100)
        old, new = before.times < NOW - 10 * DAY, later.times >= NOW - 10 * DAY
        parts = [
            np.concatenate([getattr(before, n)[old], getattr(later, n)[new]])
            for n in ("times", "scores", "outcomes", "known")
        ]
        found.append(_rates(Predictions(*parts)))
    true, naive, corrected = np.array(found).mean(axis=0)
    assert true > 0.45
    assert abs(corrected - true) <= abs(naive - true) / 5


def test_the_correction_of_a_regression_has_at_most_a_fifth_of_the_naive_bias():
    """Though its delay is the outcome itself: a plane three hours late is labelled three hours late."""
    rows = []
    for seed in range(8):
        truth = deliveries(seed, binary=False)
        seen = truth.at(NOW)
        delays = learn_delays(seen, NOW, binary=False, horizon=20 * DAY)
        young, whole = _recent(seen, 15), _recent(truth, 15)
        found = correct(young, delays, NOW)
        assert found.refused == ""
        errors = np.abs(whole.outcomes - whole.scores)
        corrected = np.average(errors[found.rows], weights=found.weights)
        old = NOW - young.times >= delays.correctable
        rows.append((errors.mean(), errors[young.labelled].mean(), errors[old].mean(), corrected))
    true, naive, true_of_old, corrected = np.array(rows).mean(axis=0)
    assert abs(naive - true) > 0.1
    assert abs(corrected - true_of_old) <= abs(naive - true) / 5


@pytest.mark.parametrize("power", [1, 2])
def test_the_longest_delays_are_told_by_the_oldest_predictions(power):
    """Outcomes that take longer than most predictions are old count through those few that can show them."""
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.uniform(0, NOW, 20_000))
        late = rng.uniform(size=times.size) < 0.3
        days = np.where(late, rng.exponential(4, times.size), rng.uniform(0.1, 1, times.size))
        truth = Predictions(times, np.full(times.size, 1.5), days, times + days * DAY)
        seen = truth.at(NOW)
        group = correct(seen, learn_delays(seen, NOW, binary=False), NOW)
        assert group.refused == ""
        losses = np.abs(truth.outcomes - truth.scores) ** power
        assert group.weights.sum() == pytest.approx(group.balance * group.predictions)
        found.append(
            (losses.mean(), losses[seen.labelled].mean(), np.average(losses[group.rows], weights=group.weights))
        )
    true, naive, corrected = np.array(found).mean(axis=0)
    assert abs(corrected - true) <= abs(naive - true) / 5


@pytest.mark.parametrize("change", [2.0, 0.3])
def test_delays_that_changed_are_noticed_and_refused(change):
    seen = deliveries(change=change).at(NOW)
    found = correct(_recent(seen, 5), learn_delays(seen, NOW, binary=True, horizon=30 * DAY), NOW)
    assert "the delay changed" in found.refused


def test_delays_that_did_not_change_are_not_refused():
    for seed in range(20):
        seen = deliveries(seed, 5000).at(NOW)
        assert correct(_recent(seen, 7), learn_delays(seen, NOW, binary=True), NOW).refused == ""


def test_too_few_old_labels_of_one_kind_are_named():
    seen = deliveries(rows=300).at(NOW)
    never = Predictions(seen.times, seen.scores, np.where(np.isnan(seen.outcomes), np.nan, 0.0), seen.known)
    delays = learn_delays(never, NOW, binary=True)
    assert f"0 of {delays.overall.rows}" not in delays.missing
    assert f"{FEWEST} are needed" in delays.missing
    assert correct(never, delays, NOW).refused == delays.missing


def test_predictions_too_young_for_one_outcome_are_left_out_whatever_their_label():
    seen = deliveries().at(NOW)
    delays = learn_delays(seen, NOW, binary=True, horizon=20 * DAY)
    assert 1 * DAY < delays.correctable < 4 * DAY
    young = _recent(seen, 0.5)
    found = correct(young, delays, NOW)
    assert young.labelled.any()
    assert found.predictions == found.rows.size == 0
    assert "is 2" in found.refused


def test_the_delay_curve_is_that_of_kaplan_and_meier():
    rng = np.random.default_rng(3)
    times = rng.uniform(0, 1000, 20_000)
    known = times + rng.exponential(200, 20_000)
    seen = Predictions(times, times, np.ones(20_000), known).at(1000)
    curve = delay_curve(seen, 1000.0)
    ages = np.array([50.0, 200.0, 600.0])
    np.testing.assert_allclose(curve(ages), 1 - np.exp(-ages / 200), atol=0.015)
    waited = (seen.known - seen.times)[seen.labelled]
    assert (waited <= 200).mean() > curve(np.array([200.0]))[0] + 0.05  # what a count of labels alone would say


def test_only_whole_old_cohorts_are_complete():
    seen = deliveries().at(NOW)
    delays = learn_delays(seen, NOW, binary=True, horizon=10 * DAY)
    found = cohorts(seen, delays, NOW)
    assert [cohort.start / DAY for cohort in found] == list(range(60))
    assert [cohort.complete for cohort in found] == [True] * 50 + [False] * 10
    assert sum(cohort.rows.size for cohort in found) == len(seen)
    shares = [cohort.labelled for cohort in found]
    assert min(shares[:40]) > 0.99 > shares[50] > shares[-1]


def test_no_predictions_are_no_error():
    empty = np.empty(0)
    none = Predictions(empty, empty, empty, empty)
    for binary in (True, False):
        delays = learn_delays(none, NOW, binary=binary)
        assert cohorts(none, delays, NOW) == ()
        assert "old labels" in correct(none, delays, NOW).refused
