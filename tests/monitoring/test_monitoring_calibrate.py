"""A stable history keeps the declared rate; power grows with rows and shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drift_worlds import KINDS, World, histogram

from stk_ml.monitoring.calibrate import calibrate
from stk_ml.monitoring.drift import DriftSettings, assess
from stk_ml.monitoring.effects import day_cells

QUICK = DriftSettings(draws=500)


def _kinds(columns: int) -> dict[str, str]:
    return {f"{KINDS[k % 3]}{k}": KINDS[k % 3] for k in range(columns)}


def test_a_stable_history_keeps_the_declared_rate() -> None:
    profile, _ = World(days=90, effect=0.2, correlation=0.3).make(0)
    found = calibrate(
        profile, _kinds(3), settings=QUICK, per_year=2.0, joint=False, rows=(1000,), shifts=(0.1,), windows=20
    )
    assert (found.looks, found.held) == (90, True)
    assert found.per_year.low <= 2.0 <= found.per_year.high


def test_more_rows_and_larger_shifts_are_seen_more_often() -> None:
    profile, _ = World(days=30).make(0)
    found = calibrate(profile, _kinds(3), settings=QUICK, rows=(100, 5000), shifts=(0.02, 0.5), windows=50)
    power = {(cell.column, cell.rows, cell.shift): cell.power for cell in found.power}
    for name in _kinds(3):
        assert power[name, 5000, 0.5] == 1.0
        assert power[name, 100, 0.02] <= 0.1
        assert power[name, 100, 0.5] <= power[name, 5000, 0.5]


def test_a_history_without_days_cannot_be_replayed() -> None:
    profile, _ = World(days=1).make(0)
    timeless = type(profile)(("all",), {}, (), profile.features, (), profile.score)
    found = calibrate(timeless, _kinds(3), settings=QUICK, rows=(1000,), shifts=(0.5,), windows=20)
    assert (found.looks, found.per_year.value) == (0, 0.0)
    assert all(cell.power > 0.9 for cell in found.power)


@pytest.mark.parametrize(("shift", "rows"), [(0.15, 700), (0.15, 2000), (0.2, 200)])
def test_the_power_of_a_category_is_that_of_the_monitor(shift: float, rows: int) -> None:
    """It sees rare values by the chi-square test; by the total variation alone half as many windows were told."""
    profile, _ = World(days=60, columns=2, effect=0.2).make(3)
    found = calibrate(profile, _kinds(2), settings=QUICK, rows=(rows,), shifts=(shift,), windows=200)
    printed = next(cell.power for cell in found.power if cell.column == "category1")
    rng, column = np.random.default_rng(0), profile.features[1]
    alone, level, told = replace(profile, features=(column,)), 0.5 / 365.25 / 2, 0
    for cells in rng.permutation(day_cells(column)):
        most = int(np.argmax(cells))
        others = np.where(np.arange(len(cells)) == most, 0.0, cells)
        others[-3] = 0.0
        moved = cells + shift * cells.sum() * (others / others.sum() - np.eye(len(cells))[most])
        seen = histogram(column.name, "category", rng.multinomial(rows, moved / moved.sum()))
        told += assess(alone, [seen], settings=QUICK, alpha=level)[0].answer == "drift"
    assert printed == pytest.approx(told / len(profile.days), abs=0.2), told


def test_a_joint_view_takes_half_of_the_declared_rate() -> None:
    profile, _ = World(days=30).make(0)
    few = {"settings": QUICK, "rows": (200,), "shifts": (0.1, 0.2), "windows": 50}
    both, alone = (calibrate(profile, _kinds(3), joint=joint, **few) for joint in (True, False))
    assert (both.declared, alone.declared) == (0.5, 1.0)
    power = [sum(cell.power for cell in found.power) for found in (both, alone)]
    assert power[0] < power[1]


def test_a_block_is_replayed_against_the_other_days_alone() -> None:
    """A reference of five days that holds the odd one takes days to differ so much that it is like the others."""
    calm, _ = World(days=9, per_day=2000, columns=1).make(0)
    _, odd = World(days=1, rows=2000, columns=1).make(0, shift=3.0)
    [column] = calm.features
    one = odd[0]
    parts = {name: (*getattr(column, name), getattr(one, name)) for name in ("missing", "below", "above", "other")}
    column = replace(column, counts=(*column.counts, one.counts), unseen=(*column.unseen, 0), **parts)
    profile = replace(calm, days=(*calm.days, "2013-02-01"), features=(column,))
    found = calibrate(profile, _kinds(1), settings=QUICK, rows=(), shifts=(), joint=False)
    assert found.alarms == 1


def test_few_days_of_reference_show_large_shifts_alone() -> None:
    profile, _ = World(days=3).make(0)
    found = calibrate(profile, _kinds(3), settings=QUICK, rows=(5000,), shifts=(0.1, 0.9), windows=20)
    power = {(cell.column, cell.shift): cell.power for cell in found.power}
    assert power["number0", 0.1] == power["category1", 0.1] == 0.0
    assert power["number0", 0.9] == 1.0
