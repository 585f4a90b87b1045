"""Each question to the log, answered as a recount in plain Python answers it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from telemetry_rigs import SOURCE, bins_of
from telemetry_written import (
    END,
    MODEL,
    PREDICTIONS,
    START,
    Written,
    stretches,
    summed,
    unpacked,
)

from stk_ml.errors import TelemetryError, UsageError
from stk_ml.telemetry import latency, queries
from stk_ml.telemetry.flusher import Flusher
from stk_ml.telemetry.histogram import Histogram
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader
from stk_ml.telemetry.protocol import Batch, Event
from stk_ml.telemetry.recorder import Recorder

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
