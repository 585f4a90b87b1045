"""Two tables compared: read, told as a document, and shown as a report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring import report as reports
from stk_ml.monitoring.compare import Comparison, compare
from stk_ml.monitoring.judge import reason
from stk_ml.monitoring.store import write_page

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.workspace import Workspace

__all__ = ["compare", "document", "read", "report", "verdict"]


def read(workspace: Workspace, name: str) -> pa.Table | Path:
    """A CSV file or a lake table (``zone.table``); of a Parquet file the path, which is read a piece at a time.

    Raises:
        StorageError: the file cannot be read.
        TableNotFoundError, UnknownNameError: there is neither.
    """
    from stk_ml.features.infer import read_table

    if (path := Path(name)).suffix.lower() in (".parquet", ".pq") and path.is_file():
        return path
    return read_table(workspace.lake, name, workspace.settings.project)


def document(found: Comparison) -> dict[str, Any]:
    """What ``--json`` prints: ``verdict``, and ``columns`` with one verdict each."""
    told = asdict(found)
    told.pop("shapes")
    return {**told, "columns": [{**asdict(column), "verdict": column.answer} for column in found.columns]}


def verdict(found: Comparison) -> MonitorVerdict:
    """The same as a verdict without a model, which is what a report shows."""
    said = reason(found.verdict, found.columns, rows=found.current_rows, apart=found.joint_columns)
    return MonitorVerdict(
        model="",
        version=0,
        digest="",
        endpoint="",
        deployment="",
        window_start="",
        window_end="",
        rows=found.current_rows,
        answer=found.verdict,
        columns=found.columns,
        joint=found.joint,
        joint_columns=found.joint_columns,
        performance=found.performance,
        reason=said,
    )


def report(file: Path, shown: MonitorVerdict, found: Comparison) -> None:
    """Writes the report."""
    write_page(file, reports.render(shown, found.shapes))
