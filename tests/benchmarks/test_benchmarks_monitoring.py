"""benchmarks/monitoring.py in its smallest form, without peers."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def test_a_day_is_scored_and_looked_at(tmp_path: Path) -> None:
    from monitoring import days

    day = days.Watched(tmp_path / "day", days.train(tmp_path, 2000), 60)
    day.make()
    seconds, verdict = day.look()
    assert seconds > 0
    assert (verdict.rows, verdict.quality) == (60, ())
    assert len(verdict.columns) == days.NUMBERS + days.CATEGORIES + 1


def test_our_worker_counts_every_value_of_a_file(tmp_path: Path) -> None:
    from monitoring import bare, tables

    file = tables.write(tmp_path / "rows.parquet", 3000, 0)
    worker = bare.Worker(bare.HISTOGRAMS["stk-ml"])
    took = worker(path=str(file), **tables.bins(file))
    worker.close()
    assert took.total == 3000 * len(tables.COLUMNS)
    assert took.seconds > 0
    assert 30 < took.peak < 1000


@pytest.mark.parametrize("problem", ["binary", "regression"])
def test_biases_are_those_of_many_worlds(problem: str) -> None:
    from monitoring import labels

    found = labels.biases(problem, labels.DELAYS["gamma"], 4, 5000)
    assert set(labels.WATCHED[problem]) <= set(found)
    assert all(of.ratio[0] < 0.5 and of.worlds == 4 for of in found.values())


def test_the_chart_draws_a_bar_for_each_value_longer_for_larger_ones() -> None:
    from serving.chart import Bar, page

    drawn = ElementTree.fromstring(page("costs", [("t", [Bar("x", 0.01, ""), Bar("y", 20.0, "")])]))
    widths = [float(bar.get("width", "0")) for bar in drawn.iter() if bar.tag.endswith("rect")]
    assert 0 < widths[0] < widths[1]
