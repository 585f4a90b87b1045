"""Histograms added up while files are merged: the same answers, whenever and however often it is done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from telemetry_rigs import SOURCE, looks_while

from stk_ml import model_spec
from stk_ml.errors import DeclarationError
from stk_ml.telemetry import queries
from stk_ml.telemetry.compaction import compact
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader
from stk_ml.telemetry.protocol import Batch, Event
from stk_ml.telemetry.sums import NAME, QUARTER

#: 2026-03-01, 22:00 UTC.
START = 1_772_402_400.0
NOON, HOUR = START - 36_000.0, 3600.0
COMPACT = """
import sys
from stk_ml.telemetry.compaction import compact
import pyarrow.parquet
print("ready", flush=True)
sys.stdin.readline()
while True:
    compact(sys.argv[1], float(sys.argv[2]))
"""


def event(time: float, bins: list[int], worker: str = "w1", feature: str = "km", **about: str) -> Event:
    cells = {"below": "1", "above": "0", "missing": "2", "other": "0", "unseen": "0"}
    told = {"endpoint": "eta", "model": "m", "digest": "ab", "deployment": "v1", "version": "1", "shadow": "false"}
    window = {"worker": worker, "window_start": f"{time - 10:.3f}", "window_end": f"{time:.3f}"}
    kind = "score" if feature == "score" else "number"
    what = {"feature": feature, "kind": kind, "counts": json.dumps(bins, separators=(",", ":")), "rows": "0"}
    return Event(time, NAME, {**told, **window, **cells, **what, **about})


def stored(folder: Path) -> list[dict[str, str]]:
    found = ParquetPredictionLog(folder).read("AppEvents", since=0, until=2e9, names=[NAME])
    return [json.loads(text) for text in found.column("Properties").to_pylist()]


#: All that a sum keeps apart.
KEPT = ("endpoint", "model", "digest", "deployment", "version", "shadow", "feature", "kind")


def added_up(folder: Path) -> Counter[tuple[object, ...]]:
    """Rows per cell of each quarter of an hour and kind, in plain Python."""
    found: Counter[tuple[object, ...]] = Counter()
    log = ParquetPredictionLog(folder)
    table = log.read("AppEvents", since=0, until=2e9, names=[NAME], columns=["TimeGenerated", "Properties"])
    times = table.column("TimeGenerated").cast("int64").to_pylist()
    for time, text in zip(times, table.column("Properties").to_pylist(), strict=True):
        about = json.loads(text)
        key = (-(-time // QUARTER), *(about[name] for name in KEPT))
        cells = {name: int(about[name]) for name in ("below", "above", "missing", "other", "unseen")}
        for name, count in (cells | dict(enumerate(json.loads(about["counts"])))).items():
            found[*key, name] += count
    return found


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "deployment": st.just("v2"),
        "shadow": st.just("true"),
        "digest": st.just("cd"),
        "version": st.just("2"),
        "worker": st.just("w2"),
        "feature": st.sampled_from(["score", "km ü\"'"]),
    },
)
#: Seconds after the start, the edges of quarters of an hour among them.
MOMENTS = st.one_of(st.integers(0, 16).map(lambda n: n * 900.0), st.floats(0, 4 * HOUR))
ROWS = st.lists(st.tuples(MOMENTS, st.lists(st.integers(0, 10**12), min_size=2, max_size=2), CHANGES), max_size=25)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, hours=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_every_quarter_of_an_hour_holds_the_same_counts_before_and_after(
    rows: list[tuple[float, list[int], dict[str, str]]], hours: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = ParquetPredictionLog(folder)
        for moment, counts, changes in rows:
            log.write(Batch((event(START + moment, counts, **changes),)))
        before = added_up(folder)
        for hour in [*hours, 30]:
            compact(folder, START + hour * HOUR)
            assert added_up(folder) == before


@pytest.mark.parametrize("scope", [{}, {"deployment": "v2"}, {"shadows": True}])
def test_a_query_has_the_same_answer_before_and_after(tmp_path: Path, scope: queries.Scope) -> None:
    log, changes = ParquetPredictionLog(tmp_path), [{}, {"deployment": "v2"}, {"shadow": "true"}, {"worker": "w2"}]
    for place in range(1, 49):
        time, change = START + place * 300.0, changes[place % 4]
        log.write(Batch((event(time, [place, 1], **change), event(time, [1, place], feature="score", **change))))
    about = (LocalLogReader(tmp_path), "m", START, START + 4 * HOUR)
    before = queries.histograms(*about, every=1800.0, **scope)
    assert compact(tmp_path, START + 2.5 * HOUR) > 20
    assert len(stored(tmp_path)) < 96
    assert queries.histograms(*about, every=1800.0, **scope) == before


def test_a_past_day_has_one_row_per_column_and_quarter_of_an_hour(tmp_path: Path) -> None:
    log = ParquetPredictionLog(tmp_path)
    for hour in range(3):
        for place in range(1, 13):
            time = NOON + hour * HOUR + place * 300.0
            parts = [event(time, [1, place], worker, feature) for worker in ("w1", "w2") for feature in ("km", "score")]
            log.write(Batch(tuple(parts)))
        compact(tmp_path, NOON + (hour + 1) * HOUR + 1)
    compact(tmp_path, NOON + 8 * HOUR)
    rows = stored(tmp_path)
    assert Counter(row["feature"] for row in rows) == {"km": 12, "score": 12}
    assert {row["worker"] for row in rows} == {""}
    assert rows[0]["counts"] == "[6,12]"
    assert (rows[0]["below"], rows[0]["missing"], rows[0]["rows"]) == ("6", "12", str(6 + 12 + 18))
    first, last = NOON + 300, NOON + 900
    assert (rows[0]["window_start"], rows[0]["window_end"]) == (f"{first - 10:.3f}", f"{last:.3f}")


def test_a_sum_bears_the_time_of_its_newest_row_and_ends_with_its_quarter(tmp_path: Path) -> None:
    log = ParquetPredictionLog(tmp_path)
    for second in (10.0, 600.0, 900.0, 901.0):
        log.write(Batch((event(START + second, [1]),)))
    compact(tmp_path, START + HOUR)
    times = log.read("AppEvents", since=0, until=2e9).column("TimeGenerated").cast("int64").to_pylist()
    assert sorted(times) == [round((START + 900) * 1e6), round((START + 901) * 1e6)]
    assert QUARTER == 900_000_000


@pytest.mark.parametrize(
    "about",
    [
        {"counts": "[1,"},
        {"counts": "[1,-2]"},
        {"counts": "[1,null]"},
        {"counts": ""},
        {"below": "few"},
        {"missing": ""},
        {"counts": "[1.5]"},
        {"counts": "[9999999999999999999]"},
    ],
)
def test_what_is_not_written_as_ours_stays_as_it_is(tmp_path: Path, about: dict[str, str]) -> None:
    log = ParquetPredictionLog(tmp_path)
    for second in range(1, 4):
        log.write(Batch((event(START + second, [1], **about), event(START + second, [1]))))
    odd = {json.dumps(row, sort_keys=True) for row in stored(tmp_path) if about.items() <= row.items()}
    compact(tmp_path, START + HOUR)
    rows = stored(tmp_path)
    assert odd < {json.dumps(row, sort_keys=True) for row in rows}
    assert len(rows) == 3 + 1


def test_other_events_are_not_touched_and_no_histograms_need_no_rows(tmp_path: Path) -> None:
    log = ParquetPredictionLog(tmp_path)
    for second in range(1, 4):
        log.write(Batch((Event(START + second, "stk.row", {"counts": "[1]"}),)))
    before = log.read("AppEvents", since=0, until=2e9).to_pylist()
    compact(tmp_path, START + HOUR)
    assert log.read("AppEvents", since=0, until=2e9).to_pylist() == before


def test_histograms_lie_apart_from_the_predictions(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    log = ParquetPredictionLog(tmp_path)
    for second in range(1, 4):
        log.write(Batch((event(START + second, [1]), Event(START + second, "stk.predictions", {}))))
    compact(tmp_path, START + HOUR)
    (path,) = tmp_path.rglob("*.parquet")
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(place, columns=["Name"]).column(0).to_pylist() for place in (0, 1)]
    assert groups == [["stk.predictions"] * 3, [NAME]]


def total(folder: Path) -> int:
    """Adds up the first bin of the log as a reader sees it now."""
    return sum(json.loads(row["counts"])[0] for row in stored(folder))


def test_a_merge_is_killed_again_and_again_and_no_count_is_lost_or_counted_twice(tmp_path: Path) -> None:
    log, written = ParquetPredictionLog(tmp_path), 0
    for delay in (0.0, 0.002, 0.005, 0.01):
        for place in range(15):
            log.write(Batch((event(START + 60.0 * (place + 1), [1], worker=f"w{place % 2}"),)))
        written += 15
        command = [sys.executable, "-c", COMPACT, str(tmp_path), str(START + 2 * HOUR)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        threading.Event().wait(delay)  # the moment of the kill; any will do
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert total(tmp_path) == written
    compact(tmp_path, START + 2 * HOUR)
    assert total(tmp_path) == written
    assert len(stored(tmp_path)) == 1


def test_readers_see_every_count_once_while_files_are_written_and_merged(tmp_path: Path) -> None:
    log, written, looks = ParquetPredictionLog(tmp_path), [0], 0

    def write_and_merge() -> None:
        for turn in range(10):
            for place in range(10):
                log.write(Batch((event(START + 30.0 * (place + 10 * turn + 1), [1]),)))
                written[0] += 1
            compact(tmp_path, START + 2 * HOUR)

    for looks in looks_while(write_and_merge):  # noqa: B007
        before = written[0]
        assert before <= total(tmp_path) <= written[0] + 1
    assert looks > 2
    assert total(tmp_path) == 100


def test_the_newest_hour_is_left_as_it_was_told(tmp_path: Path) -> None:
    log = ParquetPredictionLog(tmp_path)
    for second in range(1, 4):
        log.write(Batch((event(START + second, [1], worker=SOURCE.worker),)))
    compact(tmp_path, START + 0.9 * HOUR)
    assert len(stored(tmp_path)) == 3


def test_a_model_is_not_looked_at_in_parts_of_what_is_added_up(tmp_path: Path) -> None:
    file, text = (
        tmp_path / "m.yml",
        "name: m\nproblem: binary\ndata: {table: t.csv, target: y}\nmonitor: {window: %s}\n",
    )
    file.write_text(text % "45m")
    assert model_spec.load(file).monitor.window == "45m"
    file.write_text(text % "20m")
    with pytest.raises(DeclarationError, match="quarters of an hour"):
        model_spec.load(file)
