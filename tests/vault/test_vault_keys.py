from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stk_ml import private_files
from stk_ml.errors import SecretNotFoundError, UnknownNameError
from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore

ENSURE = """
import sys
from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore
store = FileSecretStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
keys.ensure(store, "flights")
print(keys.read(store, "flights"))
"""


@pytest.fixture
def store(tmp_path: Path) -> FileSecretStore:
    return FileSecretStore(tmp_path / "vault.json")


def test_ensure_makes_two_long_keys_and_keeps_those_that_are_set(store: FileSecretStore) -> None:
    store.set("endpoint-flights-secondary", "given by hand")
    keys.ensure(store, "flights")
    first = keys.read(store, "flights")
    keys.ensure(store, "flights")
    assert keys.read(store, "flights") == first
    assert [name for name, _ in first] == ["primary", "secondary"]
    assert len(first[0][1]) == 43
    assert first[1][1] == "given by hand"


def test_keys_that_are_there_are_not_written_again(store: FileSecretStore) -> None:
    keys.ensure(store, "flights")
    before = store.modified()
    with private_files.locked(store.path):  # a writer would wait for it, and fail
        keys.ensure(store, "flights")
    assert store.modified() == before


def test_regenerate_changes_one_key_only(store: FileSecretStore) -> None:
    keys.ensure(store, "flights")
    keys.ensure(store, "other")
    before = {name: store.get(name) for name in store.names()}
    new = keys.regenerate(store, "flights", "primary")
    after = {name: store.get(name) for name in store.names()}
    assert {name for name in after if after[name] != before[name]} == {"endpoint-flights-primary"}
    assert after["endpoint-flights-primary"] == new


def test_a_misspelt_endpoint_or_key_makes_none(store: FileSecretStore) -> None:
    keys.ensure(store, "flights")
    with pytest.raises(SecretNotFoundError):
        keys.regenerate(store, "fligths", "primary")
    with pytest.raises(UnknownNameError, match="unknown key 'first'"):
        keys.regenerate(store, "flights", "first")  # type: ignore[arg-type]
    assert len(store.names()) == 2


def test_remove_takes_both_keys_of_one_endpoint(store: FileSecretStore) -> None:
    keys.ensure(store, "a")
    keys.ensure(store, "a-b")
    keys.remove(store, "a")
    keys.remove(store, "a")
    assert keys.read(store, "a") == ()
    assert keys.by_endpoint(store.names()) == {"a-b": ("primary", "secondary")}


def test_processes_that_ensure_at_once_agree(store: FileSecretStore) -> None:
    command = [sys.executable, "-c", ENSURE, str(store.path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({process.communicate(timeout=30)[0] for process in processes}) == 1
