from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from telemetry_rigs import SOURCE, Log, matrix_of, predictions, told

from stk_ml.telemetry.flusher import Flusher
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.protocol import Batch, Event
from stk_ml.telemetry.recorder import Recorder

ROW = [1.0, 2.0, 1.0, 0.0]
#: Longer than any test: nothing is flushed by time.
NEVER = 1e6


def still(log: Log, recorders: list[Recorder], **options: Any) -> Flusher:
    """A flusher without a thread: the test takes its turns."""
    return Flusher(log, recorders, background=False, **options)


def recorder_of(bins: FeatureBins | None, **options: int) -> Recorder:
    return Recorder(SOURCE, bins, **options)


def one(flusher: Flusher, recorder: Recorder, now: float, name: str = "a") -> float:
    """Records one row and lets a whole interval pass."""
    recorder.row(name, "", ROW, 0.5)
    return flusher.turn(now)


def test_it_flushes_by_time(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, clock=lambda: 100.0)
    assert one(flusher, recorder, 101.0) == 9.0
    assert not log.batches
    assert one(flusher, recorder, 110.0) == 10.0
    assert told(log.batches)["histogram"] == 2


def test_it_flushes_early_when_many_rows_came_together(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins, capacity=100)
    flusher = still(log, [recorder], every=NEVER, rows=500, clock=lambda: 100.0)
    matrix = np.zeros((100, 4))
    for _ in range(4):
        recorder.rows("a", (), matrix, np.zeros(100))
        flusher.turn(100.0)
    assert not log.batches
    recorder.rows("a", (), matrix, np.zeros(100))
    flusher.turn(100.0)
    assert told(log.batches)["histogram"] == 500


def test_a_full_buffer_wakes_the_thread(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins, capacity=10)
    flusher = Flusher(log, [recorder], every=NEVER, rows=10)
    for _ in range(10):
        recorder.row("a", "", ROW, 0.5)
    assert log.wrote.wait(10)
    assert told(log.batches)["histogram"] == 10
    flusher.close()


def test_closing_writes_what_is_left_and_closes_the_log(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = Flusher(log, [recorder], every=NEVER)
    recorder.row("a", "", ROW, 0.5)
    flusher.close()
    assert told(log.batches)["histogram"] == 1
    assert log.closed
    assert flusher.written == 1
    flusher.close()


def test_idle_recorders_write_nothing(bins: FeatureBins, log: Log) -> None:
    flusher = still(log, [recorder_of(bins), recorder_of(None)], every=1.0, clock=lambda: 0.0)
    for now in range(1, 20):
        flusher.turn(float(now))
    assert not log.batches


def test_one_thread_serves_all_recorders(bins: FeatureBins, log: Log) -> None:
    before = threading.active_count()
    flusher = Flusher(log, [recorder_of(bins) for _ in range(5)], every=NEVER)
    assert threading.active_count() == before + 1
    flusher.close()
    assert threading.active_count() == before


def test_a_removed_recorder_is_emptied_now_and_once_more(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, clock=lambda: 100.0)
    recorder.row("a", "", ROW, 0.5)
    flusher.remove(recorder)
    recorder.row("in work meanwhile", "", ROW, 0.5)
    flusher.turn(110.0)
    assert [entry[0] for entry in predictions(log.batches)] == ["a", "in work meanwhile"]
    recorder.row("long after", "", ROW, 0.5)
    flusher.turn(120.0)
    assert len(log.batches) == 2
    flusher.remove(recorder)


def test_a_refused_batch_is_tried_again_with_growing_pauses(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=1000.0, pause=1.0, clock=lambda: 0.0)
    log.fail()
    one(flusher, recorder, 1000.0)
    pauses, now = [], 1000.0
    for _ in range(9):
        pause = flusher.turn(now)
        pauses.append(pause)
        now += pause
    assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert (flusher.written, flusher.dropped) == (0, 0)
    log.down = None
    flusher.turn(now)
    assert told(log.batches) == {"histogram": 1, "predictions": 1, "scores": 1}
    assert flusher.written == 1
    assert flusher.failed >= 8


def test_batches_that_waited_are_written_in_their_order(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, clock=lambda: 0.0)
    log.fail()
    for place in range(1, 6):
        one(flusher, recorder, place * 10.0, f"id-{place}")
    log.down = None
    flusher.turn(200.0)
    assert [entry[0] for entry in predictions(log.batches)] == [f"id-{place}" for place in range(1, 6)]


def test_a_dead_log_drops_the_oldest_and_tells_how_many(
    bins: FeatureBins, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, queue_bytes=40_000, clock=lambda: 0.0)
    log.fail()
    with caplog.at_level(logging.WARNING, "stk_ml.telemetry"):
        for place in range(1, 101):
            one(flusher, recorder, place * 10.0, f"id-{place}")
    assert len(caplog.records) == 1, "a log that stays down is told once"
    assert sum(size for _, size in flusher._queue) <= 40_000
    log.down = None
    one(flusher, recorder, 2000.0, "id-101")
    kept = [entry[0] for entry in predictions(log.batches)]
    assert kept == [f"id-{place}" for place in range(102 - len(kept), 102)]
    (event,) = log.events("stk.dropped")
    assert event.properties["what"] == "queue"
    assert event.properties["endpoint"] == "eta"
    assert int(event.properties["rows"]) == int(event.properties["batches"]) == flusher.dropped == 101 - len(kept)


def test_losses_are_told_even_when_the_batch_that_tells_them_waits_itself(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, queue_bytes=1, clock=lambda: 0.0)
    log.fail()
    for place in range(1, 11):
        one(flusher, recorder, place * 10.0)
    log.down = None
    one(flusher, recorder, 1000.0)
    assert told(log.batches)["dropped"] + told(log.batches)["histogram"] == 11


def test_a_batch_that_can_never_be_written_does_not_hold_up_the_others(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, clock=lambda: 0.0)
    log.down = ValueError("no such column")
    one(flusher, recorder, 10.0, "poison")
    log.down = None
    one(flusher, recorder, 20.0, "good")
    assert [entry[0] for entry in predictions(log.batches)] == ["good"]
    assert told(log.batches)["dropped"] == 1
    assert (flusher.written, flusher.failed, flusher.dropped) == (1, 1, 1)


def test_a_clock_that_is_set_back_does_not_stop_it(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, clock=lambda: 1e6)
    one(flusher, recorder, 1e6 + 10)
    log.fail()
    one(flusher, recorder, 1e6 + 20)
    log.down = None
    one(flusher, recorder, 50.0)
    assert told(log.batches)["histogram"] == 3


class Stuck(Log):
    """A log whose disk hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def write(self, batch: Batch) -> None:
        self.inside.set()
        self.go_on.wait()
        super().write(batch)


def test_a_log_that_hangs_blocks_neither_requests_nor_the_end(
    bins: FeatureBins, generator: np.random.Generator
) -> None:
    log, recorder = Stuck(), recorder_of(bins, capacity=100)
    flusher = Flusher(log, [recorder], every=NEVER, rows=1)
    matrix = matrix_of(100, generator)
    recorder.rows("first", (), matrix, np.zeros(100))
    assert log.inside.wait(10)
    started = time.perf_counter()
    for _ in range(100):
        recorder.rows("a", (), matrix, np.zeros(100))
    flusher.close(timeout=0.2)
    assert time.perf_counter() - started < 5
    log.go_on.set()
    flusher._thread.join(10)  # type: ignore[union-attr]


def test_a_recorder_added_after_the_end_only_forgets(bins: FeatureBins, log: Log) -> None:
    flusher = Flusher(log)
    flusher.close()
    recorder = recorder_of(bins, capacity=1)
    flusher.add(recorder)
    recorder.row("a", "", ROW, 0.5)
    assert not log.batches


def test_threads_under_load_lose_nothing_on_their_way_to_the_log(
    bins: FeatureBins, log: Log, generator: np.random.Generator
) -> None:
    recorders = [recorder_of(bins, capacity=500) for _ in range(2)]
    flusher = Flusher(log, recorders, every=0.01, rows=2000)
    matrix = matrix_of(100, generator)

    def work(recorder: Recorder, name: str) -> None:
        for place in range(2000):
            recorder.row(f"{name}-{place}", "", matrix[place % 100], 0.5)
            recorder.request(f"{name}-{place}", "/score", 200, 0.001)
            if place % 20 == 0:
                recorder.rows(f"{name}-{place}", (), matrix, np.zeros(100))

    threads = [threading.Thread(target=work, args=(r, f"{n}")) for n in range(4) for r in [recorders[n % 2]]]
    for thread in threads:
        thread.start()
    flusher.remove(recorders[0])
    flusher.add(recorders[0])
    for thread in threads:
        thread.join()
    flusher.close()
    found = told(log.batches)
    assert found["histogram"] + found["dropped"] == 4 * (2000 + 100 * 100)
    assert found["requests"] == 4 * 2000
    assert (flusher.failed, flusher.dropped) == (0, 0)


def test_what_is_on_its_way_is_not_lost_when_the_log_comes_back_at_the_end(bins: FeatureBins, log: Log) -> None:
    recorder = recorder_of(bins)
    flusher = still(log, [recorder], every=10.0, clock=lambda: 0.0)
    log.fail()
    one(flusher, recorder, 10.0)
    log.down = None
    flusher.flush()
    assert told(log.batches)["histogram"] == 1


def test_an_event_without_a_window_still_carries_losses(log: Log) -> None:
    from collections import Counter

    from stk_ml.telemetry.flusher import _with_losses

    batch = _with_losses(Batch(events=(Event(1.0, "stk.row", {}),)), Counter(rows=3), 2.0)
    assert batch.events[-1].properties["rows"] == "3"


def test_recording_imports_neither_pyarrow_nor_pandas() -> None:
    code = (
        "import sys; from stk_ml.telemetry import flusher, local, recorder, rows, files\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'pyarrow', 'pandas', 'lightgbm', 'duckdb', 'mlflow'})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_what_recorders_tell_at_one_time_is_one_batch(bins: FeatureBins, log: Log) -> None:
    recorders = [recorder_of(bins), recorder_of(None), recorder_of(bins)]
    flusher = still(log, recorders, every=10.0, clock=lambda: 0.0)
    for recorder in recorders:
        recorder.row("a", "", ROW, 0.5)
    flusher.turn(10.0)
    assert len(log.batches) == 1
    assert told(log.batches) == {"histogram": 2, "predictions": 3, "scores": 3}
