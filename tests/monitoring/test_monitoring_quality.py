from dataclasses import replace

import numpy as np
import pytest

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.monitoring import units
from stk_ml.monitoring.arrivals import Span
from stk_ml.monitoring.quality import Days, Facts, Window, assess
from stk_ml.telemetry.histogram import FeatureBins, Histogram

DAY = 86400.0
CARRIERS = ("AA", "DL", "UA", "WN")
SCHEMA = FeatureSchema(
    (
        FeatureField("km", "number"),
        FeatureField("celsius", "number"),
        FeatureField("month", "integer"),
        FeatureField("rain", "number"),
        FeatureField("carrier", "category", CARRIERS),
        FeatureField("holiday", "boolean"),
    )
)
NAMES = SCHEMA.names
REFERENCE_DAYS, ROWS = 120, 800


class World:
    """Days whose level wanders (autocorrelated), as real ones do: 120 of reference, then as many as are asked for."""

    def __init__(self, seed=0, memory=0.9, wander=1.0):
        self.rng = np.random.default_rng(seed)
        self.memory, self.wander = memory, wander
        self.level = self.rng.normal(size=4)
        self.number = 0
        self.reference = [self.day() for _ in range(REFERENCE_DAYS)]
        self.profile = self._profile()
        self.bins = FeatureBins(SCHEMA, self.profile)

    def day(self, rows=ROWS):
        noise = self.rng.normal(size=4) * np.sqrt(1 - self.memory**2)
        self.level = self.memory * self.level + noise
        a, b, c, d = self.level * self.wander
        rng, matrix = self.rng, np.empty((rows, len(NAMES)))
        matrix[:, 0] = np.exp(rng.normal(6.5 + 0.03 * a, 0.6, rows))
        matrix[:, 1] = rng.normal(12 + 4 * b, 5, rows)
        matrix[:, 2] = 1 + self.number // 30
        matrix[:, 3] = np.where(rng.uniform(size=rows) < max(0.1 + 0.1 * c, 0), rng.exponential(1, rows), 0.0)
        matrix[:, 4] = rng.choice(4, rows, p=np.array([0.4, 0.3, 0.2, 0.1]))
        matrix[:, 5] = self.number % 40 == 0
        matrix[rng.uniform(size=rows) < np.clip(0.05 + 0.02 * d, 0, 1), 1] = np.nan
        self.number += 1
        return matrix

    def _profile(self):
        zero = (0,)
        columns = []
        for place, field in enumerate(SCHEMA.fields):
            values = np.concatenate([day[:, place] for day in self.reference])
            values = values[~np.isnan(values)]
            edges = np.unique(values)
            if edges.size > 20:
                edges = np.unique(np.quantile(values, np.arange(20) / 20, method="inverted_cdf"))
            edges = () if field.categories else (*edges.tolist(), float(values.max()))
            columns.append(ColumnProfile(field.name, edges, field.categories, (zero * 20,), *(zero,) * 5))
        scores = ColumnProfile("score", tuple(np.linspace(0, 1, 21)), (), (zero * 20,), *(zero,) * 5)
        bins = FeatureBins(SCHEMA, Profile(("all",), {}, (), tuple(columns), ("all",), scores))
        days = [list(bins.histograms(bins.count(day, self.scores(day)))) for day in self.reference]
        filled = [_filled(column, [day[place] for day in days]) for place, column in enumerate([*columns, scores])]
        names = tuple(str(np.datetime64("2013-01-01") + number) for number in range(len(days)))
        return Profile(names, {}, (), tuple(filled[:-1]), names, filled[-1])

    def scores(self, matrix):
        return 1 / (1 + np.exp(-(np.log(np.abs(matrix[:, 0]) + 1e-9) - 6.5)))

    def window(self, matrix, number=REFERENCE_DAYS, scores=None):
        found = self.bins.histograms(self.bins.count(matrix, self.scores(matrix) if scores is None else scores))
        return Window(number * DAY, (number + 1) * DAY, len(matrix), tuple(found))


def _filled(column, days):
    parts = {
        name: tuple(getattr(day, name) for day in days) for name in ("missing", "below", "above", "other", "unseen")
    }
    return replace(column, counts=tuple(day.counts for day in days), **parts)


@pytest.fixture(scope="module")
def world():
    return World()


def _assess(world, window, history=(), facts=None, now=None):
    return assess(world.profile, SCHEMA, history, window, facts, now=window.end if now is None else now)


def _checks(found):
    return [(finding.check, finding.column) for finding in found]


def test_days_like_the_reference_have_no_findings(world):
    assert _assess(world, world.window(world.day())) == ()


def _findings(seed, memory, rows, days):
    world, history, found = World(seed, memory), [], []
    for number in range(REFERENCE_DAYS, REFERENCE_DAYS + days):
        volume = int(rows * np.exp(0.2 * world.rng.normal()) * (0.5 if number % 7 in (2, 3) else 1))
        window = world.window(world.day(volume), number)
        found += _assess(world, window, history[-56:])
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
    found = _assess(world, world.window(matrix, scores=world.scores(world.day())))
    assert _checks(found) == [("unit", column)]
    assert named in found[0].detail


@pytest.mark.parametrize("shift", [-1.5, -0.7, 0.7, 1.5])
def test_drift_of_location_is_no_other_unit(world, shift):
    matrix = world.day()
    matrix[:, 0] *= np.exp(0.2 * shift)
    matrix[:, 1] += 5 * shift
    assert _assess(world, world.window(matrix)) == ()


@pytest.mark.parametrize("scale", [0.7, 1.3, 1.5])
def test_drift_of_spread_is_no_other_unit(world, scale):
    matrix = world.day()
    matrix[:, 1] = (matrix[:, 1] - np.nanmean(matrix[:, 1])) * scale + np.nanmean(matrix[:, 1])
    assert _assess(world, world.window(matrix)) == ()


def test_a_month_that_steps_out_of_training_is_no_other_unit(world):
    matrix = world.day()
    for month in (6, 7, 12):
        matrix[:, 2] = month
        assert _assess(world, world.window(matrix)) == ()


def test_values_far_from_training_are_another_unit_even_of_a_column_whose_days_are_narrow(world):
    matrix = world.day()
    matrix[:, 2] = 700
    window = world.window(matrix)
    assert _assess(world, window) == ()
    found = _assess(world, window, facts=Facts(samples={"month": matrix[:50, 2]}))
    assert _checks(found) == [("unit", "month")]
    matrix[:, 2] = 8
    assert _assess(world, window, facts=Facts(samples={"month": matrix[:50, 2]})) == ()


def test_a_frozen_number_and_a_frozen_category_are_found(world):
    matrix = world.day()
    matrix[:, 0], matrix[:, 4] = 700.0, 2.0
    found = _assess(world, world.window(matrix, scores=world.scores(world.day())))
    assert _checks(found) == [("frozen", "km"), ("frozen", "carrier")]
    assert "'UA'" in found[1].detail


def test_a_frozen_score_is_found(world):
    found = _assess(world, world.window(world.day(), scores=np.full(ROWS, 0.31)))
    assert _checks(found) == [("frozen", "score")]
    assert "from 0.3 to 0.35" in found[0].detail


def test_what_is_one_value_on_some_days_is_not_frozen(world):
    matrix = world.day()
    matrix[:, 5], matrix[:, 3] = 1.0, 0.0
    assert _assess(world, world.window(matrix)) == ()


def test_a_jump_in_missing_is_found_with_its_numbers(world):
    matrix = world.day()
    matrix[: ROWS // 2, 0] = np.nan
    [finding] = _assess(world, world.window(matrix, scores=world.scores(world.day())))
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
    assert ("missing", "celsius") not in _checks(_assess(world, world.window(matrix)))


def test_a_jump_in_unseen_categories_is_found(world):
    matrix = world.day()
    matrix[: ROWS // 5, 4] = -1
    assert _checks(_assess(world, world.window(matrix))) == [("unseen", "carrier")]


def test_too_few_rows_say_nothing_about_columns(world):
    matrix = world.day(50)
    matrix[:, 0] = np.nan
    assert _assess(world, world.window(matrix)) == ()


def test_columns_that_vanish_appear_or_change_kind_are_schema_breaks(world):
    window = world.window(world.day())
    km, celsius, *rest = window.histograms
    changed = (replace(celsius, kind="category"), replace(km, name="miles"), *rest)
    found = _assess(world, replace(window, histograms=changed))
    assert sorted(_checks(found)) == [("schema", "celsius"), ("schema", "km"), ("schema", "miles")]


def test_telemetry_in_other_bins_is_a_schema_break_and_not_compared(world):
    window = world.window(world.day())
    km, *rest = window.histograms
    found = _assess(world, replace(window, histograms=(replace(km, counts=(800,)), *rest)))
    assert _checks(found) == [("schema", "km")]
    assert "1 bins" in found[0].detail


def _counting(window, **counted):
    return replace(window, counted={(what, "km"): rows for what, rows in counted.items()})


def test_a_jump_of_values_of_a_wrong_kind_is_found(world):
    window = world.window(world.day())
    usual = [_counting(window, unknown_column=4, wrong_type=4)] * 10
    assert _assess(world, _counting(window, unknown_column=9, wrong_type=9), usual) == ()
    found = _assess(world, _counting(window, unknown_column=90, wrong_type=90), usual)
    assert _checks(found) == [("schema", "km")] * 2
    assert "90 of 800 rows" in found[0].detail
    assert "usual is 0.5%, here 11.2%" in found[0].detail


def test_an_unknown_column_that_was_always_there_is_no_break(world):
    window = _counting(world.window(world.day()), unknown_column=800)
    assert _assess(world, window) == ()
    assert _assess(world, window, [window] * 5) == ()


def _volumes(rows, start=0):
    return [Window((start + day) * DAY, (start + day + 1) * DAY, count) for day, count in enumerate(rows)]


def test_a_collapse_of_volume_is_measured_against_the_same_weekday(world):
    week = [1000, 1000, 1000, 1000, 1000, 200, 150]
    history = _volumes(week * 6)
    saturday, monday = Window(47 * DAY, 48 * DAY, 180), Window(49 * DAY, 50 * DAY, 180)
    assert _assess(world, saturday, history) == ()
    [finding] = _assess(world, monday, history)
    assert finding.check == "volume"
    assert "180 rows; the last 6 windows of this weekday had 1,000 to 1,000" in finding.detail


def test_no_rows_at_all_are_a_collapse(world):
    assert _checks(_assess(world, Window(28 * DAY, 29 * DAY, 0), _volumes([500] * 28))) == [("volume", "")]


def test_a_young_endpoint_collapses_only_below_all_it_had(world):
    history = _volumes([900, 1000, 1100, 950, 1000, 300, 250, 1000])
    assert _assess(world, Window(8 * DAY, 9 * DAY, 200), history) == ()
    assert _checks(_assess(world, Window(8 * DAY, 9 * DAY, 100), history)) == [("volume", "")]
    assert _assess(world, Window(8 * DAY, 9 * DAY, 0), history[:3]) == ()


def _spans(hours, worker="a"):
    return tuple(Span(worker, hour * 3600.0, hour * 3600.0 + 3600) for hour in hours)


@pytest.mark.parametrize(
    ("hours", "checks"),
    [
        (range(96), []),
        (range(72), [("absent", "")]),
        (range(90), [("late", "")]),
        ([*range(80), *range(88, 96)], [("absent", "")]),
        (range(95), []),
    ],
)
def test_telemetry_that_stops_or_has_a_hole_is_found(world, hours, checks):
    window = Window(72 * 3600.0, 96 * 3600.0, 0)
    assert _checks(_assess(world, window, facts=Facts(_spans(hours)))) == checks


def test_quiet_nights_are_no_missing_telemetry(world):
    hours = [hour for hour in range(24 * 5) if 6 <= hour % 24 < 22]
    window = Window(96 * 3600.0, 120 * 3600.0, 0)
    assert _assess(world, window, facts=Facts(_spans(hours))) == ()


def test_a_window_that_has_not_ended_is_looked_at_up_to_now(world):
    window = Window(72 * 3600.0, 96 * 3600.0, 0)
    assert _assess(world, window, facts=Facts(_spans(range(80))), now=80.5 * 3600) == ()
    assert _checks(_assess(world, window, facts=Facts(_spans(range(80))), now=86 * 3600)) == [("late", "")]


def test_a_worker_that_another_one_replaces_is_not_missed(world):
    window = Window(72 * 3600.0, 96 * 3600.0, 0)
    assert _assess(world, window, facts=Facts(_spans(range(80)) + _spans(range(80, 96), "b"))) == ()


def test_rows_that_were_dropped_are_told(world):
    window = Window(0.0, DAY, 900)
    [finding] = _assess(world, window, facts=Facts(dropped=100))
    assert (finding.check, finding.detail) == ("absent", "100 rows (10.0%) were lost before they reached the log")


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
    assert _checks(assess(profile, SCHEMA, (), world.window(matrix), now=0.0)) == [("missing", "km")]


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
        found = _checks(_assess(world, window, facts=Facts(samples={"km": sample})))
        assert (("frozen", "km") in found) == frozen
    assert ("frozen", "km") in _checks(_assess(world, window))
