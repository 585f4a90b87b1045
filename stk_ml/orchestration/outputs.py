"""Outputs of steps: whether they are there after the command, and how they get to where the user wants them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from stk_ml.orchestration.digest import walk
from stk_ml.orchestration.pipeline import FILE_TYPES, MARKERS, Step


def prepare(step: Step, folder: Path) -> dict[str, Path]:
    """The path of each output; a folder is there before the command runs, as on Azure ML. Raises OSError."""
    paths = {name: folder / name for name in step.outputs}
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        if step.outputs[name].type not in FILE_TYPES:
            path.mkdir()
    return paths


def problems(step: Step, paths: Mapping[str, Path]) -> list[str]:
    """What is wrong with the outputs of a step that ended well; empty when nothing is."""
    found = []
    for name, path in paths.items():
        kind = step.outputs[name].type
        if kind in FILE_TYPES:
            if not path.is_file():
                what = "made a folder of" if path.is_dir() else "did not write"
                found.append(f"{what} its output {name!r} ({kind}, one file)")
        elif kind == "custom_model" and path.is_file():
            continue
        elif not path.is_dir():
            found.append(f"did not leave a folder as its output {name!r} ({kind})")
        elif next(walk(path), None) is None:
            found.append(f"left its output {name!r} ({kind}) empty")
        elif kind in MARKERS and not (path / MARKERS[kind]).is_file():
            found.append(f"wrote no file {MARKERS[kind]} into its output {name!r} ({kind})")
    return found


def place(source: Path, target: Path) -> None:
    """Puts a file or folder of the cache at ``target``, as hard links where the disk allows.

    It appears as a whole. Where a folder must give way there is an instant between two renames with nothing there.

    Raises:
        OSError: the disk refused; then ``target`` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        if source.is_dir():
            shutil.copytree(source, aside, copy_function=_link)
        else:
            _link(str(source), str(aside))
        _swap(aside, target)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink() if aside.is_file() else shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, target: Path) -> None:
    """Renames ``aside`` to ``target``; a folder that is there, or that another run puts there meanwhile, gives way."""
    for _ in range(100):
        try:
            aside.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
                raise
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            old.unlink(missing_ok=True) if old.is_file() else shutil.rmtree(old, ignore_errors=True)
        else:
            return
    raise OSError(errno.EBUSY, "is being replaced by another run all the time", str(target))


def copy_code(source: Path, target: Path, files: Mapping[str, str]) -> None:
    """Copies the named files of a code folder, or one code file, to ``target``. Raises OSError."""
    target.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy2(source, target / source.name)
        return
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
