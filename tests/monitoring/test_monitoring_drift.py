"""Verdicts: false alarms on simulated worlds without drift, and drift where there is some."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from drift_worlds import World, column, histogram
from scipy.stats import binom

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.monitoring.drift import DriftSettings, assess, in_season, overall
from stk_ml.monitoring.effects import Ruler, day_cells
from stk_ml.monitoring.resampling import variation

#: Without floors only the test stands between chance and an alarm.
BARE = DriftSettings(number=1e-9, category=1e-9, rate=1e-9, draws=1000)
ALPHA = 0.05
WORLDS = {
    "few rows": World(rows=50),
    "rare missing": World(missing=0.0005, rows=300),
    "independent rows": World(),
    "days differ": World(effect=0.3),
    "few days": World(days=20, effect=0.3),
    "much larger windows than days": World(effect=0.1, rows=20_000),
    "many columns": World(columns=24, effect=0.1),
    "heavy autocorrelation": World(days=90, effect=0.3, correlation=0.9),
    "windows of a week": World(days=120, effect=0.3, correlation=0.7, span=7, rows=7000),
}


def _alarms(world: World, looks: int) -> int:
    alarms = 0
    for seed in range(looks):
        profile, window = world.make(seed)
        found = assess(profile, window, settings=BARE, alpha=ALPHA, seed=seed, span=world.span)
        alarms += overall(found) == "drift"
    return alarms


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_without_drift_the_test_alone_alarms_no_more_often_than_declared(name: str) -> None:
    looks = 60 if WORLDS[name].columns > 3 else 200
    alarms = _alarms(WORLDS[name], looks)
    assert alarms <= binom.ppf(0.995, looks, ALPHA), f"{alarms} alarms in {looks} looks at {ALPHA}"


@pytest.mark.parametrize("name", ["few rows", "days differ"])
def test_without_drift_alarms_are_rare(name: str) -> None:
    alarms = _alarms(WORLDS[name], 40)
    assert alarms <= binom.ppf(0.995, 40, ALPHA)


def test_a_shift_is_drift_and_names_its_columns() -> None:
    profile, window = World(columns=6).make(1, shift=0.5)
    found = assess(profile, window, alpha=0.003)
    assert overall(found) == "drift"
    assert {column.answer for column in found if column.kind == "number"} == {"drift"}
    number = found[0]
    assert number.effect.low <= 0.5 / 1.349 <= number.effect.high
    assert number.adjusted <= 0.003


def test_missing_rows_are_drift_in_their_own_aspect() -> None:
    profile, window = World(columns=3, rows=3000).make(1, lost=0.05)
    found = assess(profile, window, alpha=0.003)
    assert [column.aspect for column in found[:-1]] == ["missing"] * 3
    assert overall(found) == "drift"


def test_a_significant_shift_below_the_floor_is_no_drift() -> None:
    profile, window = World(rows=100_000, per_day=100_000, columns=1).make(1, shift=0.05)
    (number, _) = assess(profile, window, alpha=0.01)
    assert number.p_value < 1e-4
    assert number.answer == "stable"


def test_a_small_window_is_insufficient_and_says_what_it_would_have_seen() -> None:
    profile, window = World(rows=50).make(2)
    found = assess(profile, window, alpha=0.01)
    assert overall(found) == "insufficient"
    number = found[0]
    assert number.answer == "insufficient"
    assert number.detectable > number.floor
    assert f"{number.detectable:.3g}" in number.detail


def test_a_large_window_without_drift_is_stable() -> None:
    profile, window = World(rows=20_000, per_day=20_000).make(3)
    found = assess(profile, window, alpha=0.01)
    assert {column.answer for column in found[:-1]} == {"stable"}
    assert found[-1].answer == "insufficient"  # a reference without scores has none to compare
    assert overall(found) == "stable"


def test_what_is_called_detectable_is_found_with_the_declared_power() -> None:
    world = World(columns=1, rows=1000)
    (number, _) = assess(*world.make(0), alpha=0.01)
    found = [assess(*world.make(seed, shift=number.detectable * 1.349), alpha=0.01, seed=seed) for seed in range(40)]
    hits = sum(columns[0].adjusted <= 0.01 for columns in found)
    assert hits >= binom.ppf(0.005, 40, 0.8)


def test_a_column_that_the_model_does_not_use_is_told_but_is_no_drift_of_the_model() -> None:
    profile, window = World(columns=3, rows=20_000, per_day=5000).make(1)
    _, shifted = World(columns=3, rows=20_000, per_day=5000).make(1, shift=1.0)
    window = [shifted[0], *window[1:]]
    weights = {column.name: 0.5 for column in profile.features[1:]}
    found = assess(profile, window, weights=weights, alpha=0.01)
    assert (found[0].answer, found[0].weight) == ("drift", 0.0)
    assert overall(found) == "stable"


def test_unused_columns_do_not_take_from_the_others_level() -> None:
    profile, window = World(columns=3).make(4)
    alone = assess(profile, window, weights={profile.features[0].name: 1.0}, alpha=0.01)
    assert alone[0].adjusted == alone[0].p_value


def test_the_same_seed_gives_the_same_answer_and_columns_do_not_depend_on_each_other() -> None:
    profile, window = World(columns=3, effect=0.1).make(5)
    found = assess(profile, window, seed=3)
    assert found == assess(profile, window, seed=3)
    fewer = replace(profile, features=profile.features[1:])
    assert [c.p_value for c in assess(fewer, window[1:], seed=3)] == [c.p_value for c in found[1:]]


def test_a_column_that_is_not_in_the_window_is_insufficient() -> None:
    profile, window = World().make(1)
    found = assess(profile, window[1:])
    assert (found[0].answer, found[0].detail) == ("insufficient", "not in the window")


def test_windows_below_the_least_number_of_rows_say_nothing() -> None:
    profile, window = World(rows=100).make(1, shift=3.0)
    found = assess(profile, window, settings=DriftSettings(min_rows=200))
    assert {column.answer for column in found} == {"insufficient"}


@pytest.mark.parametrize("days", [1, 2, 4])
def test_a_reference_of_few_days_tells_what_is_large_and_nothing_else(days: int) -> None:
    profile, window = World(days=days, rows=2000).make(1)
    assert overall(assess(profile, window, alpha=0.01)) != "drift"
    profile, window = World(days=days, rows=2000).make(1, shift=0.6)
    found = assess(profile, window, alpha=0.01)
    assert overall(found) == "drift"
    assert any("few days of reference" in column.detail for column in found)
    profile, window = World(days=days, rows=2000, effect=0.1).make(1, shift=0.1)
    assert overall(assess(profile, window, alpha=0.01)) != "drift"


def test_a_window_like_its_reference_is_stable_with_an_ordinary_number_of_rows() -> None:
    for seed in range(1, 6):
        number, _, boolean, _ = assess(*World(rows=5000).make(seed), alpha=0.01)
        assert (number.answer, boolean.answer) == ("stable", "stable"), seed


def test_days_that_vary_as_much_as_the_shift_hide_it() -> None:
    calm, loud = (World(effect=effect, rows=5000, columns=1) for effect in (0.0, 0.5))
    assert overall(assess(*calm.make(1, shift=0.4), alpha=0.003)) == "drift"
    assert overall(assess(*loud.make(1, shift=0.4), alpha=0.003)) != "drift"


def test_an_unseen_category_and_rows_outside_the_bins_are_found() -> None:
    profile, window = World(rows=2000).make(1)
    number, category = window[0], window[1]
    window[0] = replace(number, above=number.above + 200)
    window[1] = replace(category, unseen=200)
    found = assess(profile, window, alpha=0.003)
    assert [(column.answer, column.aspect) for column in found[:2]] == [
        ("drift", "out_of_range"),
        ("drift", "unseen"),
    ]


def test_everything_missing_or_constant_is_handled() -> None:
    profile, window = World(rows=1000).make(1)
    gone = [replace(w, counts=(0,) * len(w.counts), below=0, above=0, missing=w.rows) for w in window]
    found = assess(profile, gone, alpha=0.003)
    assert [column.aspect for column in found[:-1]] == ["missing"] * 3
    assert overall(found) == "drift"
    assert all(np.isfinite(column.effect.high) for column in found)


def test_seasons_are_used_once_a_year_has_been_seen() -> None:
    year = np.datetime_as_string(np.datetime64("2013-01-01") + np.arange(365)).tolist()
    assert in_season(year, date(2014, 7, 1), 45).sum() == 90
    assert in_season(year[:180], date(2013, 7, 1), 45).all()
    assert in_season(year, None, 45).all()
    assert in_season(year, date(2014, 7, 1), 5).all()  # eleven days are too few


def test_a_rare_value_that_becomes_twice_as_frequent_is_found_in_500_rows() -> None:
    rng = np.random.default_rng(3)
    before = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    after = before * 0.95 + [0, 0, 0, 0, 0.05]
    days = np.pad(rng.multinomial(500, before, size=60), ((0, 0), (1, 4)))
    names, dates = tuple("vwxyz"), np.datetime_as_string(np.datetime64("2013-01-01") + np.arange(60)).tolist()
    kind = replace(column("kind", "category", days), categories=names)
    profile = Profile(tuple(dates), {}, (), (kind,), (), ColumnProfile("score", (), (), *((),) * 6))
    looks = [
        assess(profile, [histogram("kind", "category", np.pad(cells, (1, 4)))], seed=seed)[0].adjusted
        for seed, cells in enumerate(rng.multinomial(500, after, size=40))
    ]
    assert np.mean(np.array(looks) <= 0.05) >= 0.7  # by total variation alone it was 0.4


def test_days_that_resemble_each_other_count_as_fewer() -> None:
    """Levels that stay for weeks: a day that goes on from there is no news."""
    world = World(days=40, columns=1, effect=0.3, correlation=0.95)
    assert _alarms(world, 60) <= 60 * ALPHA  # 7 when days are taken to be independent
    [column] = world.make(0)[0].features
    cells = day_cells(column)
    assert variation(cells, Ruler(column, "number", cells.sum(axis=0))).blocks < 20


def test_a_window_like_some_days_of_the_reference_is_no_news() -> None:
    """Three of sixty days were odd: days of their kind are as likely as that, whatever a smooth tail says."""
    for seed in (1, 2, 3):
        calm, odd = (World(columns=1, missing=0.0).make(seed, shift=shift) for shift in (0.0, 0.5))
        [column], [seen] = calm[0].features, odd[1]
        counts = list(column.counts)
        for day in (4, 24, 44):
            counts[day] = seen.counts
        none = (0,) * len(counts)
        profile = replace(calm[0], features=(replace(column, counts=tuple(counts), below=none, above=none),))
        [number, _] = assess(profile, [replace(seen, below=0, above=0)], alpha=0.003)
        assert number.p_value >= 3 / 60
