"""What a replay was worth, and how it is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stk_ml import contracts
from stk_ml.errors import StorageError
from stk_ml.simulation import page, story
from stk_ml.simulation.rows import Rows
from stk_ml.simulation.year import Day, Event, Year, calibration, iso, measure

DAY = 86_400.0
JULY = 1_372_636_800.0  # 2013-07-01


def a_year(**changes: object) -> Year:
    days, rng = 60, np.random.default_rng(0)
    times = JULY + np.sort(rng.uniform(0, days * DAY, 6000))
    chance = rng.uniform(0.05, 0.95, 6000)
    labels = (rng.random(6000) < chance).astype(float)
    labels[::50] = np.nan
    worse = 0.3 * chance + 0.35
    stretches, total, gain = measure(times, labels, chance, worse)
    events = (
        Event(iso(JULY + 5 * DAY), "alarm", "Moved: <script>alert(1)</script> by 2 interquartile ranges.", 1),
        Event(iso(JULY + 6 * DAY), "started", "3 of the last 5 windows alarm, the newest too"),
        Event(iso(JULY + 6 * DAY), "canary", "better by 0.01", 2),
        Event(iso(JULY + 9 * DAY), "promoted", "Answers all requests of endpoint m.", 2),
    )
    looks = tuple(
        Day(iso(JULY + n * DAY), 100 + n, 1 + (n > 8), ("stable", "drift", "broken")[n % 3], n == 5)
        for n in range(days)
    )
    year = Year(
        model="flight-delay",
        since=iso(JULY),
        until=iso(JULY + days * DAY),
        trained="flight-delay:1 is trained on January to June",
        requests=6000,
        seconds={"training": 10.0, "all": 20.0},
        days=looks,
        events=events,
        stretches=stretches,
        total=total,
        gain=gain,
        reliability=calibration(labels, chance, worse),
        retrains=1,
        promoted=1,
    )
    return replace(year, **changes)  # type: ignore[arg-type]


def test_the_better_scores_win_on_the_same_rows_with_an_interval() -> None:
    year = a_year()
    assert year.total.rows == 5880
    assert len(year.stretches) == 5
    assert sum(each.rows for each in year.stretches) == 5880
    for metric in ("log_loss", "calibration_error"):
        assert year.gain[metric].low > 0, metric
        assert year.total.governed[metric].value < year.total.frozen[metric].value
    assert year.gain["auc"].value == pytest.approx(0, abs=1e-12)  # a line through the scores keeps their order


def test_equal_scores_gain_nothing() -> None:
    times, labels = JULY + np.arange(3000) * 600.0, np.tile([0.0, 1.0, 1.0], 1000)
    scores = np.linspace(0.1, 0.9, 3000)
    _, _, gain = measure(times, labels, scores, scores)
    assert {(found.value, found.low, found.high) for found in gain.values()} == {(0.0, 0.0, 0.0)}


def test_a_stretch_of_one_class_lacks_the_metric_that_is_not_defined() -> None:
    times, labels = JULY + np.arange(40) * DAY, np.ones(40)
    stretches, _, _ = measure(times[:14], np.append(labels[:13], 0.0), np.full(14, 0.5), np.full(14, 0.5))
    assert set(stretches[0].governed) == {"auc", "log_loss", "calibration_error"}
    with np.errstate(all="ignore"):
        stretches, _, _ = measure(times, np.append(labels[:39], 0.0), np.full(40, 0.5), np.full(40, 0.5))
    assert "auc" not in stretches[0].governed
    assert "log_loss" in stretches[0].governed


def test_without_any_label_nothing_is_measured() -> None:
    stretches, total, gain = measure(np.array([JULY]), np.array([np.nan]), np.array([0.5]), np.array([0.5]))
    assert (stretches, total.rows, gain) == ((), 0, {})
    year = a_year(stretches=(), total=total, gain={}, reliability={}, events=(), days=())
    assert "flight-delay" in page.render(year)
    assert len(story.lines(year)) <= story.LINES


def test_the_story_has_nine_lines_however_much_happened() -> None:
    year = a_year()
    many = tuple(replace(event, time=iso(JULY + n * DAY)) for n in range(30) for event in year.events)
    told = story.lines(replace(year, events=many))
    assert len(told) == story.LINES
    assert all(len(line) <= 118 for line in told)
    assert told[0].startswith("Jul  1  train")
    assert any("version 2 is promoted" in line for line in told)
    assert any(line.split()[2] == "drift" for line in told)
    assert "log loss" in told[-2]


def test_the_story_is_told_in_the_order_of_time() -> None:
    months = [line[:6] for line in story.lines(a_year())]
    assert months == sorted(months, key=lambda day: ("JulAug".index(day[:3]), int(day[4:])))


def test_the_page_shows_everything_and_loads_nothing() -> None:
    text = page.render(a_year())
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    for heading in ("What it was worth", "Over time", "Calibration", "Volume", "Every alarm and decision"):
        assert f">{heading}</h2>" in text
    assert text.count("<svg") == text.count('role="img"') == 6
    assert text.count('class="alarm"') == 1
    assert ">v2</text>" in text


def test_a_year_is_read_as_it_was_written(tmp_path: Path) -> None:
    year = a_year()
    contracts.write(year, tmp_path / "year.json")
    assert contracts.read(Year, tmp_path / "year.json") == year


def rows_of(file: Path) -> Rows:
    return Rows.read(file, entity="id", as_of="as_of", label_time="known", target="late")


def test_rows_come_by_time_with_labels_when_they_are_known(tmp_path: Path) -> None:
    stamp = pa.timestamp("us", "UTC")
    table = pa.table(
        {
            "id": ["c", "a", "b"],
            "as_of": pa.array([3_000_000, 1_000_000, 1_000_000], stamp),
            "known": pa.array([9_000_000, 5_000_000, None], stamp),
            "late": [1, 0, None],
            "km": [3.5, None, 1.0],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = rows_of(tmp_path / "rows.parquet")
    assert rows.ids == ["a", "b", "c"]
    assert [(moment, list(group)) for moment, group in rows.at_once(rows.between(0, 10))] == [(1.0, [0, 1]), (3.0, [2])]
    assert list(rows.at_once(rows.between(4, 10))) == []
    assert rows.between(1, 3) == range(2)
    assert [json.loads(body) for body in rows.bodies(range(1, 3))] == [{"km": 1.0}, {"km": 3.5}]
    assert rows.became_known(0, 5).tolist() == [0]
    assert rows.became_known(5, 100).tolist() == [2]
    assert np.isnan(rows.labels).tolist() == [False, True, False]


def test_rows_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("no")
    with pytest.raises(StorageError, match="cannot be read"):
        rows_of(tmp_path / "rows.parquet")
