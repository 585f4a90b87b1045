from dataclasses import replace

import numpy as np
import pytest
from quality_worlds import NAMES, REFERENCE_DAYS, ROWS, SCHEMA, World, assessed, checks_of

from stk_ml.monitoring import units
from stk_ml.monitoring.quality import Days, Facts, assess
from stk_ml.telemetry.histogram import Histogram


@pytest.fixture(scope="module")
def world():
    return World()


def test_days_like_the_reference_have_no_findings(world):
    assert assessed(world, world.window(world.day())) == ()


def _findings(seed, memory, rows, days):
    world, history, found = World(seed, memory), [], []
    for number in range(REFERENCE_DAYS, REFERENCE_DAYS + days):
        volume = int(rows * np.exp(0.2 * world.rng.normal()) * (0.5 if number % 7 in (2, 3) else 1))
        window = world.window(world.day(volume), number)
        found += assessed(world, window, history[-56:])
        history.append(window)
    return found


def test_two_months_of_stable_autocorrelated_days_have_no_findings():
    assert _findings(1, 0.9, 500, 60) == []


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.9, 0.98])
@pytest.mark.parametrize("rows", [150, 2000])
def test_a_year_of_stable_autocorrelated_days_has_no_findings(memory, rows):
    assert _findings(1, memory, rows, 365) == []


@pytest.mark.parametrize(
    ("column", "change", "named"),
    [
        ("km", lambda x: x / 1.609344, "divided by 1.609"),
        ("km", lambda x: x * 3.6, "multiplied by 3.6"),
        ("km", lambda x: x * 1000, "lie above"),
        ("km", lambda x: x / 1000, "lie below"),
        ("km", lambda x: x / 1.852, "divided by 1.852"),
        ("celsius", lambda x: x * 1.8 + 32, "Celsius to Fahrenheit"),
        ("celsius", lambda x: x + 273.15, "lie above"),
        ("celsius", lambda x: -x, "turned in sign"),
        ("celsius", lambda x: (x - 32) / 1.8, "as if turned"),
    ],
)
def test_another_unit_is_found_and_named(world, column, change, named):
    matrix = world.day()
    matrix[:, 1] = np.random.default_rng(5).normal(12, 5, ROWS)
    matrix[:, NAMES.index(column)] = change(matrix[:, NAMES.index(column)])
    found = assessed(world, world.window(matrix, scores=world.scores(world.day())))
    assert checks_of(found) == [("unit", column)]
    assert named in found[0].detail


@pytest.mark.parametrize("shift", [-1.5, -0.7, 0.7, 1.5])
def test_drift_of_location_is_no_other_unit(world, shift):
    matrix = world.day()
    matrix[:, 0] *= np.exp(0.2 * shift)
    matrix[:, 1] += 5 * shift
    assert assessed(world, world.window(matrix)) == ()


@pytest.mark.parametrize("scale", [0.7, 1.3, 1.5])
def test_drift_of_spread_is_no_other_unit(world, scale):
    matrix = world.day()
    matrix[:, 1] = (matrix[:, 1] - np.nanmean(matrix[:, 1])) * scale + np.nanmean(matrix[:, 1])
    assert assessed(world, world.window(matrix)) == ()


def test_a_month_that_steps_out_of_training_is_no_other_unit(world):
    matrix = world.day()
    for month in (6, 7, 12):
        matrix[:, 2] = month
        assert assessed(world, world.window(matrix)) == ()


def test_values_far_from_training_are_another_unit_even_of_a_column_whose_days_are_narrow(world):
    matrix = world.day()
    matrix[:, 2] = 700
    window = world.window(matrix)
    assert assessed(world, window) == ()
    found = assessed(world, window, facts=Facts(samples={"month": matrix[:50, 2]}))
    assert checks_of(found) == [("unit", "month")]
    matrix[:, 2] = 8
    assert assessed(world, window, facts=Facts(samples={"month": matrix[:50, 2]})) == ()


def test_a_frozen_number_and_a_frozen_category_are_found(world):
    matrix = world.day()
    matrix[:, 0], matrix[:, 4] = 700.0, 2.0
    found = assessed(world, world.window(matrix, scores=world.scores(world.day())))
    assert checks_of(found) == [("frozen", "km"), ("frozen", "carrier")]
    assert "'UA'" in found[1].detail


def test_a_frozen_score_is_found(world):
    found = assessed(world, world.window(world.day(), scores=np.full(ROWS, 0.31)))
    assert checks_of(found) == [("frozen", "score")]
    assert "from 0.3 to 0.35" in found[0].detail


def test_what_is_one_value_on_some_days_is_not_frozen(world):
    matrix = world.day()
    matrix[:, 5], matrix[:, 3] = 1.0, 0.0
    assert assessed(world, world.window(matrix)) == ()


def test_a_jump_in_missing_is_found_with_its_numbers(world):
    matrix = world.day()
    matrix[: ROWS // 2, 0] = np.nan
    [finding] = assessed(world, world.window(matrix, scores=world.scores(world.day())))
    assert (finding.check, finding.column) == ("missing", "km")
    assert "50.0% of 800 rows are missing; on 120 reference days 0.0% to 0.0% were" in finding.detail


def test_missing_values_as_on_the_worst_reference_day_are_no_finding(world):
    matrix = world.day()
    matrix[:, 1] = 12.0 + np.arange(ROWS) % 20
    worst = max(
        m / (m + sum(c))
        for m, c in zip(world.profile.features[1].missing, world.profile.features[1].counts, strict=True)
    )
    matrix[: int(worst * ROWS), 1] = np.nan
    assert ("missing", "celsius") not in checks_of(assessed(world, world.window(matrix)))


def test_a_jump_in_unseen_categories_is_found(world):
    matrix = world.day()
    matrix[: ROWS // 5, 4] = -1
    assert checks_of(assessed(world, world.window(matrix))) == [("unseen", "carrier")]


def test_too_few_rows_say_nothing_about_columns(world):
    matrix = world.day(50)
    matrix[:, 0] = np.nan
    assert assessed(world, world.window(matrix)) == ()


def test_columns_that_vanish_appear_or_change_kind_are_schema_breaks(world):
    window = world.window(world.day())
    km, celsius, *rest = window.histograms
    changed = (replace(celsius, kind="category"), replace(km, name="miles"), *rest)
    found = assessed(world, replace(window, histograms=changed))
    assert sorted(checks_of(found)) == [("schema", "celsius"), ("schema", "km"), ("schema", "miles")]


def test_telemetry_in_other_bins_is_a_schema_break_and_not_compared(world):
    window = world.window(world.day())
    km, *rest = window.histograms
    found = assessed(world, replace(window, histograms=(replace(km, counts=(800,)), *rest)))
    assert checks_of(found) == [("schema", "km")]
    assert "1 bins" in found[0].detail


def _counting(window, **counted):
    return replace(window, counted={(what, "km"): rows for what, rows in counted.items()})


def test_a_jump_of_values_of_a_wrong_kind_is_found(world):
    window = world.window(world.day())
    usual = [_counting(window, unknown_column=4, wrong_type=4)] * 10
    assert assessed(world, _counting(window, unknown_column=9, wrong_type=9), usual) == ()
    found = assessed(world, _counting(window, unknown_column=90, wrong_type=90), usual)
    assert checks_of(found) == [("schema", "km")] * 2
    assert "90 of 800 rows" in found[0].detail
    assert "usual is 0.5%, here 11.2%" in found[0].detail


def test_an_unknown_column_that_was_always_there_is_no_break(world):
    window = _counting(world.window(world.day()), unknown_column=800)
    assert assessed(world, window) == ()
    assert assessed(world, window, [window] * 5) == ()


def test_a_reference_without_days_still_sees_large_jumps(world):
    whole = [
        replace(
            c,
            **{n: (np.sum(getattr(c, n), axis=0),) for n in ("missing", "below", "above", "other", "unseen")},
            counts=(tuple(np.sum(c.counts, axis=0).tolist()),),
        )
        for c in world.profile.features
    ]
    profile = replace(world.profile, days=("all",), features=tuple(whole))
    matrix = world.day()
    assert assess(profile, SCHEMA, (), world.window(matrix), now=0.0) == ()
    matrix[:600, 0] = np.nan
    profile = replace(profile, score=replace(profile.score, counts=()))
    assert checks_of(assess(profile, SCHEMA, (), world.window(matrix), now=0.0)) == [("missing", "km")]


def test_a_rate_that_wanders_from_day_to_day_may_go_a_little_further():
    rows = np.full(40, 1000.0)
    wandering, steady = Days.of(rows * np.tile([0.02, 0.3], 20), rows), Days.of(rows * 0.3, rows)
    assert not wandering.jump(0.36, 1000)
    assert steady.jump(0.7, 1000)


@pytest.fixture(scope="module")
def shares():
    """Days of a share between 0 and 1."""
    rng, edges = np.random.default_rng(0), np.linspace(0, 1, 21)
    days = np.array([np.histogram(rng.beta(4, 2, 500), edges)[0] for _ in range(30)], float)
    return edges, np.pad(days, ((0, 0), (1, 1))), rng.beta(4, 2, 2000)


def _changed(shares, values):
    edges, days, _ = shares
    counts = np.histogram(values, edges)[0].tolist()
    below, above = int((values < edges[0]).sum()), int((values > edges[-1]).sum())
    return units.changed(edges, days, Histogram("share", "number", tuple(counts), below, above, 0, 0, 0), values[:50])


@pytest.mark.parametrize("factor", [1.609344, 1.852, 2.54, 3.6])
def test_a_share_does_not_come_in_miles(shares, factor):
    edges, days, values = shares
    assert _changed(shares, values / factor) == ""
    wider = np.histogram(values * 12 / factor, edges * 12)[0].tolist()
    told = units.changed(edges * 12, days, Histogram("km", "number", tuple(wider), 0, 0, 0, 0, 0))
    assert "divided by" in told, "what is no share does"


def test_a_share_does_come_in_per_cent(shares):
    assert "lie above 1" in _changed(shares, shares[2] * 100)
    edges, rng = np.geomspace(1e-4, 1, 21), np.random.default_rng(0)
    days = np.pad(rng.multinomial(500, np.full(20, 0.05), size=30), ((0, 0), (1, 1))).astype(float)
    values = 10 ** rng.uniform(-4, 0, 2000) * 100
    assert "multiplied by 100 (percent)" in _changed((edges, days, None), values)


def test_values_that_differ_within_one_bin_are_not_frozen(world):
    """Freight at its highest: most rows share the widest bin, and only their values tell."""
    matrix = world.day()
    edges = np.array(world.profile.features[0].edges)
    matrix[:, 0] = np.random.default_rng(0).uniform(edges[-2] + 1, edges[-1] - 1, ROWS)
    window = world.window(matrix, scores=world.scores(world.day()))
    for sample, frozen in ((matrix[:30, 0], False), (np.full(30, matrix[0, 0]), True), (np.full(30, np.nan), True)):
        found = checks_of(assessed(world, window, facts=Facts(samples={"km": sample})))
        assert (("frozen", "km") in found) == frozen
    assert ("frozen", "km") in checks_of(assessed(world, window))
