"""What monitoring keeps of a model in a folder: a verdict and a report per look, and where it stands.

::

    monitor.json                   the newest look, and what the next one begins with
    verdicts/WINDOW_END.json     a stk_ml.monitor_state.MonitorVerdict
    verdicts/WINDOW_END.html     the same for people
    looks/WINDOW_END.json        the same with the counts that the report draws

WINDOW_END is the end of the window as ``20240112T000000Z``. ``.monitor.lock`` is held by who looks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stk_ml import contracts, file_locks
from stk_ml.errors import StorageError, UnknownNameError, UsageError
from stk_ml.monitor_state import MonitorVerdict
from stk_ml.monitoring.budget import Budget
from stk_ml.monitoring.shapes import Shape


@dataclass(frozen=True)
class Look:
    """One look at one window, as it was decided.

    Attributes:
        verdict: what it says.
        shapes: counts then and now; empty when nothing was scored.
        at: when it was decided, unix seconds.
    """

    verdict: MonitorVerdict
    shapes: tuple[Shape, ...]
    at: float


@dataclass(frozen=True)
class State:
    """``monitor.json``: where the monitoring of a model stands. Replacing it is what makes a look count.

    Attributes:
        until: end of the newest window that was looked at, unix seconds; 0 for none.
        budget: of false alarms.
        pending: a look that counts but may not have been told yet; None when all was told.
    """

    until: float = 0.0
    budget: Budget | None = None
    pending: Look | None = None


class MonitorFolder:
    """The folder of one model, or of one of its deployments.

    Args:
        root: the setting ``monitoring``.
        model: name of the model.
        deployment: name of a deployment that is looked at alone; empty for whatever serves the model.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = MonitorFolder(Path(root), "late-parcel")
        ...     folder.state().until, folder.verdicts()
        (0.0, [])
    """

    def __init__(self, root: Path, model: str, deployment: str = "") -> None:
        self.model = model
        self.path = root / (f"{model}@{deployment}" if deployment else model)
        self._verdicts: dict[tuple[Path, int], MonitorVerdict] = {}

    def state(self) -> State:
        """Where it stands; StorageError when the file is damaged."""
        file = self.path / "monitor.json"
        return contracts.read(State, file) if file.is_file() else State()

    def keep(self, state: State) -> None:
        """Replaces the state."""
        contracts.write(state, self.path / "monitor.json")

    def tell(self, look: Look, page: str) -> None:
        """Writes look, report and verdict; the verdict comes last, so that whoever sees it finds the others."""
        end = look.verdict.window_end
        contracts.write(look, self._file("looks", end, "json"))
        write_page(self.report_file(end), page)
        contracts.write(look.verdict, self.verdict_file(end))

    def verdicts(self, until: str = "") -> list[MonitorVerdict]:
        """The verdicts, oldest first; up to that end of a window (ISO 8601 with Z) when one is given."""
        last = stamp(until) if until else "~"
        files = sorted((self.path / "verdicts").glob("[!.]*.json"))
        return [self._verdict(file) for file in files if file.stem <= last]

    def look(self, window_end: str = "") -> Look:
        """One look; the newest when no window is named.

        Raises:
            UsageError: nobody has looked yet.
            UnknownNameError: no window ended then.
        """
        ends = sorted(file.stem for file in (self.path / "verdicts").glob("[!.]*.json"))
        if not ends:
            raise UsageError(f"nobody has looked at {self.path.name} yet", hint=f"stk-ml monitor run {self.model}")
        wanted = stamp(window_end) if window_end else ends[-1]
        if wanted not in ends:
            raise UnknownNameError(f"end of a window of {self.path.name}", window_end, [*map(_iso, ends[-10:])])
        return contracts.read(Look, self.path / "looks" / f"{wanted}.json")

    def report_file(self, window_end: str) -> Path:
        """Where the report of a look is."""
        return self._file("verdicts", window_end, "html")

    def verdict_file(self, window_end: str) -> Path:
        """Where the verdict of a look is."""
        return self._file("verdicts", window_end, "json")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock of the folder.

        Raises:
            UsageError: another process has it.
        """
        descriptor = file_locks.take(self.path / ".monitor.lock")
        if descriptor is None:
            raise UsageError(f"another process looks at {self.path.name} right now", hint="wait for it to end")
        try:
            yield
        finally:
            os.close(descriptor)

    def _verdict(self, file: Path) -> MonitorVerdict:
        key = file, file.stat().st_mtime_ns
        if key not in self._verdicts:
            self._verdicts[key] = contracts.read(MonitorVerdict, file)
        return self._verdicts[key]

    def _file(self, kind: str, window_end: str, suffix: str) -> Path:
        return self.path / kind / f"{stamp(window_end)}.{suffix}"


def stamp(time: str) -> str:
    """A time as part of a file's name.

    Example:
        >>> stamp("2024-01-12T00:00:00Z")
        '20240112T000000Z'
    """
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _iso(stamped: str) -> str:
    return datetime.strptime(stamped, "%Y%m%dT%H%M%S%z").strftime("%Y-%m-%dT%H:%M:%SZ")


def write_page(file: Path, text: str) -> None:
    """Writes a page as :func:`stk_ml.contracts.write` writes a contract: aside, then renamed."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, "utf-8")
        aside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise StorageError(f"{file} cannot be written: {error.strerror or error}", hint="is there space?") from error
