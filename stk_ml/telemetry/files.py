"""Files of a laptop's log: ``TABLE/date=YYYY-MM-DD/TIME-WORKER-N.parquet``, and which of them count.

TIME is that of the newest row in the file. A merged file (``.merged.parquet``) names in its metadata the files that it
replaces, and those no longer count: there is no moment at which a row counts twice or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from stk_ml.telemetry.rows import Table

MERGED = ".merged.parquet"
#: Key in a merged file's metadata.
REPLACES = b"stk_ml.replaces"

_FORMAT = "%Y%m%dT%H%M%S%fZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LogFile:
    """One file of the log and the time of its newest row, in unix microseconds."""

    path: Path
    newest: int

    @property
    def merged(self) -> bool:
        """Whether it holds the rows of other files."""
        return self.path.name.endswith(MERGED)


def instant(microseconds: int) -> datetime:
    """Unix microseconds as a time in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


def day(microseconds: int) -> str:
    """Name of the folder for the rows of a day.

    Example:
        >>> day(0)
        'date=1970-01-01'
    """
    return f"date={instant(microseconds):%Y-%m-%d}"


def stem(newest: int) -> str:
    """How the name of a file begins.

    Example:
        >>> stem(1_500_000)
        '19700101T000001500000Z'
    """
    return instant(newest).strftime(_FORMAT)


def days(folder: Path, table: Table, first: str = "", last: str = "date=9999") -> list[Path]:
    """Folders of a table's days, by date; those of other names are left out."""
    with contextlib.suppress(FileNotFoundError):
        found = [path for path in (folder / table).iterdir() if path.name.startswith("date=")]
        return sorted(path for path in found if first <= path.name <= last)
    return []


def listed(folder: Path) -> list[LogFile]:
    """The finished files of a day, by time; files of other names are left out."""
    return sorted(_listed(folder), key=lambda file: (file.newest, file.path.name))


def _listed(folder: Path) -> Iterator[LogFile]:
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if not path.name.startswith(".") and path.suffix == ".parquet":
                with contextlib.suppress(ValueError):
                    time = datetime.strptime(path.name.split("-")[0], _FORMAT).replace(tzinfo=UTC)
                    yield LogFile(path, (time - _EPOCH) // timedelta(microseconds=1))


def replaced(files: list[LogFile]) -> set[str]:
    """Names of the files whose rows merged files hold.

    Raises:
        FileNotFoundError: a merged file was itself replaced meanwhile; list them anew.
    """
    import pyarrow.parquet as pq

    names: set[str] = set()
    for file in files:
        if file.merged:
            metadata = pq.read_metadata(file.path).metadata or {}
            names.update(msgspec.json.decode(metadata.get(REPLACES, b"[]"), type=list[str]))
    return names
