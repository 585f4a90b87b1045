"""What an engine of features does, on whichever machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from stk_ml.contracts import AuditFinding, Dataset, Snapshot
from stk_ml.model_spec import ModelSpec


class FeatureEngine(Protocol):
    """Builds curated views from pinned raw tables, and training sets from pinned curated views."""

    def snapshot(self, spec: ModelSpec | None = None) -> Snapshot:
        """Pins the raw tables that the model's views read (all views without a model), or its flat table.

        Raises:
            TableNotFoundError: one of them does not exist.
        """
        ...

    def build(self, names: Sequence[str] | None, snapshot: Snapshot) -> Snapshot:
        """Runs views (None for all) and those they read over pinned raw tables; returns the curated tables, pinned.

        A view whose curated table was made from the same SQL and the same inputs is not written again.

        Raises:
            DeclarationError: a view's SQL fails; with its line.
        """
        ...

    def pull(
        self,
        spec: ModelSpec,
        snapshot: Snapshot,
        out: Path,
        *,
        now: datetime | None = None,
        audit: bool = True,
        raw: Snapshot | None = None,
        strict_now: bool = False,
    ) -> Dataset:
        """Writes the training set of a model to the folder ``out``: ``data.parquet`` and ``dataset.json``.

        Args:
            spec: the model.
            snapshot: the pinned curated tables (or the flat table).
            out: the folder; it appears as a whole, and replaces one that is there.
            now: rows whose label became known later are left out and counted; None for no limit.
            audit: whether to run the leakage audit.
            raw: the pinned raw tables, for the audit's replay; default those that the curated tables were made from.
            strict_now: a label that is there although it became known after ``now`` is an error.

        Raises:
            UnknownNameError, TableNotFoundError: a column or table that is not there.
            DataError, ColumnContractError, LabelError, LeakageError: see each.
        """
        ...

    def requests(self, spec: ModelSpec, snapshot: Snapshot, out: Path, *, since: datetime, until: datetime) -> int:
        """Writes the rows of a model as an app would ask about them, labelled or not, to a Parquet file.

        Args:
            spec: the model; it has an as_of.
            snapshot: the pinned curated tables.
            out: the file: entity, as_of, label_time, label (null where there is none), features; sorted by as_of.
            since: the first as_of.
            until: as_of is before it.

        Returns:
            The number of rows.
        """
        ...

    def check(self, names: Sequence[str]) -> list[AuditFinding]:
        """The column contracts of curated views as they stand in the lake, without raising."""
        ...

    def audit(
        self, spec: ModelSpec, snapshot: Snapshot, raw: Snapshot | None = None, *, now: datetime | None = None
    ) -> list[AuditFinding]:
        """All that the leakage audit of :meth:`pull` finds, without raising."""
        ...
