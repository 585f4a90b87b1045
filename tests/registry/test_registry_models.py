from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from stk_ml.artifact import manifest
from stk_ml.contracts import Champion, GateCheck, GateVerdict, Interval
from stk_ml.errors import IntegrityError, RegistryError, StorageError, UnknownNameError
from stk_ml.registry import pointer
from stk_ml.registry.aliases import StoreAliases, TagAliases, aliases
from stk_ml.registry.models import ModelRegistry
from stk_ml.registry.store import Store

FIRST = GateVerdict("first", True, "no champion yet; the floor is met", rows=500)
BETTER = GateVerdict(
    "better", True, "better", Interval(0.02, 0.01, 0.03), (GateCheck("floor", True, "0.71 >= 0.65"),), rows=500
)
WORSE = GateVerdict("worse", False, "worse", Interval(-0.02, -0.03, -0.01), rows=500)


@pytest.fixture(params=[StoreAliases, TagAliases])
def registry(request, uri, tmp_path) -> ModelRegistry:
    """A registry of either kind of aliases: MLflow's own, and tags as on Azure ML."""
    return ModelRegistry(uri, tmp_path / "artifacts", alias_store=request.param)


def test_a_version_carries_where_it_came_from(registry, spec, artifact, evaluation, dataset):
    folder = artifact()
    tags = {"code_version": "4f2a-dirty", "lock_digest": "c" * 64}
    version = registry.register(spec, folder, evaluation=evaluation(0.7), dataset=dataset, tags=tags)
    assert (version.name, version.version, version.aliases) == ("flight-delay", 1, ())
    assert version.digest == manifest.verify(folder).digest
    assert version.created.endswith("Z")
    assert version.tags == {
        "digest": version.digest,
        "data.digest": "d" * 64,
        "data.rows": "1000",
        "data.now": "2013-12-31T00:00:00Z",
        "table.raw.flights": f"version 4 sha256 {'f' * 64}",
        "view.schedule": "5" * 64,
        "code_version": "4f2a-dirty",
        "lock_digest": "c" * 64,
        "interval_level": "0.9",
        "test.auc": "0.7",
    }
    assert registry.version("flight-delay") == version


def test_a_run_holds_parameters_and_metrics(registry, spec, artifact, evaluation):
    registry.register(spec, artifact(), evaluation=evaluation(0.7), params={"rounds": "120"})
    details = registry.show("flight-delay:1")
    assert details.params["learner.estimator"] == "lightgbm"
    assert details.params["learner.params.num_leaves"] == "31"
    assert details.params["rounds"] == "120"
    assert details.metrics["test.auc"] == 0.7
    assert details.metrics["test.auc.low"] == pytest.approx(0.69)
    assert details.metrics["test.auc.month"] == pytest.approx(0.68)
    assert details.version.run_id
    assert details.where.endswith("/artifacts/model")
    history = registry._store.client.get_metric_history(details.version.run_id, "test.auc.month")
    assert [(point.step, point.timestamp, round(point.value, 2)) for point in history] == [
        (201307, 1372636800000, 0.72),
        (201308, 1375315200000, 0.68),
    ]
    run = registry._store.client.get_run(details.version.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time


def test_the_same_model_is_registered_once(registry, spec, artifact):
    first = registry.register(spec, artifact("one"))
    other = registry.register(spec, artifact("two"))
    again = registry.register(spec, artifact("one", folder="copy"))
    assert again == first
    assert [version.version for version in registry.versions("flight-delay")] == [2, 1]
    assert other.digest != first.digest
    assert len(registry._store.client.search_runs([registry._runs.experiment("flight-delay")])) == 2


def test_download_is_the_stored_folder_itself(registry, spec, artifact, evaluation, tmp_path):
    folder = artifact()
    version = registry.register(spec, folder, evaluation=evaluation())
    stored = registry.download("flight-delay:1")
    assert stored.is_relative_to(tmp_path / "artifacts" / "flight-delay")
    assert manifest.verify(stored).digest == version.digest
    assert registry.download(version) == stored
    assert (stored.parent / "evaluation" / "card.html").is_file()


def test_download_says_when_the_files_are_gone(registry, spec, artifact, tmp_path):
    registry.register(spec, artifact())
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises(RegistryError, match=r"the files of flight-delay:1 are not at") as caught:
        registry.download("flight-delay:1")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["artifacts with spaces", "dépôt", "a%20b#c?d"])
def test_any_folder_name_will_do(uri, spec, artifact, tmp_path, name):
    registry = ModelRegistry(uri, tmp_path / name)
    registry.register(spec, artifact())
    stored = registry.download("flight-delay")
    assert stored.is_relative_to(tmp_path / name)
    manifest.verify(stored)


def test_a_damaged_artifact_is_refused_and_nothing_is_logged(registry, spec, artifact):
    folder = artifact()
    (folder / "model.json").write_text("{}")
    with pytest.raises(IntegrityError):
        registry.register(spec, folder)
    assert registry.names() == []


def test_an_evaluation_cut_short_is_refused(registry, spec, artifact, evaluation):
    folder = evaluation()
    (folder / "evaluation.json").write_text("{")
    with pytest.raises(StorageError, match=r"evaluation\.json"):
        registry.register(spec, artifact(), evaluation=folder)
    assert registry.names() == []


def test_a_reference_names_a_version(registry, spec, artifact):
    for content in ("one", "two", "three"):
        registry.register(spec, artifact(content))
    assert registry.version("flight-delay").version == 3
    registry.promote("flight-delay", 2)
    assert registry.version("flight-delay").version == 2
    assert registry.version("flight-delay@champion").version == 2
    assert registry.version("flight-delay:1").version == 1
    assert registry.version("flight-delay:1").aliases == ()
    assert registry.version("flight-delay:2").aliases == ("champion",)


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("flight-dely", "unknown model 'flight-dely'", "did you mean 'flight-delay'"),
        ("flight-dely:1", "unknown model 'flight-dely'", "did you mean 'flight-delay'"),
        ("flight-delay:9", "unknown version of flight-delay '9'", "there are: 1"),
        ("flight-delay@champoin", "unknown alias of flight-delay 'champoin'", "did you mean 'champion'"),
        ("flight-delay:x", "unknown model version 'flight-delay:x'", "name:3"),
        ("it's", 'unknown model "it\'s"', "there are: flight-delay"),
        ("", "unknown model version ''", "name:3"),
    ],
)
def test_an_unknown_reference_names_the_closest(registry, spec, artifact, ref, message, hint):
    registry.register(spec, artifact())
    registry.promote("flight-delay", 1)
    with pytest.raises(UnknownNameError) as caught:
        registry.version(ref)
    assert str(caught.value) == message
    assert hint in caught.value.hint


def test_an_empty_registry_says_so(registry):
    assert registry.names() == []
    assert registry.champion("flight-delay") == Champion("flight-delay")
    with pytest.raises(UnknownNameError) as caught:
        registry.versions("flight-delay")
    assert caught.value.hint == "there are none yet"


def test_promotion_moves_the_alias_and_leaves_a_trail(registry, spec, artifact):
    one = registry.register(spec, artifact("one"))
    two = registry.register(spec, artifact("two"))
    assert registry.settle(spec, 1, FIRST).aliases == ("champion",)
    assert registry.champion("flight-delay") == Champion("flight-delay", 1, one.digest)
    promoted = registry.promote("flight-delay", 2, verdict=BETTER, why="season", by="ada", at="2026-01-01T00:00:00Z")
    assert promoted.aliases == ("champion",)
    assert (
        promoted.tags.items()
        >= {
            "gate.outcome": "better",
            "gate.difference": "0.02 [0.01, 0.03] at 0.95",
            "gate.floor": "passed: 0.71 >= 0.65",
            "promoted.why": "season",
            "promoted.by": "ada",
            "promoted.at": "2026-01-01T00:00:00Z",
            "replaces": "1",
        }.items()
    )
    assert registry.champion("flight-delay") == Champion("flight-delay", 2, two.digest)
    old = registry.version("flight-delay:1")
    assert (old.aliases, old.tags["replaced_by"]) == ((), "2")
    registry.promote("flight-delay", 1)
    assert "replaced_by" not in registry.version("flight-delay:1").tags
    assert registry.version("flight-delay:2").tags["replaced_by"] == "1"


def test_a_version_that_does_not_pass_becomes_the_challenger(registry, spec, artifact):
    registry.register(spec, artifact("one"))
    registry.register(spec, artifact("two"))
    registry.settle(spec.name, 1, FIRST)
    settled = registry.settle(spec.name, 2, WORSE)
    assert settled.aliases == ("challenger",)
    assert settled.tags["gate.outcome"] == "worse"
    assert registry.version("flight-delay@champion").version == 1
    assert registry.promote("flight-delay", 2).aliases == ("champion",)


def test_the_champion_again_changes_nothing(registry, spec, artifact):
    registry.register(spec, artifact())
    before = registry.settle(spec, 1, FIRST)
    assert registry.settle(spec, 1, GateVerdict("same", False, "the champion itself")) == before


def test_settling_twice_is_settling_once(registry, spec, artifact):
    registry.register(spec, artifact("one"))
    registry.register(spec, artifact("two"))
    registry.settle(spec, 1, FIRST)
    assert registry.settle(spec, 2, BETTER) == registry.settle(spec, 2, BETTER)
    assert registry.version("flight-delay:2").tags["replaces"] == "1"


def test_a_verdict_against_an_older_champion_does_not_promote(registry, spec, artifact):
    for content in ("one", "two", "three"):
        registry.register(spec, artifact(content))
    registry.settle(spec, 1, FIRST)
    compared_with = registry.champion(spec.name)
    registry.settle(spec, 2, BETTER, against=compared_with)
    late = registry.settle(spec, 3, BETTER, against=compared_with)
    assert late.aliases == ("challenger",)
    assert late.tags["gate.overtaken"] == "compared with version 1, but 2 is champion now"
    assert registry.champion(spec.name).version == 2
    assert registry.settle(spec, 3, BETTER, against=registry.champion(spec.name)).aliases == ("champion",)
    assert "gate.overtaken" not in registry.version("flight-delay:3").tags


def test_a_promotion_killed_half_way_is_completed_by_the_next(registry, spec, artifact):
    registry.register(spec, artifact("one"))
    registry.register(spec, artifact("two"))
    registry.settle(spec, 1, FIRST)
    registry.tag("flight-delay", 2, "replaces", "1")  # what has been written when the alias has just moved
    registry.set_alias("flight-delay", "champion", 2)
    registry.settle(spec, 2, BETTER)
    assert registry.version("flight-delay:1").tags["replaced_by"] == "2"
    assert registry.version("flight-delay:2").tags["replaces"] == "1"


def test_tags_and_aliases_can_be_set_by_hand(registry, spec, artifact):
    registry.register(spec, artifact())
    registry.tag("flight-delay", 1, "note", "x" * 1000)
    registry.set_alias("flight-delay", "canary", 1)
    version = registry.version("flight-delay@canary")
    assert version.tags["note"].endswith("... (1000 in all)")
    assert len(version.tags["note"]) == 500
    registry.tag("flight-delay", 1, "note", "")
    assert "note" not in registry.version("flight-delay:1").tags
    for call in (registry.tag, registry.set_alias):
        with pytest.raises(UnknownNameError):
            call("flight-delay", *((7, "a", "b") if call == registry.tag else ("a", 7)))


def test_two_versions_are_compared_by_their_metrics(registry, spec, artifact, evaluation):
    registry.register(spec, artifact("one"), evaluation=evaluation(0.7))
    registry.register(spec, artifact("two"), evaluation=evaluation(0.75))
    registry.register(spec, artifact("three"))
    rows = registry.compare("flight-delay:1", "flight-delay:2")
    assert rows[:2] == [("test.auc", 0.7, 0.75), ("test.auc.high", 0.71, 0.76)]
    assert registry.compare("flight-delay:1", "flight-delay:3")[0] == ("test.auc", 0.7, None)


def test_several_models_live_side_by_side(registry, spec, artifact):
    import msgspec

    churn = msgspec.structs.replace(spec, name="churn")
    registry.register(spec, artifact("one"))
    same = registry.register(churn, artifact("one", folder="again"))
    assert (same.name, same.version) == ("churn", 1)
    assert registry.names() == ["churn", "flight-delay"]


def test_a_deleted_experiment_names_the_mend(registry, spec, artifact):
    registry.register(spec, artifact("one"))
    registry._store.client.delete_experiment(registry._runs.experiment("flight-delay"))
    with pytest.raises(RegistryError, match="has been deleted") as caught:
        registry.register(spec, artifact("two"))
    assert "mlflow experiments restore" in caught.value.hint


def test_azure_ml_keeps_aliases_as_tags():
    assert isinstance(aliases(Store("azureml://canada.api.azureml.ms/mlflow/v1.0/x")), TagAliases)
    assert isinstance(aliases(Store("http://127.0.0.1:5000")), StoreAliases)


class TestPointer:
    def test_it_agrees_with_mlflow(self, uri, spec, artifact, tmp_path):
        registry = ModelRegistry(uri, tmp_path / "artifacts")
        assert pointer.champion(uri, spec.name) == Champion(spec.name)
        registry.register(spec, artifact("one"))
        assert pointer.champion(uri, spec.name) == registry.champion(spec.name) == Champion(spec.name)
        registry.settle(spec, 1, FIRST)
        assert pointer.champion(uri, spec.name) == registry.champion(spec.name)
        assert pointer.champion(uri, spec.name).version == 1
        assert pointer.champion(uri, "churn") == Champion("churn")

    def test_it_asks_mlflow_when_the_file_is_unexpected(self, tmp_path, uri):
        other = tmp_path / "other.db"
        sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(b"not a database" * 100)
        folder = tmp_path / "folder.db"
        folder.mkdir()
        for odd in (other, damaged, folder):
            assert pointer.champion(f"sqlite:///{odd}", "m") is None
        assert pointer.champion("http://127.0.0.1:5000", "m") is None
        assert pointer.champion("sqlite:///:memory:", "m") is None

    def test_it_asks_mlflow_when_the_file_is_locked(self, uri, tmp_path):
        writer = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
        writer.execute("BEGIN EXCLUSIVE")
        assert pointer.champion(uri, "m") is None
        writer.close()
        assert pointer.champion(uri, "m") == Champion("m")

    def test_it_asks_mlflow_about_a_champion_without_digest(self, uri, registry, spec, artifact):
        registry = ModelRegistry(uri, Path("unused"))
        client = registry._store.client
        client.create_registered_model("by-hand")
        client.create_model_version("by-hand", "/somewhere", tags={})
        client.set_registered_model_alias("by-hand", "champion", "1")
        assert pointer.champion(uri, "by-hand") is None
        assert registry.champion("by-hand") == Champion("by-hand", 1)
