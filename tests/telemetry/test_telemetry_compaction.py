from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from telemetry_rigs import looks_while

from stk_ml.errors import TelemetryError
from stk_ml.telemetry import files
from stk_ml.telemetry.compaction import compact
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.protocol import Batch, Event, Metric

#: 2026-03-01, noon UTC.
NOON = 1_772_366_400.0
HOUR = 3600.0
COMPACT = """
import sys
from stk_ml.telemetry.compaction import compact
import pyarrow.parquet
print("ready", flush=True)
sys.stdin.readline()
while True:
    compact(sys.argv[1], float(sys.argv[2]))
    print("merged", flush=True)
"""


def write(log: ParquetPredictionLog, first: int, count: int, start: float = NOON, step: float = 10.0) -> None:
    """Batches of one numbered event and one metric each."""
    for n in range(first, first + count):
        time = start + (n - first) * step
        about = {"endpoint": "eta", "deployment": "v3", "n": str(n), "squares": "1.0"}
        about["fill"] = "".join(hashlib.sha256(b"%d %d" % (n, part)).hexdigest() for part in range(20))
        log.write(Batch((Event(time, "stk.row", about),), (), (Metric(time, "stk.scores", 1.0, 1.0, 1.0, 1, about),)))


def numbers(log: ParquetPredictionLog) -> list[int]:
    texts = log.read("AppEvents", since=0, until=2e9, columns=["Properties"]).column(0).to_pylist()
    return sorted(int(json.loads(text)["n"]) for text in texts)


def parquets(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(folder: Path) -> ParquetPredictionLog:
    return ParquetPredictionLog(folder)


def test_past_hours_become_one_file_per_table_and_day(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 100, NOON, step=864.0)  # a day: half on the first of March, half on the second
    assert compact(folder, NOON + 48 * HOUR) == 200
    assert Counter(str(path.parent.relative_to(folder)) for path in parquets(folder)) == {
        f"{table}/date=2026-03-0{day}": 1 for table in ("AppEvents", "AppMetrics") for day in (1, 2)
    }
    assert numbers(log) == list(range(100))
    assert len(log.read("AppMetrics", since=0, until=2e9)) == 100


def test_the_current_hour_is_left_alone(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 10, NOON + 0.5 * HOUR)
    write(log, 10, 5, NOON + 1.5 * HOUR)
    assert compact(folder, NOON + 1.9 * HOUR) == 20
    assert len(parquets(folder)) == 2 * (1 + 5)
    assert numbers(log) == list(range(15))


def test_merging_again_takes_up_the_merged_file_or_finds_nothing_to_do(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 10)
    compact(folder, NOON + HOUR)
    before = parquets(folder)
    assert compact(folder, NOON + HOUR) == 0
    assert parquets(folder) == before
    write(log, 10, 10, NOON + HOUR)
    assert compact(folder, NOON + 2 * HOUR) == 2 * 11
    assert len(parquets(folder)) == 2
    assert numbers(log) == list(range(20))


def test_large_files_are_merged_no_further(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 10)
    compact(folder, NOON + HOUR)
    write(log, 10, 10, NOON + HOUR)
    merged = [path for path in parquets(folder) if path.name.endswith(files.MERGED)]
    large = min(path.stat().st_size for path in merged)
    assert compact(folder, NOON + 2 * HOUR, large=large) == 20
    assert set(merged) < set(parquets(folder))
    assert numbers(log) == list(range(20))


def test_a_stretch_of_a_merged_day_is_read_exactly(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 60, step=60.0)
    before = log.read("AppEvents", since=NOON + 600, until=NOON + 1200).sort_by("TimeGenerated").to_pylist()
    compact(folder, NOON + HOUR)
    assert log.read("AppEvents", since=NOON + 600, until=NOON + 1200).sort_by("TimeGenerated").to_pylist() == before
    assert log.observe("eta", "v3", NOON + 600, NOON + 1200).scores == len(before) == 10


def test_an_absent_or_empty_log_has_nothing_to_merge(folder: Path) -> None:
    assert compact(folder, NOON) == 0
    folder.mkdir()
    assert compact(folder, NOON) == 0


def test_what_a_killed_merge_left_is_neither_counted_twice_nor_kept(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 10)
    small = {path: path.read_bytes() for path in parquets(folder)}
    compact(folder, NOON + HOUR)
    for path, content in small.items():  # as if it had been killed between the rename and the removal
        path.write_bytes(content)
    assert numbers(log) == list(range(10))
    assert compact(folder, NOON + HOUR) == 0
    assert len(parquets(folder)) == 2
    assert numbers(log) == list(range(10))


def test_a_chain_of_killed_merges_counts_every_row_once(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 10)
    left = {path: path.read_bytes() for path in parquets(folder)}
    compact(folder, NOON + HOUR)
    left |= {path: path.read_bytes() for path in parquets(folder)}
    write(log, 10, 10, NOON + HOUR)
    left |= {path: path.read_bytes() for path in parquets(folder)}
    compact(folder, NOON + 2 * HOUR)
    for path, content in left.items():
        path.write_bytes(content)
    assert numbers(log) == list(range(20))
    compact(folder, NOON + 2 * HOUR)
    assert len(parquets(folder)) == 2
    assert numbers(log) == list(range(20))


def test_old_asides_of_killed_processes_are_removed_and_young_ones_kept(
    folder: Path, log: ParquetPredictionLog
) -> None:
    write(log, 0, 2)
    day = folder / "AppEvents" / "date=2026-03-01"
    old, young = day / ".old.parquet.tmp", day / ".young.parquet.tmp"
    for path in (old, young):
        path.write_bytes(b"half a file")
    os.utime(old, (1.0, 1.0))
    compact(folder, NOON + HOUR)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_broken_file_is_told_and_nothing_is_lost(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 5)
    broken = folder / "AppEvents" / "date=2026-03-01" / f"{files.stem(round(NOON * 1e6))}-w-0.parquet"
    broken.write_bytes(b"no Parquet")
    with pytest.raises(TelemetryError, match="cannot be merged"):
        compact(folder, NOON + HOUR)
    broken.unlink()
    assert numbers(log) == list(range(5))
    assert not list(folder.rglob(".*.tmp"))


def test_a_merge_is_killed_again_and_again_and_no_row_is_lost_or_counted_twice(
    folder: Path, log: ParquetPredictionLog
) -> None:
    total = 0
    for delay in (0.0, 0.002, 0.005, 0.01):
        write(log, total, 15, NOON, step=1.0)
        total += 15
        command = [sys.executable, "-c", COMPACT, str(folder), str(NOON + HOUR)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        threading.Event().wait(delay)  # the moment of the kill; any will do
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert numbers(log) == list(range(total))
    compact(folder, NOON + HOUR)
    assert numbers(log) == list(range(total))
    assert len(parquets(folder)) == 2


def test_readers_count_every_row_once_while_files_are_written_and_merged(
    folder: Path, log: ParquetPredictionLog
) -> None:
    write(log, 0, 20)
    written, looks = [20], 0

    def write_and_merge() -> None:
        for turn in range(12):
            write(log, written[0], 10, NOON + turn * 100)
            written[0] += 10
            compact(folder, NOON + HOUR)

    for looks in looks_while(write_and_merge):  # noqa: B007
        before = written[0]
        found = numbers(log)
        assert found == list(range(len(found)))
        assert len(found) >= before
    assert looks > 2
    assert numbers(log) == list(range(140))


def test_of_two_merges_at_once_one_does_nothing(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 5)
    with (folder / ".merging").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert compact(folder, NOON + HOUR) == 0
    assert compact(folder, NOON + HOUR) == 10


def test_a_merged_file_holds_large_groups_of_rows(folder: Path, log: ParquetPredictionLog) -> None:
    write(log, 0, 50)
    compact(folder, NOON + HOUR)
    assert {pq.read_metadata(path).num_row_groups for path in parquets(folder)} == {1}


def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    log = ParquetPredictionLog(tmp_path)
    for second in range(3):
        log.write(Batch(events=(Event(float(second), "stk.row", {}),)))
    subprocess.run([sys.executable, "-m", "stk_ml.telemetry.compaction", str(tmp_path)], check=True)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert len(log.read("AppEvents", since=-1.0, until=60.0)) == 3
