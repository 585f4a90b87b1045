"""How well a model does, from the labels that are known at the end of a window, and what its scores alone promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stk_ml.contracts import Interval
from stk_ml.monitor_state import MonitorVerdict, PerformanceFinding
from stk_ml.monitoring import estimates, performance
from stk_ml.monitoring.judge import iso
from stk_ml.monitoring.labels import LabelLedger, attach, prediction_ids
from stk_ml.monitoring.maturity import Delays, Predictions, learn_delays
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry import queries
from stk_ml.telemetry.queries import LogReader
from stk_ml.telemetry.served import Served

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
#: Looks whose estimates are graded.
_GRADED = 60
#: Days of a block, those of a new one before the block before it is left, and the level of a block's intervals.
BLOCK, ENOUGH, LEVEL = 28, 14, 0.98
_DAY = 86_400.0


class LabelledPerformance:
    """Performance of a model in the windows of its telemetry.

    All predictions of the served digest since it went live are one group, which grows from look to look: it is the
    surest, but hides under its past what became worse late. So the predictions are cut into blocks of 28 days too, each
    of which grows in the same way; the newest with 14 days or more is looked at, with wider intervals because there are
    13 in a year. Until the ledger holds a label nothing is asked of the log: an estimate that was never graded is muted
    anyway.

    False alarms of performance are not those of the yearly budget: the chance of one per metric is at most 5% in all
    looks at the group since a digest went live, and 2% in all looks at each block of 28 days.

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
        self._read: tuple[str, float, list[str], Floats, Floats] | None = None

    def __call__(
        self, window: Window, reference: Reference, past: Sequence[MonitorVerdict]
    ) -> tuple[PerformanceFinding, ...]:
        """Measured, corrected and estimated metrics; none when there are no labels."""
        labels = self._ledger.known(datetime.fromtimestamp(window.end, UTC))
        if window.served is None or not labels.num_rows:
            return ()
        same = [verdict for verdict in past if verdict.digest == window.served.digest]
        made = self._predictions(window, window.served, same, labels)
        problem, measured = reference.document.problem, self._measured(window.served)
        delays = learn_delays(made, window.end, binary=problem == "binary")
        found = performance.assess(problem, made, delays, measured, window.end, min_rows=self._min_rows)
        start = block(made.times, window.end)
        if start:
            newest = made.take(made.times > start)
            late = performance.assess(
                problem, newest, delays, measured, window.end, min_rows=self._min_rows, level=LEVEL
            )
            found += tuple(replace(each, since=iso(start)) for each in late)
        return (*found, *self._estimated(window, reference, measured, made, delays, same))

    def _estimated(
        self,
        window: Window,
        reference: Reference,
        measured: Mapping[str, Interval],
        made: Predictions,
        delays: Delays,
        past: Sequence[MonitorVerdict],
    ) -> tuple[PerformanceFinding, ...]:
        """What the scores of the window promise, muted unless such promises were kept before."""
        promised = _promised(window, reference, made, delays)
        grades = [grade for verdict in past[-_GRADED:] for grade in _grades(verdict, made, delays, window.end)]
        return performance.estimated(promised, grades, measured, window.rows, min_rows=self._min_rows)

    def _predictions(
        self, window: Window, served: Served, same: Sequence[MonitorVerdict], labels: pa.Table
    ) -> Predictions:
        """All predictions of the digest up to the end of the window; what an earlier look has read is kept."""
        since = min([window.start, *(datetime.fromisoformat(each.window_start).timestamp() for each in same)])
        ids: list[str] = []
        times, scores = np.empty(0), np.empty(0)
        if self._read and self._read[0] == served.digest and since < self._read[1] <= window.end:
            _, since, ids, times, scores = self._read
        fresh = queries.predictions(
            self._reader, self._model, since, window.end, digest=served.digest, deployment=self._deployment
        ).sort_by("time")
        # A request's rows are never in two windows: their numbers within it are right.
        told = prediction_ids(fresh.column("request_id").to_pylist(), fresh.column("row_id").to_pylist())
        ids = [*ids, *told]
        times = np.concatenate([times, fresh.column("time").cast("int64").to_numpy() / 1e6])
        scores = np.concatenate([scores, fresh.column("score").to_numpy()])
        self._read = served.digest, window.end, ids, times, scores
        return attach(labels, ids, times, scores).at(window.end)


def block(times: Floats, now: float) -> float:
    """When the newest block with enough days began, unix seconds; 0.0 as long as that is all there is.

    Example:
        >>> times = np.arange(100) * 86_400.0
        >>> [block(times, days * 86_400.0) / 86_400.0 for days in (20, 41, 42, 69, 70)]
        [0.0, 0.0, 28.0, 28.0, 56.0]
    """
    if not times.size:
        return 0.0
    first = times.min() // _DAY
    passed = now // _DAY - first
    number = (passed - ENOUGH) // BLOCK
    return float((first + number * BLOCK) * _DAY) if number >= 1 else 0.0


def _promised(window: Window, reference: Reference, made: Predictions, delays: Delays) -> Mapping[str, float]:
    """Metrics that the score histogram of a window lets expect."""
    histogram = next((each for each in window.histograms if each.kind == "score"), None)
    edges = reference.profile.score.edges
    if histogram is None or len(edges) < 2:
        return {}
    if reference.document.problem == "binary":
        return estimates.cbpe(*estimates.bins(histogram, edges))
    matured = made.take((window.end - made.times >= delays.horizon) & made.labelled)
    return estimates.Errors.learn(edges, matured.scores, matured.outcomes).expect(histogram)


def _grades(verdict: MonitorVerdict, made: Predictions, delays: Delays, now: float) -> tuple[estimates.Grade, ...]:
    """The estimates of an earlier look beside the truth, once the labels of its window have come."""
    start, end = (datetime.fromisoformat(time).timestamp() for time in (verdict.window_start, verdict.window_end))
    told = {each.metric: each.value.value for each in verdict.performance if each.source == "estimated"}
    if not told or now - end < delays.horizon:
        return ()
    return estimates.grade(told, made.take((made.times > start) & (made.times <= end)), end)
