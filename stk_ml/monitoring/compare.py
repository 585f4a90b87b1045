"""Two tables, no model: the same verdicts as for a served one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.profiling import place_days
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import DataError, UnknownNameError, UsageError
from stk_ml.monitor_state import Answer, ColumnVerdict, PerformanceFinding
from stk_ml.monitoring import counting, outcomes, tables
from stk_ml.monitoring.drift import DEFAULTS, DriftSettings, assess, overall
from stk_ml.monitoring.instants import instants
from stk_ml.monitoring.joint import ROWS, Joint, tell_apart
from stk_ml.monitoring.reading import plan
from stk_ml.monitoring.shapes import Shape, shapes
from stk_ml.monitoring.tables import Rows, changed
from stk_ml.telemetry.histogram import Histogram

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]
Kept = NDArray[np.bool_]
T = TypeVar("T", ColumnVerdict, Shape)
#: A column with fewer values in the reference tells nothing but how many are missing.
FEWEST_ROWS = 30
#: Numbers from here on are measured smaller: sums and squares of them would be infinite.
_HUGE = 1e150


@dataclass(frozen=True)
class Comparison:
    """What two tables say.

    Attributes:
        verdict: over all columns, the joint view and the performance.
        columns: one per column that can be compared, the prediction last (its kind is ``score``).
        joint: the domain classifier's answer; None when it was not asked.
        joint_columns: those that it tells the tables apart by.
        performance: of the prediction against the target in the current table; empty without both.
        left_out: columns that were not compared, and why.
        reference_rows, current_rows: of the tables.
        shapes: of the columns then and now, for a report.
        joint_p_value: chance that the domain classifier does as well without a change; 1.0 when it was not asked.
        notes: in what form columns were compared where it is not the one they came in, and rows that were left out.
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
    notes: tuple[str, ...] = ()


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
    """Bins come from the reference. The columns, the joint view and the performance take equal parts of alpha.

    Columns of unlike types, empty ones and those gone from the current table are compared as
    :mod:`stk_ml.monitoring.reading` says. Drift is also a performance that is shown to be worse.

    Large Parquet files are counted a piece at a time and are never held in memory whole. Of more than 100,000 rows a
    sample says where the bins of numbers end, and what the joint view looks at; all rows are counted.

    Args:
        reference: gives the bins and the units; a table, or the path of a Parquet file.
        current: is compared with it; the same.
        target: label column; with a prediction it gives the performance, without one it is compared like any column.
        prediction: column of scores.
        time: column of times (:mod:`stk_ml.monitoring.instants`); rows without one are left out.
            With it, days of the reference say how much days differ. Without it, rows are taken to be independent of
            each other.
        settings: what counts as drift.
        weights: share of a model's attention per column; columns without one are told, but are no drift of the whole.
            None gives all the same.
        alpha: chance of saying drift when there is none.
        joint: ask the domain classifier too (needs scikit-learn).
        seed: of everything drawn.

    Raises:
        UnknownNameError: a named column is not in a table.
        UsageError: two columns of a table have one name, or one column has two roles.
        DataError: a table is empty, no column can be compared, the times are none, the prediction is no number, or
            the target is neither a number nor of two classes.

    Example:
        >>> then = pa.table({"km": np.arange(10_000) % 100, "kind": ["air", "road"] * 5000})
        >>> now = pa.table({"km": np.arange(10_000) % 100 + 30, "kind": ["air", "road"] * 5000})
        >>> found = compare(then, now, joint=False)
        >>> found.verdict, [(column.name, column.answer) for column in found.columns]
        ('drift', [('km', 'drift'), ('kind', 'stable')])
    """
    before, after = tables.rows(reference), tables.rows(current)
    _check(before, after, target=target, prediction=prediction, time=time)
    measured = bool(target and prediction)
    notes: list[str] = []
    then, old = _times(before, time, "reference", notes)
    now, new = _times(after, time, "current table", notes)
    read = plan(before, after, {prediction, time, *([target] if measured else [])}, prediction)
    if not read.fields and not prediction:
        raise DataError("no column can be compared", hint="; ".join(read.left_out))
    before, after = changed(before, read.before, old), changed(after, read.after, new)
    schema, score = read.schema, read.score
    step = -(-before.rows // tables.SAMPLE)
    seen, places = tables.sample(before, [field.name for field in [*read.fields, *score]], step, seed)
    profile, histograms = _counted(schema, score, before, after, seen, then)
    span = 1 if now is None else int((now.max() - now.min()).astype("timedelta64[D]").astype(int)) + 1
    heard = {name for name in schema.names if weights is None or weights.get(name, 0.0) > 0} - read.hollow
    used = [place for place, name in enumerate(schema.names) if name in heard]
    share = alpha / (1 + bool(joint and used) + measured)
    scaled = replace(profile, features=tuple(map(_scaled, profile.features)), score=_scaled(profile.score))
    columns = assess(scaled, histograms, settings=settings, weights=weights, alpha=share, seed=seed, span=span)
    columns = _enough(columns, profile)
    columns = columns if prediction else columns[:-1]
    told = None
    if joint and used:
        fresh, _ = tables.sample(after, schema.names, max(min(step, after.rows // ROWS), 1), seed)
        told = _joint(schema, used, seen, fresh, None if then is None else then[places], span, share, seed)
    found: tuple[PerformanceFinding, ...] = ()
    if measured:
        scores = outcomes.numbers(before, prediction), outcomes.numbers(after, prediction)
        known = outcomes.read(before, after, target, scores)
        found = outcomes.performance(known, scores, (then, now), share)
        notes += [known.note] if known.note else []
        notes += [] if found else [f"{target}: no performance, since no outcome is known on one side"]
    return Comparison(
        verdict=_verdict(columns, told, found),
        columns=tuple(_named(prediction, column) for column in columns),
        joint=told.answer if told else None,
        joint_columns=told.columns if told else (),
        performance=found,
        left_out=tuple(read.left_out),
        reference_rows=before.rows,
        current_rows=after.rows,
        shapes=tuple(_named(prediction, shape) for shape in shapes(profile, histograms)),
        joint_p_value=told.p_value if told else 1.0,
        notes=(*read.notes, *notes),
    )


def _check(before: Rows, after: Rows, **named: str) -> None:
    roles: dict[str, str] = {}
    for role, name in named.items():
        if name in roles:
            raise UsageError(f"{name!r} is named as {roles[name]} and as {role}", hint="they are different columns")
        if name:
            roles[name] = role
    for table in (before, after):
        if not table.rows:
            raise DataError("a table to compare has no rows", hint="both sides need rows")
        for name in roles:
            if name not in table.schema.names:
                raise UnknownNameError("column", name, table.schema.names)


def _verdict(
    columns: Sequence[ColumnVerdict], joint: Joint | None, performance: Sequence[PerformanceFinding]
) -> Answer:
    """The joint view and the performance can add drift; that they cannot tell takes back nothing of the columns."""
    if (joint and joint.answer == "drift") or any(finding.worse for finding in performance):
        return "drift"
    return overall(columns)


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


def _times(table: Rows, name: str, side: str, notes: list[str]) -> tuple[Times | None, Kept | None]:
    """The times of the rows that have one, and which these are; None where all have."""
    if not name:
        return None, None
    found = np.asarray(instants(table.column(name), name).to_numpy(), "datetime64[us]")
    kept = ~np.isnat(found)
    if not kept.any():
        raise DataError(f"column {name!r} of the {side} holds no time at all")
    if kept.all():
        return found, None
    notes.append(f"{name}: {int((~kept).sum()):,} of {table.rows:,} rows of the {side} have no time and are left out")
    return found[kept], kept


def _enough(columns: Sequence[ColumnVerdict], profile: Profile) -> tuple[ColumnVerdict, ...]:
    """Too few values of the reference make bins that the next values miss by chance: they tell no drift."""
    found = []
    for verdict, column in zip(columns, (*profile.features, profile.score), strict=True):
        missing = sum(column.missing)
        rows = sum(map(sum, (*column.counts, column.below, column.above, column.other, column.unseen)))
        few = rows + missing < FEWEST_ROWS or (rows < FEWEST_ROWS and verdict.aspect != "missing")
        if few and verdict.answer != "insufficient":
            why = f"{rows} values in the reference are too few, {FEWEST_ROWS} are needed"
            verdict = replace(verdict, answer="insufficient", detail=why)
        found.append(verdict)
    return tuple(found)


def _scaled(column: ColumnProfile) -> ColumnProfile:
    """Effects are in units of the reference, so numbers near the largest there are can be measured smaller."""
    if max(map(abs, column.edges), default=0.0) < _HUGE:
        return column
    return replace(column, edges=tuple(edge * 2.0**-600 for edge in column.edges))


def _named(name: str, of: T) -> T:
    """The prediction's verdict or shape, by its own name."""
    return replace(of, name=name) if name and of.kind == "score" else of
