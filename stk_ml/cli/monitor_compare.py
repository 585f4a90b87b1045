"""Two tables compared: read, told as a document, and shown as a report."""

from __future__ import annotations

import codecs
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.errors import DataError
from stk_ml.monitor_state import MonitorVerdict, PerformanceFinding
from stk_ml.monitoring import report as reports
from stk_ml.monitoring.compare import Comparison, compare
from stk_ml.monitoring.judge import reason
from stk_ml.monitoring.store import write_page
from stk_ml.statistics.metrics import TITLES

if TYPE_CHECKING:
    import pyarrow as pa

    from stk_ml.workspace import Workspace

__all__ = ["compare", "document", "performance", "read", "report", "verdict"]


def read(workspace: Workspace, name: str) -> pa.Table | Path:
    """A CSV file or a lake table (``zone.table``); of a Parquet file the path, which is read a piece at a time.

    Raises:
        DataError: the file cannot be read; of a CSV that is not UTF-8, what it may be.
        TableNotFoundError, UnknownNameError: there is neither.
    """
    from stk_ml.features.infer import read_table

    if (path := Path(name)).suffix.lower() in (".parquet", ".pq") and path.is_file():
        return path
    try:
        return read_table(workspace.lake, name, workspace.settings.project)
    except DataError as error:
        raise _encoding(path) or error from error


def _encoding(path: Path) -> DataError | None:
    """What is wrong with a file that is not UTF-8; None when it is."""
    if not path.is_file():
        return None
    line, start = 0, b""
    with path.open("rb") as file:
        for line, start in enumerate(file, 1):
            try:
                start.decode("utf-8")
            except UnicodeDecodeError as error:
                wide = start[error.start : error.start + 2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
                likely = "UTF-16" if wide else "WINDOWS-1252"
                return DataError(
                    f"{path} is not UTF-8: byte 0x{start[error.start]:02x} in line {line}",
                    hint=f"if it is {likely}: iconv -f {likely} -t UTF-8 {path.name} > utf8.csv",
                )
    return None


def worse(found: Comparison) -> tuple[PerformanceFinding, ...]:
    """What of the performance is shown to be worse."""
    return tuple(finding for finding in found.performance if finding.worse)


def performance(found: Comparison) -> list[list[str]]:
    """Rows of the table of the performance."""
    says = {True: "worse", False: "not worse", None: "cannot tell"}
    return [
        [
            TITLES.get(of.metric, of.metric),
            says[of.worse],
            f"{of.reference:.3g}",
            f"{of.value.value:.3g}",
            f"{of.value.low:.3g} to {of.value.high:.3g}",
            f"{of.matured:.0%}",
        ]
        for of in found.performance
    ]


def document(found: Comparison) -> dict[str, Any]:
    """What ``--json`` prints: ``verdict``, and ``columns`` with one verdict each."""
    told = asdict(found)
    told.pop("shapes")
    return {**told, "columns": [{**asdict(column), "verdict": column.answer} for column in found.columns]}


def verdict(found: Comparison) -> MonitorVerdict:
    """The same as a verdict without a model, which is what a report shows."""
    said = reason(found.verdict, found.columns, worse=worse(found), rows=found.current_rows, apart=found.joint_columns)
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
