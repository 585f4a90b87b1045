"""The curated views of the flights example hold what they say, and nothing that was not known."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stk_ml import model_spec
from stk_ml.errors import LeakageError
from stk_ml.features.catalog import Catalog
from stk_ml.features.dialects import to_spark
from stk_ml.features.local import DuckDBFeatureEngine

PIPELINES = Path(__file__).parents[2] / "pipelines"
VIEWS = PIPELINES / "features"
#: Share of arrivals more than 15 minutes late by month of the year, from the source itself.
LATE = [0.227, 0.230, 0.228, 0.279, 0.220, 0.308, 0.315, 0.238, 0.132, 0.168, 0.174, 0.326]


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2013, 1, day, hour, minute, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows(weeks, curated):
    """Asks the curated tables: ``rows("SELECT ...", "plane")`` with the view standing under its name."""

    def ask(sql: str, *names: str) -> list[dict]:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for name in names:
                zone, _, table = name.rpartition(".")
                connection.register(table, weeks.table(f"{zone or 'curated'}.{table}").read())
            return connection.sql(sql).to_arrow_table().to_pylist()

    return ask


@pytest.fixture(scope="module")
def spec():
    return model_spec.load(PIPELINES / "models" / "flight-delay.yml")


@pytest.fixture(scope="module")
def pulled(curated, spec, tmp_path_factory):
    engine, snapshot = curated
    out = tmp_path_factory.mktemp("pulled") / "set"
    dataset = engine.pull(spec, snapshot, out)
    return dataset, pq.read_table(out / "data.parquet")


def test_late_by_month_is_the_sources(year):
    engine = DuckDBFeatureEngine(year, Catalog(VIEWS))
    engine.build(["departures"], engine.snapshot())
    table = year.table("curated.departures").read(["flight_id", "late", "label_time"])
    assert table.num_rows == 336_776
    assert table["late"].null_count == table["label_time"].null_count == 9_430
    month = pc.cast(pc.utf8_slice_codeunits(table["flight_id"], -4, -2), pa.int64())
    late = pa.table({"month": month, "late": table["late"]}).group_by("month").aggregate([("late", "mean")])
    assert late.sort_by("month")["late_mean"].to_pylist() == pytest.approx(LATE, abs=0.0006)


def test_a_flight_of_the_spine(rows):
    (row,) = rows("SELECT * FROM departures WHERE flight_id = 'UA-1545-EWR-20130101'", "departures")
    assert row["scheduled_departure"] == at(1, 10, 15)
    assert row["as_of"] == at(1, 8, 15)
    assert (row["late"], row["label_time"]) == (0, at(1, 14, 30))
    assert (row["weekday"], row["minute_of_day"], row["distance"]) == (2, 315, 1400)
    assert row["scheduled_minutes"] == 244
    assert row["flight_number"] == "UA-1545-EWR-IAH"


def test_a_plane(rows):
    (row,) = rows("SELECT * FROM plane WHERE tailnum = 'N10156'", "plane")
    assert (row["plane_age"], row["seats"], row["engine"], row["manufacturer"]) == (9, 55, "Turbo-fan", "EMBRAER")


def test_an_hour_of_weather_is_known_when_it_is_over(rows):
    (row,) = rows("SELECT * FROM weather WHERE origin = 'EWR' AND event_time = '2013-01-01 06:00+00'", "weather")
    assert row["known_time"] == at(1, 7)
    assert (row["temp"], row["visib"], row["pressure"]) == (39.02, 10, 1012)


def test_news_of_a_flight_comes_when_it_leaves_and_when_it_lands(rows):
    found = rows("SELECT * FROM news WHERE flight_id = 'UA-1545-EWR-20130101' ORDER BY known_time", "news")
    assert [(row["known_time"], row["dep_delay"], row["arr_delay"], row["lost"]) for row in found] == [
        (at(1, 10, 17), 2, None, None),
        (at(1, 14, 30), None, 11, 9),
    ]


@pytest.mark.parametrize(
    ("view", "key", "span"),
    [("carrier_delays", "carrier", "24h"), ("destination_delays", "dest", "24h"), ("tail_delays", "tailnum", "7d")],
)
def test_a_rolling_rate_counts_the_arrivals_of_its_window_and_no_others(rows, view, key, span):
    column = f"{key if key != 'tailnum' else 'tail'}_late_{span}"
    for row in rows(f"SELECT * FROM {view} ORDER BY hash({key}, known_time) LIMIT 3", view):
        since = row["known_time"] - timedelta(hours=24 if span == "24h" else 168)
        (again,) = rows(
            f"SELECT avg(CAST(arr_delay > 15 AS INTEGER)) AS late FROM flights WHERE {key} = '{row[key]}' AND "
            f"scheduled_arrival + to_minutes(arr_delay) BETWEEN '{since}' AND '{row['known_time']}'",
            "raw.flights",
        )
        assert row[column] == pytest.approx(again["late"])


def test_an_inbound_leg_is_told_in_three_stages(rows):
    found = rows(
        "SELECT n.*, f.scheduled_departure AS due FROM inbound AS n JOIN flights AS f USING (flight_id) "
        "WHERE flight_id = (SELECT min(flight_id) FROM inbound WHERE inbound_stage = 2 AND inbound_delay > 60) "
        "ORDER BY known_time",
        "inbound",
        "raw.flights",
    )
    assert [row["inbound_stage"] for row in found] == [0, 1, 2]
    assert all(row["slack"] == row["slack_planned"] - row["inbound_delay"] for row in found)


def test_the_training_set_holds_every_flight_that_arrived_and_passes_the_audit(pulled, weeks):
    dataset, table = pulled
    flights = weeks.table("raw.flights").read(["arr_delay"])["arr_delay"]
    assert table.num_rows == dataset.rows == len(flights) - flights.null_count
    assert dataset.unlabelled == flights.null_count
    replayed = [finding for finding in dataset.audit if finding.rule == "replay"]
    assert {finding.rows for finding in replayed} == {0}
    assert {finding.column for finding in replayed} == set(dataset.role("feature"))


def test_each_row_has_the_newest_weather_known_two_hours_before(pulled, rows):
    _, table = pulled
    for row in table.take([5_000, 10_000, 15_000]).select(["as_of", "origin", "temp"]).to_pylist():
        as_of = row["as_of"].replace(tzinfo=None)
        (newest,) = rows(
            f"SELECT temp FROM weather WHERE origin = '{row['origin']}' "
            f"AND time_hour + INTERVAL 1 HOUR <= '{as_of}+00' ORDER BY time_hour DESC LIMIT 1",
            "raw.weather",
        )
        assert row["temp"] == newest["temp"]


def test_every_view_is_spark_sql_too():
    catalog = Catalog(VIEWS)
    assert all(to_spark(catalog.view(name)).lstrip().startswith(("SELECT", "WITH")) for name in catalog.names())


LEAKS = {
    "dep_delay": ("departures", [("    distance,\n", "    distance,\n    dep_delay,\n")]),
    "visib_then": (
        "departures",
        [
            ("        *,\n", "        flights.*,\n        weather.visib AS visib_then,\n"),
            (
                "    FROM raw.flights\n",
                "    FROM raw.flights AS flights LEFT JOIN raw.weather AS weather\n"
                "    ON flights.origin = weather.origin AND flights.time_hour = weather.time_hour\n",
            ),
            ("    distance,\n", "    distance,\n    visib_then,\n"),
        ],
    ),
    "carrier_late_3h": (
        "news",
        [("scheduled_arrival + arr_delay * INTERVAL '1' MINUTE AS known_time", "scheduled_departure AS known_time")],
    ),
}


@pytest.mark.parametrize("column", LEAKS)
def test_a_planted_leak_is_refused_by_its_name(column, weeks, spec, tmp_path):
    folder = shutil.copytree(VIEWS, tmp_path / "features")
    view, edits = LEAKS[column]
    file = folder / f"{view}.sql"
    text = file.read_text()
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    engine = DuckDBFeatureEngine(weeks, Catalog(folder))
    few = msgspec.structs.replace(
        spec.data, features=tuple(u for u in spec.data.features if u.view == "carrier_delays")
    )
    spec = msgspec.structs.replace(spec, data=few)
    curated = engine.build(["departures", "carrier_delays"], engine.snapshot(spec))
    with pytest.raises(LeakageError, match=f"column '{column}'"):
        engine.pull(spec, curated, tmp_path / "set")
    assert not (tmp_path / "set").exists()
