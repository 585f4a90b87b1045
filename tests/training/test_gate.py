import numpy as np
import pyarrow as pa
import pytest

from stk_ml.model_spec import DataSpec, GateSpec, ModelSpec
from stk_ml.training.gate import gate

TRIALS = 300


def model(metric="auc", **settings):
    problem = "regression" if metric in ("mae", "rmse", "r2") else "binary"
    settings = {"resamples": 1000, **settings}
    return ModelSpec("m", problem, DataSpec("y", table="t.csv"), gate=GateSpec(metric=metric, **settings))


def world(seed, *, challenger=0.0, n=2000, days=40, day_effect=0.0, metric="auc"):
    """Labels, times, and two models' scores: the same signal, each with its own noise and its own effect of the day.

    ``challenger`` is how much less noise the challenger has.
    """
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    day = np.sort(rng.integers(0, days, n))
    own = [
        noise * rng.normal(size=n) + rng.normal(0, day_effect, days)[day] * (day_effect > 0)
        for noise in (1.0 - challenger, 1.0)
    ]
    times = np.datetime64("2013-07-01") + day
    if metric in ("mae", "rmse", "r2"):
        return signal + rng.normal(size=n), times, signal + own[0], signal + own[1]
    labels = (rng.uniform(size=n) < 1 / (1 + np.exp(1 - 2 * signal))).astype(float)
    new, old = (1 / (1 + np.exp(1 - signal - noise)) for noise in own)
    return labels, times, new, old


def promoted(metric, **settings):
    count = 0
    for seed in range(TRIALS):
        labels, times, new, old = world(seed, metric=metric, **settings)
        count += gate(model(metric, calibration_error=None), labels, new, old, times=times).promote
    return count / TRIALS


@pytest.mark.parametrize("metric", ["auc", "log_loss", "mae"])
def test_equal_skill_is_promoted_in_at_most_5_percent(metric):
    assert promoted(metric) <= 0.05


@pytest.mark.parametrize("metric", ["auc", "log_loss", "mae"])
def test_clearly_better_is_promoted_in_at_least_95_percent(metric):
    assert promoted(metric, challenger=0.4) >= 0.95


@pytest.mark.parametrize("metric", ["auc", "log_loss", "mae"])
def test_equal_skill_with_day_effects_is_promoted_in_at_most_5_percent(metric):
    assert promoted(metric, day_effect=1.0) <= 0.05


@pytest.mark.parametrize("days", [5, 8, 12])
def test_equal_skill_on_few_days_is_promoted_in_at_most_5_percent(days):
    assert promoted("mae", day_effect=1.0, days=days) <= 0.05


def test_rows_of_fewer_than_5_days_cannot_tell_models_apart():
    labels, times, new, old = world(1, challenger=0.5, days=3)
    verdict = gate(model(), labels, new, old, times=times)
    assert (verdict.outcome, verdict.promote) == ("cannot_tell", False)
    assert "fewer than 5 days" in verdict.reason
    assert gate(model(), labels, new, times=times).outcome == "first"


def test_a_first_model_needs_only_the_floor_however_few_rows():
    labels, times, new, _ = world(1, challenger=0.5, days=3)
    few = slice(0, 60)
    assert gate(model(), labels[few], new[few], times=times[few]).outcome == "first"


def passed(verdict):
    return {check.name: check.passed for check in verdict.checks}


def test_the_first_model_needs_the_floor_only():
    labels, times, new, _ = world(1)
    verdict = gate(model(floor=0.6, calibration_error=0.0), labels, new, times=times)
    assert (verdict.outcome, verdict.promote, verdict.difference) == ("first", True, None)
    assert verdict.rows == 2000
    assert passed(verdict) == {
        "superiority": None,
        "non_inferiority": None,
        "floor": True,
        "worst_slice": None,
        "calibration": False,
    }
    assert "meets the floor of 0.6 on 2,000 rows" in verdict.reason


def test_a_first_model_below_the_floor_is_refused():
    labels, times, new, _ = world(1)
    verdict = gate(model(floor=0.95), labels, new, times=times)
    assert (verdict.outcome, verdict.promote) == ("refused", False)
    assert "misses the floor of 0.95" in verdict.reason


def test_a_first_model_without_a_floor_is_promoted():
    labels, times, new, _ = world(1)
    assert gate(model(), labels, new, times=times).outcome == "first"


def test_the_floor_of_an_error_is_its_ceiling():
    labels, times, new, _ = world(1, metric="mae")
    assert gate(model("mae", floor=5.0), labels, new, times=times).outcome == "first"
    assert gate(model("mae", floor=0.5), labels, new, times=times).outcome == "refused"


def test_better_names_difference_interval_and_rows():
    labels, times, new, old = world(1, challenger=0.5)
    verdict = gate(model(), labels, new, old, times=times)
    assert (verdict.outcome, verdict.promote) == ("better", True)
    assert 0 < verdict.difference.low < verdict.difference.value < verdict.difference.high
    assert verdict.reason.startswith(
        f"The AUC is better than the champion's by {verdict.difference.value:.4f} (95% interval "
    )
    assert all(check.passed for check in verdict.checks)


def test_worse():
    labels, times, new, old = world(1, challenger=0.5)
    verdict = gate(model(), labels, old, new, times=times)
    assert (verdict.outcome, verdict.promote) == ("worse", False)
    assert verdict.difference.high < 0
    assert passed(verdict)["superiority"] is False
    assert "worse than the champion's by" in verdict.reason


def test_not_worse_promotes_within_the_margin_only():
    labels, times, new, old = world(3)
    with_margin = gate(model(margin=0.05), labels, new, old, times=times)
    without = gate(model(), labels, new, old, times=times)
    assert (with_margin.outcome, with_margin.promote) == ("not_worse", True)
    assert "within the margin of 0.05" in with_margin.reason
    assert (without.outcome, without.promote) == ("cannot_tell", False)
    assert passed(without)["superiority"] is None
    assert "may be better or worse" in without.reason


def test_worse_by_less_than_the_margin_is_not_worse():
    labels, times, new, old = world(1, challenger=0.2)
    verdict = gate(model(margin=0.2), labels, old, new, times=times)
    assert verdict.difference.high < 0
    assert verdict.outcome == "not_worse"


def test_equal_scores_cannot_tell():
    labels, times, new, _ = world(1)
    verdict = gate(model(), labels, new, new.copy(), times=times)
    assert (verdict.outcome, verdict.promote) == ("cannot_tell", False)
    assert verdict.difference.value == 0


def test_too_few_rows_cannot_tell():
    labels, times, new, old = world(1, n=150)
    verdict = gate(model(), labels, new, old, times=times)
    assert verdict.outcome == "cannot_tell"
    assert (
        verdict.reason == "Cannot tell: there are 150 matured rows to compare on, and 200 are needed (gate.min_rows)."
    )


def test_no_rows_cannot_tell():
    empty = np.empty(0)
    assert gate(model(), empty, empty, empty).outcome == "cannot_tell"
    assert gate(model(min_rows=0), empty, empty, empty).outcome == "cannot_tell"


def test_one_class_cannot_tell():
    _, times, new, old = world(1)
    verdict = gate(model(), np.zeros(2000), new, old, times=times)
    assert verdict.outcome == "cannot_tell"
    assert "all 2,000 rows have the label 0" in verdict.reason


@pytest.mark.parametrize("who", ["challenger", "champion"])
def test_scores_that_are_no_numbers_cannot_tell(who):
    labels, times, new, old = world(1)
    (new if who == "challenger" else old)[5] = np.nan
    verdict = gate(model(), labels, new, old, times=times)
    assert verdict.outcome == "cannot_tell"
    assert f"the {who} gives no finite score on 1 of 2,000 rows" in verdict.reason


def test_a_constant_target_has_no_r2():
    _, times, new, old = world(1)
    verdict = gate(model("r2"), np.ones(2000), new, old, times=times)
    assert "R² is not defined" in verdict.reason


def test_a_champion_that_cannot_be_scored_cannot_tell():
    labels, times, new, _ = world(1)
    verdict = gate(model(), labels, new, times=times, obstacle="the champion needs the column 'tail'")
    assert (verdict.outcome, verdict.promote) == ("cannot_tell", False)
    assert "the champion needs the column 'tail'" in verdict.reason


def test_a_better_model_below_the_floor_is_refused():
    labels, times, new, old = world(1, challenger=0.5)
    verdict = gate(model(floor=0.95), labels, new, old, times=times)
    assert (verdict.outcome, verdict.promote) == ("refused", False)
    assert passed(verdict)["superiority"] is True
    assert passed(verdict)["floor"] is False


def test_a_better_model_that_fails_one_slice_is_refused():
    labels, times, new, old = world(2, challenger=0.6, n=6000)
    carriers = np.random.default_rng(0).choice(["AA", "DL", "UA", "WN"], 6000, p=[0.3, 0.3, 0.3, 0.1])
    new[carriers == "WN"] = np.random.default_rng(1).uniform(size=int((carriers == "WN").sum()))
    verdict = gate(model(), labels, new, old, times=times, slices={"carrier": carriers})
    assert (verdict.outcome, verdict.promote) == ("refused", False)
    assert "worst of 4 slices is carrier=WN" in verdict.reason
    unguarded = gate(model(), labels, new, old, times=times)
    assert unguarded.outcome == "better"


def test_slices_by_chance_refuse_rarely():
    """Twenty slices of equal skill: the error rate is shared by all of them."""
    refused = 0
    for seed in range(100):
        labels, times, new, old = world(seed, n=4400, metric="mae")
        slices = {"route": np.arange(4400) % 20}
        verdict = gate(model("mae", slice_margin=0.0, resamples=2000), labels, new, old, times=times, slices=slices)
        refused += passed(verdict)["worst_slice"] is False
    assert refused <= 5


def test_small_and_one_class_slices_are_not_judged():
    labels, times, new, old = world(1)
    small = np.where(np.arange(2000) < 100, "tiny", "rest")
    verdict = gate(model(), labels, new, old, times=times, slices={"size": small, "label": labels})
    assert "worst of 1 slices is size=rest" in next(c.detail for c in verdict.checks if c.name == "worst_slice")


def test_slices_may_be_arrow_columns_with_nulls():
    labels, times, new, old = world(1)
    column = pa.chunked_array([pa.array([None, "UA"] * 1000).dictionary_encode()])
    verdict = gate(model(), labels, new, old, times=times, slices={"carrier": column})
    assert "worst of 2 slices is carrier=" in next(c.detail for c in verdict.checks if c.name == "worst_slice")


def test_a_better_ranking_with_wrong_probabilities_is_refused():
    labels, times, new, old = world(1, challenger=0.5)
    verdict = gate(model(calibration_error=0.15), labels, new**4, old, times=times)
    assert (verdict.outcome, verdict.promote) == ("refused", False)
    assert "exceeds the limit of 0.15" in verdict.reason


def test_a_perfectly_calibrated_model_on_few_rows_is_not_refused_for_its_calibration():
    rng, refused = np.random.default_rng(0), 0
    for _ in range(40):
        scores = rng.uniform(size=200)
        labels = (rng.uniform(size=200) < scores).astype(float)
        refused += passed(gate(model(calibration_error=0.1), labels, scores))["calibration"] is False
    assert refused <= 2


def test_equal_inputs_give_equal_verdicts():
    labels, times, new, old = world(1)
    assert gate(model(), labels, new, old, times=times) == gate(model(), labels, new, old, times=times)
