"""Commits of a Delta table: tried again when another writer won, with a note that can be read later."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from stk_ml.errors import WriteConflictError

T = TypeVar("T")

#: How often a write is tried while other writers keep committing first.
ATTEMPTS = 20
#: Where Spark keeps what a writer notes in a commit; ``DESCRIBE HISTORY`` shows it.
_NOTE = "userMetadata"


def retried(write: Callable[[], T], *, again: Callable[[], bool]) -> T:
    """Runs a write until no other writer has won, with pauses that grow and vary.

    Args:
        write: one attempt.
        again: whether it can be attempted once more.

    Raises:
        WriteConflictError: it lost :data:`ATTEMPTS` times, or cannot be attempted again.
    """
    for count in range(1, ATTEMPTS):
        try:
            return write()
        except WriteConflictError:
            if not again():
                raise
            time.sleep(random.uniform(0, min(0.02 * 2**count, 1.0)))  # noqa: S311
    return write()


def alone(metadata: Mapping[str, str] | None = None) -> CommitProperties:
    """Properties of a commit that fails when any other came first.

    Left to itself, delta-rs rebases: two writers that create or overwrite one table at once would both succeed, and the
    table would hold the rows of both.
    """
    note = {_NOTE: json.dumps(dict(metadata), sort_keys=True)} if metadata else None
    return CommitProperties(custom_metadata=note, max_commit_retries=0)


def noted(commit: bytes) -> dict[str, str]:
    """The metadata that :func:`alone` put into a commit, from the lines of its file; empty when there is none.

    Example:
        >>> noted(json.dumps({"commitInfo": {"userMetadata": '{"view": "ab"}'}}).encode())
        {'view': 'ab'}
    """
    actions = [json.loads(line) for line in commit.splitlines()]
    note = next((action["commitInfo"].get(_NOTE) for action in actions if "commitInfo" in action), None)
    try:
        found = json.loads(note or "{}")
    except ValueError:  # the note of another tool
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def digest(table: DeltaTable, files: pa.Table) -> str:
    """The sha256 of what a table holds: its schema, and relative path, size and partition of each active file."""
    held = {
        "schema": json.loads(table.schema().to_json()),
        "partition_by": table.metadata().partition_columns,
        "files": sorted(
            ([file["path"], file["size_bytes"], file.get("partition")] for file in files.to_pylist()),
            key=lambda file: str(file[0]),
        ),
    }
    return hashlib.sha256(json.dumps(held, sort_keys=True, default=str).encode()).hexdigest()
