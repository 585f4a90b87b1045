"""What a table of the lake holds after writes: append, overwrite, merge, versions, digests."""

from __future__ import annotations

import shutil
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.fs
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.errors import ColumnContractError, DataError, StkMlError, UnknownNameError, UsageError
from stk_ml.lake.lake import Lake
from stk_ml.lake.table import LakeTable

UTC = pa.timestamp("us", tz="UTC")


def rows(**columns) -> pa.Table:
    return pa.table(columns)


def content(table: LakeTable, *by: str, version: int | None = None) -> list[dict]:
    held = table.read(version=version)
    return held.sort_by([(name, "ascending") for name in by or held.column_names[:1]]).to_pylist()


def files(table: LakeTable) -> set[str]:
    return set(table.dataset().files)


# append and time travel


def test_append_adds_rows_and_every_version_stays_readable(lake: Lake) -> None:
    table = lake.table("raw.flights")
    assert not table.exists()
    assert [table.append(rows(id=[n])) for n in range(3)] == [0, 1, 2]
    assert table.exists()
    assert table.version() == 2
    assert content(table, version=0) == [{"id": 0}]
    assert content(table, version=1) == [{"id": 0}, {"id": 1}]
    assert content(table) == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert table.dataset(1).count_rows() == 2


@pytest.mark.parametrize("version", [7, -1])
def test_an_unknown_version_is_told_with_those_that_there_are(lake: Lake, version: int) -> None:
    table = lake.table("raw.flights")
    table.append(rows(id=[1]))
    table.append(rows(id=[2]))
    for read in (table.read, table.pinned, table.metadata, table.dataset, table.schema):
        with pytest.raises(UnknownNameError, match=f"unknown version '{version}'") as caught:
            read(version=version)
        assert "versions 0 to 1" in caught.value.hint


def test_a_reader_is_streamed(lake: Lake) -> None:
    schema = pa.schema({"id": pa.int64()})
    batches = (pa.record_batch({"id": range(n * 1000, n * 1000 + 1000)}) for n in range(20))
    table = lake.table("raw.flights")
    assert table.append(pa.RecordBatchReader.from_batches(schema, batches)) == 0
    assert table.append(duckdb.sql("select 20000 + range as id from range(1000)")) == 1  # by the Arrow stream protocol
    assert sorted(table.read()["id"].to_pylist()) == list(range(21_000))


def test_what_goes_wrong_in_a_stream_is_raised_as_it_is_and_nothing_is_written(lake: Lake) -> None:
    def broken():
        yield pa.record_batch({"id": [1]})
        raise ZeroDivisionError("in the source")

    table = lake.table("raw.flights")
    for version in (None, 0):
        with pytest.raises(ZeroDivisionError, match="in the source"):
            table.append(pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), broken()))
        assert table.exists() is (version is not None)
        table.append(rows(id=[1]))
    assert table.read().num_rows == 2


def test_what_is_not_arrow_is_refused(folder: Lake) -> None:
    with pytest.raises(UsageError, match="a list is not Arrow data"):
        folder.table("raw.flights").append([{"id": 1}])


def test_columns_are_matched_by_name_and_narrow_types_widen(folder: Lake) -> None:
    table = folder.table("raw.flights")
    table.append(rows(id=[1], delay=[1.5], carrier=["UA"]))
    narrow = {
        "carrier": pa.array(["AA"], pa.dictionary(pa.int32(), pa.string())),
        "id": pa.array([2], pa.int16()),
        "delay": pa.array([2.5], pa.float32()),
    }
    table.append(pa.table(narrow))
    table.append(rows(delay=pa.nulls(1), id=[3], carrier=pa.nulls(1)))
    assert content(table) == [
        {"id": 1, "delay": 1.5, "carrier": "UA"},
        {"id": 2, "delay": 2.5, "carrier": "AA"},
        {"id": 3, "delay": None, "carrier": None},
    ]


def test_columns_that_do_not_fit_are_all_named_with_both_types(lake: Lake) -> None:
    table = lake.table("raw.flights")
    table.append(rows(id=[1], delay=[1.5], carrier=["UA"]))
    with pytest.raises(ColumnContractError) as caught:
        table.append(rows(id=["1"], delay=[2.0], gate=["C3"]))
    for part in (
        "raw.flights",
        "'id' is string, the table has int64",
        "'gate' (string) is not in",
        "'carrier' (string) is",
    ):
        assert part in str(caught.value)
    assert table.version() == 0


def test_nulls_are_refused_where_the_table_has_none(folder: Lake) -> None:
    table = folder.table("raw.flights")
    table.append(pa.table({"id": [1]}, schema=pa.schema([pa.field("id", pa.int64(), nullable=False)])))
    with pytest.raises(ColumnContractError, match=r"'id' may not be null, 2 of 3 rows are"):
        table.append(rows(id=[2, None, None]))


# overwrite


def test_overwrite_replaces_rows_and_columns_and_the_old_version_stays(lake: Lake) -> None:
    table = lake.table("curated.plane")
    table.overwrite(rows(tail=["a", "b"], year=[1, 2]))
    assert table.overwrite(rows(tail=["c"], seats=["many"])) == 1
    assert content(table) == [{"tail": "c", "seats": "many"}]
    assert content(table, version=0) == [{"tail": "a", "year": 1}, {"tail": "b", "year": 2}]
    assert table.schema(0).names == ["tail", "year"]


def test_overwrite_of_a_partition_leaves_the_files_of_the_others_untouched(lake: Lake) -> None:
    table = lake.table("curated.flights")
    table.overwrite(rows(month=[1, 1, 2, 3], id=[1, 2, 3, 4]), partition_by=["month"])
    before = files(table)
    assert table.overwrite(rows(month=[2, 2], id=[30, 31]), only={"month": 2}) == 1
    assert content(table, "id") == [{"month": m, "id": i} for m, i in ((1, 1), (1, 2), (3, 4), (2, 30), (2, 31))]
    kept = before & files(table)
    assert {name.split("/")[0] for name in kept} == {"month=1", "month=3"}
    assert {name.split("/")[0] for name in before - kept} == {"month=2"}


def test_overwrite_of_a_partition_that_is_new_or_emptied(folder: Lake) -> None:
    table = folder.table("curated.flights")
    table.overwrite(rows(month=[1], id=[1]), only={"month": 1})  # the first write: partitioned by what it names
    table.overwrite(rows(month=[2], id=[2]), only={"month": 2}, partition_by=["month"])
    table.overwrite(rows(month=[1], id=[1]).slice(0, 0), only={"month": 1})
    assert content(table) == [{"month": 2, "id": 2}]


PARTITIONS = {
    "text": (pa.string(), ["it's", 'a "b"', "x/y=z", "é %20", "..", "-- ;", None]),
    "flag": (pa.bool_(), [True, False, None]),
    "number": (pa.float64(), [1.5, -2.0, 1e-7]),
    "day": (pa.date32(), [date(2013, 1, 1), date(2013, 12, 31)]),
    "time": (UTC, [datetime(2013, 1, 1, 12, 30, 0, 5), datetime(2013, 1, 1)]),
    "whole": (pa.int8(), [0, -5, None]),
}


@pytest.mark.parametrize("column", PARTITIONS)
def test_overwrite_by_partitions_of_any_type(folder: Lake, column: str) -> None:
    kind, values = PARTITIONS[column]
    table = folder.table("curated.any")
    start = pa.table({column: pa.array(values, kind), "n": list(range(len(values)))})
    table.overwrite(start, partition_by=[column])
    for index, value in enumerate(values):
        table.overwrite(pa.table({column: pa.array([value], kind), "n": [100 + index]}), only={column: value})
    assert content(table, "n") == [
        {**row, "n": 100 + index} for index, row in enumerate(start.cast(table.schema()).to_pylist())
    ]


@settings(max_examples=15, deadline=None)
@given(value=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_any_text_names_its_partition_and_no_other(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    table = Lake(str(tmp_path_factory.mktemp("lake"))).table("curated.any")
    table.overwrite(rows(p=[value, "other"], n=[1, 2]), partition_by=["p"])
    table.overwrite(rows(p=[value], n=[3]), only={"p": value})
    assert {row["p"]: row["n"] for row in content(table)} == (
        {value: 3, "other": 2} if value != "other" else {"other": 3}
    )


def test_rows_outside_the_partition_are_refused(lake: Lake) -> None:
    table = lake.table("curated.flights")
    table.overwrite(rows(month=[1, 2], id=[1, 2]), partition_by=["month"])
    with pytest.raises(DataError, match=r"2 of 3 rows are not of the partition month = 2"):
        table.overwrite(rows(month=[2, 3, None], id=[1, 2, 3]), only={"month": 2})
    assert table.version() == 0


def test_bad_partitions_are_refused_by_name(folder: Lake) -> None:
    table = folder.table("curated.flights")
    table.overwrite(rows(month=[1], id=[1]), partition_by=["month"])
    bad = rows(month=[1], id=[2])
    for arguments, error, message in (
        ({"only": {"id": 1}}, UnknownNameError, "unknown partition column of curated.flights 'id'"),
        ({"only": {}}, UsageError, "only names no partition"),
        ({"only": {"month": "May"}}, UsageError, "'May' is no int64"),
        ({"only": {"month": 1}, "partition_by": ["id"]}, UsageError, "is partitioned by month, not by id"),
        ({"partition_by": ["year"]}, ColumnContractError, "no column year to partition by"),
        ({"partition_by": ["month", "id"]}, ColumnContractError, "every column is a partition column"),
    ):
        with pytest.raises(error, match=message):
            table.overwrite(bad, **arguments)
    text = folder.table("curated.text")
    with pytest.raises(DataError, match="1 of 2 rows have empty text in the partition column 'p'"):
        text.overwrite(rows(p=["", "a"], n=[1, 2]), partition_by=["p"])
    assert not text.exists()
    assert table.version() == 0


def test_overwrite_keeps_the_partitioning_unless_told(folder: Lake) -> None:
    table = folder.table("curated.flights")
    table.overwrite(rows(month=[1, 2], day=[1, 2], id=[1, 2]), partition_by=["month"])
    table.overwrite(rows(month=[3], day=[1], id=[3]))
    assert all(name.startswith("month=3/") for name in files(table))
    table.overwrite(rows(month=[3], day=[1], id=[3]), partition_by=["day"])
    assert all(name.startswith("day=1/") for name in files(table))


# metadata


def test_metadata_belongs_to_its_version(lake: Lake) -> None:
    table = lake.table("curated.plane")
    for n in range(3):
        table.overwrite(rows(n=[n]), metadata={"view": f"digest {n}", "é": '"'})
    table.append(rows(n=[9]))
    assert [table.metadata(v) for v in range(4)] == [{"view": f"digest {n}", "é": '"'} for n in range(3)] + [{}]
    assert table.metadata() == {}
    table.overwrite(rows(n=[1]), metadata={"view": "x"})
    assert table.metadata() == {"view": "x"}


# merge


def test_merge_updates_by_key_and_adds_the_rest(lake: Lake) -> None:
    table = lake.table("raw.orders")
    assert table.merge(rows(id=[1, 2], day=[1, 1], price=[10.0, 20.0]), key=["id", "day"]) == 0
    changes = rows(price=[21.0, 30.0, None], id=[2, 2, 3], day=[1, 2, 1])
    assert table.merge(changes, key=["id", "day"]) == 1
    expected = [(1, 1, 10.0), (2, 1, 21.0), (2, 2, 30.0), (3, 1, None)]
    assert [tuple(row.values()) for row in content(table, "id", "day")] == expected
    assert table.merge(changes, key=["id", "day"]) == 2
    assert [tuple(row.values()) for row in content(table, "id", "day")] == expected


def test_merge_by_columns_with_odd_names(folder: Lake) -> None:
    table = folder.table("raw.orders")
    key = ["Flight Id", 'we"ird']
    table.merge(pa.table({"Flight Id": ["it's"], 'we"ird': [1], "v": [1]}), key=key)
    table.merge(pa.table({"Flight Id": ["it's", "x"], 'we"ird': [1, 1], "v": [2, 3]}), key=key)
    assert content(table, "v") == [{"Flight Id": "it's", 'we"ird': 1, "v": 2}, {"Flight Id": "x", 'we"ird': 1, "v": 3}]


def test_duplicate_or_null_keys_are_refused_with_counts(lake: Lake) -> None:
    table = lake.table("raw.orders")
    for _ in range(2):  # of a new table, and of one that is there
        version = table.version() if table.exists() else None
        with pytest.raises(DataError, match=r"2 keys stand more than once .* in 5 of 6 rows, such as \{'id': 1\}"):
            table.merge(rows(id=[1, 1, 2, 3, 3, 3], v=range(6)), key=["id"])
        with pytest.raises(DataError, match=r"the key is null .*: id in 2 of 3 rows"):
            table.merge(rows(id=[1, None, None], v=range(3)), key=["id"])
        with pytest.raises(UnknownNameError, match=r"key column of raw\.orders 'no'"):
            table.merge(rows(id=[1], v=[1]), key=["no"])
        assert (table.version() if table.exists() else None) == version
        table.append(rows(id=[1], v=[1]))


def test_merge_takes_a_reader(folder: Lake) -> None:
    table = folder.table("raw.orders")
    table.append(rows(id=[1], v=[1]))
    batches = iter([pa.record_batch({"id": [1], "v": [2]}), pa.record_batch({"id": [2], "v": [2]})])
    table.merge(pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64(), "v": pa.int64()}), batches), key=["id"])
    assert content(table) == [{"id": 1, "v": 2}, {"id": 2, "v": 2}]


# types


TYPES = {
    "u8": (pa.array([255, None], pa.uint8()), pa.int16()),
    "u16": (pa.array([65535, None], pa.uint16()), pa.int32()),
    "u32": (pa.array([4294967295, None], pa.uint32()), pa.int64()),
    "u64": (pa.array([2**62, None], pa.uint64()), pa.int64()),
    "half": (pa.array([1.5, None], pa.float16()), pa.float32()),
    "category": (pa.array(["a", None]).dictionary_encode(), pa.string()),
    "large": (pa.array(["a", None], pa.large_string()), pa.string()),
    "view": (pa.array(["a", None], pa.string_view()), pa.string()),
    "bytes": (pa.array([b"ab", None], pa.binary(2)), pa.binary()),
    "money": (pa.array([1, None], pa.decimal128(10, 2)), pa.decimal128(10, 2)),
    "day": (pa.array([86_400_000, None], pa.date64()), pa.date32()),
    "seconds": (pa.array([60, None], pa.timestamp("s")), UTC),
    "nano": (pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")), UTC),
    "zoned": (pa.array([1_700_000_000_123, None], pa.timestamp("ms", tz="America/Toronto")), UTC),
    "list": (pa.array([[1], None], pa.large_list(pa.uint8())), pa.list_(pa.int16())),
    "struct": (pa.array([{"a": 1}, None], pa.struct({"a": pa.uint8()})), pa.struct({"a": pa.int16()})),
    "map": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.uint8())), pa.map_(pa.string(), pa.int16())),
}


@pytest.mark.parametrize("name", TYPES)
def test_arrow_types_that_delta_lacks_are_stored_as_the_next_that_holds_them(folder: Lake, name: str) -> None:
    column, kind = TYPES[name]
    table = folder.table(f"raw.{name}")
    data = pa.table({"x": column})
    table.append(data)
    table.append(data)
    assert table.schema().field("x").type == kind
    expected = column.cast(kind, safe=False).to_pylist() if name != "struct" else column.to_pylist()
    assert table.read()["x"].to_pylist() == expected * 2


@pytest.mark.parametrize(
    "column",
    [pa.array([1], pa.time64("us")), pa.array([1], pa.duration("s")), pa.nulls(1)],
    ids=["time", "span", "null"],
)
def test_what_delta_cannot_hold_is_refused_by_name(folder: Lake, column: pa.Array) -> None:
    with pytest.raises(ColumnContractError, match="cannot hold 'x' is") as caught:
        folder.table("raw.x").append(pa.table({"a": [1], "x": column}))
    assert str(column.type) in str(caught.value)
    assert "cast" in caught.value.hint


def test_values_beyond_the_stored_type_are_refused(folder: Lake) -> None:
    for column in (pa.array([2**63], pa.uint64()), pa.array([2**62], pa.timestamp("s"))):
        with pytest.raises(ColumnContractError, match=r"column 'x' .* cannot be stored as"):
            folder.table("raw.x").append(pa.table({"x": column}))


def test_column_names_that_spark_cannot_tell_apart_are_refused(folder: Lake) -> None:
    for names in (["a", "A"], ["a", "a"]):
        with pytest.raises(ColumnContractError, match="differ in case only"):
            folder.table("raw.x").append(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names))
    with pytest.raises(ColumnContractError, match="no columns"):
        folder.table("raw.x").append(pa.table({}))


# reading


def test_duckdb_reads_only_what_it_needs(lake: Lake) -> None:
    table = lake.table("curated.flights")
    table.overwrite(rows(month=[1, 1, 2], delay=[5, 7, 9]), partition_by=["month"])
    flights = table.dataset()  # noqa: F841
    assert duckdb.sql("select month, sum(delay) from flights where month = 1 group by 1").fetchall() == [(1, 12)]


def test_read_of_an_unknown_column_names_the_closest(folder: Lake) -> None:
    table = folder.table("raw.flights")
    table.append(rows(delay=[1], id=[1]))
    assert table.read(["id"]).column_names == ["id"]
    with pytest.raises(UnknownNameError, match="'dealy'") as caught:
        table.read(["dealy"])
    assert "did you mean 'delay'?" in caught.value.hint


# pinned versions


def test_a_pinned_version_has_the_same_digest_however_often_it_is_opened(lake: Lake) -> None:
    table = lake.table("curated.flights")
    table.overwrite(rows(month=[1, 2, 2], id=[1, 2, 3]), partition_by=["month"])
    first = table.pinned()
    assert (first.name, first.uri, first.version, first.rows) == ("curated.flights", table.uri, 0, 3)
    table.append(rows(month=[3], id=[4]))
    second = table.pinned()
    assert (second.version, second.rows) == (1, 4)
    assert second.digest != first.digest
    assert Lake(lake.uri, lake._location.options).table("curated.flights").pinned(0) == first


def test_a_copy_of_a_table_elsewhere_has_the_same_digest(lake: Lake, tmp_path: Path) -> None:
    table = lake.table("curated.flights")
    table.overwrite(rows(p=["a b", None, "é"], d=[date(2013, 1, 1)] * 3, id=[1, 2, 3]), partition_by=["p", "d"])
    table.append(rows(p=["c"], d=[None], id=[4]).cast(table.schema()))
    copy = tmp_path / "copy/curated/renamed"
    pyarrow.fs.copy_files(
        "",
        str(copy),
        source_filesystem=table.location.filesystem(),
        destination_filesystem=pyarrow.fs.LocalFileSystem(),
    )
    other = Lake(str(tmp_path / "copy")).table("curated.renamed")
    for version in (0, 1):
        assert other.pinned(version).digest == table.pinned(version).digest
    assert other.read().num_rows == 4


def test_the_digest_tells_columns_and_partitions_apart(folder: Lake) -> None:
    table = folder.table("curated.x")
    digests = set()
    for data, by in ((rows(a=[1], b=[1]), ()), (rows(a=[1], b=[1.0]), ()), (rows(a=[1], b=[1.0]), ("a",))):
        table.overwrite(data.slice(0, 0), partition_by=by)
        digests.add(table.pinned().digest)
    assert len(digests) == 3
    assert table.pinned().rows == 0


def test_the_digest_survives_a_checkpoint(folder: Lake) -> None:
    table = folder.table("curated.x")
    for n in range(3):
        table.append(rows(month=[n], id=[n]))
    before = table.pinned()
    DeltaTable(table.uri).create_checkpoint()
    assert table.pinned() == before


def test_a_lost_data_file_is_a_clear_error(folder: Lake) -> None:
    table = folder.table("raw.x")
    table.append(rows(id=[1]))
    for file in Path(table.uri).glob("*.parquet"):
        file.unlink()
    with pytest.raises(StkMlError, match=r"cannot read raw\.x"):
        table.read()
    shutil.rmtree(table.uri)
    assert not table.exists()
