"""Content digests of files, folders and text, with an index so that unchanged files are not read again."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

#: Never part of a code folder.
ALWAYS_IGNORED = (
    *("__pycache__", ".git", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".stk", ".venv"),
)
#: A file changed this recently (seconds) may change again within one tick of its clock: it is not put in the index.
SETTLED = 2.0
#: Files that the index remembers; past that it starts afresh.
LIMIT = 200_000
Ignore = Callable[[str, bool], bool]


def text(value: str) -> str:
    """sha256 of a text.

    Example:
        >>> text("a")[:8]
        'ca978112'
    """
    return hashlib.sha256(value.encode()).hexdigest()


def canonical(value: Any) -> str:
    """sha256 of plain data, whatever the order of its keys.

    Example:
        >>> canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
        True
    """
    return text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


class Digests:
    """Digests of what is on disk.

    Args:
        index: file that remembers digests by path, size and times; None for no memory. Several processes may share
            it: it is replaced as a whole, and the last writer wins.
    """

    def __init__(self, index: Path | None = None) -> None:
        self._file = index
        self._known: dict[str, list[Any]] | None = None
        self._new: dict[str, list[Any]] = {}

    def file(self, path: Path | str) -> str:
        """sha256 of the content of a file. Raises OSError."""
        path = Path(path).absolute()
        name, status = str(path), path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = self._load().get(name)
        if known and known[:3] == stamp:
            return str(known[3])
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED:
            self._load()[name] = self._new[name] = [*stamp, digest]
        return digest

    def path(self, path: Path) -> str:
        """Digest of a file or folder. Raises OSError."""
        return self.folder(path) if path.is_dir() else self.file(path)

    def folder(self, folder: Path) -> str:
        """Digest of the names and contents below a folder; a Delta table in it counts by its log.

        Raises:
            OSError: something in it cannot be read.
        """
        return canonical(self.files(folder))

    def files(self, folder: Path, ignore: Ignore | None = None) -> dict[str, str]:
        """Digest of each file below a folder by relative path, sorted. Links are followed; loops are not."""
        found: dict[str, str] = {}
        for name, path in walk(folder, ignore):
            found[name] = _table(path.parent) if path.name == "_delta_log" else self.file(path)
        return found

    def save(self) -> None:
        """Writes the index, if there is anything new. A full disk loses only the memory."""
        if not self._new or self._file is None:
            return
        self._known = None
        merged = {**self._load(), **self._new}
        if len(merged) > LIMIT:
            merged = self._new
        aside = self._file.with_name(f".{self._file.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            try:
                aside.write_text(json.dumps(merged, separators=(",", ":")))
                aside.replace(self._file)
            finally:
                aside.unlink(missing_ok=True)
        self._new = {}

    def _load(self) -> dict[str, list[Any]]:
        known = self._known
        if known is None:
            known = {}
            if self._file is not None:
                with contextlib.suppress(OSError, ValueError):
                    known = dict(json.loads(self._file.read_text()))
            self._known = known
        return known


def walk(folder: Path, ignore: Ignore | None = None, *, tables: bool = True) -> Iterator[tuple[str, Path]]:
    """The files below a folder in sorted order, as relative POSIX path and path.

    A folder that holds ``_delta_log`` is a Delta table: its log stands for it, as one entry ``.../_delta_log``, unless
    ``tables`` is false. Links to folders are followed, loops are not.
    """
    yield from _walk(folder, "", ignore, tables, (os.path.realpath(folder),))


def _walk(
    folder: Path, prefix: str, ignore: Ignore | None, tables: bool, above: tuple[str, ...]
) -> Iterator[tuple[str, Path]]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if tables and any(entry.name == "_delta_log" and entry.is_dir() for entry in entries):
        yield f"{prefix}_delta_log", folder / "_delta_log"
        return
    for entry in entries:
        name, is_dir = prefix + entry.name, entry.is_dir()
        if ignore is not None and ignore(name, is_dir):
            continue
        if not is_dir:
            yield name, folder / entry.name
            continue
        real = os.path.realpath(entry.path)
        if real not in above:
            yield from _walk(folder / entry.name, f"{name}/", ignore, tables, (*above, real))


def _table(folder: Path) -> str:
    """Digest of a Delta table: its newest commit, whose file names are unique to it."""
    commits = sorted(file for file in (folder / "_delta_log").iterdir() if re.fullmatch(r"\d{20}\.json", file.name))
    if not commits:
        return text("delta, no commit")
    return canonical(["delta", commits[-1].name, hashlib.sha256(commits[-1].read_bytes()).hexdigest()])


def code_ignore(folder: Path) -> Ignore:
    """What Azure ML leaves out of a code folder: the patterns of .amlignore, else of .gitignore, at its top."""
    lines: list[str] = []
    for name in (".amlignore", ".gitignore"):
        if (folder / name).is_file():
            lines = (folder / name).read_text("utf-8", "replace").splitlines()
            break
    return ignoring(lines)


def ignoring(lines: list[str]) -> Ignore:
    """A test for the patterns of a .gitignore; the last that matches decides.

    Example:
        >>> ignore = ignoring(["*.csv", "!keep.csv", "build/"])
        >>> ignore("a/b.csv", False), ignore("keep.csv", False), ignore("build", True), ignore("build", False)
        (True, False, True, False)
    """
    rules = [rule for rule in map(_rule, lines) if rule is not None]

    def ignore(name: str, is_dir: bool) -> bool:
        if name.rsplit("/", 1)[-1] in ALWAYS_IGNORED:
            return True
        verdict = False
        for pattern, negated, only_dirs in rules:
            if (is_dir or not only_dirs) and pattern.fullmatch(name):
                verdict = not negated
        return verdict

    return ignore


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    line = line.rstrip()
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[negated:].removeprefix("\\")
    only_dirs, body = body.endswith("/"), body.rstrip("/")
    anchored, body = "/" in body, body.lstrip("/")
    parts = body.split("/")
    out = "" if anchored else "(?:.*/)?"
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out += ".*" if last else "(?:.*/)?"
        else:
            out += _glob(part) + ("" if last else "/")
    return re.compile(out, re.S), negated, only_dirs


def _glob(part: str) -> str:
    """One path segment of a pattern as a regular expression: ``*`` and ``?`` stay within the segment."""
    pieces = re.split(r"(\*+|\?|\[[^\]]*\])", part)
    out = ""
    for piece in pieces:
        if piece.startswith("*"):
            out += "[^/]*"
        elif piece == "?":
            out += "[^/]"
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            out += re.sub(r"^\(\?s:(.*)\)\\Z$", r"\1", fnmatch.translate(piece))
        else:
            out += re.escape(piece)
    return out


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names whose value differs between two mappings, with what happened to them.

    Example:
        >>> differing({"a": "1", "b": "1"}, {"a": "2", "c": "1"})
        ['a changed', 'b removed', 'c added']
    """
    out = []
    for name in sorted({*old, *new}):
        if name not in new:
            out.append(f"{name} removed")
        elif name not in old:
            out.append(f"{name} added")
        elif old[name] != new[name]:
            out.append(f"{name} changed")
    return out
