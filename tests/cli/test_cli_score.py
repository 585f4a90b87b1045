"""``stk-ml score``: a model of a folder or of the registry, scores in a file or on standard output."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from stk_ml import contracts
from stk_ml.artifact.model import TrainedModel
from stk_ml.cli.app import main
from stk_ml.contracts import Column, Dataset, Snapshot
from stk_ml.model_spec import DataSpec, LearnerSpec, ModelSpec, SplitSpec
from stk_ml.training.fit import fit

COLUMNS = (Column("id", "integer", "entity"), Column("km", "number"), Column("mode", "category"))
SPEC = ModelSpec(
    name="late",
    problem="binary",
    data=DataSpec("late", table="t.parquet", entity=("id",)),
    split=SplitSpec(),
    learner=LearnerSpec(params={"num_leaves": 4, "n_estimators": 5}, threads=1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, data = np.random.default_rng(0), tmp_path_factory.mktemp("score")
    km, mode = rng.gamma(2, 100, 600), rng.choice(["air", "road"], 600)
    late = (km + rng.normal(0, 50, 600) > 200).astype(np.int64)
    pq.write_table(pa.table({"id": np.arange(600), "km": km, "mode": mode, "late": late}), data / "data.parquet")
    digest = hashlib.sha256((data / "data.parquet").read_bytes()).hexdigest()
    columns = (*COLUMNS, Column("late", "integer", "label"))
    contracts.write(Dataset(columns, 600, digest, Snapshot(())), data / "dataset.json")
    fit(SPEC, data, data / "model")
    return data / "model"


@pytest.fixture
def parcels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day.csv").write_text("id,km,mode\n1,10,air\n2,900,road\n3,,sea\n")
    return tmp_path / "day.csv"


def test_a_folder_is_scored_without_mlflow(folder: Path, parcels: Path) -> None:
    script = f"""
import sys
from stk_ml.cli.app import main
code = main(["score", {str(folder)!r}, "day.csv"])
assert "mlflow" not in sys.modules
raise SystemExit(code)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.startswith("3 rows in ")
    assert result.stdout.endswith(", to day-scored.csv; unseen categories: mode 1\n")
    written = pa.csv.read_csv("day-scored.csv")
    records = [{"km": 10, "mode": "air"}, {"km": 900, "mode": "road"}, {"km": None, "mode": "sea"}]
    np.testing.assert_array_equal(written.column("score").to_numpy(), TrainedModel.load(folder).predict(records))
    assert written.column_names == ["id", "score"]


def test_standard_output_holds_csv_and_nothing_else(folder: Path, parcels: Path) -> None:
    command = [sys.executable, "-m", "stk_ml", "score", str(folder), "day.csv", "--out", "-", "--keep", "mode", "id"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == '"mode","id","score"'
    assert [line.split(",")[:2] for line in lines[1:]] == [['"air"', '"1"'], ['"road"', '"2"'], ['"sea"', '"3"']]
    assert result.stderr.startswith("3 rows in ")
    assert ", to standard output" in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path, parcels: Path) -> None:
    parcels.write_text("id,km,mode\n" + "1,10,air\n" * 50_000)
    command = [sys.executable, "-m", "stk_ml", "score", str(folder), "day.csv", "--out", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_json(folder: Path, parcels: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(folder), "day.csv", "--out", "o.parquet", "--explain", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {name: found[name] for name in ("model", "rows", "unseen", "out")} == {
        "model": "late",
        "rows": 3,
        "unseen": {"mode": 1},
        "out": "o.parquet",
    }
    assert found["columns"] == ["id", "score", "contribution.km", "contribution.mode", "contribution_expected"]
    assert found["digest"] == TrainedModel.load(folder).digest
    assert found["rows_per_second"] > 0
    assert 0 < found["mean_score"] < 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere/model", "day.csv"], 1, "nowhere/model is not a model artifact"),
        (["FOLDER", "none.csv"], 2, "there is no file none.csv"),
        (["FOLDER", "day.csv", "--keep", "kms"], 2, "unknown column of day.csv 'kms'"),
        (["FOLDER", "day.csv", "--keep", "km", "--all-columns"], 2, "not allowed with argument"),
        (["FOLDER", "day.csv", "--unseen", "error"], 1, "day.csv, row 3: column 'mode' holds 1 of 3 values not seen"),
        (["FOLDER", "day.csv", "--batch-rows", "0"], 2, "a batch of 0 rows"),
        (["FOLDER", "day.csv", "--out", "day.csv"], 2, "day.csv is the file to score"),
        (["FOLDER", "day.csv", "--score-column", "id"], 2, "has a column 'id' of its own"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(
    words: list[str], code: int, message: str, folder: Path, parcels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", *(str(folder) if word == "FOLDER" else word for word in words)]) == code
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[0]
    assert len(lines) <= 2
    assert parcels.exists()
    assert not parcels.with_name("day-scored.csv").exists()


def test_a_terminal_sees_the_progress(folder: Path, parcels: Path) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "stk_ml", "score", str(folder), "day.csv"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, env={**os.environ, "TERM": "xterm"})
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert result.returncode == 0
    assert "day.csv" in shown
    assert "3 rows" in shown
    assert "rows/s" in shown


@pytest.mark.slow
def test_a_registered_model_by_name_alias_and_version(folder: Path, parcels: Path) -> None:
    from stk_ml.workspace import Workspace

    (parcels.parent / "stk.toml").write_text('[profile.laptop]\nlake = "lake"\n')
    registry = Workspace(parcels.parent).registry
    registry.promote("late", registry.register(SPEC, folder).version)
    for reference in ("late", "late@champion", "late:1"):
        assert main(["score", reference, "day.csv", "--out", f"o{reference[4:]}.csv"]) == 0
    scores = {Path(f"o{end}.csv").read_text() for end in ("", "@champion", ":1")}
    assert len(scores) == 1
    assert main(["score", "late:2", "day.csv"]) == 2
