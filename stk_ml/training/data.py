"""Reads a training set: the columns that are needed, in Arrow, and the target as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stk_ml import contracts
from stk_ml.contracts import ColumnRole, Dataset
from stk_ml.errors import ColumnContractError, LabelError, StorageError
from stk_ml.model_spec import ModelSpec
from stk_ml.training.splits import Index, SplitParts, Times, split

_ALL: tuple[ColumnRole, ...] = ("feature", "entity", "as_of", "label", "label_time", "slice")


def load_dataset(folder: str | Path, roles: Sequence[ColumnRole] = _ALL) -> tuple[Dataset, pa.Table]:
    """Reads ``dataset.json`` and the columns of some roles of ``data.parquet``; text stays dictionary-encoded.

    Args:
        folder: what ``stk-ml features pull`` wrote.
        roles: which columns; default all.

    Raises:
        StorageError: a file is missing or damaged, or the two do not belong together.
    """
    folder = Path(folder)
    dataset = contracts.read(Dataset, folder / "dataset.json")
    columns = [column for column in dataset.columns if column.role in roles]
    file = folder / "data.parquet"
    text = [column.name for column in columns if column.type in ("category", "text")]
    try:
        stored = pq.read_schema(file)
        table = pq.read_table(
            file,
            columns=[column.name for column in columns],
            read_dictionary=[name for name in text if name in stored.names],
            memory_map=True,
        )
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{file} cannot be read: {error}") from error
    missing = [column.name for column in columns if column.name not in table.column_names]
    if missing or table.num_rows != dataset.rows:
        raise StorageError(
            f"{file} does not belong to its dataset.json: {table.num_rows} rows instead of {dataset.rows}"
            + (f", without {', '.join(missing)}" if missing else ""),
            hint="pull it again: stk-ml features pull",
        )
    return dataset, table


def split_dataset(spec: ModelSpec, dataset: Dataset, table: pa.Table) -> SplitParts:
    """Splits a loaded training set; see :func:`stk_ml.training.splits.split`."""
    return split(spec, table.num_rows, times(dataset, table, "as_of"), times(dataset, table, "label_time"))


def times(dataset: Dataset, table: pa.Table, role: ColumnRole) -> Times | None:
    """The time column of a role as datetime64 in microseconds, UTC; None when there is none.

    Raises:
        ColumnContractError: it holds no times.
    """
    names = dataset.role(role)
    if not names:
        return None
    column = table.column(names[0])
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise ColumnContractError(
            f"{role} column {names[0]!r} holds {column.type}, not times", hint="cast it to a timestamp in the view"
        )
    moments: Times = column.cast(pa.timestamp("us")).to_numpy()
    return moments


def target(spec: ModelSpec, dataset: Dataset, table: pa.Table) -> npt.NDArray[np.float64]:
    """The target: 0 and 1 (binary; 1 is ``data.positive``, default the larger of two values), or numbers.

    Raises:
        LabelError: it is missing or NaN in a row, has one value only, or more than two (binary), or is no number.
    """
    name = dataset.role("label")[0]
    column = table.column(name)
    missing = pc.sum(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))).as_py() or 0
    if missing:
        raise LabelError(
            f"the target {name!r} is missing (null or NaN) in {missing} of {len(column)} rows",
            hint="leave those rows out in the spine's SQL: WHERE ... IS NOT NULL",
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return _binary(name, column, spec) if spec.problem == "binary" else _number(name, column)


def take(table: pa.Table, rows: Index) -> pa.Table:
    """The rows of those rising numbers; without a copy when they are contiguous."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return table.slice(int(rows[0]), len(rows))
    return table.take(pa.array(rows))


def _binary(name: str, column: pa.ChunkedArray, spec: ModelSpec) -> npt.NDArray[np.float64]:
    values = sorted(pc.unique(column).to_pylist())
    if len(values) > 2:
        raise LabelError(
            f"the target {name!r} of a binary model has {len(values)} values: {', '.join(map(repr, values[:5]))}, ...",
            hint="make it two in the view's SQL, or declare problem: regression",
        )
    if len(values) < 2:
        raise LabelError(
            f"the target {name!r} has one class only, {values[0]!r}, in all {len(column)} rows"
            if values
            else f"the target {name!r} has no rows",
            hint="a longer period may hold both",
        )
    positive = spec.data.positive
    if positive not in values:
        if positive is not None and values not in ([0, 1], [False, True]):
            raise LabelError(
                f"data.positive is {positive!r}, and the target {name!r} is {values[0]!r} or {values[1]!r}"
            )
        positive = values[1]  # the file says which value is positive before 'features pull' made it 0 and 1
    hits = pc.equal(column, pa.scalar(positive, column.type))
    return hits.cast(pa.float64()).to_numpy()  # type: ignore[no-any-return]


def _number(name: str, column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise LabelError(f"the target {name!r} of a regression holds {kind}, not numbers", hint="problem: binary?")
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    if not np.isfinite(values).all():
        raise LabelError(
            f"the target {name!r} is infinite in {int((~np.isfinite(values)).sum())} of {len(values)} rows"
        )
    return values
