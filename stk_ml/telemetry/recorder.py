"""Takes what a deployment scores, in about a microsecond a row, and turns it into rows of the log once per window."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from array import array
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
from stk_ml.telemetry.scored import Scored, gathered
from stk_ml.telemetry.tallies import Tallies
from stk_ml.telemetry.window import Buffer, Sample, Window, properties, sampled

log = logging.getLogger("stk_ml.telemetry")

#: Bytes of one buffer's rows at most; a wider model gets fewer rows.
_BYTES = 8 * 2**20
#: Rows copied at a time, so that nobody waits long for the lock.
_PIECE = 1024
#: Single rows that are taken at a time: few enough to be in the processor's cache still.
_FEW = 1024
#: Full buffers that wait at most, and bytes of their rows; beyond it the oldest is dropped.
_BACKLOG, _BACKLOG_BYTES = 16, 32 * 2**20


class Sink(Protocol):
    """Whoever calls :meth:`Recorder.drain`."""

    def wake(self) -> None:
        """A buffer is full; returns at once."""


class Recorder:
    """Telemetry of one deployment in one process; a :class:`stk_ml.serving.protocol.Hook`, called from any thread.

    A scored row is copied into a buffer, and nothing more; the background thread counts it in bulk. When that thread
    is far behind the oldest buffer is dropped, and what was dropped is told in the next window.

    Args:
        source: who logs.
        bins: of the model; None for requests that reach no model, or a model without a profile.
        sink: woken when a buffer is full; ``flusher.add(recorder)`` of
            :class:`stk_ml.telemetry.flusher.Flusher` makes the flusher the sink of a recorder that has none.
        capacity: rows of a buffer.
        sample: share of the rows, and of the answered requests, that are told whole: chosen by the request's id.
        max_samples: number of rows, of answered and of failed requests told whole in a window.
        record_ids: whether each prediction is told, by request id, row id, score and time.
        clock: unix seconds.

    Example:
        >>> recorder = Recorder(Source("eta", "v3", "flight-delay", 3, "ab12"), None, clock=lambda: 5.0)
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
        sink: Sink | None = None,
        *,
        capacity: int = 8192,
        sample: float = 0.01,
        max_samples: int = 200,
        record_ids: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source, self.sink, self._bins, self._clock = source, sink, bins, clock
        self._features = len(bins.schema.fields) if bins else 0
        self._capacity = max(1, min(capacity, _BYTES // 8 // max(self._features, 1)))
        self._backlog = max(2, min(_BACKLOG, _BACKLOG_BYTES // 8 // (self._capacity * max(self._features, 1))))
        self._sample, self._max_samples, self._record_ids = sample, max_samples, record_ids
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._buffer = Buffer(self._capacity, self._features)
        self._full: deque[Buffer] = deque()
        self._spare: Buffer | None = None
        self._dropped = self._mistakes = 0
        self._tallies = Tallies(sample, max_samples)
        self._samples = self._sampler()
        self._window = Window(bins, clock(), record_ids)
        self._scored: deque[Scored] = deque()
        self._most_scored = self._capacity * self._backlog

    def scored(self, request_id: str, row_id: str, row: Any, score: float, route: str, seconds: float) -> None:
        """One row that was scored and answered well, in one call: :meth:`row` and :meth:`request` of the hot path.

        It only remembers; all else is done in the background. ``row`` is kept, not copied.
        """
        waiting = self._scored
        waiting.append((request_id, row_id, row, score, route, seconds, self._clock()))
        size = len(waiting)
        if size % _FEW == 0 and self.sink is not None:
            self.sink.wake()
        if size > self._most_scored:
            with contextlib.suppress(IndexError):
                waiting.popleft()
                self._dropped += 1

    def row(self, request_id: str, row_id: str, row: Any, score: float) -> None:
        """One scored row, which is copied; see :class:`stk_ml.serving.protocol.Hook`."""
        try:
            key = crc32(request_id.encode())
            with self._lock:
                buffer = self._buffer
                if self._features:
                    buffer.matrix[len(buffer.scores)] = row
                buffer.scores.append(score)
                buffer.ids.append(request_id)
                buffer.row_ids.append(row_id)
                buffer.times.append(self._clock())
                if key < self._samples.limit:
                    self._offer(key, buffer, len(buffer.scores) - 1)
                if len(buffer.scores) == self._capacity:
                    self._swap()
        except Exception as error:
            self._lose(1, error)

    def rows(self, request_id: str, row_ids: Sequence[str], matrix: Any, scores: Any) -> None:
        """Many scored rows, which are copied."""
        size = 0
        try:
            matrix, scores = (
                np.asarray(matrix, dtype=np.float64),
                array("d", np.asarray(scores, dtype=np.float64).tobytes()),
            )
            size, taken, key, now = len(scores), 0, crc32(request_id.encode()), array("d", [self._clock()])
            if self._features and matrix.shape != (size, self._features):
                raise ValueError(f"{matrix.shape} values for {size} scores of {self._features} columns")
            ids = row_ids if len(row_ids) == size else [""] * size
            chosen = deque(keys(key, size, self._sample))
            while taken < size:
                with self._lock:
                    buffer = self._buffer
                    start = len(buffer.scores)
                    piece = slice(taken, min(size, taken + _PIECE, taken + self._capacity - start))
                    count = piece.stop - taken
                    if self._features:
                        buffer.matrix[start : start + count] = matrix[piece]
                    buffer.scores.extend(scores[piece])
                    buffer.ids.extend(repeat(request_id, count))
                    buffer.row_ids.extend(ids[piece])
                    buffer.times.extend(now[:1] * count)
                    while chosen and chosen[0][0] < piece.stop:
                        place, row_key = chosen.popleft()
                        if row_key < self._samples.limit:
                            self._offer(row_key, buffer, start + place - taken)
                    taken = piece.stop
                    if len(buffer.scores) == self._capacity:
                        self._swap()
        except Exception as error:
            self._lose(size - taken if size else 1, error)

    def request(self, request_id: str, route: str, status: int, seconds: float, reason: str = "") -> None:
        """One answered request."""
        try:
            key = crc32(request_id.encode())
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
        except Exception as error:
            self._lose(0, error)

    def count(self, what: str, column: str, rows: int) -> None:
        """Values that the model's policy lets pass, of a kind that the scored rows do not show.

        Unseen categories and numbers outside their declared range are counted from the rows themselves.
        """
        try:
            with self._lock:
                self._tallies.count(what, column, rows)
        except Exception as error:
            self._lose(0, error)

    def difference(self, request_id: str, live: Sequence[float], shadow: Sequence[float]) -> None:
        """Scores that the caller got, and those of a shadow for the same rows."""
        try:
            with self._lock:
                self._tallies.differences.add(live, shadow)
        except Exception as error:
            self._lose(0, error)

    def absorb(self) -> int:
        """Counts what waits; returns how many rows the window holds by now. For the background thread."""
        with self._draining:
            self._settle()
            self._absorb()
            return self._window.rows

    def drain(self, now: float) -> Batch:
        """Ends the window: what was gathered since the last time, as rows of the log. For the background thread.

        Args:
            now: end of the window, unix seconds.
        """
        with self._draining:
            self._settle()
            with self._lock:
                if len(self._buffer):
                    self._full.append(self._buffer)
                    self._buffer = self._empty()
                tallies, self._tallies = self._tallies, Tallies(self._sample, self._max_samples)
                samples, self._samples = self._samples, self._sampler()
            self._absorb()
            with self._lock:
                dropped, self._dropped = self._dropped, 0
                mistakes, self._mistakes = self._mistakes, 0
            window, self._window = self._window, Window(self._bins, now, self._record_ids)
        about = properties(self.source, window.start, now)
        events = [*window.events(now, about), *tallies.events(now, about)]
        if self._bins:
            for sample in samples.items():
                events.extend(sampled(sample, self._bins.schema, about))
        if dropped or mistakes:
            lost = {"what": "buffer", "rows": str(dropped), "mistakes": str(mistakes)}
            events.append(Event(now, "stk.dropped", {**about, **lost}))
        metrics = (*window.metrics(now, about), *tallies.metrics(now, about))
        return Batch(tuple(events), tuple(tallies.requests(about)), metrics)

    def _settle(self) -> None:
        """Takes the rows that :meth:`scored` remembered, some thousands at a time."""
        while waiting := len(self._scored):
            taken = [self._scored.popleft() for _ in range(min(waiting, _FEW))]
            try:
                buffer, requests = gathered(taken, self._features)
                samples = [(key, place) for place, key in enumerate(requests.keys) if key < self._samples.limit]
                with self._lock:
                    self._tallies.add(requests)
                    for key, place in samples:
                        self._offer(key, buffer, place)
                self._window.add(buffer)
            except Exception as error:
                self._lose(len(taken), error)

    def _sampler(self) -> Sampler:
        return Sampler(self._sample if self._bins else 0.0, self._max_samples)

    def _offer(self, key: int, buffer: Buffer, place: int) -> None:
        found = (buffer.times[place], buffer.ids[place], buffer.row_ids[place], buffer.matrix[place].copy())
        self._samples.offer(key, Sample(*found, buffer.scores[place]))

    def _swap(self) -> None:
        """Hands over the full buffer; the lock is held."""
        self._full.append(self._buffer)
        if len(self._full) > self._backlog:
            self._spare = self._full.popleft()
            self._dropped += len(self._spare)
            self._spare.clear()
        self._buffer = self._empty()
        if self.sink is not None:
            self.sink.wake()

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
            except Exception as error:
                self._lose(len(buffer), error)
            buffer.clear()
            with self._lock:
                self._spare = buffer

    def _lose(self, rows: int, error: Exception) -> None:
        """Counts what could not be recorded, and says why once a window; requests go on."""
        with self._lock:
            self._dropped += rows
            self._mistakes += 1
        if self._mistakes == 1:
            log.warning("telemetry of %s could not be recorded: %r", self.source.deployment or "requests", error)
