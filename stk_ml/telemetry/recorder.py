"""Takes what a deployment scores, in about a microsecond a row, and turns it into rows of the log once per window."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Protocol
from zlib import crc32

import numpy as np

from stk_ml.telemetry import latency
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.protocol import Batch, Event, Source
from stk_ml.telemetry.sampling import Sampler, keys
from stk_ml.telemetry.tallies import Tallies
from stk_ml.telemetry.window import Buffer, Sample, Window, properties, sampled

#: Bytes of one buffer's rows at most; a wider model gets fewer rows.
_BYTES = 8 * 2**20
#: Full buffers that wait at most; beyond it the oldest is dropped.
_BACKLOG = 4


class Sink(Protocol):
    """Whoever calls :meth:`Recorder.drain`."""

    def wake(self) -> None:
        """A buffer is full; returns at once."""


class Recorder:
    """Telemetry of one deployment in one process; a :class:`stk_ml.serving.protocol.Hook`, called from any thread.

    A scored row is copied into a buffer, and nothing more; the background thread counts it in bulk. When that thread
    is behind by four buffers the oldest is dropped, and what was dropped is told in the next window.

    Args:
        source: who logs.
        bins: of the model; None for requests that reach no model, or a model without a profile.
        sink: woken when a buffer is full; usually the :class:`stk_ml.telemetry.flusher.Flusher`, which must also be
            told of the recorder (``flusher.add(recorder)``).
        capacity: rows of a buffer.
        sample: share of the rows, and of the answered requests, that are told whole: chosen by the request's id.
        max_samples: number of rows, of answered and of failed requests told whole in a window.
        record_ids: whether each prediction is told, by request id, row id, score and time.
        clock: unix seconds.

    Example:
        >>> class Nobody:
        ...     def wake(self): ...
        >>> recorder = Recorder(Source("eta", "v3", "flight-delay", 3, "ab12"), None, Nobody(), clock=lambda: 5.0)
        >>> recorder.row("request-1", "", [1.0, 2.0], 0.25)
        >>> recorder.request("request-1", "/score", 200, 0.0015)
        >>> batch = recorder.drain(10.0)
        >>> [event.name for event in batch.events], [(metric.name, metric.sum) for metric in batch.metrics]
        (['stk.predictions'], [('stk.scores', 0.25), ('stk.requests', 1.5)])
        >>> {name: batch.events[0].properties[name] for name in ("ids", "scores", "times")}
        {'ids': '["request-1"]', 'scores': '[0.25]', 'times': '[0]'}
    """

    def __init__(
        self,
        source: Source,
        bins: FeatureBins | None,
        sink: Sink,
        *,
        capacity: int = 8192,
        sample: float = 0.01,
        max_samples: int = 200,
        record_ids: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source, self._bins, self._sink, self._clock = source, bins, sink, clock
        self._features = len(bins.schema.fields) if bins else 0
        self._capacity = max(1, min(capacity, _BYTES // 8 // max(self._features, 1)))
        self._sample, self._max_samples, self._record_ids = sample, max_samples, record_ids
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._buffer = Buffer(self._capacity, self._features)
        self._full: deque[Buffer] = deque()
        self._spare: Buffer | None = None
        self._dropped = 0
        self._tallies = Tallies(sample, max_samples)
        self._rows = self._sampler()
        self._window = Window(bins, clock(), record_ids)

    def row(self, request_id: str, row_id: str, row: Any, score: float) -> None:
        """One scored row, which is copied; see :class:`stk_ml.serving.protocol.Hook`."""
        key = crc32(request_id.encode())
        try:
            with self._lock:
                buffer = self._buffer
                if self._features:
                    buffer.matrix[len(buffer.scores)] = row
                buffer.scores.append(score)
                buffer.ids.append(request_id)
                buffer.row_ids.append(row_id)
                buffer.times.append(self._clock())
                if key < self._rows.limit:
                    self._offer(key, buffer, len(buffer.scores) - 1)
                if len(buffer.scores) == self._capacity:
                    self._swap()
        except Exception:
            self._lose(1)

    def rows(self, request_id: str, row_ids: Sequence[str], matrix: Any, scores: Any) -> None:
        """Many scored rows, which are copied."""
        size = 0
        try:
            matrix, scores = np.asarray(matrix, dtype=np.float64), np.asarray(scores, dtype=np.float64).tolist()
            size, taken, key, now = len(scores), 0, crc32(request_id.encode()), self._clock()
            ids = row_ids if len(row_ids) == size else [""] * size
            chosen = list(keys(key, size, self._sample))
            while taken < size:
                with self._lock:
                    buffer = self._buffer
                    start = len(buffer.scores)
                    piece = slice(taken, min(size, taken + self._capacity - start))
                    count = piece.stop - taken
                    if self._features:
                        buffer.matrix[start : start + count] = matrix[piece]
                    buffer.scores.extend(scores[piece])
                    buffer.ids.extend(repeat(request_id, count))
                    buffer.row_ids.extend(ids[piece])
                    buffer.times.extend(repeat(now, count))
                    for place, row_key in chosen:
                        if taken <= place < piece.stop and row_key < self._rows.limit:
                            self._offer(row_key, buffer, start + place - taken)
                    taken = piece.stop
                    if len(buffer.scores) == self._capacity:
                        self._swap()
        except Exception:
            self._lose(size - taken if size else 1)

    def request(self, request_id: str, route: str, status: int, seconds: float, reason: str = "") -> None:
        """One answered request."""
        key = crc32(request_id.encode())
        try:
            with self._lock:
                tallies = self._tallies
                kind = tallies.latencies.get((route, status, reason)) or tallies.kind(route, status, reason)
                kind.counts[latency.bin(seconds)] += 1
                kind.total += seconds
                if seconds < kind.low:
                    kind.low = seconds
                if seconds > kind.high:
                    kind.high = seconds
                sampler = tallies.answered if status < 400 else tallies.failed
                if key < sampler.limit:
                    sampler.offer(key, (self._clock(), request_id, route, status, seconds, reason))
        except Exception:
            self._lose(0)

    def count(self, what: str, column: str, rows: int) -> None:
        """Values that the model's policy lets pass."""
        with self._lock:
            self._tallies.count(what, column, rows)

    def difference(self, request_id: str, live: Sequence[float], shadow: Sequence[float]) -> None:
        """Scores that the caller got, and those of a shadow for the same rows."""
        with self._lock:
            self._tallies.differences.add(live, shadow)

    def absorb(self) -> int:
        """Counts the full buffers; returns how many rows the window holds by now. For the background thread."""
        with self._draining:
            self._absorb()
            return self._window.rows

    def drain(self, now: float) -> Batch:
        """Ends the window: what was gathered since the last time, as rows of the log. For the background thread.

        Args:
            now: end of the window, unix seconds.
        """
        with self._draining:
            with self._lock:
                if len(self._buffer):
                    self._full.append(self._buffer)
                    self._buffer = self._empty()
                tallies, self._tallies = self._tallies, Tallies(self._sample, self._max_samples)
                rows, self._rows = self._rows, self._sampler()
                dropped, self._dropped = self._dropped, 0
            self._absorb()
            window, self._window = self._window, Window(self._bins, now, self._record_ids)
        about = properties(self.source, window.start, now)
        events = [*window.events(now, about), *tallies.events(now, about)]
        if self._bins:
            for sample in rows.items():
                events.extend(sampled(sample, self._bins.schema, about))
        if dropped:
            events.append(Event(now, "stk.dropped", {**about, "what": "buffer", "rows": str(dropped)}))
        metrics = (*window.metrics(now, about), *tallies.metrics(now, about))
        return Batch(tuple(events), tuple(tallies.requests(about)), metrics)

    def _sampler(self) -> Sampler:
        return Sampler(self._sample if self._bins else 0.0, self._max_samples)

    def _offer(self, key: int, buffer: Buffer, place: int) -> None:
        found = (buffer.times[place], buffer.ids[place], buffer.row_ids[place], buffer.matrix[place].copy())
        self._rows.offer(key, Sample(*found, buffer.scores[place]))

    def _swap(self) -> None:
        """Hands over the full buffer; the lock is held."""
        self._full.append(self._buffer)
        if len(self._full) > _BACKLOG:
            self._spare = self._full.popleft()
            self._dropped += len(self._spare)
            self._spare.clear()
        self._buffer = self._empty()
        self._sink.wake()

    def _empty(self) -> Buffer:
        buffer, self._spare = self._spare, None
        return Buffer(self._capacity, self._features) if buffer is None else buffer

    def _absorb(self) -> None:
        while True:
            with self._lock:
                if not self._full:
                    return
                buffer = self._full.popleft()
            try:
                self._window.add(buffer)
            except Exception:
                self._lose(len(buffer))
            buffer.clear()
            with self._lock:
                self._spare = buffer

    def _lose(self, rows: int) -> None:
        with self._lock:
            self._dropped += rows
