"""What rows must be before they are written: one per key, inside their partition, in a partition that Delta keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from stk_ml.errors import ColumnContractError, DataError


def unique_key(rows: pa.Table, key: Sequence[str], table: str) -> None:
    """Raises DataError when a key stands more than once, or is null, with counts."""
    nulls = {name: rows[name].null_count for name in key if rows[name].null_count}
    if nulls:
        counts = ", ".join(f"{name} in {count}" for name, count in nulls.items())
        raise DataError(
            f"{table}: the key is null in the data to merge: {counts} of {rows.num_rows} rows",
            hint="null equals nothing, so such a row could never be updated",
        )
    groups = rows.group_by(list(key)).aggregate([([], "count_all")])
    twice = groups.filter(pc.greater(groups["count_all"], 1))
    if twice.num_rows:
        example = {name: twice[name][0].as_py() for name in key}
        raise DataError(
            f"{table}: {twice.num_rows} keys stand more than once in the data to merge, in "
            f"{pc.sum(twice['count_all']).as_py()} of {rows.num_rows} rows, such as {example}",
            hint="keep one row per key, say the newest",
        )


def inside(batch: pa.RecordBatch, only: Mapping[str, pa.Scalar], table: str) -> None:
    """Raises DataError when rows are outside the partitions that are overwritten."""
    for name, scalar in only.items():
        values = batch.column(name)
        same = pc.fill_null(pc.equal(values, scalar), False) if scalar.is_valid else values.is_null()
        outside = len(values) - pc.sum(same, min_count=0).as_py()
        if outside:
            raise DataError(
                f"{table}: {outside} of {len(values)} rows are not of the partition {name} = {scalar.as_py()!r}",
                hint="overwrite each partition with its own rows",
            )


def no_empty_text(batch: pa.RecordBatch, columns: Sequence[str], table: str) -> None:
    """Raises DataError for empty text in a partition column: Delta would store it as null, in silence."""
    for name in columns:
        values = batch.column(name)
        empty = pc.sum(pc.equal(values, ""), min_count=0).as_py() if pa.types.is_string(values.type) else 0
        if empty:
            raise DataError(
                f"{table}: {empty} of {len(values)} rows have empty text in the partition column {name!r}",
                hint="use null, or a name such as 'none'",
            )


def can_partition(schema: pa.Schema, by: Sequence[str], table: str) -> None:
    """Raises ColumnContractError when a partition column is missing, or no other column is left."""
    missing = [name for name in by if name not in schema.names]
    if missing:
        raise ColumnContractError(
            f"{table}: no column {', '.join(missing)} to partition by",
            hint=f"the data has {', '.join(schema.names)}",
        )
    if len(set(by)) == len(schema):
        raise ColumnContractError(f"{table}: every column is a partition column", hint="leave one out of partition_by")
