"""What one look says: drift, broken data and performance put together, with the budget of false alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from stk_ml.model_policies import MonitorSpec
from stk_ml.monitor_state import Answer, ColumnVerdict, MonitorVerdict, PerformanceFinding, QualityFinding
from stk_ml.monitoring import budget as budgets
from stk_ml.monitoring import drift
from stk_ml.monitoring.budget import Budget
from stk_ml.monitoring.joint import Joint
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.shapes import Shape, shapes
from stk_ml.monitoring.windows import Window
from stk_ml.statistics.metrics import TITLES
from stk_ml.telemetry.histogram import Histogram
from stk_ml.telemetry.served import Served

_DAY = 86_400.0


#: Looks for broken data; no reference when nothing was scored.
QualityCheck = Callable[[Window, Reference | None, Sequence[MonitorVerdict]], tuple[QualityFinding, ...]]
#: Looks at the labels, as known at the end of the window.
PerformanceCheck = Callable[[Window, Reference, Sequence[MonitorVerdict]], tuple[PerformanceFinding, ...]]
#: Looks at all columns together; the last argument is the chance of a false alarm.
JointCheck = Callable[[Window, Reference, Sequence[MonitorVerdict], float], Joint]


def _unchecked(*_: object) -> tuple[()]:
    return ()


class Judge:
    """Judges windows of one model.

    Args:
        model: its name.
        spec: how it is watched.
        reference: finds the model that served a window.
        quality: looks for broken data.
        performance: looks at the labels.
        joint: looks at the columns together; half of each look's chance of a false alarm is its then.
        seed: of the draws of the null distributions.
    """

    def __init__(
        self,
        model: str,
        spec: MonitorSpec,
        reference: Callable[[Served], Reference],
        *,
        quality: QualityCheck = _unchecked,
        performance: PerformanceCheck = _unchecked,
        joint: JointCheck | None = None,
        seed: int = 0,
    ) -> None:
        self._model, self._spec, self._seed = model, spec, seed
        self._settings = drift.DriftSettings.of(spec)
        self._find, self._quality, self._performance, self._joint = reference, quality, performance, joint
        self._references: dict[str, Reference] = {}

    def __call__(
        self, window: Window, budget: Budget | None, past: Sequence[MonitorVerdict]
    ) -> tuple[MonitorVerdict, Budget, tuple[Shape, ...]]:
        """The verdict on a window, the budget after it, and the counts that a report draws.

        Args:
            window: what was scored.
            budget: before this look; None before the first.
            past: the verdicts so far, oldest first.
        """
        served = window.served
        reference = self._reference(served) if served else None
        budget = _rearmed(budget or Budget(), served, past)
        now, days = datetime.fromtimestamp(window.end, UTC), (window.end - window.start) / _DAY
        per_year = self._spec.false_alarms_per_year
        alpha = budgets.level(budget, now, per_year=per_year, window_days=days) / (2 if self._joint else 1)
        columns = self._drift(window, reference, alpha, days)
        joint = self._joint(window, reference, past, alpha) if self._joint and reference else None
        answer = "drift" if joint and joint.answer == "drift" else drift.overall(columns) if columns else "insufficient"
        quality = self._quality(window, reference, past)
        performance = self._performance(window, reference, past) if reference else ()
        worse = tuple(finding for finding in performance if finding.worse and not finding.muted)
        after, alarm = budgets.look(
            budget,
            now,
            drifted=not quality and (answer == "drift" or bool(worse)),
            per_year=per_year,
            window_days=days,
            # As many rows as it takes to look at all would show again a drift that has alarmed.
            calm=not quality and not worse and answer != "drift" and window.rows >= max(self._spec.min_rows, 1),
        )
        verdict = MonitorVerdict(
            model=self._model,
            version=served.version if served else 0,
            digest=served.digest if served else "",
            endpoint=served.endpoint if served else "",
            deployment=served.deployment if served else "",
            window_start=iso(window.start),
            window_end=iso(window.end),
            rows=window.rows,
            answer=answer,
            columns=columns,
            joint=joint.answer if joint else None,
            joint_columns=joint.columns if joint else (),
            quality=quality,
            performance=performance,
            spent=budgets.spent_share(after, per_year),
            armed=after.armed,
            alarm=alarm,
            reason=reason(answer, columns, quality, worse, window.rows, joint.columns if joint else ()),
        )
        return verdict, after, tuple(shapes(reference.profile, window.histograms)) if reference else ()

    def _drift(
        self, window: Window, reference: Reference | None, alpha: float, days: float
    ) -> tuple[ColumnVerdict, ...]:
        if reference is None:
            return ()
        return drift.assess(
            reference.profile,
            [_within(histogram) for histogram in window.histograms],
            settings=self._settings,
            weights=reference.weights,
            alpha=alpha,
            seed=self._seed,
            span=max(round(days), 1),
            day=datetime.fromtimestamp((window.start + window.end) / 2, UTC).date(),
        )

    def _reference(self, served: Served) -> Reference:
        if served.digest not in self._references:
            self._references[served.digest] = self._find(served)
        return self._references[served.digest]


def reason(
    answer: Answer,
    columns: Sequence[ColumnVerdict],
    quality: Sequence[QualityFinding] = (),
    worse: Sequence[PerformanceFinding] = (),
    rows: int = 0,
    apart: Sequence[str] = (),
) -> str:
    """One sentence for people.

    Example:
        >>> reason("insufficient", (), rows=0)
        'Nothing was scored.'
        >>> reason("stable", (), (QualityFinding("unit", "km", "1,000 times as large"),), rows=5)
        'The data is broken: km (unit) 1,000 times as large.'
    """
    if quality:
        first = quality[0]
        about = f"{first.column} ({first.check})" if first.column else f"({first.check})"
        more = f", and {len(quality) - 1} more" if len(quality) > 1 else ""
        return f"The data is broken: {about} {first.detail}{more}."
    said = []
    for finding in worse[:1]:
        title, since = TITLES.get(finding.metric, finding.metric), finding.since and f" since {finding.since[:10]}"
        said.append(f"{title} is {finding.value.value:.3g}{since}, it was {finding.reference:.3g}")
    moved = [column for column in columns if column.answer == "drift" and column.weight > 0]
    moved.sort(key=lambda column: -column.effect.value / (column.floor or 1.0))
    if moved:
        named = [f"{column.name} by {column.effect.value:.2g} {_words(column)}" for column in moved]
        said.append(f"moved: {_some(named)}")
    elif apart:
        said.append(f"no column alone moved, but together they tell the rows apart: {_some(apart)}")
    if said:
        text = "; ".join(said)
        return f"{text[0].upper()}{text[1:]}."
    if not rows:
        return "Nothing was scored."
    if answer == "insufficient":
        unsure = [column.name for column in columns if column.answer == "insufficient" and column.weight > 0]
        shown = f" whether {_some(unsure)} moved" if 0 < len(unsure) < len(columns) else ""
        return f"{rows:,} rows are too few to tell{shown}."
    return f"None of the {len(columns)} columns moved by more than counts."


def iso(seconds: float) -> str:
    """Unix seconds as ISO 8601 with Z, to the second.

    Example:
        >>> iso(86400.0)
        '1970-01-02T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _words(column: ColumnVerdict) -> str:
    if column.aspect != "distribution":
        return f"of the rows {column.aspect.replace('_', ' ')}"
    return "of the rows" if column.kind in ("category", "boolean") else "interquartile ranges"


def _within(histogram: Histogram) -> Histogram:
    """Scores beyond those of the reference count in its outermost bins.

    The reference's scores come from before the model was fitted again on more rows, so its lowest and highest score
    are other ones: that scores lie outside is no news, where they have gone is.
    """
    counts = list(histogram.counts)
    if histogram.kind != "score" or not counts:
        return histogram
    counts[0], counts[-1] = counts[0] + histogram.below, counts[-1] + histogram.above
    return replace(histogram, counts=tuple(counts), below=0, above=0)


def _rearmed(budget: Budget, served: Served | None, past: Sequence[MonitorVerdict]) -> Budget:
    """Another model has another reference: what was the same drift for the old one is news for it."""
    before = next((verdict.digest for verdict in reversed(past) if verdict.digest), "")
    changed = served is not None and before and before != served.digest
    return replace(budget, armed=True) if changed else budget
