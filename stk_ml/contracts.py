"""What the stages hand to each other: frozen dataclasses, written to and read from JSON files.

A stage may not import another; it reads the files that the stage before it wrote. Those files are these classes.
:func:`write` and :func:`read` are the only way in and out, so a file that is cut short or of another kind is an
error that names the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from stk_ml.errors import StorageError, UsageError

T = TypeVar("T")

#: Logical types of a column. ``category`` is text with a known list, ``boolean`` counts as 0 and 1 in a model.
ColumnType = Literal["integer", "number", "boolean", "category", "text", "timestamp", "date"]
#: What a column is for. Only ``feature`` reaches the model; ``slice`` is only for reporting.
ColumnRole = Literal["feature", "entity", "as_of", "label", "label_time", "slice"]
Problem = Literal["binary", "regression"]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class TableVersion:
    """One table of the lake (or a file), pinned.

    Attributes:
        name: ``zone.table``, or the path of a file.
        uri: folder, file or az:// URI.
        version: Delta version; -1 for a file.
        digest: sha256 over what the table holds at that version.
        rows: number of rows; -1 when unknown.
    """

    name: str
    uri: str
    version: int
    digest: str
    rows: int = -1


@dataclass(frozen=True)
class Snapshot:
    """Pinned tables: what a training has read. ``stk-ml features snapshot`` and ``build`` write it.

    Attributes:
        tables: by name, sorted.
        views: sha256 of the SQL text of each curated view, by view name; empty for raw tables.
    """

    tables: tuple[TableVersion, ...]
    views: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One column of a dataset: its type, its role and what its values must be.

    Attributes:
        name: of the column.
        type: logical type.
        role: what it is for.
        view: the feature view it came from; empty for the spine.
        nullable: whether nulls are allowed.
        minimum, maximum: inclusive range of a number; None for no bound.
        categories: the allowed values of a category; empty for any (learned from the training rows).
        description: for people.
    """

    name: str
    type: ColumnType
    role: ColumnRole = "feature"
    view: str = ""
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class AuditFinding:
    """One thing that the leakage audit looked at. ``rows`` of ``checked`` broke the rule."""

    rule: str
    column: str
    rows: int
    checked: int
    detail: str = ""


@dataclass(frozen=True)
class Dataset:
    """A training set on disk: ``dataset.json`` beside ``data.parquet``, rows sorted by as_of and entity.

    Attributes:
        columns: in the order of the file.
        rows: number of rows.
        digest: sha256 of data.parquet.
        snapshot: the pinned tables it was made from.
        audit: what the leakage audit found (all passed, else there is no dataset).
        now: the time up to which labels counted, ISO 8601 with Z; empty when the data has no time.
        unlabelled: rows left out because their label was not known yet at ``now``.
    """

    columns: tuple[Column, ...]
    rows: int
    digest: str
    snapshot: Snapshot
    audit: tuple[AuditFinding, ...] = ()
    now: str = ""
    unlabelled: int = 0

    def role(self, role: ColumnRole) -> list[str]:
        """Names of the columns of one role, in order."""
        return [column.name for column in self.columns if column.role == role]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval. ``level`` is the coverage, e.g. 0.95."""

    value: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Metrics:
    """Metrics of one group of rows.

    Attributes:
        split: train, validation or test.
        group: "all", "month=2013-07" or "carrier=UA".
        rows: number of rows.
        positives: share of positives (binary), mean of the target (regression).
        values: by metric name: auc, log_loss, brier, average_precision, calibration_error; mae, rmse, r2.
            A metric that is not defined on the group (one class only) is absent.
    """

    split: SplitName
    group: str
    rows: int
    positives: float
    values: Mapping[str, Interval]


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of the calibration table: mean predicted against observed, with the interval of the observed."""

    low: float
    high: float
    rows: int
    predicted: float
    observed: Interval


@dataclass(frozen=True)
class Importance:
    """How much a feature matters: share of the split gain, and mean absolute SHAP value (log-odds or target units)."""

    feature: str
    gain: float
    shap: float


@dataclass(frozen=True)
class Evaluation:
    """``evaluation.json``: what ``stk-ml step evaluate`` found. Rows of one split: "all" first, months, then slices."""

    model: str
    problem: Problem
    primary: str
    metrics: tuple[Metrics, ...]
    calibration: tuple[CalibrationBin, ...] = ()
    importances: tuple[Importance, ...] = ()

    def find(self, split: SplitName, group: str = "all") -> Metrics | None:
        """The metrics of one split and group, or None."""
        return next((m for m in self.metrics if m.split == split and m.group == group), None)


@dataclass(frozen=True)
class GateCheck:
    """One check of the gate. ``passed`` is None when the data cannot tell."""

    name: Literal["superiority", "non_inferiority", "floor", "worst_slice", "calibration"]
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class GateVerdict:
    """What the gate decided.

    Attributes:
        outcome: why: ``first`` (no champion; floor met), ``better``, ``not_worse``, ``worse``, ``cannot_tell``,
            ``refused`` (floor, worst slice or calibration guard), ``same`` (the champion itself).
        promote: true only for first, better and not_worse.
        reason: one sentence for people.
        difference: challenger minus champion in the primary metric, positive is better; None without a champion.
        checks: each check with its detail.
        rows: number of newest matured rows that both were compared on.
    """

    outcome: Literal["first", "better", "not_worse", "worse", "cannot_tell", "refused", "same"]
    promote: bool
    reason: str
    difference: Interval | None = None
    checks: tuple[GateCheck, ...] = ()
    rows: int = 0


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model in the registry.

    Attributes:
        name, version: as registered.
        digest: sha256 of the artifact's content (same inputs, same digest).
        run_id: MLflow run that logged it.
        aliases: champion, challenger or none.
        created: ISO 8601 with Z.
        tags: data digest, view versions, code version, lock digest, gate verdict, metrics.
    """

    name: str
    version: int
    digest: str
    run_id: str = ""
    aliases: tuple[str, ...] = ()
    created: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Champion:
    """``champion.json``: the champion when a pipeline started; version 0 and no digest when there is none."""

    name: str
    version: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Registration:
    """``registration.json``: what ``stk-ml step register`` did."""

    version: ModelVersion
    verdict: GateVerdict
    champion: Champion
    tracking_uri: str
    card: str


def write(value: Any, file: str | Path) -> None:
    """Writes a contract as JSON: aside first, then renamed, so that a reader never sees half a file.

    Raises:
        StorageError: the disk refused.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Champion("m", 3, "ab"), f"{folder}/c.json")
        ...     read(Champion, f"{folder}/c.json")
        Champion(name='m', version=3, digest='ab')
    """
    file = Path(file)
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(encode(value))
        aside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise StorageError(
            f"{file} cannot be written: {error.strerror or error}", hint="is there space, and may you write there?"
        ) from error


def refuse_foreign(folder: Path, mark: str) -> None:
    """Refuses to replace a folder that holds other things than what stk-ml wrote there before.

    Args:
        folder: what is to be replaced; absent and empty are fine.
        mark: a file that only we write, such as dataset.json.

    Raises:
        UsageError: the folder holds something, and not that file.
    """
    if folder.is_dir() and not (folder / mark).is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files, which would be lost", hint="name a new or empty folder")


def encode(value: Any) -> bytes:
    """The JSON of a contract, keys in the order of the class, indented, always the same bytes for equal values."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def read(kind: type[T], file: str | Path) -> T:
    """Reads a contract that :func:`write` wrote.

    Raises:
        StorageError: the file is missing, or does not hold that contract.
    """
    try:
        return msgspec.json.decode(Path(file).read_bytes(), type=kind)
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise StorageError(
            f"{file} is not a {kind.__name__}: {error}", hint="it was written by another version, or cut short"
        ) from error
