"""Waits for a lock between processes and says who waits; the locks themselves: :mod:`stk_ml.file_locks`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stk_ml.errors import DeploymentError
from stk_ml.file_locks import held, take

__all__ = ["held", "hold", "take"]
_PAUSE = 0.02


@contextmanager
def hold(path: Path, *, seconds: float = 60.0, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a lock.

    Args:
        path: of the lock's file, created when missing.
        seconds: how long to wait for it.
        waiting: called once when it is not to be had at once.

    Raises:
        DeploymentError: another process kept it for that long.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with hold(Path(folder) / "lock"):
        ...         held(Path(folder) / "lock")
        ...     held(Path(folder) / "lock")
        True
        False
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
