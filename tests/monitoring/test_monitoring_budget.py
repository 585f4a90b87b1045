"""False alarms per year, whenever and however often one looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stk_ml import contracts
from stk_ml.monitoring.budget import YEAR_DAYS, Budget, level, look

START = datetime(2013, 1, 1, tzinfo=UTC)


@given(
    hours=st.lists(st.floats(0.0, 2000.0), min_size=1, max_size=60),
    per_year=st.floats(0.1, 12.0),
    drifted=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_levels_add_up_to_no_more_than_the_declared_rate(
    hours: list[float], per_year: float, drifted: list[bool]
) -> None:
    state, now, total = Budget(), START, 0.0
    for elapsed, found in zip(hours, drifted, strict=False):
        now += timedelta(hours=elapsed)
        alpha = level(state, now, per_year=per_year)
        total += alpha
        assert 0 <= alpha <= 0.05
        state, _ = look(state, now, drifted=found, per_year=per_year)
    years = (now - START).total_seconds() / 86_400 / YEAR_DAYS + 1 / YEAR_DAYS
    assert total <= per_year * years + 1e-9


def test_measured_alarms_of_daily_and_irregular_looks_keep_the_rate() -> None:
    rng = np.random.default_rng(0)
    for gaps in (np.ones(365 * 200), rng.exponential(1.0, 365 * 200)):
        state, now, alarms = Budget(), START, 0
        chances = rng.random(len(gaps))
        for gap, chance in zip(gaps, chances, strict=True):
            now += timedelta(hours=float(gap))
            drifted = bool(chance <= level(state, now, per_year=50.0))
            state, alarm = look(state, now, drifted=drifted, per_year=50.0)
            alarms += alarm
        years = (now - START).days / YEAR_DAYS
        assert alarms / years <= 50 + 3 * np.sqrt(50 / years)
        assert alarms > 0


def test_the_same_drift_alarms_once_and_a_calm_look_arms_again() -> None:
    state, alarms = Budget(), []
    for day, drifted in enumerate([False, True, True, True, False, True]):
        state, alarm = look(state, START + timedelta(days=day), drifted=drifted, per_year=1.0)
        alarms.append(alarm)
    assert alarms == [False, True, False, False, False, True]
    assert state.alarms == 2


def test_a_window_that_says_nothing_does_not_arm() -> None:
    state, _ = look(Budget(), START, drifted=True, per_year=1.0)
    state, _ = look(state, START + timedelta(days=1), drifted=False, per_year=1.0, calm=False)
    assert not state.armed


def test_a_second_look_at_the_same_time_and_a_clock_set_back_spend_nothing() -> None:
    state, _ = look(Budget(), START, drifted=False, per_year=1.0)
    again, alarm = look(state, START, drifted=True, per_year=1.0)
    back, late = look(state, START - timedelta(days=3), drifted=True, per_year=1.0)
    assert (again.spent, alarm) == (back.spent, late) == (state.spent, False)
    assert back.looked == state.looked


def test_a_year_starts_a_new_account() -> None:
    state, _ = look(Budget(), START, drifted=True, per_year=1.0)
    state, _ = look(state, START + timedelta(days=366), drifted=False, per_year=1.0)
    assert (state.alarms, state.spent) == (0, 0.05)


def test_the_state_is_json(tmp_path: Path) -> None:
    state, _ = look(Budget(), START, drifted=True, per_year=1.0)
    contracts.write(state, tmp_path / "budget.json")
    assert contracts.read(Budget, tmp_path / "budget.json") == state
