"""``stk-ml train --table``: no file at all, and what a user does next."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stk_command import Run, answer

from stk_ml import Workspace, load_model, train
from stk_ml.errors import ColumnContractError, DataError, IntegrityError, UnknownNameError

_ALWAYS = {"snapshot", "champion", "build", "register"}
TABLE = ("train", "--table", "shop.csv", "--target", "late", "--time", "day")


def test_a_csv_becomes_a_registered_champion_and_is_not_trained_twice(shop: Path, stk: Run) -> None:
    first = answer(stk(*TABLE, "--json"))
    assert (first["model"], first["version"], first["aliases"]) == ("shop-late", 1, ["champion"])
    assert first["verdict"]["outcome"] == "first"
    test = next(m for m in first["metrics"] if (m["split"], m["group"]) == ("test", "all"))
    auc = test["values"]["auc"]
    assert 0.7 < auc["low"] < auc["value"] < auc["high"] < 0.95
    assert any(m["group"].startswith("month=2024-") for m in first["metrics"])
    assert "<html" in Path(first["card"]).read_text()

    again = answer(stk("train", "shop-late", "--json"))
    assert (again["version"], again["digest"]) == (1, first["digest"])
    assert {name for name, step in again["steps"].items() if step["status"] == "ran"} == {
        "snapshot",
        "champion",
        "build",
        "register",
    }
    assert again["verdict"]["outcome"] == "same"
    third = answer(stk("train", "shop-late", "--json"))
    assert {name for name, step in third["steps"].items() if step["status"] == "ran"} == _ALWAYS

    assert "cached" in stk("why", "fit").stdout
    assert [v["version"] for v in answer(stk("models", "list", "--json"))] == [1]
    assert "test.auc" in stk("models", "show", "shop-late").stdout
    assert "shop-late:1" in stk("models", "show", "shop-late@champion").stdout


def test_people_get_a_table_a_verdict_and_where_to_look(shop: Path, stk: Run) -> None:
    shown = stk(*TABLE).stdout
    for expected in (
        "auc",
        "2024-",
        "promoted (first)",
        "shop-late:1",
        "card.html",
        "mlflow ui --backend-store-uri sqlite:///",
    ):
        assert expected in shown
    assert "the split is random" not in shown
    assert "only the test rows are new to it" in shown


def test_without_a_time_the_output_says_why_that_flatters(shop: Path, stk: Run) -> None:
    shown = stk("train", "--table", "shop.csv", "--target", "late").stdout
    assert "the split is random" in shown
    assert "flatter" in shown


def test_regression_on_a_parquet_file(shop: Path, stk: Run) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.csv.read_csv(shop / "shop.csv").drop(["late"]), shop / "shop.parquet")
    result = answer(stk("train", "--table", "shop.parquet", "--target", "hours", "--time", "day", "--json"))
    test = next(m for m in result["metrics"] if (m["split"], m["group"]) == ("test", "all"))
    assert test["values"]["mae"]["value"] < 1.5


def test_a_lake_table_trains_and_new_rows_are_noticed(shop: Path, stk: Run) -> None:
    import pyarrow.csv

    rows = pyarrow.csv.read_csv(shop / "shop.csv")
    table = Workspace(shop).lake.table("curated.shop")
    table.overwrite(rows.slice(0, 2500))
    first = answer(stk("train", "--table", "curated.shop", "--target", "late", "--time", "day", "--json"))
    table.append(rows.slice(2500))
    second = answer(stk("train", "shop-late", "--json"))
    assert second["version"] == 2
    assert second["digest"] != first["digest"]
    assert second["verdict"]["outcome"] in ("better", "worse", "cannot_tell")
    assert "snapshot" in stk("why", "pull").stdout or "input" in stk("why", "pull").stdout


def test_python_users_can_do_it_too(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    training = train(table="shop.csv", target="late", time="day")
    assert training.registration.version.version == 1
    model = load_model("shop-late@champion")
    rows = [
        {"distance": 850.0, "carrier": "west", "weight": None, "hours": 20.0},
        {"distance": 5.0, "carrier": "north", "weight": 2.0, "hours": 6.0},
    ]
    far, near = model.predict(rows)
    assert 0 <= near < far <= 1

    unseen = [{"distance": 5.0, "carrier": "pigeon", "weight": 2.0, "hours": 6.0}]
    assert 0 <= model.predict(unseen)[0] <= 1
    with pytest.raises(ColumnContractError, match=r"carrier.*pigeon"):
        model.predict(unseen, unseen="error")
    with pytest.raises(UnknownNameError, match="shop-lat"):
        load_model("shop-lat")


def test_one_changed_byte_in_the_store_and_the_model_is_refused(shop: Path, stk: Run) -> None:
    stk(*TABLE)
    folder = Workspace(shop).registry.download("shop-late")
    booster = next(folder.glob("booster.txt"))
    content = bytearray(booster.read_bytes())
    content[len(content) // 2] ^= 1
    booster.chmod(0o644)
    booster.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"booster\.txt"):
        Workspace(shop).load_model("shop-late")


def test_two_trainings_at_once_on_one_store_and_lake(shop: Path, stk: Run) -> None:
    command = [sys.executable, "-m", "stk_ml", "train", "--table", "shop.csv", "--time", "day", "--json", "--target"]
    both = [
        subprocess.Popen([*command, target], cwd=shop, stdout=-1, stderr=-1, text=True) for target in ("late", "hours")
    ]
    results = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert {v["name"] for v in answer(stk("models", "list", "--json"))} == {"shop-late", "shop-hours"}


def test_two_trainings_of_one_model_at_once_make_one_version(shop: Path, stk: Run) -> None:
    command = [sys.executable, "-m", "stk_ml", *TABLE, "--json"]
    both = [subprocess.Popen(command, cwd=shop, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    results = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert [v["version"] for v in answer(stk("models", "list", "--json"))] == [1]


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_killed_training_leaves_nothing_half_done_and_goes_on(shop: Path, stk: Run, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "stk_ml", *TABLE], cwd=shop, stdout=-1, stderr=-1, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list((shop / ".stk").rglob("dataset.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, stop)
    process.communicate(timeout=60)
    assert process.returncode != 0
    result = answer(stk(*TABLE, "--json"))
    assert (result["version"], result["verdict"]["outcome"]) == (1, "first")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("day,x,late\n2024-01-01,1,1\n2024-01-02,2,1\n", "only the value '1'"),
        ("day,x,late\n2024-01-01,1,\n2024-01-02,2,\n", "no values"),
        ("day,x,late\n2024-01-01,1,red\n2024-01-02,2,blue\n2024-01-02,2,green\n", "3 values of type VARCHAR"),
    ],
    ids=["one class", "all null", "three classes"],
)
def test_a_target_that_cannot_be_learned(rows: str, message: str, project: Path, stk: Run) -> None:
    (project / "bad.csv").write_text(rows)
    assert message in stk("train", "--table", "bad.csv", "--target", "late", "--time", "day", code=1).stderr


def test_missing_column_and_missing_file_name_the_closest(shop: Path, stk: Run) -> None:
    error = stk("train", "--table", "shop.csv", "--target", "lat", code=2).stderr
    assert "unknown column of shop.csv 'lat'" in error
    assert "did you mean 'late'?" in error
    assert "did you mean 'shop.csv'?" in stk("train", "--table", "shp.csv", "--target", "late", code=2).stderr
    assert "curated.nothing" in stk("train", "--table", "curated.nothing", "--target", "late", code=2).stderr


def test_a_failing_step_shows_its_own_error_on_one_line(shop: Path, stk: Run) -> None:
    text = (shop / "shop.csv").read_text().replace(",north,", ",north,").splitlines()
    (shop / "shop.csv").write_text("\n".join([*text, *text[1:200]]) + "\n")
    folder = shop / "pipelines" / "models"
    folder.mkdir(parents=True)
    (folder / "orders.yml").write_text(
        "name: orders\nproblem: binary\ndata:\n  table: shop.csv\n  entity: [distance]\n  as_of: day\n  target: late\n"
    )
    error = stk("train", "orders", code=1).stderr
    assert "duplicate" in error
    assert "distance" in error
    assert "Traceback" not in error
    with pytest.raises(DataError):
        raise DataError(error)


def test_a_model_file_with_a_mistake_is_told_with_its_line(shop: Path, stk: Run) -> None:
    (shop / "m.yml").write_text("name: m\nproblem: binary\ndata:\n  table: shop.csv\n  tarjet: late\n")
    error = stk("train", "m.yml", code=2).stderr
    assert "m.yml:5: unknown key 'tarjet' in data" in error
    assert "did you mean 'target'?" in error


def test_column_names_that_only_people_like(project: Path, stk: Run) -> None:
    rows = ['Day Of,"Ünï ""x"" {1}",it\'s [a:b],Y val']
    rows += [
        f"2024-{1 + n // 250:02}-{1 + n % 25:02},{n * 37 % 101},{'abc'[n % 3]},{int(n * 37 % 101 > 50)}"
        for n in range(1000)
    ]
    rows = [row[:-1] + ("0" if n % 9 == 0 else row[-1]) if n else row for n, row in enumerate(rows)]
    (project / "odd.csv").write_text("\n".join(rows), "utf-8")
    result = answer(stk("train", "--table", "odd.csv", "--target", "Y val", "--time", "Day Of", "--json"))
    assert (result["model"], result["verdict"]["outcome"]) == ("odd-y-val", "first")
    assert "Ünï" in Path(result["card"]).read_text("utf-8")


def test_a_first_model_no_better_than_chance_is_not_promoted(project: Path, stk: Run) -> None:
    draw = random.Random(3)
    rows = [f"{draw.random()},{int(draw.random() < 0.5)}" for _ in range(600)]
    (project / "noise.csv").write_text("\n".join(["x,y", *rows]))
    (project / "noise.yml").write_text(
        "name: noise\nproblem: binary\ndata: {table: noise.csv, target: y}\ngate: {floor: 0.7}\n"
    )
    result = answer(stk("train", "noise.yml", "--json"))
    assert (result["verdict"]["outcome"], result["verdict"]["promote"]) == ("refused", False)
    assert result["aliases"] == ["challenger"]


def test_a_learner_of_ones_own_is_trained_again_when_its_code_changes(shop: Path, stk: Run) -> None:
    stk("init", "mine")
    mine = shop / "mine"
    (mine / "pipelines/learners/forest.py").write_text(
        "from sklearn.ensemble import RandomForestClassifier\n\n\n"
        "def build(**params):\n    return RandomForestClassifier(n_estimators=20, random_state=1, **params)\n"
    )
    (mine / "m.yml").write_text(
        f"name: forest\nproblem: binary\ndata: {{table: {shop}/shop.csv, target: late, as_of: day}}\n"
        "learner: {estimator: 'forest:build', params: {max_depth: 4}}\n"
    )
    first = answer(stk("train", "mine/m.yml", "--project", "mine", "--json"))
    assert first["verdict"]["outcome"] == "first"
    code = mine / "pipelines/learners/forest.py"
    code.write_text(code.read_text().replace("=20", "=30"))
    second = answer(stk("train", "mine/m.yml", "--project", "mine", "--json"))
    assert second["steps"]["pull"]["status"] == "cached"
    assert second["steps"]["fit"]["status"] == "ran"
    assert "forest.py" in stk("why", "fit", "--project", "mine").stdout


def test_a_person_who_overrides_the_gate_says_why(project: Path, stk: Run) -> None:
    draw = random.Random(3)
    rows = [f"{draw.random()},{int(draw.random() < 0.5)}" for _ in range(600)]
    (project / "noise.csv").write_text("\n".join(["x,y", *rows]))
    (project / "noise.yml").write_text(
        "name: noise\nproblem: binary\ndata: {table: noise.csv, target: y}\ngate: {floor: 0.7}\n"
    )
    stk("train", "noise.yml")
    assert "the gate did not promote noise:1 (refused)" in stk("models", "promote", "noise:1", code=2).stderr
    stk("models", "promote", "noise:1", "--why", "a demonstration")
    assert answer(stk("models", "list", "--json"))[0]["aliases"] == ["champion"]


def test_a_removed_store_and_another_store_get_their_registration(shop: Path, stk: Run) -> None:
    first = answer(stk(*TABLE, "--json"))
    (shop / ".stk" / "mlflow.db").unlink()
    again = answer(stk("train", "shop-late", "--json"))
    assert (again["version"], again["digest"]) == (1, first["digest"])
    assert [v["name"] for v in answer(stk("models", "list", "--json"))] == ["shop-late"]
    other = ("--tracking-uri", f"sqlite:///{shop}/other.db")
    stk("train", "shop-late", *other)
    assert [v["name"] for v in answer(stk("models", "list", *other, "--json"))] == ["shop-late"]


def test_a_learner_that_changes_within_one_process_is_imported_anew(shop: Path, stk: Run) -> None:
    stk("init", "mine")
    code = shop / "mine/pipelines/learners/stump.py"
    text = "from sklearn.tree import DecisionTreeClassifier as Tree\n\n\ndef build():\n    return Tree(max_depth=2)\n"
    model = shop / "mine" / "m.yml"
    model.write_text(
        f"name: stump\nproblem: binary\ndata: {{table: {shop}/shop.csv, target: late, as_of: day}}\n"
        "learner: {estimator: 'stump:build'}\n"
    )
    workspace, digests = Workspace(shop / "mine"), []
    for depth in (2, 5):
        code.write_text(text.replace("=2", f"={depth}"))
        digests.append(workspace.train(model).registration.version.digest)
    assert digests[0] != digests[1]
