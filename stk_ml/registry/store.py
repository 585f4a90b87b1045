"""MLflow's client made safe: quiet, patient with a locked database, and speaking our errors.

The rest of the registry calls MLflow through :class:`Store`. Nothing of MLflow's global state (tracking URI, active
run, log level) is touched, so a program that uses MLflow on its own sees no difference.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from stk_ml.errors import RegistryError, StkMlError, UnknownNameError
from stk_ml.settings import without_password

#: Seconds that one process waits for another that creates the store or registers a model.
PATIENCE = 120.0
_TRIES = 4

#: Parts of messages of SQLite, SQLAlchemy and MLflow, what they mean and what mends it.
_MEANINGS = (
    ("database is locked", "it is locked by another process", "is a long job writing to it? try again"),
    ("readonly database", "it is read-only", "may you write to the file and its folder?"),
    ("unable to open database", "it cannot be opened", "does the folder exist, and may you write there?"),
    ("database or disk is full", "the disk is full", "free some space and run it again"),
    ("No space left", "the disk is full", "free some space and run it again"),
    ("disk I/O error", "the disk failed or is full", "check the disk's space and health, and run it again"),
    ("File too large", "a file would become larger than allowed", "check the limits of the disk and of this account"),
    ("not a database", "it is damaged or no database", "restore a backup, or set another tracking_uri"),
    ("filesystem tracking backend", "MLflow keeps no runs in plain folders", "set tracking_uri to sqlite:///FILE"),
    ("malformed", "it is damaged", "restore a backup, or set another tracking_uri"),
)


def database(uri: str) -> Path | None:
    """The file of a plain SQLite URI; None for another store, and for URIs with options.

    Example:
        >>> database("sqlite:////data/mlflow.db"), database("http://localhost:5000")
        (PosixPath('/data/mlflow.db'), None)
    """
    path = uri.removeprefix("sqlite:///")
    return None if path == uri or "?" in path or path in ("", ":memory:") or path.startswith("file:") else Path(path)


class Store:
    """An MLflow tracking and registry store.

    Methods of :class:`mlflow.MlflowClient` are called as ``store.client.NAME(...)``: log chatter and warnings are
    held back, "database is locked" is tried again, and MLflow's exceptions become ours: UnknownNameError when
    something does not exist, else RegistryError.

    Args:
        uri: MLflow tracking URI, also used for its registry.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.database = database(uri)

    @property
    def shown(self) -> str:
        """The URI without a user or password, for messages."""
        return without_password(self.uri)

    @cached_property
    def client(self) -> Any:
        """MLflow's client, each call guarded. First use imports MLflow (seconds) and creates the store if need be."""
        return _Guarded(self, self._guard(self._open))

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Keeps out the other processes that write through this class; ends with the process, however that ends.

        Yields whether there is such a lock: a server has none.
        """
        if self.database is None:
            yield False
            return
        _ = self.client  # opened first, for creating the store takes the same lock
        with self._locked(self.database):
            yield True

    @contextlib.contextmanager
    def _locked(self, beside: Path) -> Iterator[None]:
        """SQLite's own lock, on an empty file beside the database."""
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            file = beside.with_name(f".{beside.name}.lock")
            lock = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                lock.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise self.error(error) from error
        try:
            yield
        finally:
            lock.close()

    def download(self, uri: str) -> Path:
        """The local folder of an artifact: itself when it is local, else fetched to a temporary folder."""
        return Path(self._guard(self._download, uri))

    def error(self, error: BaseException) -> StkMlError:
        """Our error for one of MLflow, SQLAlchemy, SQLite or the operating system."""
        text = " ".join(str(error).split()) or type(error).__name__
        where = f"the model registry {self.shown}"
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            return UnknownNameError("registry entry", text, hint="stk-ml models list shows what there is")
        for part, meaning, hint in _MEANINGS:
            if part in text:
                return RegistryError(f"{where}: {meaning} ({_brief(text)})", hint=hint)
        return RegistryError(f"{where}: {_brief(text)}", hint="stk-ml doctor checks the settings")

    def _guard(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        for attempt in range(1, _TRIES + 1):
            try:
                with _quiet():
                    return call(*args, **options)
            except (StkMlError, TypeError, AssertionError):
                raise
            except Exception as error:
                if "database is locked" not in str(error) or attempt == _TRIES:
                    raise self.error(error) from error
            time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def _open(self) -> Any:
        # MLflow reports its use to its makers unless told not to; what STK trains is nobody else's business.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        if self.database is not None:
            if not self.database.exists() or not self.database.stat().st_size:
                with self._locked(self.database):
                    self._create(self.database)
            self._check_schema(self.database)
        return MlflowClient(self.uri, self.uri)

    def _create(self, file: Path) -> None:
        """Builds the schema aside, then renames: creation killed half-way leaves nothing that looks like a store."""
        from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

        if file.exists() and file.stat().st_size:  # another process was quicker
            return
        aside = file.with_name(f".{file.name}.new")
        for leftover in (aside, aside.with_name(f"{aside.name}-journal")):
            leftover.unlink(missing_ok=True)
        engine = create_sqlalchemy_engine(f"sqlite:///{aside}")
        try:
            _initialize_tables(engine)
        finally:
            engine.dispose()
        aside.replace(file)

    def _check_schema(self, file: Path) -> None:
        """Refuses what MLflow would otherwise change without asking: other people's databases and older schemas."""
        from mlflow.store.db.utils import _get_latest_schema_revision

        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=20)) as peek:
            tables = {name for (name,) in peek.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"alembic_version", "experiments"} <= tables:
                raise RegistryError(f"{file} is a database, but not of MLflow", hint="set tracking_uri to another file")
            found = [revision for (revision,) in peek.execute("SELECT version_num FROM alembic_version")]
        if found == [_get_latest_schema_revision()]:
            return
        known = _known_revisions()
        if found and found[0] in known:
            raise RegistryError(
                f"{file} was made by an older MLflow (schema {found[0]})",
                hint=f"copy the file, then run: mlflow db upgrade {self.uri}",
            )
        raise RegistryError(
            f"{file} was made by a newer MLflow (schema {', '.join(found) or 'unknown'})",
            hint="install that MLflow, or set tracking_uri to another file",
        )

    def _download(self, uri: str) -> str:
        from mlflow.artifacts import download_artifacts

        return str(download_artifacts(artifact_uri=uri, tracking_uri=self.uri))


class _Guarded:
    """A client whose every method goes through :meth:`Store._guard`."""

    def __init__(self, store: Store, client: Any) -> None:
        self._store, self._client = store, client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._store._guard(method, *args, **options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back log lines, warnings and the run links that MLflow prints on standard output."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        from mlflow.utils.logging_utils import suppress_logs_in_thread  # the first import warns and logs, too

        with suppress_logs_in_thread():
            yield


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return {script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()}


def _brief(text: str) -> str:
    """The first sentence or so of a message; SQLAlchemy appends whole statements."""
    text = text.split("[SQL:")[0].split("(Background on this error")[0].strip()
    return text if len(text) <= 300 else f"{text[:297]}..."
