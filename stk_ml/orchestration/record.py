"""What each run did, kept beside the cache so that ``stk-ml why`` can compare runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from stk_ml.orchestration.protocol import KeyParts


class StepRecord(msgspec.Struct, frozen=True):
    """One step of a run; ``status`` is running until it has ended."""

    name: str
    status: str
    seconds: float = 0.0
    key: str = ""
    parts: KeyParts | None = None
    outputs: dict[str, str] = {}
    log: str = ""
    forced: bool = False


class RunRecord(msgspec.Struct):
    """One run of a pipeline, from its first step on; ``steps`` holds those that have started."""

    id: str
    pipeline: str
    file: str
    steps: dict[str, StepRecord] = {}
    status: str = "running"


def save(record: RunRecord, folder: Path) -> None:
    """Writes run.json in a folder, aside and renamed. Raises OSError."""
    aside = folder / f".run.json.{os.getpid()}.tmp"
    try:
        aside.write_bytes(msgspec.json.encode(record))
        aside.replace(folder / "run.json")
    finally:
        aside.unlink(missing_ok=True)


def newest(cache: Path) -> Iterator[RunRecord]:
    """The records of a cache, newest first; one that cannot be read is passed over."""
    for folder in sorted((cache / "runs").glob("*"), key=lambda folder: folder.name, reverse=True):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            yield msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)
