"""One DuckDB connection in which pinned tables of the lake stand as ``raw.x`` and ``curated.y``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset

from stk_ml.errors import DataError, StkMlError, StorageError
from stk_ml.features.pit import quoted

BATCH = 122_880


class World:
    """A DuckDB database in memory that spills to disk; timestamps in it are UTC without a zone.

    Args:
        threads: at most so many; 0 for all cores.
        memory_limit: as DuckDB writes it (``4GB``); empty for its default.
        scratch: folder for what does not fit into memory.
    """

    def __init__(self, *, threads: int = 0, memory_limit: str = "", scratch: Path | None = None) -> None:
        config: dict[str, Any] = {"threads": threads or os.cpu_count() or 1}
        if memory_limit:
            config["memory_limit"] = memory_limit
        if scratch:
            config["temp_directory"] = str(scratch)
        self.connection = duckdb.connect(config=config)
        # An Arrow source tells no row count; DuckDB would take it for small and run ASOF joins as nested loops.
        self.connection.execute(
            "SET asof_loop_join_threshold = 0; SET TimeZone = 'UTC'; "
            "CREATE SCHEMA raw; CREATE SCHEMA curated; CREATE SCHEMA features; CREATE SCHEMA source"
        )

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def expose(self, name: str, dataset: pyarrow.dataset.Dataset | pa.RecordBatchReader, sql: str = "{source}") -> None:
        """Makes a table readable under ``zone.table``.

        Args:
            name: ``zone.table``.
            dataset: its rows.
            sql: a relation over ``{source}``, the rows with naive timestamps; default these rows.
        """
        held = f"__{name}"
        self.connection.register(held, dataset)
        naive = [
            f"CAST({quoted(field.name)} AS TIMESTAMP) AS {quoted(field.name)}"
            for field in dataset.schema
            if pa.types.is_timestamp(field.type) and (field.type.tz or field.type.unit != "us")
        ]
        source = f"(SELECT * REPLACE ({', '.join(naive)}) FROM {quoted(held)})" if naive else quoted(held)
        self.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {sql.format(source=source)}")

    def expose_file(self, name: str, file: Path, function: str) -> None:
        """Makes a file readable under ``name``; ``function`` is DuckDB's, such as ``read_parquet``."""
        escaped = str(file).replace("'", "''")
        source = f"{function}('{escaped}')"
        zoned = [column for column, kind in self.columns(source).items() if kind.startswith("TIMESTAMP")]
        naive = ", ".join(f"CAST({quoted(column)} AS TIMESTAMP) AS {quoted(column)}" for column in zoned)
        replace = f" REPLACE ({naive})" if naive else ""
        self.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT *{replace} FROM {source}")

    def execute(self, sql: str) -> None:
        """Runs a statement."""
        try:
            self.connection.execute(sql)
        except duckdb.Error as error:
            raise translated(error) from error

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a (small) result."""
        try:
            return list(self.connection.execute(sql).fetchall())
        except duckdb.Error as error:
            raise translated(error) from error

    def row(self, sql: str) -> tuple[Any, ...]:
        """The first row of a result that has one."""
        return self.rows(sql)[0]

    def columns(self, relation: str) -> dict[str, str]:
        """Column names of a relation and their DuckDB types, in order."""
        return {str(row[0]): str(row[1]) for row in self.rows(f"DESCRIBE SELECT * FROM {relation}")}

    def reader(self, sql: str, batch: int = BATCH) -> pa.RecordBatchReader:
        """A result as a stream of record batches."""
        try:
            return self.connection.sql(sql).to_arrow_reader(batch)
        except duckdb.Error as error:
            raise translated(error) from error


def translated(error: duckdb.Error) -> StkMlError:
    """DuckDB's error as one of ours: the machine's (disk, memory) or the data's."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException)):
        return StorageError(f"DuckDB: {text}", hint="free disk or memory, or give a lower memory_limit")
    return DataError(f"DuckDB: {text}")


def listed(names: Sequence[str]) -> str:
    """Names as quoted identifiers, separated by commas."""
    return ", ".join(map(quoted, names))
