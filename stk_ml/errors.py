"""Every error that stk-ml raises on purpose, in one tree.

::

    StkMlError(Exception)
    |-- UsageError(ValueError)                  exit code 2: the user's mistake
    |   |-- DeclarationError                    a mistake in a declared file; carries file and line
    |   |   `-- UnsupportedKeyError             a key of Azure ML YAML that the laptop runner does not support
    |   |-- UnknownNameError(LookupError)       no model, view, table, step or version of that name
    |   |-- SettingError(LookupError)           a missing or malformed setting; lists where it was looked for
    |   `-- MissingLibraryError(ImportError)    an optional library is absent; names its install command
    |-- DataError(ValueError)                   the data is not what the declaration says
    |   |-- ColumnContractError                 a column breaks its contract (type, nulls, range, categories)
    |   |-- LeakageError                        a feature or label was not known at as_of
    |   |-- LabelError                          the target cannot be learned from (one class, NaN, future labels)
    |   `-- SplitError                          a split holds no rows
    |-- StorageError(OSError)                   the lake or the disk failed
    |   |-- TableNotFoundError(FileNotFoundError)
    |   `-- WriteConflictError                  another writer won; a retry can help
    |-- PipelineError(RuntimeError)             a pipeline could not run
    |   `-- StepFailedError                     one of its steps ended with an error; carries step and exit code
    |-- ArtifactError(ValueError)               a model artifact cannot be used
    |   |-- IntegrityError                      a file differs from the manifest
    |   `-- UntrustedTypeError(TypeError)       the model holds a type outside our allow-list
    |-- RegistryError(RuntimeError)             the model registry refused or failed
    |-- VaultError(RuntimeError)                the vault could not be read or written
    |   `-- SecretNotFoundError(LookupError)    it holds no secret of that name or version
    |-- IdentityError(PermissionError)          who calls was not shown, or may not; carries the HTTP status
    |-- RequestError(ValueError)                a request that cannot be scored; carries the HTTP status
    |   `-- InvalidRowsError                    its rows break the model's columns; lists row, column, reason
    |-- TelemetryError(OSError)                 the log could not be written or read; never reaches a caller
    `-- DeploymentError(RuntimeError)           an endpoint could not be changed, or did not become ready

Each error also inherits the built-in that it refines, so ``except FileNotFoundError`` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


class StkMlError(Exception):
    """Base of every error of stk-ml.

    Args:
        message: what happened and where, on one line.
        hint: what mends it, on one line; empty when there is nothing to advise.

    Attributes:
        exit_code: what the command line exits with (1 for failures, 2 for the user's mistakes).
        retryable: whether doing the same again, later, can help.

    Example:
        >>> error = StkMlError("the disk is full", hint="free some space and run it again")
        >>> str(error), error.hint, error.exit_code, error.retryable
        ('the disk is full', 'free some space and run it again', 1, False)
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(StkMlError, ValueError):
    """The user asked for something that cannot be done as asked."""

    exit_code = 2


class DeclarationError(UsageError):
    """A mistake in a declared file (a model, a pipeline, a feature view, stk.toml).

    Args:
        message: what is wrong.
        file: the declared file.
        line: 1-based line in it, or None when unknown.
        hint: what mends it.

    Example:
        >>> str(DeclarationError("unknown key 'gaet'", file="m.yml", line=3))
        "m.yml:3: unknown key 'gaet'"
    """

    def __init__(self, message: str, *, file: str | Path, line: int | None = None, hint: str = "") -> None:
        where = f"{file}:{line}" if line is not None else str(file)
        super().__init__(f"{where}: {message}", hint=hint)
        self.file = str(file)
        self.line = line


class UnsupportedKeyError(DeclarationError):
    """A key that Azure ML knows and the laptop runner does not run; refused by name rather than ignored."""


class UnknownNameError(UsageError, LookupError):
    """There is nothing of that name; the hint names the closest that there is.

    Example:
        >>> error = UnknownNameError("model", "flight-dely", ["flight-delay", "churn"])
        >>> str(error), error.hint
        ("unknown model 'flight-dely'", "did you mean 'flight-delay'? There are: churn, flight-delay")
    """

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), *, hint: str = "") -> None:
        known = sorted(known)
        super().__init__(f"unknown {kind} {name!r}", hint=hint or closest(name, known))
        self.kind, self.name, self.known = kind, name, known


class SettingError(UsageError, LookupError):
    """A setting is missing or malformed; the hint lists where it was looked for."""


class MissingLibraryError(UsageError, ImportError):
    """An optional library is not installed.

    Example:
        >>> MissingLibraryError("flaml", extra="auto").hint
        "pip install 'stk-ml[auto]'"
    """

    def __init__(self, library: str, *, extra: str, need: str = "") -> None:
        what = f" (needed for {need})" if need else ""
        super().__init__(f"the library {library!r} is not installed{what}", hint=f"pip install 'stk-ml[{extra}]'")
        self.library, self.extra = library, extra


class DataError(StkMlError, ValueError):
    """The data is not what the declaration says."""


class ColumnContractError(DataError):
    """One or more columns break their contract; the message names each column with counts."""


class LeakageError(DataError):
    """A feature or label carries what was not known at ``as_of``; the message names the column."""


class LabelError(DataError):
    """The target cannot be learned from."""


class SplitError(DataError):
    """A split of the data holds no rows."""


class StorageError(StkMlError, OSError):
    """The lake or the disk failed."""


class TableNotFoundError(StorageError, FileNotFoundError):
    """There is no such table in the lake."""

    exit_code = 2


class WriteConflictError(StorageError):
    """Another writer committed first; the same write can be tried again."""

    retryable = True


class PipelineError(StkMlError, RuntimeError):
    """A pipeline could not run."""


class StepFailedError(PipelineError):
    """A step ended with an error.

    Attributes:
        step: its name in the pipeline.
        code: the exit code of its command.
    """

    def __init__(self, message: str, *, step: str, code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step, self.code = step, code


class ArtifactError(StkMlError, ValueError):
    """A model artifact cannot be used."""


class IntegrityError(ArtifactError):
    """A file of the artifact differs from its manifest, is missing, or is not listed there."""


class UntrustedTypeError(ArtifactError, TypeError):
    """The model holds a type outside our own allow-list; it is not loaded."""


class RegistryError(StkMlError, RuntimeError):
    """The model registry refused or failed."""


class VaultError(StkMlError, RuntimeError):
    """The vault could not be read or written."""


class SecretNotFoundError(VaultError, LookupError):
    """The vault holds no secret of that name or version."""


class IdentityError(StkMlError, PermissionError):
    """Who calls was not shown (401), may not do this (403), or cannot be found out at the moment (503).

    Attributes:
        status: the HTTP status to answer.
        reason: one word for metrics: ``missing``, ``key``, ``expired``, ``signature``, ``audience``, ``issuer``, ...
    """

    def __init__(self, message: str, *, status: int = 401, reason: str = "credential", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.reason = status, reason


class RequestError(StkMlError, ValueError):
    """A request that cannot be scored.

    Attributes:
        status: the HTTP status to answer, 400 to 499 (429, 503 and 504 when the server is at its limit).
        reason: one word for metrics: ``json``, ``too_large``, ``content_type``, ``shape``, ...

    Example:
        >>> RequestError("the body is cut short", status=400, reason="json").status
        400
    """

    def __init__(self, message: str, *, status: int = 400, reason: str = "request", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.reason = status, reason


class InvalidRowsError(RequestError):
    """Rows that break the model's columns (422).

    Attributes:
        problems: the first of them, each with ``row``, ``column`` and ``reason``.
        total: how many there are in all.
    """

    def __init__(self, problems: Sequence[RowProblem], total: int) -> None:
        first = problems[0]
        more = f" and {total - 1} more" if total > 1 else ""
        super().__init__(f"row {first.row}, {first.column!r}: {first.reason}{more}", status=422, reason="rows")
        self.problems, self.total = tuple(problems), total


class TelemetryError(StkMlError, OSError):
    """The log could not be written or read."""

    retryable = True


class DeploymentError(StkMlError, RuntimeError):
    """An endpoint could not be changed, or did not become ready."""


@dataclass(frozen=True)
class RowProblem:
    """What is wrong in one place of a request: ``row`` from 0 (-1: all rows), ``column``, and the ``reason``."""

    row: int
    column: str
    reason: str


def closest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known name and lists the first ten.

    Example:
        >>> closest("trian", ["train", "why"])
        "did you mean 'train'? There are: train, why"
        >>> closest("x", [])
        'there are none yet'
    """
    names = sorted(known)
    if not names:
        return "there are none yet"
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}? There are: {listed}" if near else f"there are: {listed}"
