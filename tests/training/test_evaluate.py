import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import make_dataset
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from stk_ml import contracts
from stk_ml.artifact.model import TrainedModel
from stk_ml.contracts import Column, Evaluation
from stk_ml.errors import StorageError, UnknownNameError
from stk_ml.model_spec import DataSpec, EvaluationSpec, LearnerSpec, SplitSpec
from stk_ml.statistics import metrics
from stk_ml.training.evaluate import evaluate
from stk_ml.training.fit import fit

SLICES = EvaluationSpec(slices=("mode", "express"), min_rows=20, resamples=200)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A spec with its dataset and artifact."""
    folder = tmp_path_factory.mktemp("trained")
    spec = make_dataset.spec(evaluation=SLICES)
    make_dataset.write(folder / "data", make_dataset.parcels(6000))
    fit(spec, folder / "data", folder / "model")
    return spec, folder / "data", folder / "model"


@pytest.fixture(scope="module")
def found(trained, tmp_path_factory):
    """What evaluate returned, and where it wrote."""
    out = tmp_path_factory.mktemp("evaluation")
    return evaluate(*trained, out), out


def test_metrics_of_the_test_rows_equal_scikit_learn_on_the_written_predictions(found):
    evaluation, out = found
    predictions = pq.read_table(out / "predictions.parquet")
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    test = evaluation.find("test")
    assert test.rows == predictions.num_rows
    assert test.positives == pytest.approx(labels.mean())
    assert test.values["auc"].value == pytest.approx(sk.roc_auc_score(labels, scores))
    assert test.values["log_loss"].value == pytest.approx(sk.log_loss(labels, scores))
    assert test.values["average_precision"].value == pytest.approx(sk.average_precision_score(labels, scores))
    assert set(test.values) == set(metrics.REPORTED["binary"])
    assert all(i.low <= i.value <= i.high for i in test.values.values())


def test_predictions_hold_entity_as_of_label_and_score_of_the_test_rows(trained, found):
    _, data, model = trained
    predictions = pq.read_table(found[1] / "predictions.parquet")
    assert predictions.column_names == ["id", "as_of", "label", "score"]
    rows = pq.read_table(data / "data.parquet").take(predictions["id"])
    assert np.array_equal(TrainedModel.load(model).predict(rows), predictions["score"].to_numpy())
    assert pa.types.is_timestamp(predictions.schema.field("as_of").type)


def test_every_split_month_and_slice_is_there_in_order(found):
    groups = [(m.split, m.group) for m in found[0].metrics]
    assert groups[:6] == [
        ("train", "all"),
        ("validation", "all"),
        ("validation", "month=2024-03"),
        ("test", "all"),
        ("test", "month=2024-03"),
        ("test", "month=2024-04"),
    ]
    slices = [group for _, group in groups[6:]]
    assert slices[:3] == ["mode=road", "mode=rail", "mode=air"]
    assert [group for group in slices if group.startswith("express=")][:2] == ["express=false", "express=true"]
    assert {"mode=(missing)", "express=(missing)"} <= set(slices)
    assert (
        sum(m.rows for m in found[0].metrics if m.group.startswith("month=") and m.split == "test")
        == found[0].find("test").rows
    )


def test_small_slices_and_more_than_max_groups_are_left_out(trained, tmp_path):
    _, data, model = trained
    few = EvaluationSpec(slices=("mode", "id"), min_rows=50, max_groups=2, resamples=50)
    spec = make_dataset.spec(evaluation=few)
    groups = [m.group for m in evaluate(spec, data, model, tmp_path).metrics]
    assert [g for g in groups if g.startswith("mode=")] == ["mode=road", "mode=rail"]
    assert not [g for g in groups if g.startswith("id=")]


def test_what_is_written_is_what_is_returned(found):
    evaluation, out = found
    assert contracts.read(Evaluation, out / "evaluation.json") == evaluation
    assert sorted(p.name for p in out.iterdir()) == ["card.html", "evaluation.json", "predictions.parquet"]


def test_equal_inputs_give_equal_bytes(trained, found, tmp_path):
    evaluate(*trained, tmp_path)
    for name in ("evaluation.json", "card.html", "predictions.parquet"):
        assert (tmp_path / name).read_bytes() == (found[1] / name).read_bytes()


def test_a_loaded_model_serves_as_well_as_its_folder(trained, found, tmp_path):
    spec, data, model = trained
    assert evaluate(spec, data, TrainedModel.load(model), tmp_path) == found[0]


def test_calibration_covers_the_test_rows_and_importances_the_features(found):
    evaluation = found[0]
    assert sum(b.rows for b in evaluation.calibration) == evaluation.find("test").rows
    assert {i.feature for i in evaluation.importances} == {"km", "weight", "stops", "express", "mode"}
    assert evaluation.importances[0].feature == "km"


def test_progress_names_each_stage(trained, tmp_path):
    told = []
    evaluate(*trained, tmp_path, progress=lambda stage, done: told.append((stage, done)))
    assert [stage for stage, _ in told] == ["train", "validation", "test", "importances", "card", "card"]
    assert told[-1] == ("card", 1.0)


def test_an_unknown_slice_column_is_named(trained, tmp_path):
    _, data, model = trained
    spec = make_dataset.spec(evaluation=EvaluationSpec(slices=("mod",)))
    with pytest.raises(UnknownNameError, match="unknown slice column 'mod'") as error:
        evaluate(spec, data, model, tmp_path)
    assert "did you mean 'mode'" in error.value.hint


def test_a_month_of_one_class_leaves_the_auc_out(tmp_path):
    table = make_dataset.parcels(3000)
    april = table["as_of"].to_numpy() >= np.datetime64("2024-04-01")
    late = np.where(april, 0, table["late"].to_numpy())
    table = table.set_column(table.column_names.index("late"), "late", pa.array(late))
    data = make_dataset.write(tmp_path / "data", table)
    fit(make_dataset.spec(), data, tmp_path / "model")
    month = evaluate(make_dataset.spec(), data, tmp_path / "model", tmp_path / "out").find("test", "month=2024-04")
    assert month.positives == 0
    assert set(month.values) == {"log_loss", "brier", "calibration_error"}


def test_a_regression_without_time_by_a_linear_model(tmp_path):
    table = make_dataset.parcels(2000).drop_columns(["as_of", "late", "late_known", "mode", "express", "weight"])
    km = table["km"].to_numpy()
    table = table.append_column("hours", pa.array(km / 50 + np.random.default_rng(0).normal(size=2000)))
    columns = [
        Column("id", "integer", "entity"),
        Column("km", "number"),
        Column("stops", "integer"),
        Column("hours", "number", "label"),
    ]
    data = make_dataset.write(tmp_path / "data", table, columns)
    spec = make_dataset.spec(
        problem="regression",
        data=DataSpec("hours", table="t.parquet", entity=("id",)),
        split=SplitSpec(),
        learner=LearnerSpec("sklearn.linear_model.LinearRegression"),
        calibration="none",
    )
    fit(spec, data, tmp_path / "model")
    evaluation = evaluate(spec, data, tmp_path / "model", tmp_path / "out")
    assert [(m.split, m.group) for m in evaluation.metrics] == [
        ("train", "all"),
        ("validation", "all"),
        ("test", "all"),
    ]
    assert set(evaluation.find("test").values) == {"mae", "rmse", "r2"}
    assert evaluation.find("test").values["rmse"].value == pytest.approx(1, abs=0.1)
    assert evaluation.calibration == ()
    assert evaluation.importances[0].feature == "km"
    assert "at random" in (tmp_path / "out" / "card.html").read_text("utf-8")


def test_an_unwritable_folder_is_a_storage_error(trained, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        evaluate(*trained, tmp_path / "out")


def test_a_killed_evaluation_leaves_the_old_files(trained, tmp_path):
    spec, data, model = trained
    evaluate(spec, data, model, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    script = (
        "import sys, make_dataset\n"
        "from stk_ml.model_spec import EvaluationSpec\n"
        "from stk_ml.training.evaluate import evaluate\n"
        "spec = make_dataset.spec(evaluation=EvaluationSpec(resamples=100))\n"
        "for _ in range(1000):\n"
        "    evaluate(spec, *sys.argv[1:], progress=lambda stage, done: print(stage, flush=True))\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{Path(__file__).parent}"}
    command = [sys.executable, "-c", script, str(data), str(model), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line == "card\n":
                break
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert contracts.read(Evaluation, tmp_path / "evaluation.json").model == "late-parcel"
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows
    assert (tmp_path / "card.html").read_text("utf-8").endswith("</html>\n")
    assert set(before) <= {p.name for p in tmp_path.iterdir()}


def test_key_columns_called_label_or_score_keep_a_name_of_their_own(tmp_path):
    table = make_dataset.parcels(2000).rename_columns({"id": "label"})
    columns = [dataclasses.replace(c, name="label") if c.name == "id" else c for c in make_dataset.COLUMNS]
    data = make_dataset.write(tmp_path / "data", table, columns)
    declared = DataSpec("late", table="t.parquet", entity=("label",), as_of="as_of", label_time="late_known")
    spec = make_dataset.spec(data=declared)
    fit(spec, data, tmp_path / "model")
    evaluate(spec, data, tmp_path / "model", tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").column_names == [
        "key_label",
        "as_of",
        "label",
        "score",
    ]


def test_training_rows_are_sampled_when_there_are_many(trained, tmp_path, monkeypatch):
    from stk_ml.training import evaluate as module

    monkeypatch.setattr(module, "TRAIN_ROWS", 500)
    assert evaluate(*trained, tmp_path).find("train").rows == 500
    assert "random sample of 500" in (tmp_path / "card.html").read_text("utf-8")
