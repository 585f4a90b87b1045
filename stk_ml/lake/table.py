"""One Delta table of the lake: written by several processes at once, read at any of its versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError as NoDeltaTable

from stk_ml.contracts import TableVersion
from stk_ml.errors import StkMlError, TableNotFoundError, UnknownNameError, UsageError, closest
from stk_ml.lake import checks, commits, predicate
from stk_ml.lake.columns import Check, Incoming, fitted, stored
from stk_ml.lake.storage import Location

if TYPE_CHECKING:
    import pyarrow.dataset  # imports pandas where that is installed, which takes more than a second

#: Versions stay readable for lineage: the log is not cleaned before ten years, and files are never vacuumed.
CONFIGURATION = {"delta.logRetentionDuration": "interval 3650 days"}


class _Target(NamedTuple):
    """What data becomes on its way into a table: columns, partition columns, the partitions replaced, its checks."""

    schema: pa.Schema
    by: tuple[str, ...]
    only: Mapping[str, pa.Scalar]
    checks: list[Check]


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
            target = self._target(incoming, table)
            reader = incoming.reader(target.schema, target.checks)
            if table is None:
                return self._create(reader, target.by)
            write_deltalake(table, reader, mode="append")
            return int(table.version())

        return self._write("append to", incoming, attempt)

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
        if only is not None and not only:
            raise UsageError(f"{self.name}: only names no partition", hint="leave it out to overwrite the whole table")
        incoming, by, commit = Incoming(data, self.name), tuple(partition_by), commits.alone(metadata)

        def attempt(table: DeltaTable | None) -> int:
            target = self._target(incoming, table, by, only, whole=only is None)
            reader = incoming.reader(target.schema, target.checks)
            if table is None:
                return self._create(reader, target.by, commit)
            how: dict[str, Any] = (
                {"schema_mode": "overwrite", "partition_by": list(target.by)}
                if only is None
                else {"predicate": predicate.sql(target.only)}
            )
            write_deltalake(table, reader, mode="overwrite", commit_properties=commit, **how)
            return int(table.version())

        return self._write("overwrite", incoming, attempt)

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
        for name in key or [""]:
            if name not in incoming.schema.names:
                raise UnknownNameError(f"key column of {self.name}", name, incoming.schema.names)

        def attempt(table: DeltaTable | None) -> int:
            target = self._target(incoming, table)
            rows = incoming.materialise(target.schema, target.checks)
            checks.unique_key(rows, key, self.name)
            if table is None:
                return self._create(rows, target.by)
            merger = table.merge(
                rows,
                predicate.same_key(key),
                source_alias="source",
                target_alias="target",
                streamed_exec=False,  # so that the keys' range can leave files of the table unread
                commit_properties=commits.alone(),
            )
            merger.when_matched_update_all().when_not_matched_insert_all().execute()
            return int(table.version())

        return self._write("merge into", incoming, attempt)

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
                    return commits.noted(stream.read())
            except FileNotFoundError:
                return {}

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
                digest=commits.digest(table, files),
                rows=-1 if rows is None or rows.null_count else pc.sum(rows, min_count=0).as_py(),
            )

    def schema(self, version: int | None = None) -> pa.Schema:
        """Its columns."""
        return pa.schema(self._open(version).schema())

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

    def _newest(self) -> DeltaTable | None:
        with self.location.errors(f"open {self.name}"):
            try:
                return DeltaTable(self.uri, storage_options=self.location.delta_options)
            except NoDeltaTable:
                return None

    def _open(self, version: int | None = None) -> DeltaTable:
        table = self._newest()
        if table is None:
            raise TableNotFoundError(
                f"there is no table {self.name} in the lake ({self.uri})",
                hint=f"{closest(self.name, self.siblings())}; a table comes to be when it is first written",
            )
        newest = int(table.version())
        if version is not None and version != newest:
            if not 0 <= version < newest:
                hint = f"{self.name} has the versions 0 to {newest}"
                raise UnknownNameError("version", str(version), hint=hint)
            with self.location.errors(f"open version {version} of {self.name}"):
                table.load_as_version(version)
        return table

    def _write(self, action: str, incoming: Incoming, attempt: Callable[[DeltaTable | None], int]) -> int:
        """Runs a write on the newest version of the table, again when another writer won."""

        def once() -> int:
            with self.location.errors(f"{action} {self.name}"):
                return attempt(self._newest())

        try:
            return commits.retried(once, again=lambda: incoming.replayable)
        except StkMlError:
            if incoming.error is not None:  # delta-rs read the data, and hid what went wrong in it
                raise incoming.error from None
            raise

    def _target(
        self,
        incoming: Incoming,
        table: DeltaTable | None,
        by: tuple[str, ...] = (),
        only: Mapping[str, Any] | None = None,
        *,
        whole: bool = False,
    ) -> _Target:
        """What the data becomes: like the table, or like itself when there is none or the whole is replaced."""
        now = tuple(table.metadata().partition_columns) if table else ()
        if table is None or whole:
            schema, by = stored(incoming.schema, self.name), by or now or tuple(only or ())
            checks.can_partition(schema, by, self.name)
        elif by and by != now:
            raise UsageError(
                f"{self.name} is partitioned by {', '.join(now) or 'nothing'}, not by {', '.join(by)}",
                hint="overwrite the whole table to change that",
            )
        else:
            schema, by = fitted(incoming.schema, pa.schema(table.schema()), self.name), now
        scalars = predicate.partitions(only or {}, schema, by, self.name)
        tests: list[Check] = [
            partial(checks.no_empty_text, columns=by, table=self.name),
            partial(checks.inside, only=scalars, table=self.name),
        ]
        return _Target(schema, by, scalars, tests)

    def _create(
        self, rows: pa.Table | pa.RecordBatchReader, by: tuple[str, ...], commit: CommitProperties | None = None
    ) -> int:
        write_deltalake(
            self.uri,
            rows,
            mode="error",
            partition_by=list(by) or None,
            configuration=CONFIGURATION,
            storage_options=self.location.delta_options,
            commit_properties=commit or commits.alone(),
        )
        return 0
