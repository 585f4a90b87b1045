"""Views as Spark SQL: the text, and equal rows on a real local Spark."""

from __future__ import annotations

import importlib.util
import random
import shutil
from datetime import datetime, timedelta
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_world import header

from stk_ml.features.dialects import to_spark
from stk_ml.features.pit import Lookup, point_in_time_sql
from stk_ml.features.view import read_view

SQL = """\
SELECT carrier, landed AS event_time, landed + INTERVAL 1 HOUR AS known_time,
       avg(CASE WHEN delay > 15 THEN 1 ELSE 0 END) OVER (
         PARTITION BY carrier ORDER BY landed RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW
       ) AS rate,
       dayofweek(landed) AS day, isodow(landed) AS isoday, extract(hour FROM landed) AS hour,
       (epoch(landed) - epoch(TIMESTAMP '2024-01-01')) / 3600 AS hours, date_trunc('day', landed) AS midnight
FROM raw.flights
WHERE delay IS NOT NULL
"""


def flights(count: int = 300) -> pa.Table:
    rng = random.Random(3)
    start = datetime(2024, 1, 1)
    rows = [
        {
            "carrier": rng.choice("AB"),
            "landed": start + timedelta(minutes=37 * number, seconds=rng.randrange(60_000) / 1000),
            "delay": rng.choice([None, rng.randrange(-20, 60)]),
        }
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows)


def same(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Rows with numbers to nine digits and as floats: averages may differ in their last bits."""
    return [tuple(round(float(v), 9) if isinstance(v, int | float | Decimal) else v for v in row) for row in rows]


def test_weekdays_are_counted_as_duckdb_counts_them(write_view):
    sql = " ".join(to_spark(read_view(write_view(header("carrier") + SQL))).split())
    assert "( DAYOFWEEK(landed) - 1 ) AS day" in sql
    assert "( WEEKDAY(landed) + 1 ) AS isoday" in sql


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pip install 'stk-ml[spark]'")
@pytest.mark.skipif(shutil.which("java") is None, reason="apt-get install openjdk-17-jre-headless")
def test_a_view_and_the_join_give_equal_rows_on_spark(write_view, tmp_path):
    from pyspark.sql import SparkSession

    view = read_view(write_view(header("carrier") + SQL))
    pq.write_table(flights(), tmp_path / "flights.parquet")
    con = duckdb.connect()
    con.execute(f"CREATE SCHEMA raw; CREATE VIEW raw.flights AS FROM read_parquet('{tmp_path}/flights.parquet')")
    con.execute(f"CREATE TABLE rates AS {view.sql}")
    con.execute("CREATE TABLE spine AS SELECT row_number() OVER () AS id, carrier, landed AS as_of FROM raw.flights")
    con.execute(f"COPY spine TO '{tmp_path}/spine.parquet'")
    lookup = Lookup("rates", (("carrier", "carrier"),), (("rate", "rate"),), lookback=timedelta(hours=5))
    joined = con.sql(f"SELECT id, rate FROM ({point_in_time_sql('spine', 'as_of', [lookup])}) ORDER BY id").fetchall()
    built = con.sql("SELECT * FROM rates ORDER BY event_time").fetchall()

    builder = SparkSession.builder.master("local[1]").config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "2")
    builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    spark = builder.config("spark.sql.warehouse.dir", str(tmp_path / "warehouse")).getOrCreate()
    try:
        spark.read.parquet(str(tmp_path / "flights.parquet")).createOrReplaceTempView("flights")
        spark.read.parquet(str(tmp_path / "spine.parquet")).createOrReplaceTempView("spine")
        rates = spark.sql(to_spark(view).replace("raw.flights", "flights"))
        rates.createOrReplaceTempView("rates")
        assert same(rates.orderBy("event_time").collect()) == same(built)
        newest = spark.sql("""
            SELECT id, CASE WHEN event_time > as_of - INTERVAL 5 HOUR THEN rate END AS rate FROM (
              SELECT s.id, s.as_of, r.event_time, r.rate,
                     row_number() OVER (PARTITION BY s.id ORDER BY r.event_time DESC, r.known_time DESC) AS n
              FROM spine s LEFT JOIN rates r ON s.carrier = r.carrier AND r.known_time <= s.as_of)
            WHERE n = 1 ORDER BY id""")
        assert same(newest.collect()) == same(joined)
    finally:
        spark.stop()
