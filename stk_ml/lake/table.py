"""One Delta table of the lake: written by several processes at once, read at any of its versions."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError as NoDeltaTable

from stk_ml.contracts import TableVersion
from stk_ml.errors import (
    ColumnContractError,
    DataError,
    TableNotFoundError,
    UnknownNameError,
    UsageError,
    WriteConflictError,
    closest,
)
from stk_ml.lake import predicate
from stk_ml.lake.columns import Check, Incoming, fitted, stored
from stk_ml.lake.storage import Location

#: How often a write is tried when other writers keep committing first.
ATTEMPTS = 20
#: Versions stay readable for lineage: the log is not cleaned before ten years, and files are never vacuumed.
CONFIGURATION = {"delta.logRetentionDuration": "interval 3650 days"}
#: Where Spark and the Delta protocol keep what a writer notes in a commit.
_METADATA = "userMetadata"


@dataclass(frozen=True)
class LakeTable:
    """A table of the lake, there or not; :meth:`stk_ml.lake.lake.Lake.table` makes it.

    A write is visible as a whole or not at all: data files first, then one commit. A killed write leaves files that no
    version names. Every method raises StorageError when the disk or Azure refuses; reads raise TableNotFoundError when
    there is no such table, and UnknownNameError when it has no such version.

    Attributes:
        name: ``zone.table``.
        location: where it is.

    Example:
        >>> import tempfile
        >>> from stk_ml.lake.lake import Lake
        >>> folder = tempfile.TemporaryDirectory()
        >>> flights = Lake(folder.name).table("raw.flights")
        >>> flights.append(pa.table({"id": [1, 2], "delay": [0, 12]}))
        0
        >>> flights.merge(pa.table({"id": [2, 3], "delay": [15, 0]}), key=["id"])
        1
        >>> flights.read().sort_by("id").to_pydict()
        {'id': [1, 2, 3], 'delay': [0, 15, 0]}
        >>> flights.read(["delay"], version=0).num_rows
        2
    """

    name: str
    location: Location
    siblings: Callable[[], Sequence[str]] = field(default=tuple, repr=False, compare=False)

    @property
    def uri(self) -> str:
        """Folder or az:// URI."""
        return self.location.uri

    def exists(self) -> bool:
        """Whether it has a version."""
        with self.location.errors(f"look for {self.name}"):
            return bool(DeltaTable.is_deltatable(self.uri, self.location.delta_options))

    def append(self, data: pa.Table | pa.RecordBatchReader) -> int:
        """Adds rows; creates the table when there is none.

        Args:
            data: rows with the columns of the table, in any order. A reader is streamed.

        Returns:
            The new version.

        Raises:
            ColumnContractError: names each column that does not fit, with both types.
            WriteConflictError: other writers won every time; or once, and the data was a reader.
        """
        incoming = Incoming(data, self.name)

        def attempt(table: DeltaTable | None) -> int:
            if table is None:
                return self._create(incoming)
            schema = fitted(incoming.schema, _schema(table), self.name)
            write_deltalake(table, incoming.reader(schema, self._checks(table)), mode="append")
            return int(table.version())

        return self._commit("append to", incoming, attempt)

    def overwrite(
        self,
        data: pa.Table | pa.RecordBatchReader,
        *,
        partition_by: Sequence[str] = (),
        only: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Replaces the whole table with its columns, or just some partitions; creates it when there is none.

        Args:
            data: the rows. A reader is streamed.
            partition_by: columns to partition by; default as the table is.
            only: values by partition column: replaces the rows of those partitions, and leaves all other files alone.
                All of the data must be in them. None as a value stands for null.
            metadata: kept in the commit, see :meth:`metadata`.

        Returns:
            The new version.

        Raises:
            ColumnContractError: the data does not fit the table (with ``only``), or cannot be stored.
            DataError: rows are outside ``only``.
            UnknownNameError: ``only`` names what is no partition column.
            UsageError: ``partition_by`` is not how the table is partitioned (with ``only``).
            WriteConflictError: as for :meth:`append`.
        """
        incoming = Incoming(data, self.name)
        commit = _alone(metadata)

        def attempt(table: DeltaTable | None) -> int:
            if table is None:
                return self._create(incoming, tuple(partition_by) or tuple(only or ()), only, commit)
            if only:
                self._overwrite_partitions(table, incoming, tuple(partition_by), only, commit)
            else:
                columns = tuple(partition_by) or _partitioned(table)
                schema = self._new_schema(incoming, columns)
                reader = incoming.reader(schema, [partial(_no_empty_text, columns=columns, table=self.name)])
                write_deltalake(
                    table,
                    reader,
                    mode="overwrite",
                    schema_mode="overwrite",
                    partition_by=list(columns),
                    commit_properties=commit,
                )
            return int(table.version())

        return self._commit("overwrite", incoming, attempt)

    def merge(self, data: pa.Table | pa.RecordBatchReader, *, key: Sequence[str]) -> int:
        """Updates the rows whose key is in the table, adds the others; creates the table when there is none.

        Args:
            data: rows with all columns of the table; held in memory.
            key: columns that name a row.

        Returns:
            The new version.

        Raises:
            DataError: a key stands twice in the data, or is null.
            ColumnContractError, WriteConflictError: as for :meth:`append`.
        """
        incoming = Incoming(data, self.name)
        missing = [name for name in key if name not in incoming.schema.names]
        if missing or not key:
            raise UnknownNameError(f"key column of {self.name}", ", ".join(missing), incoming.schema.names)

        def attempt(table: DeltaTable | None) -> int:
            new = table is None
            schema = stored(incoming.schema, self.name) if new else fitted(incoming.schema, _schema(table), self.name)
            rows = incoming.materialise(schema, () if new else self._checks(table))
            _check_key(rows, key, self.name)
            if table is None:
                return self._create(incoming)
            merger = table.merge(
                rows,
                predicate.same_key(key),
                source_alias="source",
                target_alias="target",
                streamed_exec=False,  # so that the keys' range can leave files of the table unread
                commit_properties=_alone(),
            )
            merger.when_matched_update_all().when_not_matched_insert_all().execute()
            return int(table.version())

        return self._commit("merge into", incoming, attempt)

    def version(self) -> int:
        """The newest version."""
        return int(self._open().version())

    def metadata(self, version: int | None = None) -> Mapping[str, str]:
        """What ``overwrite(metadata=)`` kept in the commit of a version; empty when there is none.

        Read from the commit itself: ``DeltaTable.history`` of delta-rs 1.6 counts versions wrongly for a table that is
        not at its newest one.
        """
        commit = f"_delta_log/{self._open(version).version():020}.json"
        with self.location.errors(f"read {commit} of {self.name}"):
            try:
                with self.location.filesystem().open_input_stream(commit) as stream:
                    actions = [json.loads(line) for line in stream.read().splitlines()]
            except FileNotFoundError:
                return {}
        noted = next((action["commitInfo"].get(_METADATA) for action in actions if "commitInfo" in action), None)
        try:
            found = json.loads(noted or "{}")
        except ValueError:  # another tool's note
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def pinned(self, version: int | None = None) -> TableVersion:
        """A version with the digest of what it holds.

        The digest is the sha256 over the schema and the active files (relative path, size, partition). It is the same
        for a copy of the table elsewhere, and does not depend on the number of the version.
        """
        table = self._open(version)
        with self.location.errors(f"read the files of {self.name}"):
            files = pa.table(table.get_add_actions())
            rows = files["num_records"] if "num_records" in files.column_names else None
            return TableVersion(
                name=self.name,
                uri=self.uri,
                version=int(table.version()),
                digest=_digest(table, files),
                rows=-1 if rows is None or rows.null_count else pc.sum(rows, min_count=0).as_py(),
            )

    def schema(self, version: int | None = None) -> pa.Schema:
        """Its columns."""
        return _schema(self._open(version))

    def dataset(self, version: int | None = None) -> pyarrow.dataset.Dataset:
        """A version as a pyarrow dataset: DuckDB and pyarrow read only the columns and files that they need."""
        table = self._open(version)
        with self.location.errors(f"read {self.name}"):
            return table.to_pyarrow_dataset()

    def read(self, columns: Sequence[str] | None = None, version: int | None = None) -> pa.Table:
        """A version in memory; all columns, or those named.

        Raises:
            UnknownNameError: there is no such column.
        """
        dataset = self.dataset(version)
        for name in columns or ():
            if name not in dataset.schema.names:
                raise UnknownNameError(f"column of {self.name}", name, dataset.schema.names)
        with self.location.errors(f"read {self.name}"):
            return dataset.to_table(columns=None if columns is None else list(columns))

    def _open(self, version: int | None = None) -> DeltaTable:
        with self.location.errors(f"open {self.name}"):
            try:
                table = DeltaTable(self.uri, storage_options=self.location.delta_options)
            except NoDeltaTable as error:
                hint = closest(self.name, self.siblings())
                raise TableNotFoundError(
                    f"there is no table {self.name} in the lake ({self.uri})", hint=hint
                ) from error
            newest = int(table.version())
            if version is None or version == newest:
                return table
            if not 0 <= version < newest:
                hint = f"{self.name} has the versions 0 to {newest}"
                raise UnknownNameError(f"version of {self.name}", str(version), hint=hint)
            table.load_as_version(version)
            return table

    def _commit(self, action: str, incoming: Incoming, attempt: Callable[[DeltaTable | None], int]) -> int:
        """Tries a write until no other writer has won; each time on the newest version."""
        for count in range(1, ATTEMPTS + 1):
            try:
                with self.location.errors(f"{action} {self.name}"):
                    return attempt(self._open() if self.exists() else None)
            except WriteConflictError:
                if not incoming.replayable or count == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, min(0.02 * 2**count, 1.0)))  # noqa: S311
            except Exception:
                if incoming.error is not None:
                    raise incoming.error from None
                raise
        raise AssertionError("unreachable")

    def _create(
        self,
        incoming: Incoming,
        partition_by: Sequence[str] = (),
        only: Mapping[str, Any] | None = None,
        commit: CommitProperties | None = None,
    ) -> int:
        schema = self._new_schema(incoming, partition_by)
        checks = self._partition_checks(schema, partition_by, only)
        write_deltalake(
            self.uri,
            incoming.reader(schema, checks),
            mode="error",
            partition_by=list(partition_by) or None,
            configuration=CONFIGURATION,
            storage_options=self.location.delta_options,
            commit_properties=commit or _alone(),
        )
        return 0

    def _overwrite_partitions(
        self,
        table: DeltaTable,
        incoming: Incoming,
        partition_by: tuple[str, ...],
        only: Mapping[str, Any],
        commit: CommitProperties,
    ) -> None:
        columns = _partitioned(table)
        if partition_by and partition_by != columns:
            raise UsageError(
                f"{self.name} is partitioned by {', '.join(columns) or 'nothing'}, not by {', '.join(partition_by)}",
                hint="overwrite the whole table to change that",
            )
        schema = fitted(incoming.schema, _schema(table), self.name)
        condition = predicate.sql(predicate.partitions(only, schema, columns, self.name))
        reader = incoming.reader(schema, self._partition_checks(schema, columns, only))
        write_deltalake(table, reader, mode="overwrite", predicate=condition, commit_properties=commit)

    def _checks(self, table: DeltaTable) -> list[Check]:
        return self._partition_checks(_schema(table), _partitioned(table), None)

    def _partition_checks(
        self, schema: pa.Schema, columns: Sequence[str], only: Mapping[str, Any] | None
    ) -> list[Check]:
        checks: list[Check] = [partial(_no_empty_text, columns=columns, table=self.name)]
        if only:
            inside = predicate.partitions(only, schema, columns, self.name)
            checks.append(partial(predicate.check_inside, only=inside, table=self.name))
        return checks

    def _new_schema(self, incoming: Incoming, partition_by: Sequence[str]) -> pa.Schema:
        schema = stored(incoming.schema, self.name)
        missing = [name for name in partition_by if name not in schema.names]
        if missing:
            raise ColumnContractError(
                f"{self.name}: no column {', '.join(missing)} to partition by",
                hint=f"the data has: {', '.join(schema.names)}",
            )
        if len(set(partition_by)) == len(schema):
            raise ColumnContractError(f"{self.name}: every column is a partition column; one must not be")
        return schema


def _schema(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema())


def _partitioned(table: DeltaTable) -> tuple[str, ...]:
    return tuple(table.metadata().partition_columns)


def _alone(metadata: Mapping[str, str] | None = None) -> CommitProperties:
    """Properties of a commit that fails when any other came first.

    Left to itself, delta-rs rebases: two writers that create or overwrite one table at once would both succeed, and the
    table would hold the rows of both.
    """
    noted = {_METADATA: json.dumps(dict(metadata), sort_keys=True)} if metadata else None
    return CommitProperties(custom_metadata=noted, max_commit_retries=0)


def _digest(table: DeltaTable, files: pa.Table) -> str:
    described = {
        "schema": json.loads(table.schema().to_json()),
        "partition_by": _partitioned(table),
        "files": sorted(
            ([file["path"], file["size_bytes"], file.get("partition")] for file in files.to_pylist()),
            key=lambda file: str(file[0]),
        ),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _check_key(rows: pa.Table, key: Sequence[str], table: str) -> None:
    nulls = {name: rows[name].null_count for name in key if rows[name].null_count}
    if nulls:
        counts = ", ".join(f"{name} in {count}" for name, count in nulls.items())
        raise DataError(f"{table}: the key is null in the data to merge: {counts} of {rows.num_rows} rows")
    groups = rows.group_by(list(key)).aggregate([([], "count_all")])
    twice = groups.filter(pc.greater(groups["count_all"], 1))
    if twice.num_rows:
        example = {name: twice[name][0].as_py() for name in key}
        raise DataError(
            f"{table}: {twice.num_rows} keys stand more than once in the data to merge, in "
            f"{pc.sum(twice['count_all']).as_py()} of {rows.num_rows} rows, such as {example}",
            hint="keep one row per key, say the newest",
        )


def _no_empty_text(batch: pa.RecordBatch, columns: Sequence[str], table: str) -> None:
    """Delta stores an empty text in a partition column as null; refused, rather than changed in silence."""
    for name in columns:
        values = batch.column(name)
        if pa.types.is_string(values.type):
            empty = pc.sum(pc.equal(values, "")).as_py() or 0
            if empty:
                raise DataError(
                    f"{table}: {empty} of {len(values)} rows have empty text in the partition column {name!r}",
                    hint="use null, or a name such as 'none'",
                )
