"""What a command shows: results on standard output, progress and errors on standard error, JSON when asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stk_ml.errors import StkMlError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Output:
    """Where a command writes.

    Args:
        json: one JSON document on standard output and nothing else there; tables are not printed.
        quiet: no progress.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json, quiet
        self._descriptor: int | None = None

    @contextmanager
    def standard_output(self) -> Iterator[None]:
        """Under ``--json``: whatever a library prints goes to standard error; only :meth:`document` gets through."""
        if not self.json:
            yield
            return
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        try:
            os.dup2(2, 1)
            yield
        finally:
            sys.stdout.flush()
            os.dup2(self._descriptor, 1)
            os.close(self._descriptor)
            self._descriptor = None

    def document(self, value: Any) -> None:
        """The command's result for machines; printed only under ``--json``."""
        if not self.json:
            return
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n"
        if self._descriptor is None:
            sys.stdout.write(text.decode())
            sys.stdout.flush()
        else:
            while text:
                text = text[os.write(self._descriptor, text) :]

    def line(self, text: str = "") -> None:
        """A line of the result for people."""
        if not self.json:
            self._console().print(text, highlight=False, soft_wrap=True)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()
    ) -> None:
        """A table of the result for people; ``right`` are the indices of the columns aligned to the right."""
        if self.json:
            return
        from rich import box
        from rich.table import Table

        table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        self._console().print(table)

    def say(self, text: str) -> None:
        """A line on standard error, for people who wait."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def progress(self) -> Progress | None:
        """A live progress display on standard error, or None when nobody watches."""
        if self.quiet or not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(finished_text="[green]ok"),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        return Progress(*columns, console=Console(stderr=True))

    def error(self, error: Exception) -> None:
        """One line and the hint on standard error; under ``--json`` the same as a document."""
        hint = getattr(error, "hint", "")
        print(f"error: {error}" + (f"\n hint: {hint}" if hint else ""), file=sys.stderr, flush=True)
        if self.json and isinstance(error, StkMlError):
            fields = {"type": type(error).__name__, "message": str(error), "hint": hint, "retryable": error.retryable}
            self.document({"error": fields})

    def _console(self) -> Console:
        from rich.console import Console

        narrow = not sys.stdout.isatty()
        return Console(file=sys.stdout, width=140 if narrow and "COLUMNS" not in os.environ else None, markup=False)
