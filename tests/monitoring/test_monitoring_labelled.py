"""Performance from the labels that are known at the end of a window, through the real log and the real ledger."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from parcel_traffic import DAY, START, Traffic, train

from stk_ml.artifact.document import unseal
from stk_ml.contracts import Interval
from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring.judge import iso
from stk_ml.monitoring.labelled import LabelledPerformance
from stk_ml.monitoring.labels import LabelLedger
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.windows import LogWindows
from stk_ml.telemetry import queries
from stk_ml.telemetry.kusto import Parameter
from stk_ml.telemetry.local_reader import LocalLogReader

DAYS = 12
MEASURED = {"auc": Interval(0.8, 0.78, 0.82), "brier": Interval(0.18, 0.17, 0.19)}


class CountingReader(LocalLogReader):
    """Notes what is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[tuple[str, object]] = []

    def query(self, name: str, **parameters: Parameter) -> pa.Table:
        self.asked.append((name, parameters["since"]))
        return super().query(name, **parameters)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the log of some days of it."""
    folder = tmp_path_factory.mktemp("labelled")
    artifact = train(folder)
    traffic = Traffic(artifact, folder / "telemetry")
    for day in range(DAYS):
        traffic.day(day, rows=300)
    return artifact, folder / "telemetry"


def label(
    reader: LocalLogReader, ledger: LabelLedger, delay: float, *, days: int = DAYS, turned: float = np.inf
) -> None:
    """Labels that fit the scores, known so many days after their predictions; they contradict them from a time on."""
    made = queries.predictions(reader, "late-parcel", START, START + days * DAY)
    times = made.column("time").cast("int64").to_numpy() / 1e6 + delay * DAY
    late = np.random.default_rng(0).random(made.num_rows) < made.column("score").to_numpy()
    late ^= times - delay * DAY >= turned
    known = pa.array((times * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"prediction_id": made.column("row_id"), "outcome": late.astype(float), "known_time": known})
    ledger.record(table, now=datetime.fromtimestamp(START + 100 * DAY, UTC))


def test_each_look_sees_the_labels_of_its_time_and_reads_predictions_once(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    artifact, log = world
    reader, ledger, reference = CountingReader(log), LabelLedger(tmp_path), Reference.load(artifact)
    check = LabelledPerformance(reader, "late-parcel", ledger, lambda _: MEASURED, min_rows=100)
    windows = list(LogWindows(reader, "late-parcel", DAY)(START, START + DAYS * DAY))
    assert check(windows[0], reference, ()) == ()
    assert "predictions" not in [name for name, _ in reader.asked], "without labels nothing is read"
    label(reader, ledger, delay=1.5)
    reader.asked.clear()
    rows: list[int] = []
    past: list[MonitorVerdict] = []
    for window in windows:
        found = check(window, reference, past)
        ends = iso(window.start), iso(window.end)
        past.append(MonitorVerdict("late-parcel", 1, unseal(artifact)[1], "", "", *ends, 300, "stable"))
        assert {finding.metric for finding in found} <= {"auc", "brier"}
        rows.append(max((finding.rows for finding in found if finding.source == "measured"), default=0))
    assert rows == sorted(rows)
    assert 0 < rows[-1] < 300 * DAYS, "the newest have no labels yet"
    asked = [since for name, since in reader.asked if name == "predictions"]
    assert len(set(asked)) == len(asked) == DAYS - 1, "each window's predictions are read once, from the first label on"


def test_estimates_stay_muted_until_they_were_graded(world: tuple[Path, Path], tmp_path: Path) -> None:
    artifact, log = world
    reader, ledger = LocalLogReader(log), LabelLedger(tmp_path)
    label(reader, ledger, delay=0.5)
    check = LabelledPerformance(reader, "late-parcel", ledger, lambda _: MEASURED, min_rows=100)
    *_, last = LogWindows(reader, "late-parcel", DAY)(START, START + DAYS * DAY)
    estimated = [found for found in check(last, Reference.load(artifact), ()) if found.source == "estimated"]
    assert {found.metric for found in estimated} == {"auc", "brier"}
    assert all(found.muted and found.worse is None for found in estimated)


def test_a_model_that_nobody_measured_is_not_watched(world: tuple[Path, Path], tmp_path: Path) -> None:
    artifact, log = world
    reader, ledger = LocalLogReader(log), LabelLedger(tmp_path)
    label(reader, ledger, delay=0.5)
    check = LabelledPerformance(reader, "late-parcel", ledger, lambda _: {}, min_rows=100)
    *_, last = LogWindows(reader, "late-parcel", DAY)(START, START + DAYS * DAY)
    assert check(last, Reference.load(artifact), ()) == ()


def test_estimates_are_graded_by_the_labels_of_their_windows(world: tuple[Path, Path], tmp_path: Path) -> None:
    artifact, log = world
    reader, ledger, reference = LocalLogReader(log), LabelLedger(tmp_path), Reference.load(artifact)
    label(reader, ledger, delay=0.5)
    check = LabelledPerformance(reader, "late-parcel", ledger, lambda _: MEASURED, min_rows=100)
    past: list[MonitorVerdict] = []
    for window in LogWindows(reader, "late-parcel", DAY)(START, START + DAYS * DAY):
        found = check(window, reference, past)
        ends = iso(window.start), iso(window.end)
        digest = unseal(artifact)[1]
        past.append(MonitorVerdict("late-parcel", 1, digest, "", "", *ends, 300, "stable", performance=found))
    estimated = [finding for finding in found if finding.source == "estimated"]
    assert estimated
    assert not [finding.muted for finding in estimated if "graded on" in finding.muted]


def test_what_became_worse_late_shows_in_the_newest_block(tmp_path: Path) -> None:
    artifact = train(tmp_path)
    traffic, days = Traffic(artifact, tmp_path / "log"), 44
    for day in range(days):
        traffic.day(day, rows=150)
    reader, ledger = LocalLogReader(tmp_path / "log"), LabelLedger(tmp_path / "labels")
    label(reader, ledger, delay=0.1, days=days, turned=START + 28 * DAY)
    check = LabelledPerformance(reader, "late-parcel", ledger, lambda _: {"auc": MEASURED["auc"]}, min_rows=100)
    *_, last = LogWindows(reader, "late-parcel", DAY)(START, START + days * DAY)
    first = MonitorVerdict("late-parcel", 1, unseal(artifact)[1], "", "", iso(START), iso(START + DAY), 150, "stable")
    found = check(last, Reference.load(artifact), [first])
    late = [finding for finding in found if finding.since]
    assert {finding.since for finding in late} == {iso(START + 28 * DAY)}
    assert {finding.source for finding in late} == {"measured", "corrected"}
    assert all(finding.worse and finding.value.value < 0.5 for finding in late)
    whole = [finding for finding in found if not finding.since and finding.source == "measured"]
    assert [finding.value.value > 0.5 for finding in whole] == [True]
