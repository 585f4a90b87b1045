"""A feature view: one SQL file whose leading comments declare what it is about.

The header is YAML in ``-- `` lines; one SELECT follows, in the part of DuckDB's dialect that also runs on Spark::

    -- description: Age and size of each plane.
    -- owner: fleet
    -- entity: [tailnum]
    -- event_time: event_time
    -- known_time: known_time
    -- columns:
    --   seats: {type: integer, minimum: 1, maximum: 700}
    SELECT tailnum, known_time AS event_time, known_time, seats FROM raw.planes

Every timestamp in a view is a TIMESTAMP in UTC.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import sqlglot
from sqlglot import exp

from stk_ml import declarations
from stk_ml.contracts import Column, ColumnType
from stk_ml.errors import DeclarationError, closest
from stk_ml.features.dialects import refuse_unportable

ZONES = ("raw", "curated")


@dataclass(frozen=True)
class FeatureView:
    """One declared view.

    Attributes:
        name: stem of the file.
        file: where it stands.
        entity: columns that name what a row is about.
        event_time: column with the time the row is about.
        known_time: column with the time the row became known.
        description, owner: for people.
        columns: the declared columns; others get a type from the data.
        sql: the SELECT.
        depends: tables it reads, ``raw.x`` or ``curated.y``, sorted.
        digest: sha256 of header and SELECT.
        first_line: line of the file on which ``sql`` starts.
    """

    name: str
    file: str
    entity: tuple[str, ...]
    event_time: str
    known_time: str
    description: str
    owner: str
    columns: tuple[Column, ...]
    sql: str
    depends: tuple[str, ...]
    digest: str
    first_line: int = 1

    @property
    def keys(self) -> frozenset[str]:
        """Entity and times: the columns that are no features."""
        return frozenset((*self.entity, self.event_time, self.known_time))

    def error(self, message: str, line: int | None = None, *, hint: str = "") -> DeclarationError:
        """An error at a line of ``sql`` (1-based), or at the file."""
        return DeclarationError(
            message, file=self.file, line=None if line is None else line + self.first_line - 1, hint=hint
        )


class _Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: ColumnType
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    description: str = ""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    description: str
    owner: str
    entity: tuple[str, ...]
    event_time: str
    known_time: str
    columns: dict[str, Any] = {}


def read_view(file: str | Path) -> FeatureView:
    """Reads and checks one view.

    Raises:
        DeclarationError: with file and line: no header, a mistake in it, not exactly one SELECT, a table that is
            neither ``raw.x`` nor ``curated.y``, or something that another engine would compute otherwise.
    """
    file = Path(file)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"cannot be read: {error}", file=file) from error
    if not re.fullmatch(r"[a-z][a-z0-9_]*", file.stem):
        raise DeclarationError(
            f"{file.stem!r} is no name of a view", file=file, hint="lower case letters, digits and _, a letter first"
        )
    header, offset, sql, first_line = _split(text)
    if not header.strip():
        raise DeclarationError(
            "the header is missing", file=file, line=1, hint="start with -- description: ..., owner, entity, known_time"
        )
    declared = declarations.parse(header, file=str(file), offset=offset)
    head = declarations.decode(declared, _Header)
    if not head.entity:
        raise declared.error("entity names no column", ("entity",), hint="entity: [tailnum]")
    tree = _parse(sql, file, first_line)
    refuse_unportable(tree, file=str(file), offset=first_line - 1)
    _check_output(tree, head, declared)
    columns = tuple(_contract(name, data, declared) for name, data in head.columns.items())
    return FeatureView(
        name=file.stem,
        file=str(file),
        entity=head.entity,
        event_time=head.event_time,
        known_time=head.known_time,
        description=head.description,
        owner=head.owner,
        columns=columns,
        sql=sql.strip().rstrip(";"),
        depends=_tables(tree, file, first_line),
        digest=hashlib.sha256(f"{header.rstrip()}\n{sql.strip()}".encode()).hexdigest(),
        first_line=first_line,
    )


def _split(text: str) -> tuple[str, int, str, int]:
    """Header as YAML, lines before it, the SELECT, and the line that it starts on."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    end = start
    while end < len(lines) and lines[end].startswith("--"):
        end += 1
    body = next((n for n in range(end, len(lines)) if lines[n].strip()), end)
    header = "\n".join(line[2:].removeprefix(" ") for line in lines[start:end])
    return header, start, "\n".join(lines[body:]), body + 1


def _parse(sql: str, file: Path, first_line: int) -> exp.Query:
    try:
        # DuckDB's own parser is the stricter one; sqlglot's tree is what is looked at.
        duckdb.connect().extract_statements(sql)
    except duckdb.ParserException as error:
        found = re.search(r"^LINE (\d+):", str(error), re.M)
        what = str(error).splitlines()[0].removeprefix("Parser Error: ")
        line = first_line - 1 + int(found[1]) if found else first_line
        raise DeclarationError(f"not valid SQL: {what}", file=file, line=line) from error
    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect="duckdb") if tree is not None]
    except sqlglot.errors.ParseError as error:
        first: dict[str, Any] = error.errors[0] if error.errors else {}
        line = first_line - 1 + int(first["line"]) if first.get("line") else first_line
        near = str(first.get("highlight") or "").strip()
        what = str(first.get("description") or error).splitlines()[0]
        raise DeclarationError(
            f"not valid SQL: {what}" + (f", at {near!r}" if near else ""), file=file, line=line
        ) from (error)
    except sqlglot.errors.TokenError as error:
        raise DeclarationError(f"not valid SQL: {str(error).splitlines()[0]}", file=file, line=first_line) from error
    if len(trees) != 1:
        raise DeclarationError(
            f"holds {len(trees)} statements", file=file, line=first_line, hint="a view is exactly one SELECT"
        )
    (tree,) = trees
    if not isinstance(tree, exp.Query):
        raise DeclarationError(
            f"is a {tree.key.upper()}, not a SELECT", file=file, line=first_line, hint="a view is exactly one SELECT"
        )
    return tree


def _tables(tree: exp.Query, file: Path, first_line: int) -> tuple[str, ...]:
    named = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    found = set()
    for table in tree.find_all(exp.Table):
        zone, name = table.db, table.name
        if isinstance(table.this, exp.Func):
            zone, name = "", table.this.sql("duckdb")
        if zone in ZONES and not table.catalog:
            found.add(f"{zone}.{name}")
        elif zone or name.lower() not in named:
            line = first_line - 1 + int(table.this.meta.get("line", 1))
            shown = f"{zone}.{name}" if zone else name
            raise DeclarationError(
                f"unknown table {shown!r}", file=file, line=line, hint="tables are raw.NAME (lake) or curated.VIEW"
            )
    return tuple(sorted(found))


def _check_output(tree: exp.Query, head: _Header, declared: declarations.Declared) -> None:
    """What the SELECT gives must hold what the header names; with ``*`` only running it can tell."""
    if tree.is_star:
        return
    given = list(tree.named_selects)
    lower = {name.lower() for name in given}
    needed: list[tuple[str, declarations.Key]] = [(name, ("entity",)) for name in head.entity]
    needed += [(head.event_time, ("event_time",)), (head.known_time, ("known_time",))]
    needed += [(name, ("columns", name)) for name in head.columns]
    for name, path in needed:
        if name.lower() not in lower:
            raise declared.error(f"the SELECT has no column {name!r}", path, hint=closest(name, given))
    twice = sorted({name for name in given if name and given.count(name) > 1})
    if twice:
        raise declared.error(f"the SELECT gives {twice[0]!r} twice", hint="name each column once")


def _contract(name: str, data: Any, declared: declarations.Declared) -> Column:
    at: declarations.Key = ("columns", name)
    column = declarations.decode(declared, _Column, data=data, at=at)
    if column.categories and column.type != "category":
        raise declared.error(f"{name!r} has categories but is a {column.type}", at, hint="type: category")
    if (column.minimum is not None or column.maximum is not None) and column.type not in ("integer", "number"):
        raise declared.error(f"{name!r} has a range but is a {column.type}", at, hint="type: integer or number")
    if column.minimum is not None and column.maximum is not None and column.minimum > column.maximum:
        raise declared.error(f"the minimum of {name!r} is above its maximum", at)
    return Column(
        name=name,
        type=column.type,
        nullable=column.nullable,
        minimum=column.minimum,
        maximum=column.maximum,
        categories=column.categories,
        description=column.description,
    )
