"""Locks between processes: held by an open file, so the system lets go of them when their holder dies.

That makes a held lock the proof that a process lives: a process id in a file can be reused, after a reboot too, a lock
cannot.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stk_ml.errors import DeploymentError

_PAUSE = 0.02


def take(path: Path) -> int | None:
    """Takes a lock and returns its descriptor, which holds it until closed; None when another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def held(path: Path) -> bool:
    """Whether a process holds the lock.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with hold(Path(folder) / "lock"):
        ...         held(Path(folder) / "lock")
        ...     held(Path(folder) / "lock")
        True
        False
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def hold(path: Path, *, seconds: float = 60.0, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a lock.

    Args:
        path: of the lock's file, created when missing.
        seconds: how long to wait for it.
        waiting: called once when it is not to be had at once.

    Raises:
        DeploymentError: another process kept it for that long.
    """
    deadline = time.monotonic() + seconds
    descriptor = take(path)
    if descriptor is None:
        waiting()
    while descriptor is None:
        if time.monotonic() > deadline:
            name = path.stem.lstrip(".")
            raise DeploymentError(
                f"another command has been changing {name} for more than {seconds:g} s", hint="wait for it, or end it"
            )
        time.sleep(_PAUSE)
        descriptor = take(path)
    try:
        yield
    finally:
        os.close(descriptor)
