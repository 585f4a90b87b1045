"""Whether a challenger becomes champion: a verdict from the same newest matured rows scored by both models.

The difference of the primary metric gets a paired block-bootstrap interval; positive is better. Only ``first``,
``better`` and ``not_worse`` promote. With margin 0 a challenger of equal skill is promoted in half of 1 - level of the
cases, whatever the metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stk_ml.contracts import GateCheck, GateVerdict, Interval
from stk_ml.errors import ColumnContractError, StorageError
from stk_ml.model_spec import ModelSpec, duration, instant
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import FEWEST, PIECES, Blocks, make_blocks
from stk_ml.statistics.bootstrap import difference_samples, interval
from stk_ml.statistics.calibration import debiased_error
from stk_ml.training.data import load_dataset, split_dataset, take, target, times
from stk_ml.training.slices import rows_by_value, slice_columns
from stk_ml.training.splits import Times

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel

Floats = NDArray[np.float64]
Values: TypeAlias = "pa.ChunkedArray | NDArray[np.generic]"
Outcome = Literal["first", "better", "not_worse", "worse", "cannot_tell", "refused", "same"]


def gate(
    spec: ModelSpec,
    labels: Floats,
    challenger: Floats,
    champion: Floats | None = None,
    *,
    times: Times | None = None,
    slices: Mapping[str, Values] | None = None,
    obstacle: str = "",
) -> GateVerdict:
    """Decides from scores of the same rows.

    Args:
        spec: the model's declaration; ``spec.gate`` holds metric, floor, margins and levels.
        labels: (n,) 0 and 1, or target values.
        challenger: (n,) probabilities or predictions.
        champion: (n,) of the champion; None when there is none.
        times: (n,) time of each prediction; its days are what is resampled. Without it rows are grouped at random.
        slices: for each guarded column, (n,) its values.
        obstacle: why there is a champion that could not be scored; the verdict is then ``cannot_tell``.

    Returns:
        The verdict with five checks. ``worse`` is said before ``refused``, and ``refused`` before what would promote.

    Example:
        >>> from stk_ml.model_spec import DataSpec, GateSpec
        >>> spec = ModelSpec("m", "regression", DataSpec("y", table="t.csv"), gate=GateSpec(floor=2.0))
        >>> y = np.arange(400.0)
        >>> print(gate(spec, y, y + 1.5).reason)
        There is no champion yet, and the mean absolute error of 1.5 meets the floor of 2 on 400 rows.
        >>> print(gate(spec, y, y + 1.5, y + 1.7).reason)
        The mean absolute error is better than the champion's by 0.2 (95% interval 0.2 to 0.2) on 400 rows.
    """
    unknown = obstacle or _undecidable(spec, labels, challenger, champion)
    if unknown:
        return GateVerdict("cannot_tell", False, f"Cannot tell: {unknown}.", rows=labels.size)
    # BLAS's own threads on matrices this small only wait for each other.
    with threadpool_limits(1, "blas"):
        return _decide(spec, labels, challenger, champion, times, slices or {})


def _decide(
    spec: ModelSpec,
    labels: Floats,
    challenger: Floats,
    champion: Floats | None,
    times: Times | None,
    slices: Mapping[str, Values],
) -> GateVerdict:
    rows = labels.size
    blocks = make_blocks(rows, times, seed=spec.learner.seed)
    basis = f"{rows:,} rows" + (f" of fewer than {FEWEST} days" if blocks.kind == PIECES else "")
    floor, calibration = _floor(spec, labels, challenger), _calibration(spec, labels, challenger, blocks)
    if champion is None:
        none = tuple(GateCheck(name, None, "there is no champion") for name in ("superiority", "non_inferiority"))
        checks = (*none, floor, GateCheck("worst_slice", None, "there is no champion"), calibration)
        outcome: Outcome = "first" if floor.passed else "refused"
        said = "There is no champion yet, and" if floor.passed else "Refused:"
        return GateVerdict(outcome, outcome == "first", f"{said} {floor.detail} on {basis}.", None, checks, rows)
    if blocks.kind == PIECES:
        # Rows of one day stand and fall together: simulated equals were promoted in a fifth of the cases here.
        days = f"the {rows:,} rows lie within fewer than {FEWEST} days, too few to tell a good model from good days"
        return GateVerdict("cannot_tell", False, f"Cannot tell: {days}.", None, (floor, calibration), rows)
    difference = _difference(spec, labels, challenger, champion, blocks)
    checks = (
        _superiority(difference),
        _non_inferiority(difference, spec.gate.margin),
        floor,
        _worst_slice(spec, labels, challenger, champion, times, slices),
        calibration,
    )
    outcome = _outcome(difference, checks)
    promote = outcome in ("better", "not_worse")
    return GateVerdict(outcome, promote, _reason(spec, outcome, difference, checks, basis), difference, checks, rows)


def compare(
    spec: ModelSpec,
    dataset_folder: str | Path,
    challenger: TrainedModel,
    champion: TrainedModel | None,
    *,
    evaluation: str | Path | None = None,
) -> GateVerdict:
    """Scores both models on the newest matured rows of the test split, and decides.

    Only rows count that are newer than what either model has learned from, whose label has had ``data.label_delay``
    to become known (younger ones hold too many quick labels), and that lie within ``gate.window`` of the newest.

    Args:
        spec: the model's declaration.
        dataset_folder: what ``stk-ml features pull`` wrote.
        challenger: the model that wants to be champion.
        champion: the champion, or None. If the dataset lacks columns that it takes, the verdict is ``cannot_tell`` and
            names them.
        evaluation: what ``stk-ml step evaluate`` wrote for the challenger on this dataset: its scores are taken from
            there rather than computed again.

    Raises:
        UnknownNameError: ``gate.slices`` names a column that the dataset has not.
        StorageError, SplitError, LabelError, ColumnContractError: the dataset, or the challenger on it.
    """
    if champion is not None and champion.digest and champion.digest == challenger.digest:
        return GateVerdict(
            "same", False, f"The challenger is the champion: both have the digest {champion.digest[:12]}."
        )
    dataset, table = load_dataset(dataset_folder)
    rows, as_of = split_dataset(spec, dataset, table).test, times(dataset, table, "as_of")
    scores = None if evaluation is None else _written_scores(Path(evaluation) / "predictions.parquet", rows.size)
    if as_of is not None:
        fine = _eligible(spec, as_of[rows], dataset.now, [model for model in (challenger, champion) if model])
        rows, scores = rows[fine], None if scores is None else scores[fine]
    part = take(table, rows)
    old, obstacle = _champion_scores(spec, champion, part)
    return gate(
        spec,
        target(spec, dataset, table)[rows],
        challenger.predict(part) if scores is None else scores,
        old,
        times=None if as_of is None else as_of[rows],
        slices=slice_columns(part, spec.gate.slices),
        obstacle=obstacle,
    )


def _written_scores(file: Path, rows: int) -> Floats:
    """The score of each test row, in the order of the dataset.

    Raises:
        StorageError: the file cannot be read, or is of another dataset.
    """
    try:
        scores = pq.read_table(file, columns=["score"]).column(0).to_numpy()
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{file} cannot be read: {error}", hint="evaluate the model again") from error
    if len(scores) != rows:
        message = f"{file} holds {len(scores):,} scores and the test split {rows:,} rows"
        raise StorageError(message, hint="evaluate the model on this dataset")
    return np.asarray(scores, dtype=np.float64)


def _eligible(spec: ModelSpec, as_of: Times, now: str, models: list[TrainedModel]) -> NDArray[np.bool_]:
    fine = np.ones(as_of.size, np.bool_)
    for model in models:
        if model.trained_until:
            fine &= as_of > _moment(model.trained_until)
    if now:
        fine &= as_of <= _moment(now) - np.timedelta64(duration(spec.data.label_delay))
    if spec.gate.window and fine.any():
        fine &= as_of > as_of[fine].max() - np.timedelta64(duration(spec.gate.window))
    return fine


def _champion_scores(spec: ModelSpec, champion: TrainedModel | None, part: pa.Table) -> tuple[Floats | None, str]:
    if champion is None:
        return None, ""
    if champion.problem != spec.problem:
        return None, f"the champion is a {champion.problem} model and the challenger a {spec.problem} one"
    try:
        return champion.predict(part), ""
    except ColumnContractError as error:
        return None, f"the champion cannot be scored on this dataset: {error}"


def _moment(text: str) -> np.datetime64:
    return np.datetime64(instant(text).replace(tzinfo=None), "us")


def _undecidable(spec: ModelSpec, labels: Floats, challenger: Floats, champion: Floats | None) -> str:
    needed = max(spec.gate.min_rows, 1) if champion is not None else 1  # a first model needs only the floor
    if labels.size < needed:
        return f"there are {labels.size:,} matured rows to compare on, and {needed:,} are needed (gate.min_rows)"
    if spec.problem == "binary" and labels.min() == labels.max():
        return f"all {labels.size:,} rows have the label {labels[0]:g}"
    for name, scores in (("challenger", challenger), ("champion", champion)):
        if scores is None:
            continue
        if bad := int(np.count_nonzero(~np.isfinite(scores))):
            return f"the {name} gives no finite score on {bad:,} of {labels.size:,} rows"
        if not np.isfinite(metrics.METRICS[spec.primary](labels, scores)):
            return f"the {metrics.TITLES[spec.primary]} is not defined on these {labels.size:,} rows"
    return ""


def _difference(spec: ModelSpec, labels: Floats, challenger: Floats, champion: Floats, blocks: Blocks) -> Interval:
    value, samples = difference_samples(
        spec.primary, labels, challenger, champion, blocks, resamples=spec.gate.resamples, seed=spec.learner.seed
    )
    return interval(value, samples, blocks.count, spec.gate.level)


def _superiority(difference: Interval) -> GateCheck:
    passed = True if difference.low > 0 else False if difference.high < 0 else None
    return GateCheck("superiority", passed, f"difference {_shown(difference)}, better when above 0")


def _non_inferiority(difference: Interval, margin: float) -> GateCheck:
    passed = True if difference.low > -margin else False if difference.high < -margin else None
    return GateCheck(
        "non_inferiority", passed, f"difference {_shown(difference)}, not worse when above {_text(-margin)}"
    )


def _floor(spec: ModelSpec, labels: Floats, challenger: Floats) -> GateCheck:
    value, title = metrics.METRICS[spec.primary](labels, challenger), metrics.TITLES[spec.primary]
    floor = spec.gate.floor
    if floor is None:
        return GateCheck("floor", True, f"the {title} of {_text(value)} has no floor to meet")
    passed = value >= floor if spec.primary in metrics.HIGHER_IS_BETTER else value <= floor
    verb = "meets" if passed else "misses"
    return GateCheck("floor", passed, f"the {title} of {_text(value)} {verb} the floor of {_text(floor)}")


def _calibration(spec: ModelSpec, labels: Floats, challenger: Floats, blocks: Blocks) -> GateCheck:
    limit = spec.gate.calibration_error
    if limit is None or spec.problem != "binary":
        return GateCheck("calibration", True, "no limit is set")
    error = debiased_error(labels, challenger, blocks, seed=spec.learner.seed)
    verb = "is within" if error <= limit else "exceeds"
    said = f"the calibration error of {_text(error)} (corrected for chance) {verb} the limit of {_text(limit)}"
    return GateCheck("calibration", error <= limit, said)


def _worst_slice(
    spec: ModelSpec,
    labels: Floats,
    challenger: Floats,
    champion: Floats,
    times: Times | None,
    slices: Mapping[str, Values],
) -> GateCheck:
    """No slice may be worse by more than the margin with confidence; the error rate is shared by all (Bonferroni)."""
    groups = _groups(spec, labels, slices)
    if not groups:
        why = f"no slice has {spec.gate.min_rows:,} rows" if slices else "no slices are guarded"
        return GateCheck("worst_slice", True, why)
    margin, level = spec.gate.slice_margin, 1 - (1 - spec.gate.level) / len(groups)
    found: dict[str, Interval] = {}
    for name, rows in groups.items():
        blocks = make_blocks(rows.size, None if times is None else times[rows], seed=spec.learner.seed)
        value, samples = difference_samples(
            spec.primary, labels[rows], challenger[rows], champion[rows], blocks,
            resamples=spec.gate.resamples, seed=spec.learner.seed,
        )  # fmt: skip
        found[name] = interval(value, samples, blocks.count, level)
    worst = min(found, key=lambda name: found[name].high)
    passed = found[worst].high >= -margin
    said = f"worst of {len(found)} slices is {worst}: {_shown(found[worst], 'joint interval')}"
    verb = "may be within" if passed else "is beyond"
    return GateCheck("worst_slice", passed, f"{said}, which {verb} the margin of {_text(margin)}")


def _groups(spec: ModelSpec, labels: Floats, slices: Mapping[str, Values]) -> dict[str, NDArray[np.intp]]:
    """Rows of each slice that has enough of them and, when binary, both classes."""
    return {
        f"{column}={value}": rows
        for column, values in slices.items()
        for value, rows in rows_by_value(values).items()
        if rows.size >= spec.gate.min_rows and (spec.problem != "binary" or labels[rows].min() < labels[rows].max())
    }


def _outcome(difference: Interval, checks: tuple[GateCheck, ...]) -> Outcome:
    superiority, non_inferiority, *guards = checks
    if difference.high < 0 and not non_inferiority.passed:
        return "worse"
    if any(guard.passed is False for guard in guards):
        return "refused"
    if superiority.passed:
        return "better"
    return "not_worse" if non_inferiority.passed else "cannot_tell"


def _reason(spec: ModelSpec, outcome: Outcome, difference: Interval, checks: tuple[GateCheck, ...], basis: str) -> str:
    title, margin = metrics.TITLES[spec.primary], _text(spec.gate.margin)
    size = _text(abs(difference.value))
    span = f"({spec.gate.level:.0%} interval {_text(difference.low)} to {_text(difference.high)}) on {basis}"
    if outcome == "refused":
        failed = "; ".join(check.detail for check in checks[2:] if check.passed is False)
        return f"Refused on {basis}: {failed}."
    if outcome in ("better", "worse"):
        return f"The {title} is {outcome} than the champion's by {size} {span}."
    sign = "better" if difference.value >= 0 else "worse"
    said = f"the {title} is {size} {sign} than the champion's {span}"
    if outcome == "not_worse":
        return f"Not worse: {said}, within the margin of {margin}."
    return f"Cannot tell: {said}, so it may be better or worse."


def _shown(found: Interval, name: str = "interval") -> str:
    return f"{_text(found.value)} ({name} {_text(found.low)} to {_text(found.high)})"


def _text(value: float) -> str:
    """Four decimals, fewer when large, two digits when tiny, without trailing zeros."""
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    text = f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
