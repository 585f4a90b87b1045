"""Twenty days of parcels, of which the distances grow on the twelfth."""

from pathlib import Path
from typing import Any

import pytest
from parcel_traffic import DAY, START, Traffic, train

from stk_ml.model_policies import MonitorSpec
from stk_ml.monitoring.checks import TelemetryQuality
from stk_ml.monitoring.events import LogAnnouncer
from stk_ml.monitoring.judge import Judge
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.run import run
from stk_ml.monitoring.store import Look, MonitorFolder
from stk_ml.monitoring.windows import LogWindows
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("parcels"))


def looks(tmp_path: Path, artifact: Path, now: float, **options: Any) -> list[Look]:
    reader = LocalLogReader(tmp_path / "telemetry")
    announcer = LogAnnouncer(ParquetPredictionLog(tmp_path / "telemetry"), reader)
    quality = TelemetryQuality(reader, "late-parcel")
    judge = Judge("late-parcel", MonitorSpec(), lambda served: Reference.load(artifact), quality=quality)
    folder = MonitorFolder(tmp_path / "monitoring", "late-parcel")
    return list(run(folder, LogWindows(reader, "late-parcel", DAY), judge, announcer, now=lambda: now, **options))


def events(tmp_path: Path, now: float) -> list[str]:
    table = ParquetPredictionLog(tmp_path / "telemetry").read("AppEvents", since=0, until=now, names=["stk.verdict"])
    return table.column("Properties").to_pylist()


def test_a_shift_is_found_on_its_day_and_nothing_before(artifact: Path, tmp_path: Path) -> None:
    parcels = Traffic(artifact, tmp_path / "telemetry")
    for day in range(20):
        parcels.day(day, add=0.0 if day < 12 else 90.0)
    found = looks(tmp_path, artifact, START + 20 * DAY)
    answers = [look.verdict.answer for look in found]
    assert len(found) == 20
    assert "drift" not in answers[:12]
    assert answers[12:] == ["drift"] * 8
    assert [look.verdict.alarm for look in found].index(True) == 12
    assert sum(look.verdict.alarm for look in found) == 1
    assert "km" in found[12].verdict.reason
