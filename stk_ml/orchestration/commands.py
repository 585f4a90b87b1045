"""How the command of a step is run: in this process, or as a child."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from stk_ml.errors import StkMlError
from stk_ml.orchestration import expressions, process
from stk_ml.orchestration.pipeline import PATH_TYPES, Step

Invoke = Callable[[Sequence[str], Mapping[str, str], Path], int]
PROGRAM = "stk-ml"
#: Exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True)
class Command:
    """A command with its values in place.

    Attributes:
        arguments: of a plain ``stk-ml`` command; None when it is for a shell.
        line: the whole line for a shell.
        environment: everything it finds in its environment.
        cwd: the folder it runs in.
        log: the file that gets what it prints.
        timeout: seconds it may run.
        own_process: whether it may not run in this process: it has a time limit or variables of its own.
    """

    arguments: list[str] | None
    line: str
    environment: Mapping[str, str]
    cwd: Path
    log: Path
    timeout: int | None
    own_process: bool

    @property
    def invocable(self) -> bool:
        """Whether it may run in this process."""
        return self.arguments is not None and not self.own_process

    def child(self) -> process.Child:
        """Starts it as a child process. Raises OSError."""
        if self.arguments is not None:
            argv = [sys.executable, "-m", "stk_ml", *self.arguments[1:]]
        else:
            argv = process.shell(self.line)
        return process.Child(argv, self.environment, self.cwd, self.log)


def command(
    step: Step,
    values: Mapping[str, str],
    paths: Mapping[str, Path],
    environment: Mapping[str, str],
    cwd: Path,
    log: Path,
) -> Command:
    """The command of a step for the values of its inputs and the paths of its outputs."""
    out = {name: str(path) for name, path in paths.items()}
    own = {name: expressions.render(text, values, out) for name, text in step.environment_variables.items()}
    ports = {f"AZURE_ML_INPUT_{name}": value for name, value in values.items()}
    ports |= {f"AZURE_ML_OUTPUT_{name}": path for name, path in out.items()}
    located = [row.name for row in step.inputs.values() if row.type in PATH_TYPES]
    return Command(
        arguments=expressions.arguments(step.command, values, out)
        if expressions.program(step.command) == PROGRAM
        else None,
        line=expressions.render(step.command, values, out, paths=located),
        environment={**environment, **ports, **own},
        cwd=cwd,
        log=log,
        timeout=step.timeout,
        own_process=bool(own) or step.timeout is not None,
    )


def invoke_here(invoke: Invoke, command: Command) -> int:
    """Runs a ``stk-ml`` command in this process; what it prints goes to its log.

    Raises:
        KeyboardInterrupt: it was interrupted.
        OSError: the log cannot be written.
    """
    with command.log.open("a", encoding="utf-8", errors="replace") as log, _printing_to(log):
        try:
            code = invoke(command.arguments or [], command.environment, command.cwd)
        except StkMlError as error:
            log.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
            return error.exit_code
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:
            log.write(traceback.format_exc())
            return 1
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code


class _Stream(io.TextIOBase):
    """Stands in for sys.stdout during a step. Who keeps it, a logging handler for one, writes on to the real one."""

    def __init__(self, target: TextIO) -> None:
        super().__init__()
        self.target = target

    def write(self, text: str) -> int:
        return self.target.write(text)

    def flush(self) -> None:
        self.target.flush()

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def _printing_to(log: TextIO) -> Iterator[None]:
    real = sys.stdout, sys.stderr
    streams = _Stream(log), _Stream(log)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = real
        log.flush()
        for stream, original in zip(streams, real, strict=True):
            stream.target = original


def told(lines: Sequence[str]) -> tuple[str, str]:
    """The error and the hint that an ``stk-ml`` command printed last, without their labels; empty when it did not.

    Example:
        >>> told(["1,950 rows", "error: no such column", " hint: did you mean 'late'?"])
        ('no such column', "did you mean 'late'?")
        >>> told(["Traceback (most recent call last):"])
        ('', '')
    """
    texts = [line.strip() for line in lines]
    last = next((n for n in reversed(range(len(texts))) if texts[n].startswith("error: ")), None)
    if last is None:
        return "", ""
    hint = next((text for text in texts[last + 1 :] if text.startswith("hint: ")), "")
    return texts[last].removeprefix("error: "), hint.removeprefix("hint: ")


def tail(log: Path, lines: int = 8, size: int = 16_384) -> list[str]:
    """The last lines of a log that say something."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - size))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def ending(code: int, timeout: int | None) -> str:
    """What an exit code means, for people.

    Example:
        >>> ending(3, None), ending(-9, None), ending(124, 60)
        ('ended with exit code 3', 'was ended by SIGKILL', 'ran longer than its limits.timeout of 60 s')
    """
    if code == process.TIMED_OUT and timeout is not None:
        return f"ran longer than its limits.timeout of {timeout} s"
    number = -code if code < 0 else code - 128
    if code < 0 or code > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}"
