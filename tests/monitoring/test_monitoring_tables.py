"""Tables read a piece at a time, and their rows counted: the same as by the plain way, in memory or from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stk_ml.artifact import profiling
from stk_ml.artifact.profile import Profile, bin_numbers
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import ColumnContractError, DataError
from stk_ml.monitoring import counting, tables
from stk_ml.monitoring.compare import compare
from stk_ml.telemetry.histogram import FeatureBins

FIELDS = [
    FeatureField("km", "number"),
    FeatureField("stops", "integer"),
    FeatureField("express", "boolean"),
    FeatureField("kind", "category", tuple(f"kind {k:02d}" for k in range(70))),
    FeatureField("void", "number"),
]


def table(rows: int, seed: int = 0, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    km = np.where(rng.random(rows) < 0.05, np.nan, rng.normal(size=rows) + shift)
    km[:2] = np.inf, -np.inf
    kind = np.array([*FIELDS[3].categories, "another"])[np.minimum(rng.geometric(0.05, rows), 70)]
    return pa.table(
        {
            "km": km,
            "stops": pa.array(rng.integers(0, 9, rows), mask=rng.random(rows) < 0.1),
            "express": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.1),
            "kind": pa.array(kind, mask=rng.random(rows) < 0.1),
            "void": pa.array([None] * rows, pa.float64()),
        }
    )


def in_file(folder: Path, content: pa.Table, group: int = 700) -> tables.ParquetRows:
    file = folder / f"rows-{group}.parquet"
    pq.write_table(content, file, row_group_size=group)
    return tables.ParquetRows(file)


def profiles(content: tables.Rows, seen: pa.Table, day: np.ndarray | None, days: int) -> list[object]:
    edges = [counting.edges_of(seen.column(field.name), field) for field in FIELDS]
    found = counting.count(content, FIELDS, edges, day, days)
    return [
        counting.category_profile(field, tally)
        if field.type == "category"
        else counting.number_profile(field.name, of, tally)
        for field, of, tally in zip(FIELDS, edges, found, strict=True)
    ]


EDGES = st.lists(st.floats(-100, 100), max_size=6).map(lambda found: [*sorted(found), *sorted(found)[-1:]])
VALUES = hnp.arrays(np.float64, st.integers(0, 30), elements=st.one_of(st.floats(), st.integers(-101, 101).map(float)))


@given(edges=EDGES, values=VALUES)
def test_comparing_with_each_edge_gives_the_cells_that_a_search_gives(edges: list[float], values: np.ndarray) -> None:
    values = np.append(values, edges)
    cells, missing = counting.place(edges, values)
    assert cells.tolist() == bin_numbers(np.array(edges), values).tolist()
    assert missing.tolist() == np.isnan(values).tolist()


@pytest.mark.parametrize("days", [1, 7])
def test_a_reference_is_counted_as_training_counts_it(tmp_path: Path, days: int) -> None:
    content = table(5000)
    day = np.random.default_rng(1).integers(0, days, 5000)
    expected = []
    encoded = FeatureSchema(tuple(FIELDS)).encode(content)
    for field in FIELDS:
        column = encoded.column(field.name)
        if field.type == "category":
            found = profiling.category_profile(field, content.column(field.name), column, slice(None), day, days)
        else:
            values = column.cast(pa.float64()).to_numpy()
            found = profiling.number_profile(field.name, values, values, day, days)
        expected.append(found)
    for rows in (tables.rows(content), in_file(tmp_path, content), in_file(tmp_path, content, 5000)):
        assert profiles(rows, content, day, days) == expected
    if days == 1:
        assert profiles(tables.rows(content), content, None, 1) == expected


def test_a_window_is_counted_as_served_rows_are(tmp_path: Path) -> None:
    columns = profiles(tables.rows(table(5000)), table(5000), None, 1)
    schema, now = FeatureSchema(tuple(FIELDS)), table(3000, seed=2, shift=1.0)
    matrix = schema.matrix(now)
    matrix[[value == "another" for value in now["kind"].to_pylist()], 3] = -1.0
    score = profiling.number_profile("score", np.empty(0), np.empty(0), np.empty(0, np.int64), 1)
    bins = FeatureBins(schema, Profile(("all",), {}, (), tuple(columns), ("all",), score))
    *expected, _ = bins.histograms(bins.count(matrix))
    for rows in (tables.rows(now), in_file(tmp_path, now)):
        tallies = counting.count(rows, FIELDS, [column.edges for column in columns], None, 1)
        assert list(map(counting.histogram, columns, FIELDS, tallies)) == expected


def test_bins_of_a_sample_take_all_rows_of_the_whole() -> None:
    content = pa.table({"km": np.arange(1000.0)})
    edges = counting.edges_of(content["km"].slice(400, 200), FeatureField("km", "number"))
    [tally] = counting.count(tables.rows(content), [FeatureField("km", "number")], [edges], None, 1)
    found = counting.number_profile("km", edges, tally)
    assert (found.edges[0], found.edges[-1], found.below, found.above) == (0.0, 999.0, (0,), (0,))
    assert sum(found.counts[0]) == 1000


@pytest.mark.parametrize("step", [1, 3, 50, 999])
def test_a_sample_is_every_so_manieth_row_wherever_pieces_end(tmp_path: Path, step: int) -> None:
    content = pa.table({"n": np.arange(1000), "kind": [f"{n % 7}" for n in range(1000)]})
    for rows in (tables.rows(content), in_file(tmp_path, content, 33)):
        found, places = tables.sample(rows, ["n", "kind"], step, seed=3)
        assert found["n"].to_pylist() == places.tolist() == list(range(places[0], 1000, step))
        assert found["kind"].cast(pa.string()).to_pylist() == [f"{n % 7}" for n in places]


def test_different_texts_are_found_up_to_a_number(tmp_path: Path) -> None:
    content = pa.table({"few": ["a", None, "b"] * 100, "many": [f"{n}" for n in range(300)]})
    for rows in (tables.rows(content), in_file(tmp_path, content, 40)):
        assert counting.texts(rows, ["few", "many"], 20) == {"few": {"a", "b"}, "many": None}


def test_two_files_are_compared_as_two_tables_are(tmp_path: Path) -> None:
    content, files = (
        [table(4000), table(3000, seed=1, shift=0.5)],
        [tmp_path / "then.parquet", tmp_path / "now.parquet"],
    )
    for each, file in zip(content, files, strict=True):
        pq.write_table(each, file, row_group_size=1000)
    assert repr(compare(*files)) == repr(compare(*content))
    assert compare(*files).verdict == "drift"


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no Parquet")
    with pytest.raises(DataError, match="broken"):
        tables.rows(tmp_path / "broken.parquet")


def test_a_mistake_in_a_thread_reaches_the_caller(tmp_path: Path) -> None:
    rows = in_file(tmp_path, pa.table({"km": ["x"] * 100}), 10)
    with pytest.raises(ColumnContractError, match="km"):
        counting.count(rows, [FeatureField("km", "number")], [(0.0, 1.0)], None, 1)
