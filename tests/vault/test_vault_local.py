from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml import private_files
from stk_ml.errors import SecretNotFoundError, VaultError
from stk_ml.vault.local import FileSecretStore

WRITER = """
import sys
from stk_ml.vault.local import FileSecretStore
store, word, count = FileSecretStore(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for n in range(count):
    store.set(f"{word}-{n}", word * 50)
    print(n, flush=True)
"""


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):03o}"


def writer(path: Path, word: str, count: int) -> subprocess.Popen[str]:
    """A process that writes once it is told to by :func:`go`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), word, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def store(tmp_path: Path) -> FileSecretStore:
    return FileSecretStore(tmp_path / "private" / "vault.json")


def test_what_is_set_is_read_back_by_another_store(store: FileSecretStore) -> None:
    store.set("b", "2")
    store.set("a", "1")
    store.set("b", "two ✓")
    other = FileSecretStore(str(store.path))
    assert (other.names(), other.get("a"), other.get("b")) == (["a", "b"], "1", "two ✓")


def test_an_absent_vault_is_empty_and_reading_creates_nothing(store: FileSecretStore) -> None:
    assert store.names() == []
    store.delete("nothing")
    with pytest.raises(SecretNotFoundError, match="no secret 'a' in"):
        store.get("a")
    assert not store.path.parent.exists()


def test_a_missing_secret_names_the_closest(store: FileSecretStore) -> None:
    store.set("sap-password", "x")
    with pytest.raises(LookupError) as caught:
        store.get("sap-pasword")
    assert "did you mean 'sap-password'?" in caught.value.hint  # type: ignore[attr-defined]


def test_file_and_folder_are_private_whatever_the_umask(store: FileSecretStore) -> None:
    before = os.umask(0)
    try:
        store.set("a", "1")
        store.set("a", "2")
    finally:
        os.umask(before)
    assert mode(store.path) == "600"
    assert mode(store.path.parent) == "700"
    assert {mode(file) for file in store.path.parent.iterdir()} == {"600"}


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o602, 0o610, 0o644, 0o777])
def test_a_file_that_others_may_use_is_refused(store: FileSecretStore, bits: int) -> None:
    store.set("a", "1")
    store.path.chmod(bits)
    for attempt in (store.names, lambda: store.get("a"), lambda: store.set("b", "2"), lambda: store.delete("a")):
        with pytest.raises(VaultError, match=f"has mode {bits:03o}") as caught:
            attempt()
        assert caught.value.hint == f"chmod 600 {store.path}"
    store.path.chmod(0o600)
    assert store.names() == ["a"]


def test_a_folder_where_everybody_may_write_is_refused(store: FileSecretStore) -> None:
    store.path.parent.mkdir()
    store.path.parent.chmod(0o777)
    with pytest.raises(VaultError, match="everybody may replace files in"):
        store.set("a", "1")
    assert not store.path.exists()


def test_a_link_is_refused(store: FileSecretStore, tmp_path: Path) -> None:
    target = FileSecretStore(tmp_path / "elsewhere.json")
    target.set("a", "1")
    store.path.parent.mkdir(mode=0o700)
    store.path.symlink_to(target.path)
    for attempt in (store.names, lambda: store.set("b", "2")):
        with pytest.raises(VaultError, match="is a symbolic link"):
            attempt()
    assert target.names() == ["a"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(store: FileSecretStore, make: object) -> None:
    store.path.parent.mkdir()
    make(store.path)  # type: ignore[operator]
    with pytest.raises(VaultError, match="is not a plain file"):
        store.names()


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b'{"format": 1, "secrets": {"a": 5}}', b'{"format": 2, "secrets": {"a": "hunter2"}}',
     b'{"format": 1, "secrets": {"a": "hunter2"}, "x": 1}', b'{"format": 1, "secrets": {"a": "hunter2', b"\xff\xfe",
     b'{"format": 1, "secrets": {"hunter2": 1}}'],
)  # fmt: skip
def test_a_damaged_file_is_named_and_nothing_of_it_shown(store: FileSecretStore, damage: bytes) -> None:
    store.set("a", "1")
    store.path.write_bytes(damage)
    with pytest.raises(VaultError, match="does not hold a vault") as caught:
        store.set("b", "2")
    assert str(store.path) in str(caught.value)
    assert "hunter2" not in "".join(map(repr, (caught.value, caught.value.__cause__, caught.value.__context__)))
    assert store.path.read_bytes() == damage, "what can perhaps be mended is left alone"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "a_b", "é", "x" * 128, "a\n"])
def test_a_name_that_key_vault_would_refuse_is_refused(store: FileSecretStore, name: str) -> None:
    with pytest.raises(VaultError, match="a secret cannot be called"):
        store.set(name, "1")


@pytest.mark.parametrize(("value", "message"), [("", "is empty"), ("hunter2\ud800", "is not Unicode text")])
def test_a_value_that_cannot_be_kept_is_refused_and_not_shown(store: FileSecretStore, value: str, message: str) -> None:
    with pytest.raises(VaultError, match=message) as caught:
        store.add("a", value)
    assert caught.value.__context__ is None
    assert "hunter2" not in str(caught.value)
    assert not store.path.exists()


def test_add_keeps_what_is_there(store: FileSecretStore) -> None:
    assert [store.add("a", "1"), store.add("a", "2"), store.get("a")] == [True, False, "1"]


def test_the_stamp_differs_after_each_change_however_quick(store: FileSecretStore) -> None:
    stamps = [store.modified()]
    for n in range(20):
        store.set("a", str(n % 10))
        stamps.append(store.modified())
    store.delete("a")
    stamps.append(store.modified())
    store.path.chmod(0o640)
    stamps.append(store.modified())
    assert len(set(stamps)) == 23


def test_setting_the_same_value_again_writes_nothing(store: FileSecretStore) -> None:
    store.set("a", "1")
    before = store.modified()
    store.set("a", "1")
    assert store.modified() == before


def test_values_show_nowhere(store: FileSecretStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    store.set("a", "hunter2")
    with pytest.raises(SecretNotFoundError) as caught:
        store.get("b")
    shown = [repr(store), str(store), repr(caught.value), str(caught.value), caught.value.hint, caplog.text]
    assert repr(store) == f"FileSecretStore({str(store.path)!r})"
    assert "hunter2" not in "".join(shown)


def test_two_processes_writing_at_once_both_win(store: FileSecretStore) -> None:
    processes = [writer(store.path, word, 40) for word in ("left", "right")]
    for process in processes:
        go(process)
    assert [process.wait(30) for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    assert len(store.names()) == 80


def test_a_writer_killed_at_any_time_leaves_a_whole_vault_and_no_lock(store: FileSecretStore) -> None:
    store.set("before", "kept")
    for round_ in range(4):
        process = writer(store.path, f"round{round_}", 10_000)
        go(process)
        assert process.stdout is not None
        written = [process.stdout.readline() for _ in range(3 + round_)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        names = store.names()
        assert {f"round{round_}-{n.strip()}" for n in written} <= set(names)
        store.set("after", str(round_))
    assert store.get("before") == "kept"
    assert {file.name for file in store.path.parent.iterdir()} == {"vault.json", ".vault.json.lock"}


def test_a_lock_that_is_held_is_waited_for_and_then_told(store: FileSecretStore) -> None:
    second = private_files.locked(store.path, seconds=0.02)
    with private_files.locked(store.path), pytest.raises(VaultError, match="another process has held"), second:
        pytest.fail("two held it")
    store.set("a", "1")


def test_a_full_or_forbidden_disk_is_a_vault_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileSecretStore(tmp_path / "file" / "vault.json")
    with pytest.raises(VaultError, match="cannot be created"):
        store.set("a", "1")
    with pytest.raises(VaultError, match="cannot be read"):
        store.names()


@given(st.dictionaries(st.from_regex(r"[0-9A-Za-z-]{1,20}", fullmatch=True), st.text(min_size=1), max_size=5))
def test_any_text_comes_back_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, secrets: dict[str, str]) -> None:
    store = FileSecretStore(tmp_path_factory.mktemp("vault") / "vault.json")
    keepable = {name: value for name, value in secrets.items() if value.isprintable()}
    for name, value in keepable.items():
        store.set(name, value)
    assert {name: store.get(name) for name in store.names()} == keepable
    if keepable:
        assert json.loads(store.path.read_text("utf-8"))["secrets"] == keepable
