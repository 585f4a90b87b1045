import dataclasses

import make_dataset
import numpy as np
import pyarrow.parquet as pq
import pytest

from stk_ml import contracts
from stk_ml.artifact.model import TrainedModel
from stk_ml.contracts import Dataset
from stk_ml.errors import ColumnContractError, UnknownNameError
from stk_ml.model_spec import GateSpec, LearnerSpec, SplitSpec
from stk_ml.training.fit import fit
from stk_ml.training.gate import compare

GATE = GateSpec(floor=0.6, resamples=300, slices=("mode",))


def learner(rounds):
    return LearnerSpec(params={"num_leaves": 7, "n_estimators": rounds}, early_stopping=0, refit=False, threads=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A dataset, a good model and a poor one of it."""
    folder = tmp_path_factory.mktemp("compare")
    data = make_dataset.write(folder / "data", make_dataset.parcels(8000))
    good = fit(make_dataset.spec(learner(40)), data, folder / "good")
    poor = fit(make_dataset.spec(learner(1)), data, folder / "poor")
    return data, good, poor


def spec(**gate):
    return make_dataset.spec(gate=GateSpec(**{"floor": 0.6, "resamples": 300, "slices": ("mode",), **gate}))


def test_no_champion_is_a_first_model(models):
    data, good, _ = models
    verdict = compare(spec(), data, good, None)
    assert (verdict.outcome, verdict.promote) == ("first", True)
    assert (
        verdict.rows == (pq.read_table(data / "data.parquet")["as_of"].to_numpy() >= np.datetime64("2024-03-20")).sum()
    )


def test_a_better_model_is_promoted_and_a_worse_one_is_not(models):
    data, good, poor = models
    assert compare(spec(), data, good, poor).outcome == "better"
    assert compare(spec(), data, poor, good).outcome == "worse"


def test_the_champion_itself_is_the_same(models, tmp_path):
    data, good, _ = models
    verdict = compare(spec(), data, good, good)
    assert (verdict.outcome, verdict.promote, verdict.rows) == ("same", False, 0)
    assert good.digest[:12] in verdict.reason


def test_a_champion_that_needs_other_columns_cannot_be_compared(models, tmp_path):
    data, good, _ = models
    table = make_dataset.parcels(3000)
    table = table.append_column("axles", table["stops"])
    columns = (*make_dataset.COLUMNS, contracts.Column("axles", "integer"))
    other = fit(
        make_dataset.spec(learner(5)), make_dataset.write(tmp_path / "data", table, columns), tmp_path / "model"
    )
    verdict = compare(spec(), data, good, other)
    assert (verdict.outcome, verdict.promote) == ("cannot_tell", False)
    assert "the champion cannot be scored on this dataset" in verdict.reason
    assert "'axles'" in verdict.reason
    with pytest.raises(ColumnContractError, match="axles"):
        compare(spec(), data, other, good)


def test_a_champion_of_another_problem_cannot_be_compared(models):
    data, good, poor = models
    regression = TrainedModel(dataclasses.replace(poor.document, problem="regression"), poor.scorer, "other")
    assert "the champion is a regression model" in compare(spec(), data, good, regression).reason


def test_rows_that_the_champion_has_learned_from_do_not_count(models):
    data, good, poor = models
    later = TrainedModel(dataclasses.replace(poor.document, trained_until="2024-04-01T00:00:00Z"), poor.scorer, "later")
    verdict = compare(spec(), data, good, later)
    assert 0 < verdict.rows < compare(spec(), data, good, poor).rows
    newest = TrainedModel(dataclasses.replace(poor.document, trained_until="2024-06-01T00:00:00Z"), poor.scorer, "new")
    verdict = compare(spec(), data, good, newest)
    assert (verdict.outcome, verdict.rows) == ("cannot_tell", 0)


def test_the_window_keeps_the_newest_rows(models):
    data, good, poor = models
    times = pq.read_table(data / "data.parquet")["as_of"].to_numpy()
    verdict = compare(spec(window="10d"), data, good, poor)
    assert verdict.rows == (times > times.max() - np.timedelta64(10, "D")).sum()


def test_rows_whose_label_had_no_time_to_come_do_not_count(models, tmp_path):
    data, good, poor = models
    dataset = contracts.read(Dataset, data / "dataset.json")
    (tmp_path / "data.parquet").symlink_to(data / "data.parquet")
    contracts.write(dataclasses.replace(dataset, now="2024-04-05T00:00:00Z"), tmp_path / "dataset.json")
    times = pq.read_table(data / "data.parquet")["as_of"].to_numpy()
    matured = (times >= np.datetime64("2024-03-20")) & (times <= np.datetime64("2024-04-04"))
    assert compare(spec(), tmp_path, good, poor).rows == matured.sum()


def test_an_unknown_slice_is_named(models):
    data, good, poor = models
    with pytest.raises(UnknownNameError, match="slice column 'model'"):
        compare(spec(slices=("model",)), data, good, poor)


def test_models_without_time_are_compared_on_the_random_test_rows(models, tmp_path):
    table = make_dataset.parcels(3000).drop_columns(["as_of", "late_known"])
    columns = [c for c in make_dataset.COLUMNS if c.role not in ("as_of", "label_time")]
    data = make_dataset.write(tmp_path / "data", table, columns)
    timeless = {"data": make_dataset.DataSpec("late", table="t.csv", entity=("id",)), "split": SplitSpec()}
    good = fit(make_dataset.spec(learner(40), **timeless), data, tmp_path / "good")
    poor = fit(make_dataset.spec(learner(1), **timeless), data, tmp_path / "poor")
    verdict = compare(make_dataset.spec(gate=GATE, **timeless), data, good, poor)
    assert (verdict.outcome, verdict.rows) == ("better", 600)
