"""What a look asks of the log to tell whether the data is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stk_ml.monitor_state import MonitorVerdict, QualityFinding
from stk_ml.monitoring import arrivals, quality, units
from stk_ml.monitoring.arrivals import Span
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.samples import Samples
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry import queries
from stk_ml.telemetry.queries import LogReader
from stk_ml.telemetry.served import served

#: Windows before the current one that quality compares with.
_HISTORY = 28
#: Seconds over which what one worker told is taken as one span.
_SPAN = 600.0


@dataclass(frozen=True)
class _Told:
    """What the log told of a stretch of windows: rows and counted values by a window's start, spans, lost rows."""

    since: float
    until: float
    rows: Mapping[float, int]
    counted: Mapping[float, Mapping[tuple[str, str], int]]
    spans: tuple[Span, ...]
    dropped: int


class TelemetryQuality:
    """Looks for broken data in the windows of a model.

    Args:
        reader: of the log.
        model: its name.
        deployment: name of the one deployment to look at; empty for all.
        samples: the rows that were told whole, a help to tell other units.
    """

    def __init__(self, reader: LogReader, model: str, deployment: str = "", *, samples: Samples | None = None) -> None:
        self._reader, self._model, self._deployment, self._samples = reader, model, deployment, samples
        self._told: _Told | None = None

    def __call__(
        self, window: Window, reference: Reference | None, past: Sequence[MonitorVerdict]
    ) -> tuple[QualityFinding, ...]:
        """What is broken in a window, compared with the windows before it."""
        told, length = self._ask(window), window.end - window.start
        first = min(told.rows, default=window.start)
        places = range(round((window.start - told.since) / length))
        starts = [start for place in places if (start := told.since + place * length) >= first]
        history = [
            quality.Window(start, start + length, told.rows.get(start, 0), (), told.counted.get(start, {}))
            for start in starts[-_HISTORY:]
        ]
        spans = tuple(span for span in told.spans if span.start < window.end)
        values = {}
        unclear = any(units.outside(each) or quality.one_bin(each) for each in window.histograms)
        if self._samples and reference and unclear:
            values = self._samples.numbers(window, reference.document.schema)
        facts = quality.Facts(spans, self._dropped(window) if told.dropped else 0, values)
        if reference is None:
            rows = [(each.start, each.end, each.rows) for each in history]
            found = arrivals.check(spans, window.start, window.end, window.end)
            return (*found, *arrivals.volume(rows, (window.start, window.end, window.rows)))
        counted = told.counted.get(window.start, {})
        current = quality.Window(window.start, window.end, window.rows, window.histograms, counted)
        schema = reference.document.schema
        return quality.assess(reference.profile, schema, history, current, facts, now=window.end)

    def _ask(self, window: Window) -> _Told:
        """What the log tells of the window and of those before it; what an earlier look has asked is kept."""
        length = window.end - window.start
        since = max(window.start - _HISTORY * length, 0.0)
        told = self._told
        if told and told.since <= since and window.end <= told.until:
            return told
        until = max(window.end, window.read_until)
        if told and told.since <= since <= told.until <= window.start:
            fresh, old = self._between(told.until, until, length), told
        else:
            fresh, old = self._between(since, until, length), _Told(since, since, {}, {}, (), 0)
        rows = {start: count for start, count in old.rows.items() if start >= since} | dict(fresh.rows)
        counted = {start: what for start, what in old.counted.items() if start >= since} | dict(fresh.counted)
        spans = (*(span for span in old.spans if span.end > since), *fresh.spans)
        self._told = _Told(since, until, rows, counted, spans, old.dropped + fresh.dropped)
        return self._told

    def _between(self, since: float, until: float, length: float) -> _Told:
        about = (self._reader, self._model, since, until)
        rows: Counter[float] = Counter()
        for each in served(*about, deployment=self._deployment, every=length):
            rows[since + each.slot * length] += each.rows
        counted: dict[float, Counter[tuple[str, str]]] = {}
        for row in queries.counted(*about, every=length, deployment=self._deployment):
            counted.setdefault(row.start, Counter())[row.what, row.column] += row.rows
        volume = queries.volume(*about, every=_SPAN, deployment=self._deployment)
        spans = tuple(Span(row.worker, min(row.start, row.begun), row.latest) for row in volume)
        dropped = sum(row.rows for row in queries.dropped(*about, deployment=self._deployment))
        return _Told(since, until, rows, counted, spans, dropped)

    def _dropped(self, window: Window) -> int:
        found = queries.dropped(self._reader, self._model, window.start, window.end, deployment=self._deployment)
        return sum(row.rows for row in found)
