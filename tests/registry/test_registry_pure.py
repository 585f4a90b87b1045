"""The parts of the registry that only compute: tags, logged values, provenance."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.contracts import Evaluation, Interval, Metrics
from stk_ml.errors import StorageError
from stk_ml.model_spec import DataSpec, FeatureUse, LearnerSpec, ModelSpec
from stk_ml.registry import logged, provenance, tags


@given(st.text(), st.integers(40, 600))
def test_a_value_is_never_longer_than_its_bound_and_stays_on_one_line(text, limit):
    cut = tags.bounded(text, limit)
    assert len(cut) <= limit
    assert "\n" not in cut


@given(st.text(min_size=1))
def test_mlflow_takes_every_key(text):
    from mlflow.utils.validation import _validate_param_name, _validate_tag_name

    name = tags.key(tags.PREFIX + text)
    _validate_tag_name(name)
    _validate_param_name(name)


def test_stored_and_shown_are_inverse():
    assert tags.shown(tags.stored({"code_version": "4f2a", "test.auc": 0.7})) == {
        "code_version": "4f2a",
        "test.auc": "0.7",
    }


def test_a_spec_becomes_flat_parameters():
    spec = ModelSpec(
        name="m",
        problem="binary",
        data=DataSpec(target="late", spine="departures", features=(FeatureUse("plane", on=("tailnum",)),)),
        learner=LearnerSpec(params={"num_leaves": 63, "objective=x": None, "deep": {"a": [1, 2]}}),
    )
    found = logged.params(spec, {"rounds": "120"})
    assert found["data.target"] == "late"
    assert found["learner.params.num_leaves"] == "63"
    assert found["learner.params.deep.a"] == "[1, 2]"
    assert found["rounds"] == "120"
    assert '"plane"' in found["data.features"]
    assert "data.table" not in found
    assert "learner.params.objective_x" not in found


def test_parameters_are_bounded_in_number_and_length():
    learner = LearnerSpec(params={f"p{number}": "x" * 2000 for number in range(500)})
    spec = ModelSpec(name="m", problem="binary", data=DataSpec(target="y", table="t"), learner=learner)
    found = logged.params(spec, {})
    assert len(found) == logged.MOST_PARAMS
    assert max(map(len, found.values())) == tags.VALUE_LENGTH


def test_months_become_a_series_and_slices_are_left_out():
    def metrics(group):
        return Metrics("test", group, 10, 0.5, {"auc": Interval(0.7, 0.6, 0.8)})

    groups = tuple(map(metrics, ("all", "month=2013-07", "carrier=UA", "carrier=2013-07", "month=later")))
    found = logged.metrics(Evaluation("m", "binary", "auc", groups))
    assert found == [
        ("test.auc", 0.7, 0, 0),
        ("test.auc.low", 0.6, 0, 0),
        ("test.auc.high", 0.8, 0, 0),
        ("test.auc.month", 0.7, 1372636800000, 201307),
    ]


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit."""

    def git(*args: str) -> str:
        person = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        return subprocess.run(["git", *person, *args], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    try:
        git("init", "-q")
    except FileNotFoundError:
        pytest.skip("no git: apt-get install git")
    (tmp_path / "model.yml").write_text("a")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD").strip()


def test_code_version_is_the_commit_and_says_when_files_differ(repository):
    folder, commit = repository
    assert provenance.code_version(folder) == commit
    (folder / "untracked").write_text("")
    assert provenance.code_version(folder) == commit
    (folder / "model.yml").write_text("b")
    assert provenance.code_version(folder) == f"{commit}-dirty"


def test_code_version_is_empty_without_a_repository(tmp_path):
    assert provenance.code_version(tmp_path) == ""
    assert provenance.code_version(tmp_path / "missing") == ""


def test_lock_digest_covers_every_lock_file(tmp_path):
    installed = provenance.lock_digest(tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "all.lock").write_text("numpy==2.0")
    one = provenance.lock_digest(tmp_path)
    (tmp_path / "requirements" / "dev.lock").write_text("pytest==8.0")
    two = provenance.lock_digest(tmp_path)
    assert len({installed, one, two}) == 3
    assert provenance.lock_digest(tmp_path) == two


def test_a_lock_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "requirements" / "all.lock").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"all\.lock cannot be read"):
        provenance.lock_digest(tmp_path)
