"""Raw data as it was known at an instant: what became known later is erased, or altered, in plain SQL.

Erasing tells what a view would have given then. But a view that keeps only labelled rows would drop just those rows
that could give a leak away; so the same instant is replayed a second time with later values altered instead: each
becomes the largest of its column (and NULL where it is the largest), rows and keys stay. An honest feature takes notice
of neither. Rows that became known more than 30 days after the instant are left out there, too: a leak that reads only
them shows when they are erased, and to carry half a year of rows with equal values takes most of an audit's time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlglot
from sqlglot import exp

from stk_ml.features.catalog import Source
from stk_ml.features.labels import moment
from stk_ml.features.pit import quoted
from stk_ml.features.view import FeatureView

Mode = Literal["erased", "altered"]
MODES: tuple[Mode, ...] = ("erased", "altered")
#: Rows that became known later than this after the instant are not altered but left out.
HORIZON = timedelta(days=30)


@dataclass(frozen=True)
class Mask:
    """An instant, and what happens to what became known after it."""

    instant: datetime
    mode: Mode


def masked_sql(mask: Mask, source: Source, columns: Collection[str], keys: Collection[str]) -> str:
    """A relation over ``{source}``, the raw table, as it was known at the mask's instant.

    Args:
        mask: when, and how.
        source: when rows and columns became known; an empty ``known`` means the column ``known_time``.
        columns: of the table.
        keys: names of columns that are never altered, see :func:`join_keys`.

    Example:
        >>> mask = Mask(datetime(2024, 1, 1), "erased")
        >>> print(masked_sql(mask, Source("seen", {"delay": "landed"}), ["seen", "delay"], []))
        (SELECT * REPLACE (CASE WHEN (landed) <= TIMESTAMP '2024-01-01 00:00:00.000000' THEN "delay" END AS "delay") \
FROM {source} WHERE (seen) <= TIMESTAMP '2024-01-01 00:00:00.000000')
    """
    limit = moment(mask.instant)
    clock = f"({source.known or 'known_time'})"
    row = f"{clock} <= {limit}"
    known = {name: f"({when}) <= {limit}" for name, when in source.columns.items()}
    if mask.mode == "erased":
        kept = [f"CASE WHEN {when} THEN {quoted(name)} END AS {quoted(name)}" for name, when in known.items()]
        replace = f" REPLACE ({', '.join(kept)})" if kept else ""
        return f"(SELECT *{replace} FROM {{source}} WHERE {row})"
    altered = [name for name in columns if name not in keys]
    if not altered:
        return "{source}"
    near = f"coalesce({clock} <= {moment(mask.instant + HORIZON)}, true)"
    largest = ", ".join(f"max({quoted(name)}) AS {quoted('__max_' + name)}" for name in altered)
    values = [
        f"CASE WHEN {' AND '.join(filter(None, [row, known.get(name)]))} THEN {quoted(name)} "
        f"ELSE nullif({quoted('__max_' + name)}, {quoted(name)}) END AS {quoted(name)}"
        for name in altered
    ]
    maxima = ", ".join(quoted("__max_" + name) for name in altered)
    return (
        f"(SELECT * EXCLUDE ({maxima}) REPLACE ({', '.join(values)}) "
        f"FROM {{source}}, (SELECT {largest} FROM {{source}}) WHERE {near})"
    )


def join_keys(views: Iterable[FeatureView]) -> frozenset[str]:
    """Names of columns that views join or identify rows by: altering them would drop rows rather than change values."""
    keys: set[str] = set()
    for view in views:
        keys |= set(view.entity)
        tree = sqlglot.parse_one(view.sql, dialect="duckdb")
        for join in tree.find_all(exp.Join):
            keys |= {identifier.name for identifier in join.args.get("using") or ()}
            if join.args.get("on") is not None:
                keys |= {column.name for column in join.args["on"].find_all(exp.Column)}
    return frozenset(keys)


def undeclared(tables: Mapping[str, Collection[str]], sources: Mapping[str, Source]) -> list[str]:
    """Raw tables (with their columns) of which nothing says when their rows became known."""
    return [
        table
        for table, columns in tables.items()
        if not (table in sources and sources[table].known) and "known_time" not in columns
    ]
