"""One virtual environment per peer, made by uv from a pinned list, kept until the list or the Python changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
CACHE = Path(__file__).parents[2] / ".bench"


class AbsentError(Exception):
    """A peer cannot be had on this machine; the message is the reason."""


def python(name: str, cache: Path = CACHE) -> Path:
    """The interpreter of a peer's environment, which is made on first use; this one when it has no list.

    Raises:
        AbsentError: uv is not there, or the pinned list cannot be installed.
    """
    if not name:
        return Path(sys.executable)
    pinned = REQUIREMENTS / f"{name}.txt"
    seal = hashlib.sha256(pinned.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache / "environments" / name
    interpreter, sealed = folder / "bin/python", folder / "sealed"
    if interpreter.exists() and sealed.exists() and sealed.read_text() == seal:
        return interpreter
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if not uv:
        raise AbsentError("uv is not installed: pip install uv")
    print(f"installing {name} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    _run([uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(interpreter), "-r", str(pinned)])
    sealed.write_text(seal)
    return interpreter


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise AbsentError(f"{command[1]} {command[-1]} ended with status {done.returncode}: {said}")
