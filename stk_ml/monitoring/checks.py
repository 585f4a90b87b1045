"""What a look asks of the log and of the labels beside the histograms: facts for data quality and for performance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from stk_ml.contracts import Interval
from stk_ml.monitor_state import MonitorVerdict, PerformanceFinding, QualityFinding
from stk_ml.monitoring import arrivals, performance, quality
from stk_ml.monitoring.arrivals import Span
from stk_ml.monitoring.labels import LabelLedger, attach, prediction_ids
from stk_ml.monitoring.maturity import Predictions, learn_delays
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry import queries
from stk_ml.telemetry.queries import LogReader
from stk_ml.telemetry.served import Served, served

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
    """

    def __init__(self, reader: LogReader, model: str, deployment: str = "") -> None:
        self._reader, self._model, self._deployment = reader, model, deployment
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
        facts = quality.Facts(spans, self._dropped(window) if told.dropped else 0)
        if reference is None:
            rows = [(each.start, each.end, each.rows) for each in history]
            found = arrivals.check(spans, window.start, window.end, window.end)
            return (*found, *arrivals.volume(rows, (window.start, window.end, window.rows)))
        counted = told.counted.get(window.start, {})
        current = quality.Window(window.start, window.end, window.rows, window.histograms, counted)
        schema = reference.document.schema
        return quality.assess(reference.profile, schema, history, current, facts, now=window.end)

    def _ask(self, window: Window) -> _Told:
        """What the log tells of the window and of those before it; of many windows in a row it is asked once."""
        length = window.end - window.start
        since = max(window.start - _HISTORY * length, 0.0)
        if self._told and self._told.since <= since and window.end <= self._told.until:
            return self._told
        until = max(window.end, window.read_until)
        about = (self._reader, self._model, since, until)
        rows: Counter[float] = Counter()
        for each in served(*about, deployment=self._deployment, every=length):
            rows[since + each.slot * length] += each.rows
        counted: dict[float, Counter[tuple[str, str]]] = {}
        for row in queries.counted(*about, every=length, deployment=self._deployment):
            counted.setdefault(row.start, Counter())[row.what, row.column] += row.rows
        volume = queries.volume(*about, every=_SPAN, deployment=self._deployment)
        spans = tuple(Span(row.worker, row.start, row.latest) for row in volume)
        dropped = sum(row.rows for row in queries.dropped(*about, deployment=self._deployment))
        self._told = _Told(since, until, rows, counted, spans, dropped)
        return self._told

    def _dropped(self, window: Window) -> int:
        found = queries.dropped(self._reader, self._model, window.start, window.end, deployment=self._deployment)
        return sum(row.rows for row in found)


class LabelledPerformance:
    """How well a model does on the predictions whose labels are known at the end of a window.

    All predictions of the served digest since it went live are one group, which grows from look to look. Without any
    label in the ledger nothing is asked of the log.

    Args:
        reader: of the log.
        model: its name.
        ledger: of its labels.
        measured: the metrics of a version when it was made; what it lacks is not watched.
        min_rows: fewer labels than this cannot tell.
        deployment: name of the one deployment to look at; empty for all.
    """

    def __init__(
        self,
        reader: LogReader,
        model: str,
        ledger: LabelLedger,
        measured: Callable[[Served], Mapping[str, Interval]],
        *,
        min_rows: int = 200,
        deployment: str = "",
    ) -> None:
        self._reader, self._model, self._ledger, self._measured = reader, model, ledger, measured
        self._min_rows, self._deployment = min_rows, deployment

    def __call__(
        self, window: Window, reference: Reference, past: Sequence[MonitorVerdict]
    ) -> tuple[PerformanceFinding, ...]:
        """Metrics with confidence sequences; none when there are no labels."""
        labels = self._ledger.known(datetime.fromtimestamp(window.end, UTC))
        if window.served is None or not labels.num_rows:
            return ()
        made = self._predictions(window, past).at(window.end)
        delays = learn_delays(made, window.end, binary=reference.document.problem == "binary")
        return performance.assess(
            reference.document.problem,
            made,
            delays,
            self._measured(window.served),
            window.end,
            min_rows=self._min_rows,
        )

    def _predictions(self, window: Window, past: Sequence[MonitorVerdict]) -> Predictions:
        assert window.served is not None  # noqa: S101
        digest = window.served.digest
        starts = [verdict.window_start for verdict in past if verdict.digest == digest]
        since = min([window.start, *(datetime.fromisoformat(start).timestamp() for start in starts)])
        table = queries.predictions(
            self._reader, self._model, since, window.end, digest=digest, deployment=self._deployment
        ).sort_by("time")
        times = table.column("time").cast("int64").to_numpy() / 1e6
        ids = prediction_ids(table.column("request_id").to_pylist(), table.column("row_id").to_pylist())
        labels = self._ledger.known(datetime.fromtimestamp(window.end, UTC))
        return attach(labels, ids, times, np.asarray(table.column("score").to_numpy()))
