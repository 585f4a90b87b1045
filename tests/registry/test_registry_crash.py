"""Registrations that are killed or fail in the middle, and several at once. All with real processes on real files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import warnings

import pytest

from stk_ml.artifact import manifest
from stk_ml.contracts import Champion, GateVerdict, Interval
from stk_ml.errors import RegistryError
from stk_ml.registry import pointer
from stk_ml.registry.models import ModelRegistry

FIRST = GateVerdict("first", True, "no champion yet")
BETTER = GateVerdict("better", True, "better", Interval(0.02, 0.01, 0.03))


@pytest.fixture
def forked(fresh_store):
    """Starts a function in a forked process, where MLflow is imported already; its exit code comes from join()."""
    import mlflow.tracking  # noqa: F401

    def start(work, *args):
        process = multiprocessing.get_context("fork").Process(target=work, args=args)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from 3.12 on, about forks of processes with threads
            process.start()
        return process

    return start


def ended(*processes) -> list[int | None]:
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def die_before(statement: str) -> None:
    """Kills this process for good when a statement that starts like this is about to run."""
    import sqlalchemy

    def hook(connection, cursor, sql, *rest) -> None:
        if " ".join(sql.split()).startswith(statement):
            os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", hook)


def die_before_copying(name: str) -> None:
    def hook(event: str, args: tuple) -> None:
        if event == "shutil.copyfile" and str(args[0]).endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def statuses(registry: ModelRegistry) -> list[str]:
    client = registry._store.client
    return sorted(run.info.status for run in client.search_runs([registry._runs.experiment("flight-delay")]))


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("INSERT INTO experiments", []),
        ("INSERT INTO registered_models", []),
        ("INSERT INTO runs", []),
        ("INSERT INTO params", ["KILLED"]),
        ("model.json", ["KILLED"]),
        ("card.html", ["KILLED"]),
        ("INSERT INTO model_versions", ["KILLED"]),
        ("INSERT INTO model_version_tags", ["KILLED"]),
        ("UPDATE runs SET status", []),
    ],
)
def test_a_killed_registration_is_done_again(forked, uri, spec, artifact, evaluation, tmp_path, point, left):
    folder, report = artifact(), evaluation()

    def work() -> None:
        (die_before if " " in point else die_before_copying)(point)
        ModelRegistry(uri, tmp_path / "artifacts").register(spec, folder, evaluation=report)

    assert ended(forked(work)) == [-signal.SIGKILL]
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    version = registry.register(spec, folder, evaluation=report)
    assert registry.register(spec, folder, evaluation=report) == version
    assert registry.versions(spec.name) == [version]
    assert manifest.verify(registry.download(version)).digest == version.digest
    assert (registry.download(version).parent / "evaluation" / "card.html").is_file()
    assert statuses(registry) == sorted(["FINISHED", *left])


def test_a_killed_registration_does_not_stay_running_when_another_model_comes(
    forked, uri, spec, artifact, evaluation, tmp_path
):
    killed, report = artifact("one"), evaluation()

    def work() -> None:
        die_before_copying("card.html")
        ModelRegistry(uri, tmp_path / "artifacts").register(spec, killed, evaluation=report)

    ended(forked(work))
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    assert registry.register(spec, artifact("two")).version == 1
    assert statuses(registry) == ["FINISHED", "KILLED"]


@pytest.mark.parametrize(
    "point",
    ["INSERT INTO registered_model_aliases", "UPDATE registered_model_aliases", "INSERT INTO model_version_tags"],
)
def test_a_killed_promotion_leaves_one_champion_and_is_completed_by_the_next(
    forked, uri, spec, artifact, tmp_path, point
):
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    for content in ("one", "two"):
        registry.register(spec, artifact(content))
    registry.settle(spec, 1, FIRST)

    def work() -> None:
        die_before(point)
        ModelRegistry(f"{uri}", tmp_path / "artifacts").settle(spec, 2, BETTER)

    registry._store.client._client._tracking_client.store.engine.dispose()  # the child opens connections of its own
    registry._store.client._client._get_registry_client().store.engine.dispose()
    assert ended(forked(work)) in ([-signal.SIGKILL], [0])
    assert registry.champion(spec.name).version in (1, 2)
    settled = registry.settle(spec, 2, BETTER)
    assert settled.aliases == ("champion",)
    assert registry.version("flight-delay:1").tags["replaced_by"] == "2"
    assert settled.tags["replaces"] == "1"


def test_a_store_whose_creation_was_killed_is_created_again(forked, spec, artifact, tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"

    def work() -> None:
        die_before("CREATE TABLE webhooks")
        ModelRegistry(uri, tmp_path / "artifacts").names()

    assert ended(forked(work)) == [-signal.SIGKILL]
    assert (tmp_path / "new" / ".mlflow.db.new").exists()
    assert pointer.champion(uri, spec.name) == Champion(spec.name)
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    assert registry.register(spec, artifact()).version == 1
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def test_first_starts_at_once_share_one_store(forked, spec, artifact, tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    folders = [artifact(str(number)) for number in range(4)]

    def work(folder) -> None:
        registry = ModelRegistry(uri, tmp_path / "artifacts")
        registry.settle(spec, registry.register(spec, folder).version, BETTER)

    assert ended(*[forked(work, folder) for folder in folders]) == [0, 0, 0, 0]
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    versions = registry.versions(spec.name)
    assert [version.version for version in versions] == [4, 3, 2, 1]
    assert {version.digest for version in versions} == {manifest.verify(folder).digest for folder in folders}
    assert len([version for version in versions if "champion" in version.aliases]) == 1
    assert len([version for version in versions if "replaced_by" in version.tags]) == 3
    assert statuses(registry) == ["FINISHED"] * 4


def test_the_same_model_registered_by_several_at_once_is_one_version(forked, uri, spec, artifact, tmp_path):
    folder = artifact()

    def work() -> None:
        ModelRegistry(uri, tmp_path / "artifacts").register(spec, folder)

    assert ended(*[forked(work) for _ in range(4)]) == [0, 0, 0, 0]
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    assert len(registry.versions(spec.name)) == 1
    assert statuses(registry) == ["FINISHED"]


@pytest.mark.slow
def test_two_trainings_that_start_together_both_register_and_print_nothing(python, artifact, tmp_path):
    code = """
from pathlib import Path
from stk_ml.model_spec import DataSpec, ModelSpec
from stk_ml.registry.models import ModelRegistry
spec = ModelSpec(name="flight-delay", problem="binary", data=DataSpec(target="late", table="raw.flights"))
registry = ModelRegistry("sqlite:///" + sys.argv[1] + "/.stk/mlflow.db", sys.argv[1] + "/.stk/artifacts")
print(registry.register(spec, Path(sys.argv[2])).version)
"""
    started = [python(code, str(tmp_path), str(artifact(content))) for content in ("one", "two")]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert sorted(out for out, _ in outputs) == ["1\n", "2\n"]
    assert [err for _, err in outputs] == ["", ""]
    assert not (tmp_path / "mlruns").exists()


def test_a_full_disk_fails_the_run_and_leaves_no_version(forked, uri, spec, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "booster.txt").write_bytes(b"x" * 20_000_000)
    manifest.seal(folder)
    message = tmp_path / "message"

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
        try:
            ModelRegistry(uri, tmp_path / "artifacts").register(spec, folder)
        except RegistryError as error:
            message.write_text(f"{error}\n{error.hint}")

    assert ended(forked(work)) == [0]
    assert "a file would become larger than allowed" in message.read_text()
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    assert statuses(registry) == ["FAILED"]
    assert registry.register(spec, folder).version == 1


def test_a_failing_statement_fails_the_run_and_leaves_no_version(uri, spec, artifact, tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON model_versions BEGIN SELECT RAISE(ABORT, 'no luck'); END"
        )
    database.close()
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    with pytest.raises(RegistryError, match="Giving up") as caught:
        registry.register(spec, artifact())
    assert "\n" not in str(caught.value)
    assert "INSERT INTO" not in str(caught.value)
    assert statuses(registry) == ["FAILED"]
    assert registry.versions(spec.name) == []
