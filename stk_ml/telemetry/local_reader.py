"""Asks a laptop's log the questions that Log Analytics is asked: the same KQL, on DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.errors import TelemetryError
from stk_ml.telemetry import kusto
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.rows import COLUMNS, TABLES, Table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: A query sees the tables that it is given, and nothing else of the machine.
_SETTINGS = "SET TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"
#: Rows that DuckDB takes at a time: few where one becomes hundreds, else its own vectors.
_PACKED, _CHUNK = 128, 2048


class LocalLogReader:
    """A :class:`stk_ml.telemetry.queries.LogReader` over what :mod:`stk_ml.telemetry.local` writes.

    Of the log only the stretch of time, the columns and, in AppEvents and AppMetrics, the names that the text of a
    query mentions are read.

    Args:
        folder: of the log; an absent one is empty.

    Example:
        >>> import tempfile
        >>> from datetime import UTC
        >>> about = {"since": datetime(2026, 3, 1, tzinfo=UTC), "until": datetime(2026, 3, 2, tzinfo=UTC)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reader = LocalLogReader(folder)
        ...     reader.query("dropped", **about, model="", endpoint="", deployment="").num_rows
        0
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._log = ParquetPredictionLog(folder)

    def query(self, name: str, **parameters: kusto.Parameter) -> pa.Table:
        """The result of a query, see :class:`stk_ml.telemetry.queries.LogReader`.

        Raises:
            TelemetryError: a file cannot be read.
            UsageError: there is no such query, or its parameters are others.
        """
        import duckdb

        kusto.statement(name, **parameters)  # refuses other parameters before anything is read
        tables = {table: self._read(table, name, parameters) for table in _tables(name)}
        columns = tuple((str(table), tuple(found.column_names)) for table, found in tables.items())
        sql = _sql(name, columns, parameters)
        with self._database.cursor() as connection:
            for table, found in tables.items():
                connection.register(table, found)
            try:
                return _as_told(connection.sql(sql).to_arrow_table())
            except duckdb.Error as error:
                raise TelemetryError(f"{self.folder} could not be asked for {name}: {error}") from error

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        """An empty database in memory: to open one takes longer than most queries. Each query has its own cursor."""
        import duckdb

        database = duckdb.connect()
        database.execute(_SETTINGS)
        return database

    def _read(self, table: Table, name: str, parameters: dict[str, kusto.Parameter]) -> pa.Table:
        import pyarrow as pa

        since, until = parameters["since"], parameters["until"]
        assert isinstance(since, datetime)  # noqa: S101
        assert isinstance(until, datetime)  # noqa: S101
        text = kusto.text(name)
        columns = [column for column in COLUMNS[table] if re.search(rf"\b{column}\b", text)]
        found = self._log.read(
            table,
            since=since.timestamp(),
            until=until.timestamp(),
            names=() if table == "AppRequests" else re.findall(r'"(stk\.\w+)"', text),
            columns=columns,
        )
        chunk = _PACKED if "mv-expand" in text else _CHUNK
        # KQL's times have no zone: they are UTC.
        naive = [
            pa.field(f.name, pa.timestamp("us") if pa.types.is_timestamp(f.type) else f.type) for f in found.schema
        ]
        return pa.Table.from_batches(found.cast(pa.schema(naive)).to_batches(max_chunksize=chunk), pa.schema(naive))


def _sql(name: str, columns: tuple[tuple[str, tuple[str, ...]], ...], parameters: Mapping[str, kusto.Parameter]) -> str:
    """A query as DuckDB's SQL. It is translated once for all times, which takes longer than to run it."""
    times = {key: value for key, value in parameters.items() if isinstance(value, datetime)}
    others = tuple((key, value) for key, value in parameters.items() if key not in times)
    sql = _translated(name, columns, others, tuple(times))
    for place, value in enumerate(times.values()):
        sql = sql.replace(_written(_standing_for(place)), _written(value))
    return sql


@lru_cache(maxsize=256)
def _translated(
    name: str,
    columns: tuple[tuple[str, tuple[str, ...]], ...],
    others: tuple[tuple[str, kusto.Parameter], ...],
    times: tuple[str, ...],
) -> str:
    import duckdb_kql

    stand_ins = {key: _standing_for(place) for place, key in enumerate(times)}
    statement = kusto.statement(name, **dict(others), **stand_ins)
    schema = {table: list(found) for table, found in columns}
    return str(duckdb_kql.to_sql(statement, schema=schema, allow_write=False))


def _standing_for(place: int) -> datetime:
    """A time that nobody asks for."""
    return datetime(1901, 2, 3, 4, 5, 6, 7 + place, UTC)


def _written(moment: datetime) -> str:
    """A time as it stands in KQL and in the SQL made of it."""
    return kusto.literal(moment).removeprefix("datetime(").removesuffix(")")


def _tables(name: str) -> list[Table]:
    text = kusto.text(name)
    return [table for table in TABLES if re.search(rf"\b{table}\b", text)]


def _as_told(found: pa.Table) -> pa.Table:
    """Whole numbers in 64 bits and times in UTC, as Log Analytics gives them."""
    import pyarrow as pa

    def told(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(kind):
            return pa.timestamp("us", "UTC")
        return pa.int64() if pa.types.is_integer(kind) or pa.types.is_decimal(kind) else kind

    return found.cast(pa.schema([pa.field(field.name, told(field.type)) for field in found.schema]))
