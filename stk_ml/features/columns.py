"""The column contract: logical type, nullability, range and categories, checked in one pass over a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from stk_ml.contracts import AuditFinding, Column, ColumnType
from stk_ml.errors import ColumnContractError
from stk_ml.features.pit import quoted
from stk_ml.features.world import World

_LOGICAL: tuple[tuple[str, ColumnType], ...] = (
    (r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?", "integer"),
    (r"FLOAT|DOUBLE|DECIMAL.*", "number"),
    (r"BOOLEAN", "boolean"),
    (r"TIMESTAMP.*", "timestamp"),
    (r"DATE", "date"),
    (r"VARCHAR|ENUM.*", "text"),
)
#: Stored types that a declared type accepts.
_ACCEPTS: Mapping[ColumnType, frozenset[str]] = {
    "integer": frozenset({"integer"}),
    "number": frozenset({"integer", "number"}),
    "boolean": frozenset({"boolean"}),
    "category": frozenset({"text"}),
    "text": frozenset({"text"}),
    "timestamp": frozenset({"timestamp"}),
    "date": frozenset({"date"}),
}
_EXAMPLES = 3


def logical_type(stored: str) -> ColumnType | None:
    """The logical type of a DuckDB type; None for one that no feature has (lists, structs, blobs, intervals).

    Example:
        >>> logical_type("DECIMAL(18,3)"), logical_type("UTINYINT"), logical_type("VARCHAR"), logical_type("INTEGER[]")
        ('number', 'integer', 'text', None)
    """
    return next((logical for pattern, logical in _LOGICAL if re.fullmatch(pattern, stored)), None)


def check_columns(world: World, relation: str, columns: Sequence[Column], *, where: str) -> list[AuditFinding]:
    """Checks every declared rule of every column.

    Args:
        world: where the table stands.
        relation: its name in SQL.
        columns: the declared columns.
        where: put before the column's name in findings, e.g. the view's name.

    Returns:
        One finding per column and rule, also for those that hold (``rows`` = 0). NaN counts as null.
    """
    stored = world.columns(relation)
    findings: list[tuple[str, str, int | None, str]] = []
    rules: list[tuple[str, str, str, str]] = []
    for column in columns:
        kind = stored.get(column.name)
        if kind is None or logical_type(kind) not in _ACCEPTS[column.type]:
            detail = f"is {kind or 'absent'}, declared {column.type}"
            findings.append((f"{where}.{column.name}", "type", None, detail))
        else:
            findings.append((f"{where}.{column.name}", "type", 0, ""))
            rules += [(column.name, rule, broken, detail) for rule, broken, detail in _rules(column, kind)]
    counts = ", ".join(["count(*)", *(f"count(*) FILTER ({broken})" for _, _, broken, _ in rules)])
    total, *broken_rows = world.row(f"SELECT {counts} FROM {relation}")
    result = [
        AuditFinding(rule, name, total if rows is None else 0, total, detail) for name, rule, rows, detail in findings
    ]
    for (name, rule, broken, detail), rows in zip(rules, broken_rows, strict=True):
        if rows:
            detail = f"{detail}; {_examples(world, relation, name, broken)}" if rule != "null" else detail
        result.append(AuditFinding(rule, f"{where}.{name}", rows, total, detail))
    return result


def raise_broken(findings: Iterable[AuditFinding]) -> None:
    """Raises ColumnContractError when a rule is broken; the message names each column, rule, count and examples."""
    broken = [f for f in findings if f.rows > 0 or (f.rule == "type" and f.detail)]
    if broken:
        told = "; ".join(
            f"column {f.column}: {f.rule}: {f.rows:,} of {f.checked:,} rows" + (f" ({f.detail})" if f.detail else "")
            for f in broken
        )
        raise ColumnContractError(told, hint="mend the data or the view's SQL, or change the contract in its header")


def _rules(column: Column, stored: str) -> list[tuple[str, str, str]]:
    """Rule, SQL that is true for a row that breaks it, and what was declared."""
    name = quoted(column.name)
    missing = f"{name} IS NULL OR isnan({name})" if stored in ("FLOAT", "DOUBLE") else f"{name} IS NULL"
    rules = []
    if not column.nullable:
        rules.append(("null", missing, "declared not nullable"))
    bounds = [
        f"{name} {sign} {bound!r}"
        for sign, bound in (("<", column.minimum), (">", column.maximum))
        if bound is not None
    ]
    if bounds:
        low = "" if column.minimum is None else f"{column.minimum:g}"
        high = "" if column.maximum is None else f"{column.maximum:g}"
        rules.append(("range", f"NOT ({missing}) AND ({' OR '.join(bounds)})", f"allowed {low}..{high}"))
    if column.categories:
        allowed = ", ".join(_text(value) for value in column.categories)
        shown = ", ".join(column.categories[:5]) + (", ..." if len(column.categories) > 5 else "")
        rules.append(("category", f"{name} NOT IN ({allowed})", f"allowed {shown}"))
    return rules


def _examples(world: World, relation: str, name: str, broken: str) -> str:
    found = world.rows(
        f"SELECT CAST({quoted(name)} AS VARCHAR) AS value, count(*) AS n FROM {relation} WHERE {broken} "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {_EXAMPLES}"
    )
    return "found " + ", ".join(f"{value!r} ({rows:,} rows)" for value, rows in found)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
