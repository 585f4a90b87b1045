"""The point-in-time join against a reference that is too simple to be wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.features.pit import Lookup, point_in_time_sql

DAY = datetime(2024, 1, 1)
TIME = pa.timestamp("us")
SPINE = pa.schema([("id", pa.int64()), ("k", pa.string()), ("j", pa.int64()), ("as_of", TIME)])
VIEW = pa.schema(
    [("k", pa.string()), ("j", pa.int64()), ("e", TIME), ("n", TIME), ("x", pa.int64()), ("y", pa.string())]
)

keys = st.one_of(st.none(), st.sampled_from("ab"))
numbers = st.one_of(st.none(), st.integers(0, 1))
times = st.one_of(st.none(), st.integers(0, 8).map(lambda hours: DAY + timedelta(hours=hours)))
present = st.integers(0, 8).map(lambda hours: DAY + timedelta(hours=hours))
values = st.tuples(st.one_of(st.none(), st.integers(-2, 2)), st.one_of(st.none(), st.sampled_from("pq")))
spines = st.lists(st.tuples(keys, numbers, present), max_size=12)
tables = st.lists(st.tuples(keys, numbers, times, times, values), max_size=14)
lookbacks = st.one_of(st.none(), st.integers(1, 6).map(lambda hours: timedelta(hours=hours)))


def reference(row, view, width, lookback):  # type: ignore[no-untyped-def]
    """The values that a spine row may get from one view: the definition, word by word. Exact ties allow several."""
    key, as_of = row[:width], row[2]
    known = [
        (event, known, value)
        for *entity, event, known, value in view
        if None not in key
        and tuple(entity[:width]) == key
        and event is not None
        and known is not None
        and known <= as_of
    ]
    if not known:
        return {(None, None)}
    newest = max(each[:2] for each in known)
    if lookback is not None and newest[0] <= as_of - lookback:
        return {(None, None)}
    return {value for event, known, value in known if (event, known) == newest}


def run(spine, views, width, lookbacks):  # type: ignore[no-untyped-def]
    con = duckdb.connect()
    con.execute("SET threads = 2")
    con.register(
        "spine",
        pa.Table.from_pylist([dict(zip(SPINE.names, (i, *r), strict=True)) for i, r in enumerate(spine)], SPINE),
    )
    lookups = []
    for number, (view, lookback) in enumerate(zip(views, lookbacks, strict=True)):
        rows = [dict(zip(VIEW.names, (*row[:4], *row[4]), strict=True)) for row in view]
        con.register(f"v{number}", pa.Table.from_pylist(rows, VIEW))
        on = (("k", "k"), ("j", "j"))[:width]
        columns = (("x", f"x{number}"), ("y", f"y{number}"))
        lookups.append(Lookup(f"v{number}", on, columns, "e", "n", lookback))
    names = ", ".join(f"x{n}, y{n}" for n in range(len(views)))
    return con.sql(f"SELECT {names} FROM ({point_in_time_sql('spine', 'as_of', lookups)}) ORDER BY id").fetchall()


@settings(max_examples=60, deadline=None)
@given(spines, st.tuples(tables, tables), st.integers(1, 2), st.tuples(lookbacks, lookbacks))
def test_equals_the_definition_on_bitemporal_tables_with_ties_nulls_and_look_backs(spine, views, width, lookbacks):
    found = run(spine, views, width, lookbacks)
    assert len(found) == len(spine)
    for row, values in zip(spine, found, strict=True):
        for number, (view, lookback) in enumerate(zip(views, lookbacks, strict=True)):
            assert values[2 * number : 2 * number + 2] in reference(row, view, width, lookback)
    assert run(spine, [view[::-1] for view in views], width, lookbacks) == found, "ties depend on the order of rows"


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def one(view, as_of, lookback=None):  # type: ignore[no-untyped-def]
    rows = [("a", 0, at(event), at(known), (value, None)) for event, known, value in view]
    return run([("a", 0, at(as_of))], [rows], 1, [lookback])[0][0]


def test_what_becomes_known_after_as_of_is_not_seen_and_at_as_of_it_is():
    assert one([(1, 3, 7)], as_of=2.999) is None
    assert one([(1, 3, 7)], as_of=3) == 7


def test_a_late_correction_of_an_old_event_does_not_hide_a_newer_one():
    assert one([(1, 1, 10), (2, 2, 20), (1, 3, 11)], as_of=4) == 20


def test_a_correction_replaces_its_event_once_it_is_known():
    view = [(1, 1, 10), (1, 3, 11)]
    assert [one(view, as_of=hour) for hour in (2, 3)] == [10, 11]


def test_a_look_back_counts_from_the_event_and_excludes_its_edge():
    view = [(1, 2, 10)]
    assert one(view, as_of=3, lookback=timedelta(hours=2)) is None
    assert one(view, as_of=2.5, lookback=timedelta(hours=2)) == 10


def test_quoted_names_and_a_spine_without_matches_survive():
    con = duckdb.connect()
    con.execute("""CREATE TABLE s AS SELECT 'a' AS "select", TIMESTAMP '2024-01-01' AS "as of" """)
    con.execute("""CREATE TABLE v AS SELECT 'b' AS "select", 1 AS "x""y", TIMESTAMP '2023-01-01' AS e, e AS n""")
    lookup = Lookup("v", (("select", "select"),), (('x"y', "order"),), "e", "n")
    sql = point_in_time_sql("s", "as of", [lookup])
    assert con.sql(f'SELECT "select", "order" FROM ({sql})').fetchall() == [("a", None)]
