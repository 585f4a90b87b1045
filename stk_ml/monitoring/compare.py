"""Two tables, no model: the same verdicts as for a served one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stk_ml.artifact.profile import Profile
from stk_ml.artifact.profiling import place_days
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.contracts import Interval
from stk_ml.errors import DataError, UnknownNameError
from stk_ml.monitor_state import Answer, ColumnVerdict, PerformanceFinding
from stk_ml.monitoring import counting, tables
from stk_ml.monitoring.drift import DEFAULTS, DriftSettings, assess, overall
from stk_ml.monitoring.joint import ROWS, Joint, tell_apart
from stk_ml.monitoring.shapes import Shape, shapes
from stk_ml.monitoring.tables import Rows, is_text
from stk_ml.statistics.blocks import make_blocks
from stk_ml.statistics.bootstrap import metric_interval
from stk_ml.statistics.differences import difference
from stk_ml.statistics.metrics import HIGHER_IS_BETTER
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]
#: A text column with more different values than this names its rows rather than describes them.
MOST_TEXTS = 1000


@dataclass(frozen=True)
class Comparison:
    """What two tables say.

    Attributes:
        verdict: over all columns and the joint view.
        columns: one per column that can be compared, the prediction last (named ``score``).
        joint: the domain classifier's answer; None when it was not asked.
        joint_columns: those that it tells the tables apart by.
        performance: of the prediction against the target in the current table; empty without both.
        left_out: columns that were not compared, and why.
        reference_rows, current_rows: of the tables.
        shapes: of the columns then and now, for a report.
        joint_p_value: chance that the domain classifier does as well without a change; 1.0 when it was not asked.
    """

    verdict: Answer
    columns: tuple[ColumnVerdict, ...]
    joint: Answer | None
    joint_columns: tuple[str, ...]
    performance: tuple[PerformanceFinding, ...]
    left_out: tuple[str, ...]
    reference_rows: int
    current_rows: int
    shapes: tuple[Shape, ...] = ()
    joint_p_value: float = 1.0


def compare(
    reference: pa.Table | Path,
    current: pa.Table | Path,
    *,
    target: str = "",
    prediction: str = "",
    time: str = "",
    settings: DriftSettings = DEFAULTS,
    weights: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    joint: bool = True,
    seed: int = 0,
) -> Comparison:
    """Bins come from the reference. Half of alpha goes to the single columns, half to the joint view.

    Large Parquet files are counted a piece at a time and are never held in memory whole. Of more than 100,000 rows a
    sample says where the bins of numbers end, and what the joint view looks at; all rows are counted.

    Args:
        reference: gives the bins and the units; a table, or the path of a Parquet file.
        current: is compared with it; the same.
        target: label column; with a prediction it gives the performance. It is no feature.
        prediction: column of scores.
        time: column of times; with it, days of the reference say how much days differ. Without it, rows are taken to
            be independent of each other.
        settings: what counts as drift.
        weights: share of a model's attention per column; columns without one are told, but are no drift of the whole.
            None gives all the same.
        alpha: chance of saying drift when there is none, and of each interval of the performance to be wrong.
        joint: ask the domain classifier too (needs scikit-learn).
        seed: of everything drawn.

    Raises:
        UnknownNameError: a named column is not in a table.
        DataError: a table is empty, no column can be compared, or a time or prediction is missing.
        ColumnContractError: a column is of another type in the current table.

    Example:
        >>> then = pa.table({"km": np.arange(10_000) % 100, "kind": ["air", "road"] * 5000})
        >>> now = pa.table({"km": np.arange(10_000) % 100 + 30, "kind": ["air", "road"] * 5000})
        >>> found = compare(then, now, joint=False)
        >>> found.verdict, [(column.name, column.answer) for column in found.columns]
        ('drift', [('km', 'drift'), ('kind', 'stable')])
    """
    before, after = tables.rows(reference), tables.rows(current)
    for table in (before, after):
        if not table.rows:
            raise DataError("a table to compare has no rows", hint="both sides need rows")
        for name in filter(None, (target, prediction, time)):
            if name not in table.schema.names:
                raise UnknownNameError("column", name, table.schema.names)
    schema, left_out = _schema(before, after, {target, prediction, time})
    if not schema.fields and not prediction:
        raise DataError("no column can be compared", hint="; ".join(left_out))
    then, now = (_times(table, time) for table in (before, after))
    score = _score(before, after, prediction)
    step = -(-before.rows // tables.SAMPLE)
    fields = [*schema.fields, *score]
    seen, places = tables.sample(before, [field.name for field in fields], step, seed)
    profile, histograms = _counted(schema, score, before, after, seen, then)
    span = 1 if now is None else int((now.max() - now.min()).astype("timedelta64[D]").astype(int)) + 1
    used = [place for place, name in enumerate(schema.names) if weights is None or weights.get(name, 0.0) > 0]
    share = alpha / 2 if joint and used else alpha
    columns = assess(profile, histograms, settings=settings, weights=weights, alpha=share, seed=seed, span=span)
    columns = columns if prediction else columns[:-1]
    told = None
    if joint and used:
        fresh, _ = tables.sample(after, schema.names, max(min(step, after.rows // ROWS), 1), seed)
        told = _joint(schema, used, seen, fresh, None if then is None else then[places], span, share, seed)
    measured = target and prediction
    return Comparison(
        verdict=_verdict(columns, told),
        columns=columns,
        joint=told.answer if told else None,
        joint_columns=told.columns if told else (),
        performance=_performance(before, after, target, prediction, then, now, 1 - alpha) if measured else (),
        left_out=tuple(left_out),
        reference_rows=before.rows,
        current_rows=after.rows,
        shapes=tuple(shapes(profile, histograms)),
        joint_p_value=told.p_value if told else 1.0,
    )


def _verdict(columns: Sequence[ColumnVerdict], joint: Joint | None) -> Answer:
    """The joint view can add drift; that it cannot tell does not take back what every column says."""
    return "drift" if joint and joint.answer == "drift" else overall(columns)


def _schema(reference: Rows, current: Rows, special: set[str]) -> tuple[FeatureSchema, list[str]]:
    fields, left_out = [], []
    names = [name for name in reference.schema.names if name not in special]
    both = [name for name in names if name in current.schema.names]
    texts = counting.texts(reference, [n for n in both if is_text(reference.schema.field(n).type)], MOST_TEXTS)
    for name in names:
        found = _field(name, reference.schema.field(name).type, texts)
        if name not in both:
            left_out.append(f"{name}: not in the current table")
        elif isinstance(found, str):
            left_out.append(f"{name}: {found}")
        else:
            fields.append(found)
    old = set(reference.schema.names)
    left_out += [f"{name}: not in the reference" for name in current.schema.names if name not in old]
    return FeatureSchema(tuple(fields)), left_out


def _field(name: str, kind: pa.DataType, texts: Mapping[str, set[str] | None]) -> FeatureField | str:
    types = pa.types
    if types.is_boolean(kind):
        return FeatureField(name, "boolean")
    if types.is_integer(kind):
        return FeatureField(name, "integer")
    if types.is_floating(kind) or types.is_decimal(kind):
        return FeatureField(name, "number")
    if not is_text(kind):
        return f"values of type {kind} are not compared"
    values = texts.get(name)
    if values is None:
        return f"text with more than {MOST_TEXTS:,} different values"
    return FeatureField(name, "category", tuple(sorted(values)))


def _score(reference: Rows, current: Rows, name: str) -> list[FeatureField]:
    """The prediction as a column to count; none when there is none."""
    if not name:
        return []
    kinds = [_number_type(table, name) for table in (reference, current)]
    return [FeatureField(name, "boolean" if any(map(pa.types.is_boolean, kinds)) else "number")]


def _counted(
    schema: FeatureSchema, score: list[FeatureField], before: Rows, after: Rows, seen: pa.Table, times: Times | None
) -> tuple[Profile, list[Histogram]]:
    """The reference as a profile, and the current rows over its bins, the score last."""
    days, day = place_days(times, np.ones(before.rows if times is not None else 0, np.bool_))
    fields = [*schema.fields, *score]
    edges = [counting.edges_of(seen.column(field.name), field) for field in fields]
    tallies = counting.count(before, fields, edges, None if times is None else day, len(days))
    rows = tuple(tallies[0].counts.sum(axis=1).tolist())
    features = [
        counting.category_profile(field, tally)
        if field.type == "category"
        else counting.number_profile(field.name, of, tally)
        for field, of, tally in zip(fields, edges, tallies, strict=True)
    ]
    now = counting.count(after, fields, [column.edges for column in features], None, 1)
    histograms = list(map(counting.histogram, features, fields, now))
    if score:
        *features, scores = features
        histograms[-1] = replace(histograms[-1], name="score", kind="score")
    else:
        scores = counting.number_profile("score", (), counting.Tally(np.zeros((len(days), 3), np.int64)))
        histograms.append(Histogram("score", "score", (), 0, 0, 0, 0, 0))
    profile = Profile(days, {"reference": rows}, (), tuple(features), days, replace(scores, name="score"))
    return profile, histograms


def _matrix(schema: FeatureSchema, table: pa.Table) -> Floats:
    """Encoded, with -1 where a category was not in the reference."""
    rows = schema.matrix(schema.select(table))
    for place in schema.categorical:
        given = pc.is_valid(table.column(schema.names[place])).to_numpy()
        rows[given & np.isnan(rows[:, place]), place] = -1.0
    return rows


def _joint(
    schema: FeatureSchema,
    used: Sequence[int],
    reference: pa.Table,
    current: pa.Table,
    times: Times | None,
    span: int,
    alpha: float,
    seed: int,
) -> Joint:
    days = None if times is None else times.astype("datetime64[D]").astype(np.int64)
    names = [schema.names[place] for place in used]
    then, now = (_matrix(schema, table)[:, used] for table in (reference, current))
    return tell_apart(names, then, now, days=days, span=span, alpha=alpha, seed=seed)


def _times(table: Rows, name: str) -> Times | None:
    if not name:
        return None
    column = table.column(name)
    if column.null_count:
        raise DataError(f"time column {name!r} is missing in {column.null_count} of {table.rows} rows")
    try:
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column {name!r} holds no times: {str(error).splitlines()[0]}") from error


def _numbers(table: Rows, name: str) -> Floats:
    kind, column = _number_type(table, name), table.column(name)
    return np.asarray((column.cast(pa.int8()) if pa.types.is_boolean(kind) else column).cast(pa.float64()).to_numpy())


def _number_type(table: Rows, name: str) -> pa.DataType:
    kind = table.schema.field(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"column {name!r} holds {kind}; predictions and targets are numbers")
    return kind


def _performance(
    reference: Rows,
    current: Rows,
    target: str,
    prediction: str,
    then: Times | None,
    now: Times | None,
    level: float,
) -> tuple[PerformanceFinding, ...]:
    before, after = _numbers(reference, target), _numbers(current, target)
    scores, fresh = _numbers(reference, prediction), _numbers(current, prediction)
    binary = set(np.unique(before[np.isfinite(before)]).tolist()) <= {0.0, 1.0}
    found = []
    for metric in ("auc", "log_loss", "brier") if binary else ("mae", "rmse"):
        old = _interval(metric, before, scores, then, level)
        new = _interval(metric, after, fresh, now, level)
        if old is None or new is None:
            continue
        change = difference(new, old)
        worse = change.high < 0 if metric in HIGHER_IS_BETTER else change.low > 0
        better = change.low > 0 if metric in HIGHER_IS_BETTER else change.high < 0
        told = True if worse else False if better else None
        known = float(np.isfinite(after).mean())
        found.append(PerformanceFinding(metric, "measured", new, old.value, told, current.rows, known))
    return tuple(found)


def _interval(metric: str, labels: Floats, scores: Floats, times: Times | None, level: float) -> Interval | None:
    known = np.isfinite(labels) & np.isfinite(scores)
    labels, scores = labels[known], scores[known]
    blocks = make_blocks(len(labels), None if times is None else times[known])
    return metric_interval(metric, labels, scores, blocks, level=level) if len(labels) else None
