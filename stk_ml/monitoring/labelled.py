"""How well a model does, from the labels that are known at the end of a window, and what its scores alone promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from stk_ml.contracts import Interval
from stk_ml.monitor_state import MonitorVerdict, PerformanceFinding
from stk_ml.monitoring import estimates, performance
from stk_ml.monitoring.labels import LabelLedger, attach, prediction_ids
from stk_ml.monitoring.maturity import Delays, Predictions, learn_delays
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.windows import Window
from stk_ml.telemetry import queries
from stk_ml.telemetry.queries import LogReader
from stk_ml.telemetry.served import Served

if TYPE_CHECKING:
    import pyarrow as pa

#: Looks whose estimates are graded.
_GRADED = 60


class LabelledPerformance:
    """Performance of a model in the windows of its telemetry.

    All predictions of the served digest since it went live are one group, which grows from look to look. Until the
    ledger holds a label nothing is asked of the log: an estimate that was never graded is muted anyway.

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
        self._read: tuple[str, float, pa.Table] | None = None

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
        import pyarrow as pa

        since = min([window.start, *(datetime.fromisoformat(each.window_start).timestamp() for each in same)])
        tables = []
        if self._read and self._read[0] == served.digest and since < self._read[1] <= window.end:
            since, tables = self._read[1], [self._read[2]]
        fresh = queries.predictions(
            self._reader, self._model, since, window.end, digest=served.digest, deployment=self._deployment
        )
        table = pa.concat_tables([*tables, fresh.sort_by("time")])
        self._read = served.digest, window.end, table
        ids = prediction_ids(table.column("request_id").to_pylist(), table.column("row_id").to_pylist())
        times = table.column("time").cast("int64").to_numpy() / 1e6
        return attach(labels, ids, times, np.asarray(table.column("score").to_numpy())).at(window.end)


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
