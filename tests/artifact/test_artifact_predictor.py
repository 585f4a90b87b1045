"""The door for serving: the scores of the table path, in a process that loads next to nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_booster import CALIBRATORS, SCHEMA, records, rows, strange

from stk_ml.artifact.model import TrainedModel
from stk_ml.artifact.predictor import Predictor, encode
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.errors import ArtifactError, ColumnContractError, IntegrityError, UsageError

Make = Callable[..., Path]


def _estimator() -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = rows(500)
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(x, np.nan_to_num(x[:, 2]) > 0)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("kind", ["compiled", "lightgbm"])
def test_one_row_many_rows_and_the_table_path_agree(kind: str, calibrator: str, artifact: Make, cache: Path) -> None:
    folder = artifact(calibrator)
    predictor = Predictor.load(folder, cache=cache, compiled=kind == "compiled")
    assert predictor.kind == kind
    sent = records(rows(300, 7))
    matrix = encode(predictor.schema, sent)
    many = predictor.many(matrix)
    assert many.tolist() == TrainedModel.load(folder, threads=1).predict(sent).tolist()
    for row, expected in zip(matrix, many, strict=True):
        predictor.buffer[:] = row
        assert abs(predictor.single() - expected) <= 1e-15


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_one_row_is_calibrated_as_many_also_at_the_ends(calibrator: str, artifact: Make) -> None:
    predictor = Predictor.load(artifact(calibrator))
    for row in strange(300):
        predictor.buffer[:] = row
        assert abs(predictor.single() - predictor.many(row[np.newaxis])[0]) <= 1e-15


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_golden_rows_are_replayed_through_the_same_path(calibrator: str, artifact: Make, cache: Path) -> None:
    for predictor in (Predictor.load(artifact(calibrator)), Predictor.load(artifact(calibrator), cache=cache)):
        assert predictor.replay() <= 1e-15


def test_without_a_compiled_scorer_lightgbm_scores(artifact: Make, tmp_path: Path) -> None:
    predictor = Predictor.load(artifact(), cache=tmp_path / "nothing here")
    assert (predictor.kind, predictor.replay()) == ("lightgbm", 0.0)


def test_contributions_are_there_for_every_form_of_a_booster(artifact: Make, cache: Path) -> None:
    folder = artifact()
    sent = records(rows(20, 7))
    values = Predictor.load(folder, cache=cache).contributions(encode(SCHEMA, sent))
    assert values.shape == (20, 9)
    assert values.tolist() == TrainedModel.load(folder, threads=1).contributions(sent).tolist()


def test_an_estimator_goes_through_the_same_door(artifact: Make) -> None:
    pytest.importorskip("sklearn")
    folder = artifact("sigmoid", estimator=_estimator())
    predictor = Predictor.load(folder)
    assert predictor.kind == "estimator"
    assert predictor.replay() <= 1e-15
    unseen = encode(SCHEMA, [{**record, "c0": "never seen"} for record in records(rows(5, 7))])
    missing = unseen.copy()
    missing[:, 0] = np.nan
    assert unseen[:, 0].tolist() == [-1.0] * 5
    assert predictor.many(unseen).tolist() == predictor.many(missing).tolist()
    assert predictor.many(np.empty((0, 8))).shape == (0,)
    with pytest.raises(UsageError, match="LightGBM models only"):
        predictor.contributions(unseen)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("number", [1e39, -1e300, np.inf])
def test_a_number_that_an_estimator_cannot_take_is_named_with_its_column(number: float, artifact: Make) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble", reason="pip install scikit-learn")
    x = rows(200)
    forest = ensemble.RandomForestClassifier(3, max_depth=3, random_state=0).fit(x, np.nan_to_num(x[:, 2]) > 0)
    folder = artifact(estimator=forest)
    predictor = Predictor.load(folder)
    matrix = rows(3, 7)
    matrix[1, 2] = number
    message = rf"column '{SCHEMA.names[2]}' holds {re.escape(f'{number:g}')}; the model cannot take a number as large"
    with pytest.raises(ColumnContractError, match=message) as error:
        predictor.many(matrix)
    assert error.value.hint == "its numbers reach 3.4e+38"
    predictor.buffer[:] = matrix[1]
    with pytest.raises(ColumnContractError, match=message):
        predictor.single()
    predictor.buffer[:] = matrix[0]
    assert 0 <= predictor.single() <= 1
    sent = records(matrix)
    with pytest.raises(ColumnContractError, match=message):
        TrainedModel.load(folder).predict(sent)


def test_other_mistakes_of_an_estimator_stay_what_they_are(artifact: Make) -> None:
    predictor = Predictor.load(artifact(estimator=_estimator()))
    with pytest.raises(ValueError, match="8 features") as error:
        predictor.many(np.zeros((2, 9)))
    assert not isinstance(error.value, ColumnContractError)


def test_a_model_that_does_not_fit_its_columns_is_refused(artifact: Make) -> None:
    with pytest.raises(ArtifactError, match=r"booster\.txt takes 8 columns, model\.json names 7"):
        Predictor.load(artifact(schema=FeatureSchema(SCHEMA.fields[:7])))


def test_a_changed_file_is_refused_before_it_is_read(artifact: Make, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(artifact(), folder)
    (folder / "booster.txt").write_text("tree\n")
    with pytest.raises(IntegrityError, match=r"booster\.txt differs"):
        Predictor.load(folder)


@pytest.mark.parametrize("kind", ["compiled", "lightgbm"])
def test_a_scoring_process_loads_no_heavy_library_and_stays_small(kind: str, artifact: Make, cache: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from stk_ml.artifact.predictor import Predictor
predictor = Predictor.load({str(artifact())!r}, cache=Path({str(cache)!r}), compiled={kind == "compiled"})
assert predictor.kind == {kind!r} and predictor.replay() == 0
heavy = {{"pyarrow", "lightgbm", "sklearn", "scipy", "pandas", "skops", "cffi", "mlflow", "rich"}}
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else ["VmHWM: 0 kB"]
print(sorted(heavy & sys.modules.keys()), *(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names, _, peak = done.stdout.strip().rpartition(" ")
    assert names == "[]"
    assert int(peak) / 1024 < 80
