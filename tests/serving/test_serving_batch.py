"""Batch scoring: every kind of file gives the model's scores, in order; mistakes are named; nothing half-written."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from late_parcels import FEATURES, train

from stk_ml.artifact.model import TrainedModel
from stk_ml.errors import ColumnContractError, DataError, StorageError, UnknownNameError, UsageError
from stk_ml.model_spec import LearnerSpec
from stk_ml.serving.batch import default_out, score_file


def listed(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def stream(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


def folder_of_parquet(table: pa.Table, folder: Path) -> None:
    (folder / "2024").mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    (folder / ".part-9.parquet").write_bytes(b"half")
    pq.write_table(table.slice(0, 123), folder / "2024" / "part-0.parquet")
    pq.write_table(table.slice(123), folder / "2024" / "part-1.parquet", row_group_size=50)


def packed(table: pa.Table, file: Path) -> None:
    plain = file.with_suffix("")
    pa.csv.write_csv(table, plain)
    file.write_bytes(gzip.compress(plain.read_bytes()))


def tabs(table: pa.Table, file: Path) -> None:
    pa.csv.write_csv(table, file, pa.csv.WriteOptions(delimiter="\t"))


def lines(table: pa.Table, file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + msgspec.json.Encoder().encode_lines(table.to_pylist()) + b"\n")


WRITERS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "p.csv": pa.csv.write_csv,
    "p.tsv": tabs,
    "p.csv.gz": packed,
    "p.parquet": pq.write_table,
    "p.PQ": pq.write_table,
    "p.feather": pa.feather.write_feather,
    "p.arrows": stream,
    "p.json": lambda table, file: file.write_bytes(msgspec.json.encode(table.to_pylist())),
    "p.jsonl": lines,
    "folder": folder_of_parquet,
}
READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".parquet": pq.read_table,
    ".csv": pa.csv.read_csv,
    ".jsonl": lambda file: pa.Table.from_pylist([json.loads(line) for line in file.read_text().splitlines()]),
}


@pytest.mark.parametrize("out", READERS)
@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_models_scores_in_the_order_of_its_rows(
    name: str, out: str, model: TrainedModel, table: pa.Table, tmp_path: Path
) -> None:
    WRITERS[name](table, tmp_path / name)
    result = score_file(model, tmp_path / name, tmp_path / f"scores{out}", batch_rows=64)
    written = READERS[out](tmp_path / f"scores{out}")
    np.testing.assert_array_equal(written.column("score").to_numpy(), model.predict(table))
    assert written.column_names == ["parcel", "as_of", "score"]
    assert written.column("parcel").to_pylist() == table.column("parcel").to_pylist()
    assert (result.rows, result.out, result.unseen) == (500, str(tmp_path / f"scores{out}"), {})
    assert result.mean_score == pytest.approx(model.predict(table).mean())


def test_text_that_looks_like_numbers_stays_text(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("id,km,weight,stops,express,mode,depot\n0042,1.50,NA,2,1.0,road,007\n0043,2,1e1,3,0,,42\n")
    score_file(model, file, tmp_path / "out.csv", keep=["id", "depot"])
    assert [line.split(",")[:2] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]] == [
        ['"0042"', '"007"'],
        ['"0043"', '"42"'],
    ]
    expected = model.predict(
        [
            {"km": 1.5, "weight": None, "stops": 2, "express": True, "mode": "road", "depot": "007"},
            {"km": 2, "weight": 10, "stops": 3, "express": False, "mode": None, "depot": "42"},
        ]
    )
    scores = pa.csv.read_csv(tmp_path / "out.csv").column("score").to_numpy()
    np.testing.assert_array_equal(scores, expected)


def test_columns_to_keep(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "p.parquet")
    score = [tmp_path / "p.parquet", tmp_path / "out.parquet"]
    assert score_file(model, *score).columns == ("parcel", "as_of", "score")
    assert score_file(model, *score, keep=["km", "parcel", "km"]).columns == ("km", "parcel", "score")
    everything = score_file(model, *score, all_columns=True, score_column="late")
    assert everything.columns == (*table.column_names, "late")
    assert pq.read_table(tmp_path / "out.parquet").drop_columns(["late"]).equals(table)
    with pytest.raises(UnknownNameError, match=r"unknown column of .*p\.parquet 'parcle'") as error:
        score_file(model, *score, keep=["parcle"])
    assert "did you mean 'parcel'" in error.value.hint


def test_a_file_with_a_score_of_its_own_is_refused(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table.append_column("score", table.column("km")), tmp_path / "p.parquet")
    with pytest.raises(UsageError, match="has a column 'score'") as error:
        score_file(model, tmp_path / "p.parquet", tmp_path / "out.csv")
    assert "--score-column" in error.value.hint
    assert score_file(model, tmp_path / "p.parquet", tmp_path / "out.csv", score_column="late").rows == 500
    assert score_file(model, tmp_path / "p.parquet", tmp_path / "out.csv", keep=["parcel"]).rows == 500


def test_contributions_add_up_to_the_log_odds(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "p.parquet")
    score_file(model, tmp_path / "p.parquet", tmp_path / "out.parquet", explain=True, keep=["parcel"], batch_rows=77)
    written = pq.read_table(tmp_path / "out.parquet")
    names = [*(f"contribution.{name}" for name in FEATURES), "contribution_expected"]
    assert written.column_names == ["parcel", "score", *names]
    raw = model.raw(table)
    total = np.sum([written.column(name).to_numpy() for name in names], axis=0)
    np.testing.assert_allclose(total, np.log(raw / (1 - raw)), rtol=1e-6)


def test_unseen_categories_are_counted_or_an_error(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    mode = pa.array(["sea" if n in (300, 301) else value for n, value in enumerate(table.column("mode").to_pylist())])
    pq.write_table(table.set_column(table.column_names.index("mode"), "mode", mode), tmp_path / "p.parquet")
    assert score_file(model, tmp_path / "p.parquet", tmp_path / "o.csv", batch_rows=64).unseen == {"mode": 2}
    with pytest.raises(ColumnContractError, match=r"p\.parquet, row 301: column 'mode' .*'sea'") as error:
        score_file(model, tmp_path / "p.parquet", tmp_path / "o2.csv", batch_rows=64, unseen="error")
    assert error.value.hint == "seen were air, rail, road"
    assert not (tmp_path / "o2.csv").exists()


def test_no_rows_give_a_whole_file_without_rows(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        if name != "p.jsonl":
            write(table.slice(0, 0), tmp_path / name)
            result = score_file(model, tmp_path / name, tmp_path / "o.parquet")
            assert (result.rows, result.mean_score, pq.read_table(tmp_path / "o.parquet").num_rows) == (0, None, 0)
    (tmp_path / "p.jsonl").write_text("\n")
    score_file(model, tmp_path / "p.jsonl", tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text() == '"score"\n'


GOOD = '{"km":1,"weight":2,"stops":3,"express":true,"mode":"air","depot":"42"}'
HEAD = "km,weight,stops,express,mode,depot\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "", "Empty CSV file"),
        ("p.csv", "km,weight\n1,2\n", "columns 'stops', 'express', 'mode', 'depot' are missing, of the 6"),
        ("p.csv", f"{HEAD}1,2,3,true,air,42\n1,far,3,true,air,42\n", "row 2, column 'weight': 'far' is no number"),
        ("p.csv", f"{HEAD}1,2,3,maybe,air,42\n", "row 1, column 'express': 'maybe' is no boolean"),
        ("p.csv", f"{HEAD}1,2,3,true,air\n", "Expected 6 columns, got 5"),
        ("p.csv", "km,km\n1,2\n", "two columns have the name 'km'"),
        ("p.csv", f"{HEAD}1,2,3,true,\xe9,42\n".encode("latin-1"), "column 'mode': invalid UTF8 data"),
        ("p.json", "{}", "Expected `array`"),
        ("p.json", "[1]", "Expected `object`"),
        ("p.json", f"[{GOOD}", "truncated"),
        ("p.json", f'[{GOOD[:-1]},"km":NaN}}]', "malformed"),
        ("p.jsonl", f"{GOOD}\n\n{GOOD[:-9]}\n", "line 3: "),
        ("p.jsonl", f"{GOOD}\n{GOOD.replace('1', 'null').replace('2', '[]', 1)}\n", "row 2: column 'weight'"),
        ("p.jsonl", f"{GOOD}\n" * 70 + GOOD.replace('"km":1', '"kms":1'), "row 71: column 'km' is missing"),
        ("p.jsonl", GOOD.replace('"km":1', f'"km":{"9" * 400}'), "row 1: "),
        ("p.parquet", b"PAR1 but no more", "Parquet"),
        ("p.arrow", b"ARROW1 but no more", "p.arrow"),
        ("p.csv.gz", b"not gzip", "p.csv.gz"),
        ("p.xlsx", b"", "its suffix does not say what it holds"),
        ("p", b"", "its suffix does not say what it holds"),
    ],
)
def test_what_is_wrong_is_told_on_one_line_and_nothing_is_written(
    name: str, content: str | bytes, message: str, model: TrainedModel, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((DataError, UsageError)) as error:
        score_file(model, tmp_path / name, tmp_path / "o.csv", batch_rows=64)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)
    assert listed(tmp_path) == [name]


def infinite(table: pa.Table, row: int) -> pa.Table:
    """The same parcels, one with an infinite weight."""
    weight = table.column("weight").to_pylist()
    weight[row] = float("-inf")
    return table.set_column(table.column_names.index("weight"), "weight", pa.array(weight, pa.float64()))


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.csv.gz", "p.parquet", "p.feather", "p.arrows", "folder"])
def test_an_infinite_number_is_refused_in_every_table(
    name: str, model: TrainedModel, table: pa.Table, tmp_path: Path
) -> None:
    source = tmp_path / name
    WRITERS[name](infinite(table, 321), source)
    before = listed(tmp_path)
    with pytest.raises(DataError, match=rf"{re.escape(name)}, row 322: column 'weight' holds -inf") as error:
        score_file(model, source, batch_rows=100)
    assert error.value.hint
    assert listed(tmp_path) == before


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e999"])
@pytest.mark.parametrize("column", ["km", "stops"])
def test_an_infinite_number_of_text_is_refused(column: str, value: str, model: TrainedModel, tmp_path: Path) -> None:
    record = {"km": "1", "weight": "", "stops": "2", "express": "true", "mode": "air", "depot": "001"}
    rows = [record, {**record, column: value}]
    text = "\n".join([",".join(record), *(",".join(row.values()) for row in rows)])
    (tmp_path / "p.csv").write_text(text + "\n")
    with pytest.raises(DataError, match=rf"p\.csv, row 2: column '{column}' holds -?inf, no finite number"):
        score_file(model, tmp_path / "p.csv")


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_an_infinite_number_of_json_is_refused(name: str, model: TrainedModel, tmp_path: Path) -> None:
    record = '{"km": KM, "weight": null, "stops": 1, "express": true, "mode": "air", "depot": "001"}'
    records = [record.replace("KM", "1"), record.replace("KM", "1e999")]
    (tmp_path / name).write_text("\n".join(records) if name == "p.jsonl" else f"[{','.join(records)}]")
    with pytest.raises(DataError, match=r"p\.jsonl?(, (row|line) 2)?: ") as error:
        score_file(model, tmp_path / name)
    assert error.value.hint
    assert listed(tmp_path) == [name]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_a_number_that_a_forest_cannot_take_is_named(table: pa.Table, tmp_path: Path) -> None:
    learner = LearnerSpec(
        estimator="sklearn.ensemble.RandomForestClassifier", params={"n_estimators": 3, "max_depth": 3}, threads=1
    )
    forest = TrainedModel.load(train(tmp_path / "forest", learner))
    weight = table.column("weight").to_pylist()
    weight[321] = 1e39
    place = table.column_names.index("weight")
    pq.write_table(table.set_column(place, "weight", pa.array(weight, pa.float64())), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"p\.parquet, rows 301 to 400: column 'weight' holds 1e\+39; the model cannot"):
        score_file(forest, tmp_path / "p.parquet", batch_rows=100)


def test_wrong_types_of_parquet_are_named(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    place = table.column_names.index("km")
    for wrong, message in ((pa.array(["far"] * 500), "'km' holds string"), (pa.array([[1]] * 500), "'km' holds list")):
        pq.write_table(table.set_column(place, "km", wrong), tmp_path / "p.parquet")
        with pytest.raises(ColumnContractError, match=message):
            score_file(model, tmp_path / "p.parquet", tmp_path / "o.csv")
    pq.write_table(
        table.set_column(place, "km", table.column("km").cast(pa.decimal128(20, 6), safe=False)), tmp_path / "p.parquet"
    )
    assert score_file(model, tmp_path / "p.parquet", tmp_path / "o.csv").rows == 500


def test_columns_that_change_or_that_csv_cannot_hold_are_named(model: TrainedModel, tmp_path: Path) -> None:
    good = json.loads(GOOD)
    file = tmp_path / "p.jsonl"

    def write(*extra: Any) -> None:
        file.write_text("\n".join(json.dumps({**good, "note": value}) for value in extra))

    write({"a": 1})
    with pytest.raises(DataError, match=r"column 'note' holds struct.*, which CSV cannot"):
        score_file(model, file, tmp_path / "o.csv")
    assert score_file(model, file, tmp_path / "o.parquet").rows == 1
    write(1, "one")
    with pytest.raises(DataError, match="column 'note' holds values of several types"):
        score_file(model, file, tmp_path / "o.csv")
    with pytest.raises(DataError, match="column 'note' is int64 in the first rows and string further down"):
        score_file(model, file, tmp_path / "o.csv", batch_rows=1)
    write(None, 7)
    score_file(model, file, tmp_path / "o.jsonl", batch_rows=1)
    assert [json.loads(line)["note"] for line in (tmp_path / "o.jsonl").read_text().splitlines()] == [None, "7"]


def test_values_that_json_has_no_words_for(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    rows = table.slice(0, 1)
    rows = rows.append_column("price", pa.array([Decimal("1.50")])).append_column("ratio", pa.array([float("nan")]))
    pq.write_table(rows, tmp_path / "p.parquet")
    score_file(model, tmp_path / "p.parquet", tmp_path / "o.jsonl")
    (line,) = (tmp_path / "o.jsonl").read_text().splitlines()
    assert '"price":1.50' in line
    assert '"ratio":null' in line
    assert '"as_of":"2024-01-0' in line


def test_a_folder_must_be_of_one_kind_and_not_partitioned(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no Parquet file"):
        score_file(model, tmp_path / "empty", tmp_path / "o.csv")
    pq.write_to_dataset(table, tmp_path / "by_mode", partition_cols=["mode"])
    with pytest.raises(UsageError, match="partitioned by 'mode'"):
        score_file(model, tmp_path / "by_mode", tmp_path / "o.csv")
    (tmp_path / "parts").mkdir()
    pq.write_table(table, tmp_path / "parts" / "a.parquet")
    pq.write_table(table.drop_columns(["km"]), tmp_path / "parts" / "b.parquet")
    with pytest.raises(ColumnContractError, match=r"b\.parquet: column 'km' is missing"):
        score_file(model, tmp_path / "parts", tmp_path / "o.csv")
    (tmp_path / "parts" / "_delta_log").mkdir()
    with pytest.raises(UsageError, match="is a Delta table"):
        score_file(model, tmp_path / "parts", tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("out", "message"), [("o.xlsx", "cannot write .xlsx"), ("o", "cannot write a file without suffix"), ("", "is the")]
)
def test_where_it_cannot_be_written(
    out: str, message: str, model: TrainedModel, table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "p.parquet")
    target = tmp_path / (out or "p.parquet")
    with pytest.raises(UsageError, match=message):
        score_file(model, tmp_path / "p.parquet", target)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        score_file(model, tmp_path / "p.parquet", tmp_path / "d.csv")
    with pytest.raises(StorageError, match="cannot be written"):
        score_file(model, tmp_path / "p.parquet", tmp_path / "p.parquet" / "o.csv")
    assert listed(tmp_path) == ["d.csv", "p.parquet"]


def test_a_full_disk_is_told_and_leaves_the_old_file(folder: Path, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(pa.concat_tables([table] * 20), tmp_path / "p.parquet")
    (tmp_path / "o.csv").write_text("old")
    script = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from stk_ml.cli.app import main
raise SystemExit(main(["score", {str(folder)!r}, "p.parquet", "--out", "o.csv"]))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert "o.csv cannot be written: " in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "o.csv").read_text() == "old"
    assert listed(tmp_path) == ["o.csv", "p.parquet"]


def test_a_killed_run_leaves_the_old_file(folder: Path, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "p.parquet")
    (tmp_path / "o.csv").write_text("old")
    script = f"""
import os, signal
from stk_ml.artifact.model import TrainedModel
from stk_ml.model_spec import LearnerSpec
from stk_ml.serving.batch import score_file
def die(rows, part):
    if rows >= 300:
        os.kill(os.getpid(), signal.SIGKILL)
score_file(TrainedModel.load({str(folder)!r}), {str(tmp_path / "p.parquet")!r}, {str(tmp_path / "o.csv")!r},
           batch_rows=100, progress=die)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL
    assert (tmp_path / "o.csv").read_text() == "old"
    assert [name for name in listed(tmp_path) if not name.startswith(".")] == ["o.csv", "p.parquet"]


def note(seen: list[tuple[int, float]], rows: int, part: float) -> None:
    seen.append((rows, part))


def test_progress_counts_rows_and_ends_at_the_whole(model: TrainedModel, table: pa.Table, tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(table, tmp_path / name)
        seen: list[tuple[int, float]] = []
        score_file(model, tmp_path / name, tmp_path / "o.csv", batch_rows=100, progress=partial(note, seen))
        rows, parts = zip(*seen, strict=True)
        assert rows[-1] == 500
        assert list(rows) == sorted(rows)
        assert list(parts) == sorted(parts)
        assert 0 <= parts[0] <= parts[-1] <= 1


def test_default_out_stands_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    assert default_out(tmp_path / "p.csv.gz") == tmp_path / "p-scored.csv"
    assert default_out(tmp_path / "p.v2.json") == tmp_path / "p.v2-scored.jsonl"
    assert default_out(tmp_path / "p.feather") == tmp_path / "p-scored.parquet"
    assert default_out(tmp_path / "day") == tmp_path / "day-scored.parquet"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(kind: str, folder: Path, table: pa.Table, tmp_path: Path) -> None:
    def peak(copies: int) -> int:
        file = tmp_path / f"{copies}.{kind}"
        WRITERS[f"p.{kind}"](pa.concat_tables([table] * copies), file)
        script = f"""
import resource
from stk_ml.artifact.model import TrainedModel
from stk_ml.model_spec import LearnerSpec
from stk_ml.serving.batch import score_file
result = score_file(TrainedModel.load({str(folder)!r}, threads=1), {str(file)!r}, batch_rows=20_000)
assert result.rows == {500 * copies}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return int(found.stdout)

    small, large = peak(200), peak(2000)
    assert large < small + 100_000, f"{small} kB for 100,000 rows, {large} kB for 1,000,000"
