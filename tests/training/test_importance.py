import dataclasses

import make_dataset
import numpy as np
import pytest

from stk_ml.artifact.model import TrainedModel
from stk_ml.model_spec import LearnerSpec
from stk_ml.training.fit import fit
from stk_ml.training.importance import importances, sample_size


@pytest.fixture(scope="module")
def table():
    return make_dataset.parcels(3000)


@pytest.fixture(scope="module")
def data(table, tmp_path_factory):
    return make_dataset.write(tmp_path_factory.mktemp("importance") / "data", table)


@pytest.fixture(scope="module")
def trees(data, tmp_path_factory):
    return fit(make_dataset.spec(), data, tmp_path_factory.mktemp("trees") / "model")


def test_lightgbm_gains_are_shares_and_effects_are_mean_absolute_shap_values(trees, table):
    small = table.slice(0, 500)
    found = importances(trees, small)
    expected = np.abs(trees.contributions(small)[:, :-1]).mean(axis=0)
    assert sum(i.gain for i in found) == pytest.approx(1)
    assert {i.feature: i.shap for i in found} == pytest.approx(dict(zip(trees.features, expected, strict=True)))
    assert [i.shap for i in found] == sorted((i.shap for i in found), reverse=True)
    assert found[0].feature == "km"


def test_the_sample_is_drawn_by_seed(trees, table):
    assert importances(trees, table, seed=1) == importances(trees, table, seed=1)
    assert importances(trees, table, seed=1) != importances(trees, table, seed=2)


@pytest.mark.parametrize(("rounds", "leaves", "rows"), [(1, 2, 2000), (100, 31, 1300), (300, 127, 100)])
def test_large_ensembles_get_a_smaller_sample(trees, rounds, leaves, rows):
    document = dataclasses.replace(trees.document, iterations=rounds, parameters={"num_leaves": leaves})
    assert sample_size(TrainedModel(document, trees.scorer)) == pytest.approx(rows, rel=0.01)


def test_an_estimator_is_explained_by_shuffling(data, table, tmp_path):
    spec = make_dataset.spec(
        LearnerSpec("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 5}, threads=1)
    )
    model = fit(spec, data, tmp_path / "model")
    found = {i.feature: i for i in importances(model, table)}
    assert set(found) == set(model.features)
    assert found["km"].shap == max(i.shap for i in found.values())
    assert found["km"].shap > 5 * found["weight"].shap


def test_no_rows_have_no_effects(trees, table):
    assert {i.shap for i in importances(trees, table.slice(0, 0))} == {0.0}
