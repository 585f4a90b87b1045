"""Several writers at once, killed writers, full disks and storage that refuses: the old version stays readable."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from lake_rigs import CONTAINER, Child

from stk_ml.errors import StkMlError, StorageError, WriteConflictError
from stk_ml.lake.lake import Lake


def at_once(writers: list[Child], lake: Lake, code: str) -> list[list[int]]:
    """Runs the code in all processes at once, ``me`` being the number of each; the numbers that each printed."""
    for me, writer in enumerate(writers):
        writer.start(lake, f"me = {me}\n{code}")
    return [[int(line) for line in writer.printed()] for writer in writers]


def test_six_processes_create_and_append_at_once_and_nothing_is_lost(lake: Lake, writers: list[Child]) -> None:
    code = """
for n in range(4):
    print(lake.table("raw.events").append(pa.table({"writer": [me], "n": [n]})))
"""
    versions = at_once(writers, lake, code)
    assert sorted(version for each in versions for version in each) == list(range(24))  # each was told its own
    held = {(row["writer"], row["n"]) for row in lake.table("raw.events").read().to_pylist()}
    assert held == {(writer, n) for writer in range(6) for n in range(4)}
    assert lake.table("raw.events").pinned().rows == 24


def test_overwrites_at_once_leave_the_rows_of_one(lake: Lake, writers: list[Child]) -> None:
    code = 'print(lake.table("curated.x").overwrite(pa.table({"writer": [me] * 3}), metadata={"by": str(me)}))'
    versions = [version for (version,) in at_once(writers, lake, code)]
    assert sorted(versions) == list(range(6))
    table = lake.table("curated.x")
    for writer, version in enumerate(versions):
        assert table.read(version=version)["writer"].to_pylist() == [writer] * 3
        assert table.metadata(version) == {"by": str(writer)}


def test_merges_at_once_keep_keys_unique(lake: Lake, writers: list[Child]) -> None:
    at_once(writers, lake, 'lake.table("raw.x").merge(pa.table({"id": [0, 100 + me], "by": [me, me]}), key=["id"])')
    assert sorted(lake.table("raw.x").read()["id"].to_pylist()) == [0, *range(100, 106)]


def test_overwrites_of_different_partitions_at_once_all_stand(lake: Lake, writers: list[Child]) -> None:
    table = lake.table("curated.x")
    table.overwrite(pa.table({"month": range(6), "by": [-1] * 6}), partition_by=["month"])
    code = 'lake.table("curated.x").overwrite(pa.table({"month": [me], "by": [me]}), only={"month": me})'
    at_once(writers, lake, code)
    assert table.read().sort_by("month")["by"].to_pylist() == list(range(6))


def test_a_stream_that_loses_to_another_writer_is_a_conflict_that_can_be_retried(folder: Lake) -> None:
    table = folder.table("curated.x")
    table.overwrite(pa.table({"id": [0]}))

    def batches() -> Iterator[pa.RecordBatch]:
        table.append(pa.table({"id": [1]}))
        yield pa.record_batch({"id": [2]})

    with pytest.raises(WriteConflictError, match=r"cannot overwrite curated\.x: another writer") as caught:
        table.overwrite(pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), batches()))
    assert caught.value.retryable
    assert sorted(table.read()["id"].to_pylist()) == [0, 1]


def test_readers_see_whole_versions_while_others_write(folder: Lake) -> None:
    table = folder.table("curated.x")
    table.overwrite(pa.table({"n": [0] * 1000}))
    done = threading.Event()

    def write() -> None:
        for n in range(1, 15):
            table.overwrite(pa.table({"n": [n] * 1000}))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        held = table.read()["n"]
        assert len(held) == 1000
        assert len(held.unique()) == 1
        seen.append(held[0].as_py())
    writer.join()
    assert seen == sorted(seen)


def test_a_stream_may_read_the_lake_that_it_is_written_to(lake: Lake) -> None:
    table = lake.table("raw.x")
    table.append(pa.table({"id": [1]}))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.read().to_batches()
        yield from table.dataset().to_batches()

    table.append(pa.RecordBatchReader.from_batches(table.schema(), batches()))
    assert table.read()["id"].to_pylist() == [1, 1, 1]


BIG_WRITE = """
def endless():
    for n in range(1000):
        yield pa.record_batch({"n": np.random.default_rng(n).random(500_000)})
        print(n, flush=True)
getattr(lake.table("raw.big"), "%s")(pa.RecordBatchReader.from_batches(pa.schema({"n": pa.float64()}), endless()))
"""


def kill_in_the_middle(child: Child, lake: Lake, write: str) -> None:
    """Kills a write of 4 GB once 48 MB are on their way and, where a folder shows it, a new file has begun."""

    def files() -> set[Path]:
        return set() if lake.uri.startswith("az://") else set(Path(lake.uri, "raw/big").glob("*.parquet*"))

    before, on_their_way = files(), False
    child.start(lake, BIG_WRITE % write)
    while not (on_their_way and (lake.uri.startswith("az://") or files() - before)):
        line = child.line()
        assert line not in ("done", ""), "it ended before it could be killed"
        on_their_way = on_their_way or line == "12"
    assert child.process.poll() is None
    child.kill()


@pytest.mark.parametrize("write", ["append", "overwrite"])
def test_a_killed_write_leaves_the_old_version_readable(lake: Lake, child: Child, write: str) -> None:
    table = lake.table("raw.big")
    table.append(pa.table({"n": [1.0, 2.0, 3.0]}))
    before = table.pinned()
    kill_in_the_middle(child, lake, write)
    assert table.pinned() == before
    assert table.read()["n"].to_pylist() == [1.0, 2.0, 3.0]
    assert table.append(pa.table({"n": [4.0]})) == 1
    assert table.read().num_rows == 4


def test_a_killed_first_write_leaves_no_table(lake: Lake, child: Child) -> None:
    kill_in_the_middle(child, lake, "append")
    assert lake.tables() == []
    assert lake.table("raw.big").append(pa.table({"n": [4.0]})) == 0
    assert lake.table("raw.big").read().num_rows == 1


# what the disk and the storage refuse


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted: run as root, outside of a container without CAP_SYS_ADMIN")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_is_told_and_the_old_version_is_readable(small_disk: Path) -> None:
    lake = Lake(str(small_disk))
    table = lake.table("raw.big")
    table.append(pa.table({"n": [1]}))
    before = table.pinned()
    big = pa.table({"n": pa.array(range(2_000_000), pa.int64())})
    for write in (table.append, table.overwrite, lambda rows: table.merge(rows, key=["n"])):
        with pytest.raises(StorageError, match=r"raw\.big: the disk is full") as caught:
            write(big)
        assert "free some space" in caught.value.hint
        assert table.pinned() == before
        assert table.read()["n"].to_pylist() == [1]
        for orphan in Path(table.uri).glob("*.parquet*"):
            if orphan.name not in {Path(file).name for file in table.dataset().files}:
                orphan.unlink()
    assert table.append(pa.table({"n": [2]})) == 1


def test_a_disk_without_room_for_the_commit_keeps_the_old_version(small_disk: Path) -> None:
    table = Lake(str(small_disk)).table("raw.big")
    table.append(pa.table({"n": [1]}))
    before = table.pinned()
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with pytest.raises(StorageError, match="the disk is full"):
        table.append(pa.table({"n": [2]}))
    assert table.pinned() == before
    (small_disk / "filler").unlink()
    assert table.append(pa.table({"n": [2]})) == 1


def test_a_disk_that_refuses_in_the_middle_of_a_file_is_told(folder: Lake, child: Child) -> None:
    table = folder.table("raw.big")
    table.append(pa.table({"n": [1]}))
    child.start(
        folder,
        """
import resource, signal
from stk_ml.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    lake.table("raw.big").append(pa.table({"n": np.random.default_rng(0).integers(0, 2**62, 1_000_000)}))
except StorageError as error:
    print(error.message)
""",
    )
    (message,) = child.printed()
    assert "cannot append to raw.big: the disk is full" in message
    assert table.read()["n"].to_pylist() == [1]
    assert table.version() == 0


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    if os.getuid() == 0:
        (tmp_path / "lake").write_text("a file where the folder should be")
    else:
        (tmp_path / "lake").mkdir(mode=0o500)
    with pytest.raises(StkMlError, match=r"cannot .* raw\.x"):
        Lake(str(tmp_path / "lake")).table("raw.x").append(pa.table({"n": [1]}))


def test_storage_that_refuses_or_is_away_is_told_without_secrets(azurite: dict[str, str]) -> None:
    uri, wrong = f"az://{CONTAINER}/x", "d3Jvbmc="
    for name, options, message in (
        (uri, {**azurite, "account_key": wrong}, "access is refused"),
        (uri, {**azurite, "account_key": "!"}, "access is refused"),
        (uri, {**azurite, "endpoint": "http://127.0.0.1:9/stktest", "retry_timeout": "1s"}, "cannot be reached"),
        ("az://nowhere/x", azurite, "no such container"),
    ):
        lake = Lake(name, options)
        for action in (lake.tables, lake.table("raw.x").exists, lake.table("raw.x").version):
            with pytest.raises(StorageError, match=message) as caught:
                action()
            assert wrong not in str(caught.value) + caught.value.hint
            assert caught.value.hint


def test_a_sas_token_works_instead_of_a_key(azurite: dict[str, str]) -> None:
    blob = pytest.importorskip("azure.storage.blob")
    token = blob.generate_container_sas(
        azurite["account_name"],
        CONTAINER,
        account_key=azurite["account_key"],
        permission="racwdl",
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    lake = Lake(f"az://{CONTAINER}/sas", {**_keyless(azurite), "sas_token": token})
    lake.table("raw.x").append(pa.table({"n": [1]}))
    assert lake.tables() == ["raw.x"]
    with pytest.raises(StorageError, match="access is refused") as caught:
        Lake(f"az://{CONTAINER}/sas", {**_keyless(azurite), "sas_token": token[:-9] + "%3D"}).tables()
    assert "sig=" not in str(caught.value)


def test_the_sign_in_of_the_azure_command_line_can_be_used(
    azurite: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "az"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(StorageError):
        Lake(f"az://{CONTAINER}/cli", {**_keyless(azurite), "use_azure_cli": "true"}).tables()
    assert "get-access-token" in (tmp_path / "asked").read_text()


def _keyless(options: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if key != "account_key"}
