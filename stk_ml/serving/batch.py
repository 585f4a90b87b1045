"""Scores a file of rows in bounded memory, in the order of its rows.

The scores are those that the scoring app gives for several rows at once. For a single row of a model with a sigmoid
calibrator the app's score may differ in the last bit, because it calibrates one number by ``math.tanh`` and many by
NumPy's. What is written has a hidden name beside ``out`` until it is whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from stk_ml.errors import ColumnContractError, UnknownNameError, UsageError, closest
from stk_ml.serving.files import reading, writing

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.artifact.model import TrainedModel
    from stk_ml.artifact.schema import FeatureSchema, Unseen

#: Called after each batch with the number of rows scored so far and how much of the file was read, 0 to 1.
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class BatchResult:
    """What scoring a file came to.

    Attributes:
        rows: number of rows scored.
        seconds: it took, reading and writing included.
        mean_score: of all rows; None for no rows.
        unseen: how many values of each category column training has not seen; only columns with any.
        out: where the scores are; ``-`` for standard output.
        columns: what is written.
    """

    rows: int
    seconds: float
    mean_score: float | None
    unseen: dict[str, int]
    out: str
    columns: tuple[str, ...]

    @property
    def rows_per_second(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds if self.seconds else 0.0


def score_file(
    model: TrainedModel,
    source: str | Path,
    out: str | Path = "",
    *,
    unseen: Unseen = "missing",
    explain: bool = False,
    keep: Sequence[str] = (),
    all_columns: bool = False,
    score_column: str = "score",
    batch_rows: int = 65_536,
    progress: Progress | None = None,
) -> BatchResult:
    """Scores a CSV, Parquet, JSON, JSON lines or Arrow file, or a folder of Parquet files.

    Args:
        model: a loaded model.
        source: the file; its suffix says what it holds. Columns that the model does not take are allowed.
        out: a ``.parquet``, ``.csv`` or ``.jsonl`` file, replaced when it is whole; ``-`` for CSV on standard output;
            default :func:`default_out`.
        unseen: what a category that training has not seen counts as: ``missing``, or an ``error``.
        explain: adds SHAP values: ``contribution.COLUMN`` per column and ``contribution_expected``; they add up to the
            log-odds of the uncalibrated score (binary) or to the value. LightGBM only.
        keep: the columns of the file to write before the score; default those that the model does not take.
        all_columns: writes all columns of the file.
        score_column: name of the column with the score.
        batch_rows: most rows in memory at a time.
        progress: called after each batch.

    Raises:
        UsageError: no such file or column, an unknown suffix, a column of the file is named as the score's.
        DataError: the file is not what its suffix says, a number is infinite, or a column breaks the model's contract;
            the message names the file, the rows and the column.
        StorageError: the scores cannot be written.

    Example:
        >>> import tempfile
        >>> from sklearn.linear_model import LinearRegression
        >>> from stk_ml.artifact.calibrator import Calibrator
        >>> from stk_ml.artifact.model import ModelDocument, TrainedModel
        >>> from stk_ml.artifact.schema import FeatureField, FeatureSchema
        >>> from stk_ml.artifact.scorer import EstimatorScorer
        >>> about = 1, "cost", "regression", "estimator", "estimator.skops", "LinearRegression", 0, {}
        >>> schema = FeatureSchema((FeatureField("km", "number"),))
        >>> cost = LinearRegression().fit([[0.0], [10.0]], [1.0, 21.0])
        >>> model = TrainedModel(ModelDocument(*about, schema, Calibrator(), "", "", {}), EstimatorScorer(cost, False))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source = Path(folder) / "parcels.json"
        ...     _ = source.write_text('[{"parcel": 7, "km": 2}, {"parcel": 8, "km": 4}]')
        ...     result = score_file(model, source)
        >>> Path(result.out).name, result.columns
        ('parcels-scored.jsonl', ('parcel', 'score'))
        >>> result.rows, round(result.mean_score, 6)
        (2, 7.0)
    """
    started = perf_counter()
    source, target = Path(source), str(out) or str(default_out(Path(source)))
    if batch_rows < 1:
        raise UsageError(f"a batch of {batch_rows} rows cannot be read", hint="give 1 or more")
    if (
        target != writing.STANDARD_OUTPUT
        and Path(target).exists()
        and source.exists()
        and Path(target).samefile(source)
    ):
        raise UsageError(f"{target} is the file to score; it is not replaced", hint="give another --out")
    found = _Found()
    with reading.opened(source, model.schema, batch_rows) as rows:
        kept = _kept(source, rows.columns, model.schema, keep, all_columns)
        added = [score_column, *(_contribution_names(model) if explain else ())]
        _refuse_twice(kept, added)
        wanted = [*kept, *(name for name in model.features if name not in kept)]
        with writing.written(target) as write:
            for table in rows.read(wanted):
                columns = _score(model, table, unseen, explain, found, source)
                write(_with(table.select(kept), added, columns))
                if progress is not None:
                    progress(found.rows, rows.part())
    return BatchResult(
        rows=found.rows,
        seconds=perf_counter() - started,
        mean_score=found.total / found.rows if found.rows else None,
        unseen=dict(sorted(found.unseen.items())),
        out=target,
        columns=(*kept, *added),
    )


def default_out(source: str | Path) -> Path:
    """Where scores go when nothing is said: beside the file; CSV and JSON stay what they are, the others are Parquet.

    Example:
        >>> default_out("day/parcels.csv.gz").as_posix(), default_out("parcels.arrow").as_posix()
        ('day/parcels-scored.csv', 'parcels-scored.parquet')
    """
    path = Path(source)
    kind = "parquet" if path.is_dir() else reading.kind(path)
    suffix = {"csv": ".csv", "json": ".jsonl", "jsonl": ".jsonl"}.get(kind, ".parquet")
    stem = path.name if path.is_dir() else reading.stem(path)
    return path.with_name(f"{stem}-scored{suffix}")


@dataclass
class _Found:
    """What was seen so far."""

    rows: int = 0
    total: float = 0.0
    unseen: Counter[str] = field(default_factory=Counter)


def _kept(
    source: Path, columns: Sequence[str], schema: FeatureSchema, keep: Sequence[str], all_columns: bool
) -> list[str]:
    """Names of the columns to write, after the model's columns are known to be there."""
    missing = [name for name in schema.names if name not in columns]
    if missing:
        listed = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        what = f"column {listed} is" if len(missing) == 1 else f"columns {listed} are"
        raise ColumnContractError(
            f"{source}: {what} missing, of the {len(schema.names)} that the model takes",
            hint=closest(missing[0], columns),
        )
    unknown = next((name for name in keep if name not in columns), None)
    if unknown is not None:
        raise UnknownNameError(f"column of {source}", unknown, columns)
    if all_columns:
        return list(columns)
    return list(dict.fromkeys(keep)) or [name for name in columns if name not in schema.names]


def _refuse_twice(kept: Sequence[str], added: Sequence[str]) -> None:
    double = next((name for name in added if name in kept), None)
    if double == added[0]:
        raise UsageError(f"the file has a column {double!r} of its own", hint="name the score's: --score-column NAME")
    if double is not None:
        raise UsageError(f"the file has a column {double!r} of its own", hint="leave it out: name others by --keep")


def _contribution_names(model: TrainedModel) -> list[str]:
    return [*(f"contribution.{name}" for name in model.features), "contribution_expected"]


def _score(
    model: TrainedModel, table: pa.Table, unseen: Unseen, explain: bool, found: _Found, source: Path
) -> list[Any]:
    """The columns to add: scores, then contributions; encodes the table once."""
    selected = model.schema.select(table)
    try:
        encoded = model.schema.encode(selected, unseen=unseen)
    except ColumnContractError as error:
        raise _placed(error, model.schema, selected, unseen, found.rows, source) from error
    _refuse_infinite(encoded, found.rows, source)
    try:
        scores = model.calibrator.apply(model.scorer.raw(encoded))
    except ColumnContractError as error:
        where = f"{source}, rows {found.rows + 1:,} to {found.rows + encoded.num_rows:,}"
        raise ColumnContractError(f"{where}: {error}", hint=error.hint) from error
    found.rows += len(scores)
    found.total += float(scores.sum())
    found.unseen.update(model.schema.unseen(selected))
    return [scores, *(model.scorer.contributions(encoded).T if explain else ())]


def _placed(
    error: ColumnContractError, schema: FeatureSchema, table: pa.Table, unseen: Unseen, before: int, source: Path
) -> ColumnContractError:
    """The same error with the file and its first wrong row, found by bisection."""

    def wrong(rows: int) -> bool:
        try:
            schema.encode(table.slice(0, rows), unseen=unseen)
        except ColumnContractError:
            return True
        return False

    first = bisect_left(range(table.num_rows), True, key=lambda row: wrong(row + 1))
    where = f"{source}, row {before + first + 1:,}" if first < table.num_rows else str(source)
    return ColumnContractError(f"{where}: {error}", hint=error.hint)


def _refuse_infinite(encoded: pa.Table, before: int, source: Path) -> None:
    """No measurement is infinite, and the scoring app takes no such number either."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(encoded.column_names, encoded.columns, strict=True):
        first = pc.index(pc.is_inf(column), True).as_py() if pa.types.is_floating(column.type) else -1
        if first >= 0:
            where = f"{source}, row {before + first + 1:,}"
            raise ColumnContractError(
                f"{where}: column {name!r} holds {column[first].as_py()}, no finite number",
                hint="leave out what is not known, or give a finite number; above 1.8e308 a number counts as infinite",
            )


def _with(table: pa.Table, names: Sequence[str], columns: Sequence[Any]) -> pa.Table:
    import pyarrow as pa

    for name, column in zip(names, columns, strict=True):
        table = table.append_column(name, pa.array(column))
    return table
