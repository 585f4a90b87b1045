"""Rows told whole: the same for a window however many are read at once, and joint drift that no column shows alone."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring import samples as module
from stk_ml.monitoring.judge import iso
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.samples import Samples
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry.kusto import Parameter
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader
from stk_ml.telemetry.packing import json
from stk_ml.telemetry.protocol import Batch, Event
from stk_ml.telemetry.served import Served

DAY, DAYS, START = 86_400.0, 15, datetime(2024, 5, 1, tzinfo=UTC).timestamp()
END = START + DAYS * DAY
SCHEMA = FeatureSchema((FeatureField("km", "number"), FeatureField("hours", "number")))
DIGEST = "ab" * 32


class CountingReader(LocalLogReader):
    """Counts what is asked."""

    asked = 0

    def query(self, name: str, **parameters: Parameter) -> pa.Table:
        self.asked += 1
        return super().query(name, **parameters)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days of 80 rows; on the last one, hours do not go with km any more."""
    folder = tmp_path_factory.mktemp("log")
    rng, log = np.random.default_rng(0), ParquetPredictionLog(folder)
    about = {"endpoint": "eta", "deployment": "v1", "model": "m", "version": "1", "digest": DIGEST, "worker": "w"}
    for day in range(DAYS):
        km = rng.normal(size=80)
        hours = (km if day < DAYS - 1 else rng.normal(size=80)) + 0.1 * rng.normal(size=80)
        events = [
            Event(
                START + day * DAY + 1000 * (place + 1),
                "stk.row",
                {**about, "shadow": "false", "row_id": "", "score": "0.5", "part": "0", "unseen": "[]",
                 "values": json({"km": float(km[place]), "hours": float(hours[place])})},
                operation_id=f"q{day}-{place}",
            )
            for place in range(80)
        ]  # fmt: skip
        log.write(Batch(events=tuple(events)))
    return folder


@pytest.fixture
def reader(folder: Path) -> CountingReader:
    return CountingReader(folder)


@pytest.fixture(scope="module")
def at_once(folder: Path) -> tuple[list[Any], int]:
    """What all windows say, read together, and how often the log was asked."""
    reader = CountingReader(folder)
    return answers(reader, END), reader.asked


def windows(read_until: float = END) -> list[Window]:
    served = Served(0, "eta", "v1", 1, DIGEST, 80)
    return [
        Window(START + day * DAY, START + (day + 1) * DAY, served, 80, (), read_until or START + (day + 1) * DAY)
        for day in range(DAYS)
    ]


def verdict(window: Window) -> MonitorVerdict:
    return MonitorVerdict("m", 1, DIGEST, "eta", "v1", iso(window.start), iso(window.end), 80, "stable")


def reference(**weights: float) -> Reference:
    class Document:
        schema = SCHEMA

    found: Any = Document()
    profile: Any = None
    return Reference(found, profile, {"km": 0.5, "hours": 0.5, **weights})


def answers(reader: LocalLogReader, read_until: float) -> list[Any]:
    found, past, samples = [], [], Samples(reader, "m")
    for window in windows(read_until):
        found.append((samples.numbers(window, SCHEMA)["km"].tolist(), samples.joint(window, reference(), past, 0.05)))
        past.append(verdict(window))
    return found


def test_windows_read_at_once_and_one_by_one_give_the_same(
    reader: CountingReader, at_once: tuple[list[Any], int]
) -> None:
    found, asked = at_once
    assert answers(reader, 0.0) == found
    assert asked < reader.asked / 3
    assert [len(values) for values, _ in found] == [80] * DAYS


def test_a_new_process_takes_up_what_earlier_looks_saw(
    reader: CountingReader, at_once: tuple[list[Any], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    *past, last = windows()
    verdicts = [verdict(window) for window in past]
    _, expected = at_once[0][-1]
    assert Samples(reader, "m").joint(last, reference(), verdicts, 0.05) == expected
    assert reader.asked <= 6
    monkeypatch.setattr(module, "ROWS", 100)  # too many to be read at once
    assert Samples(reader, "m").joint(last, reference(), verdicts, 0.05) == expected
    assert reader.asked > DAYS


def test_columns_that_part_company_are_seen_together(at_once: tuple[list[Any], int]) -> None:
    found = [joint for _, joint in at_once[0]]
    assert [joint.answer == "drift" for joint in found] == [False] * (DAYS - 1) + [True]
    assert set(found[-1].columns) == {"km", "hours"}


def test_broken_drifted_and_unserved_windows_and_unused_columns_stay_out(reader: CountingReader) -> None:
    *past, last = windows()
    verdicts = [verdict(window) for window in past]
    drifted = [replace(each, answer="drift") for each in verdicts]
    assert Samples(reader, "m").joint(last, reference(), drifted, 0.05).answer == "insufficient"
    assert Samples(reader, "m").joint(last, reference(hours=0.0), verdicts, 0.05).answer != "drift"
    nobody = Window(last.start, last.end)
    assert Samples(reader, "m").numbers(nobody, SCHEMA)["km"].size == 0
