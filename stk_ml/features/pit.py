"""The point-in-time join, written once: for each row of the spine, what was known at its ``as_of``.

Of one entity's rows with ``known_time <= as_of`` the newest counts: the greatest ``event_time``, then the greatest
``known_time``. A late correction of an old event thus replaces that event, and never hides a newer one. Of rows that
agree in all three a fixed one counts, chosen by the hash of its values, whatever the order of rows in a file.

A row can only ever win if, in the order in which rows became known, its event is not older than any before it. Only
these candidates are kept; of them the newest known is also the newest event, and one ASOF join on ``known_time`` finds
it. Entities are numbered and values fetched at the end, so that only small integers are sorted: with text keys and a
few features per view this halves the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

#: Numbers the rows; four bytes sort faster than eight.
_NUMBER = "CAST(row_number() OVER () AS UINTEGER)"


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
    lookups = [lookup for lookup in lookups if lookup.columns]
    if not lookups:
        return f"SELECT * FROM {spine}"
    steps = [f"__spine AS MATERIALIZED (SELECT *, {_NUMBER} AS __row FROM {spine})"]
    codes, coded, places, found, taken, values = [], [], [], [], [], []
    for n, lookup in enumerate(lookups):
        steps += _candidates(lookup, n)
        keys = " AND ".join(f"s.{quoted(left)} = e{n}.__key{k}" for k, (left, _) in enumerate(lookup.on))
        codes.append(f"e{n}.__code AS __code{n}")
        coded.append(f"LEFT JOIN __entities{n} AS e{n} ON {keys}")
        places.append(f"c{n}.__place AS __place{n}")
        found.append(f"ASOF LEFT JOIN __candidates{n} AS c{n} ON s.__code{n} = c{n}.__code AND s.__at >= c{n}.__known")
        values += [_taken(lookup, as_of, n, k, name) for k, (_, name) in enumerate(lookup.columns)]
        taken.append(f"LEFT JOIN __view{n} AS v{n} ON v{n}.__place = f.__place{n}")
    at = f"s.{quoted(as_of)} AS __at"
    steps.append(f"__coded AS (SELECT s.__row, {at}, {', '.join(codes)} FROM __spine AS s {' '.join(coded)})")
    steps.append(f"__found AS (SELECT s.__row, {', '.join(places)} FROM __coded AS s {' '.join(found)})")
    return (
        f"WITH {', '.join(steps)} SELECT s.* EXCLUDE (__row), {', '.join(values)} "
        f"FROM __spine AS s JOIN __found AS f ON s.__row = f.__row {' '.join(taken)}"
    )


def _candidates(lookup: Lookup, n: int) -> list[str]:
    """Common table expressions of a view: its entities by number, its rows by place, and the rows that can win.

    The candidates are one row per entity and known_time, none with an older event than one before it. A running
    maximum over sorted rows finds them, of entity and event packed into one number, so that it starts again with each
    entity; DuckDB streams it, where a partitioned window would take three times as long.
    """
    keys = [f"{quoted(right)} AS __key{k}" for k, (_, right) in enumerate(lookup.on)]
    values = [f"{quoted(column)} AS __value{k}" for k, (column, _) in enumerate(lookup.columns)]
    event, known = (f"CAST({quoted(name)} AS TIMESTAMP)" for name in (lookup.event_time, lookup.known_time))
    present = " AND ".join(f"{quoted(right)} IS NOT NULL" for _, right in lookup.on)
    same = " AND ".join(f"r.{quoted(right)} = e.__key{k}" for k, (_, right) in enumerate(lookup.on))
    kept = ", ".join(f"__value{k}" for k in range(len(values)))
    packed = "CAST(__code AS HUGEINT) * 18446744073709551616 + epoch_us(__event)"
    return [
        f"__entities{n} AS MATERIALIZED (SELECT *, {_NUMBER} AS __code FROM "
        f"(SELECT DISTINCT {', '.join(keys)} FROM {lookup.relation} WHERE {present}))",
        f"__view{n} AS MATERIALIZED (SELECT *, {_NUMBER} AS __place, hash({kept}) AS __hash FROM "
        f"(SELECT e.__code, {event} AS __event, {known} AS __known, {', '.join(values)} "
        f"FROM {lookup.relation} AS r JOIN __entities{n} AS e ON {same}) "
        "WHERE __event IS NOT NULL AND __known IS NOT NULL)",
        f"__candidates{n} AS (SELECT __code, __known, __place FROM (SELECT __code, __known, __place, __packed, "
        "max(__packed) OVER (ROWS UNBOUNDED PRECEDING) AS __newest, "
        "lead(__known) OVER () AS __next, lead(__code) OVER () AS __follows FROM "
        f"(SELECT __code, __known, __place, {packed} AS __packed "
        f"FROM __view{n} ORDER BY __code, __known, __event, __hash)) "
        "WHERE __packed = __newest AND (__next IS DISTINCT FROM __known OR __follows IS DISTINCT FROM __code))",
    ]


def _taken(lookup: Lookup, as_of: str, n: int, k: int, name: str) -> str:
    value = f"v{n}.__value{k}"
    if lookup.lookback is not None:
        since = f"s.{quoted(as_of)} - INTERVAL {round(lookup.lookback.total_seconds())} SECOND"
        value = f"CASE WHEN v{n}.__event > {since} THEN {value} END"
    return f"{value} AS {quoted(name)}"


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier.

    Example:
        >>> quoted('a"b')
        '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'
