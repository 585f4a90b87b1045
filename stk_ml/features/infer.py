"""A model file for a table that has none: what kind of problem the target is, and sensible defaults for the rest."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from stk_ml.errors import DataError, LabelError, UnknownNameError, UsageError
from stk_ml.lake.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa

_FILES = (".csv", ".parquet", ".pq")
_TEMPLATE = """\
# Written by `stk-ml train --table`; edit it and train it by its name: stk-ml train {name}
name: {name}
problem: {problem}
data:
  table: {table}
  target: {target}
{times}{gate}"""
_TIMED = "  as_of: {time}              # splits are by time: the newest rows are the test\n"
_UNTIMED = (
    "  # as_of: COLUMN           # name the time of the prediction, and splits are by time instead of at random\n"
)
_CHANCE = "gate: {floor: 0.5}          # an AUC of 0.5 is chance: not even a first model may be worse\n"


def declare_table(lake: Lake, table: str, target: str, time: str, *, folder: Path, root: Path) -> Path:
    """Writes the model file for a flat table and returns its path.

    Args:
        lake: where a ``zone.table`` is looked for.
        table: a lake table, or the path of a CSV or Parquet file.
        target: the column to predict: two values make a binary problem, more numbers a regression.
        time: the column with the time of the prediction; empty for a random split.
        folder: where to write; an existing file that says the same is used as it is.
        root: the project's folder; the path of a file below it is written relative to it.

    Raises:
        UnknownNameError: no such file or column.
        TableNotFoundError: no such lake table.
        LabelError: the target has one value, none at all, or more than two that are not numbers.
        UsageError: the file exists and says something else.
    """
    relation, where = _open(lake, table, root)
    for column in filter(None, (target, time)):
        if column not in relation.columns:
            raise UnknownNameError(f"column of {table}", column, relation.columns)
    name = _slug(f"{Path(table).stem if where else table.split('.')[-1]}-{target}")
    times = _TIMED.format(time=_quoted(time)) if time else _UNTIMED
    problem = _problem(relation, target)
    text = _TEMPLATE.format(
        name=name,
        problem=problem,
        table=_quoted(where or table),
        target=_quoted(target),
        times=times,
        gate=_CHANCE if problem == "binary" else "",
    )
    file = folder / f"{name}.yml"
    if file.exists():
        if file.read_text("utf-8") == text:
            return file
        hint = f"stk-ml train {name} uses it as it is; remove it to have it written anew"
        raise UsageError(f"{file} exists and says something else", hint=hint)
    folder.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    aside.write_text(text, "utf-8")
    return aside.replace(file)


def read_table(lake: Lake, table: str, root: Path) -> pa.Table:
    """A lake table (``zone.table``), or a CSV or Parquet file.

    Raises:
        UnknownNameError, TableNotFoundError, UsageError: there is none of that name.
        DataError: the file cannot be read.
    """
    return _open(lake, table, root)[0].to_arrow_table()


def _open(lake: Lake, table: str, root: Path) -> tuple[duckdb.DuckDBPyRelation, str]:
    """The table as a relation, and its path as a model file names it when it is a file."""
    connection = duckdb.connect()
    if not table.lower().endswith(_FILES):
        return connection.from_arrow(lake.table(table).dataset()), ""
    path = Path(table).resolve()
    if not path.is_file():
        near = (
            [str(file.name) for file in path.parent.glob("*") if file.suffix in _FILES] if path.parent.is_dir() else []
        )
        raise UnknownNameError("file", table, near)
    try:
        read = connection.read_csv if path.suffix.lower() == ".csv" else connection.read_parquet
        return read(str(path)), str(path.relative_to(root) if path.is_relative_to(root) else path)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{table} cannot be read: {reason}", hint="a CSV needs a header line; Parquet must be whole"
        ) from error


def _problem(relation: duckdb.DuckDBPyRelation, target: str) -> str:
    column = '"' + target.replace('"', '""') + '"'
    [(values, one)] = relation.aggregate(f"count(DISTINCT {column}), min({column})::VARCHAR").fetchall()
    if values == 2:
        return "binary"
    if values < 2:
        what = f"only the value {one!r}" if values else "no values"
        raise LabelError(f"the target {target!r} has {what}", hint="a model needs at least two values to tell apart")
    kind = str(relation.types[relation.columns.index(target)])
    if re.match(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL)", kind):
        return "regression"
    hint = "predict one of them against the rest: make a column of 0 and 1"
    raise LabelError(
        f"the target {target!r} has {values} values of type {kind}; two values or numbers are needed", hint=hint
    )


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return slug if slug[:1].isalpha() else f"m-{slug}"


def _quoted(text: str) -> str:
    """A YAML scalar: as it is when it is plain, else in double quotes."""
    plain = re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", text) and text.lower() not in (
        "true",
        "false",
        "null",
        "yes",
        "no",
        "on",
        "off",
    )
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
