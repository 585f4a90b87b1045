"""Outputs of steps by content. An entry is there as a whole or not at all.

::

    CACHE/entries/KK/KEY/entry.json, log.txt, outputs/NAME
    CACHE/runs/RUN/run.json, logs/STEP.txt, outputs/NAME
    CACHE/scratch/RUN/STEP/...     of a run in progress; RUN.lock is held as long as it lives
    CACHE/digests.json             digests of files by path, size and times

A step writes in scratch; on success the folder is renamed to its entry. A kill at any time leaves scratch only, and
the next run sweeps what no living run holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from stk_ml.orchestration import digest
from stk_ml.orchestration.protocol import KeyParts


def key_of(parts: KeyParts, *, salt: str = "") -> str:
    """The cache key. A step that is not deterministic gets one of its own through ``salt``.

    Example:
        >>> key_of(KeyParts("a")) == key_of(KeyParts("a", sources={"x": "elsewhere"}))
        True
        >>> key_of(KeyParts("a")) == key_of(KeyParts("b"))
        False
    """
    data = asdict(parts)
    del data["sources"]
    return digest.canonical([data, salt])


class Output(msgspec.Struct, frozen=True):
    """One output in an entry: its digest, and size and mtime_ns of each file."""

    digest: str
    files: dict[str, tuple[int, int]]


class _Entry(msgspec.Struct, frozen=True):
    key: str
    seconds: float
    outputs: dict[str, Output]


@dataclass(frozen=True)
class Entry:
    """A complete entry: where its outputs are, and their digests."""

    folder: Path
    seconds: float
    outputs: Mapping[str, Path]
    digests: Mapping[str, str]

    @property
    def log(self) -> Path:
        """What the step printed."""
        return self.folder / "log.txt"


class Cache:
    """The cache in a folder; several runs may use one at once.

    Args:
        folder: is made when it is not there.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("entries", "runs", "scratch"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.digests = digest.Digests(folder / "digests.json")

    def find(self, key: str) -> Entry | None:
        """The entry of a key when it is whole and unchanged."""
        folder = self._folder(key)
        try:
            stored = msgspec.json.decode((folder / "entry.json").read_bytes(), type=_Entry)
            whole = stored.key == key and all(self._intact(folder, n, out) for n, out in stored.outputs.items())
        except (OSError, msgspec.DecodeError):
            return None
        return self._entry(folder, stored) if whole else None

    def add(self, key: str, made: Path, outputs: Mapping[str, str], seconds: float) -> Entry:
        """Moves a finished folder in; the digests are of its outputs. Another run may have been first: then that stays.

        Args:
            key: its key.
            made: folder with ``outputs/NAME`` and ``log.txt``, in scratch.
            outputs: type of each output.
            seconds: how long the step took.

        Raises:
            OSError: the disk refused.
        """
        stored = _Entry(key, seconds, {name: _describe(made / "outputs" / name) for name in outputs})
        (made / "entry.json").write_bytes(msgspec.json.encode(stored))
        folder = self._folder(key)
        folder.parent.mkdir(exist_ok=True)
        for _ in range(10):
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                there = self.find(key)
                if there is not None:
                    return there
                self.discard(key, made.parent)
            else:
                return self._entry(folder, stored)
        raise OSError(f"{folder} cannot be replaced")

    def discard(self, key: str, scratch: Path) -> None:
        """Moves an entry out of the way, into scratch; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._folder(key).rename(scratch / f"old-{uuid.uuid4().hex}")

    def _folder(self, key: str) -> Path:
        return self.folder / "entries" / key[:2] / key

    def _intact(self, folder: Path, name: str, output: Output) -> bool:
        path = folder / "outputs" / name
        return _stamps(path) == output.files or digest.Digests().path(path) == output.digest

    @staticmethod
    def _entry(folder: Path, stored: _Entry) -> Entry:
        paths = {name: folder / "outputs" / name for name in stored.outputs}
        return Entry(folder, stored.seconds, paths, {name: out.digest for name, out in stored.outputs.items()})


class Scratch:
    """The scratch folder of one run: held by a lock as long as the run lives, removed at its end.

    Entering it also removes the folders of runs that are dead.
    """

    def __init__(self, cache: Cache, run: str) -> None:
        self.folder = cache.folder / "scratch" / run
        self._lock = self.folder.with_name(f"{run}.lock")
        self._held = -1

    def __enter__(self) -> Scratch:
        sweep(self.folder.parent)
        while True:
            self._held = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._held, fcntl.LOCK_EX)
            # A sweeper may have removed the file between the two calls above.
            if self._lock.exists() and os.path.samestat(os.fstat(self._held), self._lock.stat()):
                break
            os.close(self._held)
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove(self.folder)
        self._lock.unlink(missing_ok=True)
        os.close(self._held)


def sweep(folder: Path) -> None:
    """Removes the scratch folders of runs that no living process holds."""
    for lock in folder.glob("*.lock"):
        try:
            held = os.open(lock, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.with_suffix(""))
            lock.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            os.close(held)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _describe(path: Path) -> Output:
    return Output(digest.Digests().path(path), _stamps(path))


def _stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Size and mtime_ns of a file (under "") or of each file below a folder."""
    files = [("", path)] if path.is_file() else list(digest.walk(path, tables=False))
    stamps = {}
    for name, file in files:
        status = file.stat()
        stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps
