from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time

import pytest

from stk_ml.errors import RegistryError
from stk_ml.registry.models import ModelRegistry
from stk_ml.registry.store import Store, database


def test_only_a_plain_sqlite_uri_is_a_file():
    assert str(database("sqlite:////a b/mlflow.db")) == "/a b/mlflow.db"
    for other in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:a.db?mode=ro&uri=true", "http://h", "azureml://h"):
        assert database(other) is None


def test_a_registry_is_cheap_until_it_is_used(python, tmp_path):
    code = """
from stk_ml.registry import pointer
from stk_ml.registry.models import ModelRegistry
ModelRegistry("sqlite:///" + sys.argv[1] + "/mlflow.db", sys.argv[1])
pointer.champion("sqlite:///" + sys.argv[1] + "/mlflow.db", "m")
heavy = {"mlflow", "numpy", "pandas", "sklearn", "lightgbm", "sqlalchemy", "pyarrow"}
print(sorted(heavy & set(sys.modules)))
"""
    assert python(code, str(tmp_path)).communicate(timeout=60)[0] == "[]\n"
    assert list(tmp_path.iterdir()) == []


def test_mlflow_is_left_as_it_was(uri, tmp_path, capfd):
    import mlflow

    before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), logging.getLogger("mlflow").level)
    assert ModelRegistry(uri, tmp_path).names() == []
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), logging.getLogger("mlflow").level) == before
    assert capfd.readouterr() == ("", "")


def test_a_password_is_not_shown():
    assert Store("postgresql://ada:secret@host:5432/mlflow").shown == "postgresql://host:5432/mlflow"
    assert Store("sqlite:////a@b/mlflow.db").shown == "sqlite:////a@b/mlflow.db"


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"something else entirely" * 100)
    with pytest.raises(RegistryError, match="damaged or no database") as caught:
        ModelRegistry(f"sqlite:///{file}", tmp_path).names()
    assert "tracking_uri" in caught.value.hint
    assert file.read_bytes().startswith(b"something else")


def test_a_database_cut_short_is_refused(uri, tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_bytes(file.read_bytes()[:20000])
    with pytest.raises(RegistryError, match="damaged"):
        ModelRegistry(uri, tmp_path).names()


def test_another_programs_database_is_refused_and_kept(tmp_path):
    file = tmp_path / "shop.db"
    sqlite3.connect(file).execute("CREATE TABLE orders (x)").connection.close()
    with pytest.raises(RegistryError, match="not of MLflow"):
        ModelRegistry(f"sqlite:///{file}", tmp_path).names()
    with sqlite3.connect(file) as kept:
        assert kept.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    kept.close()


@pytest.mark.parametrize(
    ("revision", "message", "hint"),
    [("ffffffffffff", "newer MLflow", "install that MLflow"), ("bd07f7e963c5", "older MLflow", "mlflow db upgrade")],
)
def test_a_schema_of_another_mlflow_is_refused(uri, tmp_path, revision, message, hint):
    with sqlite3.connect(tmp_path / "mlflow.db") as changed:
        changed.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    changed.close()
    with pytest.raises(RegistryError, match=message) as caught:
        ModelRegistry(uri, tmp_path).names()
    assert hint in caught.value.hint


def test_a_read_only_database_can_be_read_only(uri, spec, artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow makes the folder that it reads in such a URI
    ModelRegistry(uri, tmp_path / "artifacts").register(spec, artifact("one"))
    registry = ModelRegistry(f"sqlite:///file:{tmp_path}/mlflow.db?mode=ro&uri=true", tmp_path / "artifacts")
    assert registry.names() == ["flight-delay"]
    with pytest.raises(RegistryError, match="read-only") as caught:
        registry.register(spec, artifact("two"))
    assert "may you write" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="the model registry sqlite"):
        ModelRegistry(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path).names()


def test_an_unknown_kind_of_store_is_an_error(tmp_path):
    with pytest.raises(RegistryError, match="nonsense"):
        ModelRegistry("nonsense://x", tmp_path).names()
    with pytest.raises(RegistryError, match="plain folders") as caught:
        ModelRegistry(f"file:{tmp_path}/mlruns", tmp_path).names()
    assert "sqlite:///" in caught.value.hint


def test_a_database_locked_for_a_while_is_waited_for(uri, spec, artifact, tmp_path):
    registry = ModelRegistry(uri, tmp_path / "artifacts")
    registry.names()
    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.0, other.execute, ["COMMIT"]).start()
    started = time.monotonic()
    assert registry.register(spec, artifact()).version == 1
    assert time.monotonic() - started > 0.5
    other.close()


def test_an_empty_file_counts_as_no_store_yet(fresh_store):
    assert fresh_store.stat().st_size > 100_000


@pytest.mark.slow
def test_the_base_install_is_enough(python, artifact, tmp_path):
    """mlflow-skinny, SQLAlchemy and alembic: what only the full MLflow brings cannot be imported here."""
    code = """
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pandas", "flask", "docker", "graphene", "gunicorn", "matplotlib", "scipy"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from stk_ml.contracts import GateVerdict
from stk_ml.model_spec import DataSpec, ModelSpec
from stk_ml.registry.models import ModelRegistry
spec = ModelSpec(name="m", problem="binary", data=DataSpec(target="late", table="raw.flights"))
registry = ModelRegistry(f"sqlite:///{sys.argv[1]}/mlflow.db", f"{sys.argv[1]}/artifacts")
registry.register(spec, Path(sys.argv[2]))
print(registry.settle(spec, 1, GateVerdict("first", True, "the floor is met")).aliases, registry.download("m").name)
"""
    process = python(code, str(tmp_path), str(artifact()))
    assert process.communicate(timeout=180) == ("('champion',) model\n", "")


def test_a_moved_project_still_opens(uri, spec, artifact, tmp_path):
    ModelRegistry(uri, tmp_path / "artifacts").register(spec, artifact())
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "mlflow.db", tmp_path / "moved" / "mlflow.db")
    assert ModelRegistry(f"sqlite:///{tmp_path}/moved/mlflow.db", tmp_path / "artifacts").names() == ["flight-delay"]
