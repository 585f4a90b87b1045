"""The background thread that empties the recorders of a process into its log."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from stk_ml.errors import TelemetryError
from stk_ml.telemetry.packing import iso
from stk_ml.telemetry.protocol import Batch, Event, PredictionLog
from stk_ml.telemetry.recorder import Recorder

log = logging.getLogger("stk_ml.telemetry")
#: Seconds between two attempts at most.
_LONGEST = 60.0


class Flusher:
    """Writes what recorders gathered: every few seconds, when much has come together, and at the end.

    One thread per process, started by the first recorder. Batches that the log refuses wait in a bounded queue and are
    tried again with growing pauses; when the queue is full the oldest is dropped, and the next batch tells how many
    rows were lost with it. Nothing here raises into whoever records.

    Args:
        log: where batches go; closed by :meth:`close`.
        recorders: to begin with.
        every: seconds between two flushes.
        rows: scored rows after which a recorder is flushed earlier.
        queue_bytes: size of the waiting batches, roughly.
        pause: seconds before the first retry; doubled each time, up to 60.
        clock: unix seconds.
        tick: longest seconds between two turns; for a clock that jumps.
        background: whether a thread takes the turns; without it call :meth:`turn`.

    Attributes:
        written: batches that the log took.
        failed: attempts that it refused.
        dropped: batches given up.

    Example:
        >>> class Memory:
        ...     def write(self, batch): print(len(batch.metrics), "metric")
        ...     def close(self): print("closed")
        >>> from stk_ml.telemetry.protocol import Source
        >>> flusher = Flusher(Memory())
        >>> recorder = Recorder(Source("eta", "v3", "flight-delay", 3, "ab12"), None)
        >>> flusher.add(recorder)
        >>> recorder.request("request-1", "/score", 200, 0.0015)
        >>> flusher.close()
        1 metric
        closed
    """

    def __init__(
        self,
        log: PredictionLog,
        recorders: Iterable[Recorder] = (),
        *,
        every: float = 10.0,
        rows: int = 65_536,
        queue_bytes: int = 32 * 2**20,
        pause: float = 1.0,
        clock: Callable[[], float] = time.time,
        tick: float = math.inf,
        background: bool = True,
    ) -> None:
        self.written = self.failed = self.dropped = 0
        self._log, self._clock, self._tick, self._background = log, clock, tick, background
        self._every, self._most_rows, self._most_bytes, self._first_pause = every, rows, queue_bytes, pause
        self._recorders: list[Recorder] = []
        self._leaving: list[Recorder] = []
        self._queue: deque[tuple[Batch, int]] = deque()
        self._lost: Counter[str] = Counter()
        self._due = clock() + every
        self._retry, self._pause = 0.0, 0.0
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._awake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        for recorder in recorders:
            self.add(recorder)

    def add(self, recorder: Recorder) -> None:
        """Begins to empty a recorder, and starts the thread if it does not run yet."""
        with self._lock:
            recorder.sink = recorder.sink or self
            self._recorders.append(recorder)
            if self._background and self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._work, name="telemetry", daemon=True)
                self._thread.start()

    def remove(self, recorder: Recorder) -> None:
        """Empties a recorder now, once more at the next flush for requests still in work, and then forgets it."""
        with self._lock:
            if recorder in self._recorders:
                self._recorders.remove(recorder)
                self._leaving.append(recorder)
                self._drain([recorder], self._clock())
        self.wake()

    def wake(self) -> None:
        """Lets the thread look at once whether there is something to do."""
        self._awake.set()

    def flush(self) -> None:
        """Empties all recorders and writes what waits, in the calling thread; a log that fails is tried once."""
        self._gather(self._clock(), force=True)
        self._write(self._clock(), force=True)

    def close(self, timeout: float = 5.0) -> None:
        """Ends the thread, writes what there is and closes the log; gives up after ``timeout`` seconds."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._awake.set()
        last = threading.Thread(target=self._end, name="telemetry-end", daemon=True)
        last.start()
        last.join(timeout)
        if last.is_alive() or self._queue:
            log.warning("telemetry: %d batches could not be written in the end", len(self._queue) + last.is_alive())

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self.flush()
        try:
            self._log.close()
        except Exception as error:
            log.warning("telemetry: the log could not be closed: %s", error)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                wait = self.turn(self._clock())
            except Exception:
                log.exception("telemetry: this turn failed")
                wait = self._every
            self._awake.wait(min(wait, self._tick))
            self._awake.clear()

    def turn(self, now: float) -> float:
        """One look at the recorders and the queue; what the thread does again and again.

        Args:
            now: unix seconds.

        Returns:
            Seconds until the next look is due, if nobody wakes the thread before.
        """
        self._gather(now)
        self._write(now)
        upcoming = min(self._due, self._retry) if self._queue else self._due
        return max(upcoming - now, 0.0)

    def _gather(self, now: float, *, force: bool = False) -> None:
        with self._lock:
            if force or now >= self._due or now < self._due - self._every:  # or the clock was set back
                self._drain([*self._recorders, *self._leaving], now)
                self._leaving.clear()
                self._due = now + self._every
            else:
                self._drain([recorder for recorder in self._recorders if recorder.absorb() >= self._most_rows], now)

    def _drain(self, recorders: list[Recorder], now: float) -> None:
        batch = joined([recorder.drain(now) for recorder in recorders])
        if batch != Batch():
            self._queue.append((batch, weight(batch)))
        while len(self._queue) > 1 and sum(size for _, size in self._queue) > self._most_bytes:
            self._give_up(self._queue.popleft()[0])

    def _write(self, now: float, *, force: bool = False) -> None:
        with self._writing:
            while self._queue and (force or not now < self._retry <= now + _LONGEST):
                with self._lock:
                    batch, size = self._queue.popleft()
                    lost, self._lost = self._lost, Counter()
                try:
                    self._log.write(_with_losses(batch, lost, now))
                except Exception as error:
                    again = isinstance(error, TelemetryError)
                    self._failed(error, again)
                    with self._lock:
                        self._lost += lost
                        if again:
                            self._queue.appendleft((batch, size))
                        else:
                            self._give_up(batch)
                    if again:
                        self._pause = min(self._pause * 2 or self._first_pause, _LONGEST)
                        self._retry = now + self._pause
                        return
                else:
                    self.written += 1
                    self._retry = self._pause = 0.0

    def _failed(self, error: Exception, again: bool) -> None:
        self.failed += 1
        if not again:
            log.error("telemetry: a batch cannot be written and is dropped", exc_info=error)
        elif not self._pause:
            log.warning("telemetry cannot be written and waits: %s", error)

    def _give_up(self, batch: Batch) -> None:
        self.dropped += 1
        self._lost["batches"] += 1
        self._lost["events"] += len(batch.events)
        self._lost["requests"] += len(batch.requests)
        self._lost["metrics"] += len(batch.metrics)
        self._lost["rows"] += sum(metric.count for metric in batch.metrics if metric.name == "stk.scores")


def _with_losses(batch: Batch, lost: Counter[str], now: float) -> Batch:
    if not lost:
        return batch
    first = next(_properties(batch))
    about = {name: first[name] for name in ("endpoint", "worker") if name in first}
    told = {**about, "what": "queue", "window_end": iso(now), **{name: str(count) for name, count in lost.items()}}
    return Batch((*batch.events, Event(now, "stk.dropped", told)), batch.requests, batch.metrics)


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches as one."""
    return Batch(
        tuple(chain.from_iterable(batch.events for batch in batches)),
        tuple(chain.from_iterable(batch.requests for batch in batches)),
        tuple(chain.from_iterable(batch.metrics for batch in batches)),
    )


def weight(batch: Batch) -> int:
    """Roughly the bytes of a batch: its texts, and 500 for each row."""
    return sum(500 + sum(map(len, properties.values())) for properties in _properties(batch))


def _properties(batch: Batch) -> Iterator[Mapping[str, str]]:
    yield from (event.properties for event in batch.events)
    yield from (metric.properties for metric in batch.metrics)
    yield from (request.properties for request in batch.requests)
