"""The engine: builds views once, pulls training sets, tells what is wrong with the data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from small_world import DEPARTURES, FLIGHTS, RATES, START

from stk_ml.contracts import Dataset, read, write
from stk_ml.errors import (
    ColumnContractError,
    DataError,
    DeclarationError,
    LabelError,
    LeakageError,
    TableNotFoundError,
    UnknownNameError,
    UsageError,
)
from stk_ml.model_spec import DataSpec, FeatureUse, ModelSpec


def table(project) -> pa.Table:  # type: ignore[no-untyped-def]
    return pq.read_table(project.root / "out" / "data.parquet")


def test_the_training_set_has_its_roles_types_and_order(project):
    dataset = project.pull()
    assert read(Dataset, project.root / "out" / "dataset.json") == dataset
    rows = table(project)
    assert rows.schema.names == [c.name for c in dataset.columns]
    assert [(c.name, c.type, c.role, c.view) for c in dataset.columns] == [
        ("flight_id", "integer", "entity", ""),
        ("as_of", "timestamp", "as_of", ""),
        ("label_time", "timestamp", "label_time", ""),
        ("late", "integer", "label", ""),
        ("carrier", "category", "feature", ""),
        ("hour", "integer", "feature", ""),
        ("rate", "number", "feature", "rates"),
    ]
    assert rows.schema.field("as_of").type == pa.timestamp("us", "UTC")
    assert rows.schema.field("late").type == pa.int8()
    assert rows["as_of"].to_pylist() == sorted(rows["as_of"].to_pylist())
    assert (dataset.rows, dataset.unlabelled, dataset.now) == (FLIGHTS, 0, "")
    assert {t.name for t in dataset.snapshot.tables} == {"curated.departures", "curated.rates", "raw.flights"}
    assert set(dataset.snapshot.views) == {"departures", "rates"}


def test_equal_inputs_give_equal_bytes(project):
    first = project.pull()
    bytes_ = (project.root / "out" / "data.parquet").read_bytes()
    assert project.pull().digest == first.digest
    assert (project.root / "out" / "data.parquet").read_bytes() == bytes_


def test_a_view_is_built_again_only_when_its_sql_or_its_inputs_change(project):
    engine = project.engine
    first = engine.build(None, engine.snapshot())
    assert engine.build(None, engine.snapshot()) == first
    project.view("rates", RATES.replace("> 15", "> 20"), "carrier")
    second = project.engine.build(None, engine.snapshot())
    changed = {a.name for a, b in zip(first.tables, second.tables, strict=True) if a != b}
    assert changed == {"curated.rates"}
    project.lake.table("raw.weather").append(pa.table({"time_hour": [START], "temp": [3.0]}))
    third = engine.build(None, engine.snapshot())
    assert "curated.weather" in {a.name for a, b in zip(second.tables, third.tables, strict=True) if a != b}


def test_a_pinned_snapshot_does_not_see_later_rows(project):
    engine = project.engine
    raw = engine.snapshot()
    project.lake.table("raw.flights").overwrite(project.lake.table("raw.flights").read().slice(0, 10))
    curated = engine.build(["departures"], raw)
    assert [t.rows for t in curated.tables] == [FLIGHTS]


def test_time_travel_leaves_later_labels_out_and_counts_them(project):
    now = START + timedelta(days=10)
    dataset = project.pull(now=now)
    assert dataset.rows + dataset.unlabelled == FLIGHTS
    assert dataset.unlabelled > 0
    assert max(table(project)["label_time"].to_pylist()) <= now
    assert dataset.now == "2024-01-11T00:00:00Z"


def test_labels_from_the_future_are_an_error_when_the_clock_is_real(project):
    with pytest.raises(LabelError, match=r"'late': \d[\d,]* rows have labels from the future"):
        project.pull(now=START + timedelta(days=10), strict_now=True)


def test_labels_that_are_not_known_yet_are_left_out(project):
    sql = DEPARTURES.replace(
        "arr_delay > 15 AS late, landed AS label_time",
        "CASE WHEN flight_id >= 10 THEN arr_delay > 15 END AS late, "
        "CASE WHEN flight_id >= 10 THEN landed END AS label_time",
    )
    project.view("departures", sql, "flight_id")
    assert project.pull().unlabelled == 10


def test_a_label_that_should_be_known_and_is_null_is_an_error(project):
    project.view(
        "departures",
        DEPARTURES.replace("arr_delay > 15 AS", "CASE WHEN flight_id >= 10 THEN arr_delay > 15 END AS"),
        "flight_id",
    )
    with pytest.raises(LabelError, match="'late': 10 rows have no label"):
        project.pull()


@pytest.mark.parametrize(
    ("label", "error", "match"),
    [
        ("true AS", LabelError, "'late' has only one class: true"),
        ("flight_id % 3 AS", LabelError, "'late' has more than two values \\(0, 1, 2\\)"),
        (
            "CASE WHEN flight_id = 3 THEN 'nan'::DOUBLE ELSE flight_id % 2 END AS",
            LabelError,
            "'late': 1 rows have no label",
        ),
    ],
)
def test_targets_that_cannot_be_learned_are_refused(project, label, error, match):
    project.view("departures", DEPARTURES.replace("arr_delay > 15 AS", label), "flight_id")
    with pytest.raises(error, match=match):
        project.pull()
    assert not (project.root / "out").exists()


def test_the_positive_value_can_be_named(project):
    project.view(
        "departures",
        DEPARTURES.replace("arr_delay > 15 AS", "CASE WHEN arr_delay > 15 THEN 'late' ELSE 'punctual' END AS"),
        "flight_id",
    )
    share = sum(project.pull(project.spec(positive="late")) and table(project)["late"].to_pylist()) / FLIGHTS
    assert 0.3 < share < 0.5
    with pytest.raises(LabelError, match="never is 'lat'"):
        project.pull(project.spec(positive="lat"))


def test_duplicate_keys_are_told_with_an_example(project):
    rows = project.lake.table("raw.flights").read()
    project.lake.table("raw.flights").append(rows.slice(0, 3))
    with pytest.raises(DataError, match="as_of, flight_id: 3 keys stand on 6 rows, for example as_of="):
        project.pull()


def test_missing_names_are_told_with_the_closest(project):
    for data, name, near in (
        ({"target": "lte"}, "lte", "late"),
        ({"as_of": "as_off"}, "as_off", "as_of"),
        ({"exclude": ("tial",)}, "tial", "tail"),
        ({"features": (FeatureUse("rates", columns=("rat",)),)}, "rat", "rate"),
        ({"features": (FeatureUse("rates", on=("carier",)),)}, "carier", "carrier"),
        ({"features": (FeatureUse("rats"),)}, "rats", "rates"),
    ):
        with pytest.raises(UnknownNameError, match=f"'{name}'") as error:
            project.pull(project.spec(**data))
        assert f"did you mean '{near}'?" in error.value.hint


def test_two_views_with_one_name_need_a_prefix(project):
    uses = (FeatureUse("rates"), FeatureUse("rates"))
    with pytest.raises(UsageError, match="both give a column 'rate'"):
        project.pull(project.spec(features=uses))
    dataset = project.pull(project.spec(features=(uses[0], FeatureUse("rates", prefix="old_", lookback="6h"))))
    assert dataset.role("feature")[-2:] == ["rate", "old_rate"]


def test_a_broken_contract_stops_the_pull_and_shows_in_check(project):
    project.view(
        "rates", RATES.replace("avg(", "2 * avg("), "carrier", "--   rate: {type: number, minimum: 0, maximum: 1}\n"
    )
    with pytest.raises(
        ColumnContractError, match=r"column rates.rate: range: [\d,]+ of 2,000 rows \(allowed 0..1; found"
    ):
        project.pull()
    assert [f.rule for f in project.engine.check(["rates"]) if f.rows] == ["range"]


def test_sql_that_fails_is_told_with_its_file_and_line(project):
    project.view(
        "rates", "SELECT carrier, landed AS event_time, landed AS known_time,\n  nothing\nFROM raw.flights", "carrier"
    )
    with pytest.raises(DeclarationError, match=r'rates\.sql:7: .*"nothing" not found'):
        project.pull()


def test_tables_that_are_not_there_are_named(project):
    project.view("rates", RATES.replace("raw.flights", "raw.flihgts"), "carrier")
    with pytest.raises(TableNotFoundError, match=r"raw\.flihgts") as error:
        project.pull()
    assert "raw.flights" in error.value.hint
    with pytest.raises(TableNotFoundError, match=r"curated\.weather"):
        project.engine.check(["weather"])


def test_kept_columns_are_slices_and_no_features(project):
    dataset = project.pull(project.spec(keep=("carrier",)))
    assert (dataset.role("slice"), "carrier" in dataset.role("feature")) == (["carrier"], False)


def test_a_limit_of_memory_spills_and_gives_the_same_rows(project):
    first = project.pull()
    engine = project.engine
    engine._memory_limit = "200MB"
    spec = project.spec()
    raw = engine.snapshot(spec)
    again = engine.pull(spec, engine.build(["departures", "rates"], raw), project.root / "small", raw=raw)
    assert again.digest == first.digest


def flat(**data: object) -> ModelSpec:
    return ModelSpec("flat", "binary", DataSpec(target="y", **data))  # type: ignore[arg-type]


ROWS = pa.table(
    {
        "t": pa.array([START + timedelta(days=d) for d in (2, 0, 1, 3)], pa.timestamp("us", "UTC")),
        "x": [1.5, None, 2.5, 0.0],
        "c": ["a", "b", "a", None],
        "flag": [True, False, None, True],
        "when": pa.array([1, 2, 3, 4], pa.date32()),
        "y": ["no", "yes", "no", "yes"],
    }
)


@pytest.mark.parametrize("kind", ["csv", "parquet", "lake"])
def test_a_flat_table_of_any_kind_gives_the_same_training_set(project, kind):
    if kind == "lake":
        project.lake.table("raw.flat").append(ROWS)
        source = "raw.flat"
    else:
        source = str(project.root / f"flat.{kind}")
        pa.csv.write_csv(ROWS, source) if kind == "csv" else pq.write_table(ROWS, source)
    spec = flat(table=source, as_of="t")
    engine = project.engine
    dataset = engine.pull(spec, engine.snapshot(spec), project.root / "out")
    assert [(c.name, c.type, c.role) for c in dataset.columns] == [
        ("t", "timestamp", "as_of"),
        ("label_time", "timestamp", "label_time"),
        ("y", "integer", "label"),
        ("x", "number", "feature"),
        ("c", "category", "feature"),
        ("flag", "boolean", "feature"),
    ]
    assert table(project).select(["y", "x", "c", "flag"]).to_pydict() == {
        "y": [1, 0, 0, 1],
        "x": [None, 2.5, 1.5, 0.0],
        "c": ["b", "a", "a", None],
        "flag": [False, None, True, True],
    }
    assert [f.column for f in dataset.audit if f.rule == "left_out"] == ["when"]
    assert [f.rows for f in dataset.audit if f.rule == "replay"] == [-1]
    pinned = dataset.snapshot.tables[0]
    assert (pinned.version, pinned.name) == ((0, source) if kind == "lake" else (-1, source))


def test_a_flat_table_without_time_keeps_its_order(project):
    pq.write_table(pa.table({"x": list(range(9)), "y": [0, 1, 0] * 3}), project.root / "flat.parquet")
    spec = flat(table=str(project.root / "flat.parquet"))
    engine = project.engine
    dataset = engine.pull(spec, engine.snapshot(spec), project.root / "out", now=datetime.now(UTC), strict_now=True)
    assert (table(project)["x"].to_pylist(), dataset.now) == (list(range(9)), "")


def test_text_with_many_values_is_left_out_and_told(project):
    names = [f"n{i}" for i in range(1500)]
    pq.write_table(pa.table({"x": names, "z": [1] * 1500, "y": [0, 1, 0] * 500}), project.root / "flat.parquet")
    spec = flat(table=str(project.root / "flat.parquet"))
    dataset = project.engine.pull(spec, project.engine.snapshot(spec), project.root / "out")
    assert dataset.role("feature") == ["z"]
    assert [f.column for f in dataset.audit if f.rule == "left_out"] == ["x"]


def test_flat_tables_with_mistakes(project):
    pq.write_table(ROWS, project.root / "flat.parquet")
    source, engine = str(project.root / "flat.parquet"), project.engine
    with pytest.raises(TableNotFoundError, match="no file") as error:
        engine.snapshot(flat(table=source.replace("flat.parquet", "falt.parquet")))
    assert "flat.parquet" in error.value.hint
    for data, kind, match in (
        ({"as_of": "x"}, DataError, "'x' is DOUBLE, not a time"),
        ({"entity": ("c",)}, DataError, "'c': 1 of 4 rows have no value"),
        ({"as_of": "t", "label_time": "when"}, LeakageError, "'when': the label of 4 of 4 rows was known before t"),
    ):
        with pytest.raises(kind, match=match):
            engine.pull(flat(table=source, **data), engine.snapshot(flat(table=source)), project.root / "out")
    pq.write_table(ROWS.set_column(5, "y", [["no", None, "no", "yes"]]), source)
    with pytest.raises(LabelError, match="'y': 1 rows have no label"):
        engine.pull(flat(table=source), engine.snapshot(flat(table=source)), project.root / "out")
    (project.root / "flat.csv").write_text("", "utf-8")
    bad = flat(table=str(project.root / "flat.csv"))
    with pytest.raises((DataError, UnknownNameError)):
        engine.pull(bad, engine.snapshot(bad), project.root / "out")


KILLED = """
import sys
from pathlib import Path
from stk_ml.contracts import Snapshot, read
from stk_ml.features.catalog import Catalog
from stk_ml.features.local import DuckDBFeatureEngine
from stk_ml.lake.lake import Lake
from stk_ml.model_spec import DataSpec, ModelSpec
root = Path(sys.argv[1])
spec = ModelSpec("m", "binary", DataSpec(
    target="late", spine="departures", entity=("flight_id",), as_of="as_of", label_time="label_time"))
engine = DuckDBFeatureEngine(Lake(str(root / "lake")), Catalog(root / "features"))
while True:
    print("pulling", flush=True)
    engine.pull(spec, read(Snapshot, root / "curated.json"), root / "out")
"""


def test_a_killed_pull_leaves_the_old_training_set_readable(project):
    old = project.pull(project.spec(features=()))
    write(project.engine.build(["departures"], project.engine.snapshot()), project.root / "curated.json")
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(project.root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.15)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert read(Dataset, project.root / "out" / "dataset.json").rows == old.rows
    assert table(project).num_rows == old.rows


FULL = """
import resource, sys
from pathlib import Path
from stk_ml.contracts import Snapshot, read
from stk_ml.errors import StorageError
from stk_ml.features.catalog import Catalog
from stk_ml.features.local import DuckDBFeatureEngine
from stk_ml.lake.lake import Lake
from stk_ml.model_spec import DataSpec, ModelSpec
root = Path(sys.argv[1])
spec = ModelSpec("m", "binary", DataSpec(
    target="late", spine="departures", entity=("flight_id",), as_of="as_of", label_time="label_time"))
engine = DuckDBFeatureEngine(Lake(str(root / "lake")), Catalog(root / "features"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    engine.pull(spec, read(Snapshot, root / "curated.json"), root / "out")
except StorageError as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_is_told_and_leaves_nothing_behind(project):
    write(project.engine.build(["departures"], project.engine.snapshot()), project.root / "curated.json")
    before = sorted(file.name for file in project.root.iterdir())
    done = subprocess.run([sys.executable, "-c", FULL, str(project.root)], capture_output=True, text=True, check=True)
    assert "StorageError" in done.stdout
    assert "out cannot be written" in done.stdout
    assert sorted(file.name for file in project.root.iterdir()) == before
