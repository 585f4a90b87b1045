"""benchmarks/detection.py in its smallest form, without peers; its verdicts and its chart."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])


def test_the_smallest_run_gives_a_verdict_for_each_target_and_a_chart() -> None:
    from benchmarks.detecting import chart
    from benchmarks.detection import Extent, measure

    found = measure(Extent(windows=3, sizes=(50,), worlds=1, rows=100, follow=2, changes=1))
    assert [target["met"] for target in found["targets"]] == [True, None, True]
    assert [cell["rates"]["stk-ml"]["windows"] for cell in found["false_alarms"]] == [1, 1, 1]
    assert [row["change"] for row in found["delays"]["changes"]][:2] == ["mean", "scale"]
    assert found["delays"]["changes"][0]["at the declared rate"]["mean"] == 1.0
    ElementTree.fromstring(chart.draw(found))


def test_a_later_alarm_at_an_equal_rate_and_a_rate_above_the_declared_one_are_misses() -> None:
    from benchmarks.detecting.quiet import rate
    from benchmarks.detection import targets

    cell = {"rows": 50, "days": "alike", "rates": {"stk-ml": {"windows": 100, "alarms": 20, **rate(20, 100)}}}
    gaps = {"peer": {"mean": 0.5, "low": -0.1, "high": 1.1}, "other": {"mean": -1.0, "low": -2.0, "high": 0.0}}
    compared = {name: {"later": gap} for name, gap in gaps.items()}
    rows = [{"change": "mean", "size": 0.3, "compared": compared}]
    unused = {"windows": 10, "alarms": 1, "differ": 0}
    found = list(targets({"false_alarms": [cell], "delays": {"changes": rows}, "unused": unused}))
    assert [target["met"] for target in found] == [False, False, True]
    assert found[0]["detail"]["cells above"] == ["50 rows, days alike"]
    assert found[1]["detail"] == {"compared": 2, "earlier": 1, "later": {"mean 0.3, peer": "+0.50 (-0.10 to +1.10)"}}


def test_a_concept_changes_labels_alone() -> None:
    from benchmarks.detecting.worlds import Change, World

    world = World(1, 5000)
    (still,), (moved,) = (list(world.windows(change)) for change in (Change(), Change("concept", 0.4)))
    assert still.drop_columns(["label"]).equals(moved.drop_columns(["label"]))
    labels = [table.column("label").to_numpy() for table in (still, moved)]
    assert abs(labels[0].mean() - labels[1].mean()) < 0.03
    assert 0.1 < (labels[0] != labels[1]).mean() < 0.25


@pytest.mark.parametrize(("change", "size"), [("mean", 0.25), ("correlation", 0.7)])
def test_the_level_of_a_window_is_where_its_verdict_turns(change: str, size: float) -> None:
    from benchmarks.detecting.tools import drift_level, ours
    from benchmarks.detecting.worlds import Change, World

    world = World(2, 200)
    (window,) = world.windows(Change(change, size))
    level = drift_level(world.reference, window)
    assert 0 < level < 0.99
    assert [ours(world.reference, window, level * by).verdict == "drift" for by in (0.9, 1.01)] == [False, True]
