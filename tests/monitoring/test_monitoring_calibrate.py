"""A stable history keeps the declared rate; power grows with rows and shift."""

from __future__ import annotations

from drift_worlds import KINDS, World

from stk_ml.monitoring.calibrate import calibrate
from stk_ml.monitoring.drift import DriftSettings

QUICK = DriftSettings(draws=500)


def _kinds(columns: int) -> dict[str, str]:
    return {f"{KINDS[k % 3]}{k}": KINDS[k % 3] for k in range(columns)}


def test_a_stable_history_keeps_the_declared_rate() -> None:
    profile, _ = World(days=90, effect=0.2, correlation=0.3).make(0)
    found = calibrate(profile, _kinds(3), settings=QUICK, per_year=2.0, rows=(1000,), shifts=(0.1,), windows=20)
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
