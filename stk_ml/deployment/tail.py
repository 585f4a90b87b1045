"""The ends of an endpoint's logs, merged by time, and what is written to them from now on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_CHUNK = 64 * 2**10
_PAUSE = 0.2
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d+)?")


def last(file: Path, lines: int) -> list[str]:
    """The newest lines of a file; none when there is no such file. Reads no more of it than it must."""
    if lines < 1 or not file.is_file():
        return []
    with file.open("rb") as stream:
        at = stream.seek(0, 2)
        found = b""
        while at and found.count(b"\n") <= lines:
            step = min(_CHUNK, at)
            at = stream.seek(at - step)
            found = stream.read(step) + found
    return found.decode("utf-8", "replace").splitlines()[-lines:]


def merged(logs: Path, lines: int) -> list[str]:
    """The newest lines of all logs in a folder, by time, each with the name of its log in front.

    A line without a time, as in a traceback, stays with the one before it.
    """
    stamped: list[tuple[str, int, str]] = []
    for file in _files(logs):
        stamp = ""
        for number, line in enumerate(last(file, lines)):
            match = _STAMP.match(line)
            stamp = match[0] if match else stamp
            stamped.append((stamp, number, _named(file, line)))
    stamped.sort(key=lambda each: each[0])
    return [line for _, _, line in stamped[-lines:]] if lines > 0 else []


def follow(logs: Path) -> Iterator[str]:
    """Lines that are written from now on, for as long as the folder exists; a log that is cut short begins anew."""
    return _follow(logs, {file: file.stat().st_size for file in _files(logs)})


def _follow(logs: Path, seen: dict[Path, int]) -> Iterator[str]:
    while logs.is_dir():
        for file in _files(logs):
            for line in _new(file, seen):
                yield _named(file, line)
        time.sleep(_PAUSE)


def _new(file: Path, seen: dict[Path, int]) -> Sequence[str]:
    try:
        size, at = file.stat().st_size, seen.get(file, 0)
        at = 0 if size < at else at
        with file.open("rb") as stream:
            stream.seek(at)
            whole, newline, _ = stream.read(size - at).rpartition(b"\n")
    except OSError:
        return ()
    seen[file] = at + len(whole) + len(newline)
    return (whole + newline).decode("utf-8", "replace").splitlines()


def _files(logs: Path) -> list[Path]:
    return sorted(logs.glob("*.log"))


def _named(file: Path, line: str) -> str:
    return f"{file.stem:<10} {line}"
