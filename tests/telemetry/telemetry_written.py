"""A log on disk beside all that was written to it, for those who ask it questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from telemetry_rigs import SOURCE, bins_of, matrix_of

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
