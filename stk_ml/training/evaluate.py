"""Measures a model on every split: metrics with intervals, calibration, importances, predictions and the model card."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stk_ml import contracts
from stk_ml.artifact.model import TrainedModel
from stk_ml.contracts import Dataset, Evaluation, Metrics, SplitName
from stk_ml.errors import StorageError
from stk_ml.model_spec import ModelSpec
from stk_ml.statistics import metrics
from stk_ml.statistics.blocks import make_blocks
from stk_ml.statistics.bootstrap import metric_interval
from stk_ml.statistics.calibration import reliability
from stk_ml.training import card
from stk_ml.training.data import load_dataset, split_dataset, take, target, times
from stk_ml.training.importance import importances
from stk_ml.training.slices import rows_by_value, slice_columns
from stk_ml.training.splits import NAMES, Index, SplitParts, Times, iso

Floats = NDArray[np.float64]
#: At most so many training rows are scored, drawn at random; validation and test rows all are.
TRAIN_ROWS = 50_000


@dataclass(frozen=True)
class ScoredRows:
    """Rows of one split in the order of their score, with what they are grouped by.

    Attributes:
        labels, scores: (n,) each.
        times: (n,) as_of in UTC, or None.
        slices: columns of n values, by name.
    """

    labels: Floats
    scores: Floats
    times: NDArray[np.datetime64] | None
    slices: dict[str, pa.ChunkedArray]

    @classmethod
    def of(
        cls, labels: Floats, scores: Floats, times: NDArray[np.datetime64] | None, slices: dict[str, pa.ChunkedArray]
    ) -> ScoredRows:
        """Sorts rows by score, once: groups of them are then sorted already."""
        order = np.argsort(scores, kind="stable")
        taken = {name: column.take(pa.array(order)) for name, column in slices.items()}
        return cls(labels[order], scores[order], None if times is None else times[order], taken)


def evaluate(
    spec: ModelSpec,
    dataset_folder: str | Path,
    artifact: str | Path | TrainedModel,
    out: str | Path,
    *,
    progress: Callable[[str, float], None] | None = None,
) -> Evaluation:
    """Measures a model on the splits of its dataset and writes what was found.

    Writes ``evaluation.json`` (the :class:`~stk_ml.contracts.Evaluation`), ``card.html`` (the model card) and
    ``predictions.parquet`` (entity, as_of, label and score of the test rows) into ``out``.

    Args:
        spec: the model's declaration.
        dataset_folder: what ``stk-ml features pull`` wrote.
        artifact: what ``stk-ml step fit`` wrote, or the loaded model.
        out: folder; made when it is missing.
        progress: told the stage and the share of it that is done, 0 to 1.

    Raises:
        StorageError: a file cannot be read or written.
        UnknownNameError: ``evaluation.slices`` names a column that the dataset has not.
        ArtifactError, ColumnContractError, LabelError, SplitError: see the parts of the training.
    """
    model = artifact if isinstance(artifact, TrainedModel) else TrainedModel.load(artifact)
    dataset, table = load_dataset(dataset_folder)
    parts, labels = split_dataset(spec, dataset, table), target(spec, dataset, table)
    moments = times(dataset, table, "as_of")
    found: list[Metrics] = []
    tell = progress or (lambda stage, done: None)
    for name in NAMES:
        tell(name, 0.0)
        rows = _sample(parts.train, spec.learner.seed) if name == "train" else parts.part(name)
        part = take(table, rows)
        slices = slice_columns(part, spec.evaluation.slices) if name == "test" else {}
        scores = model.predict(part)
        scored = ScoredRows.of(labels[rows], scores, None if moments is None else moments[rows], slices)
        found += measure(spec, name, scored)
    tell("importances", 0.0)
    evaluation = Evaluation(
        model=spec.name,
        problem=spec.problem,
        primary=spec.primary,
        metrics=tuple(found),
        calibration=reliability(scored.labels, scored.scores, level=spec.evaluation.level)
        if spec.problem == "binary"
        else (),
        importances=importances(model, part, seed=spec.learner.seed),
    )
    tell("card", 0.0)
    out = Path(out)
    contracts.write(evaluation, out / "evaluation.json")
    page = card.render(spec, evaluation, dataset, model, parts, _periods(parts, moments))
    _write_aside(out / "card.html", lambda file: file.write_text(page, "utf-8"))
    predictions = _predictions(dataset, part, labels[parts.test], scores)
    _write_aside(out / "predictions.parquet", lambda file: pq.write_table(predictions, file, compression="zstd"))
    tell("card", 1.0)
    return evaluation


def _sample(rows: Index, seed: int) -> Index:
    """Training rows only show how much a model has memorised: a sample says so too, and scoring all costs seconds."""
    if rows.size <= TRAIN_ROWS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, TRAIN_ROWS, replace=False))


def measure(spec: ModelSpec, split: SplitName, rows: ScoredRows) -> list[Metrics]:
    """Metrics of all rows of a split, per month (not of the training rows), and per slice.

    A slice is a value of a column with ``evaluation.min_rows`` rows or more, the ``max_groups`` largest of each column.
    """

    def one(item: tuple[str, slice | NDArray[np.intp]]) -> Metrics:
        group, of = item
        times = None if rows.times is None else rows.times[of]
        return _metrics(spec, split, group, rows.labels[of], rows.scores[of], times)

    # A group to a thread: BLAS's own threads on matrices this small only wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(spec.learner.threads or os.cpu_count() or 1) as pool:
        return list(pool.map(one, _groups(spec, split, rows)))


def _groups(spec: ModelSpec, split: SplitName, rows: ScoredRows) -> Iterator[tuple[str, slice | NDArray[np.intp]]]:
    if not rows.labels.size:
        return
    yield "all", slice(None)
    if rows.times is not None and split != "train":
        by_month = rows_by_value(rows.times.astype("datetime64[M]").astype(np.int64))
        for month in sorted(by_month, key=int):
            yield f"month={np.datetime64(int(month), 'M')}", by_month[month]
    for name, column in rows.slices.items():
        largest = list(rows_by_value(column).items())[: spec.evaluation.max_groups]
        yield from ((f"{name}={value}", of) for value, of in largest if of.size >= spec.evaluation.min_rows)


def _metrics(
    spec: ModelSpec, split: SplitName, group: str, labels: Floats, scores: Floats, times: NDArray[np.datetime64] | None
) -> Metrics:
    blocks = make_blocks(labels.size, times, seed=spec.learner.seed)
    asked, seed = spec.evaluation, spec.learner.seed
    values = {
        name: metric_interval(name, labels, scores, blocks, resamples=asked.resamples, level=asked.level, seed=seed)
        for name in metrics.REPORTED[spec.problem]
    }
    defined = {name: found for name, found in values.items() if found is not None}
    return Metrics(split, group, labels.size, float(labels.mean()), defined)


def _periods(parts: SplitParts, moments: Times | None) -> dict[SplitName, tuple[str, str]]:
    if moments is None:
        return {}
    of = {name: moments[parts.part(name)] for name in NAMES}
    return {name: (iso(found.min()), iso(found.max())) for name, found in of.items()}


def _predictions(dataset: Dataset, part: pa.Table, labels: Floats, scores: Floats) -> pa.Table:
    """Entity and as_of under their own names, unless they are called label or score, then label and score."""
    keys = [*dataset.role("entity"), *dataset.role("as_of")]
    names = [f"key_{name}" if name in ("label", "score") else name for name in keys]
    return pa.table(
        [*(part.column(key) for key in keys), pa.array(labels), pa.array(scores)], [*names, "label", "score"]
    )


def _write_aside(file: Path, write: Callable[[Path], object]) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        aside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise StorageError(f"{file} cannot be written: {error.strerror or error}", hint="is there space?") from error
