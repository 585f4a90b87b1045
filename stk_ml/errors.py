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
    `-- RegistryError(RuntimeError)             the model registry refused or failed

Each error also inherits the built-in that it refines, so ``except FileNotFoundError`` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
