"""What made a model besides its data: the version of the project's code and of its libraries."""

from __future__ import annotations

import hashlib
import os
import subprocess
from importlib import metadata
from pathlib import Path

from stk_ml.errors import StorageError

#: Seconds that git may take.
_PATIENCE = 10.0


def code_version(project: Path) -> str:
    """The git commit of the project's code, with ``-dirty`` when tracked files differ from it.

    Args:
        project: a folder.

    Returns:
        Empty when the folder is in no git repository, it has no commit yet, or there is no git.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # looking may not get in the way of a commit at work
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=project, env=environ, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def lock_digest(project: Path) -> str:
    """sha256 of the libraries: the project's ``requirements/*.lock`` and what is installed here.

    Args:
        project: a folder.

    Raises:
        StorageError: a lock file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     len(lock_digest(Path(folder)))
        64
    """
    digest = hashlib.sha256()
    locks = sorted((project / "requirements").glob("*.lock"))
    for lock in locks:
        try:
            digest.update(f"{lock.name}\n".encode() + lock.read_bytes())
        except OSError as error:
            raise StorageError(f"{lock} cannot be read: {error.strerror or error}") from error
    digest.update("\n".join(_installed()).encode())
    return digest.hexdigest()


def _installed() -> list[str]:
    """``name==version`` of every installed distribution, sorted."""
    return sorted({f"{found.name.lower()}=={found.version}" for found in metadata.distributions() if found.name})
