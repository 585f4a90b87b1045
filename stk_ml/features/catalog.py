"""The feature views of a folder, in the order they depend on each other, and when raw data became known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import msgspec
import sqlglot
from sqlglot import exp

from stk_ml import declarations
from stk_ml.errors import UnknownNameError, closest
from stk_ml.features.view import FeatureView, read_view


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the data of one raw table became known, as SQL over that table.

    Attributes:
        known: when a row became known; empty: its column ``known_time``.
        columns: for columns that became known later than their row, when.
    """

    known: str = ""
    columns: dict[str, str] = {}


class Catalog:
    """The views of a folder; files are read when first asked for.

    Args:
        folder: holds NAME.sql for each view, and sources.yml.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._views: dict[str, FeatureView] = {}

    def names(self) -> list[str]:
        """The names of all views, sorted."""
        return sorted(file.stem for file in self.folder.glob("*.sql") if not file.name.startswith("."))

    def view(self, name: str) -> FeatureView:
        """One view.

        Raises:
            UnknownNameError: there is no such view.
            DeclarationError: its file holds a mistake.
        """
        if name not in self._views:
            file = self.folder / f"{name}.sql"
            if name not in self.names():
                raise UnknownNameError("feature view", name, self.names())
            view = read_view(file)
            for table in view.depends:
                zone, _, inner = table.partition(".")
                if zone == "curated" and inner not in self.names():
                    raise view.error(f"reads unknown view {table!r}", hint=closest(inner, self.names()))
            self._views[name] = view
        return self._views[name]

    def order(self, names: Iterable[str]) -> list[str]:
        """These views and all that they read, dependencies first.

        Raises:
            UnknownNameError: one of them does not exist.
            DeclarationError: views read each other in a circle.
        """
        graph: dict[str, list[str]] = {}
        ahead = sorted(set(names))
        while ahead:
            name = ahead.pop()
            if name not in graph:
                graph[name] = [t.removeprefix("curated.") for t in self.view(name).depends if t.startswith("curated.")]
                ahead += graph[name]
        try:
            return list(TopologicalSorter({name: graph[name] for name in sorted(graph)}).static_order())
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise self.view(error.args[1][0]).error(f"views read each other in a circle: {circle}") from error

    def raw_tables(self, names: Iterable[str]) -> list[str]:
        """The raw tables that these views read, also through other views; sorted."""
        views = [self.view(name) for name in self.order(names)]
        return sorted({table for view in views for table in view.depends if table.startswith("raw.")})

    def source(self, table: str) -> Source:
        """What sources.yml declares for a raw table; the default when it says nothing."""
        return self.sources.get(table, Source())

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """What sources.yml declares, by raw table; empty when there is no such file.

        Raises:
            DeclarationError: it holds a mistake.
        """
        file = self.folder / "sources.yml"
        if not file.is_file():
            return {}
        declared = declarations.read(file)
        sources: dict[str, Source] = {}
        for table, data in declarations.decode(declared, dict[str, Any]).items():
            if not table.startswith("raw."):
                raise declared.error(f"{table!r} is not a raw table", (table,), hint="write raw.NAME")
            source = sources[table] = declarations.decode(declared, Source, data=data, at=(table,))
            if source.known:
                _expression(source.known, declared, (table, "known"))
            for column, clock in source.columns.items():
                _expression(clock, declared, (table, "columns", column))
        return sources


def _expression(sql: str, declared: declarations.Declared, at: declarations.Key) -> None:
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise declared.error(f"not valid SQL: {sql!r}", at, hint="an expression over the table's columns") from error
    if tree.find(exp.Query) or isinstance(tree, exp.Command):
        raise declared.error(f"not an expression: {sql!r}", at, hint="an expression over the table's columns")
