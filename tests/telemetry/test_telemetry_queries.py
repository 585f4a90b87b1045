from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from telemetry_rigs import SOURCE, bins_of, matrix_of

from stk_ml.errors import TelemetryError, UsageError
from stk_ml.telemetry import latency, queries
from stk_ml.telemetry.compaction import compact
from stk_ml.telemetry.flusher import Flusher
from stk_ml.telemetry.histogram import Histogram
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader
from stk_ml.telemetry.protocol import Batch, Event, Metric, Request, Source
from stk_ml.telemetry.recorder import Recorder

#: 2026-03-01, 22:00 UTC: the log goes past midnight.
START = 1_772_402_400.0
END = START + 8 * 3600
MODEL = SOURCE.model
PREDICTIONS = "stk.predictions"
HOSTILE = 'v3" or true or "" == "\\'
SOURCES = (
    SOURCE,
    replace(SOURCE, worker="w2"),
    replace(SOURCE, deployment="v4", version=4),
    replace(SOURCE, deployment="v5", version=5, shadow=True),
    replace(SOURCE, endpoint="other", digest="cd34"),
    replace(SOURCE, model="churn", deployment=HOSTILE),
)


class Written:
    """A log on disk and, in memory, all that was written to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.batches = folder, list[Batch]()
        self.reader = LocalLogReader(folder)

    def write(self, batch: Batch, log: ParquetPredictionLog) -> None:
        log.write(batch)
        self.batches.append(batch)

    def events(self, name: str, since: float = START, until: float = END, **about: str) -> list[Event]:
        found = [event for batch in self.batches for event in batch.events if event.name == name]
        return [event for event in found if since < event.time <= until and told(event, about)]

    def metrics(self, name: str, since: float = START, until: float = END, **about: str) -> list[Metric]:
        found = [metric for batch in self.batches for metric in batch.metrics if metric.name == name]
        return [metric for metric in found if since < metric.time <= until and told(metric, about)]

    def requests(self, request_id: str) -> list[Request]:
        return [request for batch in self.batches for request in batch.requests if request.id == request_id]


def told(row: Event | Metric, about: dict[str, str]) -> bool:
    about = {"shadow": "false", **about}
    return all(row.properties.get(key) == value for key, value in about.items() if value != "any")


def record(written: Written, source: Source, generator: np.random.Generator) -> None:
    """Windows of uneven length by the real recorder, with whatever a day brings."""
    now = [START]
    recorder = Recorder(source, bins_of(), sample=0.2, clock=lambda: now[0])
    log = ParquetPredictionLog(written.folder, worker=source.worker)
    end, request = START, 0
    while end < END:
        end = min(end + float(generator.choice([600.0, 1800.0, 3600.0])), END)
        for now[0] in sorted(generator.uniform(end - 500, end, generator.integers(0, 6)).tolist()):
            request_id, rows = f"{source.deployment}-{source.worker}-{request}", int(generator.integers(1, 30))
            request += 1
            status, reason = [(200, ""), (200, ""), (422, "rows"), (503, "busy")][generator.integers(0, 4)]
            recorder.request(request_id, "/score", status, float(generator.exponential(0.01)), reason)
            row_ids = [f"row {place} ü\"'" for place in range(rows)] if request % 3 else []
            if rows == 1:
                recorder.row(request_id, "", matrix_of(1, generator)[0], float(generator.random()))
            else:
                recorder.rows(request_id, row_ids, matrix_of(rows, generator), generator.random(rows))
            recorder.count("cast", "km", 2)
        now[0] = end
        written.write(recorder.drain(end), log)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Six recorders' logs: the first day's files are merged, and some that were replaced are still there."""
    written = Written(tmp_path_factory.mktemp("log"))
    generator = np.random.default_rng(5)
    for source in SOURCES:
        record(written, source, generator)
    before = {path: path.read_bytes() for path in written.folder.rglob("*.parquet")}
    assert compact(written.folder, START + 2.5 * 3600) > 10
    left_behind = [path for path in before if not path.exists()][::3]
    assert left_behind
    for path in left_behind:
        path.write_bytes(before[path])
    return written


def stretches(every: float) -> Iterator[tuple[float, float]]:
    start = START
    while start < END:
        yield start, min(start + every, END)
        start += every


def summed(events: list[Event]) -> dict[str, Histogram]:
    """Histograms by column, added up in plain Python."""
    cells: dict[tuple[str, str], Any] = {}
    for event in events:
        about = event.properties
        row = [int(about[name]) for name in ("below", "above", "missing", "other", "unseen")]
        row += json.loads(about["counts"])
        key = about["feature"], about["kind"]
        cells[key] = np.add(cells[key], row) if key in cells else np.array(row)
    return {
        name: Histogram(name, kind, tuple(row[5:].tolist()), *row[:5].tolist()) for (name, kind), row in cells.items()
    }


SCOPES = [
    {"digest": "ab12"},
    {"digest": "ab12", "deployment": "v3"},
    {"digest": "ab12", "deployment": "v5"},
    {"digest": "ab12", "shadow": "any"},
    {"endpoint": "other"},
    {"endpoint": "eta"},
    {"deployment": "absent"},
]


def scoped(scope: dict[str, str]) -> dict[str, Any]:
    return {key: value for key, value in scope.items() if key != "shadow"} | {"shadows": scope.get("shadow") == "any"}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("every", [86_400.0, 5_400.0])
def test_histograms_add_up(written: Written, scope: dict[str, str], every: float) -> None:
    found = queries.histograms(written.reader, MODEL, START, END, every=every, **scoped(scope))
    expected = []
    for start, end in stretches(every):
        columns = summed(written.events("stk.histogram", start, end, model=MODEL, **scope))
        if columns:
            names = [*sorted(set(columns) - {"score"}), "score"]
            histograms = tuple(columns[name] for name in names)
            expected.append(queries.WindowCounts(start, end, columns["score"].rows, histograms))
    assert found == expected
    assert all(histogram.rows == window.rows for window in found for histogram in window.histograms)


def test_histograms_of_several_versions_are_not_added_up(written: Written) -> None:
    with pytest.raises(UsageError, match="2 versions of flight-delay") as error:
        queries.histograms(written.reader, MODEL, START, END)
    assert "ab12, cd34" in error.value.hint


def test_a_category_without_bins_is_a_histogram_too(tmp_path: Path) -> None:
    about = {"model": "m", "digest": "d", "shadow": "false", "feature": "kind", "kind": "category", "rows": "3"}
    cells = {"counts": "[]", "below": "0", "above": "0", "missing": "2", "other": "0", "unseen": "1"}
    ParquetPredictionLog(tmp_path).write(Batch((Event(START, "stk.histogram", {**about, **cells}),)))
    (window,) = queries.histograms(LocalLogReader(tmp_path), "m", START - 1, START)
    assert window.histograms == (Histogram("kind", "category", (), 0, 0, 2, 0, 1),)


def test_requests_are_counted_by_outcome_and_latency(written: Written) -> None:
    found = queries.requests(written.reader, MODEL, START, END, every=7_200.0)
    expected = []
    for start, end in stretches(7_200.0):
        metrics = written.metrics("stk.requests", start, end, model=MODEL)
        reasons, counts = Counter[str](), [0] * latency.BINS
        for metric in metrics:
            if int(metric.properties["status"]) >= 400:
                reasons[metric.properties["reason"]] += metric.count
            for place, count in json.loads(metric.properties["latency"]).items():
                counts[int(place)] += count
        total = sum(metric.count for metric in metrics)
        expected.append(queries.WindowRequests(start, end, total, reasons["busy"], dict(reasons), tuple(counts)))
    assert found == expected
    assert all(sum(window.latency) == window.requests for window in found)


def test_scores_are_added_up(written: Written) -> None:
    found = queries.scores(written.reader, MODEL, START, END, every=5_400.0, deployment="v3", endpoint="eta")
    about = {"model": MODEL, "deployment": "v3", "endpoint": "eta"}
    expected = {span: written.metrics("stk.scores", *span, **about) for span in stretches(5_400.0)}
    assert [(window.start, window.end) for window in found] == [span for span, metrics in expected.items() if metrics]
    for window in found:
        metrics = expected[window.start, window.end]
        assert window.rows == sum(metric.count for metric in metrics)
        assert window.total == pytest.approx(sum(metric.sum for metric in metrics), rel=1e-12)
        assert window.squares == pytest.approx(sum(float(m.properties["squares"]) for m in metrics), rel=1e-12)
        assert (window.low, window.high) == (min(m.min for m in metrics), max(m.max for m in metrics))


def unpacked(events: list[Event]) -> list[tuple[str, str, int, float, int, str]]:
    rows = []
    for event in events:
        about = event.properties
        start = np.datetime64(about["window_start"].removesuffix("Z"), "us").astype(int)
        ids, scores, times = (json.loads(about[name]) for name in ("ids", "scores", "times"))
        row_ids = json.loads(about.get("row_ids", "null")) or [""] * len(ids)
        for cells in zip(ids, row_ids, times, scores, strict=True):
            request_id, row_id, milliseconds, score = cells
            at = int(start) + milliseconds * 1000
            rows.append((request_id, row_id, at, score, int(about["version"]), about["deployment"]))
    return sorted(rows)


@pytest.mark.parametrize("scope", SCOPES)
def test_predictions_are_unpacked(written: Written, scope: dict[str, str]) -> None:
    since, until = START + 3600, END - 5_000
    found = queries.predictions(written.reader, MODEL, since, until, **scoped(scope))
    assert found.column_names == ["request_id", "row_id", "time", "score", "version", "deployment"]
    columns = [found["request_id"], found["row_id"], found["time"].cast("int64"), *found.columns[3:]]
    rows = sorted(zip(*(column.to_pylist() for column in columns), strict=True))
    assert rows == unpacked(written.events(PREDICTIONS, since, until, model=MODEL, **scope))
    assert (scope.get("deployment") == "absent") == (not rows) or scope.get("deployment") == "v5"


def test_stretches_that_follow_each_other_hold_each_prediction_once(written: Written) -> None:
    ends = [event.time for event in written.events(PREDICTIONS, model=MODEL)]
    marks = [START, *sorted(set(ends))[3:9:2], END]
    parts = [queries.predictions(written.reader, MODEL, since, until).num_rows for since, until in pairwise(marks)]
    assert sum(parts) == queries.predictions(written.reader, MODEL, START, END).num_rows
    assert all(parts)


def test_sampled_rows_are_told_whole(written: Written) -> None:
    found = queries.sampled_rows(written.reader, MODEL, START, END, endpoint="eta")
    expected = written.events("stk.row", model=MODEL, endpoint="eta")
    assert len(found) == len(expected) > 20
    assert [row.time for row in found] == sorted(row.time for row in found)
    left = Counter(
        (event.operation_id, event.properties["row_id"], float(event.properties["score"]), event.properties["values"])
        for event in expected
    )
    for row in found:
        values = json.dumps(row.values, separators=(",", ":"))
        left[row.request_id, row.row_id, row.score, values] -= 1
        assert set(row.unseen) <= {"kind"}
        assert (not row.unseen) or row.values["kind"] is None
    assert not +left
    assert any(row.unseen for row in found)


def test_of_many_sampled_rows_some_are_enough(written: Written) -> None:
    """However much of the log is of others, and the same ones each time."""
    every = queries.sampled_rows(written.reader, MODEL, START, END, endpoint="eta")
    some = queries.sampled_rows(written.reader, MODEL, START, END, most=20, endpoint="eta")
    assert 10 <= len(some) < len(every)
    assert {row.request_id for row in some} < {row.request_id for row in every}
    assert some == queries.sampled_rows(written.reader, MODEL, START, END, most=20, endpoint="eta")
    assert queries.sampled_rows(written.reader, MODEL, START, END, most=10_000, endpoint="eta") == every
    assert queries.sampled_rows(written.reader, "absent", START, END, most=1) == []


def test_a_row_told_in_parts_is_put_together(tmp_path: Path) -> None:
    about = {"model": "m", "shadow": "false", "version": "1", "deployment": "d", "worker": "w", "score": "0.5"}
    parts = [json.dumps({f"c{part}_{place}": place for place in range(3)}) for part in range(12)]
    events = [
        Event(START, "stk.row", {**about, "row_id": row, "part": str(part), "values": text}, operation_id="r")
        for part, text in reversed(list(enumerate(parts)))
        for row in ("a", "b")
    ]
    ParquetPredictionLog(tmp_path).write(Batch(tuple(events)))
    found = queries.sampled_rows(LocalLogReader(tmp_path), "m", START - 1, START)
    assert [(row.row_id, len(row.values)) for row in found] == [("a", 36), ("b", 36)]
    assert list(found[0].values) == [f"c{part}_{place}" for part in range(12) for place in range(3)]


def test_what_the_policy_let_pass_is_added_up(written: Written) -> None:
    found = queries.counted(written.reader, MODEL, START, END, every=14_400.0, endpoint="eta")
    expected: dict[tuple[float, float, str, str], int] = defaultdict(int)
    for start, end in stretches(14_400.0):
        for event in written.events("stk.counted", start, end, model=MODEL, endpoint="eta"):
            about = event.properties
            expected[start, end, about["what"], about["column"]] += int(about["rows"])
    assert found == [queries.Counted(*key, rows) for key, rows in sorted(expected.items())]
    assert {row.what for row in found} == {"cast", "unseen_category"}


def test_volume_tells_who_told_of_which_windows(written: Written) -> None:
    found = queries.volume(written.reader, MODEL, START, END, every=14_400.0, shadows=True)
    expected = []
    for start, end in stretches(14_400.0):
        seen: dict[tuple[str, str], dict[float, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        begun: dict[tuple[str, str], float] = {}
        for name in ("stk.scores", "stk.requests"):
            for metric in written.metrics(name, start, end, model=MODEL, shadow="any"):
                key = metric.properties["deployment"], metric.properties["worker"]
                since = datetime.fromisoformat(metric.properties["window_start"]).timestamp()
                begun[key] = min(begun.get(key, since), since)
                seen[key][metric.time][name] += metric.count
        for key, windows in sorted(seen.items()):
            counts = [sum(window[name] for window in windows.values()) for name in ("stk.scores", "stk.requests")]
            expected.append(
                queries.Volume(start, end, *key, len(windows), *counts, begun[key], min(windows), max(windows))
            )
    assert found == expected


class Refusing:
    """A log that is down until it is told otherwise."""

    def __init__(self, log: ParquetPredictionLog) -> None:
        self.log, self.down = log, True

    def write(self, batch: Batch) -> None:
        if self.down:
            raise TelemetryError("down")
        self.log.write(batch)

    def close(self) -> None: ...


def test_losses_are_told_by_worker(tmp_path: Path) -> None:
    now = [START]
    log = Refusing(ParquetPredictionLog(tmp_path))
    recorder = Recorder(SOURCE, bins_of(), clock=lambda: now[0])
    flusher = Flusher(log, [recorder], queue_bytes=1, pause=0.0, clock=lambda: now[0], background=False)
    for _ in range(3):
        recorder.rows("r", [], np.zeros((7, 4)), np.zeros(7))
        recorder.rows("r", [], np.zeros((7, 3)), np.zeros(7))
        now[0] += 20.0
        log.down = now[0] < START + 60
        flusher.turn(now[0])
    flusher.close()
    reader = LocalLogReader(tmp_path)
    found = {row.what: row for row in queries.dropped(reader, MODEL, START, now[0] + 1)}
    assert found["queue"].batches >= 1
    assert found["queue"].rows >= 7
    assert found["buffer"].rows == 7
    assert found["buffer"].mistakes == 1
    assert found["buffer"].worker == "w1"
    assert queries.dropped(reader, MODEL, START, now[0] + 1, endpoint="another") == []
    assert [row.what for row in queries.dropped(reader, "another", START, now[0] + 1)] == ["queue"]


def test_all_that_is_told_of_a_request_is_found(written: Written) -> None:
    requests = {row.id for batch in written.batches for row in batch.requests}
    sampled = {event.operation_id for event in written.events("stk.row")}
    request_id = next(found for found in sorted(requests & sampled) if found.startswith("v4-"))
    found = queries.prediction(written.reader, request_id)
    by_source = Counter(row["source"] for row in found)
    rows = [row for row in unpacked(written.events(PREDICTIONS)) if row[0] == request_id]
    assert by_source["request"] == len(written.requests(request_id)) == 1
    assert by_source["prediction"] == len(rows) >= 1
    assert by_source["row"] == len([e for e in written.events("stk.row") if e.operation_id == request_id])
    (request,) = [row for row in found if row["source"] == "request"]
    assert (request["route"], request["status"]) == ("/score", int(written.requests(request_id)[0].result_code))
    assert all((row["model"], row["version"], row["digest"]) == (MODEL, 4, "ab12") for row in found)
    assert sorted(row["score"] for row in found if row["source"] == "prediction") == sorted(row[3] for row in rows)
    assert {row["source"]: "values" in row for row in found} == {"request": False, "prediction": False, "row": True}
    assert queries.prediction(written.reader, request_id[:-1] + "x") == []
    assert queries.prediction(written.reader, request_id, START - 10, START) == []


@pytest.mark.parametrize("request_id", ['a "quoted" id', "back\\slash-1", "ü🙂", '"', "x" * 300, "r-1' or '1'='1"])
def test_a_request_with_an_odd_id_is_found(tmp_path: Path, request_id: str) -> None:
    now = [START]
    recorder = Recorder(SOURCE, bins_of(), clock=lambda: now[0], sample=1.0)
    for name in (request_id, "r-1", "another"):
        recorder.rows(name, [], np.zeros((2, 4)), np.array([0.25, 0.5]))
        recorder.request(name, "/score", 200, 0.001)
    ParquetPredictionLog(tmp_path).write(recorder.drain(START + 10))
    found = queries.prediction(LocalLogReader(tmp_path), request_id)
    assert Counter(row["source"] for row in found) == {"prediction": 2, "row": 2, "request": 1}


def test_a_hostile_name_asks_for_nothing_else(written: Written) -> None:
    mine = queries.histograms(written.reader, "churn", START, END, deployment=HOSTILE)
    (total,) = summed(written.events("stk.histogram", model="churn", kind="score")).values()
    assert mine[0].rows == total.rows
    for name in ("model", "deployment", "endpoint", "digest"):
        scope: dict[str, Any] = {name: 'x" or true //'} if name != "model" else {}
        model = 'x" or true //' if name == "model" else MODEL
        assert queries.predictions(written.reader, model, START, END, **scope).num_rows == 0
    with pytest.raises(UsageError):
        queries.predictions(written.reader, "m\n| take 1", START, END)


def test_an_absent_log_answers_with_nothing(tmp_path: Path) -> None:
    reader = LocalLogReader(tmp_path / "absent")
    ask = (reader, MODEL, START, END)
    for query in (queries.histograms, queries.requests, queries.scores, queries.counted, queries.volume):
        assert query(*ask) == []
    assert queries.predictions(*ask).num_rows == 0
    assert queries.sampled_rows(*ask) == queries.dropped(*ask) == queries.prediction(reader, "r") == []
    assert not (tmp_path / "absent").exists()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    log = ParquetPredictionLog(tmp_path)
    log.write(Batch((Event(START, "stk.row", {"model": MODEL}),)))
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(TelemetryError, match="AppEvents cannot be read"):
        queries.sampled_rows(LocalLogReader(tmp_path), MODEL, START - 1, START)


def test_properties_that_are_not_ours_do_no_harm(written: Written, tmp_path: Path) -> None:
    shutil.copytree(written.folder, tmp_path / "log")
    before = queries.histograms(LocalLogReader(tmp_path / "log"), MODEL, START, END, digest="ab12")
    odd = ({}, {"model": MODEL}, {"model": MODEL, "shadow": "false", "digest": "ab12", "counts": "[1,"}, {"model": "["})
    events = tuple(Event(START + 60, name, about) for about in odd for name in ("stk.histogram", "mine", "stk.row"))
    ParquetPredictionLog(tmp_path / "log").write(Batch(events))
    after = queries.histograms(LocalLogReader(tmp_path / "log"), MODEL, START, END, digest="ab12")
    assert after == before


def test_events_of_each_name_lie_apart(written: Written) -> None:
    """A reader of histograms need not even unpack the predictions, in fresh and in merged files."""
    files = list(written.folder.rglob("AppEvents/*/*.parquet"))
    assert any(".merged" in path.name for path in files)
    for path in files:
        with pq.ParquetFile(path) as file:
            place = file.schema_arrow.get_field_index("Name")
            for group in range(file.num_row_groups):
                statistics = file.metadata.row_group(group).column(place).statistics
                assert statistics.min == statistics.max


def test_drift_and_quality_are_read_without_a_look_at_the_predictions(written: Written, tmp_path: Path) -> None:
    """The bytes of all predictions are destroyed, and nobody who asks for anything else takes notice."""
    shutil.copytree(written.folder, tmp_path / "log")
    for path in (tmp_path / "log").rglob("AppEvents/*/*.parquet"):
        content = bytearray(path.read_bytes())
        metadata = pq.read_metadata(path)
        name, place = map(metadata.schema.to_arrow_schema().get_field_index, ("Name", "Properties"))
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            if group.column(name).statistics.min == PREDICTIONS:
                chunk = group.column(place)
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
        path.write_bytes(content)
    ask = (LocalLogReader(tmp_path / "log"), MODEL, START, END)
    found = queries.histograms(*ask, digest="ab12")
    assert found == queries.histograms(written.reader, *ask[1:], digest="ab12")
    for query in (queries.sampled_rows, queries.counted, queries.volume, queries.dropped):
        assert query(*ask) == query(written.reader, *ask[1:])
    assert queries.sampled_rows(*ask, most=20) == queries.sampled_rows(written.reader, *ask[1:], most=20)
    with pytest.raises(TelemetryError, match="cannot be read"):
        queries.predictions(*ask)
