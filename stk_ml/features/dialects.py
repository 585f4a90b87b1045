"""The portable subset: what DuckDB and Spark compute alike, and a view as Spark SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp

from stk_ml.errors import DeclarationError

if TYPE_CHECKING:
    from stk_ml.features.view import FeatureView

_CLOCK = "a view must give the same rows tomorrow; take times from the data"
_RANDOM = "a view must give the same rows again; hash a key instead"
_APPROXIMATE = "approximations differ between engines; use the exact function"
_DIFFERENCE = "engines count boundaries or whole units; subtract epoch(...) of both and divide"

_REFUSED: dict[type[exp.Expression], tuple[str, str]] = {
    exp.CurrentTimestamp: ("current_timestamp", _CLOCK),
    exp.CurrentDate: ("current_date", _CLOCK),
    exp.CurrentTime: ("current_time", _CLOCK),
    exp.CurrentDatetime: ("current_datetime", _CLOCK),
    exp.Rand: ("random()", _RANDOM),
    exp.Uuid: ("uuid()", _RANDOM),
    exp.TableSample: ("sampling", _RANDOM),
    exp.ApproxQuantile: ("approx_quantile", _APPROXIMATE),
    exp.ApproxDistinct: ("approx_count_distinct", _APPROXIMATE),
    exp.DateDiff: ("date_diff", _DIFFERENCE),
    exp.TimestampDiff: ("date_diff", _DIFFERENCE),
}
_REFUSED_NAMES = {
    "now": _CLOCK,
    "today": _CLOCK,
    "get_current_timestamp": _CLOCK,
    "transaction_timestamp": _CLOCK,
    "localtimestamp": _CLOCK,
    "localtime": _CLOCK,
    "random": _RANDOM,
    "gen_random_uuid": _RANDOM,
    "setseed": _RANDOM,
    "reservoir_quantile": _APPROXIMATE,
    "date_part": "use extract(part FROM t)",
    "datepart": "use extract(part FROM t)",
    "datesub": _DIFFERENCE,
    "date_sub": _DIFFERENCE,
}


def refuse_unportable(tree: exp.Expression, *, file: str, offset: int = 0) -> None:
    """Refuses, by name, what is not reproducible or differs between DuckDB and Spark.

    Args:
        tree: parsed with sqlglot's duckdb dialect.
        file: for the error.
        offset: lines of the file before the SQL.

    Raises:
        DeclarationError: naming the construct.

    Example:
        >>> refuse_unportable(sqlglot.parse_one("SELECT now()", dialect="duckdb"), file="v.sql")
        Traceback (most recent call last):
        stk_ml.errors.DeclarationError: v.sql:1: now is not allowed in a view
    """
    for node in tree.walk():
        name, why = _verdict(node)
        if name:
            line = next((part.meta["line"] for part in node.walk() if "line" in part.meta), None)
            raise DeclarationError(
                f"{name} is not allowed in a view", file=file, line=line + offset if line else None, hint=why
            )


def _verdict(node: exp.Expression) -> tuple[str, str]:
    if isinstance(node, exp.Join) and str(node.args.get("method") or "").upper() == "ASOF":
        return "an ASOF join", "Spark has none; use row_number() OVER (PARTITION BY key ORDER BY time DESC)"
    if isinstance(node, exp.Extract) and node.name.upper() in ("DOW", "ISODOW", "EPOCH"):
        return f"extract({node.name.lower()} ...)", "Spark counts otherwise; use dayofweek(t), isodow(t) or epoch(t)"
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        return (name, _REFUSED_NAMES[name]) if name in _REFUSED_NAMES else ("", "")
    return next((verdict for kind, verdict in _REFUSED.items() if isinstance(node, kind)), ("", ""))


def to_spark(view: FeatureView) -> str:
    """The view's SELECT as Spark SQL (ANSI mode, session time zone UTC).

    Rewritten beyond the dialect: weekdays (Spark counts Sunday as 1 where DuckDB's ``dayofweek`` says 0) and ``epoch``
    (Spark drops what is below a second).
    """
    tree = sqlglot.parse_one(view.sql, dialect="duckdb")
    return str(tree.transform(_as_spark).sql("spark", pretty=True))


def _as_spark(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.DayOfWeekIso):
        return exp.paren(
            exp.Add(this=exp.Anonymous(this="WEEKDAY", expressions=[node.this]), expression=exp.convert(1))
        )
    if isinstance(node, exp.TimeToUnix):
        # Spark's UNIX_TIMESTAMP drops what is below a second; the zone-less type has no UNIX_MICROS.
        instant = exp.Cast(this=node.this, to=exp.DataType.build("TIMESTAMPLTZ"))
        micros = exp.Anonymous(this="UNIX_MICROS", expressions=[instant])
        return exp.paren(exp.Div(this=micros, expression=exp.Literal.number("1e6")))
    if isinstance(node, exp.DayOfWeek):
        # Built as a name, so that the transformation does not visit its own result again.
        day = exp.Anonymous(this="DAYOFWEEK", expressions=[node.this])
        return exp.paren(exp.Sub(this=day, expression=exp.convert(1)))
    return node
