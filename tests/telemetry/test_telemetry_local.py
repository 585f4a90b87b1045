from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from telemetry_rigs import SOURCE, matrix_of

from stk_ml.errors import TelemetryError
from stk_ml.telemetry import latency
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.local import ParquetPredictionLog, schema
from stk_ml.telemetry.protocol import Batch, Event, Metric, Request
from stk_ml.telemetry.recorder import Recorder
from stk_ml.telemetry.rows import COLUMNS, TABLES

#: 2026-03-01, noon UTC.
NOON = 1_772_366_400.0
ABOUT = {"endpoint": "eta", "deployment": "v3", "worker": "w1", "version": "3"}
#: Writes without end until it is killed: batch n holds n % 7 + 1 events, each saying so.
WRITER = """
import sys, itertools
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.protocol import Batch, Event
log = ParquetPredictionLog(sys.argv[1], worker=sys.argv[2])
batches = int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for n in itertools.count() if batches < 0 else range(batches):
    size = n % 7 + 1
    about = {"endpoint": "eta", "worker": sys.argv[2], "n": str(n), "size": str(size), "fill": "x" * 2000}
    log.write(Batch(events=tuple(Event(1_772_366_400.0 + n / 1000, "stk.row", about) for _ in range(size))))
    if n == 20: print("going", flush=True)
"""


def event(time: float, name: str = "stk.row", **about: str) -> Event:
    return Event(time, name, {**ABOUT, **about})


def seen(log: ParquetPredictionLog) -> pa.Table:
    return log.read("AppEvents", since=0.0, until=2e9)


def writer(folder: Path, name: str, batches: int = -1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(batches)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a log"


def test_rows_have_the_columns_of_log_analytics(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    log.write(
        Batch(
            (Event(NOON, "stk.row", ABOUT, {"seconds": 1.5}, "request-1"),),
            (Request(NOON, "request-1", "/score", False, "503", 12.5, {**ABOUT, "reason": "busy"}),),
            (Metric(NOON, "stk.requests", 3.0, 1.0, 2.0, 2, ABOUT),),
        )
    )
    events, requests, metrics = (log.read(table, since=0.0, until=NOON).to_pylist()[0] for table in TABLES)
    assert events["TimeGenerated"].isoformat() == "2026-03-01T12:00:00+00:00"
    assert json.loads(events["Properties"]) == ABOUT
    assert json.loads(events["Measurements"]) == {"seconds": 1.5}
    for row, table in ((events, "AppEvents"), (requests, "AppRequests"), (metrics, "AppMetrics")):
        assert (row["Type"], row["AppRoleName"], row["AppRoleInstance"], row["AppVersion"]) == (table, "eta", "w1", "3")
    assert (events["OperationId"], requests["Id"], requests["OperationId"]) == ("request-1",) * 3
    assert (requests["Success"], requests["ResultCode"], requests["DurationMs"]) == (False, "503", 12.5)
    assert (metrics["Sum"], metrics["Min"], metrics["Max"], metrics["ItemCount"]) == (3.0, 1.0, 2.0, 2)
    assert [set(COLUMNS[table]) for table in TABLES] == [set(events), set(requests), set(metrics)]


def test_a_day_is_a_folder_and_a_batch_one_file_in_it(folder: Path) -> None:
    log = ParquetPredictionLog(folder, worker="node/1 ü")
    log.write(Batch(events=(event(NOON), event(NOON + 1.25), event(NOON + 12 * 3600))))
    first, second = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    assert first.parent == Path("AppEvents/date=2026-03-01")
    assert second.parent == Path("AppEvents/date=2026-03-02")
    assert first.name.startswith("20260301T120001250000Z-node_1___")


def test_reading_takes_what_lies_in_the_stretch_to_the_microsecond(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    times = [NOON + n * 3600 + 1e-6 for n in range(-20, 20)]
    for start in range(0, 40, 8):
        log.write(Batch(events=tuple(event(time) for time in times[start : start + 8])))
    found = log.read("AppEvents", since=times[3], until=times[30], columns=["TimeGenerated"])
    microseconds = sorted(found.column(0).cast(pa.int64()).to_pylist())
    assert microseconds == [round(time * 1e6) for time in times[4:31]]


def test_names_and_columns_can_be_chosen(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    log.write(Batch(events=(event(NOON, "stk.row"), event(NOON, "stk.histogram"))))
    found = log.read("AppEvents", since=0, until=2e9, names=["stk.histogram"], columns=["Name", "Type"])
    assert found.to_pylist() == [{"Name": "stk.histogram", "Type": "AppEvents"}]


def test_an_absent_log_is_empty(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    assert len(seen(log)) == 0
    assert seen(log).schema == schema("AppEvents")
    assert log.observe("eta", "v3", 0, 2e9).requests == 0
    log.write(Batch())
    assert not folder.exists()


def test_only_the_days_asked_for_are_read(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    log.write(Batch(events=(event(NOON), event(NOON + 86_400))))
    next(folder.glob("AppEvents/date=2026-03-02/*")).write_bytes(b"no Parquet")
    assert len(log.read("AppEvents", since=0, until=NOON)) == 1
    with pytest.raises(TelemetryError, match="AppEvents"):
        log.read("AppEvents", since=0, until=NOON + 86_400)


def test_files_of_others_are_left_out(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    log.write(Batch(events=(event(NOON),)))
    day = folder / "AppEvents" / "date=2026-03-01"
    for name in (".20260301T120000000000Z-w-0.parquet.tmp", ".hidden.parquet", "notes.txt", "other.parquet"):
        (day / name).write_text("no Parquet")
    (folder / "AppEvents" / "README").write_text("about this log")
    assert len(seen(log)) == 1


def test_numbers_that_are_not_finite_come_back_as_they_are(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    log.write(Batch(metrics=(Metric(NOON, "stk.scores", float("nan"), float("-inf"), 1.0, 2, ABOUT),)))
    (row,) = log.read("AppMetrics", since=0, until=NOON).to_pylist()
    assert str([row["Sum"], row["Min"], row["Max"]]) == "[nan, -inf, 1.0]"


def test_text_of_all_the_world_comes_back(folder: Path) -> None:
    log = ParquetPredictionLog(folder)
    about = {"endpoint": 'Zürich "eta" \\ 東京', "row_id": "\x00\n\U0001f4e6"}
    log.write(Batch(events=(Event(NOON, "stk.row", about),)))
    (row,) = seen(log).to_pylist()
    assert json.loads(row["Properties"]) == about
    assert row["AppRoleName"] == about["endpoint"]


def test_an_observation_adds_up_workers_and_windows_of_one_deployment(
    folder: Path, bins: FeatureBins, generator: np.random.Generator
) -> None:
    matrix, scores = matrix_of(60, generator), generator.random(60)
    seconds = generator.lognormal(-6, 1, 60)
    for worker in range(2):
        log = ParquetPredictionLog(folder)
        recorder = Recorder(replace(SOURCE, worker=f"w{worker}"), bins, clock=lambda: NOON)
        other = Recorder(replace(SOURCE, deployment="v4"), bins, clock=lambda: NOON)
        for window in range(3):
            for place in range(worker * 30 + window * 10, worker * 30 + window * 10 + 10):
                recorder.row(f"r{place}", "", matrix[place], scores[place])
                recorder.request(f"r{place}", "/score", 500 if place % 5 == 0 else 200, seconds[place])
                other.request(f"r{place}", "/score", 200, 9.0)
            for one in (recorder, other):
                log.write(one.drain(NOON + 10 * (window + 1)))
    whole = log.observe("eta", "v3", NOON, NOON + 30)
    assert (whole.requests, whole.errors, whole.scores) == (60, 12, 60)
    assert whole.score_sum == pytest.approx(scores.sum())
    assert whole.score_squares == pytest.approx((scores**2).sum())
    assert sum(whole.latency) == 60
    assert whole.latency == latency.merge(*[[int(latency.bin(s) == b) for b in range(latency.BINS)] for s in seconds])
    second = log.observe("eta", "v3", NOON + 10, NOON + 20)
    assert (second.requests, second.errors, second.scores) == (20, 4, 20)
    assert log.observe("eta", "v5", NOON, NOON + 30).requests == 0
    assert log.observe("other", "v3", NOON, NOON + 30).scores == 0


def test_several_processes_write_at_once(folder: Path) -> None:
    processes = [writer(folder, f"w{place}", 40) for place in range(3)]
    for process in processes:
        go(process)
    for process in processes:
        assert process.wait(60) == 0
    found = [json.loads(text) for text in seen(ParquetPredictionLog(folder)).column("Properties").to_pylist()]
    sizes = {(row["worker"], row["n"]): int(row["size"]) for row in found}
    assert len(sizes) == 3 * 40
    assert sum(sizes.values()) == len(found)
    assert not list(folder.rglob(".*"))


def test_a_killed_writer_leaves_whole_batches_or_nothing(folder: Path) -> None:
    process = writer(folder, "w1")
    go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    log = ParquetPredictionLog(folder)
    for _ in range(3):
        check_whole(log)
    process.kill()
    process.wait()
    assert check_whole(log) > 20
    log.write(Batch(events=(event(NOON, n="after", size="1"),)))
    check_whole(log)


def check_whole(log: ParquetPredictionLog) -> int:
    """Every batch that is there is there wholly; how many there are."""
    rows = [json.loads(text) for text in seen(log).column("Properties").to_pylist()]
    sizes = {row["n"]: int(row["size"]) for row in rows}
    assert sum(sizes.values()) == len(rows)
    return len(sizes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk needs root and mount (apt-get install mount)")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs (run with the capability SYS_ADMIN): {mounted.stderr}")
    yield disk
    busy = subprocess.run(["umount", disk], capture_output=True, text=True)
    if busy.returncode:
        subprocess.run(["umount", "--lazy", disk], check=True)
        pytest.fail(f"a file was left open: {busy.stderr}")


def test_a_full_disk_is_told_and_leaves_nothing_behind(small_disk: Path) -> None:
    log = ParquetPredictionLog(small_disk / "log")
    log.write(Batch(events=(event(NOON),)))
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    fill = tuple(event(NOON + 1, fill=os.urandom(4000).hex()) for _ in range(20))
    with pytest.raises(TelemetryError, match="cannot be written") as failure:
        log.write(Batch(fill, (), (Metric(NOON + 1, "stk.requests", 1, 1, 1, 1, ABOUT),)))
    assert failure.value.retryable
    assert failure.value.hint
    assert len(seen(log)) == 1
    assert len([path for path in (small_disk / "log").rglob("*") if path.is_file()]) == 1
    ballast.unlink()
    log.write(Batch(fill[:1]))
    assert len(seen(log)) == 2


def test_a_file_that_may_not_grow_is_told_and_leaves_nothing_behind(folder: Path) -> None:
    code = (
        "import resource, signal, sys, os\n"
        "from stk_ml.errors import TelemetryError\n"
        "from stk_ml.telemetry.local import ParquetPredictionLog\n"
        "from stk_ml.telemetry.protocol import Batch, Event, Metric\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "events = tuple(Event(1.0, 'stk.row', {'fill': os.urandom(2000).hex()}) for _ in range(50))\n"
        "metric = Metric(1.0, 'stk.requests', 1.0, 1.0, 1.0, 1, {})\n"
        "try: ParquetPredictionLog(sys.argv[1]).write(Batch(events, (), (metric,)))\n"
        "except TelemetryError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert "cannot be written" in result.stdout, result.stderr
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(TelemetryError, match="log cannot be written"):
        ParquetPredictionLog(tmp_path / "log").write(Batch(events=(event(NOON),)))


def test_a_busy_window_is_written_and_read_in_moments(
    folder: Path, bins: FeatureBins, generator: np.random.Generator
) -> None:
    recorder = Recorder(SOURCE, bins, clock=lambda: NOON)
    for place in range(10):
        recorder.rows(f"r{place}", (), matrix_of(10_000, generator), generator.random(10_000))
    batch = recorder.drain(NOON + 10)
    log = ParquetPredictionLog(folder)
    started = time.perf_counter()
    log.write(batch)
    assert len(seen(log)) == len(batch.events)
    assert time.perf_counter() - started < 5
    (file,) = folder.rglob("AppEvents/*/*.parquet")
    assert pq.read_metadata(file).num_rows == len(batch.events)
    assert file.stat().st_size < 100_000 * 20
