"""What a reader of the log bears: hostile names, absent and broken files, what is not ours, and what it never reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from telemetry_written import (
    END,
    HOSTILE,
    MODEL,
    PREDICTIONS,
    START,
    Written,
    summed,
)

from stk_ml.errors import TelemetryError, UsageError
from stk_ml.telemetry import queries
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader
from stk_ml.telemetry.protocol import Batch, Event


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
