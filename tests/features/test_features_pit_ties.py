"""Entities whose rows all became known at one time: dimension tables and daily batch loads."""

from __future__ import annotations

import duckdb

from stk_ml.features.pit import Lookup, point_in_time_sql


def test_every_entity_of_a_table_loaded_at_one_time_is_found():
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE v AS SELECT 'k' || i AS k, i AS x, TIMESTAMP '2013-01-01' AS e, e AS n FROM range(2000) t(i)"
    )
    con.execute(
        "CREATE TABLE s AS SELECT 'k' || (i % 2000) AS k, i % 2000 AS x0, TIMESTAMP '2013-06-01' AS at "
        "FROM range(6000) t(i)"
    )
    sql = point_in_time_sql("s", "at", [Lookup("v", (("k", "k"),), (("x", "x"),), event_time="e", known_time="n")])
    assert con.sql(f"SELECT count(*), count(x), count(*) FILTER (x = x0) FROM ({sql})").fetchall() == [
        (6000, 6000, 6000)
    ]
