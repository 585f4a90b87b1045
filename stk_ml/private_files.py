"""Files that only their owner may read: created so, checked on each read, replaced as a whole, written under a lock.

What is written is fsynced under another name and renamed, so a reader sees the old bytes or the new, kill -9 or not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from stk_ml.errors import VaultError

_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC
_PAUSE = 0.005


def read(path: Path) -> bytes | None:
    """The bytes of a private file; None when there is none.

    Raises:
        VaultError: it is a link or no plain file, cannot be read, or others than its owner may use it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "private" / "key"
        ...     write(path, b"secret")
        ...     read(path), stat.filemode(path.stat().st_mode), stat.filemode(path.parent.stat().st_mode)
        (b'secret', '-rw-------', 'drwx------')
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _OPEN)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise VaultError(f"{path} is a symbolic link", hint="put the file itself there") from None
        raise _failed(path, "read", error) from error
    try:
        refuse_shared(path, os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise _failed(path, "read", error) from error
    finally:
        os.close(descriptor)


def refuse_shared(path: Path, status: os.stat_result) -> None:
    """Raises VaultError unless the status is that of a plain file which only its owner may use."""
    if not stat.S_ISREG(status.st_mode):
        raise VaultError(f"{path} is not a plain file", hint="put a file there, or remove it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise VaultError(f"{path} has mode {mode:03o}: others than its owner may use it", hint=f"chmod 600 {path}")


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replaces a file; creates its folder with mode 700. Several writers must hold :func:`locked`.

    Raises:
        VaultError: the disk refused, or everybody may write in the folder.
    """
    aside = path.with_name(f".{path.name}.new")
    make_folder(path.parent)
    try:
        aside.unlink(missing_ok=True)  # of a writer that was killed
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # Two writes within one tick of the file system's clock must not look alike to those who cache.
            os.utime(descriptor, ns=(_later_than(path),) * 2)
            os.fsync(descriptor)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise _failed(path, "written", error) from error


def make_folder(folder: Path) -> None:
    """Creates a folder of mode 700, or takes the one that is there unless everybody may write in it.

    Raises:
        VaultError: see above.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise _failed(folder, "created", error) from error
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise VaultError(f"everybody may replace files in {folder}", hint=f"chmod 700 {folder}")


@contextlib.contextmanager
def locked(path: Path, *, seconds: float = 10.0) -> Iterator[None]:
    """Holds the lock of a file against other processes and threads; it ends with the process at the latest.

    Args:
        path: the file that is to be replaced; the lock is ``.NAME.lock`` beside it.
        seconds: how long to wait for it.

    Raises:
        VaultError: it was not to be had in time.
    """
    make_folder(path.parent)
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | _OPEN, 0o600)
    except OSError as error:
        raise _failed(lock, "opened", error) from error
    try:
        until = time.monotonic() + seconds
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise VaultError(
                    f"another process has held {lock} for {seconds:g} s", hint="end it, or try again later"
                )
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def stamp(path: Path) -> tuple[int, int, int, int]:
    """What differs once a file was replaced or its mode changed; zeros when there is none. About 2 us.

    Raises:
        VaultError: the file system did not answer.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return (0, 0, 0, 0)
    except OSError as error:
        raise _failed(path, "looked at", error) from error
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _later_than(path: Path) -> int:
    try:
        return max(time.time_ns(), path.lstat().st_mtime_ns + 1)
    except FileNotFoundError:
        return time.time_ns()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: Path, what: str, error: OSError) -> VaultError:
    return VaultError(
        f"{path} cannot be {what}: {error.strerror or type(error).__name__}",
        hint="is there space, and may you read and write there?",
    )
