"""The point-in-time join, written once: for each row of the spine, what was known at its ``as_of``.

Of one entity's rows with ``known_time <= as_of`` the newest counts: the greatest ``event_time``, then the greatest
``known_time``, then (rows that differ in neither) the greatest values, so that the answer never depends on the order
of rows in a file. A late correction of an old event thus replaces that event, and never hides a newer one.

A row can only ever win if, in the order in which rows became known, its event is not older than all before it. Only
these rows are kept; of them the newest known is also the newest event, and one ASOF join on ``known_time`` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Lookup:
    """One feature view to look up.

    Attributes:
        relation: name of the view's table in SQL, or a parenthesised SELECT.
        on: pairs of spine column and view column that must be equal; NULL equals nothing.
        columns: pairs of view column and its name in the result.
        event_time, known_time: the view's time columns.
        lookback: rows whose event is this old or older count as missing; None for no limit.
    """

    relation: str
    on: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    event_time: str = "event_time"
    known_time: str = "known_time"
    lookback: timedelta | None = None


def point_in_time_sql(spine: str, as_of: str, lookups: Sequence[Lookup]) -> str:
    """The join as one SELECT: all columns of the spine, then those of each lookup in order.

    Args:
        spine: name of the spine's table in SQL, or a parenthesised SELECT.
        as_of: its TIMESTAMP column.
        lookups: the views; the names they give must not be in the spine.

    Example:
        >>> import duckdb
        >>> con = duckdb.connect()
        >>> _ = con.execute("CREATE TABLE s AS SELECT 'a' AS k, TIMESTAMP '2024-01-02' AS at")
        >>> _ = con.execute("CREATE TABLE v AS SELECT 'a' AS k, 7 AS x, TIMESTAMP '2024-01-01' AS e, e AS n")
        >>> lookup = Lookup("v", (("k", "k"),), (("x", "x"),), event_time="e", known_time="n")
        >>> con.sql(f"SELECT k, x FROM ({point_in_time_sql('s', 'at', [lookup])})").fetchall()
        [('a', 7)]
    """
    joins, taken = [], []
    for number, lookup in enumerate(lookups):
        alias = f"__{number}"
        keys = [f"s.{quoted(left)} = {alias}.__key{n}" for n, (left, _) in enumerate(lookup.on)]
        condition = " AND ".join([*keys, f"s.{quoted(as_of)} >= {alias}.__known"])
        joins.append(f"ASOF LEFT JOIN ({_candidates(lookup)}) AS {alias} ON {condition}")
        taken += [_taken(lookup, as_of, alias, n, name) for n, (_, name) in enumerate(lookup.columns)]
    return f"SELECT {', '.join(['s.*', *taken])} FROM {spine} AS s {' '.join(joins)}"


def _candidates(lookup: Lookup) -> str:
    """The rows of a view that can win: one per entity and known_time, none with an older event than one before it."""
    keys = [f"{quoted(right)} AS __key{n}" for n, (_, right) in enumerate(lookup.on)]
    values = [f"{quoted(column)} AS __value{n}" for n, (column, _) in enumerate(lookup.columns)]
    times = [
        f"CAST({quoted(lookup.event_time)} AS TIMESTAMP) AS __event",
        f"CAST({quoted(lookup.known_time)} AS TIMESTAMP) AS __known",
    ]
    partition = ", ".join(f"__key{n}" for n in range(len(lookup.on)))
    order = ", ".join(["__known", "__event", *(f"__value{n} NULLS FIRST" for n in range(len(values)))])
    present = " AND ".join(f"__key{n} IS NOT NULL" for n in range(len(lookup.on)))
    return (
        f"SELECT * FROM (SELECT {', '.join([*keys, *times, *values])} FROM {lookup.relation}) "
        f"WHERE {present} AND __event IS NOT NULL AND __known IS NOT NULL "
        f"WINDOW w AS (PARTITION BY {partition} ORDER BY {order}) "
        "QUALIFY lead(__known) OVER w IS DISTINCT FROM __known "
        "AND __event >= max(__event) OVER (w ROWS UNBOUNDED PRECEDING)"
    )


def _taken(lookup: Lookup, as_of: str, alias: str, number: int, name: str) -> str:
    value = f"{alias}.__value{number}"
    if lookup.lookback is not None:
        since = f"s.{quoted(as_of)} - INTERVAL {round(lookup.lookback.total_seconds())} SECOND"
        value = f"CASE WHEN {alias}.__event > {since} THEN {value} END"
    return f"{value} AS {quoted(name)}"


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier.

    Example:
        >>> quoted('a"b')
        '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'
