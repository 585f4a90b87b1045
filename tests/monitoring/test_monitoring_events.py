"""The event of a verdict: one per look, within the limits of the log, and what an alert rule fires on."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stk_ml.contracts import Interval
from stk_ml.monitor_state import ColumnVerdict, MonitorVerdict, PerformanceFinding, QualityFinding
from stk_ml.monitoring.events import LogAnnouncer, event
from stk_ml.monitoring.store import Look
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader

NOW = datetime(2024, 5, 2, tzinfo=UTC).timestamp()
SOUND = MonitorVerdict(
    "late-parcel", 3, "ab" * 32, "eta", "v3", "2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z", 900, "stable"
)


def moved(name: str, weight: float = 0.5) -> ColumnVerdict:
    effect = Interval(0.5, 0.4, 0.6)
    return ColumnVerdict(name, "number", "drift", "distribution", effect, 0.1, 0.01, 0.02, 0.05, weight, 900)


def worse(metric: str, muted: str = "") -> PerformanceFinding:
    return PerformanceFinding(metric, "measured", Interval(0.7, 0.68, 0.72), 0.8, True, 5000, 1.0, muted)


@pytest.mark.parametrize("sign", ["x", '"', "\\", "é", "漢", "\0", "\ud800"])
def test_no_property_is_longer_than_the_log_takes(sign: str) -> None:
    names = [sign * 500 + str(place) for place in range(200)]
    verdict = replace(
        SOUND,
        columns=tuple(map(moved, names)),
        quality=tuple(QualityFinding("unit", name, name * 3) for name in names),
        performance=(worse("auc"),) * 200,
        reason=sign * 100_000,
    )
    for name, text in event(Look(verdict, (), NOW)).properties.items():
        assert len(text) <= 8192, name
        if name in ("drifted", "worse", "findings"):
            assert json.loads(text)


def test_what_is_unused_or_muted_is_left_out() -> None:
    verdict = replace(
        SOUND, columns=(moved("km"), moved("unused", 0.0)), performance=(worse("auc"), worse("brier", "off by 0.1"))
    )
    told = event(Look(verdict, (), NOW)).properties
    assert (told["drifted"], told["worse"]) == ('["km"]', '["auc"]')


def test_an_event_is_told_once_even_when_nobody_knows_whether_it_was(tmp_path: Path) -> None:
    log, reader = ParquetPredictionLog(tmp_path), LocalLogReader(tmp_path)
    announcer, look = LogAnnouncer(log, reader), Look(SOUND, (), NOW)
    announcer.announce(look, again=True)
    announcer.announce(look, again=True)
    announcer.announce(Look(replace(SOUND, window_end="2024-05-03T00:00:00Z"), (), NOW + 1), again=False)
    assert log.read("AppEvents", since=0, until=NOW + 10, names=["stk.verdict"]).num_rows == 2


def test_an_alert_rule_fires_on_alarms_and_on_broken_data_alone(tmp_path: Path) -> None:
    log, reader = ParquetPredictionLog(tmp_path), LocalLogReader(tmp_path)
    verdicts = [
        SOUND,
        replace(SOUND, answer="drift", alarm=True, columns=(moved("km"),), reason="Moved: km."),
        replace(SOUND, answer="drift", alarm=False, armed=False, columns=(moved("km"),)),
        replace(SOUND, quality=(QualityFinding("unit", "km", "1,000 times"),)),
        replace(SOUND, model="other", alarm=True),
    ]
    for place, verdict in enumerate(verdicts):
        LogAnnouncer(log, reader).announce(Look(verdict, (), NOW + place), again=False)
    since, until = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 3, tzinfo=UTC)
    found = reader.query("alarms", since=since, until=until, model="late-parcel", deployment="").sort_by("at")
    assert found.select(["what", "reason", "drifted", "version"]).to_pylist() == [
        {"what": "alarm", "reason": "Moved: km.", "drifted": '["km"]', "version": 3},
        {"what": "broken", "reason": "", "drifted": "[]", "version": 3},
    ]
    assert json.loads(found.column("findings")[1].as_py()) == [["unit", "km", "1,000 times"]]
    assert reader.query("alarms", since=since, until=until, model="", deployment="").num_rows == 3
