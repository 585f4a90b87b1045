"""A prediction against its target in two tables: what the outcomes are, and whether the model has become worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stk_ml.contracts import Interval
from stk_ml.errors import DataError
from stk_ml.monitor_state import PerformanceFinding
from stk_ml.monitoring.performance import is_worse, tolerance
from stk_ml.monitoring.reading import as_numbers
from stk_ml.monitoring.tables import Rows, is_text
from stk_ml.statistics.blocks import FEWEST, make_blocks
from stk_ml.statistics.bootstrap import metric_interval

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]
_SIDES = ("reference", "current table")
#: What tells that a model has become worse.
_METRICS = {True: ("auc", "log_loss", "brier"), False: ("mae", "rmse")}
#: Few days do not tell how days differ: a metric has to be worse by so many times its tolerance then.
_STRICT = 3.0


@dataclass(frozen=True)
class Outcomes:
    """Of both tables, NaN where there is none.

    Attributes:
        then, now: outcomes, 0 and 1 where there are two classes.
        binary: whether there are.
        note: how classes became numbers; empty when they are.
    """

    then: Floats
    now: Floats
    binary: bool
    note: str = ""


def read(reference: Rows, current: Rows, target: str, scores: tuple[Floats, Floats]) -> Outcomes:
    """The outcomes.

    Two texts, or two numbers other than 0 and 1 with scores that are probabilities, are two classes: the second in
    order is the positive one.

    Raises:
        DataError: they are neither numbers nor of two classes, the current table has others than the reference, or
            the scores of two classes are no probabilities.

    Example:
        >>> from stk_ml.monitoring.tables import rows
        >>> then, now = rows(pa.table({"late": ["no", "yes"]})), rows(pa.table({"late": ["yes", None]}))
        >>> found = read(then, now, "late", (np.zeros(2), np.ones(2)))
        >>> found.now.tolist(), found.note
        ([1.0, nan], "late: 'yes' is the positive outcome, 'no' the other")
    """
    columns = [table.column(target) for table in (reference, current)]
    if any(is_text(column.type) for column in columns):
        texts = [column.cast(pa.string()) for column in columns]
        known = sorted(set().union(*(pc.unique(text).drop_null().to_pylist() for text in texts)))
        if len(known) == 2:
            then, now = (pc.equal(text, known[1]).cast(pa.int8()).cast(pa.float64()).to_numpy() for text in texts)
            _probabilities(scores)
            return Outcomes(then, now, True, f"{target}: {known[1]!r} is the positive outcome, {known[0]!r} the other")
        columns = [as_numbers(text) for text in texts]
        if any(number.null_count > text.null_count for number, text in zip(columns, texts, strict=True)):
            raise DataError(
                f"the target {target!r} holds text of {len(known)} classes: {', '.join(map(repr, known[:5]))}",
                hint="performance needs two classes, or numbers; without --prediction it is compared as a column",
            )
    then, now = (_numbers(column, target) for column in columns)
    values, fresh = ({*np.unique(side[np.isfinite(side)]).tolist()} for side in (then, now))
    both = sorted(values | fresh)
    if len(values) == 2 and len(both) > 2 and values == {0.0, 1.0}:
        odd = ", ".join(f"{value:g}" for value in sorted(fresh - values)[:3])
        raise DataError(
            f"the target {target!r} holds {odd} in the current table, and only 0 and 1 in the reference",
            hint="both tables need the same outcomes",
        )
    if set(both) <= {0.0, 1.0}:
        _probabilities(scores)
        return Outcomes(then, now, True)
    if len(both) == 2 and not _outside(scores):
        low, high = both
        note = f"{target}: {high:g} is the positive outcome, {low:g} the other"
        return Outcomes((then - low) / (high - low), (now - low) / (high - low), True, note)
    return Outcomes(then, now, False)


def numbers(table: Rows, name: str) -> Floats:
    """A column of numbers or booleans, NaN for missing."""
    return _numbers(table.column(name), name)


def levels(binary: bool, alpha: float) -> float:
    """Coverage of each interval, so that the chance that any of them is wrong is at most alpha (Bonferroni)."""
    return 1 - alpha / len(_METRICS[binary])


def performance(
    outcomes: Outcomes, scores: tuple[Floats, Floats], times: Sequence[Times | None], alpha: float
) -> tuple[PerformanceFinding, ...]:
    """Each metric now and then.

    It is worse when the interval of the difference lies beyond the tolerance
    (:func:`stk_ml.monitoring.performance.tolerance`), beyond three times that where either side has fewer than 5 days:
    how days differ is not known then.

    Args:
        outcomes: of both tables.
        scores: of both tables.
        times: of both tables; None when rows are independent.
        alpha: chance that any metric is wrongly said to be worse.

    Example:
        >>> y, rng = np.tile([0.0, 1.0], 2000), np.random.default_rng(0)
        >>> p = np.clip(0.3 + 0.4 * y + rng.normal(size=4000) / 5, 0, 1)
        >>> found = performance(Outcomes(y, y, True), (p, 1 - p), (None, None), 0.05)
        >>> [(finding.metric, finding.worse) for finding in found]
        [('auc', True), ('log_loss', True), ('brier', True)]
    """
    level = levels(outcomes.binary, alpha)
    few = any(time is not None and len(np.unique(time.astype("datetime64[D]"))) < FEWEST for time in times)
    found = []
    for metric in _METRICS[outcomes.binary]:
        old = _interval(metric, outcomes.then, scores[0], times[0], level)
        new = _interval(metric, outcomes.now, scores[1], times[1], level)
        if old is None or new is None:
            continue
        allowed = tolerance(metric, old.value) * (_STRICT if few else 1.0)
        known = float(np.isfinite(outcomes.now).mean())
        worse = is_worse(metric, new, old, allowed)
        found.append(PerformanceFinding(metric, "measured", new, old.value, worse, len(outcomes.now), known))
    return tuple(found)


def _interval(metric: str, labels: Floats, scores: Floats, times: Times | None, level: float) -> Interval | None:
    known = np.isfinite(labels) & np.isfinite(scores)
    labels, scores = labels[known], scores[known]
    blocks = make_blocks(len(labels), None if times is None else times[known])
    return metric_interval(metric, labels, scores, blocks, level=level) if len(labels) else None


def _outside(scores: tuple[Floats, Floats]) -> str:
    """Where scores are no probabilities; empty when they all are."""
    for side, values in zip(_SIDES, scores, strict=True):
        known = values[np.isfinite(values)]
        if known.size and (known.min() < 0 or known.max() > 1):
            return f"from {known.min():.3g} to {known.max():.3g} in the {side}"
    return ""


def _probabilities(scores: tuple[Floats, Floats]) -> None:
    if outside := _outside(scores):
        raise DataError(
            f"the prediction goes {outside}; with a target of two classes it is a probability, 0 to 1",
            hint="divide percent by 100; of a margin take 1 / (1 + exp(-margin))",
        )


def _numbers(column: pa.ChunkedArray, name: str) -> Floats:
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise DataError(f"column {name!r} holds {kind}; predictions and targets are numbers")
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
