"""Runs one command so that nothing of it outlives the runner: ``python -I -S guard.py COMMAND ...``.

It leads a process group. Standard input is the read end of a pipe whose only writer is the runner: when that closes,
however the runner ended, the whole group is killed. The exit code goes to standard output; the command's own output
goes to standard error, which is its log.
"""

from __future__ import annotations

import os
import select
import signal
import sys


def main(command: list[str]) -> None:
    """Runs the command, reports its exit code and ends the group."""
    parent = os.getppid()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    # A handler, not SIG_IGN: the command must not inherit that its signals are ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become(command)
    while True:
        ready, _, _ = select.select([0, wake_read], [], [], 1.0)
        if 0 in ready or os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)
        if wake_read in ready:
            os.read(wake_read, 1024)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            os.write(1, str(os.waitstatus_to_exitcode(status)).encode())
            os.killpg(0, signal.SIGKILL)


def _become(command: list[str]) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
