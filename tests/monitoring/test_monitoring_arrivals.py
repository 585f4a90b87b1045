import pytest
from quality_worlds import DAY, World, assessed, checks_of

from stk_ml.monitoring.arrivals import Span
from stk_ml.monitoring.quality import Facts, Window


@pytest.fixture(scope="module")
def world():
    return World()


def _volumes(rows, start=0):
    return [Window((start + day) * DAY, (start + day + 1) * DAY, count) for day, count in enumerate(rows)]


def test_a_collapse_of_volume_is_measured_against_the_same_weekday(world):
    week = [1000, 1000, 1000, 1000, 1000, 200, 150]
    history = _volumes(week * 6)
    saturday, monday = Window(47 * DAY, 48 * DAY, 180), Window(49 * DAY, 50 * DAY, 180)
    assert assessed(world, saturday, history) == ()
    [finding] = assessed(world, monday, history)
    assert finding.check == "volume"
    assert "180 rows; the last 6 windows of this weekday had 1,000 to 1,000" in finding.detail


def test_no_rows_at_all_are_a_collapse(world):
    assert checks_of(assessed(world, Window(28 * DAY, 29 * DAY, 0), _volumes([500] * 28))) == [("volume", "")]


def test_a_young_endpoint_collapses_only_below_all_it_had(world):
    history = _volumes([900, 1000, 1100, 950, 1000, 300, 250, 1000])
    assert assessed(world, Window(8 * DAY, 9 * DAY, 200), history) == ()
    assert checks_of(assessed(world, Window(8 * DAY, 9 * DAY, 100), history)) == [("volume", "")]
    assert assessed(world, Window(8 * DAY, 9 * DAY, 0), history[:3]) == ()


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
    assert checks_of(assessed(world, window, facts=Facts(_spans(hours)))) == checks


def test_quiet_nights_are_no_missing_telemetry(world):
    hours = [hour for hour in range(24 * 5) if 6 <= hour % 24 < 22]
    window = Window(96 * 3600.0, 120 * 3600.0, 0)
    assert assessed(world, window, facts=Facts(_spans(hours))) == ()


def test_a_window_that_has_not_ended_is_looked_at_up_to_now(world):
    window = Window(72 * 3600.0, 96 * 3600.0, 0)
    assert assessed(world, window, facts=Facts(_spans(range(80))), now=80.5 * 3600) == ()
    assert checks_of(assessed(world, window, facts=Facts(_spans(range(80))), now=86 * 3600)) == [("late", "")]


def test_a_worker_that_another_one_replaces_is_not_missed(world):
    window = Window(72 * 3600.0, 96 * 3600.0, 0)
    assert assessed(world, window, facts=Facts(_spans(range(80)) + _spans(range(80, 96), "b"))) == ()


def test_rows_that_were_dropped_are_told(world):
    window = Window(0.0, DAY, 900)
    [finding] = assessed(world, window, facts=Facts(dropped=100))
    assert (finding.check, finding.detail) == ("absent", "100 rows (10.0%) were lost before they reached the log")
