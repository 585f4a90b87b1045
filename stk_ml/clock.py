"""Whose time it is: the machine's, or one that a simulation sets in a file that several processes share."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from stk_ml.errors import StorageError

#: Gives unix seconds.
Clock = Callable[[], float]
_BYTES = ctypes.sizeof(ctypes.c_double)


class FileClock:
    """A clock that stands still until somebody sets it; every process that has opened the file sees it at once.

    Args:
        file: eight bytes, unix seconds as a double of this machine; made, at 1970, when it does not exist.

    Raises:
        StorageError: the file cannot be opened, or holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ours, theirs = FileClock(Path(folder, "clock")), FileClock(Path(folder, "clock"))
        ...     ours.set(1372636800.0)
        ...     theirs()
        1372636800.0
    """

    def __init__(self, file: str | Path) -> None:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if size not in (0, _BYTES):
                    raise StorageError(f"{file} is no clock: it holds {size} bytes", hint="name another file")
                os.truncate(descriptor, _BYTES)
                # One aligned load or store each: a reader must not meet half of a time.
                self._seconds = ctypes.c_double.from_buffer(mmap.mmap(descriptor, _BYTES))
            finally:
                os.close(descriptor)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"the clock {file} cannot be opened: {error.strerror or error}") from error

    def __call__(self) -> float:
        """Unix seconds."""
        return self._seconds.value

    def set(self, seconds: float) -> None:
        """Sets the time, which may go back too."""
        self._seconds.value = seconds


def clock(file: str) -> Clock:
    """The clock that a setting means: a file of :class:`FileClock`, or the machine's when it is empty."""
    return FileClock(file) if file else time.time
