"""One look put together: seasons, scores of a model that was fitted again, and what is said to people."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.contracts import Interval
from stk_ml.model_policies import MonitorSpec
from stk_ml.monitor_state import ColumnVerdict, MonitorVerdict, PerformanceFinding, QualityFinding
from stk_ml.monitoring import budget as budgets
from stk_ml.monitoring.joint import Joint
from stk_ml.monitoring.judge import Judge, reason
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry.histogram import Histogram
from stk_ml.telemetry.served import Served

DAY = 86_400.0
EDGES = tuple(float(edge) for edge in range(-30, 41, 5))
SERVED = Served(0, "eta", "v1", 1, "ab" * 32, 4000)


def counts(mean: float, rows: int, seed: int) -> tuple[int, ...]:
    """A day of temperatures."""
    values = np.random.default_rng(seed).normal(mean, 5, rows)
    return tuple(np.histogram(values, EDGES)[0].tolist())


def season(day: date) -> float:
    """Mean temperature: cold in January, warm in July."""
    return 10 - 15 * float(np.cos(2 * np.pi * (day.timetuple().tm_yday - 15) / 365.25))


def history(days: int, seasons: bool = False) -> Profile:
    """Days from 2023 on, of 10 degrees when there are no seasons."""
    dates = [date(2023, 1, 1) + timedelta(days=place) for place in range(days)]
    zero = (0,) * days
    names = tuple(map(str, dates))
    cells = tuple(counts(season(each) if seasons else 10.0, 400, place) for place, each in enumerate(dates))
    celsius = ColumnProfile("celsius", EDGES, (), cells, *(zero,) * 5)
    even = tuple(tuple(np.random.default_rng(place).multinomial(400, [0.1] * 10).tolist()) for place in range(days))
    score = ColumnProfile("score", tuple(np.linspace(0.1, 0.9, 11).tolist()), (), even, *(zero,) * 5)
    return Profile(names, {}, (0.3,) * days, (celsius,), names, score)


def judged(
    profile: Profile,
    day: datetime,
    histograms: tuple[Histogram, ...],
    weight: float = 1.0,
    *,
    spec: MonitorSpec = MonitorSpec(),  # noqa: B008
    budget: budgets.Budget | None = None,
    past: tuple[MonitorVerdict, ...] = (),
    **checks: Any,
) -> MonitorVerdict:
    class Document:
        schema = FeatureSchema((FeatureField("celsius", "number"),))

    document: Any = Document()
    reference = Reference(document, profile, {"celsius": weight})
    start = day.timestamp()
    window = Window(start, start + DAY, SERVED, histograms[0].rows, histograms)
    return Judge("weather", spec, lambda _: reference, **checks)(window, budget, past)[0]


def now(mean: float, *, below: int = 0, above: int = 0) -> tuple[Histogram, ...]:
    scores = tuple(np.random.default_rng(9).multinomial(4000 - below - above, [0.1] * 10).tolist())
    return (
        Histogram("celsius", "number", counts(mean, 4000, 7), 0, 0, 0, 0, 0),
        Histogram("score", "score", scores, below, above, 0, 0, 0),
    )


JANUARY = datetime(2024, 1, 20, tzinfo=UTC)


def test_a_winter_day_is_compared_with_winter_once_a_year_is_known() -> None:
    cold, hot = now(season(JANUARY.date())), now(25.0)
    july = datetime(2024, 7, 20, tzinfo=UTC)
    effects = [
        judged(history(400, True), day, seen).columns[0].effect.value for day in (JANUARY, july) for seen in (cold, hot)
    ]
    assert effects[0] < 0.3 > effects[3]
    assert effects[1] > 3 < effects[2]
    # A reference that has not seen a whole year has no seasons: all of its days count.
    assert judged(history(300, True), JANUARY, cold).columns[0].effect.value > 0.5


def test_scores_a_little_beyond_those_of_the_reference_are_no_drift() -> None:
    verdict = judged(history(60), JANUARY, now(10.0, below=150, above=120))
    assert verdict.columns[-1].kind == "score"
    assert verdict.columns[-1].answer != "drift"
    far = judged(history(60), JANUARY, now(10.0, above=2500))
    assert far.columns[-1].answer == "drift"


def test_drift_of_an_unused_column_and_of_broken_data_do_not_alarm() -> None:
    hot = now(30.0)
    assert judged(history(60), JANUARY, hot).alarm
    unused = judged(history(60), JANUARY, hot, 0.0)
    assert unused.columns[0].answer == "drift"
    assert (unused.answer == "drift", unused.alarm) == (False, False)
    broken = judged(history(60), JANUARY, hot, quality=lambda *_: (QualityFinding("unit", "celsius", "1.8 times"),))
    assert (broken.broken, broken.alarm) == (True, False)


@pytest.mark.parametrize(("muted", "alarm"), [("", True), ("off by 0.2", False)])
def test_a_worse_model_alarms_without_drift_unless_the_estimate_is_muted(muted: str, alarm: bool) -> None:
    worse = PerformanceFinding("auc", "estimated", Interval(0.6, 0.55, 0.65), 0.8, True, 4000, 1.0, muted)
    verdict = judged(history(60), JANUARY, now(10.0), performance=lambda *_: (worse,))
    assert verdict.answer != "drift"
    assert verdict.alarm == alarm
    assert ("AUC is 0.6, it was 0.8" in verdict.reason) == alarm


def column(name: str, answer: Any, weight: float = 0.2) -> ColumnVerdict:
    effect = Interval(0.5, 0.4, 0.6)
    return ColumnVerdict(name, "number", answer, "distribution", effect, 0.1, 0.01, 0.02, 0.05, weight, 90)


def test_what_people_are_told() -> None:
    few = [column("a", "insufficient"), column("b", "stable"), column("c", "insufficient", 0.0)]
    assert reason("insufficient", few, rows=90) == "90 rows are too few to tell whether a moved."
    assert reason("insufficient", few[:1], rows=90) == "90 rows are too few to tell."
    moved = [column(name, "drift") for name in "abcde"] + [column("unused", "drift", 0.0)]
    told = reason("drift", moved, rows=90)
    assert told.startswith("Moved: a by 0.5 interquartile ranges, ")
    assert told.endswith(" and 2 more.")
    assert "unused" not in told
    assert "together they tell the rows apart: x, y" in reason("drift", (), apart=("x", "y"), rows=9)


def test_with_a_joint_view_each_takes_half_of_the_chance_of_a_false_alarm() -> None:
    asked: list[float] = []

    def joint(*arguments: Any) -> Joint:
        asked.append(arguments[-1])
        return Joint("stable", Interval(0.5, 0.4, 0.6), 0.5, (), 0.54)

    verdict = judged(history(60), JANUARY, now(10.0), joint=joint)
    end = JANUARY + timedelta(days=1)
    assert asked == [budgets.level(budgets.Budget(), end, per_year=1.0, window_days=1.0) / 2]
    assert verdict.joint == "stable"
    assert judged(history(60), JANUARY, now(10.0)).joint is None


def test_a_new_model_alarms_again_about_what_moved_for_the_old_one_too() -> None:
    hot, silent = now(30.0), budgets.Budget(armed=False)
    for digest, alarm in ((SERVED.digest, False), ("cd" * 32, True)):
        before = MonitorVerdict("weather", 1, digest, "eta", "v1", "", "", 4000, "drift")
        assert judged(history(60), JANUARY, hot, budget=silent, past=(before,)).alarm == alarm


def test_a_window_of_fewer_rows_than_the_file_asks_for_tells_nothing() -> None:
    hot = now(30.0)
    assert judged(history(60), JANUARY, hot, spec=MonitorSpec(min_rows=hot[0].rows - 1)).answer == "drift"
    few = judged(history(60), JANUARY, hot, spec=MonitorSpec(min_rows=4001))
    assert (few.answer, few.alarm, few.columns[0].answer) == ("insufficient", False, "insufficient")
