"""Two tables, no model: the same verdicts as for a served one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.profiling import category_profile, number_profile, place_days
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.contracts import Interval
from stk_ml.errors import DataError, UnknownNameError
from stk_ml.monitor_state import Answer, ColumnVerdict, PerformanceFinding
from stk_ml.monitoring.drift import DEFAULTS, DriftSettings, assess, overall
from stk_ml.monitoring.joint import Joint, tell_apart
from stk_ml.monitoring.shapes import Shape, shapes
from stk_ml.statistics.blocks import make_blocks
from stk_ml.statistics.bootstrap import metric_interval
from stk_ml.statistics.differences import difference
from stk_ml.statistics.metrics import HIGHER_IS_BETTER
from stk_ml.telemetry.histogram import FeatureBins

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


def compare(
    reference: pa.Table,
    current: pa.Table,
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

    Args:
        reference: gives the bins and the units.
        current: is compared with it.
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
    for table in (reference, current):
        if not table.num_rows:
            raise DataError("a table to compare has no rows", hint="both sides need rows")
        for name in filter(None, (target, prediction, time)):
            if name not in table.column_names:
                raise UnknownNameError("column", name, table.column_names)
    schema, left_out = _schema(reference, current, {target, prediction, time})
    if not schema.fields and not prediction:
        raise DataError("no column can be compared", hint="; ".join(left_out))
    then, now = (_times(table, time) for table in (reference, current))
    scores, fresh = (_numbers(table, prediction) for table in (reference, current))
    encoded = schema.encode(schema.select(reference))
    profile = _profile(schema, reference, encoded, scores, then)
    matrix = _matrix(schema, current)
    bins = FeatureBins(schema, profile)
    histograms = list(bins.histograms(bins.count(matrix, fresh)))
    span = 1 if now is None else int((now.max() - now.min()).astype("timedelta64[D]").astype(int)) + 1
    used = [place for place, name in enumerate(schema.names) if weights is None or weights.get(name, 0.0) > 0]
    share = alpha / 2 if joint and used else alpha
    columns = assess(profile, histograms, settings=settings, weights=weights, alpha=share, seed=seed, span=span)
    columns = columns if prediction else columns[:-1]
    told = _joint(schema, used, reference, matrix, then, share, seed) if joint and used else None
    return Comparison(
        verdict=_verdict(columns, told),
        columns=columns,
        joint=told.answer if told else None,
        joint_columns=told.columns if told else (),
        performance=_performance(reference, current, target, scores, fresh, then, now, 1 - alpha)
        if target and prediction
        else (),
        left_out=tuple(left_out),
        reference_rows=reference.num_rows,
        current_rows=current.num_rows,
        shapes=tuple(shapes(profile, histograms)),
    )


def _verdict(columns: Sequence[ColumnVerdict], joint: Joint | None) -> Answer:
    """The joint view can add drift; that it cannot tell does not take back what every column says."""
    return "drift" if joint and joint.answer == "drift" else overall(columns)


def _schema(reference: pa.Table, current: pa.Table, special: set[str]) -> tuple[FeatureSchema, list[str]]:
    fields, left_out = [], []
    for name in reference.column_names:
        if name in special:
            continue
        found = _field(name, reference.column(name))
        if name not in current.column_names:
            left_out.append(f"{name}: not in the current table")
        elif isinstance(found, str):
            left_out.append(f"{name}: {found}")
        else:
            fields.append(found)
    left_out += [f"{name}: not in the reference" for name in current.column_names if name not in reference.column_names]
    return FeatureSchema(tuple(fields)), left_out


def _field(name: str, column: pa.ChunkedArray) -> FeatureField | str:
    kind, types = column.type, pa.types
    if types.is_boolean(kind):
        return FeatureField(name, "boolean")
    if types.is_integer(kind):
        return FeatureField(name, "integer")
    if types.is_floating(kind) or types.is_decimal(kind):
        return FeatureField(name, "number")
    text = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(text) or types.is_large_string(text) or types.is_string_view(text)):
        return f"values of type {kind} are not compared"
    values = pc.unique(column.cast(pa.string())).drop_null().to_pylist()
    if len(values) > MOST_TEXTS:
        return f"text with {len(values)} different values"
    return FeatureField(name, "category", tuple(sorted(values)))


def _profile(
    schema: FeatureSchema, table: pa.Table, encoded: pa.Table, scores: Floats | None, times: Times | None
) -> Profile:
    days, day = place_days(times, np.ones(table.num_rows, np.bool_))
    features = []
    for field in schema.fields:
        column = encoded.column(field.name)
        if field.type == "category":
            made = category_profile(field, table.column(field.name), column, slice(None), day, len(days))
        else:
            values = column.cast(pa.float64(), safe=False).to_numpy()
            made = number_profile(field.name, values, values, day, len(days))
        features.append(made)
    empty = np.empty(0)
    score: ColumnProfile = number_profile("score", empty, empty, np.empty(0, np.int64), len(days))
    if scores is not None:
        score = number_profile("score", scores, scores, day, len(days))
    return Profile(days, {"reference": tuple(np.bincount(day).tolist())}, (), tuple(features), days, score)


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
    current: Floats,
    times: Times | None,
    alpha: float,
    seed: int,
) -> Joint:
    days = None if times is None else times.astype("datetime64[D]").astype(np.int64)
    names, then = [schema.names[place] for place in used], _matrix(schema, reference)
    return tell_apart(names, then[:, used], current[:, used], days=days, alpha=alpha, seed=seed)


def _times(table: pa.Table, name: str) -> Times | None:
    if not name:
        return None
    column = table.column(name)
    if column.null_count:
        raise DataError(f"time column {name!r} is missing in {column.null_count} of {table.num_rows} rows")
    try:
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column {name!r} holds no times: {str(error).splitlines()[0]}") from error


def _numbers(table: pa.Table, name: str) -> Floats | None:
    if not name:
        return None
    kind = table.column(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"column {name!r} holds {kind}; predictions and targets are numbers")
    column = table.column(name)
    return np.asarray((column.cast(pa.int8()) if pa.types.is_boolean(kind) else column).cast(pa.float64()).to_numpy())


def _performance(
    reference: pa.Table,
    current: pa.Table,
    target: str,
    scores: Floats | None,
    fresh: Floats | None,
    then: Times | None,
    now: Times | None,
    level: float,
) -> tuple[PerformanceFinding, ...]:
    before, after = _numbers(reference, target), _numbers(current, target)
    if before is None or after is None or scores is None or fresh is None:
        return ()
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
        found.append(PerformanceFinding(metric, "measured", new, old.value, told, current.num_rows, known))
    return tuple(found)


def _interval(metric: str, labels: Floats, scores: Floats, times: Times | None, level: float) -> Interval | None:
    known = np.isfinite(labels) & np.isfinite(scores)
    labels, scores = labels[known], scores[known]
    blocks = make_blocks(len(labels), None if times is None else times[known])
    return metric_interval(metric, labels, scores, blocks, level=level) if len(labels) else None
