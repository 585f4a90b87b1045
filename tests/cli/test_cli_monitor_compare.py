"""``stk-ml monitor compare``: two files, no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from stk_ml.cli.app import invoke

LABELLED = ("--target", "late", "--prediction", "pred")


def days(seed: int, count: int, *, shift: float = 0.0, wrong: bool = False) -> pa.Table:
    rng, rows = np.random.default_rng(seed), 200 * count
    km = rng.normal(shift, 1, rows)
    late = (rng.random(rows) < 1 / (1 + np.exp(-km))) != wrong
    day = np.datetime64("2024-01-01", "us") + np.repeat(np.arange(count), 200).astype("timedelta64[D]")
    pred = 1 / (1 + np.exp(-km))
    return pa.table({"km": km, "kg": rng.normal(0, 1, rows), "pred": pred, "late": late.astype(int), "day": day})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("compare")
    (made / "stk.toml").write_text('[project]\nname = "x"\n[profile.laptop]\n')
    tables = {"then": days(0, 30), "same": days(1, 8), "moved": days(2, 8, shift=1.0), "wrong": days(3, 8, wrong=True)}
    for name, table in tables.items():
        pq.write_table(table, made / f"{name}.parquet")
        csv.write_csv(table, made / f"{name}.csv")
    return made


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def compare(*arguments: str) -> int:
    return invoke(["monitor", "compare", *arguments], {}, Path.cwd())


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capfd.readouterr()
    assert compare(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_moved_column_is_drift_and_the_others_are_not(capfd: pytest.CaptureFixture[str], kind: str) -> None:
    found = told(capfd, f"then.{kind}", f"moved.{kind}", *LABELLED, "--time", "day")
    answers = {column["name"]: column["verdict"] for column in found["columns"]}
    assert found["verdict"] == answers["km"] == answers["pred"] == "drift"
    assert answers["kg"] != "drift"
    assert [column["kind"] for column in found["columns"]] == ["number", "number", "score"]


@pytest.mark.parametrize("name", ["then.parquet", "then.csv"])
def test_a_file_is_no_drift_against_itself(capfd: pytest.CaptureFixture[str], name: str) -> None:
    assert told(capfd, name, name)["verdict"] != "drift"


def test_drift_fails_only_when_asked() -> None:
    assert compare("then.parquet", "moved.parquet") == 0
    assert compare("then.parquet", "moved.parquet", "--fail-on-drift") == 3
    assert compare("then.parquet", "same.parquet", "--fail-on-drift") == 0


def test_a_worse_model_is_drift_and_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert compare("then.parquet", "wrong.parquet", *LABELLED, "--time", "day", "--fail-on-drift") == 3
    shown = capfd.readouterr().out
    assert shown.lower().startswith("drift: auc is 0.2")
    [line] = [line for line in shown.splitlines() if line.strip().startswith("AUC")]
    assert line.split()[1] == "worse"


def test_people_see_columns_what_is_left_out_and_the_report(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    assert compare("then.parquet", "moved.parquet", "--prediction", "pred", "--time", "day", "--out", str(report)) == 0
    shown = capfd.readouterr().out
    assert shown.startswith("drift: Moved: ")
    assert f"report    {report}" in shown
    page = report.read_text("utf-8")
    assert "km" in page
    assert "pred" in page


def test_one_column_never_ends_the_comparison(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = {
        "whole": [f"{k % 17},{k % 5}" for k in range(3000)],
        "holes": [f"{k % 17 if k % 20 else 'N/A'},{k % 5}" for k in range(3000)],
        "empty": [f",{k % 5}" for k in range(3000)],
        "comma": [f'"{k % 17},5",{k % 5}' for k in range(3000)],
    }
    for name, rows in lines.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b", *rows]))
    for then, now in (
        ("whole", "holes"),
        ("holes", "whole"),
        ("whole", "empty"),
        ("empty", "whole"),
        ("whole", "comma"),
    ):
        found = told(capfd, str(tmp_path / f"{then}.csv"), str(tmp_path / f"{now}.csv"))
        answers = [(column["name"], column["verdict"]) for column in found["columns"]]
        assert (found["verdict"], answers) == ("drift", [("a", "drift"), ("b", "stable")])
        assert found["columns"][0]["aspect"] == "missing"


def test_names_twice_and_other_encodings_are_told(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1, 2])] * 2, ["a", "a"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    assert compare(str(tmp_path / "twice.parquet"), "then.parquet") == 2
    assert "column 'a' is there 2 times" in capfd.readouterr().err
    (tmp_path / "latin.csv").write_bytes("größe,b\n1,2\n3,4\n".encode("latin-1"))
    assert compare(str(tmp_path / "latin.csv"), "then.csv") == 1
    said = capfd.readouterr().err
    assert "is not UTF-8: byte 0xf6 in line 1" in said
    assert "WINDOWS-1252" in said


@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_waiting_for_no_number_of_seconds_is_refused(capfd: pytest.CaptureFixture[str], seconds: str) -> None:
    assert invoke(["monitor", "run", "any", "--settle", seconds], {}, Path.cwd()) == 2
    assert f"--settle: {seconds} is no number of seconds" in capfd.readouterr().err
