"""Fitting: a sealed artifact that MLflow serves, equal digests, clear refusals, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from make_dataset import COLUMNS, parcels, spec, write

from stk_ml import model_spec
from stk_ml.artifact import manifest
from stk_ml.artifact.golden import Golden, replay
from stk_ml.artifact.model import TrainedModel
from stk_ml.artifact.profile import Profile
from stk_ml.contracts import Column
from stk_ml.errors import (
    ColumnContractError,
    DataError,
    IntegrityError,
    LabelError,
    SplitError,
    StkMlError,
    StorageError,
    UntrustedTypeError,
    UsageError,
)
from stk_ml.model_spec import DataSpec, LearnerSpec, SplitSpec
from stk_ml.training.data import load_dataset
from stk_ml.training.fit import fit

HERE = Path(__file__).parent
FILES = [
    *("MLmodel", "booster.txt", "conda.yaml", "golden.json", "manifest.json", "model.json", "profile.json"),
    *("python_env.yaml", "requirements.txt", "spec.yml"),
]
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from make_dataset import spec
from stk_ml.training.fit import fit
from stk_ml.model_spec import LearnerSpec
{before}
print(fit(spec({learner}), Path({dataset!r}), Path({out!r})).digest)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dataset"), parcels())


@pytest.fixture(scope="module")
def artifact(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifact") / "model"
    fit(spec(), dataset, out)
    return out


def listed(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def in_process(dataset: Path, out: Path, *, learner: str = "", before: str = "") -> subprocess.Popen[str]:
    script = SCRIPT.format(here=str(HERE), dataset=str(dataset), out=str(out), learner=learner, before=before)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_artifact_holds_these_files_and_verifies(artifact: Path) -> None:
    assert listed(artifact) == FILES
    assert listed(artifact.parent) == ["model"]
    assert manifest.verify(artifact).digest == TrainedModel.load(artifact).digest


def test_a_loaded_model_knows_what_it_is_and_scores(artifact: Path, dataset: Path) -> None:
    model = TrainedModel.load(artifact, threads=1)
    _, table = load_dataset(dataset)
    assert (model.name, model.problem, model.kind) == ("late-parcel", "binary", "lightgbm")
    assert model.features == ["km", "weight", "stops", "express", "mode"]
    assert model.trained_from.startswith("2024-01-01")
    assert model.trained_until < "2024-03-20"
    scores, late = model.predict(table), table.column("late").to_numpy()
    assert scores[late == 1].mean() > scores[late == 0].mean() + 0.2
    records = table.select(model.features).slice(0, 50).to_pylist()
    np.testing.assert_array_equal(model.predict(records), scores[:50])


def test_shap_values_add_up_to_the_log_odds(artifact: Path, dataset: Path) -> None:
    model, (_, table) = TrainedModel.load(artifact, threads=1), load_dataset(dataset)
    parts = model.contributions(table.slice(0, 100))
    assert parts.shape == (100, 6)
    raw = model.raw(table.slice(0, 100))
    np.testing.assert_allclose(parts.sum(axis=1), np.log(raw / (1 - raw)), rtol=1e-6)
    assert model.gains().sum() == pytest.approx(1)


def test_validation_scores_are_calibrated(artifact: Path, dataset: Path) -> None:
    profile = Profile.load(artifact)
    centres = np.add(profile.score.edges[1:], profile.score.edges[:-1]) / 2
    mean = np.average(centres, weights=np.sum(profile.score.counts, axis=0))
    _, table = load_dataset(dataset)
    times = table.column("as_of").cast(pa.timestamp("us")).to_numpy()
    rows = (times >= np.datetime64("2024-03-01")) & (times < np.datetime64("2024-03-18T12:00"))
    assert mean == pytest.approx(table.column("late").to_numpy()[rows].mean(), abs=0.02)


def test_mlflow_loads_it_and_gives_the_same_scores(artifact: Path, dataset: Path) -> None:
    pyfunc = pytest.importorskip("mlflow.pyfunc", reason="pip install pandas")
    model, (_, table) = TrainedModel.load(artifact), load_dataset(dataset)
    loaded, rows = pyfunc.load_model(str(artifact)), table.select(model.features).slice(0, 40)
    expected = model.predict(rows)
    np.testing.assert_array_equal(loaded.predict(rows.to_pandas()), expected)
    np.testing.assert_array_equal(loaded.predict(rows.to_pylist()), expected)


@pytest.mark.parametrize(
    "learner", ["", "LearnerSpec('sklearn.ensemble.ExtraTreesClassifier', {'n_estimators': 3}, threads=1)"]
)
def test_equal_inputs_give_the_same_digest_in_another_process_and_folder(
    dataset: Path, tmp_path: Path, learner: str
) -> None:
    here = fit(spec(eval(learner) if learner else None), dataset, tmp_path / "here")
    process = in_process(dataset, tmp_path / "elsewhere" / "deeper" / "m", learner=learner)
    said, errors = process.communicate(timeout=120)
    assert said.strip() == here.digest, errors


def test_another_seed_or_row_gives_another_digest(dataset: Path, artifact: Path, tmp_path: Path) -> None:
    known = manifest.verify(artifact).digest
    learner = msgspec.structs.replace(spec().learner, seed=8, params={**spec().learner.params, "bagging_fraction": 0.5})
    assert fit(spec(learner), dataset, tmp_path / "a").digest != known
    fewer = write(tmp_path / "fewer", parcels().slice(1))
    assert fit(spec(), fewer, tmp_path / "b").digest != known


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file_is_refused(artifact: Path, name: str) -> None:
    file = artifact / name
    content = file.read_bytes()
    try:
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
            TrainedModel.load(artifact)
    finally:
        file.write_bytes(content)
    TrainedModel.load(artifact)


def test_a_foreign_type_is_refused_even_under_a_fresh_seal(dataset: Path, tmp_path: Path) -> None:
    import skops.io

    fit(spec(LearnerSpec("sklearn.naive_bayes.GaussianNB")), dataset, tmp_path / "m")
    (tmp_path / "m" / "estimator.skops").write_bytes(skops.io.dumps({"planted": os.path.join}))
    manifest.seal(tmp_path / "m")
    with pytest.raises(UntrustedTypeError, match="FunctionNode"):
        TrainedModel.load(tmp_path / "m")


def test_golden_rows_replay_exactly_and_cover_missing_and_unseen(artifact: Path) -> None:
    model, golden = TrainedModel.load(artifact), Golden.load(artifact)
    assert replay(model, golden) == 0.0
    assert len(golden.records) == 20
    assert any(all(value is None for value in record.values()) for record in golden.records)
    assert any(record["mode"] not in ("air", "rail", "road", None) for record in golden.records)
    changed = Golden(golden.records, golden.raw, (golden.scores[0] + 0.1, *golden.scores[1:]))
    assert replay(model, changed) == pytest.approx(0.1)


def test_the_profile_counts_every_row_once_per_feature(artifact: Path, dataset: Path) -> None:
    profile = Profile.load(artifact)
    rows = np.sum([profile.rows[name] for name in ("train", "validation", "test")], axis=0)
    assert rows.sum() == sum(TrainedModel.load(artifact).document.rows.values())
    for column in profile.features:
        cells = np.sum(column.counts, axis=1)
        for other in (column.missing, column.below, column.above, column.other, column.unseen):
            cells = cells + np.array(other)
        np.testing.assert_array_equal(cells, rows, err_msg=column.name)
    named = {column.name: column for column in profile.features}
    assert named["stops"].edges == (0, 1, 2, 3, 4, 4)
    assert named["mode"].categories == ("air", "rail", "road")
    assert sum(named["mode"].missing) == pytest.approx(0.05 * rows.sum(), rel=0.3)
    assert profile.days == tuple(sorted(profile.days))
    assert set(profile.score_days) <= set(profile.days)


def test_a_category_only_in_later_rows_is_unseen_not_missing(tmp_path: Path) -> None:
    table = parcels()
    mode = table.column("mode").to_pylist()
    mode[-100:] = ["drone"] * 100
    folder = write(tmp_path / "d", table.set_column(table.column_names.index("mode"), "mode", pa.array(mode)))
    model = fit(spec(), folder, tmp_path / "m")
    assert model.schema.fields[4].categories == ("air", "rail", "road")
    assert sum({c.name: c for c in Profile.load(tmp_path / "m").features}["mode"].unseen) == 100


def test_without_time_there_is_one_group_all(tmp_path: Path) -> None:
    columns = tuple(column for column in COLUMNS if column.role not in ("as_of", "label_time"))
    folder = write(tmp_path / "d", parcels().select([column.name for column in columns]), columns)
    plain = spec(data=DataSpec("late", table="t.parquet"), split=SplitSpec())
    model = fit(plain, folder, tmp_path / "m")
    assert Profile.load(tmp_path / "m").days == ("all",)
    assert (model.trained_from, model.trained_until) == ("", "")


def test_a_regression_has_no_calibration(tmp_path: Path) -> None:
    columns = tuple(
        Column("km", "number", "label") if column.name == "km" else column
        for column in COLUMNS
        if column.name != "late"
    )
    folder = write(tmp_path / "d", parcels().drop(["late"]), columns)
    model = fit(spec(problem="regression", data=DataSpec("km", table="t", as_of="as_of")), folder, tmp_path / "m")
    assert model.calibrator.kind == "none"
    assert np.isfinite(model.predict(parcels())).all()


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
def test_each_calibration_is_stored_as_numbers(dataset: Path, tmp_path: Path, calibration: str) -> None:
    model = fit(spec(calibration=calibration), dataset, tmp_path / "m")
    assert model.calibrator.kind == calibration
    assert replay(model, Golden.load(tmp_path / "m")) == 0.0


def test_the_models_file_is_kept_as_it_is_or_written_out(dataset: Path, artifact: Path, tmp_path: Path) -> None:
    assert model_spec.load(artifact / "spec.yml") == spec()
    file = tmp_path / "m.yml"
    file.write_bytes((artifact / "spec.yml").read_bytes() + b"# as it is\n")
    fit(spec(), dataset, tmp_path / "m", spec_file=file)
    assert (tmp_path / "m" / "spec.yml").read_bytes() == file.read_bytes()


def test_progress_is_told_in_order(dataset: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    fit(spec(), dataset, tmp_path / "m", progress=lambda stage, done: told.append((stage, done)))
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["read", "fit", "calibrate", "profile", "save"]
    assert all(0 <= done <= 1 for _, done in told)


def replaced(name: str, values: Any) -> pa.Table:
    table = parcels()
    return table.set_column(table.column_names.index(name), name, values)


def declared(name: str, **changes: Any) -> tuple[Column, ...]:
    fields = {"name": name, **changes}
    return tuple(Column(**fields) if column.name == name else column for column in COLUMNS)


LATE = parcels().column("late")
TRAIN = pc.less(parcels().column("as_of"), pa.scalar(np.datetime64("2024-03-01", "us")).cast(pa.timestamp("us", "UTC")))
BAD: list[tuple[pa.Table, tuple[Column, ...], dict[str, Any], type[StkMlError], str]] = [
    (replaced("late", pa.array([1] * 3000)), COLUMNS, {}, LabelError, "one class only, 1, in all 3000 rows"),
    (replaced("late", pc.if_else(TRAIN, 1, LATE)), COLUMNS, {}, LabelError, "training rows are of one class of 'late'"),
    (replaced("late", pc.if_else(TRAIN, LATE, 1)), COLUMNS, {}, LabelError, "validation rows are of one class"),
    (
        replaced("late", pa.array([None, *LATE.to_pylist()[1:]])),
        COLUMNS,
        {},
        LabelError,
        "missing .* in 1 of 3000 rows",
    ),
    (
        replaced("late", pa.array([float("nan"), *map(float, LATE.to_pylist()[1:])])),
        COLUMNS,
        {},
        LabelError,
        "NaN.* in 1 of 3000",
    ),
    (replaced("late", pa.array(range(3000))), COLUMNS, {}, LabelError, "has 3000 values"),
    (
        parcels(),
        COLUMNS,
        {"split": SplitSpec(validation_from="2030-01-01", test_from="2030-02-01")},
        SplitError,
        "validation part is empty",
    ),
    (parcels().slice(0, 0), COLUMNS, {}, SplitError, "no rows"),
    (parcels(), declared("weight", type="timestamp"), {}, ColumnContractError, "'weight' is of type timestamp"),
    (
        replaced("mode", pa.array([f"text {n}" for n in range(3000)])),
        declared("mode", type="text"),
        {},
        ColumnContractError,
        "'mode' is text with .* different values",
    ),
    (
        replaced("km", pa.array(["x"] * 3000)),
        COLUMNS,
        {},
        ColumnContractError,
        "'km' holds string in 3000 of 3000 rows",
    ),
    (
        parcels(),
        declared("weight", type="number", nullable=False),
        {},
        ColumnContractError,
        "'weight' is missing in .* of 3000",
    ),
    (
        parcels().select(["id", "as_of", "late", "late_known"]),
        tuple(column for column in COLUMNS if column.role != "feature"),
        {},
        DataError,
        "no feature column",
    ),
    (parcels(), COLUMNS, {"learner": LearnerSpec(params={"num_leafs": 3})}, UsageError, "no parameter 'num_leafs'"),
    (parcels(), COLUMNS, {"learner": LearnerSpec("no.such.Estimator")}, UsageError, "does not import"),
    (parcels(), COLUMNS, {"learner": LearnerSpec("collections.OrderedDict")}, UsageError, "no estimator"),
]


@pytest.mark.parametrize(("table", "columns", "changes", "kind", "says"), BAD, ids=[case[4] for case in BAD])
def test_bad_input_is_a_clear_error_and_leaves_no_trace(
    tmp_path: Path, table: pa.Table, columns: Any, changes: Any, kind: type[StkMlError], says: str
) -> None:
    folder = write(tmp_path / "d", table, columns)
    with pytest.raises(kind, match=says) as caught:
        fit(spec(**changes), folder, tmp_path / "out" / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or listed(tmp_path / "out") == []


@pytest.mark.parametrize(("positive", "labels"), [("yes", ["no", "yes"]), ("no", ["no", "yes"]), (None, [False, True])])
def test_the_declared_positive_value_counts_as_one(tmp_path: Path, positive: Any, labels: list[Any]) -> None:
    values = pa.array([labels[late] for late in LATE.to_pylist()])
    folder = write(tmp_path / "d", replaced("late", values))
    data = msgspec.structs.replace(spec().data, positive=positive)
    scores = fit(spec(data=data), folder, tmp_path / "m").predict(parcels())
    higher = scores[LATE.to_numpy() == 1].mean() > scores[LATE.to_numpy() == 0].mean()
    assert higher == (positive != "no")


def test_a_damaged_training_set_is_named(dataset: Path, tmp_path: Path) -> None:
    broken = write(tmp_path / "d", parcels())
    (broken / "data.parquet").write_bytes((dataset / "data.parquet").read_bytes()[:-1000])
    with pytest.raises(StorageError, match=r"data\.parquet cannot be read"):
        fit(spec(), broken, tmp_path / "m")
    write(tmp_path / "e", parcels().slice(0, 10))
    (tmp_path / "e" / "dataset.json").write_bytes((dataset / "dataset.json").read_bytes())
    with pytest.raises(StorageError, match="10 rows instead of 3000"):
        fit(spec(), tmp_path / "e", tmp_path / "m")


def test_a_new_artifact_replaces_the_old_one_and_a_failed_fit_leaves_it(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    out.mkdir()
    first = fit(spec(), dataset, out).digest
    with pytest.raises(UsageError):
        fit(spec(LearnerSpec("no.such.Estimator")), dataset, out)
    assert TrainedModel.load(out).digest == first
    second = fit(spec(LearnerSpec("sklearn.naive_bayes.GaussianNB")), dataset, out).digest
    assert TrainedModel.load(out).digest == second != first
    assert listed(tmp_path) == ["m"]


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is of POSIX")
def test_a_full_disk_is_told_and_the_old_artifact_stays(dataset: Path, tmp_path: Path) -> None:
    digest = fit(spec(), dataset, tmp_path / "m").digest
    limit = "import resource, signal, mlflow.models; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    process = in_process(dataset, tmp_path / "m", before=limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.strip().splitlines()[-1].startswith("stk_ml.errors.StorageError")
    assert TrainedModel.load(tmp_path / "m").digest == digest
    assert listed(tmp_path) == ["m"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_killed_in_the_middle_nothing_half_done_is_visible(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    endless = "LearnerSpec(params={'n_estimators': 1000000, 'learning_rate': 1e-9}, early_stopping=0, threads=1)"
    process = in_process(dataset, out, learner=endless)
    time.sleep(8)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    fit(spec(), dataset, out)
    TrainedModel.load(out)
