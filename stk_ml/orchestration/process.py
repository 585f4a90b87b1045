"""One step as a child process that never outlives the runner."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

#: Seconds that a step has after SIGINT, and again after SIGTERM, before SIGKILL.
GRACE = 5.0
#: Exit code of a step that ran longer than its limit, as timeout(1) has it.
TIMED_OUT = 124
_GUARD = Path(__file__).with_name("guard.py")


def shell(command: str) -> list[str]:
    """The arguments that run a command line as Azure ML does, in bash, else in sh."""
    return [shutil.which("bash") or "/bin/sh", "-c", command]


class Child:
    """A running command: its process group is :attr:`group`.

    Args:
        command: program and arguments.
        env: its whole environment.
        cwd: the folder it runs in.
        log: file that gets its output and errors.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        with log.open("ab") as stream:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(_GUARD), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        self._lifeline, self._report = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. Returns the exit code, negative for a signal, TIMED_OUT when it took too long."""
        late = False
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
            self.stop()
        with self._report, self._lifeline:
            code = self._report.read().decode()
        if late:
            return TIMED_OUT
        return int(code) if code else (self._process.returncode or -signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Sends a signal to every process of the command, if it is still there."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """Ends it: SIGINT, SIGTERM, SIGKILL, with GRACE seconds between."""
        stop([self])

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None and self._process.poll() is None


def stop(children: Sequence[Child]) -> None:
    """Ends several commands together; takes at most twice GRACE seconds. A second Ctrl-C kills them at once."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            for child in children:
                child.signal(number)
            until = time.monotonic() + GRACE
            while any(child.running for child in children):
                if time.monotonic() > until:
                    break
                time.sleep(0.02)
            else:
                return
    finally:
        for child in children:
            child.signal(signal.SIGKILL)
