"""SQL conditions for delta-rs, from names and values, with everything quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from stk_ml.errors import UnknownNameError, UsageError


def partitions(
    only: Mapping[str, Any], schema: pa.Schema, partitioned: Sequence[str], table: str
) -> Mapping[str, pa.Scalar]:
    """The values of ``only`` in the types of the table's partition columns.

    Raises:
        UnknownNameError: a name is no partition column of the table.
        UsageError: a value is not of the column's type, or is empty text, which Delta stores as null.
    """
    scalars = {}
    for name, value in only.items():
        if name not in partitioned:
            hint = "" if partitioned else f"{table} has no partitions; overwrite it as a whole with partition_by"
            raise UnknownNameError(f"partition column of {table}", name, partitioned, hint=hint)
        kind = schema.field(name).type
        if value == "":
            raise UsageError(f"{table}: the partition {name!r} cannot be empty text", hint="use None for null")
        try:
            scalars[name] = pa.scalar(value, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"{table}: {value!r} is no {kind}, the type of partition {name!r}") from error
    return scalars


def sql(only: Mapping[str, pa.Scalar]) -> str:
    """The condition that holds for the rows of those partitions.

    Example:
        >>> print(sql({"carrier": pa.scalar("O'Hare"), "month": pa.scalar(7)}))
        "carrier" = 'O''Hare' AND "month" = 7
    """
    return " AND ".join(
        f"{column(name)} = {_literal(scalar.as_py())}" if scalar.is_valid else f"{column(name)} IS NULL"
        for name, scalar in only.items()
    )


def same_key(key: Sequence[str]) -> str:
    """The condition of a merge: equal keys in ``target`` and ``source``."""
    return " AND ".join(f"target.{column(name)} = source.{column(name)}" for name in key)


def column(name: str) -> str:
    """A quoted column name."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return f"'{moment.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    return "'" + str(value).replace("'", "''") + "'"
